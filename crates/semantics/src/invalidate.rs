//! What a successful unsafe request makes invalid (RFC 9111 §4.4, RFC 9875 §3).

use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LOCATION, LOCATION},
};
use perigee_protocol::{id::SiteId, model::Scheme};

use crate::{
    key::{CacheKey, strip_default_port},
    policy::Policy,
    tags::{self, CACHE_GROUP_INVALIDATION},
};

/// Groups that one response invalidates; more are not looked at. RFC 9875 §2 asks for at least 32.
pub const GROUPS_MAX: usize = 128;

/// The URL that a request was for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whose.
    pub site: &'a SiteId,
    /// Of the key.
    pub scheme: Scheme,
    /// Of the key.
    pub authority: &'a str,
    /// What the client asked for, where the site's `host_header` differs from it: origins may know either name.
    pub client_authority: &'a str,
    /// Begins with `/`.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
}

/// The keys that a response to `method` makes invalid: none unless the method is unsafe and the response no error.
///
/// The target itself, and what Location and Content-Location name on the same origin (another origin's word counts for
/// nothing there).
pub fn invalidated(
    method: &Method,
    status: StatusCode,
    response: &HeaderMap,
    target: Target<'_>,
    policy: &Policy<'_>,
) -> Vec<CacheKey> {
    if !invalidates(method, status) {
        return Vec::new();
    }
    let key = |path: &str, query: Option<&str>| {
        CacheKey::new(target.site, target.scheme, target.authority, path, query, policy)
    };
    let mut keys = vec![key(target.path, target.query)];
    for name in [LOCATION, CONTENT_LOCATION] {
        let named = response
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|reference| resolve(reference.trim(), target));
        if let Some((path, query)) = named {
            let key = key(&path, query);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// The cache groups that a response to `method` makes invalid, each once (RFC 9875 §3): every stored response of the target's
/// own origin that is in one of them.
pub fn invalidated_groups(method: &Method, status: StatusCode, response: &HeaderMap) -> Vec<Box<str>> {
    if !invalidates(method, status) {
        return Vec::new();
    }
    let mut groups = tags::groups(response, &CACHE_GROUP_INVALIDATION);
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(GROUPS_MAX);
    groups
}

fn invalidates(method: &Method, status: StatusCode) -> bool {
    // RFC 9110 §9.2.1; a method nobody knows is unsafe.
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    // RFC 9111 §4.4: a non-error status is 2xx or 3xx.
    !is_safe && (status.is_success() || status.is_redirection())
}

/// Whether a response says that its content is a current representation of the target (RFC 9110 §8.7).
pub(crate) fn represents(response: &HeaderMap, target: Target<'_>) -> bool {
    let mut lines = response.get_all(CONTENT_LOCATION).into_iter();
    let only = lines.next().filter(|_| lines.next().is_none()).and_then(|value| value.to_str().ok());
    only.and_then(|reference| resolve(reference.trim(), target))
        .is_some_and(|(path, query)| path == target.path && query == target.query)
}

/// Path and query of a reference on the target's own origin (RFC 3986 §5.2); `None` elsewhere.
fn resolve<'r>(reference: &'r str, target: Target<'_>) -> Option<(String, Option<&'r str>)> {
    let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
    let rest = match reference.find(':') {
        // A scheme comes before any slash, question mark or bracket.
        Some(colon) if reference.get(..colon).is_some_and(is_scheme) => {
            let (scheme, rest) = reference.split_at_checked(colon)?;
            if !scheme.eq_ignore_ascii_case(target.scheme.as_str()) {
                return None;
            }
            let rest = rest.get(1..)?;
            rest.starts_with("//").then_some(rest)?
        }
        _ => reference,
    };
    let (is_absolute, rest) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at_checked(end)?;
            if !same_authority(authority, target) {
                return None;
            }
            (true, rest)
        }
        None => (false, rest),
    };
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = match path {
        "" if is_absolute => "/".to_owned(),
        "" => target.path.to_owned(),
        // RFC 3986 §5.2.3: a relative path takes the place of the last segment.
        relative if !relative.starts_with('/') => {
            let folder = target.path.rfind('/').and_then(|slash| target.path.get(..=slash)).unwrap_or("/");
            without_dots(&format!("{folder}{relative}"))
        }
        absolute => without_dots(absolute),
    };
    Some((path, query))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn same_authority(authority: &str, target: Target<'_>) -> bool {
    let plain = |authority| strip_default_port(authority, target.scheme);
    [target.authority, target.client_authority].iter().any(|own| plain(authority).eq_ignore_ascii_case(plain(own)))
}

