use std::time::Duration;

use http::HeaderName;
use perigee_protocol::model::{RuleCache, Scheme};
use proptest::prelude::*;

use super::*;
use crate::testing::{AT_ONCE, NOW, NOW_DATE, World, date, headers};

/// `store <source> <lifetime in seconds>` or the reason not to.
fn outcome(world: &World, request: &[&str], status: u16, response: &[&str]) -> String {
    match world.admit(request, status, response) {
        Ok(head) => format!("store {} {}", head.freshness.source.as_str(), head.freshness.lifetime_ms / 1000),
        Err(reason) => reason.as_str().to_owned(),
    }
}

fn check(request: &[&str], status: u16, response: &[&str], expected: &str) {
    assert_eq!(outcome(&World::default(), request, status, response), expected, "{request:?} {status} {response:?}");
}

#[test]
fn explicit_freshness() {
    check(&[], 200, &["cache-control: max-age=60"], "store max-age 60");
    check(&[], 200, &["cache-control: max-age=60, s-maxage=5"], "store s-maxage 5");
    check(&[], 200, &["cache-control: max-age=60", "cdn-cache-control: max-age=5"], "store targeted-max-age 5");
    check(&[], 200, &["cache-control: no-store", "cdn-cache-control: max-age=5"], "store targeted-max-age 5");
    check(&[], 200, &["cache-control: max-age=60", "cdn-cache-control: no-store"], "no-store");
    check(&[], 200, &["cache-control: max-age=60", "cdn-cache-control: private"], "private");
    let (now, soon, past) = (date(0), date(30), date(-30));
    let (now, soon, past) = (format!("date: {now}"), format!("expires: {soon}"), format!("expires: {past}"));
    check(&[], 200, &[&now, &soon], "store expires 30");
    check(&[], 200, &[&now, &soon, "cache-control: max-age=7"], "store max-age 7");
    check(&[], 200, &[&soon], "store expires 30");
    check(&[], 200, &["date: foo", &soon], "store expires 30");
    check(&[], 200, &[&now, &past, "etag: \"a\""], "store expires 0");
    check(&[], 200, &[&now, &past], "no-freshness");
    check(&[], 200, &[&soon, "cdn-cache-control: foo"], "no-freshness");
    // Both dates fast: their difference counts.
    check(
        &[],
        200,
        &[&format!("date: {}", date(400)), &format!("expires: {}", date(300)), "etag: \"a\""],
        "store expires 0",
    );
    for bad in [
        "0",
        "",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
    ] {
        check(&[], 200, &[&format!("expires: {bad}"), "etag: \"a\""], "store expires 0");
    }
    check(&[], 200, &["expires: Thursday, 18-Aug-50 02:01:18 GMT"], "store expires 31536000");
    check(&[], 200, &["expires: Thu Aug 18 02:01:18 2050"], "store expires 31536000");
}

#[test]
fn any_final_status_with_explicit_freshness() {
    for status in [200, 201, 203, 204, 299, 301, 302, 303, 307, 308, 400, 401, 404, 410, 499, 500, 502, 503, 504, 599] {
        check(&[], status, &["cache-control: max-age=60"], "store max-age 60");
    }
    for (status, reason) in
        [(100, "status"), (103, "status"), (206, "partial"), (304, "status"), (412, "status"), (416, "status")]
    {
        check(&[], status, &["cache-control: max-age=60, public"], reason);
    }
    check(&[], 299, &["cache-control: max-age=60, must-understand"], "status");
    check(&[], 200, &["cache-control: max-age=60, must-understand, no-store"], "store max-age 60");
}

