//! DNS over HTTPS (RFC 8484): a message in a request, the answer in its response. HTTP itself, with its limits and
//! time-outs, is `perigee_node::http`'s.
//!
//! Deliberately absent: CORS (a page has no business with an authoritative server), JSON, and HTTP in the clear.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use perigee_dns::{asked, freshness_s};
use perigee_node::http::{Connection, Content, HttpService, Limits};
use tokio::time;

use crate::{
    answerer::Answerer,
    room::{CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX},
    stream::IDLE_TIMEOUT,
};

/// RFC 8484 §4.1.1, RFC 9461 §5: what SVCB tells of, and what is usual.
const PATH: &str = "/dns-query";
/// RFC 8484 §6
const MESSAGE_TYPE: &str = "application/dns-message";
/// RFC 8484 §6
const MESSAGE_BYTES_MAX: usize = 65_535;
/// A request's head: whatever a query needs of it, and room for what proxies add.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// A connection of HTTP is dear to make, so that it is kept longer than one of TCP.
const HTTPS_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How much is taken on.
pub(crate) fn limits() -> Limits {
    Limits {
        connections_max: CONNECTIONS_MAX,
        client_connections_max: u32::try_from(CONNECTIONS_PER_CLIENT_MAX).ok(),
        header_bytes_max: HEADER_BYTES_MAX,
        header_timeout: IDLE_TIMEOUT,
        idle_timeout: HTTPS_IDLE_TIMEOUT,
        write_timeout: IDLE_TIMEOUT,
        ..Limits::default()
    }
}

/// Answers the requests of all cores.
#[derive(Debug)]
pub(crate) struct Doh {
    /// By core, and so never contended.
    answerers: Vec<Mutex<Answerer>>,
}

impl Doh {
    pub(crate) fn new(answerers: impl IntoIterator<Item = Answerer>) -> Self {
        Self { answerers: answerers.into_iter().map(Mutex::new).collect() }
    }

    /// The answer, and what HTTP caches are told of it; None: it deserves none.
    fn answer(&self, connection: &Connection, message: &[u8]) -> Option<(Bytes, String)> {
        let mut reply = Vec::new();
        let answerer = self.answerers.get(connection.core())?;
        let mut answerer = answerer.lock().unwrap_or_else(PoisonError::into_inner);
        answerer.at(|| Some(connection.local()));
        if !answerer.answer(connection.peer(), message, &mut reply) {
            return None;
        }
        let freshness = match freshness_s(&reply) {
            // What depends on who asked is not for the next one behind a shared cache. Who tells a subnet is answered for
            // that, and the subnet is part of the URL.
            Some(ttl_s) if answerer.was_steered() && asked(message).is_none_or(|asked| asked.subnet.is_none()) => {
                format!("private, max-age={ttl_s}")
            }
            Some(ttl_s) => format!("max-age={ttl_s}"),
            None => "no-store".to_owned(),
        };
        Some((reply.into(), freshness))
    }
}

impl HttpService for Doh {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Content>, connection: &Arc<Connection>) -> Response<Self::Body> {
        let is_head = request.method() == Method::HEAD;
        let answered = match message(request).await {
            Ok(message) => self.answer(connection, &message).ok_or(Refusal::NoQuery),
            Err(refusal) => Err(refusal),
        };
        match answered {
            Ok((reply, freshness)) => respond(reply, &freshness, is_head),
            Err(refusal) => refusal.response(),
        }
    }
}

fn respond(reply: Bytes, freshness: &str, is_head: bool) -> Response<Full<Bytes>> {
    let length = HeaderValue::from(reply.len());
    let mut response = Response::new(Full::new(if is_head { Bytes::new() } else { reply }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MESSAGE_TYPE));
    headers.insert(header::CONTENT_LENGTH, length);
    // Digits and words of ours.
    if let Ok(freshness) = HeaderValue::from_str(freshness) {
        headers.insert(header::CACHE_CONTROL, freshness);
    }
    response
}

/// Why a request has no answer of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Path,
    Method,
    NoQuery,
    MediaType,
    TooLarge,
    TooLate,
}

impl Refusal {
    fn response(self) -> Response<Full<Bytes>> {
        let (status, text) = match self {
            Self::Path => (StatusCode::NOT_FOUND, "the path is /dns-query\n"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD and POST are known\n"),
            Self::NoQuery => {
                (StatusCode::BAD_REQUEST, "no query of DNS: GET has it in ?dns=, base64url without padding\n")
            }
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "POST takes application/dns-message\n"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "a query has at most 65535 bytes\n"),
            Self::TooLate => (StatusCode::REQUEST_TIMEOUT, "the query took too long\n"),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self == Self::Method {
            // RFC 9110 §15.5.6
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        response
    }
}

/// RFC 8484 §4.1
async fn message(request: Request<Content>) -> Result<Bytes, Refusal> {
    if request.uri().path() != PATH {
        return Err(Refusal::Path);
    }
    match *request.method() {
        Method::GET | Method::HEAD => in_target(request.uri().query().unwrap_or_default()),
        Method::POST => {
            let media_type = request.headers().get(header::CONTENT_TYPE);
            if !media_type.is_some_and(is_message) || request.headers().contains_key(header::CONTENT_ENCODING) {
                return Err(Refusal::MediaType);
            }
            content(request.into_body()).await
        }
        _ => Err(Refusal::Method),
    }
}

/// The variable `dns` of the usual template.
fn in_target(query: &str) -> Result<Bytes, Refusal> {
    let encoded = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
    // RFC 8484 §6: padding MUST NOT be there.
    let decoded = encoded.and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    decoded.map(Bytes::from).ok_or(Refusal::NoQuery)
}

/// RFC 9110 §8.3.1: in any case, and with parameters, of which this type has none.
fn is_message(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(MESSAGE_TYPE))
}

async fn content(body: Content) -> Result<Bytes, Refusal> {
    let collected = time::timeout(IDLE_TIMEOUT, Limited::new(body, MESSAGE_BYTES_MAX).collect()).await;
    match collected.map_err(|_| Refusal::TooLate)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        // The client went away, or never meant it.
        Err(_) => Err(Refusal::NoQuery),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_get() {
        let check = |query: &str, expected: Result<&[u8], Refusal>| {
            assert_eq!(in_target(query), expected.map(Bytes::copy_from_slice), "{query}");
        };
        check("dns=AAEC", Ok(&[0, 1, 2]));
        check("dns=-_8", Ok(&[0xfb, 0xff]));
        check("a=b&dns=AAEC&dns=xx", Ok(&[0, 1, 2]));
        check("dns=", Ok(&[]));
        for bad in ["", "dns", "xdns=AAEC", "dns=AAE=", "dns=AAE%3D", "dns=A", "dns=+/8", "dns=AA EC", "DNS=AAEC"] {
            check(bad, Err(Refusal::NoQuery));
        }
    }

    #[test]
    fn media_types() {
        let check = |value: &'static str, expected| {
            assert_eq!(is_message(&HeaderValue::from_static(value)), expected, "{value}");
        };
        check("application/dns-message", true);
        check("Application/DNS-Message; x=y", true);
        check("application/dns-json", false);
        check("application/dns-messages", false);
        check("", false);
    }
}
