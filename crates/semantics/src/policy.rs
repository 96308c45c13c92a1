//! What a site, its matching rule and the tier say; the argument of every decision.

use perigee_protocol::model::{CachePolicy, ClientCacheControl, RuleCache};

/// Where the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Answers clients; the only tier that serves stale while it revalidates.
    Edge,
    /// Answers edges; the tier that talks to origins.
    Shield,
}

/// The policy of one request: the site's, and the first rule that matches.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// `[site.cache]`
    pub cache: &'a CachePolicy,
    /// `cache` of the first matching `[[site.rule]]`.
    pub rule: Option<&'a RuleCache>,
    /// Where this is decided.
    pub tier: Tier,
}

impl Policy<'_> {
    /// Whether the rule says `cache = "pass"`.
    pub fn is_pass(&self) -> bool {
        self.rule.is_some_and(|rule| rule.pass)
    }

    /// Whether the query is no part of the key.
    pub fn ignores_query(&self) -> bool {
        self.rule.is_some_and(|rule| rule.ignore_query)
    }

    /// The rule's ttl in milliseconds.
    pub fn rule_ttl_ms(&self) -> Option<u64> {
        self.rule.and_then(|rule| rule.ttl).map(duration_ms)
    }

    /// Whether the client's Cache-Control is obeyed (RFC 9111 §5.2.1).
    pub fn honours_client(&self) -> bool {
        self.cache.client_cache_control == ClientCacheControl::Honour
    }
}

pub(crate) fn duration_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
