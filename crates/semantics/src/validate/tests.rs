use http::header::{AGE, CACHE_CONTROL, VARY};
use perigee_protocol::model::SetCookie;
use proptest::prelude::*;

use super::*;
use crate::testing::{World, date, headers, later};

fn check(response: &[&str], request: &[&str], expected: &str) {
    let world = World::default();
    let mut fields = vec!["cache-control: max-age=60"];
    fields.extend(response);
    let stored = world.stored(&fields);
    assert_eq!(evaluate(world.view(&headers(request)), &stored).as_str(), expected, "{response:?} {request:?}");
}

#[test]
fn if_none_match() {
    let strong = ["etag: \"abcdef\""];
    check(&strong, &["if-none-match: \"abcdef\""], "not-modified");
    check(&strong, &["if-none-match: W/\"abcdef\""], "not-modified");
    check(&strong, &["if-none-match: \"1234\", \"abcdef\",\"5678\""], "not-modified");
    check(&strong, &["if-none-match: \"1234\"", "if-none-match: \"abcdef\""], "not-modified");
    check(&strong, &["if-none-match: junk, , \"abcdef\""], "not-modified");
    check(&strong, &["if-none-match: *"], "not-modified");
    check(&[], &["if-none-match: *"], "not-modified");
    check(&["etag: W/\"abcdef\""], &["if-none-match: W/\"abcdef\""], "not-modified");
    check(&["etag: \"a,b\""], &["if-none-match: \"x\", \"a,b\""], "not-modified");
    check(&["etag: \"ü\""], &["if-none-match: \"ü\""], "not-modified");
    for other in ["\"ABCDEF\"", "\"abcde\"", "abcdef", "\"abcdef", "\"x,*\"", "", "w/\"abcdef\"", "\"*\""] {
        check(&strong, &[&format!("if-none-match: {other}")], "proceed");
    }
    let many: Vec<String> = (0..6000).map(|n| format!("\"{n:06}\"")).collect();
    assert!(many.join(",").len() > 50_000);
    check(&["etag: \"005999\""], &[&format!("if-none-match: {}", many.join(","))], "not-modified");
    check(&["etag: \"006000\""], &[&format!("if-none-match: {}", many.join(","))], "proceed");
}

#[test]
fn if_modified_since() {
    let modified = format!("last-modified: {}", date(-3000));
    let since = |seconds| format!("if-modified-since: {}", date(seconds));
    check(&[&modified], &[&since(-3000)], "not-modified");
    check(&[&modified], &[&since(-2000)], "not-modified");
    check(&[&modified], &[&since(-3001)], "proceed");
    check(&[&modified], &["if-modified-since: Sunday, 06-Nov-94 08:49:37 GMT"], "not-modified");
    check(&[&modified], &["if-modified-since: Sun Nov  6 08:49:37 1994"], "not-modified");
    check(&[&modified], &["if-modified-since: tomorrow"], "proceed");
    check(&[&modified], &[&since(0), &since(0)], "proceed");
    // RFC 9111 §4.3.2: Date stands in.
    check(&[], &[&since(0)], "not-modified");
    check(&[], &[&since(-1)], "proceed");
    // RFC 9110 §13.2.2: If-None-Match decides alone.
    check(&[&modified, "etag: \"a\""], &["if-none-match: \"b\"", &since(0)], "proceed");
    check(&[&modified, "etag: \"a\""], &["if-none-match: \"a\"", &since(-5000)], "not-modified");
}

#[test]
fn if_match_and_if_unmodified_since() {
    check(&["etag: \"a\""], &["if-match: \"b\", \"a\""], "proceed");
    check(&["etag: \"a\""], &["if-match: *"], "proceed");
    check(&["etag: \"a\""], &["if-match: \"b\""], "precondition-failed");
    check(&["etag: \"a\""], &["if-match: W/\"a\""], "precondition-failed");
    check(&["etag: W/\"a\""], &["if-match: W/\"a\""], "precondition-failed");
    let modified = format!("last-modified: {}", date(-100));
    check(&[&modified], &[&format!("if-unmodified-since: {}", date(-100))], "proceed");
    check(&[&modified], &[&format!("if-unmodified-since: {}", date(-101))], "precondition-failed");
    check(
        &[&modified, "etag: \"a\""],
        &["if-match: \"a\"", &format!("if-unmodified-since: {}", date(-101))],
        "proceed",
    );
    check(&["etag: \"a\""], &["if-match: \"a\"", "if-none-match: \"a\""], "not-modified");
}

