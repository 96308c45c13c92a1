//! How old a response is and how long it stays fresh (RFC 9111 §4.2).

use crate::time::Timestamp;

/// Where a freshness lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// `ttl` of the matching rule.
    Rule,
    /// `max-age` of a targeted field (RFC 9213).
    Targeted,
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// `negative_ttl` of the site.
    Negative,
    /// `default_ttl` of the site.
    Default,
    /// A share of the time since `Last-Modified` (RFC 9111 §4.2.2).
    Heuristic,
    /// Nothing says how long: stale at once.
    None,
}

impl LifetimeSource {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule-ttl",
            Self::Targeted => "targeted-max-age",
            Self::SMaxage => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "expires",
            Self::Negative => "negative-ttl",
            Self::Default => "default-ttl",
            Self::Heuristic => "heuristic",
            Self::None => "none",
        }
    }
}

/// What decides whether a stored response may be reused without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// When the response (or the last validation of it) arrived.
    pub response_time: Timestamp,
    /// Its age then, the fetch's delay included (RFC 9111 §4.2.3 corrected_initial_age).
    pub initial_age_ms: u64,
    /// How long it is fresh, counted from age zero.
    pub lifetime_ms: u64,
    /// What said so.
    pub source: LifetimeSource,
    /// The origin's own stale-while-revalidate (RFC 5861 §3); `None`: the site's policy.
    pub swr_ms: Option<u64>,
    /// The origin's own stale-if-error (RFC 5861 §4); `None`: the site's policy.
    pub sie_ms: Option<u64>,
    /// Never reused without validation (RFC 9111 §5.2.2.4).
    pub no_cache: bool,
    /// Never served stale (RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10).
    pub must_revalidate: bool,
    /// Does not change while it is fresh (RFC 8246).
    pub immutable: bool,
}

impl Freshness {
    /// The current age (RFC 9111 §4.2.3). A clock that went back counts as no time passed.
    pub fn age_ms(&self, now: Timestamp) -> u64 {
        self.initial_age_ms.saturating_add(now.ms_since(self.response_time))
    }

    /// Whether the lifetime exceeds the age (RFC 9111 §4.2). Says nothing of `no_cache`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.lifetime_ms > self.age_ms(now)
    }

    /// What is left of the lifetime; negative once stale.
    pub fn ttl_ms(&self, now: Timestamp) -> i64 {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        signed(self.lifetime_ms).saturating_sub(signed(self.age_ms(now)))
    }

    /// How long ago it ceased to be fresh; zero while fresh.
    pub fn stale_for_ms(&self, now: Timestamp) -> u64 {
        self.age_ms(now).saturating_sub(self.lifetime_ms)
    }
}
