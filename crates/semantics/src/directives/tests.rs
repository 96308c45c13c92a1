use expect_test::{Expect, expect};
use http::HeaderValue;

use super::*;

fn headers(lines: &[&str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn check(lines: &[&str], expected: Expect) {
    let control = ResponseControl::read(&headers(lines));
    // Only what is said, one directive a word.
    let scope = |name: &str, scope: &Scope| match scope {
        Scope::None => None,
        Scope::All => Some(name.to_owned()),
        Scope::Fields(names) => Some(format!("{name}={names:?}")),
    };
    let seconds = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
    let flag = |name: &str, value: bool| value.then(|| name.to_owned());
    let said: Vec<String> = [
        flag("targeted", control.targeted),
        flag("no-store", control.no_store),
        scope("no-cache", &control.no_cache),
        scope("private", &control.private),
        flag("public", control.public),
        flag("must-revalidate", control.must_revalidate),
        flag("proxy-revalidate", control.proxy_revalidate),
        flag("must-understand", control.must_understand),
        flag("immutable", control.immutable),
        seconds("max-age", control.max_age),
        seconds("s-maxage", control.s_maxage),
        seconds("swr", control.stale_while_revalidate),
        seconds("sie", control.stale_if_error),
    ]
    .into_iter()
    .flatten()
    .collect();
    expected.assert_eq(&said.join(" "));
}

#[test]
fn cache_control() {
    check(&[], expect![""]);
    check(&["cache-control: max-age=3600"], expect!["max-age=3600"]);
    check(&["cache-control: MaX-aGe=3600, No-StOrE"], expect!["no-store max-age=3600"]);
    check(&["cache-control: max-age=\"3600\""], expect!["max-age=3600"]);
    check(&["cache-control: max-age='3600'"], expect!["max-age=0"]);
    check(&["cache-control: max-age=003600"], expect!["max-age=3600"]);
    check(&["cache-control: max-age=3600.5"], expect!["max-age=0"]);
    check(&["cache-control: max-age=-100"], expect!["max-age=0"]);
    check(&["cache-control: max-age=100a"], expect!["max-age=0"]);
    check(&["cache-control: max-age"], expect!["max-age=0"]);
    check(&["cache-control: max-age=99999999999"], expect!["max-age=2147483648"]);
    // Space on either side of the = is not the directive.
    check(&["cache-control: max-age =3600"], expect![""]);
    check(&["cache-control: max-age= 3600"], expect!["max-age=0"]);
    // RFC 9111 §4.2.1: the first counts.
    check(&["cache-control: max-age=1, max-age=1800"], expect!["max-age=1"]);
    check(&["cache-control: max-age=1800", "cache-control: max-age=1"], expect!["max-age=1800"]);
    check(&["cache-control: extension=\"max-age=3600\", max-age=1"], expect!["max-age=1"]);
    check(&["cache-control: max-age=1, extension=\"max-age=3600, no-store\""], expect!["max-age=1"]);
    check(&["cache-control: max-age=1, extension=\"open, no-store"], expect!["no-store max-age=1"]);
    check(&["cache-control: s-max-age=5, nostore, publick"], expect![""]);
    check(&["cache-control: no-store=\"x\""], expect!["no-store"]);
    check(&["cache-control: private=\"a, B\""], expect![[r#"private=["a", "b"]"#]]);
    check(&["cache-control: no-cache=a"], expect![[r#"no-cache=["a"]"#]]);
    check(&["cache-control: no-cache=\"a\", no-cache"], expect!["no-cache"]);
    check(&["cache-control: no-cache=\"a b\""], expect!["no-cache"]);
    check(&["cache-control: private=\"\""], expect!["private"]);
    check(
        &["cache-control: stale-while-revalidate=30, stale-if-error=60, immutable, public, must-understand"],
        expect!["public must-understand immutable swr=30 sie=60"],
    );
}

#[test]
fn targeted() {
    check(&["cdn-cache-control: max-age=60", "cache-control: no-store"], expect!["targeted max-age=60"]);
    check(
        &["perigee-cache-control: max-age=5", "cdn-cache-control: max-age=60", "cache-control: no-store"],
        expect!["targeted max-age=5"],
    );
    check(&["perigee-cache-control: &", "cdn-cache-control: max-age=60"], expect!["targeted max-age=60"]);
    check(&["cdn-cache-control: foobar, max-age=60"], expect!["targeted max-age=60"]);
    check(&["cdn-cache-control: max-age=60", "cdn-cache-control: private"], expect!["targeted private max-age=60"]);
    check(&["cdn-cache-control: max-age=99999999999"], expect!["targeted max-age=2147483648"]);
    check(&["cdn-cache-control: max-age=-1"], expect!["targeted max-age=0"]);
    check(&["cdn-cache-control: private=\"a\""], expect![[r#"targeted private=["a"]"#]]);
    check(&["cdn-cache-control: no-store=?0"], expect!["targeted"]);
    // RFC 9213 §2.1: what is no valid Dictionary, or of the wrong type, is absent.
    for bad in [
        "",
        "max-age=60, &&&&&",
        "max-age=\"60\"",
        "max-age=60.5",
        "max-age",
        "max-age=(1 2)",
        "no-store=1",
        "MaX-aGe=60",
        "max-age =60",
    ] {
        check(&[&format!("cdn-cache-control: {bad}"), "cache-control: no-store"], expect!["no-store"]);
    }
}

#[test]
fn requests() {
    let check = |value: &str, expected: RequestControl| {
        assert_eq!(RequestControl::read(&headers(&[&format!("cache-control: {value}")])), expected, "{value}");
    };
    let none = RequestControl::default();
    check("max-age=0", RequestControl { max_age: Some(0), ..none });
    check("max-age=x", none);
    check("max-stale", RequestControl { max_stale: Some(u64::MAX), ..none });
    check("max-stale=5, min-fresh=\"7\"", RequestControl { max_stale: Some(5), min_fresh: Some(7), ..none });
    check(
        "NO-CACHE, no-store, only-if-cached",
        RequestControl { no_cache: true, no_store: true, only_if_cached: true, ..none },
    );
}