#[test]
fn only_successes_have_conditions() {
    let world = World::default();
    let stored = world.admit(&[], 404, &["cache-control: max-age=60", "etag: \"a\""]).unwrap();
    assert_eq!(evaluate(world.view(&headers(&["if-none-match: \"a\""])), &stored), Precondition::Proceed);
}

#[test]
fn our_own_conditions() {
    let check = |response: &[&str], expected: &[&str]| {
        let mut fields = vec!["cache-control: max-age=60"];
        fields.extend(response);
        let found: HeaderMap = conditions(&World::default().stored(&fields)).into_iter().collect();
        assert_eq!(found, headers(expected), "{response:?}");
        assert_eq!(World::default().stored(&fields).has_validator(), !expected.is_empty(), "{response:?}");
    };
    let modified = date(-100);
    check(&[], &[]);
    check(&["etag: W/\"a\""], &["if-none-match: W/\"a\""]);
    check(&["etag: unquoted", "last-modified: whenever"], &[]);
    check(
        &["etag: \"a\"", &format!("last-modified: {modified}")],
        &["if-none-match: \"a\"", &format!("if-modified-since: {modified}")],
    );
}

/// Freshens at 100 s what was stored at 0 s.
fn freshened(world: &World, stored: &[&str], response_304: &[&str]) -> Freshened {
    let mut fields = vec!["cache-control: max-age=60", "test: old", "content-length: 5", "content-type: text/plain"];
    fields.extend(stored);
    let stored = world.admit(&["foo: 1"], 200, &fields).unwrap();
    let times = Times { request_time: later(100), response_time: later(100) };
    let request = headers(&["foo: 1"]);
    freshen(&stored, world.view(&request), &headers(response_304), &world.policy(), times, None)
}

#[test]
fn a_304_selects_or_not() {
    let check = |stored: &[&str], response_304: &[&str], expected: &str| {
        assert_eq!(
            freshened(&World::default(), stored, response_304).as_str(),
            expected,
            "{stored:?} {response_304:?}"
        );
    };
    let (then, other) = (format!("last-modified: {}", date(-100)), format!("last-modified: {}", date(-99)));
    check(&["etag: \"a\""], &["etag: \"a\""], "updated");
    check(&["etag: \"a\""], &["etag: W/\"a\""], "updated");
    check(&["etag: \"a\""], &[], "updated");
    check(&["etag: \"a\""], &["etag: \"b\""], "validator-mismatch");
    check(&[&then], &["etag: \"b\""], "validator-mismatch");
    check(&[&then], &[&then], "updated");
    check(&[&then], &[&other], "validator-mismatch");
    check(&["etag: \"a\"", &then], &["etag: \"a\"", &other], "updated");
    check(&["etag: \"a\""], &["cache-control: no-store"], "no-longer-storable");
    check(&["etag: \"a\""], &["vary: *"], "no-longer-storable");
}

#[test]
fn a_304_updates() {
    let mut world = World::default();
    let Freshened::Updated(head) = freshened(
        &world,
        &["etag: \"a\"", "age: 7", "surrogate-key: t"],
        &[
            "etag: \"a\"",
            "cache-control: max-age=9",
            "test: new",
            "test: newer",
            "content-length: 99",
            "content-encoding: gzip",
            "content-foo: x",
            "content-type: text/html",
            "age: 3",
            "connection: gone",
            "gone: 1",
            "cache-status: x",
            "vary: foo",
            "set-cookie: a=b",
        ],
    ) else {
        panic!("not updated")
    };
    let text = |name: &str| head.fields.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(text("test"), ["new", "newer"]);
    assert_eq!(text("content-length"), ["5"]);
    assert_eq!(text("content-foo"), ["x"]);
    assert_eq!(text("content-type"), ["text/html"]);
    assert_eq!(text("date"), [date(100)], "a 304 without Date is as old as its arrival");
    for absent in ["content-encoding", "gone", "age", "connection", "cache-status", "set-cookie"] {
        assert_eq!(text(absent), Vec::<&str>::new(), "{absent}");
    }
    assert_eq!((head.freshness.lifetime_ms, head.freshness.initial_age_ms), (9000, 3000));
    assert_eq!(head.freshness.response_time, later(100));
    assert_eq!(head.vary, [(HeaderName::from_static("foo"), Some("1".to_owned()))]);
    assert_eq!(head.tags, ["t".into()]);

    world.cache.set_cookie = SetCookie::Store;
    let Freshened::Updated(head) = freshened(&world, &["etag: \"a\"", "set-cookie: a=b"], &["set-cookie: a=c"]) else {
        panic!("not updated")
    };
    assert_eq!(head.fields[SET_COOKIE], "a=c");
}