#[test]
fn responses_to_post() {
    let check = |status: u16, response: &[&str], expected: &str| {
        let (world, site) = (World { method: Method::POST, ..World::default() }, "www".parse().unwrap());
        let target = Target {
            site: &site,
            scheme: Scheme::Http,
            authority: "a.example",
            client_authority: "a.example",
            path: "/form",
            query: None,
        };
        let (request, fields) = (headers(&[]), headers(response));
        let status = StatusCode::from_u16(status).unwrap();
        let admission = admit_post(world.view(&request), status, &fields, target, &world.policy(), AT_ONCE, None);
        assert_eq!(admission.as_str(), expected, "{status} {response:?}");
    };
    let (here, soon) = ("content-location: /form", format!("expires: {}", date(30)));
    check(200, &[here, "cache-control: max-age=60"], "store");
    check(200, &[here, &soon], "store");
    check(200, &["content-location: http://a.example/form", "cache-control: s-maxage=60"], "store");
    check(200, &[here], "no-freshness");
    check(200, &[here, &format!("last-modified: {}", date(-86_400))], "no-freshness");
    check(200, &[here, "cache-control: no-store, max-age=60"], "no-store");
    check(200, &["cache-control: max-age=60"], "method");
    check(200, &["content-location: /other", "cache-control: max-age=60"], "method");
    check(201, &[here, "cache-control: max-age=60"], "method");
    check(404, &[here, "cache-control: max-age=60"], "method");
}

#[test]
fn heuristics() {
    let day_old = format!("last-modified: {}", date(-86_400));
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        check(&[], status, &[&day_old], "store heuristic 8640");
    }
    for status in [201, 202, 302, 307, 403, 500, 502, 503, 504, 599] {
        check(&[], status, &[&day_old], "no-freshness");
        check(&[], status, &[&day_old, "cache-control: public"], "store heuristic 8640");
    }
    check(&[], 200, &["last-modified: Thu, 01 Jan 1970 00:00:00 GMT"], "store heuristic 86400");
    check(&[], 200, &[&format!("last-modified: {}", date(500))], "store heuristic 0");
    check(&[], 200, &["etag: \"a\""], "store none 0");
    check(&[], 404, &["etag: \"a\""], "no-freshness");
    check(&[], 400, &["etag: \"a\"", "cache-control: public"], "no-freshness");
    check(&[], 299, &["etag: \"a\"", "cache-control: public"], "store none 0");
    check(&[], 200, &[], "no-freshness");
}

#[test]
fn what_forbids() {
    check(&[], 200, &["cache-control: no-store, max-age=60"], "no-store");
    check(&[], 200, &["cache-control: private, max-age=60, public"], "private");
    check(&[], 200, &["cache-control: private=\"a\", max-age=60"], "store max-age 60");
    check(&[], 200, &["cache-control: max-age=60", "vary: foo, *"], "vary-star");
    check(&[], 200, &["cache-control: max-age=60", "set-cookie: a=b"], "set-cookie");
    check(&[], 200, &["cache-control: max-age=60, no-cache=\"Set-Cookie\"", "set-cookie: a=b"], "set-cookie");
    check(&[], 200, &["cache-control: no-cache"], "no-freshness");
    // Worth storing for the day upstream fails, or not.
    check(&[], 200, &["cache-control: max-age=0, stale-if-error=1"], "store max-age 0");
    check(&[], 200, &["cache-control: max-age=0, stale-while-revalidate=1"], "store max-age 0");
    check(&[], 200, &["cache-control: max-age=0, stale-if-error=0, stale-while-revalidate=0"], "no-freshness");
    check(&[], 200, &["cache-control: max-age=0, stale-if-error=1, must-revalidate"], "no-freshness");
    check(&[], 200, &["cache-control: no-cache", "etag: \"a\""], "store none 0");
    check(&[], 200, &["cache-control: max-age=60", "content-length: 17179869184"], "store max-age 60");
    check(&[], 200, &["cache-control: max-age=60", "content-length: 17179869185"], "too-large");
    check(&["cache-control: no-store"], 200, &["cache-control: max-age=60"], "store max-age 60");
    let honouring = World::honouring();
    assert_eq!(
        outcome(&honouring, &["cache-control: no-store"], 200, &["cache-control: max-age=60"]),
        "request-no-store"
    );
    let head = World { method: Method::HEAD, ..World::default() };
    assert_eq!(outcome(&head, &[], 200, &["cache-control: max-age=60"]), "method");
}

#[test]
fn what_is_too_small() {
    let mut world = World::default();
    world.cache.object_bytes_min = 1024;
    let of = |status: u16, length: &str| outcome(&world, &[], status, &["cache-control: max-age=60", length]);
    assert_eq!(of(200, "content-length: 1023"), "too-small");
    assert_eq!(of(200, "content-length: 1024"), "store max-age 60");
    assert_eq!(of(200, "x-length: unknown"), "store max-age 60", "its end will tell");
    assert_eq!(of(404, "content-length: 0"), "store max-age 60");
    assert_eq!(of(301, "content-length: 0"), "store max-age 60");
}

