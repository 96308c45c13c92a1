//! Tables of documents and what is said of them. `UPDATE_EXPECT=1` rewrites the expected reports.

use expect_test::{Expect, expect};

use super::*;

mod cdn;
mod health;
mod limits;
mod policy;
mod robust;
mod rules;
mod sites;
mod syntax;
mod transfer;
mod zone;

const EXAMPLE: &str = include_str!("../../../../deploy/example.toml");

/// The smallest document, as lines, so that tests can replace and add.
const SMALL: &str = r#"[cdn]
zone = "cdn.example"

[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["198.18.49.10"]

[[pop]]
id = "lon"
latitude = 51.51
longitude = -0.13
addresses = ["198.18.44.10"]

[[site]]
id = "www"
origins = [{ url = "http://198.18.0.90:8000" }]
"#;

fn report(text: &str) -> String {
    match load("perigee.toml", text) {
        Ok(_) => "ok".to_owned(),
        Err(mistakes) => mistakes.to_string(),
    }
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&report(text));
}

/// The small document with `from` replaced.
fn check_with(from: &str, to: &str, expected: Expect) {
    assert!(SMALL.contains(from), "{from}");
    check(&SMALL.replacen(from, to, 1), expected);
}

/// The small document with lines added at its end, which is inside `[[site]]`.
fn check_and(more: &str, expected: Expect) {
    check(&format!("{SMALL}{more}"), expected);
}

#[test]
fn the_example_loads() {
    check(EXAMPLE, expect!["ok"]);
}

#[test]
fn the_smallest_document_loads() {
    check(SMALL, expect!["ok"]);
}

