use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW, World, headers, later};

fn check_in(world: &World, response: &str, request: &str, age: u64, expected: &str) {
    let stored = world.stored(&[&format!("cache-control: {response}"), "etag: \"a\""]);
    let request = headers(&[&format!("cache-control: {request}")]);
    let reuse = judge(&stored, world.view(&request), &world.policy(), later(age));
    assert_eq!(reuse.as_str(), expected, "{response} | {request:?} | {age} s");
}

#[test]
fn responses() {
    let check = |response: &str, age, expected: &str| check_in(&World::default(), response, "", age, expected);
    check("max-age=60", 0, "fresh");
    check("max-age=60", 59, "fresh");
    check("max-age=60", 60, "stale");
    check("max-age=0", 0, "stale");
    check("max-age=60, no-cache", 1, "no-cache");
    check("max-age=60, must-revalidate", 59, "fresh");
    check("max-age=60, stale-while-revalidate=30", 59, "fresh");
    check("max-age=60, stale-while-revalidate=30", 60, "stale-while-revalidate");
    check("max-age=60, stale-while-revalidate=30", 89, "stale-while-revalidate");
    check("max-age=60, stale-while-revalidate=30", 90, "stale");
    for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
        check(&format!("max-age=60, stale-while-revalidate=30, {forbids}"), 61, "stale");
    }
}

#[test]
fn stale_while_revalidating_is_the_edges_alone() {
    let shield = World { tier: Tier::Shield, ..World::default() };
    check_in(&shield, "max-age=60, stale-while-revalidate=30", "", 61, "stale");
    let mut edge = World::default();
    edge.cache.stale_while_revalidate = Duration::from_secs(10);
    check_in(&edge, "max-age=60", "", 69, "stale-while-revalidate");
    check_in(&edge, "max-age=60", "", 70, "stale");
    // The origin's word goes before the site's.
    check_in(&edge, "max-age=60, stale-while-revalidate=0", "", 61, "stale");
}

#[test]
fn requests() {
    for request in ["no-cache", "max-age=0", "min-fresh=600", "only-if-cached", "max-stale"] {
        check_in(&World::default(), "max-age=60", request, 10, "fresh");
        check_in(&World::default(), "max-age=60", request, 61, "stale");
    }
    let world = World::honouring();
    let check = |response: &str, request: &str, age, expected: &str| check_in(&world, response, request, age, expected);
    check("max-age=60", "no-cache", 0, "request-no-cache");
    check("max-age=60", "no-store", 0, "fresh");
    check("max-age=60", "max-age=0", 0, "fresh");
    check("max-age=60", "max-age=0", 1, "request-max-age");
    check("max-age=60", "max-age=10", 10, "fresh");
    check("max-age=60", "max-age=10", 11, "request-max-age");
    check("max-age=60, immutable", "max-age=0", 11, "fresh");
    check("max-age=60, immutable", "max-age=0", 61, "request-max-age");
    check("max-age=60, immutable", "no-cache", 11, "request-no-cache");
    check("max-age=60", "min-fresh=50", 10, "fresh");
    check("max-age=60", "min-fresh=50", 11, "request-min-fresh");
    check("max-age=60", "max-stale", 1000, "max-stale");
    check("max-age=60", "max-stale=5", 65, "max-stale");
    check("max-age=60", "max-stale=5", 66, "stale");
    check("max-age=60, must-revalidate", "max-stale", 61, "stale");
    check("max-age=60", "only-if-cached", 10, "fresh");
    check("max-age=60", "only-if-cached", 61, "only-if-cached");
    check("max-age=60", "only-if-cached, no-cache", 1, "only-if-cached");
    check("max-age=60, stale-while-revalidate=9", "only-if-cached", 61, "stale-while-revalidate");
}

