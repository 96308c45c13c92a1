//! How old a response is and how long it stays fresh (RFC 9111 §4.2).

use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, EXPIRES, LAST_MODIFIED},
};

use crate::{
    directives::ResponseControl,
    fields::{delta_seconds, first, items},
    policy::{Policy, duration_ms},
    storable::Times,
    time::{Timestamp, parse_http_date},
};

/// The longest lifetime that is guessed; RFC 9111 §4.2.2 leaves the bound to caches.
pub const HEURISTIC_LIFETIME_MAX_MS: u64 = 86_400_000;
/// Date has whole seconds: up to this much of an apparent age may be the rounding.
const DATE_ROUNDING_MS: u64 = 999;

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
    /// Whether the response itself says how long (RFC 9111 §4.2.1).
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Targeted | Self::SMaxage | Self::MaxAge | Self::Expires)
    }

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

/// What is known of a response that decides how long it is fresh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) status: StatusCode,
    /// The response's fields; of a 304, merged into the stored ones.
    pub(crate) fields: &'a HeaderMap,
    /// Whose Age counts: the fields that arrived just now.
    pub(crate) arrived: &'a HeaderMap,
    pub(crate) control: &'a ResponseControl,
    pub(crate) times: Times,
    /// What a proved peer said of its age.
    pub(crate) trusted_age_ms: Option<u64>,
}

impl Evidence<'_> {
    /// How long the response may be reused, by RFC 9111 §4.2 and policy.
    pub(crate) fn freshness(&self, policy: &Policy<'_>) -> Freshness {
        let (source, lifetime_ms) = self.lifetime(policy);
        let from_rule = source == LifetimeSource::Rule;
        let seconds_ms = |seconds: Option<u64>| seconds.map(|s| s.saturating_mul(1000));
        Freshness {
            response_time: self.times.response_time,
            initial_age_ms: self.initial_age_ms(),
            lifetime_ms: lifetime_ms.min(duration_ms(policy.cache.max_ttl)),
            source,
            swr_ms: seconds_ms(self.control.stale_while_revalidate),
            sie_ms: seconds_ms(self.control.stale_if_error),
            // A rule's ttl overrides what the origin says of freshness.
            no_cache: self.control.no_cache.is_all() && !from_rule,
            must_revalidate: self.control.forbids_stale(),
            immutable: self.control.immutable,
        }
    }

    /// RFC 9111 §4.2.3, in milliseconds.
    fn initial_age_ms(&self) -> u64 {
        let delay_ms = self.times.response_time.ms_since(self.times.request_time);
        if let Some(age_ms) = self.trusted_age_ms {
            return age_ms.saturating_add(delay_ms);
        }
        let apparent_ms = self.times.response_time.ms_since(self.date()).saturating_sub(DATE_ROUNDING_MS);
        let corrected_ms = age_seconds(self.arrived).saturating_mul(1000).saturating_add(delay_ms);
        apparent_ms.max(corrected_ms)
    }

    /// Date, or when the response arrived (RFC 9110 §6.6.1).
    fn date(&self) -> Timestamp {
        first(self.fields, &DATE).and_then(parse_http_date).unwrap_or(self.times.response_time)
    }

    fn lifetime(&self, policy: &Policy<'_>) -> (LifetimeSource, u64) {
        if let Some(ttl_ms) = policy.rule_ttl_ms(self.status) {
            return (LifetimeSource::Rule, ttl_ms);
        }
        if let Some(explicit) = self.explicit() {
            return explicit;
        }
        if let Some(ttl) = policy.cache.negative_ttl.get(&self.status.as_u16()) {
            return (LifetimeSource::Negative, duration_ms(*ttl));
        }
        // RFC 9111 §4.2.2: nothing is guessed for other statuses unless they are marked as cacheable.
        if !is_heuristically_cacheable(self.status) && !self.control.public {
            return (LifetimeSource::None, 0);
        }
        if !policy.cache.default_ttl.is_zero() && self.status.as_u16() < 400 {
            return (LifetimeSource::Default, duration_ms(policy.cache.default_ttl));
        }
        match first(self.fields, &LAST_MODIFIED).and_then(parse_http_date) {
            Some(modified) => {
                (LifetimeSource::Heuristic, (self.date().ms_since(modified) / 10).min(HEURISTIC_LIFETIME_MAX_MS))
            }
            None => (LifetimeSource::None, 0),
        }
    }

    /// RFC 9111 §4.2.1, in its order.
    fn explicit(&self) -> Option<(LifetimeSource, u64)> {
        let control = self.control;
        let source = |plain| if control.targeted { LifetimeSource::Targeted } else { plain };
        // RFC 9111 §5.2.2.10: s-maxage overrides max-age and Expires in a shared cache.
        if let Some(seconds) = control.s_maxage {
            return Some((source(LifetimeSource::SMaxage), seconds.saturating_mul(1000)));
        }
        if let Some(seconds) = control.max_age {
            return Some((source(LifetimeSource::MaxAge), seconds.saturating_mul(1000)));
        }
        // RFC 9213 §2.2: a targeted field replaces Expires too.
        let expires = self.fields.get(EXPIRES).filter(|_| !control.targeted)?;
        // RFC 9111 §5.3: an invalid date, "0" above all, is in the past.
        let expires = expires.to_str().ok().and_then(parse_http_date).unwrap_or(Timestamp::EPOCH);
        Some((LifetimeSource::Expires, expires.ms_since(self.date())))
    }
}

/// Age as RFC 9111 §5.1 wants it read: the first of a list; nothing if that is no number.
fn age_seconds(headers: &HeaderMap) -> u64 {
    let first = headers.get(AGE).and_then(|value| items(value.as_bytes()).next());
    first.and_then(delta_seconds).unwrap_or(0)
}

/// RFC 9110 §15.1
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
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
