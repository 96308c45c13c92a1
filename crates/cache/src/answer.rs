//! A response and what the log says of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use perigee_semantics::status::{CacheStatus, Fwd};

use crate::{ask::Ask, body::Body};

/// A response, and how it came about.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) cache: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) tier: &'static str,
    pub(crate) upstream: String,
}

impl Answer {
    pub(crate) fn new(response: Response<Body>, cache: &'static str, reason: &'static str) -> Self {
        Self { response, cache, reason, tier: "", upstream: String::new() }
    }

    /// An answer of our own, in one line of text.
    pub(crate) fn plain(name: &str, status: StatusCode, cache: &'static str, reason: &'static str) -> Self {
        let text = format!("{} {}: {reason}\n", status.as_u16(), status.canonical_reason().unwrap_or("error"));
        let mut response = Response::new(Body::whole(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        entry(name).detail(reason).append_plainly_to(headers);
        Self::new(response, cache, reason)
    }

    /// The answer of a rule that redirects. Nothing is said of how long it holds: that is the rule's `headers` to say.
    pub(crate) fn redirect(name: &str, status: StatusCode, location: HeaderValue) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        entry(name).detail("redirect").append_plainly_to(headers);
        Self::new(response, "pass", "redirect")
    }
}

/// This tier's member of Cache-Status, to be filled in.
pub(crate) fn entry(name: &str) -> Entry<'_> {
    Entry(CacheStatus {
        cache: name,
        hit: false,
        fwd: None,
        fwd_status: None,
        ttl: None,
        stored: false,
        collapsed: false,
        key: None,
        detail: None,
    })
}

/// Builds a member of Cache-Status (RFC 9211 §2).
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a>(CacheStatus<'a>);

impl<'a> Entry<'a> {
    pub(crate) fn hit(mut self, ttl_ms: i64) -> Self {
        self.0.hit = true;
        self.0.ttl = Some(ttl_ms.div_euclid(1000));
        self
    }
    pub(crate) fn fwd(mut self, fwd: Fwd) -> Self {
        self.0.fwd = Some(fwd);
        self
    }
    pub(crate) fn fwd_status(mut self, status: Option<u16>) -> Self {
        self.0.fwd_status = status;
        self
    }
    pub(crate) fn stored(mut self, stored: bool) -> Self {
        self.0.stored = stored;
        self
    }
    pub(crate) fn collapsed(mut self, collapsed: bool) -> Self {
        self.0.collapsed = collapsed;
        self
    }
    pub(crate) fn detail(mut self, detail: &'a str) -> Self {
        self.0.detail = Some(detail);
        self
    }
    /// As the request may see it.
    pub(crate) fn append_to(&self, headers: &mut HeaderMap, ask: &Ask) {
        if ask.debug {
            CacheStatus { key: Some(&ask.key.to_string()), ..self.0 }.append_to(headers);
        } else {
            self.0.append_to(headers);
        }
    }
    /// Without its key.
    pub(crate) fn append_plainly_to(&self, headers: &mut HeaderMap) {
        self.0.append_to(headers);
    }
}
