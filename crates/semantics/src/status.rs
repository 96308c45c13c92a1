//! Cache-Status (RFC 9211): what this cache did, as a list member after those of the caches before it.

use std::fmt;

use http::{HeaderMap, HeaderValue};

use crate::{
    fields::{Decimal, is_token},
    headers::CACHE_STATUS,
};

/// The largest Integer of structured fields (RFC 9651 §3.3.1).
const INTEGER_MAX: i64 = 999_999_999_999_999;
/// What most members fit into.
const MEMBER_BYTES: usize = 128;

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fwd {
    /// The cache is not used for it.
    Bypass,
    /// The method requires it.
    Method,
    /// Nothing is stored for the URL.
    UriMiss,
    /// Nothing that is stored for the URL matches the selecting fields.
    VaryMiss,
    /// Nothing is stored, for whichever reason.
    Miss,
    /// The client's request wants it.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is not all that was asked.
    Partial,
}

impl Fwd {
    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// One member of Cache-Status.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheStatus<'a> {
    /// The cache's name, written as a Token where it is one.
    pub cache: &'a str,
    /// Served from the cache. Not together with `fwd`, save that a validated response may say both.
    pub hit: bool,
    /// Why it went forward.
    pub fwd: Option<Fwd>,
    /// What upstream answered, where that differs from what the client gets.
    pub fwd_status: Option<u16>,
    /// Remaining freshness in whole seconds, negative when stale.
    pub ttl: Option<i64>,
    /// Whether the response was stored.
    pub stored: bool,
    /// Whether another request's fetch answered this one.
    pub collapsed: bool,
    /// The cache key, for those who may see it.
    pub key: Option<&'a str>,
    /// Our own reason.
    pub detail: Option<&'a str>,
}

impl CacheStatus<'_> {
    /// Appends the member to Cache-Status: the cache nearest the client comes last (RFC 9211 §2).
    pub fn append_to(&self, headers: &mut HeaderMap) {
        // On the stack where it fits: one allocation, of what becomes the value.
        let mut text = Member { bytes: [0; MEMBER_BYTES], length: 0 };
        let value = match self.write(&mut text) {
            Ok(()) => HeaderValue::from_bytes(text.bytes.get(..text.length).unwrap_or_default()),
            Err(fmt::Error) => HeaderValue::from_str(&self.to_string()),
        };
        if let Ok(value) = value {
            headers.append(CACHE_STATUS, value);
        }
    }
}

/// A member's text; an error where it is too long.
struct Member {
    bytes: [u8; MEMBER_BYTES],
    length: usize,
}

impl fmt::Write for Member {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length.saturating_add(text.len());
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl CacheStatus<'_> {
    /// The member as RFC 9651 §3.3 serialises an Item with parameters.
    fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        write_word(f, self.cache)?;
        if self.hit {
            f.write_str("; hit")?;
        }
        if let Some(fwd) = self.fwd {
            f.write_str("; fwd=")?;
            f.write_str(fwd.as_str())?;
        }
        if let Some(status) = self.fwd_status {
            write!(f, "; fwd-status={status}")?;
        }
        if let Some(ttl) = self.ttl {
            let ttl = ttl.clamp(-INTEGER_MAX, INTEGER_MAX);
            f.write_str(if ttl < 0 { "; ttl=-" } else { "; ttl=" })?;
            f.write_str(Decimal::of(ttl.unsigned_abs()).as_str())?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(key) = self.key {
            f.write_str("; key=")?;
            write_string(f, key)?;
        }
        if let Some(detail) = self.detail {
            f.write_str("; detail=")?;
            write_word(f, detail)?;
        }
        Ok(())
    }
}

/// A Token where it is one (RFC 9651 §3.3.4), else a String.
fn write_word(f: &mut impl fmt::Write, word: &str) -> fmt::Result {
    let starts = word.as_bytes().first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'*');
    let goes_on = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b':' || b == b'/' || is_token(&[b]));
    if starts && goes_on { f.write_str(word) } else { write_string(f, word) }
}

/// RFC 9651 §3.3.3: printable ASCII only; anything else becomes `?`.
fn write_string(f: &mut impl fmt::Write, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            ' '..='~' => f.write_char(c)?,
            _ => f.write_char('?')?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::HeaderMap;

    use super::*;

    fn check(status: CacheStatus<'_>, expected: Expect) {
        let text = status.to_string();
        expected.assert_eq(&text);
        sfv::Parser::new(&text).parse::<sfv::List>().expect("a List that others can read");
    }

    #[test]
    fn members() {
        let none = CacheStatus { cache: "edge-fra", ..CacheStatus::default() };
        check(CacheStatus { hit: true, ttl: Some(376), ..none }, expect!["edge-fra; hit; ttl=376"]);
        check(
            CacheStatus { hit: true, ttl: Some(-5), detail: Some("stale-if-error"), ..none },
            expect!["edge-fra; hit; ttl=-5; detail=stale-if-error"],
        );
        check(
            CacheStatus { fwd: Some(Fwd::Stale), fwd_status: Some(304), stored: true, collapsed: true, ..none },
            expect!["edge-fra; fwd=stale; fwd-status=304; stored; collapsed"],
        );
        check(
            CacheStatus { cache: "1st cache", key: Some("a\"b\\ü"), ..none },
            expect![[r#""1st cache"; key="a\"b\\?""#]],
        );
        check(CacheStatus { cache: "1st", detail: Some("*x"), ..none }, expect![[r#""1st"; detail=*x"#]]);
        check(CacheStatus { cache: "", ttl: Some(i64::MIN), ..none }, expect![[r#"""; ttl=-999999999999999"#]]);
    }

    #[test]
    fn a_long_member_is_written_all_the_same() {
        for more in 0..3 {
            let key = "k".repeat(MEMBER_BYTES - "edge; key=\"\"".len() - 1 + more);
            let status = CacheStatus { cache: "edge", key: Some(&key), ..CacheStatus::default() };
            let mut headers = HeaderMap::new();
            status.append_to(&mut headers);
            assert_eq!(headers.get(CACHE_STATUS).unwrap(), &status.to_string());
            assert_eq!(status.to_string().len(), MEMBER_BYTES - 1 + more);
        }
    }

    #[test]
    fn comes_after_the_caches_before_it() {
        let mut headers = HeaderMap::new();
        CacheStatus { cache: "shield", hit: true, ..CacheStatus::default() }.append_to(&mut headers);
        CacheStatus { cache: "edge", fwd: Some(Fwd::UriMiss), ..CacheStatus::default() }.append_to(&mut headers);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(lines, ["shield; hit", "edge; fwd=uri-miss"]);
    }
}
