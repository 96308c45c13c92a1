//! What a site, its matching rule and the tier say; the argument of every decision.

use http::StatusCode;
use perigee_protocol::model::{CachePolicy, ClientCacheControl, QueryPolicy, RuleCache};

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

    /// What of the query is part of the key.
    pub fn query(&self) -> &QueryPolicy {
        self.rule.and_then(|rule| rule.query.as_ref()).unwrap_or(&self.cache.query)
    }

    /// How long a response may be served stale while it is revalidated, in milliseconds, where its origin says nothing.
    pub fn stale_while_revalidate_ms(&self) -> u64 {
        duration_ms(self.rule.and_then(|rule| rule.stale_while_revalidate).unwrap_or(self.cache.stale_while_revalidate))
    }

    /// How long a response may be served stale when upstream fails, in milliseconds, where its origin says nothing.
    pub fn stale_if_error_ms(&self) -> u64 {
        duration_ms(self.rule.and_then(|rule| rule.stale_if_error).unwrap_or(self.cache.stale_if_error))
    }

    /// Whether the query is no part of the key.
    pub fn ignores_query(&self) -> bool {
        self.rule.is_some_and(|rule| rule.ignore_query)
    }

    /// The rule's ttl in milliseconds for a response with that status.
    pub fn rule_ttl_ms(&self, status: StatusCode) -> Option<u64> {
        // A rule speaks of what the site serves, not of its errors, unless it names them.
        let speaks = |rule: &&RuleCache| status.as_u16() < 400 || rule.ttl_of_errors;
        self.rule.filter(speaks).and_then(|rule| rule.ttl).map(duration_ms)
    }

    /// Whether the client's Cache-Control is obeyed (RFC 9111 §5.2.1).
    pub fn honours_client(&self) -> bool {
        self.cache.client_cache_control == ClientCacheControl::Honour
    }
}

pub(crate) fn duration_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