/// RFC 3986 §5.2.4, of a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use perigee_protocol::model::CachePolicy;

    use super::*;
    use crate::policy::Tier;

    fn target(site: &SiteId) -> Target<'_> {
        Target {
            site,
            scheme: Scheme::Http,
            authority: "a.example",
            client_authority: "www.example:8080",
            path: "/dir/page",
            query: Some("q"),
        }
    }

    fn check(method: &str, status: u16, fields: &[(&'static str, &str)], expected: &[&str]) {
        let cache = CachePolicy::default();
        let policy = Policy { cache: &cache, rule: None, tier: Tier::Edge };
        let site: SiteId = "www".parse().unwrap();
        let target = target(&site);
        let response = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let keys = invalidated(&method, StatusCode::from_u16(status).unwrap(), &response, target, &policy);
        let found: Vec<_> = keys.iter().map(|key| key.to_string().replace("www http://a.example", "")).collect();
        assert_eq!(found, expected, "{method} {status} {fields:?}");
    }

    #[test]
    fn methods_and_statuses() {
        for unsafe_method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "WHATEVER"] {
            check(unsafe_method, 200, &[], &["/dir/page?q"]);
            check(unsafe_method, 303, &[], &["/dir/page?q"]);
            check(unsafe_method, 404, &[], &[]);
            check(unsafe_method, 500, &[], &[]);
        }
        for safe_method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            check(safe_method, 200, &[("location", "/x")], &[]);
        }
    }

    #[test]
    fn groups() {
        let check = |method: &str, status: u16, lines: &[&'static str], expected: &[&str]| {
            let line = |value: &&'static str| (CACHE_GROUP_INVALIDATION, HeaderValue::from_static(value));
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let found =
                invalidated_groups(&method, StatusCode::from_u16(status).unwrap(), &lines.iter().map(line).collect());
            assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{method} {status} {lines:?}");
        };
        check("POST", 200, &[r#""b";x=1, "a""#, r#""b""#], &["a", "b"]);
        check("WHATEVER", 303, &[r#""a""#], &["a"]);
        check("POST", 404, &[r#""a""#], &[]);
        // RFC 9875 §3: ignored on responses to safe methods.
        for safe in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            check(safe, 200, &[r#""a""#], &[]);
        }
        check("POST", 200, &[r#""a", b"#], &[]);
        check("POST", 200, &[], &[]);
        let many = |count: usize| (0..count).map(|n| format!("\"{n:03}\"")).collect::<Vec<_>>().join(",");
        for (count, taken) in [(GROUPS_MAX, GROUPS_MAX), (GROUPS_MAX + 1, GROUPS_MAX)] {
            let response = HeaderMap::from_iter([(CACHE_GROUP_INVALIDATION, many(count).parse().unwrap())]);
            assert_eq!(invalidated_groups(&Method::POST, StatusCode::OK, &response).len(), taken);
        }
    }

    #[test]
    fn representations() {
        let site: SiteId = "www".parse().unwrap();
        let target = target(&site);
        let check = |locations: &[&str], expected: bool| {
            let mut response = HeaderMap::new();
            for value in locations {
                response.append(CONTENT_LOCATION, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(represents(&response, target), expected, "{locations:?}");
        };
        check(&["/dir/page?q"], true);
        check(&["http://a.example/dir/page?q"], true);
        check(&["page?q"], true);
        check(&[], false);
        check(&["/dir/page"], false);
        check(&["/other?q"], false);
        check(&["http://b.example/dir/page?q"], false);
        check(&["/dir/page?q", "/dir/page?q"], false);
    }

    #[test]
    fn locations() {
        let same_origin =
            |reference: &str, path: &str| check("POST", 201, &[("location", reference)], &["/dir/page?q", path]);
        same_origin("/x", "/x");
        same_origin("/x?y=1#z", "/x?y=1");
        same_origin("x", "/dir/x");
        same_origin("../x", "/x");
        same_origin("../../../x", "/x");
        same_origin("./", "/dir/");
        same_origin("..", "/");
        same_origin("?other", "/dir/page?other");
        same_origin("http://a.example/x", "/x");
        same_origin("HTTP://A.EXAMPLE:80/x", "/x");
        same_origin("http://a.example", "/");
        same_origin("//a.example/x/./y", "/x/y");
        same_origin("http://www.example:8080/x", "/x");
        same_origin("//WWW.example:8080/x", "/x");
        for other in [
            "http://b.example/x",
            "https://a.example/x",
            "//b.example/x",
            "http://a.example:81/x",
            "http://www.example/x",
            "mailto:a@b.c",
            "http:x",
        ] {
            check("POST", 201, &[("location", other)], &["/dir/page?q"]);
        }
        check("POST", 200, &[("content-location", "/c"), ("location", "/l")], &["/dir/page?q", "/l", "/c"]);
        check("POST", 200, &[("content-location", "/dir/page?q")], &["/dir/page?q"]);
    }
}
