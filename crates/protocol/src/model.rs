//! The validated CDN document: what engines take. Made by [`crate::document::load`] only, so that whatever these types
//! hold has passed every rule; all names are lower-case, all lists that must not be empty are not.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::id::{NodeId, PopId, ShieldId, SiteId};

/// The fleet, as one file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What the CDN is called and its DNS zone.
    pub cdn: Cdn,
    /// How addresses become places and places become PoPs.
    pub geo: Geo,
    /// Where purges and published documents are ordered.
    pub control: Control,
    /// Who may use the admin API.
    pub admin: Admin,
    /// At least one.
    pub pops: Vec<Pop>,
    /// May be empty: edges then ask origins directly.
    pub shields: Vec<Shield>,
    /// At least one.
    pub sites: Vec<Site>,
    /// `[[zone.record]]`, beside the steered names.
    pub records: Vec<StaticRecord>,
}

impl Document {
    /// The PoP of that id.
    pub fn pop(&self, id: &str) -> Option<&Pop> {
        self.pops.iter().find(|pop| pop.id.as_str() == id)
    }
    /// The shield of that id.
    pub fn shield(&self, id: &str) -> Option<&Shield> {
        self.shields.iter().find(|shield| shield.id.as_str() == id)
    }
    /// The site of that id.
    pub fn site(&self, id: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.id.as_str() == id)
    }
    /// The steered name of a site: `<site id>.<zone>`.
    pub fn site_name(&self, site: &Site) -> String {
        format!("{}.{}", site.id, self.cdn.zone)
    }
    /// Every host that a site answers to: its own, its steered name, and the zone's apex where that is the site's.
    pub fn site_hosts<'a>(&'a self, site: &'a Site) -> impl Iterator<Item = String> + 'a {
        let apex = (self.cdn.apex_site.as_ref() == Some(&site.id)).then(|| self.cdn.zone.clone());
        site.hosts.iter().cloned().chain([self.site_name(site)]).chain(apex)
    }
}

/// `[cdn]`
#[derive(Clone, Debug, PartialEq)]
pub struct Cdn {
    /// A word for people; also the identity in Via and CDN-Loop when a node has no id of its own.
    pub name: String,
    /// The zone's apex, lower-case, without the trailing dot.
    pub zone: String,
    /// NS records in order; the first is the SOA's MNAME. May be empty (the zone then names its own apex).
    pub nameservers: Vec<Nameserver>,
    /// SOA RNAME as a mail address, `hostmaster@cdn.example`.
    pub contact: String,
    /// TTL of steered answers.
    pub ttl: Duration,
    /// TTL of negative answers (RFC 2308 §5).
    pub negative_ttl: Duration,
    /// Which site answers at the zone's apex.
    pub apex_site: Option<SiteId>,
    /// File of the fleet's secret, relative to the document.
    pub secret_file: Option<PathBuf>,
    /// `[cdn.dnssec]`
    pub dnssec: Option<Dnssec>,
}

/// One of `cdn.nameservers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    /// Lower-case host name without the trailing dot.
    pub host: String,
    /// Glue; may be empty for a host outside the zone.
    pub addresses: Vec<IpAddr>,
}

/// `[cdn.dnssec]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnssec {
    /// Folder of the keys, relative to the document.
    pub keys: PathBuf,
    /// The signing algorithm.
    pub algorithm: DnssecAlgorithm,
}

/// `cdn.dnssec.algorithm`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnssecAlgorithm {
    /// `ecdsa-p256`, algorithm 13 (RFC 6605).
    EcdsaP256,
    /// `ed25519`, algorithm 15 (RFC 8080).
    Ed25519,
}

/// A point on the globe, in degrees; latitude -90..=90, longitude -180..=180.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// `[geo]`
#[derive(Clone, Debug, PartialEq)]
pub struct Geo {
    /// MMDB of cities, relative to the document. None: every client is at `default_location`.
    pub database: Option<PathBuf>,
    /// MMDB of autonomous systems.
    pub asn_database: Option<PathBuf>,
    /// For addresses that the database does not know. None: the first PoP's place.
    pub default_location: Option<Location>,
    /// Prefixes that go before the database.
    pub overrides: Vec<GeoOverride>,
    /// `[geo.steering]`
    pub steering: Steering,
}

/// `[[geo.override]]`
#[derive(Clone, Debug, PartialEq)]
pub struct GeoOverride {
    /// At least one; host bits are zero.
    pub prefixes: Vec<IpNet>,
    /// Where those clients go.
    pub target: OverrideTarget,
}

/// What an override says of its prefixes.
#[derive(Clone, Debug, PartialEq)]
pub enum OverrideTarget {
    /// They are sent to this PoP while it is up.
    Pop(PopId),
    /// They are at this place.
    Location(Location),
}

