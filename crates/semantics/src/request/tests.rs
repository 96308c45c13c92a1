use http::Request;

use super::*;
use crate::testing::headers;

fn parts(method: &str, target: &str, version: Version, fields: &[&str]) -> http::request::Parts {
    let request = Request::builder().method(method).uri(target).version(version).body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    parts.headers = headers(fields);
    parts
}

/// `authority path?query`, or `status reason`.
fn outcome(parts: &http::request::Parts) -> String {
    match guard(parts) {
        Ok(normal) => {
            let query = normal.query.map_or(String::new(), |query| format!("?{query}"));
            format!("{} {}{query}", normal.authority, normal.path)
        }
        Err(error) => format!("{} {}", error.status.as_u16(), error.reason),
    }
}

fn check(target: &str, fields: &[&str], expected: &str) {
    assert_eq!(outcome(&parts("GET", target, Version::HTTP_11, fields)), expected, "{target} {fields:?}");
}

#[test]
fn hosts() {
    check("/", &["host: a.example"], "a.example /");
    check("/a?b=c", &["host: A.Example:8080"], "a.example:8080 /a?b=c");
    check("/", &["host: [::1]:80"], "[::1]:80 /");
    check("/", &["host: [::1]"], "[::1] /");
    check("/", &["host: a_b.example:"], "a_b.example: /");
    check("/", &[], "400 missing-host");
    check("/", &["host: a", "host: a"], "400 duplicate-host");
    for bad in [
        "",
        "a b",
        "a/b",
        "a@b",
        "user:pass@a",
        "a:x",
        "a:+1",
        "a:65536",
        "a:1:2",
        "[::1",
        "[::g]",
        "[::1]x",
        "ü",
        "a,\"b",
        "a?b",
        "a#b",
        "a\\b",
        ":80",
    ] {
        check("/", &[&format!("host: {bad}")], "400 invalid-host");
    }
    let old = |fields: &[&str]| outcome(&parts("GET", "/", Version::HTTP_10, fields));
    assert_eq!(old(&[]), " /");
    assert_eq!(old(&["host: a"]), "a /");
    let bad_port = parts("GET", "http://a.example:99999/", Version::HTTP_10, &[]);
    assert_eq!(outcome(&bad_port), "400 invalid-authority");
    let second = |target: &str, fields: &[&str]| outcome(&parts("GET", target, Version::HTTP_2, fields));
    assert_eq!(second("http://a.example/x", &[]), "a.example /x");
    assert_eq!(second("http://a.example/x", &["host: b.example"]), "400 host-and-target-differ");
}

#[test]
fn targets() {
    let host = ["host: a.example"];
    check("http://a.example/x", &host, "a.example /x");
    check("http://A.EXAMPLE", &host, "a.example /");
    check("http://a.example?q", &host, "a.example /?q");
    check("http://b.example/x", &host, "b.example /x");
    check("http://u@a.example/x", &host, "400 userinfo-in-target");
    check("http://a.example/x", &[], "400 missing-host");
    check("ftp://a.example/x", &host, "400 scheme");
    check("*", &host, "400 asterisk-form");
    check("/ü", &host, "400 target-not-ascii");
    check("//x/../y", &host, "a.example //x/../y");
    check("a.example:80", &["host: a.example:80"], "400 target-without-slash");
    let long = |length: usize| format!("/{}", "a".repeat(length - 1));
    check(&long(TARGET_BYTES_MAX), &host, &format!("a.example {}", long(TARGET_BYTES_MAX)));
    check(&long(TARGET_BYTES_MAX + 1), &host, "414 target-too-long");
}

#[test]
fn methods() {
    let check = |method: &str, expected: &str| {
        assert_eq!(outcome(&parts(method, "/", Version::HTTP_11, &["host: a"])), expected, "{method}")
    };
    for method in ["GET", "HEAD", "POST", "OPTIONS", "M-SEARCH"] {
        check(method, "a /");
    }
    check(&"M".repeat(METHOD_BYTES_MAX), "a /");
    check(&"M".repeat(METHOD_BYTES_MAX + 1), "501 method-too-long");
    check("CONNECT", "501 connect");
    check("TRACE", "405 trace");
}

#[test]
fn framing() {
    let check = |fields: &[&str], expected: &str| {
        let mut all = vec!["host: a"];
        all.extend(fields);
        assert_eq!(outcome(&parts("POST", "/", Version::HTTP_11, &all)), expected, "{fields:?}");
    };
    check(&["transfer-encoding: chunked"], "a /");
    check(&["transfer-encoding: Chunked"], "a /");
    check(&["content-length: 5"], "a /");
    check(&["expect: 100-Continue"], "a /");
    for coding in [
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "xchunked",
        "",
        "chunked;q=1",
    ] {
        check(&[&format!("transfer-encoding: {coding}")], "501 transfer-encoding");
    }
    check(&["transfer-encoding: chunked", "transfer-encoding: chunked"], "400 duplicate-transfer-encoding");
    check(&["transfer-encoding: chunked", "content-length: 5"], "400 transfer-encoding-and-content-length");
    check(&["content-length: 5", "content-length: 5"], "400 duplicate-content-length");
    check(&["expect: 200-ok"], "417 expectation");
    let old = parts("POST", "/", Version::HTTP_10, &["host: a", "transfer-encoding: chunked"]);
    assert_eq!(outcome(&old), "400 transfer-encoding-in-this-version");
}
