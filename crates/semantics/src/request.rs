//! The request as decisions see it, and the guard before everything else.

use std::borrow::Cow;

use http::{HeaderMap, Method, StatusCode};

/// What decisions look at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// All fields.
    pub headers: &'a HeaderMap,
}

/// A request that passed the guard, in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    /// Host and port in lower case; empty for an HTTP/1.0 request without Host.
    pub authority: Cow<'a, str>,
    /// Begins with `/`.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
}

/// Why a request is refused, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct GuardError {
    /// To answer; the connection should be closed after it.
    pub status: StatusCode,
    /// Kebab-case, for logs and metrics.
    pub reason: &'static str,
}

/// Refuses requests whose framing or target two parsers could read differently; normalises the rest.
pub fn guard(parts: &http::request::Parts) -> Result<Normal<'_>, GuardError> {
    Ok(Normal {
        authority: parts.headers.get(http::header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default().into(),
        path: parts.uri.path(),
        query: parts.uri.query(),
    })
}
