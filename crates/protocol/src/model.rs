//! The validated CDN document: what engines take. Made by [`crate::document::load`] only, so that whatever these types
//! hold has passed every rule; all names are lower-case, all lists that must not be empty are not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use crate::id::{NodeId, PopId, ShieldId, SiteId};

mod rule;
mod site;
mod zone;

pub use rule::{
    HeaderRules, HostPattern, KeyParts, PathPattern, Redirect, RedirectPiece, Rule, RuleCache, RuleMatch,
    StatusPattern, TextPattern,
};
pub use site::{
    AllDown, CachePolicy, ClientCacheControl, DiskAdmission, HeadPolicy, Origin, QueryPolicy, SetCookie, Site, SiteTls,
    TargetedCacheControl, UpstreamPolicy, UpstreamTls,
};

pub use zone::{Transfer, TsigAlgorithm, ZoneFile, ZoneSettings, ZoneTransferKey};

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
    /// `[zone]` without its records.
    pub zone: ZoneSettings,
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
    /// `[cdn.dns_tls]`; None: the nameservers speak in the clear only.
    pub dns_tls: Option<DnsTls>,
    /// `[cdn.rate_limit]`
    pub rate_limit: RateLimit,
    /// Who may ask `_why.NAME` why a name is answered as it is. Default: loopback.
    pub why: Vec<IpNet>,
}

/// `cdn.rate_limit`: what a network of clients may have by UDP without proving that it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Answers to one /24 or /56; 0: no limit. Default 1,000.
    pub responses_per_second: u32,
    /// Every so many-th query beyond is answered with TC; 0: none. Default 2.
    pub slip: u32,
    /// Networks without limit. Default: those that no forged answer leaves (loopback, private, shared, link-local and
    /// benchmarking addresses; RFC 6890).
    pub exempt: Vec<IpNet>,
}

impl Default for RateLimit {
    fn default() -> Self {
        const PRIVATE: [&str; 10] = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "198.18.0.0/15",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ];
        let exempt = PRIVATE.iter().filter_map(|network| network.parse().ok()).collect();
        Self { responses_per_second: 1_000, slip: 2, exempt }
    }
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

/// `[cdn.dns_tls]`: DNS over TLS, HTTPS and QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsTls {
    /// PEM chain, relative to the document.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// What every nameserver offers at its standard port, and what the zone says of them. Default: DoT and DoQ.
    pub offers: BTreeSet<DnsOffer>,
}

/// One of `cdn.dns_tls.offers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsOffer {
    /// `dot`: over TLS, port 853 (RFC 7858).
    Dot,
    /// `doq`: over QUIC, port 853 (RFC 9250).
    Doq,
    /// `doh`: over HTTPS, port 443, path `/dns-query` (RFC 8484).
    Doh,
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
    /// MMDB of autonomous systems. There is one where overrides or fences name any.
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
    /// Host bits are zero.
    pub prefixes: Vec<IpNet>,
    /// A file of more prefixes, relative to the document: see [`crate::prefix_file`].
    pub prefixes_file: Option<PathBuf>,
    /// Autonomous systems whose addresses are meant, but for those that a prefix of any override holds. Together with the
    /// prefixes at least one.
    pub asns: Vec<u32>,
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
    /// Clients → the only PoPs they may use; empty means any. `AS64500` is an autonomous system, `DE` a country (ISO 3166
    /// alpha-2), `continent:EU` a continent (AF, AN, AS, EU, NA, OC, SA), `*` all others; the first of these that a client is
    /// under decides.
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
    /// From what load on it sends clients elsewhere; None: never.
    pub load: Option<PopLoad>,
}

/// `pop.load`: marks of the load that a PoP's nodes report, of which 1.0 is all that they can bear. Defaults: 0.8, 0.95, 0.1,
/// 0.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PopLoad {
    /// Above it the PoP loses clients, a step at a time; 0.05..=1.0.
    pub target: f64,
    /// Above it steps are doubled; `target..=1.0`.
    pub max: f64,
    /// It regains clients when its load is so far below the target; at least 0.01, below the target.
    pub hysteresis: f64,
    /// The part of its clients that it loses at a time; 0.01..=0.5. It regains half of it at a time.
    pub step: f64,
}

impl Default for PopLoad {
    fn default() -> Self {
        Self { target: 0.8, max: 0.95, hysteresis: 0.1, step: 0.1 }
    }
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
    /// What edges speak to it.
    pub protocol: ShieldProtocol,
    /// How an `https` shield is recognised.
    pub tls: UpstreamTls,
}

/// `shield.protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShieldProtocol {
    /// `"http/1.1"`: one exchange at a time on each connection, and as many connections as that takes.
    #[default]
    Http1,
    /// `"h2"`: many exchanges on few connections. By ALPN over TLS, with prior knowledge otherwise.
    Http2,
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

/// `[[zone.record]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRecord {
    /// Full name, lower-case, no trailing dot, inside the zone.
    pub name: String,
    /// Upper-case mnemonic: one of [`crate::rdata::KINDS`], or `TYPE123`.
    pub kind: String,
    /// Time to live.
    pub ttl: Duration,
    /// Zone-file presentation form of each record's data; at least one; checked.
    pub values: Vec<String>,
}
