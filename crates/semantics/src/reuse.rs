//! Whether a stored response answers a request (RFC 9111 §4).

use http::{
    HeaderName, Method, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

use crate::{
    directives::RequestControl,
    freshness::Freshness,
    head::StoredHead,
    policy::{Policy, Tier},
    request::RequestView,
    time::Timestamp,
};

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

impl Plan {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Pass(reason) => reason.as_str(),
        }
    }
}

/// What to do with a request before lookup. Its Content-Length and Transfer-Encoding tell of a body: ask before hop-by-hop
/// fields are stripped, or with a Content-Length.
pub fn plan(request: RequestView<'_>, policy: &Policy<'_>) -> Plan {
    if policy.is_pass() {
        return Plan::Pass(PassReason::Rule);
    }
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        return Plan::Pass(PassReason::Method);
    }
    // RFC 9110 §9.3.1: a body on GET means nothing that a key could hold, and may change what a careless origin answers.
    let frames = |name: &HeaderName| matches!(name.as_str(), "content-length" | "transfer-encoding");
    let has_body = request.headers.keys().any(frames)
        && (request.headers.contains_key(TRANSFER_ENCODING)
            || request.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0"));
    if has_body { Plan::Pass(PassReason::Body) } else { Plan::Lookup }
}

/// Whether a miss is answered with 504 because the client wants nothing but the cache's (RFC 9111 §5.2.1.7).
pub fn only_if_cached(request: RequestView<'_>, policy: &Policy<'_>) -> bool {
    asked(request, policy).only_if_cached
}

fn asked(request: RequestView<'_>, policy: &Policy<'_>) -> RequestControl {
    if policy.honours_client() { RequestControl::read(request.headers) } else { RequestControl::default() }
}

/// What the stored response, whose Vary matched already, is good for now. Does not allocate.
pub fn judge(stored: &StoredHead, request: RequestView<'_>, policy: &Policy<'_>, now: Timestamp) -> Reuse {
    let asked = asked(request, policy);
    match judge_asked(&stored.freshness, &asked, policy, now) {
        Reuse::Revalidate(_) if asked.only_if_cached => Reuse::OnlyIfCached,
        reuse => reuse,
    }
}

fn judge_asked(freshness: &Freshness, asked: &RequestControl, policy: &Policy<'_>, now: Timestamp) -> Reuse {
    // RFC 9111 §5.2.2.4
    if freshness.no_cache {
        return Reuse::Revalidate(RevalidateReason::NoCache);
    }
    // RFC 9111 §5.2.1.4
    if asked.no_cache {
        return Reuse::Revalidate(RevalidateReason::RequestNoCache);
    }
    let age_ms = freshness.age_ms(now);
    let is_fresh = freshness.is_fresh(now);
    // RFC 9111 §5.2.1.1: max-age is a lifetime of the client's own, beyond which max-stale goes as beyond the origin's.
    let limit = asked.max_age.map(|seconds| seconds.saturating_add(asked.max_stale.unwrap_or(0)));
    let is_too_old = limit.is_some_and(|seconds| age_ms > seconds.saturating_mul(1000));
    // RFC 8246 §2: what is immutable is not validated because of a reload while it is fresh.
    if is_too_old && !(freshness.immutable && is_fresh) {
        return Reuse::Revalidate(RevalidateReason::RequestMaxAge);
    }
    if is_fresh {
        // RFC 9111 §5.2.1.3
        let left_ms = freshness.lifetime_ms.saturating_sub(age_ms);
        return match asked.min_fresh {
            Some(seconds) if left_ms < seconds.saturating_mul(1000) => {
                Reuse::Revalidate(RevalidateReason::RequestMinFresh)
            }
            _ => Reuse::Fresh,
        };
    }
    judge_stale(freshness, asked, policy, now)
}

fn judge_stale(freshness: &Freshness, asked: &RequestControl, policy: &Policy<'_>, now: Timestamp) -> Reuse {
    // RFC 9111 §4.2.4: never against must-revalidate and its kin.
    if freshness.must_revalidate || asked.min_fresh.is_some() {
        return Reuse::Revalidate(RevalidateReason::Stale);
    }
    let stale_ms = freshness.stale_for_ms(now);
    // RFC 9111 §5.2.1.2
    if asked.max_stale.is_some_and(|seconds| stale_ms <= seconds.saturating_mul(1000)) {
        return Reuse::StaleByRequest;
    }
    let swr_ms = freshness.swr_ms.unwrap_or_else(|| policy.stale_while_revalidate_ms());
    // ARCHITECTURE, who shares what: stale while revalidating is the edges' alone.
    if policy.tier == Tier::Edge && stale_ms < swr_ms {
        return Reuse::StaleWhileRevalidate;
    }
    Reuse::Revalidate(RevalidateReason::Stale)
}

/// Whether a stale response may be served because upstream failed (RFC 5861 §4, RFC 9111 §4.2.4).
pub fn serve_on_error(stored: &StoredHead, policy: &Policy<'_>, now: Timestamp) -> bool {
    let freshness = &stored.freshness;
    if freshness.no_cache || freshness.must_revalidate || stored.status.is_server_error() {
        return false;
    }
    let sie_ms = freshness.sie_ms.unwrap_or_else(|| policy.stale_if_error_ms());
    freshness.is_fresh(now) || freshness.stale_for_ms(now) < sie_ms
}

/// Whether a response to our own request counts as a failure of upstream, so that something stale may be better: any 5xx
/// (RFC 9111 §4.3.3; RFC 5861 §4 names four of them).
pub fn is_upstream_error(status: StatusCode) -> bool {
    status.is_server_error()
}

#[cfg(test)]
mod tests;