#[test]
fn on_error() {
    let check = |world: &World, status: u16, response: &str, age, expected| {
        let stored = world.admit(&[], status, &[&format!("cache-control: {response}"), "etag: \"a\""]).unwrap();
        assert_eq!(serve_on_error(&stored, &world.policy(), later(age)), expected, "{response} {age}");
    };
    let world = World::default();
    check(&world, 200, "max-age=60", 61, true);
    check(&world, 200, "max-age=60", 60 + 86_399, true);
    check(&world, 200, "max-age=60", 60 + 86_400, false);
    check(&world, 200, "max-age=60, stale-if-error=5", 64, true);
    check(&world, 200, "max-age=60, stale-if-error=5", 65, false);
    check(&world, 200, "max-age=60, stale-if-error=0", 60, false);
    for forbids in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60"] {
        check(&world, 200, &format!("max-age=60, {forbids}"), 61, false);
    }
    check(&world, 503, "max-age=60", 61, false);
    check(&world, 404, "max-age=60", 61, true);
    check(&World { tier: Tier::Shield, ..World::default() }, 200, "max-age=60", 61, true);
}

#[test]
fn plans() {
    let check = |world: &World, method: &str, fields: &[&str], expected: &str| {
        let world = World { method: Method::from_bytes(method.as_bytes()).unwrap(), ..world.clone() };
        assert_eq!(plan(world.view(&headers(fields)), &world.policy()).as_str(), expected, "{method} {fields:?}");
    };
    let world = World::default();
    check(&world, "GET", &[], "lookup");
    check(&world, "HEAD", &["content-length: 0"], "lookup");
    check(&world, "GET", &["content-length: 1"], "request-body");
    check(&world, "GET", &["transfer-encoding: chunked"], "request-body");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "get", "M-SEARCH"] {
        check(&world, method, &[], "method");
    }
    let rule = perigee_protocol::model::RuleCache { pass: true, ..Default::default() };
    check(&World { rule: Some(rule), ..World::default() }, "GET", &[], "pass");
    assert!(!only_if_cached(world.view(&headers(&["cache-control: only-if-cached"])), &world.policy()));
    let world = World::honouring();
    assert!(only_if_cached(world.view(&headers(&["cache-control: only-if-cached"])), &world.policy()));
}

/// The worse, the higher.
fn rank(reuse: Reuse) -> u8 {
    match reuse {
        Reuse::Fresh => 0,
        Reuse::StaleByRequest | Reuse::StaleWhileRevalidate => 1,
        Reuse::Revalidate(_) | Reuse::OnlyIfCached => 2,
    }
}

proptest! {
    /// What time has made unusable it never makes usable again.
    #[test]
    fn monotone_in_now(
        max_age in 0_u64..100, swr in proptest::option::of(0_u64..100), age in 0_u64..100,
        request in "(max-age=[0-9]{1,2}|max-stale(=[0-9]{1,2})?|min-fresh=[0-9]{1,2}|only-if-cached|, ?){0,3}",
        first in 0_u64..400_000, second in 0_u64..400_000, extra in "(, must-revalidate|, immutable|, s-maxage=9)?",
    ) {
        let world = World::honouring();
        let swr = swr.map_or(String::new(), |swr| format!(", stale-while-revalidate={swr}"));
        let stored = world.stored(&[&format!("cache-control: max-age={max_age}{swr}{extra}"), &format!("age: {age}"), "etag: \"a\""]);
        let request = headers(&[&format!("cache-control: {request}")]);
        let at = |ms| rank(judge(&stored, world.view(&request), &world.policy(), NOW.plus_ms(ms)));
        prop_assert!(at(first.min(second)) <= at(first.max(second)));
        let error = |ms| serve_on_error(&stored, &world.policy(), NOW.plus_ms(ms));
        prop_assert!(error(first.min(second)) >= error(first.max(second)));
    }

    /// A client whose directives are ignored changes nothing.
    #[test]
    fn ignored_means_ignored(request in "[ -~]{0,40}", age in 0_u64..200) {
        let world = World::default();
        let stored = world.stored(&["cache-control: max-age=60"]);
        let asked = headers(&[&format!("cache-control: {request}")]);
        let plain = HeaderMap::new();
        prop_assert_eq!(
            judge(&stored, world.view(&asked), &world.policy(), later(age)),
            judge(&stored, world.view(&plain), &world.policy(), later(age)),
        );
    }
}
