//! Texts that are no TOML.

use expect_test::expect;

use super::{SMALL, check, check_with, load, report};
use crate::document::{KEY_PARTS_MAX, MISTAKES_MAX};

#[test]
fn a_broken_line_hides_no_other_mistake() {
    check_with(
        "latitude = 50.11",
        "latitude = \nlongitud = 1",
        expect![[r#"
        perigee.toml:6  latitude =
            is no TOML: string values must be quoted, expected literal string; correct this line first
        perigee.toml:7  pop.fra.longitud
            is no key of this document; did you mean "longitude"?"#]],
    );
    check(
        &SMALL.replace("\"198.18.44.10\"]", "\"198.18.44.10\"").replace("50.11", "500.11"),
        expect![[r#"
        perigee.toml:6  pop.fra.latitude = 500.11
            must be -90 to 90 degrees; for example latitude = 50.11
        perigee.toml:14  addresses = ["198.18.44.10"
            is no TOML: a bracket is opened here and never closed; correct this line first"#]],
    );
    // Lines after an open bracket are all wrong, and none of them is the mistake; a bracket of the other kind closes nothing.
    let open = "a bracket is opened here and never closed";
    for (broken, law) in [
        ("zone = { a = 1,", open),
        ("zone = [[1], { a = [2] }", open),
        ("zone = [ # ]", open),
        ("zone = { a = 1 ]", "invalid inline table element, expected `,`"),
    ] {
        let said = report(&SMALL.replace("zone = \"cdn.example\"", broken));
        assert_eq!(said, format!("perigee.toml:2  {broken}\n    is no TOML: {law}; correct this line first"));
    }
    check(
        "[cdn\nzone = \"a.example\"\n[[pop]\nid = \"UP\"",
        expect![[r#"
        perigee.toml:1  [cdn
            is no TOML: unclosed table, expected `]`; correct this line first
        perigee.toml:3  [[pop]
            is no TOML: unclosed array table, expected `]`; correct this line first"#]],
    );
    check(
        "this is no document",
        expect![[r#"
        perigee.toml:1  this is no document
            is no TOML: key with no value, expected `=`; correct this line first"#]],
    );
    check_with(
        "[cdn]",
        "[cdn]\nname = \"a\"\nname = \"b\"\ncolor = 1",
        expect![[r#"
            perigee.toml:3  name = "b"
                is no TOML: duplicate key; correct this line first
            perigee.toml:4  cdn.color
                is no key of this document; the keys here are name, zone, nameservers, contact, ttl, negative_ttl, apex_site, secret_file, dnssec, dns_tls, rate_limit, why"#]],
    );
    check(
        &format!("{SMALL}[cdn]\nzone = \"other.example\"\n"),
        expect![[r#"
        perigee.toml:19  [cdn]
            is no TOML: duplicate key; correct this line first
        perigee.toml:20  zone = "other.example"
            is no TOML: duplicate key; correct this line first"#]],
    );
}

#[test]
fn keys_as_deep_as_the_text_is_long() {
    let deep = |parts: usize| format!("{} = 1", vec!["a"; parts].join("."));
    assert!(report(&deep(KEY_PARTS_MAX)).contains("is no key of this document"));
    assert!(report(&deep(KEY_PARTS_MAX + 1)).contains("at most 64 parts"));
    assert!(report(&deep(1_000_000)).contains("at most 64 parts"));
    assert!(report(&format!("[{}]", vec!["\",\""; 100_000].join("."))).contains("at most 64 parts"));
    assert!(report(&format!("a = {}", "[".repeat(1_000_000))).contains("recurs"));
    assert!(report(&format!("a = {}", "{a=".repeat(1_000_000))).contains("recurs"));
}

#[test]
fn more_mistakes_than_a_report_holds() {
    let mistakes = load("f", &"]\n".repeat(MISTAKES_MAX + 1)).unwrap_err();
    // No tree is built of such a text, and nothing beyond is counted.
    assert_eq!((mistakes.iter().count(), mistakes.count()), (MISTAKES_MAX, MISTAKES_MAX));
    let unknown: String = (0..=MISTAKES_MAX).map(|n| format!("k{n} = 1\n")).collect();
    let mistakes = load("f", &unknown).unwrap_err();
    // The three missing sections come on top.
    assert_eq!((mistakes.iter().count(), mistakes.count()), (MISTAKES_MAX, MISTAKES_MAX + 4));
    assert!(mistakes.to_string().ends_with("\nand 4 more"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    assert!(!report("a = \u{1b}[31m\nb = \"\u{7}\"\n\"\\u001b\" = 1\n").contains(['\u{1b}', '\u{7}']));
}
