//! Fields that intermediaries remove and add: hop-by-hop, Via, X-Forwarded-*, Forwarded, CDN-Loop.

use std::{fmt::Write as _, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE, EXPIRES, FORWARDED, HOST, SET_COOKIE, VARY, VIA},
};
use perigee_protocol::{
    headers::is_internal,
    model::{CachePolicy, Scheme, TargetedCacheControl},
};

use crate::{
    directives::{CDN_CACHE_CONTROL, PERIGEE_CACHE_CONTROL},
    fields::{is_token, list, split, trim},
};

pub use crate::fields::Decimal;

/// RFC 9211
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// RFC 8586
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// Whom a request is made for, hop by hop; only the last is known, and at a shield only of peers.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The authority that the client asked for; believed of peers only.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// RFC 9110 §7.6.1, and RFC 9111 §3.1's of proxies. Told by spelling, which the compiler turns into a look at the length and
/// one comparison: this is asked of every field of every request.
fn ends_at_next_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Never removed because Connection names them (RFC 9110 §7.6.1: a sender must not): they frame the message, limit its
/// caching or stop loops.
const NOT_NOMINABLE: [HeaderName; 11] =
    [AGE, CACHE_CONTROL, CDN_CACHE_CONTROL, CDN_LOOP, CONTENT_LENGTH, DATE, EXPIRES, HOST, SET_COOKIE, VARY, VIA];

/// Whether a field ends at the next hop, whatever Connection says, or frames the message.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    ends_at_next_hop(name) || *name == CONTENT_LENGTH
}

/// Which fields a message has that are looked at one by one. One pass over the few that are there is cheaper than asking
/// for each that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What [`strip_hop_by_hop`] removes.
    pub hop_by_hop: bool,
    /// What [`strip_internal`] removes, or Perigee-Cache-Control.
    pub internal: bool,
    /// CDN-Loop.
    pub cdn_loop: bool,
}

impl Survey {
    /// Looks at the names.
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |seen, name| Self {
            hop_by_hop: seen.hop_by_hop | ends_at_next_hop(name),
            internal: seen.internal | is_internal(name),
            cdn_loop: seen.cdn_loop | (name.as_str() == "cdn-loop"),
        })
    }
}

/// Removes hop-by-hop fields and those that Connection nominates (RFC 9110 §7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Alone it nominates a field that goes anyway; and it is what nearly every Connection says.
    let nominates = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    if headers.get_all(CONNECTION).into_iter().any(nominates) {
        let nominated: Vec<HeaderName> =
            list(headers, &CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
        for name in nominated.iter().filter(|name| !NOT_NOMINABLE.contains(name)) {
            headers.remove(name);
        }
    }
    // The few fields that are there are looked at, instead of hashing the many that may be.
    remove_where(headers, ends_at_next_hop);
}

/// Removes the fields that only tiers may send each other. Perigee-Cache-Control is none of them: origins send it.
pub fn strip_internal(headers: &mut HeaderMap) {
    remove_where(headers, |name| is_internal(name) && *name != PERIGEE_CACHE_CONTROL);
}

/// Removes what is between the origin and the CDN: targeted cache control unless policy says `pass` (RFC 9213 §2.2 leaves it
/// to caches), surrogate keys, internal fields. For responses to clients, not to peers. Cache-Groups stays: it is for every
/// cache (RFC 9875 §2).
pub fn strip_for_client(headers: &mut HeaderMap, policy: &CachePolicy) {
    let keeps_targeted = policy.targeted_cache_control == TargetedCacheControl::Pass;
    remove_where(headers, |name| match name.as_str() {
        "cdn-cache-control" | "perigee-cache-control" => !keeps_targeted,
        "cache-groups" => false,
        _ => is_internal(name) || policy.surrogate_key_headers.contains(name),
    });
}

fn remove_where(headers: &mut HeaderMap, condemned: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| condemned(name)).cloned() {
        headers.remove(name);
    }
}

/// Appends this hop to Via (RFC 9110 §7.6.3). `version` is the protocol the message was received with; `pseudonym` a token.
pub fn append_via(headers: &mut HeaderMap, version: Version, pseudonym: &str) {
    if let Some(via) = via(version, pseudonym) {
        headers.append(VIA, via);
    }
}

/// What [`append_via`] appends, for those who say the same every time; `None` if `pseudonym` is no token.
pub fn via(version: Version, pseudonym: &str) -> Option<HeaderValue> {
    let version = match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    HeaderValue::from_str(&format!("{version} {pseudonym}")).ok()
}

