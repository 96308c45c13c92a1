//! The table of keys against the reader, and what is made of it.

use expect_test::{expect, expect_file};

use super::*;

mod agree;
mod cases;
mod schema;

#[test]
fn the_page_is_current() {
    expect_file!["../../../../../docs/configuration.md"].assert_eq(&markdown());
}

#[test]
fn the_committed_schema_is_current() {
    expect_file!["../../../../../docs/perigee.schema.json"].assert_eq(&super::schema());
}

#[test]
fn keys_are_explained_however_they_are_named() {
    let whole = explain("site.cache.vary_limit").unwrap();
    expect![[r#"
        site.cache.vary_limit
            variants of one URL.
            1 to 1,024
            default: 64
            for example: vary_limit = 64"#]]
    .assert_eq(&whole);
    for same in ["site.www.cache.vary_limit", "[site.cache].vary_limit", "vary_limit", "site[0].cache.vary_limit"] {
        assert_eq!(explain(same).as_ref(), Ok(&whole), "{same}");
    }
    expect![[r#"
        pop.node
            the machines of the PoP, drained one by one.
            up to 64 tables
            default: one of the PoP's own id
        keys of [[pop.node]]:
            id         unique among all nodes (required)
            addresses  what DNS answers (required)"#]]
    .assert_eq(&explain("[[pop.node]]").unwrap());
    expect![[r#"
        pop.addresses
            what DNS answers, each once in the document.
            list of 1 to 16: address
            default: those of its nodes
            for example: addresses = ["198.18.49.10"]"#]]
    .assert_eq(&explain("pop.fra.addresses[0]").unwrap());
    expect![[r#"
        cdn.why
            whose clients may ask TXT of _why.NAME why a name is answered as it is; to others that name is not there; see steering (docs/steering.md).
            list of up to 1,000: prefix
            default: loopback
            for example: why = ["127.0.0.0/8", "::1/128"]"#]].assert_eq(&explain("cdn.why").unwrap());
    assert_eq!(explain("geo.steering.bias.fra"), explain("geo.steering.bias"));
    assert_eq!(explain("site.rule[3].match"), explain("site.rule.match"));
}

#[test]
fn what_is_no_key_is_told_with_what_was_meant() {
    let check = |path: &str, hint: &str| assert_eq!(explain(path).unwrap_err().hint, hint, "{path}");
    check("ttl", "there is cdn.ttl, site.rule.cache.ttl, zone.record.ttl");
    check("cdn.tll", "did you mean cdn.ttl?");
    check("site.weight", "there is pop.weight, site.origins.weight");
    check("cdn.ttl.x", "did you mean cdn.ttl?");
    for path in ["site.www.originz", "site.*.originz", "site.originz", "[[site]].originz"] {
        check(path, "did you mean site.origins?");
    }
    check("site.www.origin", "did you mean site.origins? There is zone.file.origin, too");
    check("site.www.cache.varylimit", "did you mean site.cache.vary_limit?");
    // Where only the name is near, all that have it, whole: each of them is explained.
    for path in ["latitud", "site.www.frobs.urlz", "x.y.connectionsmax"] {
        let hint = explain(path).unwrap_err().hint;
        let said = hint.strip_prefix("did you mean ").and_then(|rest| rest.strip_suffix('?')).unwrap();
        assert!(said.split(" or ").all(|path| path.contains('.') && explain(path).is_ok()), "{hint}");
    }
    check("", "name one, such as cdn.ttl, or a section, such as site.cache");
    check("frobnicate", "its sections are version, pop, shield, site, cdn, geo, control, admin, zone");
}

#[test]
fn every_key_says_what_it_is_for() {
    for (path, _, section) in sections() {
        for key in section.keys {
            let path = format!("{path}.{}", key.name);
            assert!(!key.about.is_empty() && !key.about.ends_with('.'), "{path}");
            assert!(key.kind.section().is_some() || !key.example.is_empty(), "{path}");
            let text = explain(&path).unwrap();
            assert!(text.starts_with(&path), "{text}");
        }
    }
}
