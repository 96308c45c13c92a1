//! `[[site.rule]]`: what a rule matches, what it does, and what cannot stand beside what.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, header};

use super::{
    cache::{self, ANY_TTL, header_name},
    limits::{
        COOKIE_NAME_BYTES_MAX, EXTENSION_BYTES_MAX, KEY_FIELDS_MAX, METHOD_BYTES_MAX, PATH_PATTERN_BYTES_MAX,
        PATH_PATTERN_STARS_MAX, REDIRECT_BYTES_MAX, RULE_HEADERS_MAX, RULE_PATTERNS_MAX,
    },
    names,
    value::{Seen, Value},
};
use crate::model::{
    HeaderRules, HostPattern, KeyParts, PathPattern, Redirect, RedirectPiece, Rule, RuleCache, RuleMatch,
    StatusPattern, TextPattern,
};

/// Request fields that rules may not touch: who is asked, and what stops loops and waits.
const REQUEST_FIELDS_KEPT: [HeaderName; 3] = [header::HOST, header::EXPECT, HeaderName::from_static("cdn-loop")];
/// Request fields that are no part of a key: a fetch for the cache goes without them, or they have a key of their own.
const NEVER_KEYED: [HeaderName; 8] = [
    header::HOST,
    header::COOKIE,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];
const EARLY: &str = "must not stand beside match.status: it is done before there is a response";
const EARLY_REMEDY: &str =
    "move it to a rule without status; beside status stand ttl, stale_while_revalidate, stale_if_error and headers";

/// `has_geo`: whether the document names a geo database.
pub(crate) fn rule(value: &Value<'_>, has_geo: bool) -> Option<Rule> {
    let mut table = value.table()?;
    let when = table.must("match", "{ path = \"/static/*\" }", matching);
    let cache = table.or("cache", RuleCache::default(), "what the site says", |value| rule_cache(value, has_geo));
    let request_headers =
        table.or("request_headers", HeaderRules::default(), "none", |value| header_rules(value, &REQUEST_FIELDS_KEPT));
    let headers = table.or("headers", HeaderRules::default(), "none", |value| header_rules(value, &[]));
    let redirect = table.maybe("redirect", redirect);
    let mut rule =
        Rule { when: when?, cache: cache?, request_headers: request_headers?, headers: headers?, redirect: redirect? };
    rule.cache.ttl_of_errors = rule.needs_status();
    agrees(value, &rule).then_some(rule)
}

/// Whether what the rule does can be done when it is decided; reports what cannot.
fn agrees(value: &Value<'_>, rule: &Rule) -> bool {
    let mut agrees = true;
    let mut refuse = |key: &str, law: &str, remedy: &str| {
        agrees = false;
        if let Some(value) = value.peek(key) {
            value.wrong(law, remedy);
        }
    };
    let cache = &rule.cache;
    if rule.needs_status() {
        if cache.pass || cache.ignore_query || cache.query.is_some() || !cache.key.is_empty() {
            refuse("cache", EARLY, EARLY_REMEDY);
        }
        if !rule.request_headers.is_empty() {
            refuse("request_headers", EARLY, EARLY_REMEDY);
        }
        if rule.redirect.is_some() {
            refuse("redirect", EARLY, EARLY_REMEDY);
        }
    } else if rule.redirect.is_some() {
        let law = "must not stand beside redirect, which answers before anything is looked up or asked";
        for key in ["cache", "request_headers"] {
            if value.peek(key).is_some() {
                refuse(key, law, "remove one of the two");
            }
        }
    }
    agrees
}

