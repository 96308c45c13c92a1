//! Both sides of every limit.

use super::{SMALL, load, report};
use crate::document::{TEXT_BYTES_MAX, limits::*};

/// `build(max)` loads, `build(max + 1)` says `law`.
fn check(max: usize, law: &str, build: impl Fn(usize) -> String) {
    assert_eq!(report(&build(max)), "ok", "{law}");
    let said = report(&build(max + 1));
    assert!(said.contains(law), "{law}: {}", said.chars().take(500).collect::<String>());
}

fn many(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).map(each).collect()
}

fn list(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).map(each).collect::<Vec<_>>().join(",")
}

fn address(n: usize) -> String {
    format!("\"10.{}.{}.{}\"", n >> 16, n >> 8 & 255, n & 255)
}

#[test]
fn bytes() {
    check(DOCUMENT_BYTES_MAX, "a document has at most 8388608", |bytes| {
        format!("{SMALL}#{}", "x".repeat(bytes - SMALL.len() - 1))
    });
    check(TEXT_BYTES_MAX, "must have at most 4096 bytes", |bytes| {
        SMALL.replace("[[site]]", &format!("[geo]\ndatabase = \"{}\"\n[[site]]", "x".repeat(bytes)))
    });
}

#[test]
fn pops() {
    // SMALL has two.
    check(POPS_MAX, "must have at most 1000 elements", |count| {
        let more = many(count - 2, |n| {
            format!("[[pop]]\nid = \"p{n}\"\nlatitude = 0\nlongitude = 0\naddresses = [{}]\n", address(n))
        });
        format!("{SMALL}{more}")
    });
    check(POP_NODES_MAX, "must have at most 64 elements", |count| {
        let nodes = many(count, |n| format!("[[pop.node]]\nid = \"n{n}\"\naddresses = [{}]\n", address(n)));
        format!("{SMALL}[[pop]]\nid = \"big\"\nlatitude = 0\nlongitude = 0\n{nodes}")
    });
    check(NODE_ADDRESSES_MAX, "must have at most 16 elements", |count| {
        format!("{SMALL}[[pop]]\nid = \"big\"\nlatitude = 0\nlongitude = 0\naddresses = [{}]", list(count, address))
    });
    check(SHIELDS_MAX, "must have at most 100 elements", |count| {
        format!("{SMALL}{}", many(count, |n| format!("[[shield]]\nid = \"s{n}\"\nurl = \"http://s{n}\"\n")))
    });
}

#[test]
fn sites() {
    // SMALL has one.
    check(SITES_MAX, "must have at most 10000 elements", |count| {
        format!(
            "{SMALL}{}",
            many(count - 1, |n| format!("[[site]]\nid = \"s{n}\"\norigins = [{{ url = \"http://o\" }}]\n"))
        )
    });
    check(SITE_HOSTS_MAX, "must have at most 1000 elements", |count| {
        format!("{SMALL}hosts = [{}]", list(count, |n| format!("\"h{n}.example\"")))
    });
    check(SITE_ORIGINS_MAX, "must have at most 64 elements", |count| {
        SMALL.replace("{ url = \"http://198.18.0.90:8000\" }", &list(count, |n| format!("{{ url = \"http://o{n}\" }}")))
    });
    check(SITE_RULES_MAX, "must have at most 256 elements", |count| {
        format!("{SMALL}{}", many(count, |n| format!("[[site.rule]]\nmatch = {{ path = \"/{n}\" }}\n")))
    });
    check(RULE_HEADERS_MAX, "must have at most 64 fields", |count| {
        let fields = list(count, |n| format!("X-{n} = \"a\""));
        format!("{SMALL}[[site.rule]]\nmatch = {{ path = \"/\" }}\nheaders = {{ set = {{ {fields} }} }}")
    });
    check(PATH_PATTERN_BYTES_MAX, "at most 1024 bytes", |bytes| {
        format!("{SMALL}[[site.rule]]\nmatch = {{ path = \"/{}\" }}", "x".repeat(bytes - 1))
    });
    check(PATH_PATTERN_STARS_MAX, "at most 8 *", |stars| {
        format!("{SMALL}[[site.rule]]\nmatch = {{ path = \"/{}\" }}", "a*".repeat(stars))
    });
    check(QUERY_PATTERNS_MAX, "must have at most 256 elements", |count| {
        format!("{SMALL}[site.cache]\nquery = {{ drop = [{}] }}", list(count, |n| format!("\"q{n}\"")))
    });
    check(SURROGATE_KEY_HEADERS_MAX, "must have at most 16 elements", |count| {
        format!("{SMALL}[site.cache]\nsurrogate_key_headers = [{}]", list(count, |n| format!("\"K-{n}\"")))
    });
}

