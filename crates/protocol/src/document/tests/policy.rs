//! `--policy KEY=VALUE`, and what nodes cannot do yet.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::{EXAMPLE, SMALL, load};
use crate::{
    document::{NodeKind, policy_from_pairs, unsupported},
    model::{CachePolicy, ClientCacheControl, DiskAdmission, HeadPolicy, SetCookie, TargetedCacheControl},
};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn check_bad(bad: &[(&str, &str)], expected: Expect) {
    expected.assert_eq(&policy_from_pairs(&pairs(bad)).unwrap_err().to_string());
}

#[test]
fn good_pairs() {
    assert_eq!(policy_from_pairs(&[]), Ok(CachePolicy::default()));
    let policy = policy_from_pairs(&pairs(&[
        ("set_cookie", "store"),
        ("client_cache_control", "\"honour\""),
        ("head", "fill"),
        ("targeted_cache_control", "pass"),
        ("default_ttl", "60s"),
        ("query", "{drop=[\"utm_*\"]}"),
        ("negative_ttl", "{404=\"5s\"}"),
        ("vary_limit", "8"),
        ("object_bytes_max", "1GiB"),
        ("object_bytes_min", "1GiB"),
        ("admission", "second-fetch"),
    ]))
    .unwrap();
    assert_eq!(policy.set_cookie, SetCookie::Store);
    assert_eq!(policy.client_cache_control, ClientCacheControl::Honour);
    assert_eq!(policy.head, HeadPolicy::Fill);
    assert_eq!(policy.targeted_cache_control, TargetedCacheControl::Pass);
    assert_eq!(policy.default_ttl, Duration::from_secs(60));
    assert_eq!(policy.query.drop, ["utm_*"]);
    assert_eq!(policy.negative_ttl[&404], Duration::from_secs(5));
    assert_eq!((policy.vary_limit, policy.object_bytes_max, policy.object_bytes_min), (8, 1 << 30, 1 << 30));
    assert_eq!(policy.admission, DiskAdmission::SecondFetch);
}

#[test]
fn bad_pairs() {
    check_bad(
        &[("set_cookies", "store"), ("vary_limit", "none"), ("default_ttl", "60")],
        expect![[r#"
        --policy:1  set_cookies
            is no key of this document; did you mean "set_cookie"?
        --policy:2  vary_limit = "none"
            must be a whole number, 1..=1024, not a string; remove it for the default (64)
        --policy:3  default_ttl = 60
            must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s, as a string, not an integer; remove it for the default ("0s")"#]],
    );
    check_bad(
        &[("head", "get"), ("targeted_cache_control", "true")],
        expect![[r#"
            --policy:1  head = "get"
                must be "pass" or "fill"; remove it for the default ("pass")
            --policy:2  targeted_cache_control = true
                must be "remove" or "pass", as a string, not a boolean; remove it for the default ("remove")"#]],
    );
    check_bad(
        &[("vary_limit", "1"), ("vary_limit", "2")],
        expect![[r#"
        --policy:2  vary_limit = 2
            is no TOML: duplicate key; correct this line first"#]],
    );
    check_bad(
        &[("a.b", "1"), ("", "2"), ("x\"]\n[y", "3")],
        expect![[r#"
        --policy:1  "a.b"
            is no key of this document; the keys here are default_ttl, max_ttl, stale_while_revalidate, stale_if_error, negative_ttl, query, set_cookie, client_cache_control, head, targeted_cache_control, vary_limit, object_bytes_max, object_bytes_min, admission, surrogate_key_headers
        --policy:2  ""
            is no key of this document; the keys here are default_ttl, max_ttl, stale_while_revalidate, stale_if_error, negative_ttl, query, set_cookie, client_cache_control, head, targeted_cache_control, vary_limit, object_bytes_max, object_bytes_min, admission, surrogate_key_headers
        --policy:3  "x"] [y"
            is no key of this document; the keys here are default_ttl, max_ttl, stale_while_revalidate, stale_if_error, negative_ttl, query, set_cookie, client_cache_control, head, targeted_cache_control, vary_limit, object_bytes_max, object_bytes_min, admission, surrogate_key_headers"#]],
    );
    check_bad(
        &[("set_cookie", "a\nb # \"c\"")],
        expect![[r#"
        --policy:1  set_cookie = "a\u000Ab # \"c\""
            must be "pass" or "strip" or "store"; remove it for the default ("pass")"#]],
    );
    check_bad(
        &[("negative_ttl", "{404=\"5s\"")],
        expect![[r#"
        --policy:1  negative_ttl = "{404=\"5s\""
            must be a table, not a string; remove it for the default (none)"#]],
    );
}

fn check_unsupported(text: &str, node: NodeKind, expected: Expect) {
    let found = unsupported(&load("f", text).unwrap(), node);
    expected.assert_eq(&found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_nodes_cannot_do() {
    check_unsupported(EXAMPLE, NodeKind::Edge, expect![]);
    check_unsupported(EXAMPLE, NodeKind::Shield, expect![]);
    check_unsupported(EXAMPLE, NodeKind::Geodns, expect![]);
    let https = SMALL.replace("http://", "https://");
    let nats = format!(
        "{https}[[shield]]\nid = \"s\"\nurl = \"https://s\"\n[control]\nengine = \"nats\"\nurl = \"nats://n:4222\""
    );
    check_unsupported(
        &nats,
        NodeKind::Edge,
        expect![[r#"control.engine: this version does not do the control log over NATS; use engine = "embedded""#]],
    );
    check_unsupported(
        &nats,
        NodeKind::Shield,
        expect![[r#"control.engine: this version does not do the control log over NATS; use engine = "embedded""#]],
    );
    check_unsupported(
        &nats,
        NodeKind::Geodns,
        expect![[r#"control.engine: this version does not do the control log over NATS; use engine = "embedded""#]],
    );
}
