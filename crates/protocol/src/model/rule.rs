//! `[[site.rule]]`: what a rule matches and what it does. Which rule fires is decided by `perigee_semantics::rules`.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::QueryPolicy;

/// `[[site.rule]]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// What it applies to.
    pub when: RuleMatch,
    /// What it says of caching.
    pub cache: RuleCache,
    /// What it does to request fields, once, where the request enters the fleet.
    pub request_headers: HeaderRules,
    /// What it does to response fields, towards clients only.
    pub headers: HeaderRules,
    /// Answers at once instead of serving.
    pub redirect: Option<Redirect>,
}

impl Rule {
    /// Whether it can be decided only when there is a response.
    pub fn needs_status(&self) -> bool {
        !self.when.status.is_empty()
    }
}

/// `site.rule.match`: every key that is there must match, of a list any element. An empty list: the key is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleMatch {
    /// Of the whole path as it was sent, without the query.
    pub path: Vec<PathPattern>,
    /// In lower case, without the dot.
    pub extension: Vec<String>,
    /// Of the host as the client sent it, without port.
    pub host: Vec<HostPattern>,
    /// GET stands for HEAD too.
    pub method: Vec<Method>,
    /// All of these fields, each with any of its patterns.
    pub header: Vec<(HeaderName, Vec<TextPattern>)>,
    /// Any of these cookies is there, whatever its value.
    pub cookie: Vec<String>,
    /// Of the response that upstream gave.
    pub status: Vec<StatusPattern>,
}

/// `site.rule.match.path`: a path in which `*` stands for any run of characters, `/` included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPattern(pub Arc<str>);

impl PathPattern {
    /// Whether the whole path matches, byte for byte.
    pub fn matches(&self, path: &str) -> bool {
        wildcard(self.0.as_bytes(), path.as_bytes())
    }
}

/// A pattern of a field's value, in which `*` stands for any run of bytes; `*` alone: the field is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextPattern(pub Arc<str>);

impl TextPattern {
    /// Whether the whole value matches, byte for byte.
    pub fn matches(&self, value: &[u8]) -> bool {
        wildcard(self.0.as_bytes(), value)
    }
}

/// A host in lower case, or `*.` and the end of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern(pub Arc<str>);

impl HostPattern {
    /// Whether a host without its port matches, in any case.
    pub fn matches(&self, host: &str) -> bool {
        match self.0.strip_prefix('*') {
            // `.example.com` and at least one character before it.
            Some(end) => host.len().checked_sub(end.len()).filter(|start| *start > 0).is_some_and(|start| {
                host.as_bytes().get(start..).is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
            }),
            None => self.0.eq_ignore_ascii_case(host),
        }
    }
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusPattern {
    /// `404`
    One(u16),
    /// `"5xx"`, by its first digit.
    Class(u16),
}

impl StatusPattern {
    /// Whether a status is the one or in the class.
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

/// Iterative `*` matching: linear in the text for one star, bounded by pattern × text for many.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(byte) {
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
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

/// `site.rule.cache`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCache {
    /// `cache = "pass"`: never looked up, never stored.
    pub pass: bool,
    /// Overrides the freshness the origin gave (not `no-store` and `private`).
    pub ttl: Option<Duration>,
    /// Whether `ttl` holds for errors (status 400 and up) too: the rule names the status.
    pub ttl_of_errors: bool,
    /// In place of the site's: where the origin says nothing.
    pub stale_while_revalidate: Option<Duration>,
    /// In place of the site's: where the origin says nothing.
    pub stale_if_error: Option<Duration>,
    /// The query is no part of the key.
    pub ignore_query: bool,
    /// In place of the site's.
    pub query: Option<QueryPolicy>,
    /// What is part of the key beside the URL.
    pub key: KeyParts,
}

/// `site.rule.cache.key`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyParts {
    /// Request fields whose values are part of the key.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values are part of the key; all others are not sent on. None: cookies are neither keyed nor removed.
    pub cookies: Option<Vec<String>>,
    /// The class of the client's device, by its User-Agent.
    pub device: bool,
    /// The client's country, by the geo database.
    pub country: bool,
}

impl KeyParts {
    /// Whether the URL alone is the key.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.cookies.is_none() && !self.device && !self.country
    }
}

/// `site.rule.headers` and `site.rule.request_headers`: `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Removed first.
    pub remove: Vec<HeaderName>,
    /// Put in place of whatever lines the field has.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added as a line of its own.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderRules {
    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// `site.rule.redirect`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to, in pieces.
    pub to: Vec<RedirectPiece>,
}

/// A piece of a redirect's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPiece {
    /// As it stands.
    Text(Arc<str>),
    /// `{host}`: the client's Host, with its port.
    Host,
    /// `{path}`: begins with `/`.
    Path,
    /// `{query}`: `?` and the query, nothing where there is none.
    Query,
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

    #[test]
    fn host_patterns() {
        let check = |pattern: &str, host: &str, expected: bool| {
            assert_eq!(HostPattern(pattern.into()).matches(host), expected, "{pattern} {host}");
        };
        check("a.example", "A.Example", true);
        check("a.example", "b.example", false);
        check("*.example", "a.example", true);
        check("*.example", "a.b.EXAMPLE", true);
        check("*.example", "example", false);
        check("*.example", ".example", false);
        check("*.example", "aexample", false);
        check("*.example", "", false);
        check("*.example", "ä.example", true);
    }

    #[test]
    fn status_patterns() {
        assert!(StatusPattern::One(404).matches(404) && !StatusPattern::One(404).matches(405));
        assert!(StatusPattern::Class(5).matches(500) && StatusPattern::Class(5).matches(599));
        assert!(!StatusPattern::Class(5).matches(499) && !StatusPattern::Class(5).matches(600));
    }
}
