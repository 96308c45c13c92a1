//! Preconditions and ranges (RFC 9110 §13 and §14) as the demo's origin obeys them.
//!
//! Written apart from the cache's own rules on purpose: a mistake there must not find the same mistake here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderName, Method,
    header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE},
};

/// What a representation can be compared by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validators {
    /// Strong, quotes included.
    pub(crate) etag: Option<String>,
    /// Whole seconds since the Unix epoch.
    pub(crate) modified: Option<u64>,
}

/// What the request's preconditions leave to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Perform,
    NotModified,
    PreconditionFailed,
}

/// Which bytes to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Whole,
    /// `start..end`, not empty.
    Part(u64, u64),
    Unsatisfiable,
}

/// The date field of `seconds` since the Unix epoch.
pub(crate) fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// RFC 9110 §13.2.2: the preconditions in their order. An origin without a validator fails what asks for it.
pub(crate) fn judge(headers: &HeaderMap, validators: &Validators) -> Verdict {
    let own = validators.etag.as_deref();
    if headers.contains_key(IF_MATCH) {
        if !tags(headers, IF_MATCH).any(|tag| tag == "*" || Some(tag.as_str()) == own) {
            return Verdict::PreconditionFailed;
        }
    } else if let (Some(since), Some(modified)) = (seconds(headers, IF_UNMODIFIED_SINCE), validators.modified)
        && modified > since
    {
        return Verdict::PreconditionFailed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        // §13.1.2: weak comparison.
        let known =
            tags(headers, IF_NONE_MATCH).any(|tag| tag == "*" || Some(tag.strip_prefix("W/").unwrap_or(&tag)) == own);
        return if known { Verdict::NotModified } else { Verdict::Perform };
    }
    match (seconds(headers, IF_MODIFIED_SINCE), validators.modified) {
        (Some(since), Some(modified)) if modified <= since => Verdict::NotModified,
        _ => Verdict::Perform,
    }
}

/// RFC 9110 §14.2 for a body of `length` bytes. More than one range is answered with the whole, as the section permits.
pub(crate) fn span(method: &Method, headers: &HeaderMap, validators: &Validators, length: u64) -> Span {
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("bytes="));
    let Some(range) = range.filter(|_| *method == Method::GET && may_be_partial(headers, validators)) else {
        return Span::Whole;
    };
    parse(range.trim(), length).unwrap_or(Span::Whole)
}

/// §13.1.5: If-Range compares strongly, and a date by equality.
fn may_be_partial(headers: &HeaderMap, validators: &Validators) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    match value.to_str() {
        Ok(tag) if tag.starts_with('"') => Some(tag) == validators.etag.as_deref(),
        _ => seconds(headers, IF_RANGE).is_some_and(|seconds| Some(seconds) == validators.modified),
    }
}

fn parse(range: &str, length: u64) -> Option<Span> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
    let (first, last) = range.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", "") => return None,
        ("", suffix) => (length - number(suffix)?.min(length), length),
        (first, "") => (number(first)?, length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(length))
        }
    };
    Some(if start < end { Span::Part(start, end) } else { Span::Unsatisfiable })
}

/// The entity tags of all fields of that name. Our own tags hold no comma, so cutting at commas cannot invent one.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = String> + '_ {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().to_owned())
}

fn seconds(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Validators {
        Validators { etag: Some("\"a\"".into()), modified: Some(1_000_000_000) }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn preconditions() {
        let check = |lines: &[(&'static str, &str)], expected| {
            assert_eq!(judge(&headers(lines), &own()), expected, "{lines:?}")
        };
        let (at, before, after) = (date(1_000_000_000), date(999_999_999), date(1_000_000_001));
        check(&[], Verdict::Perform);
        check(&[("if-none-match", "\"a\"")], Verdict::NotModified);
        check(&[("if-none-match", "W/\"a\"")], Verdict::NotModified);
        check(&[("if-none-match", "\"x\", \"a\" ,\"y\"")], Verdict::NotModified);
        check(&[("if-none-match", "\"x\""), ("if-none-match", "*")], Verdict::NotModified);
        check(&[("if-none-match", "a")], Verdict::Perform);
        check(&[("if-modified-since", &at)], Verdict::NotModified);
        check(&[("if-modified-since", &after)], Verdict::NotModified);
        check(&[("if-modified-since", &before)], Verdict::Perform);
        check(&[("if-modified-since", "yesterday")], Verdict::Perform);
        check(&[("if-none-match", "\"x\""), ("if-modified-since", &at)], Verdict::Perform);
        check(&[("if-match", "\"a\"")], Verdict::Perform);
        check(&[("if-match", "W/\"a\"")], Verdict::PreconditionFailed);
        check(&[("if-match", "\"x\"")], Verdict::PreconditionFailed);
        check(&[("if-match", "*"), ("if-none-match", "\"a\"")], Verdict::NotModified);
        check(&[("if-unmodified-since", &before)], Verdict::PreconditionFailed);
        check(&[("if-unmodified-since", &at)], Verdict::Perform);
        check(&[("if-match", "\"a\""), ("if-unmodified-since", &before)], Verdict::Perform);
    }

    #[test]
    fn ranges() {
        let check = |range: &str, length: u64, expected| {
            assert_eq!(
                span(&Method::GET, &headers(&[("range", range)]), &own(), length),
                expected,
                "{range} of {length}"
            );
        };
        check("bytes=0-0", 10, Span::Part(0, 1));
        check("bytes=0-9", 10, Span::Part(0, 10));
        check("bytes=3-99", 10, Span::Part(3, 10));
        check("bytes=9-", 10, Span::Part(9, 10));
        check("bytes=10-", 10, Span::Unsatisfiable);
        check("bytes=-4", 10, Span::Part(6, 10));
        check("bytes=-99", 10, Span::Part(0, 10));
        check("bytes=-0", 10, Span::Unsatisfiable);
        check("bytes=0-", 0, Span::Unsatisfiable);
        check("bytes=0-99999999999999999999999", 10, Span::Part(0, 10));
        check("bytes=99999999999999999999999-", 10, Span::Unsatisfiable);
        for ignored in
            ["bytes=5-4", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "bytes=1", "lines=0-1", "bytes=+1-2", "bytes"]
        {
            check(ignored, 10, Span::Whole);
        }
    }

    #[test]
    fn a_range_needs_get_and_an_unchanged_representation() {
        let check = |method: Method, lines: &[(&'static str, &str)], expected| {
            let mut headers = headers(lines);
            headers.insert(RANGE, "bytes=0-1".parse().unwrap());
            assert_eq!(span(&method, &headers, &own(), 10), expected, "{method} {lines:?}");
        };
        check(Method::HEAD, &[], Span::Whole);
        check(Method::GET, &[("if-range", "\"a\"")], Span::Part(0, 2));
        check(Method::GET, &[("if-range", "W/\"a\"")], Span::Whole);
        check(Method::GET, &[("if-range", "\"b\"")], Span::Whole);
        check(Method::GET, &[("if-range", &date(1_000_000_000))], Span::Part(0, 2));
        check(Method::GET, &[("if-range", &date(1_000_000_001))], Span::Whole);
    }
}
