//! Tables over heads.

use super::*;
use crate::Claims;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    lines.iter().map(pair).collect()
}

fn text(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect()
}

fn request(method: Method, headers: &[(&str, &str)]) -> FetchRequest {
    let target = "/a?b".parse().unwrap();
    FetchRequest {
        method,
        headers: map(headers),
        ..FetchRequest::get(HeaderValue::from_static("shop.example"), target, 0)
    }
}

#[test]
fn only_end_to_end_fields_are_sent() {
    let lines = [
        ("accept", "*/*"),
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("host", "evil.example"),
        ("content-length", "7"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("perigee-proof", "v1;0;00"),
        ("accept", "text/html"),
    ];
    assert_eq!(
        text(&request_headers(&request(Method::GET, &lines))),
        "host: shop.example\naccept: */*\naccept: text/html\n"
    );
}

#[test]
fn lengths_are_made_anew() {
    let check = |method: Method, body: Option<RequestBody>, expected: &str| {
        let asked = FetchRequest { body, ..request(method, &[("content-length", "99")]) };
        let sent = text(&request_headers(&asked));
        assert_eq!(sent.strip_prefix("host: shop.example\n"), Some(expected));
    };
    let streamed = || {
        RequestBody::new(http_body_util::StreamBody::new(futures_util::stream::empty::<Result<_, std::io::Error>>()))
    };
    check(Method::GET, None, "");
    check(Method::DELETE, None, "");
    check(Method::POST, None, "content-length: 0\n");
    check(Method::POST, Some("four".into()), "content-length: 4\n");
    check(Method::GET, Some("four".into()), "content-length: 4\n");
    check(Method::PUT, Some(streamed()), "transfer-encoding: chunked\n");
}

fn received(method: &str, status: u16, lines: &[(&str, &str)], length: Option<u64>) -> (Result<Head, Refusal>, String) {
    let mut headers = map(lines);
    let method = method.parse().unwrap();
    let head = receive(&method, StatusCode::from_u16(status).unwrap(), &mut headers, length, false, None);
    (head, text(&headers))
}

#[test]
fn framing_is_judged_and_the_fields_are_cleaned() {
    let check = |method: &str, status: u16, lines: &[(&str, &str)], length, framing, reusable: bool, left: &str| {
        let head = Head { framing, reusable, trusted_age_ms: None };
        assert_eq!(received(method, status, lines, length), (Ok(head), left.into()), "{method} {status} {lines:?}");
    };
    use BodyFraming::*;
    let (cl5, te) = (("content-length", "5"), ("transfer-encoding", "chunked"));
    check("GET", 200, &[cl5], Some(5), Length(5), true, "content-length: 5\n");
    check("GET", 200, &[("content-length", "5, 5")], Some(5), Length(5), true, "content-length: 5\n");
    check("GET", 200, &[cl5, cl5], Some(5), Length(5), true, "content-length: 5\n");
    check("GET", 200, &[te], None, Chunked, true, "");
    check("GET", 200, &[("transfer-encoding", "Chunked")], None, Chunked, true, "");
    check("GET", 200, &[te, cl5], None, Chunked, false, "");
    check("GET", 200, &[], None, Close, false, "");
    check("GET", 200, &[("transfer-encoding", "identity")], None, Close, false, "");
    check("GET", 200, &[("transfer-encoding", "Nonsense"), cl5], None, Close, false, "");
    check("HEAD", 200, &[cl5], Some(0), Empty, true, "content-length: 5\n");
    check("HEAD", 200, &[te], Some(0), Empty, true, "");
    check("HEAD", 200, &[("content-length", "5, 6")], Some(0), Empty, true, "");
    check("HEAD", 200, &[te, cl5], Some(0), Empty, false, "");
    check("GET", 304, &[cl5], Some(0), Empty, true, "content-length: 5\n");
    check("GET", 204, &[("content-length", "0")], Some(0), Empty, true, "");
    let hops = [
        cl5,
        ("connection", "keep-alive, X-A"),
        ("x-a", "1"),
        ("keep-alive", "timeout=5"),
        ("perigee-age-ms", "1"),
        ("x-b", "2"),
    ];
    check("GET", 200, &hops, Some(5), Length(5), true, "content-length: 5\nx-b: 2\n");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let check = |status: u16, coding: &[&str], refusal: Refusal| {
        let lines: Vec<_> = coding.iter().map(|value| ("transfer-encoding", *value)).collect();
        assert_eq!(received("GET", status, &lines, None).0, Err(refusal), "{coding:?}");
    };
    check(101, &[], Refusal::Switched);
    for coding in
        ["gzip", "gzip, chunked", "chunked, chunked", "identity, chunked", ",chunked", "", "GZip", "br", "nonsense;q=1"]
    {
        check(200, &[coding], Refusal::TransferCoding);
    }
    check(200, &["chunked", "chunked"], Refusal::TransferCoding);
}

#[test]
fn an_age_is_believed_with_its_proof_only() {
    let (ours, theirs) =
        (FleetSecret::new(b"sixteen bytes ok").unwrap(), FleetSecret::new(b"sixteen bytes no").unwrap());
    let claims = Claims {
        site: "www".parse().unwrap(),
        key_authority: "shop.example".into(),
        key_scheme: perigee_protocol::model::Scheme::Https,
        rule: None,
    };
    let asked = FetchRequest { shield_claims: Some(claims), ..request(Method::GET, &[]) };
    let mut headers = request_headers(&asked);
    let proof = prove(&asked, &mut headers, &ours, 1000).unwrap();
    assert!(ours.verify_request(
        headers[headers::PROOF].to_str().unwrap(),
        1000,
        "GET",
        "/a?b",
        &["www", "shop.example", "https"]
    ));
    assert_eq!(
        (&headers[headers::SITE], &headers[headers::KEY_AUTHORITY]),
        (&"www".parse().unwrap(), &"shop.example".parse().unwrap())
    );

    let check = |age: &str, answer: String, expected: Option<u64>| {
        let mut headers = map(&[("perigee-age-ms", age), ("perigee-proof", &answer), ("content-length", "0")]);
        let head = receive(&Method::GET, StatusCode::OK, &mut headers, Some(0), false, Some((&ours, &proof))).unwrap();
        assert_eq!(head.trusted_age_ms, expected, "{age} {answer}");
        assert_eq!(text(&headers), "content-length: 0\n");
    };
    check("1234", ours.prove_response(&proof, &["1234"]), Some(1234));
    check("1235", ours.prove_response(&proof, &["1234"]), None);
    check("1234", theirs.prove_response(&proof, &["1234"]), None);
    check("1234", ours.prove_response("v1;1;00", &["1234"]), None);
    check("x", ours.prove_response(&proof, &["x"]), None);
}
