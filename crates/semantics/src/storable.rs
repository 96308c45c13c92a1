//! Whether a response may be stored (RFC 9111 §3), and what is kept of it.

use http::{HeaderMap, StatusCode};

use crate::{head::StoredHead, policy::Policy, request::RequestView, time::Timestamp};

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

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoNotReason {
    /// Only responses to GET are stored.
    Method,
    /// The rule says `cache = "pass"`.
    Pass,
    /// Not a final status, or one that a cache must not store.
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
}

impl DoNotReason {
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
    let _ = (request, status, response, policy, times, trusted_age_ms);
    Admission::DoNot(DoNotReason::NoStore)
}
