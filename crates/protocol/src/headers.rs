//! Names of the header fields that tiers send each other. Stripped from clients and origins; believed only beside a
//! valid [`crate::proof`].

use http::HeaderName;

/// Every internal field begins so.
pub const INTERNAL_PREFIX: &str = "perigee-";

/// Proves that the sender holds the fleet's secret; see [`crate::proof`]. On requests and on responses.
pub const PROOF: HeaderName = HeaderName::from_static("perigee-proof");
/// Request: the site that the edge routed to, so that the shield need not know the client's host.
pub const SITE: HeaderName = HeaderName::from_static("perigee-site");
/// Request: the authority of the cache key, when it is not the request's own Host.
pub const KEY_AUTHORITY: HeaderName = HeaderName::from_static("perigee-key-authority");
/// Request: which rules of the site the client's own request matched; see `perigee_semantics::rules::Choice::claim`.
pub const RULE: HeaderName = HeaderName::from_static("perigee-rule");
/// Request: `http` or `https`, the scheme of the cache key: how the client asked the edge.
pub const KEY_SCHEME: HeaderName = HeaderName::from_static("perigee-key-scheme");
/// Request: `1` where the edge records the request in a trace, whose `traceparent` is then its own, `0` where it decided not to.
pub const TRACED: HeaderName = HeaderName::from_static("perigee-traced");
/// Response: the object's current age in milliseconds, where `Age` has only whole seconds.
pub const AGE_MS: HeaderName = HeaderName::from_static("perigee-age-ms");

/// Response of the health path: how much of what the node can bear it bears, 1.0 for all, as a decimal fraction.
pub const LOAD: HeaderName = HeaderName::from_static("perigee-load");
/// Response of the health path: `1` while the node is about to end.
pub const DRAINING: HeaderName = HeaderName::from_static("perigee-draining");

/// Request: an operator's token, for which Cache-Status says the key. Of clients, and believed as far as the token is known.
pub const DEBUG: HeaderName = HeaderName::from_static("perigee-debug");

/// Whether a field is ours alone. Header names in `http` are lower-case already.
pub fn is_internal(name: &HeaderName) -> bool {
    name.as_str().starts_with(INTERNAL_PREFIX)
}
