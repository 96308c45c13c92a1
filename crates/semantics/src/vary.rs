//! Which stored variant answers a request (RFC 9111 §4.1).
//!
//! Selecting fields are compared in a normal form: lines of a list joined, spaces at its items gone; of Accept-Encoding and
//! Accept-Language also case, order and the spelling of weights. One function writes the normal form into whatever takes
//! bytes, so that comparing needs no copy.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY},
};

use xxhash_rust::xxh3::Xxh3;

use crate::{
    codec::{Reader, put_bytes, put_count},
    fields::{is_token, list, split, trim},
    head::DecodeError,
};

/// Selecting fields of a request in normal form, in the order of Vary.
pub type Selector = Vec<(HeaderName, Option<String>)>;

/// First byte of a stored index.
const INDEX_VERSION: u8 = 1;
/// Items of one Accept-* field that are put in order; with more the field is compared as it stands.
const WEIGHTED_ITEMS_MAX: usize = 32;
/// The weight of 1.
const WEIGHT_ONE: u16 = 1000;
/// In a selector: no selecting field, but the one language of the response; of an internal name, so that no request has it.
const LANGUAGE: HeaderName = HeaderName::from_static("perigee-content-language");

/// The selecting fields of `request` under the Vary of `response`; `None` if it has a `*`, which nothing matches.
pub(crate) fn selector(response: &HeaderMap, request: &HeaderMap) -> Option<Selector> {
    let mut selector = Selector::new();
    for item in list(response, &VARY) {
        if item.contains(&b'*') {
            return None;
        }
        // A member that is no field name cannot select: nothing can match it.
        let name = HeaderName::from_bytes(item).ok().filter(|name| *name != LANGUAGE)?;
        if !selector.iter().any(|(seen, _)| *seen == name) {
            let value = normal_form(&name, request);
            selector.push((name, value));
        }
    }
    if selector.iter().any(|(name, _)| *name == ACCEPT_LANGUAGE)
        && let Some(language) = language(response)
    {
        selector.push((LANGUAGE, Some(language)));
    }
    Some(selector)
}

/// The language of a response that is in one.
fn language(response: &HeaderMap) -> Option<String> {
    let mut tags = list(response, &CONTENT_LANGUAGE);
    let only = tags.next().filter(|tag| is_token(tag) && tags.next().is_none())?;
    std::str::from_utf8(only).ok().map(str::to_ascii_lowercase)
}

/// The normal form of a request's field; `None` if it is absent, which is not the same as empty. Forward this form of
/// what is keyed.
pub fn normal_form(name: &HeaderName, request: &HeaderMap) -> Option<String> {
    let mut bytes = Vec::new();
    let present = write_normal(name, request, &mut |part| {
        bytes.extend_from_slice(part);
        true
    });
    // Bytes above ASCII that are no UTF-8 become replacement characters, which match nothing that is sent: a miss.
    present.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts Accept-Encoding and Accept-Language into normal form, where they have one: requests that select one variant then
/// reach the origin alike.
pub fn normalise_request(request: &mut HeaderMap) {
    for name in [ACCEPT_ENCODING, ACCEPT_LANGUAGE] {
        let mut bytes = Vec::new();
        let is_weighted = request.contains_key(&name)
            && write_weighted(&name, request, &mut |part| {
                bytes.extend_from_slice(part);
                true
            });
        if is_weighted && let Ok(value) = HeaderValue::from_bytes(&bytes) {
            request.insert(name, value);
        }
    }
}

/// Whether what is stored under `selector` answers a request with these fields. Does not allocate.
pub fn matches(selector: &[(HeaderName, Option<String>)], headers: &HeaderMap) -> bool {
    selector.iter().all(|(name, stored)| match stored {
        _ if *name == LANGUAGE => true,
        None => !headers.contains_key(name),
        Some(_) if *name == ACCEPT_LANGUAGE && is_in_favourite_language(selector, headers) => true,
        Some(stored) => {
            let mut rest = stored.as_bytes();
            let mut equal = true;
            let present = write_normal(name, headers, &mut |part| {
                match rest.strip_prefix(part) {
                    Some(tail) => rest = tail,
                    None => equal = false,
                }
                equal
            });
            present && equal && rest.is_empty()
        }
    })
}

/// Whether the stored response is in the language that the request wants more than any other: whatever else it would take,
/// negotiation ends there (RFC 9110 §12.5.4).
fn is_in_favourite_language(selector: &[(HeaderName, Option<String>)], headers: &HeaderMap) -> bool {
    let Some((_, Some(language))) = selector.iter().find(|(name, _)| *name == LANGUAGE) else { return false };
    let mut is_wanted = false;
    for item in list(headers, &ACCEPT_LANGUAGE) {
        match weighted(item) {
            Some((tag, WEIGHT_ONE)) if tag.eq_ignore_ascii_case(language.as_bytes()) => is_wanted = true,
            // Another is wanted as much, or nobody knows what this is.
            Some((_, WEIGHT_ONE)) | None => return false,
            Some(_) => {}
        }
    }
    is_wanted
}

/// A number for what a request selects by the fields of `selector`: equal for requests that select the same, and as good as
/// certainly different for others.
pub fn selection_hash(selector: &[(HeaderName, Option<String>)], headers: &HeaderMap, seed: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    for (name, _) in selector {
        hasher.update(name.as_str().as_bytes());
        let present = write_normal(name, headers, &mut |part| {
            hasher.update(part);
            true
        });
        // NUL occurs in no name and no value.
        hasher.update(if present { b"\0+" } else { b"\0-" });
    }
    hasher.digest()
}

/// Writes the normal form in parts until `take` has enough; false if the field is absent.
fn write_normal(name: &HeaderName, headers: &HeaderMap, take: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    if !headers.contains_key(name) {
        return false;
    }
    if (*name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE) && write_weighted(name, headers, take) {
        return true;
    }
    for (index, item) in list(headers, name).enumerate() {
        if (index > 0 && !take(b",")) || !take(item) {
            break;
        }
    }
    true
}

/// Accept-Encoding and Accept-Language (RFC 9110 §12.5.3, §12.5.4): order does not count, weights and case are spelt in
/// many ways. False, and nothing written, if the field is not of that form.
fn write_weighted(name: &HeaderName, headers: &HeaderMap, take: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut table: [(&[u8], u16); WEIGHTED_ITEMS_MAX] = [(b"", 0); WEIGHTED_ITEMS_MAX];
    let mut count = 0;
    for item in list(headers, name) {
        let (Some(slot), Some(weighted)) = (table.get_mut(count), weighted(item)) else { return false };
        *slot = weighted;
        count += 1;
    }
    let items = table.get_mut(..count).unwrap_or_default();
    // Best first; the order among equals is ours.
    items.sort_unstable_by(|(a, a_weight), (b, b_weight)| {
        b_weight
            .cmp(a_weight)
            .then_with(|| a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase)))
    });
    write_items(items, take);
    true
}

