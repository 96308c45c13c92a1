//! Whether a stored response answers a request (RFC 9111 §4).

use crate::{head::StoredHead, policy::Policy, request::RequestView, time::Timestamp};

/// What to do with a request before anything is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Look it up.
    Lookup,
    /// Hand it to upstream and its response back, storing nothing.
    Pass(PassReason),
}

/// Why the cache is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// Not GET or HEAD.
    Method,
    /// The rule says `cache = "pass"`.
    Rule,
    /// The request has a body, which no key contains.
    Body,
}

impl PassReason {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Rule => "pass",
            Self::Body => "request-body",
        }
    }
}

/// What a stored response is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it stale because the client's max-stale allows it.
    StaleByRequest,
    /// Serve it and refresh it behind (RFC 5861 §3).
    StaleWhileRevalidate,
    /// Ask upstream whether it still holds.
    Revalidate(RevalidateReason),
    /// The client wants nothing but the cache's: 504 (RFC 9111 §5.2.1.7).
    OnlyIfCached,
}

/// Why a stored response is not served as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevalidateReason {
    /// Its lifetime is over.
    Stale,
    /// The response's no-cache.
    NoCache,
    /// The request's no-cache, honoured.
    RequestNoCache,
    /// The request's max-age, honoured.
    RequestMaxAge,
    /// The request's min-fresh, honoured.
    RequestMinFresh,
}

impl RevalidateReason {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::NoCache => "no-cache",
            Self::RequestNoCache => "request-no-cache",
            Self::RequestMaxAge => "request-max-age",
            Self::RequestMinFresh => "request-min-fresh",
        }
    }
}

impl Reuse {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::StaleByRequest => "max-stale",
            Self::StaleWhileRevalidate => "stale-while-revalidate",
            Self::Revalidate(reason) => reason.as_str(),
            Self::OnlyIfCached => "only-if-cached",
        }
    }
}

/// What to do with a request before lookup.
pub fn plan(request: RequestView<'_>, policy: &Policy<'_>) -> Plan {
    let _ = (request, policy);
    Plan::Lookup
}

/// Whether a miss is answered with 504 because the client wants nothing but the cache's (RFC 9111 §5.2.1.7).
pub fn only_if_cached(request: RequestView<'_>, policy: &Policy<'_>) -> bool {
    let _ = (request, policy);
    false
}

/// What the stored response, whose Vary matched already, is good for now.
pub fn judge(stored: &StoredHead, request: RequestView<'_>, policy: &Policy<'_>, now: Timestamp) -> Reuse {
    let _ = (request, policy);
    if stored.freshness.is_fresh(now) { Reuse::Fresh } else { Reuse::Revalidate(RevalidateReason::Stale) }
}

/// Whether a stale response may be served because upstream failed (RFC 5861 §4, RFC 9111 §4.2.4).
pub fn serve_on_error(stored: &StoredHead, policy: &Policy<'_>, now: Timestamp) -> bool {
    let _ = (stored, policy, now);
    false
}