#[test]
fn one_document_with_many_mistakes() {
    check(
        r#"version = 2

[cdn]
name = "two words"
zone = "cdn..example"
nameservers = [{ host = "ns1_.cdn.example" }]
ttl = "30"
negative_ttl = 60
colour = "blue"

[[pop]]
id = "fra"
latitude = 95.0
longitude = 8.68
addresses = ["198.18.49.10", "198.18.49"]
health = { interval = "1s", timeout = "1s" }
fallback = ["fra", "lnd"]

[[pop]]
id = "lon"
latitude = 51.51
longitude = -0.13

[[shield]]
id = "Shield"
url = "http://198.18.0.80/x"
pops = ["hkg"]

[[site]]
id = "www"
hosts = ["www.example.com", "www.example.com"]
orgins = [{ url = "http://198.18.0.90:8000" }]

[site.cache]
set_cookie = "keep"
vary_limit = 0
negative_ttl = { 200 = "5s" }

[[site.rule]]
match = { path = "static" }
cache = "store"
headers = { set = { "X Y" = "a" } }
"#,
        expect![[r#"
            perigee.toml:1  version = 2
                must be 1; remove it for the default (1)
            perigee.toml:4  cdn.name = "two words"
                must be 1 to 63 letters, digits and -._~+; remove it for the default ("perigee")
            perigee.toml:5  cdn.zone = "cdn..example"
                must be a domain name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example zone = "cdn.example"
            perigee.toml:6  cdn.nameservers[0].host = "ns1_.cdn.example"
                must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example host = "ns1.cdn.example"
            perigee.toml:7  cdn.ttl = "30"
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s; remove it for the default ("30s")
            perigee.toml:8  cdn.negative_ttl = 60
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s, as a string, not an integer; remove it for the default ("60s")
            perigee.toml:9  cdn.colour
                is no key of this document; the keys here are name, zone, nameservers, contact, ttl, negative_ttl, apex_site, secret_file, dnssec, dns_tls, rate_limit, why
            perigee.toml:13  pop.fra.latitude = 95.0
                must be -90 to 90 degrees; for example latitude = 50.11
            perigee.toml:15  pop.fra.addresses[1] = "198.18.49"
                must be an IPv4 or IPv6 address; correct it or remove it
            perigee.toml:16  pop.fra.health
                must have a timeout ("1s") shorter than its interval ("1s"); shorten the timeout or lengthen the interval
            perigee.toml:17  pop.fra.fallback[0] = "fra"
                must be another PoP: this one is what is down; remove it
            perigee.toml:17  pop.fra.fallback[1] = "lnd"
                must be the id of a PoP of this document; the PoPs are fra, lon
            perigee.toml:19  pop.lon
                must have addresses, or nodes with addresses; add addresses = ["198.18.49.10"]
            perigee.toml:25  shield[0].id = "Shield"
                must be 1 to 63 characters of a-z, 0-9 and -, and neither begin nor end with -; for example id = "shield-eu"
            perigee.toml:26  shield[0].url = "http://198.18.0.80/x"
                must be http://HOST, http://HOST:PORT or the same with https, and nothing after it; for example url = "http://198.18.0.80:8080"
            perigee.toml:27  shield[0].pops[0] = "hkg"
                must be the id of a PoP of this document; the PoPs are fra, lon
            perigee.toml:29  site.www.origins
                is missing; add origins = [{ url = "http://198.18.0.90:8000" }]
            perigee.toml:31  site.www.hosts[1] = "www.example.com"
                must be unique, and site.www.hosts[0] says it too (line 31); change or remove one of them
            perigee.toml:32  site.www.orgins
                is no key of this document; did you mean "origins"?
            perigee.toml:35  site.www.cache.set_cookie = "keep"
                must be "pass" or "strip" or "store"; remove it for the default ("pass")
            perigee.toml:36  site.www.cache.vary_limit = 0
                must be 1..=1024; remove it for the default (64)
            perigee.toml:37  site.www.cache.negative_ttl.200 = "5s"
                must be under a status code, 300 to 599 without 304; correct it or remove it
            perigee.toml:40  site.www.rule[0].match.path = "static"
                must be a path of visible ASCII that begins with / or *, at most 1024 bytes with at most 8 *, without ? and #; remove it for the default (any)
            perigee.toml:41  site.www.rule[0].cache = "store"
                must be "pass"; remove it for the default (what the site says)
            perigee.toml:42  site.www.rule[0].headers.set."X Y" = "a"
                must be under the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; correct it or remove it"#]],
    );
}

#[test]
fn every_mistake_has_its_column() {
    let mistakes = load("f", &SMALL.replace("\"198.18.44.10\"", "\"198.18.44.10\", 7")).unwrap_err();
    let places: Vec<_> = mistakes.iter().map(|mistake| (mistake.line, mistake.column, mistake.path.as_str())).collect();
    assert_eq!(places, [(14, 30, "pop.lon.addresses[1]")]);
    assert_eq!(mistakes.count(), 1);
}

#[test]
fn the_examples_values_arrive() {
    use crate::model::{OverrideTarget, SetCookie};
    let document = load("example.toml", EXAMPLE).unwrap();
    assert_eq!(document.cdn.zone, "cdn.example");
    assert_eq!(document.cdn.nameservers[0].addresses.len(), 2);
    assert_eq!(document.pops.len(), 5);
    assert_eq!(document.pop("hkg").unwrap().nodes[1].id.as_str(), "hkg-b");
    assert_eq!(document.pop("fra").unwrap().nodes[0].id.as_str(), "fra");
    assert_eq!(document.pop("lon").unwrap().health, document.pop("fra").unwrap().health);
    assert_eq!(document.geo.overrides[0].target, OverrideTarget::Pop("syd".parse().unwrap()));
    assert_eq!(document.geo.steering.fence["CN"].len(), 1);
    assert!(document.geo.steering.fence["*"].is_empty());
    assert_eq!(document.shield("shield-eu").unwrap().url.to_string(), "http://198.18.0.80:8080");
    let site = document.site("www").unwrap();
    assert_eq!(site.cache.negative_ttl[&410], std::time::Duration::from_secs(60));
    assert_eq!(site.cache.set_cookie, SetCookie::Pass);
    assert_eq!(site.cache.query.drop, ["utm_*", "fbclid"]);
    assert_eq!(site.pops, None);
    assert!(site.origins[1].backup);
    assert!(site.rules[0].when.path[0].matches("/api/x") && site.rules[0].cache.pass);
    let rule = &site.rules[1];
    assert!(
        rule.cache.ignore_query && rule.headers.set[0].0 == "x-frame-options" && rule.headers.remove[0] == "server"
    );
    assert_eq!(document.records[0].name, "cdn.example");
    assert_eq!(document.records[0].values, ["\"v=spf1 -all\""]);
    let hosts: Vec<_> = document.site_hosts(site).collect();
    assert_eq!(hosts, ["www.example.com", "assets.example.com", "www.cdn.example", "cdn.example"]);
}

#[test]
fn the_smallest_documents_defaults() {
    let document = load("small.toml", SMALL).unwrap();
    assert_eq!(document.cdn.name, "perigee");
    assert_eq!(document.cdn.contact, "hostmaster@cdn.example");
    assert_eq!(document.sites[0].cache, crate::model::CachePolicy::default());
    assert_eq!(document.sites[0].upstream, crate::model::UpstreamPolicy::default());
    assert_eq!(document.geo.steering.answers, 2);
    assert!(document.records.is_empty() && document.shields.is_empty() && document.admin.tokens.is_empty());
}

/// The reader's own lists of keys, as it tells them of an unknown one, against the page that people read.
#[test]
fn the_reference_names_every_key() {
    const REFERENCE: &str = include_str!("../../../../docs/configuration.md");
    let unknown = "zzzzzzzzzzzz = 1\n";
    let inline = "{ zzzzzzzzzzzz = 1 }";
    let text = format!(
        "{unknown}[cdn]\n{unknown}nameservers = [{inline}]\n[cdn.dnssec]\n{unknown}[geo]\n{unknown}default_location = {inline}\n\
         [[geo.override]]\n{unknown}[geo.steering]\n{unknown}[control]\n{unknown}[admin]\n{unknown}tokens = [{inline}]\n\
         [[pop]]\n{unknown}health = {inline}\nload = {inline}\n[[pop.node]]\n{unknown}[[shield]]\n{unknown}[[site]]\n{unknown}origins = [{inline}]\n\
         tls = {inline}\n[site.cache]\n{unknown}query = {inline}\n[site.upstream]\n{unknown}[[site.rule]]\n{unknown}match = {inline}\n\
         cache = {{ zzzzzzzzzzzz = 1, key = {inline} }}\nheaders = {inline}\nredirect = {inline}\n[[zone.record]]\n{unknown}"
    );
    let mistakes = load("f", &text).unwrap_err();
    let lists: Vec<_> =
        mistakes.iter().filter_map(|mistake| mistake.remedy.strip_prefix("the keys here are ")).collect();
    assert_eq!(lists.len(), text.matches("zzzzzzzzzzzz").count());
    let named = |key: &str| {
        ["`", ".", "[", " "]
            .iter()
            .any(|before| ["`", "]", ",", " "].iter().any(|after| REFERENCE.contains(&format!("{before}{key}{after}"))))
    };
    let missing: Vec<_> = lists.iter().flat_map(|list| list.split(", ")).filter(|key| !named(key)).collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks {missing:?}");
}