#[test]
fn zone_geo_and_admin() {
    check(RECORDS_MAX, "must have at most 10000 elements", |count| {
        format!(
            "{SMALL}{}",
            many(count, |n| format!(
                "[[zone.record]]\nname = \"r{n}\"\ntype = \"TXT\"\nttl = \"1s\"\nvalues = [\"\"]\n"
            ))
        )
    });
    check(RECORD_VALUES_MAX, "must have at most 100 elements", |count| {
        format!("{SMALL}[[zone.record]]\nname = \"r\"\ntype = \"A\"\nttl = \"1s\"\nvalues = [{}]", list(count, address))
    });
    check(NAMESERVERS_MAX, "must have at most 13 elements", |count| {
        SMALL.replace(
            "[cdn]",
            &format!("[cdn]\nnameservers = [{}]", list(count, |n| format!("{{ host = \"ns{n}.other.example\" }}"))),
        )
    });
    check(OVERRIDES_MAX, "must have at most 10000 elements", |count| {
        format!(
            "{SMALL}{}",
            many(count, |n| format!(
                "[[geo.override]]\nprefixes = [\"10.{}.{}.0/24\"]\npop = \"fra\"\n",
                n >> 8,
                n & 255
            ))
        )
    });
    check(OVERRIDE_PREFIXES_MAX, "must have at most 100000 elements", |count| {
        let prefixes = list(count, |n| format!("\"{}.{}.{}.0/24\"", 1 + (n >> 16), n >> 8 & 255, n & 255));
        format!("{SMALL}[[geo.override]]\nprefixes = [{prefixes}]\npop = \"fra\"\n")
    });
    check(TOKENS_MAX, "must have at most 1000 elements", |count| {
        let tokens = list(count, |n| format!("{{ name = \"t{n}\", sha256 = \"{n:064x}\", scopes = [\"read\"] }}"));
        format!("{SMALL}[admin]\ntokens = [{tokens}]")
    });
}

#[test]
fn weights() {
    let pop = |weight: u64| SMALL.replace("id = \"lon\"", &format!("id = \"lon\"\nweight = {weight}"));
    assert_eq!(report(&pop(0)), "ok");
    assert_eq!(load("f", &pop(WEIGHT_MAX)).unwrap().pops[1].weight, 65_535);
    assert!(report(&pop(WEIGHT_MAX + 1)).contains("must be 0..=65535"));
    let origin = |weight: u64| SMALL.replace("8000\" }", &format!("8000\", weight = {weight} }}"));
    assert_eq!(report(&origin(1)), "ok");
    assert_eq!(report(&origin(WEIGHT_MAX)), "ok");
    assert!(report(&origin(0)).contains("must be 1..=65535"));
    assert!(report(&origin(WEIGHT_MAX + 1)).contains("must be 1..=65535"));
}

#[test]
fn askers_of_why() {
    check(WHY_MAX, "must have at most 1000 elements", |count| {
        let prefixes = list(count, |n| format!("\"10.{}.{}.0/24\"", n >> 8, n & 255));
        SMALL.replace("zone = \"cdn.example\"", &format!("zone = \"cdn.example\"\nwhy = [{prefixes}]"))
    });
}
