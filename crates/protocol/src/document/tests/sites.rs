//! `[[site]]` and what is below it.

use expect_test::expect;

use super::{check_and, check_with};

const ORIGINS: &str = "origins = [{ url = \"http://198.18.0.90:8000\" }]";
const ZONE: &str = "zone = \"cdn.example\"";

#[test]
fn origins() {
    check_with(
        ORIGINS,
        "",
        expect![[r#"
        perigee.toml:16  site.www.origins
            is missing; add origins = [{ url = "http://198.18.0.90:8000" }]"#]],
    );
    check_with(
        ORIGINS,
        "origins = []",
        expect![[r#"
        perigee.toml:18  site.www.origins = []
            must not be empty; for example origins = [{ url = "http://198.18.0.90:8000" }]"#]],
    );
    check_with(
        ORIGINS,
        "origins = [\"http://a\"]",
        expect![[r#"
        perigee.toml:18  site.www.origins[0] = "http://a"
            must be a table, not a string; for example origins = [{ url = "http://198.18.0.90:8000" }]"#]],
    );
    check_with(
        ORIGINS,
        "origins = [{ url = \"http://a\", backup = true }]",
        expect![[r#"
        perigee.toml:18  site.www.origins = [{ url = "http://a", backup = true }]
            must have an origin that is no backup; remove backup = true from one"#]],
    );
    check_with(
        ORIGINS,
        "origins = [{ url = \"http://a\", weight = 0 }, { url = \"http://a:80\", backup = \"yes\" }]",
        expect![[r#"
        perigee.toml:18  site.www.origins[0].weight = 0
            must be 1..=65535; remove it for the default (1)
        perigee.toml:18  site.www.origins[1].url = "http://a:80"
            must be unique, and site.www.origins[0].url says it too (line 18); change or remove one of them
        perigee.toml:18  site.www.origins[1].backup = "yes"
            must be true or false, not a string; remove it for the default (false)"#]],
    );
    check_with(
        ORIGINS,
        "origins = [{ url = \"http://a/b\" }, { url = \"a:80\" }, { url = \"http://u@a\" }]",
        expect![[r#"
        perigee.toml:18  site.www.origins[0].url = "http://a/b"
            must be http://HOST, http://HOST:PORT or the same with https, and nothing after it; for example url = "http://198.18.0.90:8000"
        perigee.toml:18  site.www.origins[1].url = "a:80"
            must be http://HOST, http://HOST:PORT or the same with https, and nothing after it; for example url = "http://198.18.0.90:8000"
        perigee.toml:18  site.www.origins[2].url = "http://u@a"
            must be http://HOST, http://HOST:PORT or the same with https, and nothing after it; for example url = "http://198.18.0.90:8000""#]],
    );
}

#[test]
fn hosts() {
    check_and("hosts = [\"WWW.Example.com.\", \"10.0.0.1\"]", expect!["ok"]);
    check_and(
        "hosts = [\"a.example:80\", \"*.example\", \"\"]",
        expect![[r#"
        perigee.toml:19  site.www.hosts[0] = "a.example:80"
            must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; remove it for the default (only its steered name)
        perigee.toml:19  site.www.hosts[1] = "*.example"
            must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; remove it for the default (only its steered name)
        perigee.toml:19  site.www.hosts[2] = ""
            must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; remove it for the default (only its steered name)"#]],
    );
    check_and(
        "hosts = [\"a.example\", \"A.example\"]",
        expect![[r#"
        perigee.toml:19  site.www.hosts[1] = "A.example"
            must be unique, and site.www.hosts[0] says it too (line 19); change or remove one of them"#]],
    );
    check_and(
        "hosts = [\"a.example\"]\n[[site]]\nid = \"b\"\nhosts = [\"a.example\", \"www.cdn.example\"]\norigins = [{ url = \"http://a\" }]",
        expect![[r#"
        perigee.toml:22  site.b.hosts[0] = "a.example"
            must be unique, and site.www.hosts[0] says it too (line 19); change or remove one of them
        perigee.toml:22  site.b.hosts[1] = "www.cdn.example"
            must be unique, and is a name of site www; remove it here"#]],
    );
    check_and("hosts = [\"www.cdn.example\", \"other.cdn.example\"]", expect!["ok"]);
    check_and(
        "hosts = [\"cdn.example\"]",
        expect![[r#"
        perigee.toml:19  site.www.hosts[0] = "cdn.example"
            is the zone's apex, which DNS answers for cdn.apex_site only; set apex_site in [cdn], or remove it here"#]],
    );
    check_with(ZONE, &format!("{ZONE}\napex_site = \"www\""), expect!["ok"]);
    check_and(
        "host_header = \"a b\"\npops = [\"*\", \"fra\"]",
        expect![[r#"
        perigee.toml:19  site.www.host_header = "a b"
            must be a host, or a host and a port; correct it or remove it
        perigee.toml:20  site.www.pops = ["*", "fra"]
            must be ["*"] alone or ids of PoPs; remove "*" or all others"#]],
    );
    check_and("host_header = \"a.example:8000\"\npops = [\"fra\", \"lon\"]", expect!["ok"]);
    check_and(
        "pops = []",
        expect![[r#"
        perigee.toml:19  site.www.pops = []
            must not be empty; remove it for the default (["*"])"#]],
    );
    check_and(
        "pops = [\"fra\", \"fran\"]\ntls = { certificate = \"www.pem\" }",
        expect![[r#"
        perigee.toml:19  site.www.pops[1] = "fran"
            must be the id of a PoP of this document; did you mean "fra"?
        perigee.toml:20  site.www.tls.key
            is missing; add key = "www.key""#]],
    );
    check_and("tls = { certificate = \"www.pem\", key = \"www.key\", redirect = true }", expect!["ok"]);
    check_and(
        "tls = { certificate = \"www.pem\", key = \"www.key\", redirect = \"yes\" }",
        expect![[r#"
        perigee.toml:19  site.www.tls.redirect = "yes"
            must be true or false, not a string; remove it for the default (false)"#]],
    );
    check_with(
        "id = \"www\"",
        "id = \"www.x\"",
        expect![[r#"
        perigee.toml:17  site[0].id = "www.x"
            must be 1 to 63 characters of a-z, 0-9 and -, and neither begin nor end with -; for example id = "www""#]],
    );
    check_and(
        "[[site]]\nid = \"www\"\norigins = [{ url = \"http://a\" }]",
        expect![[r#"
        perigee.toml:20  site.www.id = "www"
            must be unique, and site.www.id says it too (line 17); change or remove one of them"#]],
    );
}

#[test]
fn a_long_zone_leaves_no_room_for_sites() {
    let label = "a".repeat(63);
    let zone = |last: usize| format!("zone = \"{label}.{label}.{label}.{}\"", "a".repeat(last));
    check_with(ZONE, &zone(57), expect!["ok"]);
    check_with(
        ZONE,
        &zone(58),
        expect![[r#"
        perigee.toml:17  site.www.id = "www"
            must leave room for the zone: a DNS name has at most 253 characters; shorten it"#]],
    );
}

#[test]
fn cache() {
    check_and(
        "[site.cache]\ndefault_ttl = 60\nmax_ttl = \"forever\"\nstale_if_error = \"25000d\"\nnegative_ttl = { 304 = \"1s\", abc = \"1s\", 404 = 5 }\n\
         client_cache_control = true\nvary_limit = 1025\nobject_bytes_max = \"1PiB\"\nsurrogate_key_headers = [\"A\", \"a\", \"b c\", \"Perigee-Site\"]",
        expect![[r#"
            perigee.toml:20  site.www.cache.default_ttl = 60
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s, as a string, not an integer; remove it for the default ("0s")
            perigee.toml:21  site.www.cache.max_ttl = "forever"
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s; remove it for the default ("365d")
            perigee.toml:22  site.www.cache.stale_if_error = "25000d"
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s; remove it for the default ("1d")
            perigee.toml:23  site.www.cache.negative_ttl.304 = "1s"
                must be under a status code, 300 to 599 without 304; correct it or remove it
            perigee.toml:23  site.www.cache.negative_ttl.abc = "1s"
                must be under a status code, 300 to 599 without 304; correct it or remove it
            perigee.toml:23  site.www.cache.negative_ttl.404 = 5
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s, as a string, not an integer; correct it or remove it
            perigee.toml:24  site.www.cache.client_cache_control = true
                must be "ignore" or "honour", as a string, not a boolean; remove it for the default ("ignore")
            perigee.toml:25  site.www.cache.vary_limit = 1025
                must be 1..=1024; remove it for the default (64)
            perigee.toml:26  site.www.cache.object_bytes_max = "1PiB"
                must be a size with a unit (B, KiB, MiB, GiB, TiB), 0B to 1024TiB; remove it for the default ("16GiB")
            perigee.toml:27  site.www.cache.surrogate_key_headers[1] = "a"
                must be unique, and site.www.cache.surrogate_key_headers[0] says it too (line 27); change or remove one of them
            perigee.toml:27  site.www.cache.surrogate_key_headers[2] = "b c"
                must be the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; remove it for the default (["Surrogate-Key", "Cache-Tag", "Cache-Groups"])
            perigee.toml:27  site.www.cache.surrogate_key_headers[3] = "Perigee-Site"
                must be the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; remove it for the default (["Surrogate-Key", "Cache-Tag", "Cache-Groups"])"#]],
    );
    check_and(
        "[site.cache]\nvary_limit = 1024\nobject_bytes_max = \"0B\"\nstale_if_error = \"24855d\"\nsurrogate_key_headers = []",
        expect!["ok"],
    );
    check_and(
        "[site.cache]\nobject_bytes_max = \"64KiB\"\nobject_bytes_min = \"65537B\"",
        expect![[r#"
        perigee.toml:21  site.www.cache.object_bytes_min = "65537B"
            must be a size with a unit (B, KiB, MiB, GiB, TiB), 0B to 64KiB; remove it for the default ("0B")"#]],
    );
    check_and("[site.cache]\nobject_bytes_max = \"64KiB\"\nobject_bytes_min = \"64KiB\"", expect!["ok"]);
    check_and(
        "[site.cache]\nquery = { keep = [\"a*b\", \"\", \"a&b\"], drop = \"x\", sort = 1, key = [] }",
        expect![[r#"
        perigee.toml:20  site.www.cache.query.keep[0] = "a*b"
            must be the name of a query parameter, or the beginning of one and a final *; remove it for the default (["*"])
        perigee.toml:20  site.www.cache.query.keep[1] = ""
            must be the name of a query parameter, or the beginning of one and a final *; remove it for the default (["*"])
        perigee.toml:20  site.www.cache.query.keep[2] = "a&b"
            must be the name of a query parameter, or the beginning of one and a final *; remove it for the default (["*"])
        perigee.toml:20  site.www.cache.query.drop = "x"
            must be an array, not a string; remove it for the default (none)
        perigee.toml:20  site.www.cache.query.sort = 1
            must be true or false, not an integer; remove it for the default (false)
        perigee.toml:20  site.www.cache.query.key
            is no key of this document; did you mean "keep"?"#]],
    );
    check_and("[site.cache]\nquery = { keep = [\"a*\", \"b\"], drop = [\"*\"] }", expect!["ok"]);
    check_and(
        "[site.caches]\nttl = \"1s\"",
        expect![[r#"
        perigee.toml:19  site.www.caches
            is no key of this document; did you mean "cache"?"#]],
    );
}

#[test]
fn upstream() {
    check_and(
        "[site.upstream]\nconnect_timeout = \"0s\"\nfirst_byte_timeout = \"2h\"\nretries = 11\nconnections_max = 65536",
        expect![[r#"
        perigee.toml:20  site.www.upstream.connect_timeout = "0s"
            must be a duration with a unit (ms, s, m, h, d), 1ms to 1h; remove it for the default ("2s")
        perigee.toml:21  site.www.upstream.first_byte_timeout = "2h"
            must be a duration with a unit (ms, s, m, h, d), 1ms to 1h; remove it for the default ("15s")
        perigee.toml:22  site.www.upstream.retries = 11
            must be 0..=10; remove it for the default (2)
        perigee.toml:23  site.www.upstream.connections_max = 65536
            must be 1..=65535; remove it for the default (256)"#]],
    );
    check_and(
        "[site.upstream]\nconnect_timeout = \"1ms\"\nfirst_byte_timeout = \"1h\"\nretries = 10\nconnections_max = 65535",
        expect!["ok"],
    );
    check_and(
        "[site.upstream]\nretries = -1\nconnections_max = 0x0",
        expect![[r#"
        perigee.toml:20  site.www.upstream.retries = -1
            must be 0..=10; remove it for the default (2)
        perigee.toml:21  site.www.upstream.connections_max = 0x0
            must be 1..=65535; remove it for the default (256)"#]],
    );
}

#[test]
fn upstreams_over_tls() {
    check_and(
        "[site.upstream]\ntls = { ca = \"\", name = \"a b\", sni = \"x\" }",
        expect![[r#"
            perigee.toml:20  site.www.upstream.tls.ca = ""
                must be the name of a file; correct it or remove it
            perigee.toml:20  site.www.upstream.tls.name = "a b"
                must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; correct it or remove it
            perigee.toml:20  site.www.upstream.tls.sni
                is no key of this document; the keys here are ca, name"#]],
    );
    check_and(
        "[[shield]]\nid = \"s\"\nurl = \"https://s\"\nprotocol = \"spdy\"\ntls = { ca = 5 }",
        expect![[r#"
            perigee.toml:22  shield.s.protocol = "spdy"
                must be "http/1.1" or "h2"; remove it for the default ("http/1.1")
            perigee.toml:23  shield.s.tls.ca = 5
                must be the name of a file, as a string, not an integer; correct it or remove it"#]],
    );
}