fn matching(value: &Value<'_>) -> Option<RuleMatch> {
    let mut table = value.table()?;
    let path = table.or("path", Vec::new(), "any", |value| some(value, path_pattern));
    let extension = table.or("extension", Vec::new(), "any", |value| some(value, extension));
    let host = table.or("host", Vec::new(), "any", |value| some(value, host_pattern));
    let method = table.or("method", Vec::new(), "any", |value| some(value, method));
    let header = table.or("header", Vec::new(), "any", fields);
    let cookie = table.or("cookie", Vec::new(), "any", |value| some(value, cookie_name));
    let status = table.or("status", Vec::new(), "any", |value| some(value, status));
    let when = RuleMatch {
        path: path?,
        extension: extension?,
        host: host?,
        method: method?.iter().filter_map(|method: &String| Method::from_bytes(method.as_bytes()).ok()).collect(),
        header: header?,
        cookie: cookie?,
        status: status?,
    };
    if when == RuleMatch::default() {
        table.refuse(
            "must say what the rule applies to",
            "for example { path = \"/static/*\" }, or path = \"*\" for all",
        );
        return None;
    }
    Some(when)
}

/// One, or a list of at least one.
fn some<'a, T: Ord + Clone>(value: &Value<'a>, f: impl Fn(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
    if value.is_array() { value.set(1..=RULE_PATTERNS_MAX, f) } else { f(value).map(|one| vec![one]) }
}

fn path_pattern(value: &Value<'_>) -> Option<PathPattern> {
    let law = format!(
        "must be a path of visible ASCII that begins with / or *, at most {PATH_PATTERN_BYTES_MAX} bytes with at most {PATH_PATTERN_STARS_MAX} *, without ? and #"
    );
    value.parse(&law, |text| {
        let well_formed = text.starts_with(['/', '*'])
            && is_short(text)
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        well_formed.then(|| PathPattern(text.into()))
    })
}

/// A pattern whose matching costs little.
fn is_short(text: &str) -> bool {
    text.len() <= PATH_PATTERN_BYTES_MAX && text.matches('*').count() <= PATH_PATTERN_STARS_MAX
}

