//! `[[site]]`: hosts that share origins and a policy.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::Url;
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