/// `[geo.steering]`
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// Addresses in one answer, nearest first; 1..=16.
    pub answers: usize,
    /// Distance is divided by it; finite and above 0; 1.0 where absent.
    pub bias: BTreeMap<PopId, f64>,
    /// ISO 3166 alpha-2 country code, or `*` for all others → the only PoPs it may use; empty means any.
    pub fence: BTreeMap<String, Vec<PopId>>,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Which engine orders the log.
    pub engine: ControlEngine,
    /// Of the nats engine.
    pub url: Option<String>,
    /// Of the nats engine.
    pub credentials: Option<PathBuf>,
}

/// `control.engine`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlEngine {
    /// In the process.
    Embedded,
    /// NATS JetStream.
    Nats,
}

/// `[admin]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// May be empty: whatever changes state is then refused.
    pub tokens: Vec<AdminToken>,
}

/// One of `admin.tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// For logs.
    pub name: String,
    /// SHA-256 of the bearer token.
    pub sha256: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// What an admin token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `purge`
    Purge,
    /// `drain`
    Drain,
    /// `read`
    Read,
}

/// `[[pop]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pop {
    /// Unique.
    pub id: PopId,
    /// For people.
    pub city: String,
    /// ISO 3166 alpha-2, upper-case; empty when not given.
    pub country: String,
    /// Where it is.
    pub location: Location,
    /// At least one. A PoP without `[[pop.node]]` has one node of its own id.
    pub nodes: Vec<PopNode>,
    /// How its addresses are probed.
    pub health: Health,
    /// Share among PoPs at one distance; 0: only when nothing else is left.
    pub weight: u32,
    /// When it is down: these in order, then the nearest.
    pub fallback: Vec<PopId>,
}

impl Pop {
    /// The addresses of all its nodes, in the document's order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.nodes.iter().flat_map(|node| node.addresses.iter().copied())
    }
}

/// `[[pop.node]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopNode {
    /// Unique in the document.
    pub id: NodeId,
    /// At least one; unique in the document. What DNS answers.
    pub addresses: Vec<IpAddr>,
}

/// `pop.health`: an HTTP GET of each address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Begins with `/`. Default `/.perigee/healthz`.
    pub path: String,
    /// Default 80.
    pub port: u16,
    /// Default 2 s.
    pub interval: Duration,
    /// Shorter than the interval. Default 1 s.
    pub timeout: Duration,
    /// Successes in a row that make it up; at least 1. Default 2.
    pub rise: u32,
    /// Failures in a row that make it down; at least 1. Default 3.
    pub fall: u32,
}

/// `[[shield]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shield {
    /// Unique.
    pub id: ShieldId,
    /// Where it listens.
    pub url: Url,
    /// The PoPs it serves first; others use it when theirs is down.
    pub pops: Vec<PopId>,
}

/// An `http` or `https` URL of a server: no user, path, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// A host name in lower case, or an address (IPv6 without brackets).
    pub host: String,
    /// Given, or the scheme's own.
    pub port: u16,
}

impl Url {
    /// `host`, or `host:port` where the port is not the scheme's own; IPv6 in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

/// Why a text is no [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be http://HOST, http://HOST:PORT or the same with https, without user, path or query")]
pub struct InvalidUrl;

impl std::str::FromStr for Url {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        crate::document::names::url(text).ok_or(InvalidUrl)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// `[[site]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Unique; also the label of its steered name.
    pub id: SiteId,
    /// Lower-case, without port; the steered name is not among them but counts as one. Unique in the document.
    pub hosts: Vec<String>,
    /// At least one.
    pub origins: Vec<Origin>,
    /// Sent to the origin and the authority of the cache key; None: the client's.
    pub host_header: Option<String>,
    /// Where it is served; None: everywhere (`["*"]`).
    pub pops: Option<Vec<PopId>>,
    /// Certificate and key files.
    pub tls: Option<SiteTls>,
    /// `[site.cache]`
    pub cache: CachePolicy,
    /// `[site.upstream]`
    pub upstream: UpstreamPolicy,
    /// `[[site.rule]]`, first match wins.
    pub rules: Vec<Rule>,
}

impl Site {
    /// The policy for a path: the first rule that matches, over the site's own. `path` is the request's, without query.
    pub fn rule(&self, path: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.path.matches(path))
    }
}

/// `site.tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTls {
    /// PEM chain, relative to the document.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// One of `site.origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it listens.
    pub url: Url,
    /// Share among the origins; at least 1.
    pub weight: u32,
    /// Asked only when the others are down.
    pub backup: bool,
}

