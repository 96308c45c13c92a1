//! Whether a response may be stored (RFC 9111 §3), and what is kept of it.

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{AGE, AUTHORIZATION, CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED, SET_COOKIE},
};
use perigee_protocol::{headers::is_internal, model::SetCookie};

use crate::{
    directives::{RequestControl, ResponseControl},
    fields::first,
    freshness::{Evidence, Freshness, LifetimeSource, is_heuristically_cacheable},
    head::{EntityTag, StoredHead},
    headers::{CACHE_STATUS, is_hop_by_hop, strip_hop_by_hop, strip_internal},
    invalidate::{Target, represents},
    policy::Policy,
    request::RequestView,
    tags,
    time::{Timestamp, parse_http_date},
    vary,
};

/// When the request for a response was sent and when its head arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The fetch began.
    pub request_time: Timestamp,
    /// The head was here.
    pub response_time: Timestamp,
}

/// What becomes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Store it under this head.
    Store(Box<StoredHead>),
    /// Answer it and forget it.
    DoNot(DoNotReason),
}

impl Admission {
    /// The word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::DoNot(reason) => reason.as_str(),
        }
    }
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoNotReason {
    /// Only responses to GET are stored, and those to POST that represent its target.
    Method,
    /// The rule says `cache = "pass"`.
    Pass,
    /// Not a final status, or one that says something of one request only.
    Status,
    /// Part of a representation.
    Partial,
    /// The response's no-store.
    NoStore,
    /// The request's no-store, honoured.
    RequestNoStore,
    /// `private`.
    Private,
    /// The request had Authorization and nothing allows sharing.
    Authorization,
    /// It sets cookies and policy is `pass`.
    SetCookie,
    /// `Vary: *`.
    VaryStar,
    /// Nothing makes it reusable.
    NoFreshness,
    /// Larger than `object_bytes_max`.
    TooLarge,
    /// Smaller than `object_bytes_min`.
    TooSmall,
}

impl DoNotReason {
    /// Whether it is the request that forbids storing: others may well get something that is stored.
    pub fn is_of_the_request(self) -> bool {
        matches!(self, Self::Method | Self::RequestNoStore | Self::Authorization)
    }

    /// The word for logs, metrics and Cache-Status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Pass => "pass",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::NoStore => "no-store",
            Self::RequestNoStore => "request-no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryStar => "vary-star",
            Self::NoFreshness => "no-freshness",
            Self::TooLarge => "too-large",
            Self::TooSmall => "too-small",
        }
    }
}

/// Decides about a final response, from its head. `trusted_age_ms` is what a proved peer said of its age; without it
/// Age and Date count. The request is the client's, in the form it was forwarded in.
pub fn admit(
    request: RequestView<'_>,
    status: StatusCode,
    response: &HeaderMap,
    policy: &Policy<'_>,
    times: Times,
    trusted_age_ms: Option<u64>,
) -> Admission {
    let candidate = Candidate { request, status, fields: response, arrived: response, policy, times, trusted_age_ms };
    candidate.assess().map_or_else(Admission::DoNot, |head| Admission::Store(Box::new(head)))
}

/// Decides about a final response to POST, which later GETs may be answered with if it carries explicit freshness and says
/// that it represents the target (RFC 9110 §9.3.3). Arguments as for [`admit`].
pub fn admit_post(
    request: RequestView<'_>,
    status: StatusCode,
    response: &HeaderMap,
    target: Target<'_>,
    policy: &Policy<'_>,
    times: Times,
    trusted_age_ms: Option<u64>,
) -> Admission {
    // A GET would have answered 200; other successes speak of what the POST did.
    if *request.method != Method::POST || status != StatusCode::OK || !represents(response, target) {
        return Admission::DoNot(DoNotReason::Method);
    }
    let as_get = RequestView { method: &Method::GET, headers: request.headers };
    match admit(as_get, status, response, policy, times, trusted_age_ms) {
        Admission::Store(head) if !head.freshness.source.is_explicit() => Admission::DoNot(DoNotReason::NoFreshness),
        admission => admission,
    }
}

/// A response that wants to be stored: as it came, or as a 304 made of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) request: RequestView<'a>,
    pub(crate) status: StatusCode,
    pub(crate) fields: &'a HeaderMap,
    /// What came just now; differs from `fields` for a 304.
    pub(crate) arrived: &'a HeaderMap,
    pub(crate) policy: &'a Policy<'a>,
    pub(crate) times: Times,
    pub(crate) trusted_age_ms: Option<u64>,
}

