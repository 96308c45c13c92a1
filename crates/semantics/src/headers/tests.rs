use super::*;
use crate::testing::headers;

fn names(map: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn text<'a>(map: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    map.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn hop_by_hop() {
    let check = |lines: &[&str], expected: &[&str]| {
        let mut map = headers(lines);
        strip_hop_by_hop(&mut map);
        assert_eq!(names(&map), expected, "{lines:?}");
    };
    check(&["connection: a, B", "connection: c,,close", "a: 1", "b: 2", "c: 3", "d: 4"], &["d"]);
    check(
        &[
            "keep-alive: 1",
            "proxy-authenticate: 1",
            "proxy-authentication-info: 1",
            "proxy-authorization: 1",
            "proxy-connection: 1",
            "te: trailers",
            "trailer: x",
            "transfer-encoding: chunked",
            "upgrade: h2c",
            "x: 1",
        ],
        &["x"],
    );
    // Nobody gets rid of what frames the message, limits its caching or stops loops.
    check(
        &[
            "connection: cache-control, cdn-loop, vary, host, content-length, set-cookie",
            "cache-control: private",
            "cdn-loop: a",
            "vary: x",
            "host: a",
            "content-length: 1",
            "set-cookie: a=b",
        ],
        &["cache-control", "cdn-loop", "content-length", "host", "set-cookie", "vary"],
    );
    check(&["a: 1"], &["a"]);
}

#[test]
fn internal_and_client_fields() {
    let lines = [
        "perigee-proof: 1",
        "perigee-age-ms: 1",
        "perigee-cache-control: max-age=1",
        "cdn-cache-control: max-age=1",
        "surrogate-key: a",
        "cache-tag: a",
        "cache-groups: \"a\"",
        "x: 1",
    ];
    let mut map = headers(&lines);
    strip_internal(&mut map);
    assert_eq!(
        names(&map),
        ["cache-groups", "cache-tag", "cdn-cache-control", "perigee-cache-control", "surrogate-key", "x"]
    );
    let mut map = headers(&lines);
    strip_for_client(&mut map, &CachePolicy::default());
    assert_eq!(names(&map), ["cache-groups", "x"]);
}

#[test]
fn via() {
    let mut map = headers(&["via: 1.0 fred"]);
    append_via(&mut map, Version::HTTP_11, "edge-fra");
    append_via(&mut map, Version::HTTP_10, "x");
    append_via(&mut map, Version::HTTP_2, "y");
    assert_eq!(text(&map, "via"), ["1.0 fred", "1.1 edge-fra", "1.0 x", "2 y"]);
}

#[test]
fn forwarded() {
    let check = |lines: &[&str], client: &str, host: &str, trusted: bool, expected: &[&str]| {
        let mut map = headers(lines);
        append_forwarded(&mut map, client.parse().unwrap(), host, Scheme::Http, trusted);
        let found: Vec<String> =
            map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let mut sorted = (found, expected.to_vec());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        assert_eq!(sorted.0, sorted.1, "{lines:?} {client} {host} {trusted}");
    };
    check(
        &[],
        "192.0.2.1",
        "a.example",
        false,
        &[
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: a.example",
            "forwarded: for=192.0.2.1;host=a.example;proto=http",
        ],
    );
    check(
        &[],
        "2001:db8::1",
        "a.example:80",
        false,
        &[
            "x-forwarded-for: 2001:db8::1",
            "x-forwarded-proto: http",
            "x-forwarded-host: a.example:80",
            "forwarded: for=\"[2001:db8::1]\";host=\"a.example:80\";proto=http",
        ],
    );
    check(
        &[],
        "::ffff:192.0.2.1",
        "",
        false,
        &["x-forwarded-for: 192.0.2.1", "x-forwarded-proto: http", "forwarded: for=192.0.2.1;proto=http"],
    );
    let said = [
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-for: 10.0.0.2",
        "x-forwarded-proto: https",
        "x-forwarded-host: evil",
        "forwarded: for=10.0.0.1;host=evil;proto=https",
    ];
    check(
        &said,
        "192.0.2.1",
        "a",
        false,
        &[
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 192.0.2.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: a",
            "forwarded: for=192.0.2.1;host=a;proto=http",
        ],
    );
    check(
        &said,
        "192.0.2.1",
        "a",
        true,
        &[
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: evil",
            "forwarded: for=10.0.0.1;host=evil;proto=https, for=192.0.2.1;host=a;proto=http",
        ],
    );
}

#[test]
fn cdn_loop() {
    let check = |lines: &[&str], expected: Result<(), LoopError>| {
        assert_eq!(check_cdn_loop(&headers(lines), "edge.example", 3), expected, "{lines:?}")
    };
    check(&[], Ok(()));
    check(&["cdn-loop: a, b", "cdn-loop: c"], Ok(()));
    check(&["cdn-loop: a, b", "cdn-loop: c, d"], Err(LoopError::TooLong));
    check(&["cdn-loop: a, Edge.Example ;v=\"1\""], Err(LoopError::Loop));
    check(&["cdn-loop: a;x=\"edge.example, b\""], Ok(()));
    check(&["cdn-loop: edge.example.org"], Ok(()));
    let mut map = headers(&["cdn-loop: a"]);
    append_cdn_loop(&mut map, "edge.example");
    assert_eq!(text(&map, "cdn-loop"), ["a", "edge.example"]);
    assert_eq!(check_cdn_loop(&map, "edge.example", 3), Err(LoopError::Loop));
}

#[test]
fn a_survey_sees_what_is_there() {
    let check = |name: &'static str, hop_by_hop: bool, internal: bool, cdn_loop: bool| {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        headers.insert(name, HeaderValue::from_static("x"));
        assert_eq!(Survey::of(&headers), Survey { hop_by_hop, internal, cdn_loop }, "{name}");
    };
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        check(name, true, false, false);
    }
    check("perigee-proof", false, true, false);
    check("perigee-cache-control", false, true, false);
    check("cdn-loop", false, false, true);
    check("cdn-cache-control", false, false, false);
    check("host", false, false, false);
}

#[test]
fn numbers_in_decimal() {
    for number in [0, 9, 10, 1024, u64::MAX] {
        assert_eq!(Decimal::of(number).as_str(), number.to_string());
        assert_eq!(Decimal::of(number).to_value(), number.to_string());
    }
}