/// `[site.cache]`; [`Default`] is the document's: RFC 9111 as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CachePolicy {
    /// For responses without freshness information; 0: heuristics only.
    pub default_ttl: Duration,
    /// Longest freshness.
    pub max_ttl: Duration,
    /// Where the origin says nothing.
    pub stale_while_revalidate: Duration,
    /// Where the origin says nothing.
    pub stale_if_error: Duration,
    /// Status → how long it is stored where the origin says nothing.
    pub negative_ttl: BTreeMap<u16, Duration>,
    /// What of the query is part of the key.
    pub query: QueryPolicy,
    /// What becomes of responses with Set-Cookie.
    pub set_cookie: SetCookie,
    /// Whether Cache-Control of requests counts.
    pub client_cache_control: ClientCacheControl,
    /// Variants kept of one URL; 1..=1024.
    pub vary_limit: usize,
    /// Larger objects pass through unstored.
    pub object_bytes_max: u64,
    /// Response fields that hold surrogate keys.
    pub surrogate_key_headers: Vec<http::HeaderName>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            default_ttl: Duration::ZERO,
            max_ttl: 365 * DAY,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: DAY,
            negative_ttl: BTreeMap::new(),
            query: QueryPolicy::default(),
            set_cookie: SetCookie::Pass,
            client_cache_control: ClientCacheControl::Ignore,
            vary_limit: 64,
            object_bytes_max: 16 << 30,
            surrogate_key_headers: ["surrogate-key", "cache-tag", "cache-groups"]
                .map(http::HeaderName::from_static)
                .into(),
        }
    }
}

/// `site.cache.query`; [`Default`]: verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPolicy {
    /// Parameters that are kept: names, or prefixes ending in `*`.
    pub keep: Vec<String>,
    /// Parameters that are dropped, after `keep`.
    pub drop: Vec<String>,
    /// Whether parameters are put in order.
    pub sort: bool,
}

impl Default for QueryPolicy {
    fn default() -> Self {
        Self { keep: vec!["*".into()], drop: Vec::new(), sort: false }
    }
}

impl QueryPolicy {
    /// Whether a query is part of the key byte for byte.
    pub fn is_verbatim(&self) -> bool {
        !self.sort && self.drop.is_empty() && self.keep.iter().any(|pattern| pattern == "*")
    }
}

/// `site.cache.set_cookie`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// Answered, not stored.
    Pass,
    /// Stored and answered without the field.
    Strip,
    /// Stored and answered with it.
    Store,
}

/// `site.cache.client_cache_control`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCacheControl {
    /// Clients cannot drive origin load.
    Ignore,
    /// RFC 9111 §5.2.1 is obeyed.
    Honour,
}

/// `[site.upstream]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPolicy {
    /// Default 2 s.
    pub connect_timeout: Duration,
    /// From the request sent to the response's head. Default 15 s.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body. Default 10 s.
    pub between_bytes_timeout: Duration,
    /// After the first attempt; 0..=10. Default 2.
    pub retries: u32,
    /// To one upstream from one process; 1..=65535. Default 256.
    pub connections_max: usize,
}

impl Default for UpstreamPolicy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(15),
            between_bytes_timeout: Duration::from_secs(10),
            retries: 2,
            connections_max: 256,
        }
    }
}

/// `[[site.rule]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it applies to.
    pub path: PathPattern,
    /// What it says of caching.
    pub cache: RuleCache,
    /// What it does to response headers, towards clients only.
    pub headers: HeaderRules,
}

/// `site.rule.match.path`: a path in which `*` stands for any run of characters, `/` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(pub Arc<str>);

impl PathPattern {
    /// Whether the whole path matches, byte for byte.
    pub fn matches(&self, path: &str) -> bool {
        wildcard(self.0.as_bytes(), path.as_bytes())
    }
}

/// Iterative `*` matching: linear in the text for one star, bounded by pattern × text for many.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|b| *b == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_at, taken)) = star {
            p = star_at + 1;
            t = taken + 1;
            star = Some((star_at, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// `site.rule.cache`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCache {
    /// `cache = "pass"`: never looked up, never stored.
    pub pass: bool,
    /// Overrides the freshness the origin gave (not `no-store` and `private`).
    pub ttl: Option<Duration>,
    /// The query is no part of the key.
    pub ignore_query: bool,
}

/// `site.rule.headers`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Set on responses to clients.
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Removed from responses to clients, before `set`.
    pub remove: Vec<http::HeaderName>,
}

/// `[[zone.record]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRecord {
    /// Full name, lower-case, no trailing dot, inside the zone.
    pub name: String,
    /// Upper-case mnemonic: one of A, AAAA, CAA, CNAME, MX, NS, PTR, SRV, TXT.
    pub kind: String,
    /// Time to live.
    pub ttl: Duration,
    /// Zone-file presentation form of each record's data; at least one; checked.
    pub values: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_patterns() {
        let check = |pattern: &str, path: &str, expected: bool| {
            assert_eq!(PathPattern(pattern.into()).matches(path), expected, "{pattern} {path}");
        };
        check("/api/*", "/api/", true);
        check("/api/*", "/api/a/b", true);
        check("/api/*", "/api", false);
        check("*", "", true);
        check("*.css", "/a/b.css", true);
        check("*.css", "/a/b.css/", false);
        check("/a*b*c", "/aXbYc", true);
        check("/a*b*c", "/abbbc", true);
        check("/a*b*c", "/acb", false);
        check("/exact", "/exact", true);
        check("/exact", "/exactly", false);
    }
}