#[test]
fn authorization() {
    let auth = ["authorization: x"];
    check(&auth, 200, &["cache-control: max-age=60"], "authorization");
    check(&auth, 200, &[&format!("expires: {}", date(60))], "authorization");
    check(&auth, 200, &["cache-control: max-age=60, proxy-revalidate"], "authorization");
    check(&auth, 200, &["cache-control: max-age=60, public"], "store max-age 60");
    check(&auth, 200, &["cache-control: max-age=60, must-revalidate"], "store max-age 60");
    check(&auth, 200, &["cache-control: s-maxage=60"], "store s-maxage 60");
}

#[test]
fn site_policy() {
    let mut world = World::default();
    world.cache.negative_ttl.insert(404, Duration::from_secs(5));
    assert_eq!(outcome(&world, &[], 404, &[]), "store negative-ttl 5");
    assert_eq!(outcome(&world, &[], 404, &["cache-control: max-age=60"]), "store max-age 60");
    assert_eq!(outcome(&world, &[], 410, &[]), "no-freshness");
    world.cache.default_ttl = Duration::from_secs(9);
    assert_eq!(outcome(&world, &[], 200, &[&format!("last-modified: {}", date(-86_400))]), "store default-ttl 9");
    assert_eq!(outcome(&world, &[], 410, &[]), "no-freshness");
    assert_eq!(outcome(&world, &[], 302, &[]), "no-freshness");
    world.cache.max_ttl = Duration::from_secs(3);
    assert_eq!(outcome(&world, &[], 200, &["cache-control: max-age=60"]), "store max-age 3");
    world.cache.set_cookie = SetCookie::Strip;
    let kept = world.admit(&[], 200, &["cache-control: max-age=60", "set-cookie: a=b"]).unwrap();
    assert!(!kept.fields.contains_key(SET_COOKIE));
    world.cache.set_cookie = SetCookie::Store;
    let kept = world.admit(&[], 200, &["cache-control: max-age=60", "set-cookie: a=b"]).unwrap();
    assert!(kept.fields.contains_key(SET_COOKIE));
}

#[test]
fn rules() {
    let rule = RuleCache { ttl: Some(Duration::from_secs(3600)), ..RuleCache::default() };
    let world = World { rule: Some(rule), ..World::default() };
    let check = |status, response: &[&str], expected| {
        assert_eq!(outcome(&world, &[], status, response), expected, "{response:?}")
    };
    check(200, &[], "store rule-ttl 3600");
    check(200, &["cache-control: max-age=1, no-cache"], "store rule-ttl 3600");
    check(200, &["cache-control: no-store"], "no-store");
    check(200, &["cache-control: private"], "private");
    check(404, &[], "no-freshness");
    check(503, &["cache-control: max-age=1"], "store max-age 1");
    let kept = world.admit(&[], 200, &["cache-control: no-cache"]).unwrap();
    assert!(!kept.freshness.no_cache);
    let pass = World { rule: Some(RuleCache { pass: true, ..RuleCache::default() }), ..World::default() };
    assert_eq!(outcome(&pass, &[], 200, &["cache-control: max-age=60"]), "pass");
}

#[test]
fn what_is_kept() {
    let response = [
        "cache-control: max-age=60, no-cache=\"named\"",
        "connection: a, close",
        "a: 1",
        "named: 1",
        "b: 2",
        "age: 5",
        "cache-status: origin; hit",
        "perigee-age-ms: 1",
        "perigee-cache-control: max-age=70",
        "keep-alive: x",
        "proxy-authentication-info: x",
        "transfer-encoding: chunked",
        "surrogate-key: t u",
        "etag: \"e\"",
        "vary: Foo",
    ];
    let head = World::default().admit(&["foo: 1"], 200, &response).unwrap();
    let mut names: Vec<_> = head.fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    // The targeted field says nothing of `named`.
    assert_eq!(
        names,
        ["b", "cache-control", "date", "etag", "named", "perigee-cache-control", "surrogate-key", "vary"]
    );
    assert_eq!(head.fields[DATE], NOW_DATE);
    assert_eq!(head.tags, ["t".into(), "u".into()]);
    assert_eq!(head.vary, [(HeaderName::from_static("foo"), Some("1".to_owned()))]);
    let head = World::default().stored(&[
        "cache-control: max-age=60, no-cache=\"named\", private=\"b\"",
        "named: 1",
        "b: 2",
        "c: 3",
    ]);
    assert!(head.fields.contains_key("c") && !head.fields.contains_key("named") && !head.fields.contains_key("b"));
}