fn extension(value: &Value<'_>) -> Option<String> {
    let law = format!(
        "must be what stands after the last dot of a path: 1 to {EXTENSION_BYTES_MAX} letters, digits, - and _"
    );
    value.parse(&law, |text| {
        let well_formed = (1..=EXTENSION_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        well_formed.then(|| text.to_ascii_lowercase())
    })
}

fn host_pattern(value: &Value<'_>) -> Option<HostPattern> {
    value.parse("must be a host name without port, or *. and the end of one", |text| {
        let host = names::host_name(text.strip_prefix("*.").unwrap_or(text))?;
        Some(HostPattern(if text.starts_with("*.") { format!("*.{host}").into() } else { host.into() }))
    })
}

/// In a text that sorts.
fn method(value: &Value<'_>) -> Option<String> {
    let law = format!("must be a method, which is case-sensitive: \"GET\"; at most {METHOD_BYTES_MAX} bytes");
    value.parse(&law, |text| (text.len() <= METHOD_BYTES_MAX && names::is_token(text)).then(|| text.to_owned()))
}

fn cookie_name(value: &Value<'_>) -> Option<String> {
    let law =
        format!("must be the name of a cookie (RFC 6265 §4.1.1: a token) of at most {COOKIE_NAME_BYTES_MAX} bytes");
    value.parse(&law, |text| (text.len() <= COOKIE_NAME_BYTES_MAX && names::is_token(text)).then(|| text.to_owned()))
}

fn status(value: &Value<'_>) -> Option<StatusPattern> {
    if !value.is_string() {
        let status = value.integer(200..=599).and_then(|status| u16::try_from(status).ok())?;
        if matches!(status, 206 | 304) {
            value.wrong("must not be 206 or 304, which count as the 200 that they are of", "say 200");
            return None;
        }
        return Some(StatusPattern::One(status));
    }
    value.choice(&[
        ("2xx", StatusPattern::Class(2)),
        ("3xx", StatusPattern::Class(3)),
        ("4xx", StatusPattern::Class(4)),
        ("5xx", StatusPattern::Class(5)),
    ])
}

/// `{ "X-Beta" = "1", Accept = ["*image/webp*", "*image/avif*"] }`
fn fields(value: &Value<'_>) -> Option<Vec<(HeaderName, Vec<TextPattern>)>> {
    let law = format!(
        "must be visible ASCII with inner spaces only, * for any run; at most {PATH_PATTERN_BYTES_MAX} bytes with at most {PATH_PATTERN_STARS_MAX} *"
    );
    let fields = named(value, |value| {
        some(value, |value| {
            value.parse(&law, |text| {
                (is_value(text) && is_short(text) && !text.is_empty()).then(|| TextPattern(text.into()))
            })
        })
    })?;
    if fields.iter().any(|(name, _)| *name == header::HOST) {
        value.wrong(
            "must not name Host, which the request's fields are without",
            "say host = \"www.example.com\" in match",
        );
        return None;
    }
    Some(fields)
}

fn rule_cache(value: &Value<'_>, has_geo: bool) -> Option<RuleCache> {
    if value.is_string() {
        return value.choice(&[("pass", ())]).map(|()| RuleCache { pass: true, ..RuleCache::default() });
    }
    if !value.is_table() {
        value.refuse("must be \"pass\", or a table such as { ttl = \"1h\" }");
        return None;
    }
    let mut table = value.table()?;
    let ttl = table.maybe("ttl", |value| value.duration(ANY_TTL));
    let stale_while_revalidate = table.maybe("stale_while_revalidate", |value| value.duration(ANY_TTL));
    let stale_if_error = table.maybe("stale_if_error", |value| value.duration(ANY_TTL));
    let ignore_query = table.or("ignore_query", false, "false", Value::boolean);
    let query = table.maybe("query", cache::query);
    let key = table.or("key", KeyParts::default(), "the URL alone", |value| key_parts(value, has_geo));
    if ignore_query == Some(true)
        && let Some(query) = value.peek("query")
    {
        query.wrong("must not stand beside ignore_query, which leaves all of the query out", "remove one of the two");
        return None;
    }
    Some(RuleCache {
        pass: false,
        ttl: ttl?,
        ttl_of_errors: false,
        stale_while_revalidate: stale_while_revalidate?,
        stale_if_error: stale_if_error?,
        ignore_query: ignore_query?,
        query: query?,
        key: key?,
    })
}

fn key_parts(value: &Value<'_>, has_geo: bool) -> Option<KeyParts> {
    let mut table = value.table()?;
    let headers = table.or("headers", Vec::new(), "none", |value| {
        let fields = value.set(0..=KEY_FIELDS_MAX, |value| {
            let name = header_name(value)?;
            if NEVER_KEYED.contains(&name) {
                value.wrong(
                    "must not be Host, Cookie, Range or a condition: what is stored is fetched without them",
                    "remove it; for cookies there is cookies = [\"name\"]",
                );
                return None;
            }
            Some(name.to_string())
        })?;
        fields.iter().map(|field| names::header_name(field)).collect()
    });
    let cookies = table.maybe("cookies", |value| value.set(0..=KEY_FIELDS_MAX, cookie_name));
    let device = table.or("device", false, "false", Value::boolean);
    let country = table.or("country", false, "false", |value| {
        let country = value.boolean()?;
        if country && !has_geo {
            value.wrong("needs to know where addresses are", "add [geo] with database = \"GeoLite2-City.mmdb\"");
            return None;
        }
        Some(country)
    });
    Some(KeyParts { headers: headers?, cookies: cookies?, device: device?, country: country? })
}

fn header_rules(value: &Value<'_>, kept: &[HeaderName]) -> Option<HeaderRules> {
    let mut table = value.table()?;
    let remove = table.or("remove", Vec::new(), "none", |value| {
        let fields = value.set(0..=RULE_HEADERS_MAX, |value| {
            let name = header_name(value)?;
            may_touch(value, &name, kept).then(|| name.to_string())
        })?;
        fields.iter().map(|field| names::header_name(field)).collect()
    });
    let set = table.or("set", Vec::new(), "none", |value| values(value, kept));
    let add = table.or("add", Vec::new(), "none", |value| values(value, kept));
    Some(HeaderRules { remove: remove?, set: set?, add: add? })
}

fn may_touch(value: &Value<'_>, name: &HeaderName, kept: &[HeaderName]) -> bool {
    let may = !kept.contains(name);
    if !may {
        value.wrong(
            "must not be Host, Expect or CDN-Loop",
            "remove it; host_header in [[site]] says what is sent as Host",
        );
    }
    may
}

fn values(value: &Value<'_>, kept: &[HeaderName]) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let entries = named(value, |value| {
        value.parse("must be visible ASCII with inner spaces only", |text| {
            HeaderValue::from_str(text).ok().filter(|_| is_value(text))
        })
    })?;
    entries.iter().all(|(name, _)| may_touch(value, name, kept)).then_some(entries)
}