#[test]
fn a_304_without_fields_renews() {
    let Freshened::Updated(head) = freshened(&World::default(), &["etag: \"a\"", "age: 7"], &[]) else {
        panic!("not updated")
    };
    assert!(head.freshness.is_fresh(later(159)) && !head.freshness.is_fresh(later(160)));
}

#[test]
fn fields_of_a_304() {
    let stored = World::default().stored(&[
        "cache-control: max-age=60",
        "etag: \"a\"",
        "vary: foo",
        "content-type: text/plain",
        "content-length: 5",
        "content-location: /x",
        "content-encoding: br",
        "content-security-policy: x",
    ]);
    let fields = not_modified_fields(&stored);
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-location", "content-security-policy", "date", "etag", "vary"]);
    let for_peer = not_modified_fields_for_peer(&stored);
    assert!(for_peer.contains_key("content-type") && for_peer.len() == fields.len() + 1, "{for_peer:?}");
    assert!(fields.contains_key(CACHE_CONTROL) && fields.contains_key(VARY) && !fields.contains_key(AGE));
}

#[test]
fn a_head_updates_or_outdates() {
    let world = World { method: Method::HEAD, ..World::default() };
    let stored = World::default()
        .admit(&["foo: 1"], 200, &["cache-control: max-age=60", "etag: \"a\"", "vary: foo", "test: old"])
        .unwrap();
    let check = |request: &[&str], status: u16, response: &[&str], expected: &str| {
        let times = Times { request_time: later(100), response_time: later(100) };
        let status = StatusCode::from_u16(status).unwrap();
        let fields = headers(response);
        let response_to_head = HeadResponse { status, headers: &fields, trusted_age_ms: None };
        let effect = apply_head(&stored, world.view(&headers(request)), response_to_head, 5, &world.policy(), times);
        assert_eq!(effect.as_str(), expected, "{request:?} {status} {response:?}");
        if let HeadEffect::Updated(head) = effect {
            assert!(head.freshness.is_fresh(later(159)) && !head.freshness.is_fresh(later(160)));
        }
    };
    check(&["foo: 1"], 200, &[], "updated");
    check(&["foo: 1"], 200, &["etag: \"a\"", "content-length: 5", "test: new"], "updated");
    check(&["foo: 1"], 200, &["etag: \"b\""], "outdated");
    check(&["foo: 1"], 200, &["etag: W/\"a\""], "outdated");
    check(&["foo: 1"], 200, &["etag: junk"], "outdated");
    check(&["foo: 1"], 200, &["content-length: 6"], "outdated");
    check(&["foo: 1"], 200, &["cache-control: no-store"], "outdated");
    check(&["foo: 1"], 410, &["etag: \"b\""], "outdated");
    check(&["foo: 1"], 404, &[], "outdated");
    check(&["foo: 2"], 404, &[], "none");
    check(&["foo: 1"], 405, &["etag: \"b\""], "none");
    check(&["foo: 1"], 500, &[], "none");
    check(&["foo: 1"], 304, &["etag: \"b\""], "none");
    check(&["foo: 2"], 200, &["etag: \"b\""], "none");
}

proptest! {
    #[test]
    fn any_list_of_tags_is_searched_whole(tags in proptest::collection::vec("[!#-~]{0,8}", 1..20), pick in any::<prop::sample::Index>(), weak in any::<bool>()) {
        let own = pick.get(&tags);
        let list: Vec<String> = tags.iter().map(|tag| format!("{}\"{tag}\"", if weak { "W/" } else { "" })).collect();
        check(&[&format!("etag: \"{own}\"")], &[&format!("if-none-match: {}", list.join(" , "))], "not-modified");
    }

    #[test]
    fn junk_never_panics(junk in "[ -~é]{0,60}") {
        let world = World::default();
        let stored = world.stored(&["cache-control: max-age=60", "etag: \"a\""]);
        let request = headers(&[&format!("if-none-match: {junk}"), &format!("if-match: {junk}"), &format!("if-modified-since: {junk}")]);
        let _ = evaluate(world.view(&request), &stored);
    }
}