/// Whether a field would tell an origin another URL, host, scheme or method than those that the client asked for. Some
/// origins believe such fields, and keys do not have them.
fn misleads(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "front-end-https"
            | "x-forwarded-path"
            | "x-forwarded-port"
            | "x-forwarded-prefix"
            | "x-forwarded-protocol"
            | "x-forwarded-scheme"
            | "x-forwarded-server"
            | "x-forwarded-ssl"
            | "x-host"
            | "x-http-host-override"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-host"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-url-scheme"
    )
}

/// Removes a client's fields that could make an origin answer something else than what is asked for: it would be stored
/// for everybody. `keeps`: those that are the site's own doing, or part of the key.
pub fn strip_misleading(headers: &mut HeaderMap, keeps: impl Fn(&HeaderName) -> bool) {
    remove_where(headers, |name| misleads(name) && !keeps(name));
}

/// Whether there is a field that [`strip_misleading`] would remove: what comes of such a request is its client's own affair.
pub fn has_misleading(headers: &HeaderMap, keeps: impl Fn(&HeaderName) -> bool) -> bool {
    headers.keys().any(|name| misleads(name) && !keeps(name))
}

/// Appends the client to X-Forwarded-For and Forwarded (RFC 7239), and says X-Forwarded-Proto and X-Forwarded-Host.
///
/// `trusted`: the sender is a peer of the fleet, so that what it said of scheme and host stands; else it is replaced, and
/// all of Forwarded with it, of which some origins believe the first element (RFC 7239 §8.1: it cannot be relied on).
pub fn append_forwarded(headers: &mut HeaderMap, client: IpAddr, host: &str, scheme: Scheme, trusted: bool) {
    // A client on a dual-stack listener is the IPv4 address that it has.
    let client = client.to_canonical();
    append_to_list(headers, &X_FORWARDED_FOR, &client.to_string());
    for (name, value) in [(X_FORWARDED_PROTO, scheme.as_str()), (X_FORWARDED_HOST, host)] {
        if trusted && headers.contains_key(&name) {
            continue;
        }
        headers.remove(&name);
        if !value.is_empty() {
            append(headers, name, value);
        }
    }
    if !trusted {
        headers.remove(&FORWARDED);
    }
    // RFC 7239 §6: IPv6 addresses in brackets, and so in quotes.
    let mut element = match client {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    };
    if is_token(host.as_bytes()) {
        // Writing to a String cannot fail.
        write!(element, ";host={host}").unwrap_or_default();
    } else if !host.is_empty() && !host.contains(['"', '\\']) {
        write!(element, ";host=\"{host}\"").unwrap_or_default();
    }
    write!(element, ";proto={}", scheme.as_str()).unwrap_or_default();
    append_to_list(headers, &FORWARDED, &element);
}

/// One line in all: some origins read the first line only.
fn append_to_list(headers: &mut HeaderMap, name: &HeaderName, item: &str) {
    let mut whole = Vec::new();
    for line in headers.get_all(name) {
        whole.extend_from_slice(trim(line.as_bytes()));
        whole.extend_from_slice(b", ");
    }
    whole.extend_from_slice(item.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&whole) {
        headers.insert(name.clone(), value);
    }
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

/// The request was here before, or went through too many CDNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoopError {
    /// Our own id is in it.
    #[error("our own id is in CDN-Loop")]
    Loop,
    /// More entries than allowed.
    #[error("CDN-Loop has too many entries")]
    TooLong,
}

impl LoopError {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loop => "cdn-loop",
            Self::TooLong => "cdn-loop-too-long",
        }
    }
}

/// Refuses a request that `me` has forwarded before (RFC 8586 §2), or that names more than `limit` CDNs.
pub fn check_cdn_loop(headers: &HeaderMap, me: &str, limit: usize) -> Result<(), LoopError> {
    let mut count = 0;
    for info in list(headers, &CDN_LOOP) {
        // cdn-info = cdn-id *( OWS ";" OWS parameter ); ids are hosts or pseudonyms, so case does not count.
        if split(info, b';').next().is_some_and(|id| id.eq_ignore_ascii_case(me.as_bytes())) {
            return Err(LoopError::Loop);
        }
        count += 1;
    }
    if count > limit { Err(LoopError::TooLong) } else { Ok(()) }
}

/// Appends `me` to CDN-Loop (RFC 8586 §2).
pub fn append_cdn_loop(headers: &mut HeaderMap, me: &str) {
    append(headers, CDN_LOOP, me);
}

#[cfg(test)]
mod tests;