fn is_value(text: &str) -> bool {
    text.trim_ascii() == text && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// A table by the names of header fields, each once in any case.
fn named<'a, T>(value: &Value<'a>, f: impl Fn(&Value<'a>) -> Option<T>) -> Option<Vec<(HeaderName, T)>> {
    let entries = value.table()?.entries();
    if entries.len() > RULE_HEADERS_MAX {
        value.wrong(format!("must have at most {RULE_HEADERS_MAX} fields"), "remove some");
        return None;
    }
    let mut seen = Seen::default();
    let read: Vec<_> = entries
        .into_iter()
        .map(|(field, value)| {
            let name = names::header_name(field);
            match &name {
                None => value.refuse("must be under the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own"),
                Some(name) if !seen.is_new(name.to_string(), &value) => return None,
                Some(_) => {}
            }
            let item = f(&value);
            Some((name?, item?))
        })
        .collect();
    read.into_iter().collect()
}

fn redirect(value: &Value<'_>) -> Option<Redirect> {
    let mut table = value.table()?;
    let statuses = [301, 302, 303, 307, 308];
    let status = table.or("status", 302, "302", |value| {
        let status = value.integer(300..=399)?;
        let known = u16::try_from(status).ok().filter(|status| statuses.contains(status));
        if known.is_none() {
            value.refuse("must be 301, 302, 303, 307 or 308");
        }
        known
    });
    let law = format!(
        "must be an http:// or https:// URL or a path that begins with /, of visible ASCII, at most {REDIRECT_BYTES_MAX} bytes; {{host}}, {{path}} and {{query}} stand for the request's"
    );
    let to = table.must("to", "\"https://www.example.com{path}{query}\"", |value| value.parse(&law, target));
    Some(Redirect { status: status?, to: to? })
}

/// A redirect's target in pieces; None where a client could choose the host by its path, or a brace stands for nothing.
fn target(text: &str) -> Option<Vec<RedirectPiece>> {
    let is_graphic = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`|".contains(&b));
    if text.len() > REDIRECT_BYTES_MAX || !is_graphic || text.starts_with("//") {
        return None;
    }
    let after_scheme = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match after_scheme {
        Some(rest) => {
            let host = rest.split(['/', '?', '#']).next()?;
            // `{path}` begins with a slash and `{query}` with a question mark: what is before them is the host.
            let host = host.replace("{path}", "/").replace("{query}", "?");
            let host = host.split(['/', '?']).next()?;
            if host != "{host}" {
                names::authority(host)?;
            }
        }
        None if text.starts_with('/') || text.starts_with("{path}") => {}
        None => return None,
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let brace = rest.find(['{', '}']).unwrap_or(rest.len());
        let (before, after) = rest.split_at_checked(brace)?;
        if !before.is_empty() {
            pieces.push(RedirectPiece::Text(Arc::from(before)));
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
        let known =
            [("{host}", RedirectPiece::Host), ("{path}", RedirectPiece::Path), ("{query}", RedirectPiece::Query)];
        let (name, piece) = known.into_iter().find(|(name, _)| rest.starts_with(name))?;
        pieces.push(piece);
        rest = rest.strip_prefix(name)?;
    }
    Some(pieces)
}
