//! Cache-Control of responses and requests, read leniently (RFC 9111 §5.2), and its targeted forms, read strictly
//! (RFC 9213).

use http::{HeaderMap, HeaderName, header::CACHE_CONTROL};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::fields::{delta_seconds, is_token, items, list, unquote};

/// Our own targeted field; goes before [`CDN_CACHE_CONTROL`].
pub const PERIGEE_CACHE_CONTROL: HeaderName = HeaderName::from_static("perigee-cache-control");
/// The targeted field of all CDNs (RFC 9213 §3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// How much of a response `private` or `no-cache` speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Not said.
    #[default]
    None,
    /// These fields only.
    Fields(Vec<HeaderName>),
    /// All of it.
    All,
}

impl Scope {
    /// Whether the whole response is meant.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// The fields that are meant, if only fields are.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::None | Self::All => &[],
        }
    }

    fn add(&mut self, argument: Option<&[u8]>) {
        let names = argument.and_then(|list| {
            items(list)
                .map(|name| HeaderName::from_bytes(name).ok())
                .collect::<Option<Vec<_>>>()
                .filter(|names| !names.is_empty())
        });
        match (names, &mut *self) {
            (_, Self::All) => {}
            (Some(more), Self::Fields(names)) => names.extend(more),
            (Some(names), Self::None) => *self = Self::Fields(names),
            // No list, or one that cannot be read: the whole response, to be safe.
            (None, _) => *self = Self::All,
        }
    }
}

/// What a response says about caching it. Seconds; values that cannot be read count as 0, so as stale (RFC 9111 §4.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseControl {
    /// A targeted field said it: Cache-Control and Expires count for nothing (RFC 9213 §2.2).
    pub targeted: bool,
    /// RFC 9111 §5.2.2.5
    pub no_store: bool,
    /// RFC 9111 §5.2.2.4
    pub no_cache: Scope,
    /// RFC 9111 §5.2.2.7
    pub private: Scope,
    /// RFC 9111 §5.2.2.9
    pub public: bool,
    /// RFC 9111 §5.2.2.2
    pub must_revalidate: bool,
    /// RFC 9111 §5.2.2.8
    pub proxy_revalidate: bool,
    /// RFC 9111 §5.2.2.3
    pub must_understand: bool,
    /// RFC 8246
    pub immutable: bool,
    /// RFC 9111 §5.2.2.1
    pub max_age: Option<u64>,
    /// RFC 9111 §5.2.2.10
    pub s_maxage: Option<u64>,
    /// RFC 5861 §3
    pub stale_while_revalidate: Option<u64>,
    /// RFC 5861 §4
    pub stale_if_error: Option<u64>,
}

impl ResponseControl {
    /// Reads the first usable of Perigee-Cache-Control, CDN-Cache-Control and Cache-Control.
    pub fn read(headers: &HeaderMap) -> Self {
        [PERIGEE_CACHE_CONTROL, CDN_CACHE_CONTROL]
            .iter()
            .find_map(|name| Self::read_targeted(headers, name))
            .unwrap_or_else(|| Self::read_cache_control(headers))
    }