impl Candidate<'_> {
    pub(crate) fn assess(&self) -> Result<StoredHead, DoNotReason> {
        let control = ResponseControl::read(self.fields);
        self.check_request()?;
        self.check_response(&control)?;
        let vary = vary::selector(self.fields, self.request.headers).ok_or(DoNotReason::VaryStar)?;
        let evidence = Evidence {
            status: self.status,
            fields: self.fields,
            arrived: self.arrived,
            control: &control,
            times: self.times,
            trusted_age_ms: self.trusted_age_ms,
        };
        let freshness = evidence.freshness(self.policy);
        let etag = self.fields.get(ETAG).and_then(|value| EntityTag::parse(value.as_bytes()));
        let last_modified = first(self.fields, &LAST_MODIFIED).and_then(parse_http_date);
        if !is_worth_storing(self.status, &control, &freshness, etag.is_some() || last_modified.is_some()) {
            return Err(DoNotReason::NoFreshness);
        }
        let tags = tags::read(self.fields, &self.policy.cache.surrogate_key_headers);
        let fields = self.kept_fields(&control);
        Ok(StoredHead { status: self.status, fields, freshness, vary, etag, last_modified, tags })
    }

    fn check_request(&self) -> Result<(), DoNotReason> {
        if self.policy.is_pass() {
            return Err(DoNotReason::Pass);
        }
        if *self.request.method != Method::GET {
            return Err(DoNotReason::Method);
        }
        // RFC 9111 §5.2.1.5
        if self.policy.honours_client() && RequestControl::read(self.request.headers).no_store {
            return Err(DoNotReason::RequestNoStore);
        }
        Ok(())
    }

    fn check_response(&self, control: &ResponseControl) -> Result<(), DoNotReason> {
        match self.status.as_u16() {
            206 => return Err(DoNotReason::Partial),
            // RFC 9111 §3: final; 304, 412 and 416 answer the conditions and the range of one request, not its URL.
            0..=199 | 304 | 412 | 416 => return Err(DoNotReason::Status),
            _ => {}
        }
        // RFC 9111 §5.2.2.3: whoever knows the status obeys must-understand and not the no-store beside it.
        if control.must_understand && !is_understood(self.status) {
            return Err(DoNotReason::Status);
        }
        if control.no_store && !control.must_understand {
            return Err(DoNotReason::NoStore);
        }
        if control.private.is_all() {
            return Err(DoNotReason::Private);
        }
        // RFC 9111 §3.5
        if self.request.headers.contains_key(AUTHORIZATION) && !control.shares_authorized() {
            return Err(DoNotReason::Authorization);
        }
        // Even where no-cache or private names Set-Cookie: under "pass" whoever asked gets all of it, and nobody else any.
        if self.fields.contains_key(SET_COOKIE) && self.policy.cache.set_cookie == SetCookie::Pass {
            return Err(DoNotReason::SetCookie);
        }
        let length = first(self.fields, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.policy.cache.object_bytes_max) {
            return Err(DoNotReason::TooLarge);
        }
        if length.is_some_and(|length| length < bytes_min(self.status, self.policy)) {
            return Err(DoNotReason::TooSmall);
        }
        Ok(())
    }

    /// The fields that may be stored (RFC 9111 §3.1).
    fn kept_fields(&self, control: &ResponseControl) -> HeaderMap {
        let mut fields = self.fields.clone();
        strip_hop_by_hop(&mut fields);
        strip_internal(&mut fields);
        fields.remove(AGE);
        fields.remove(&CACHE_STATUS);
        if self.policy.cache.set_cookie != SetCookie::Store {
            fields.remove(SET_COOKIE);
        }
        // RFC 9111 §5.2.2.4, §5.2.2.7: fields named by no-cache or private are not another client's to see. A rule's ttl
        // may set aside no-cache, but what it names is still of one response.
        for name in control.no_cache.fields().iter().chain(control.private.fields()) {
            fields.remove(name);
        }
        // RFC 9110 §6.6.1: who stores a response without Date says when it came.
        if !fields.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_str(&self.times.response_time.http_date())
        {
            fields.insert(DATE, date);
        }
        fields
    }
}

/// The fields of a response that are its requester's alone, because its `private` or `no-cache` names them (RFC 9111 §5.2.2.4,
/// §5.2.2.7): answered once, stored never.
pub fn own_fields(response: &HeaderMap, policy: &Policy<'_>) -> HeaderMap {
    let control = ResponseControl::read(response);
    let mut own = HeaderMap::new();
    for name in control.no_cache.fields().iter().chain(control.private.fields()) {
        // What is hop-by-hop, internal, or a cookie that policy strips is nobody's.
        let is_nobodys = is_hop_by_hop(name) || is_internal(name);
        if is_nobodys || own.contains_key(name) || (*name == SET_COOKIE && policy.cache.set_cookie == SetCookie::Strip)
        {
            continue;
        }
        for value in response.get_all(name) {
            own.append(name.clone(), value.clone());
        }
    }
    own
}

/// Whether a status is the server's own trouble, or what one request brought on itself by its fields or its pace: others may
/// get something else, and what is stored still holds.
pub fn says_nothing_of_the_url(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status.as_u16(), 400 | 406 | 407 | 408 | 411 | 413 | 415 | 417 | 421 | 425 | 426 | 428 | 429 | 431)
}

/// The fewest bytes of a body that is stored. Redirects and errors are small by nature, and stored as `negative_ttl` and
/// their own fields have it.
pub fn bytes_min(status: StatusCode, policy: &Policy<'_>) -> u64 {
    if status == StatusCode::OK { policy.cache.object_bytes_min } else { 0 }
}

/// Statuses whose caching this engine implements (RFC 9110 §15).
fn is_understood(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307 | 400 | 403 | 500 | 502 | 503 | 504)
}

/// RFC 9111 §3, last list; and whether storing would ever spare anything.
fn is_worth_storing(status: StatusCode, control: &ResponseControl, freshness: &Freshness, has_validator: bool) -> bool {
    let is_error = status.as_u16() >= 400;
    let may = match freshness.source {
        LifetimeSource::None => !is_error && (is_heuristically_cacheable(status) || control.public),
        _ => true,
    };
    let lives = freshness.lifetime_ms > 0 && !freshness.no_cache;
    let may_be_stale = !freshness.must_revalidate
        && (freshness.swr_ms.is_some_and(|ms| ms > 0) || freshness.sie_ms.is_some_and(|ms| ms > 0));
    may && (lives || has_validator || may_be_stale)
}

#[cfg(test)]
mod tests;
