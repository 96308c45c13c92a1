//! `[[site]]`: hosts that share origins and a policy.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Rule, Url};
use crate::id::{PopId, SiteId};

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
    /// What its steered names answer while all PoPs that a client may use are down.
    pub all_down: AllDown,
    /// Certificate and key files.
    pub tls: Option<SiteTls>,
    /// `[site.cache]`
    pub cache: CachePolicy,
    /// `[site.upstream]`
    pub upstream: UpstreamPolicy,
    /// `[[site.rule]]`, first match wins.
    pub rules: Vec<Rule>,
}

/// `site.all_down`: what a steered name answers while none of the PoPs that a client may use is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllDown {
    /// `"nearest"`: as if all were up, since a probe may err where a client does not.
    #[default]
    Nearest,
    /// `"last_known"`: those that were up until shortly before the last of them went.
    LastKnown,
    /// `"nodata"`: no address.
    NoData,
    /// `{ cname = NAME }`: another name, lower-case, without the trailing dot.
    Cname(String),
}

/// `site.tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTls {
    /// PEM chain, relative to the document.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// Whether who asks over `http` is sent to `https`. Default false.
    pub redirect: bool,
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
    /// What a HEAD does that finds nothing usable.
    pub head: HeadPolicy,
    /// Whether clients see targeted cache control.
    pub targeted_cache_control: TargetedCacheControl,
    /// Variants kept of one URL; 1..=1024.
    pub vary_limit: usize,
    /// Larger objects pass through unstored.
    pub object_bytes_max: u64,
    /// Smaller objects, of status 200, pass through unstored; at most `object_bytes_max`.
    pub object_bytes_min: u64,
    /// What goes to the disk.
    pub admission: DiskAdmission,
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
            head: HeadPolicy::Pass,
            targeted_cache_control: TargetedCacheControl::Remove,
            vary_limit: 64,
            object_bytes_max: 16 << 30,
            object_bytes_min: 0,
            admission: DiskAdmission::Always,
            surrogate_key_headers: ["surrogate-key", "cache-tag", "cache-groups"]
                .map(http::HeaderName::from_static)
                .into(),
        }
    }
}

/// `site.cache.admission`: when an object goes to the disk. Memory takes what it can in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAdmission {
    /// Whenever it is fetched.
    Always,
    /// When its key is fetched the second time: what is asked for once costs the disk nothing.
    SecondFetch,
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

/// `site.cache.head`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadPolicy {
    /// It goes on as a HEAD; what it brings updates what is stored (RFC 9111 §4.3.5).
    Pass,
    /// The object is fetched with GET and stored; the client gets its head.
    Fill,
}

/// `site.cache.targeted_cache_control`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetedCacheControl {
    /// It ends at the edge.
    Remove,
    /// Clients get it, so that caches behind the CDN may obey it too (RFC 9213 §2.2).
    Pass,
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
    /// How `https` origins are recognised.
    pub tls: UpstreamTls,
}

/// How a server that is asked over `https` is recognised; [`Default`]: by the public authorities and the host of its URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM certificates that are trusted instead of the public authorities, relative to the document.
    pub ca: Option<PathBuf>,
    /// The name that it is asked for (SNI, RFC 6066 §3) and that its certificate must have; None: the host of its URL.
    pub name: Option<String>,
}

impl Default for UpstreamPolicy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(15),
            between_bytes_timeout: Duration::from_secs(10),
            retries: 2,
            connections_max: 256,
            tls: UpstreamTls::default(),
        }
    }
}