    fn read_cache_control(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for item in list(headers, &CACHE_CONTROL) {
            let (name, argument) = directive(item);
            control.add(name, argument.map(unquote).as_deref());
        }
        control
    }

    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        // RFC 9111 §4.2.1: the first of several counts; what cannot be read makes the response stale.
        let keep_first = |slot: &mut Option<u64>| {
            slot.get_or_insert_with(|| argument.and_then(delta_seconds).unwrap_or(0));
        };
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        if is("max-age") {
            keep_first(&mut self.max_age);
        } else if is("s-maxage") {
            keep_first(&mut self.s_maxage);
        } else if is("stale-while-revalidate") {
            keep_first(&mut self.stale_while_revalidate);
        } else if is("stale-if-error") {
            keep_first(&mut self.stale_if_error);
        } else if is("no-cache") {
            self.no_cache.add(argument);
        } else if is("private") {
            self.private.add(argument);
        } else if let Some(flag) = self.flag(name) {
            *flag = true;
        }
    }

    fn flag(&mut self, name: &[u8]) -> Option<&mut bool> {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        if is("no-store") {
            Some(&mut self.no_store)
        } else if is("public") {
            Some(&mut self.public)
        } else if is("must-revalidate") {
            Some(&mut self.must_revalidate)
        } else if is("proxy-revalidate") {
            Some(&mut self.proxy_revalidate)
        } else if is("must-understand") {
            Some(&mut self.must_understand)
        } else if is("immutable") {
            Some(&mut self.immutable)
        } else {
            None
        }
    }

    /// `None`: absent, empty, no Dictionary, or a directive of the wrong type, which all mean the same (RFC 9213 §2.1, §2.2).
    fn read_targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        if !headers.contains_key(name) {
            return None;
        }
        let mut text = Vec::new();
        for line in headers.get_all(name) {
            if !text.is_empty() {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(line.as_bytes());
        }
        let dictionary: Dictionary = Parser::new(&text).parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut control = Self { targeted: true, ..Self::default() };
        for (key, entry) in &dictionary {
            let ListEntry::Item(item) = entry else {
                if is_known(key.as_str()) {
                    return None;
                }
                continue;
            };
            control.add_typed(key.as_str(), &item.bare_item)?;
        }
        Some(control)
    }

    fn add_typed(&mut self, key: &str, value: &BareItem) -> Option<()> {
        match (key, value) {
            ("max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error", BareItem::Integer(seconds)) => {
                // A negative number is of the right type and means nothing: stale.
                let digits = i64::from(*seconds).max(0).to_string();
                self.add(key.as_bytes(), Some(digits.as_bytes()));
            }
            (_, BareItem::Boolean(false)) if !is_seconds(key) => {}
            (_, BareItem::Boolean(true)) if !is_seconds(key) => self.add(key.as_bytes(), None),
            ("private" | "no-cache", BareItem::String(names)) => {
                self.add(key.as_bytes(), Some(names.as_str().as_bytes()))
            }
            _ if is_known(key) => return None,
            _ => {}
        }
        Some(())
    }

    /// Whether stale responses are never served (RFC 9111 §4.2.4, §5.2.2.10: s-maxage says proxy-revalidate too).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some() || self.no_cache.is_all()
    }

    /// Whether a response to a request with Authorization may be shared (RFC 9111 §3.5).
    pub fn shares_authorized(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }
}

fn is_seconds(key: &str) -> bool {
    matches!(key, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error")
}

fn is_known(key: &str) -> bool {
    is_seconds(key)
        || matches!(key, "no-store" | "no-cache" | "private" | "public" | "must-revalidate")
        || matches!(key, "proxy-revalidate" | "must-understand" | "immutable")
}

/// Name and argument. What is before the `=` must be a token to its last byte: `max-age =1` is no max-age.
fn directive(item: &[u8]) -> (&[u8], Option<&[u8]>) {
    match item.iter().position(|b| *b == b'=') {
        Some(at) => match item.split_at_checked(at) {
            Some((name, [_, argument @ ..])) if is_token(name) => (name, Some(argument)),
            _ => (&[], None),
        },
        None => (item, None),
    }
}

/// What a client asks of caches (RFC 9111 §5.2.1). Obeyed where policy says `client_cache_control = "honour"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// §5.2.1.1, seconds
    pub max_age: Option<u64>,
    /// §5.2.1.2, seconds; without a value: [`u64::MAX`]
    pub max_stale: Option<u64>,
    /// §5.2.1.3, seconds
    pub min_fresh: Option<u64>,
    /// §5.2.1.4
    pub no_cache: bool,
    /// §5.2.1.5
    pub no_store: bool,
    /// §5.2.1.7
    pub only_if_cached: bool,
}

impl RequestControl {
    /// Reads Cache-Control. Pragma means nothing (RFC 9111 §5.4 deprecates it). Does not allocate.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for item in list(headers, &CACHE_CONTROL) {
            let (name, argument) = directive(item);
            let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
            let seconds = || argument.and_then(|digits| delta_seconds(&unquote(digits)));
            if is("max-age") {
                control.max_age = control.max_age.or_else(seconds);
            } else if is("min-fresh") {
                control.min_fresh = control.min_fresh.or_else(seconds);
            } else if is("max-stale") {
                let limit = if argument.is_none() { Some(u64::MAX) } else { seconds() };
                control.max_stale = control.max_stale.or(limit);
            }
            control.no_cache |= is("no-cache");
            control.no_store |= is("no-store");
            control.only_if_cached |= is("only-if-cached");
        }
        control
    }
}

#[cfg(test)]
mod tests;
