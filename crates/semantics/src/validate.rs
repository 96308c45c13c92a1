//! Conditional requests: answering the client's, making our own, and what a 304 changes (RFC 9110 §13, RFC 9111 §4.3).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{head::StoredHead, policy::Policy, request::RequestView, storable::Times};

/// What a client's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer in full.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Precondition {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proceed => "proceed",
            Self::NotModified => "not-modified",
            Self::Failed => "precondition-failed",
        }
    }
}

/// Evaluates the request's conditions against the stored response, in the order of RFC 9110 §13.2.2.
pub fn evaluate(request: RequestView<'_>, stored: &StoredHead) -> Precondition {
    let _ = (request, stored);
    Precondition::Proceed
}

/// The conditions of our own request for what is stored; empty if it has no validator.
pub fn conditions(stored: &StoredHead) -> Vec<(HeaderName, HeaderValue)> {
    let _ = stored;
    Vec::new()
}

/// What a 304 makes of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshened {
    /// Its new head; the body stays.
    Updated(Box<StoredHead>),
    /// The body still holds for this request, but is to be forgotten.
    NoLongerStorable,
    /// The 304 speaks of another representation: forget what is stored and ask again without conditions.
    Mismatch,
}

/// Applies a 304 for our own conditional request (RFC 9111 §4.3.4, §3.2).
pub fn freshen(
    stored: &StoredHead,
    request: RequestView<'_>,
    response_304: &HeaderMap,
    policy: &Policy<'_>,
    times: Times,
    trusted_age_ms: Option<u64>,
) -> Freshened {
    let _ = (stored, request, response_304, policy, times, trusted_age_ms);
    Freshened::Mismatch
}

/// The stored fields that go on a 304 to the client (RFC 9110 §15.4.5). Age and Date are the caller's.
pub fn not_modified_fields(stored: &StoredHead) -> HeaderMap {
    stored.fields.clone()
}
