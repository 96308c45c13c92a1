//! What a rule makes part of the key beside the URL, and puts into the request so that what is keyed is what is sent on.
//!
//! A part is a tag and texts, each text after its length, so that no two lists of parts have the same bytes.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, USER_AGENT},
};
use perigee_protocol::model::{HeaderRules, KeyParts, Rule};

use super::{DeviceClass, cookies};
use crate::vary;

/// Says the class that was keyed: `desktop`, `mobile`, `tablet` or `bot`.
const X_DEVICE_CLASS: HeaderName = HeaderName::from_static("x-device-class");
/// Says the country that was keyed, as ISO 3166 has it; absent where it is not known.
const X_COUNTRY: HeaderName = HeaderName::from_static("x-country");

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A client, in that country if it is known.
    Outside(Option<[u8; 2]>),
    /// A peer of the fleet: it has changed the fields already, and says device and country in them.
    Peer,
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    tag: u8,
    texts: Vec<Vec<u8>>,
}

const HEADER: u8 = b'h';
const COOKIE_PART: u8 = b'c';
const DEVICE: u8 = b'd';
const COUNTRY: u8 = b'g';
const REQUEST_HEADERS: u8 = b'r';
const OTHER_RULES: u8 = b'x';

/// Changes a request's fields as its rule says, and returns the bytes that come into its key: none where the URL is all.
///
/// Request fields first, so that key, Vary and upstream see what the rule made of them. A request that is answered from the
/// store, or for it, keeps of its cookies those that are keyed, where the rule keys cookies at all.
pub fn prepare(rule: &Rule, method: &Method, client: Client, headers: &mut HeaderMap) -> Vec<u8> {
    if client != Client::Peer {
        super::apply(&rule.request_headers, headers);
    }
    let mut bytes = Vec::new();
    let what = &rule.cache.key;
    if !what.is_empty() {
        parts(what, method, client, headers).iter().for_each(|part| part.write(&mut bytes));
    }
    // Another request for the URL may have another rule, and reach the origin with other fields: they must not share.
    if !rule.request_headers.is_empty() {
        of_headers(&rule.request_headers).write(&mut bytes);
    }
    bytes
}

fn parts(what: &KeyParts, method: &Method, client: Client, headers: &mut HeaderMap) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    if what.device {
        let class = device(client, headers);
        headers.insert(X_DEVICE_CLASS, HeaderValue::from_static(class.as_str()));
        parts.push(KeyPart::new(DEVICE, [class.as_str().as_bytes()]));
    }
    if what.country {
        let country = country(client, headers);
        match country.and_then(|country| HeaderValue::from_bytes(&country).ok()) {
            Some(value) => headers.insert(X_COUNTRY, value),
            None => headers.remove(X_COUNTRY),
        };
        parts.push(KeyPart::new(COUNTRY, country.iter().map(|country| &country[..])));
    }
    if what.headers.iter().any(|name| *name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE) {
        vary::normalise_request(headers);
    }
    for name in &what.headers {
        let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        parts.push(KeyPart::new(HEADER, [name.as_str().as_bytes()].into_iter().chain(lines)));
    }
    if let Some(names) = &what.cookies {
        let mut line = Vec::new();
        if names.is_empty() {
            parts.push(KeyPart::new(COOKIE_PART, []));
        }
        for wanted in names {
            let wanted = wanted.as_bytes();
            let values: Vec<_> = cookies(headers).filter(|(name, _)| *name == wanted).map(|(_, value)| value).collect();
            for value in &values {
                line.extend_from_slice(if line.is_empty() { b"" } else { b"; " });
                line.extend_from_slice(wanted);
                line.push(b'=');
                line.extend_from_slice(value);
            }
            parts.push(KeyPart::new(COOKIE_PART, [wanted].into_iter().chain(values)));
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            headers.remove(COOKIE);
            if let Some(value) = HeaderValue::from_bytes(&line).ok().filter(|value| !value.is_empty()) {
                headers.insert(COOKIE, value);
            }
        }
    }
    parts
}