#[test]
fn ages() {
    let admit_at = |response: &[&str], delay_ms: u64, trusted: Option<u64>| {
        let world = World::default();
        let request = HeaderMap::new();
        let times = Times { request_time: NOW, response_time: NOW.plus_ms(delay_ms) };
        let mut response = headers(response);
        response.insert("cache-control", HeaderValue::from_static("max-age=60"));
        match admit(world.view(&request), StatusCode::OK, &response, &world.policy(), times, trusted) {
            Admission::Store(head) => head.freshness.initial_age_ms,
            Admission::DoNot(reason) => panic!("{reason:?}"),
        }
    };
    let check = |response: &[&str], delay_ms, trusted, expected| {
        assert_eq!(admit_at(response, delay_ms, trusted), expected, "{response:?} {delay_ms} {trusted:?}");
    };
    check(&[], 0, None, 0);
    check(&[], 250, None, 250);
    check(&["age: 5"], 250, None, 5250);
    // RFC 9111 §5.1: the first of a list; nothing else is a number.
    check(&["age: 5, 9"], 0, None, 5000);
    check(&["age: 5", "age: 9"], 0, None, 5000);
    for junk in ["-5", "5.0", "abc", "", "5s"] {
        check(&[&format!("age: {junk}")], 0, None, 0);
    }
    check(&["age: 99999999999999999999"], 0, None, (1 << 31) * 1000);
    let ten_ago = format!("date: {}", date(-10));
    check(&[&ten_ago], 0, None, 9001);
    check(&[&ten_ago, "age: 3"], 0, None, 9001);
    check(&[&ten_ago, "age: 30"], 0, None, 30_000);
    check(&[&format!("date: {NOW_DATE}")], 900, None, 900);
    // A clock ahead of ours proves nothing.
    check(&[&format!("date: {}", date(100))], 0, None, 0);
    // A proved peer's word goes before all of it.
    check(&[&ten_ago, "age: 30"], 250, Some(1234), 1484);
}

proptest! {
    /// Private is never stored, whatever else the response says.
    #[test]
    fn private_never_stored(others in proptest::collection::vec(directive(), 0..6), at in 0_usize..6, status in 200_u16..600) {
        let mut directives = others;
        directives.insert(at.min(directives.len()), "private".into());
        let control = format!("cache-control: {}", directives.join(", "));
        let etag = "etag: \"a\"";
        prop_assert!(World::default().admit(&[], status, &[&control, etag]).is_err());
    }

    /// Nothing overflows or panics, whatever numbers arrive.
    #[test]
    fn arithmetic(age in any::<u64>(), max_age in any::<u128>(), request in any::<u64>(), response in any::<u64>(), now in any::<u64>()) {
        let world = World::default();
        let empty = HeaderMap::new();
        let times = Times { request_time: Timestamp::from_millis(request), response_time: Timestamp::from_millis(response) };
        let fields = headers(&[&format!("age: {age}"), &format!("cache-control: max-age={max_age}, stale-if-error={max_age}"), "etag: \"a\""]);
        if let Admission::Store(head) = admit(world.view(&empty), StatusCode::OK, &fields, &world.policy(), times, None) {
            let now = Timestamp::from_millis(now);
            prop_assert_eq!(head.freshness.is_fresh(now), head.freshness.ttl_ms(now) > 0 || head.freshness.age_ms(now) < head.freshness.lifetime_ms);
            let _ = crate::reuse::serve_on_error(&head, &world.policy(), now);
        }
    }
}

fn directive() -> impl Strategy<Value = String> {
    prop_oneof![
        "(max-age|s-maxage)=[0-9]{1,5}",
        "(public|must-revalidate|immutable|must-understand|foo)",
        "[a-z=\"]{0,6}"
    ]
    // An open quote is another table's business.
    .prop_map(|text| text.replace('"', ""))
}
