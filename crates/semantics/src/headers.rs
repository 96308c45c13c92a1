//! Fields that intermediaries remove and add: hop-by-hop, Via, X-Forwarded-*, Forwarded, CDN-Loop.

use std::net::IpAddr;

use http::{HeaderMap, Version};
use perigee_protocol::model::Scheme;

/// Removes hop-by-hop fields and those that Connection nominates (RFC 9110 §7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let _ = headers;
}

/// Removes the fields that only tiers may send each other.
pub fn strip_internal(headers: &mut HeaderMap) {
    let _ = headers;
}

/// Appends this hop to Via (RFC 9110 §7.6.3). `version` is the protocol the message was received with.
pub fn append_via(headers: &mut HeaderMap, version: Version, pseudonym: &str) {
    let _ = (headers, version, pseudonym);
}

/// Appends the client to X-Forwarded-For and Forwarded (RFC 7239), and sets X-Forwarded-Proto and X-Forwarded-Host.
///
/// `trusted`: the sender is a peer of the fleet, so that what it said stands and is appended to; else it is replaced.
pub fn append_forwarded(headers: &mut HeaderMap, client: IpAddr, host: &str, scheme: Scheme, trusted: bool) {
    let _ = (headers, client, host, scheme, trusted);
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
    let _ = (headers, me, limit);
    Ok(())
}

/// Appends `me` to CDN-Loop (RFC 8586 §2).
pub fn append_cdn_loop(headers: &mut HeaderMap, me: &str) {
    let _ = (headers, me);
}