fn device(client: Client, headers: &HeaderMap) -> DeviceClass {
    let told = headers.get(X_DEVICE_CLASS).filter(|_| client == Client::Peer);
    told.and_then(|word| DeviceClass::from_word(word.as_bytes()))
        .unwrap_or_else(|| DeviceClass::of(headers.get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes)))
}

fn country(client: Client, headers: &HeaderMap) -> Option<[u8; 2]> {
    match client {
        Client::Outside(country) => country,
        Client::Peer => headers.get(X_COUNTRY).and_then(|country| country.as_bytes().try_into().ok()),
    }
}

/// Adds to a key that the request comes from a peer with other rules, and what it says of them: it has changed fields by
/// them, so that what it gets is for its kind alone.
pub fn key_of_strangers(claim: &str, bytes: &mut Vec<u8>) {
    KeyPart::new(OTHER_RULES, [claim.as_bytes()]).write(bytes);
}

/// What a rule makes of the fields of its requests.
fn of_headers(rules: &HeaderRules) -> KeyPart {
    let mut texts: Vec<&[u8]> = Vec::new();
    for name in &rules.remove {
        texts.extend([&b"-"[..], name.as_str().as_bytes()]);
    }
    for (sign, fields) in [(&b"="[..], &rules.set), (&b"+"[..], &rules.add)] {
        for (name, value) in fields {
            texts.extend([sign, name.as_str().as_bytes(), value.as_bytes()]);
        }
    }
    KeyPart::new(REQUEST_HEADERS, texts)
}

impl KeyPart {
    fn new<'t>(tag: u8, texts: impl IntoIterator<Item = &'t [u8]>) -> Self {
        Self { tag, texts: texts.into_iter().map(<[u8]>::to_vec).collect() }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.tag);
        write_length(self.texts.len(), bytes);
        for text in &self.texts {
            write_length(text.len(), bytes);
            bytes.extend_from_slice(text);
        }
    }

    /// The parts of a key, from [`crate::key::CacheKey::parts`]; those before the first that cannot be read.
    pub fn read_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut parts = Vec::new();
        while let Some(part) = read(&mut bytes) {
            parts.push(part);
        }
        parts
    }

    /// What it is of: `device`, `country`, `header x-lang`, `cookie theme`, `request_headers`, `other_rules`.
    pub fn name(&self) -> String {
        let named = |kind: &str| match self.texts.first() {
            Some(name) => format!("{kind} {}", String::from_utf8_lossy(name)),
            None => kind.to_owned(),
        };
        match self.tag {
            DEVICE => "device".to_owned(),
            COUNTRY => "country".to_owned(),
            HEADER => named("header"),
            COOKIE_PART => named("cookie"),
            OTHER_RULES => "other_rules".to_owned(),
            _ => "request_headers".to_owned(),
        }
    }

    /// Its value; `None` where the request has none. Bytes that are no UTF-8 become replacement characters.
    pub fn value(&self) -> Option<String> {
        let own = if matches!(self.tag, HEADER | COOKIE_PART) { self.texts.get(1..)? } else { &self.texts[..] };
        let separator = if self.tag == REQUEST_HEADERS { " " } else { ", " };
        let texts: Vec<_> = own.iter().map(|text| String::from_utf8_lossy(text)).collect();
        (!texts.is_empty()).then(|| texts.join(separator))
    }
}

/// Seven bits a byte, the lowest first; the last has its highest bit clear.
fn write_length(length: usize, bytes: &mut Vec<u8>) {
    let mut rest = length;
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn read(bytes: &mut &[u8]) -> Option<KeyPart> {
    let (tag, rest) = bytes.split_first()?;
    *bytes = rest;
    let count = read_length(bytes)?;
    let mut texts = Vec::new();
    for _ in 0..count {
        let length = read_length(bytes)?;
        let (text, rest) = bytes.split_at_checked(length)?;
        texts.push(text.to_vec());
        *bytes = rest;
    }
    Some(KeyPart { tag: *tag, texts })
}

fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..28).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}