fn write_items(items: &[(&[u8], u16)], take: &mut dyn FnMut(&[u8]) -> bool) {
    for (index, (word, weight)) in items.iter().enumerate() {
        if index > 0 && !take(b",") {
            return;
        }
        if !word.iter().all(|byte| take(&[byte.to_ascii_lowercase()])) {
            return;
        }
        if *weight < WEIGHT_ONE {
            let digit = |divisor: u16| b'0' + u8::try_from(weight / divisor % 10).unwrap_or(0);
            if !take(b";q=0.") || !take(&[digit(100), digit(10), digit(1)]) {
                return;
            }
        }
    }
}

/// A word and its weight in thousandths (RFC 9110 §12.4.2).
fn weighted(item: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = split(item, b';');
    let word = parts.next().filter(|word| is_token(word))?;
    let weight = match parts.next() {
        None => WEIGHT_ONE,
        Some(parameter) => {
            let (name, value) = parameter.split_at_checked(2)?;
            if !name.eq_ignore_ascii_case(b"q=") {
                return None;
            }
            thousandths(trim(value))?
        }
    };
    parts.next().is_none().then_some((word, weight))
}

fn thousandths(digits: &[u8]) -> Option<u16> {
    let (whole, fraction) = match digits {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut value = u16::from(whole - b'0') * WEIGHT_ONE;
    let mut unit = 100;
    for digit in fraction {
        value += u16::from(digit.is_ascii_digit().then_some(digit - b'0')?) * unit;
        unit /= 10;
    }
    (value <= WEIGHT_ONE).then_some(value)
}

/// The variants stored for one URL, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantIndex {
    variants: Vec<(Selector, u64)>,
}

impl VariantIndex {
    /// Puts a variant first, in place of one with equal selecting fields; returns the ids that fell out: the one it
    /// replaced, and the oldest above `limit` (at least 1).
    pub fn insert(&mut self, selector: Selector, id: u64, limit: usize) -> Vec<u64> {
        let mut out: Vec<u64> = Vec::new();
        self.variants.retain(|(other, other_id)| {
            let stays = *other != selector && *other_id != id;
            if !stays && *other_id != id {
                out.push(*other_id);
            }
            stays
        });
        self.variants.insert(0, (selector, id));
        let over = self.variants.split_off(self.variants.len().min(limit.max(1)));
        out.extend(over.into_iter().map(|(_, id)| id));
        out
    }

    /// The newest variant that the request's fields select (RFC 9111 §4.1). Does not allocate.
    pub fn select(&self, headers: &HeaderMap) -> Option<u64> {
        self.variants.iter().find(|(selector, _)| matches(selector, headers)).map(|(_, id)| *id)
    }

    /// Forgets a variant.
    pub fn remove(&mut self, id: u64) {
        self.variants.retain(|(_, other)| *other != id);
    }

    /// The ids, newest first.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.variants.iter().map(|(_, id)| *id)
    }

    /// What each selects and its id, newest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Selector, u64)> {
        self.variants.iter().map(|(selector, id)| (selector, *id))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.variants.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.variants.is_empty()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(INDEX_VERSION);
        put_count(out, self.variants.len());
        for (selector, id) in &self.variants {
            out.extend_from_slice(&id.to_le_bytes());
            put_selector(out, selector);
        }
    }

    /// Reads the stored form; refuses anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(INDEX_VERSION)?;
        let mut variants = Vec::new();
        for _ in 0..reader.count()? {
            let id = reader.u64()?;
            variants.push((selector_from(&mut reader)?, id));
        }
        reader.end()?;
        Ok(Self { variants })
    }
}

pub(crate) fn put_selector(out: &mut Vec<u8>, selector: &Selector) {
    put_count(out, selector.len());
    for (name, value) in selector {
        put_bytes(out, name.as_str().as_bytes());
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put_bytes(out, value.as_bytes());
        }
    }
}

pub(crate) fn selector_from(reader: &mut Reader<'_>) -> Result<Selector, DecodeError> {
    let mut selector = Selector::new();
    for _ in 0..reader.count()? {
        let name = reader.header_name()?;
        let value = if reader.flag()? { Some(reader.text()?.to_owned()) } else { None };
        selector.push((name, value));
    }
    Ok(selector)
}

#[cfg(test)]
mod tests;
