//! The request as decisions see it, and the guard before everything else.

use std::{borrow::Cow, net::Ipv6Addr};

use http::{
    HeaderMap, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
};

use crate::fields::trim;

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

/// The longest method; longer is a 501 (RFC 9110 §9.1: a method we do not know).
pub const METHOD_BYTES_MAX: usize = 32;
/// The longest target; longer is a 414.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Refuses requests whose framing or target two parsers could read differently; normalises the rest.
///
/// What hyper refuses by itself is not checked again: folded lines, spaces before colons, control characters, bad lengths.
pub fn guard(parts: &http::request::Parts) -> Result<Normal<'_>, GuardError> {
    check_method(&parts.method)?;
    check_framing(parts)?;
    let authority = authority(parts)?;
    let path = path(parts)?;
    Ok(Normal { authority, path, query: parts.uri.query() })
}

const fn refuse(status: StatusCode, reason: &'static str) -> GuardError {
    GuardError { status, reason }
}

const fn bad(reason: &'static str) -> GuardError {
    refuse(StatusCode::BAD_REQUEST, reason)
}

fn check_method(method: &Method) -> Result<(), GuardError> {
    if method.as_str().len() > METHOD_BYTES_MAX {
        return Err(refuse(StatusCode::NOT_IMPLEMENTED, "method-too-long"));
    }
    match *method {
        // RFC 9110 §9.3.6: a tunnel is nothing that a cache of origins offers.
        Method::CONNECT => Err(refuse(StatusCode::NOT_IMPLEMENTED, "connect")),
        // RFC 9110 §9.3.8: it would show the client what tiers add to requests.
        Method::TRACE => Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "trace")),
        _ => Ok(()),
    }
}

/// RFC 9112 §6.1, §6.3: only messages whose length has one reading.
fn check_framing(parts: &http::request::Parts) -> Result<(), GuardError> {
    let headers = &parts.headers;
    // Nearly no request of a cache has any of them: one look at the fields that are there.
    if !headers.keys().any(|name| matches!(name.as_str(), "content-length" | "transfer-encoding" | "expect")) {
        return Ok(());
    }
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(bad("duplicate-content-length"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() {
            return Err(bad("duplicate-transfer-encoding"));
        }
        if parts.version != Version::HTTP_11 {
            return Err(bad("transfer-encoding-in-this-version"));
        }
        if !trim(coding.as_bytes()).eq_ignore_ascii_case(b"chunked") {
            return Err(refuse(StatusCode::NOT_IMPLEMENTED, "transfer-encoding"));
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(bad("transfer-encoding-and-content-length"));
        }
    }
    // RFC 9110 §10.1.1
    match headers.get(EXPECT) {
        Some(expected) if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(refuse(StatusCode::EXPECTATION_FAILED, "expectation"))
        }
        _ => Ok(()),
    }
}

/// RFC 9112 §3.2: exactly one Host, except that HTTP/1.0 may leave it out and HTTP/2 has `:authority`. A target in absolute
/// form must agree with it (§3.2.2 would let it win, and some parser behind us would not).
fn authority(parts: &http::request::Parts) -> Result<Cow<'_, str>, GuardError> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let (host, second) = (lines.next(), lines.next());
    if second.is_some() {
        return Err(bad("duplicate-host"));
    }
    let host = match host {
        Some(line) => {
            Some(line.to_str().map(str::trim).ok().filter(|host| is_authority(host)).ok_or(bad("invalid-host"))?)
        }
        None => None,
    };
    let target = parts.uri.authority().map(|authority| authority.as_str());
    if target.is_some_and(|target| target.contains('@')) {
        return Err(bad("userinfo-in-target"));
    }
    if target.is_some_and(|target| !is_authority(target)) {
        return Err(bad("invalid-authority"));
    }
    match (host, target) {
        // RFC 9113 §8.3.1: such a request is malformed.
        (Some(host), Some(target)) if parts.version == Version::HTTP_2 && !host.eq_ignore_ascii_case(target) => {
            Err(bad("host-and-target-differ"))
        }
        // RFC 9112 §3.2.2: beside an absolute-form target, Host MUST be ignored.
        (Some(_), Some(target)) => Ok(lower(target)),
        (Some(host), _) => Ok(lower(host)),
        (None, Some(target)) if parts.version == Version::HTTP_2 => Ok(lower(target)),
        (None, target) if parts.version == Version::HTTP_10 => Ok(target.map_or(Cow::Borrowed(""), lower)),
        (None, _) => Err(bad("missing-host")),
    }
}

/// RFC 3986 §3.2 without userinfo: a name or IPv4 address, or an IP literal in brackets; then perhaps a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((literal, port)) if literal.parse::<Ipv6Addr>().is_ok() => {
                (literal, port.strip_prefix(':').or((port.is_empty()).then_some("")))
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let is_name = |host: &str| host.bytes().all(|b| NAME.get(usize::from(b)).is_some_and(|is| *is));
    let is_port =
        |port: &str| port.is_empty() || port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    !host.is_empty() && (text.starts_with('[') || is_name(host)) && port.is_some_and(is_port)
}

/// RFC 3986 §3.2.2: bytes of a reg-name.
static NAME: [bool; 256] = {
    let (mut bytes, others) = ([false; 256], b"-._~%!$&'()*+,;=");
    let mut byte = 0;
    while byte < 128 {
        bytes[byte as usize] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        bytes[others[at] as usize] = true;
        at += 1;
    }
    bytes
};

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// RFC 9112 §3.2: origin-form or absolute-form of http and https.
fn path(parts: &http::request::Parts) -> Result<&str, GuardError> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > TARGET_BYTES_MAX {
        return Err(refuse(StatusCode::URI_TOO_LONG, "target-too-long"));
    }
    // RFC 3986 §2: everything else is percent-encoded; two parsers may decode raw bytes differently.
    if !target.is_ascii() {
        return Err(bad("target-not-ascii"));
    }
    if parts.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(bad("scheme"));
    }
    match parts.uri.path() {
        "*" => Err(bad("asterisk-form")),
        path if path.starts_with('/') => Ok(path),
        _ => Err(bad("target-without-slash")),
    }
}

#[cfg(test)]
mod tests;
