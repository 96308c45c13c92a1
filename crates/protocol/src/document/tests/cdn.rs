//! `[cdn]`, `[geo]`, `[control]`, `[admin]`, `[[pop]]`, `[[shield]]`.

use expect_test::{Expect, expect};

use super::{check, check_and, check_with};

const ZONE: &str = "zone = \"cdn.example\"";
const LON: &str = "addresses = [\"198.18.44.10\"]";

#[test]
fn required_sections() {
    check(
        "",
        expect![[r#"
        perigee.toml:1  cdn
            is missing; add [cdn] with zone = "cdn.example"
        perigee.toml:1  pop
            needs at least one; add a table [[pop]]
        perigee.toml:1  site
            needs at least one; add a table [[site]]"#]],
    );
    check(
        "cdn = 1\npop = {}\nsite = []",
        expect![[r#"
        perigee.toml:1  cdn = 1
            must be a table, not an integer; for example [cdn] with zone = "cdn.example"
        perigee.toml:2  pop = {}
            must be an array, not a table; correct it or remove it
        perigee.toml:3  site = []
            must not be empty; correct it or remove it"#]],
    );
    check_with(
        ZONE,
        "",
        expect![[r#"
        perigee.toml:1  cdn.zone
            is missing; add zone = "cdn.example""#]],
    );
}

#[test]
fn zones_and_nameservers() {
    check_with(
        ZONE,
        "zone = \"10.0.0.1\"",
        expect![[r#"
        perigee.toml:2  cdn.zone = "10.0.0.1"
            must be a domain name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example zone = "cdn.example""#]],
    );
    check_with(
        ZONE,
        "zone = \"cdn_x.example\"",
        expect![[r#"
        perigee.toml:2  cdn.zone = "cdn_x.example"
            must be a domain name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example zone = "cdn.example""#]],
    );
    check_with(
        ZONE,
        &format!("zone = \"{}.example\"", "a".repeat(64)),
        expect![[r#"
        perigee.toml:2  cdn.zone = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…
            must be a domain name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example zone = "cdn.example""#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\nnameservers = [{{ host = \"NS1.cdn.example.\" }}, {{ host = \"ns.other.example\" }}]"),
        expect![[r#"
        perigee.toml:3  cdn.nameservers[0]
            a nameserver inside the zone needs addresses: nobody else can tell them; add addresses = ["198.18.0.53"]"#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\nnameservers = [{{ host = \"a.example\" }}, {{ host = \"a.example\" }}, {{}}]"),
        expect![[r#"
        perigee.toml:3  cdn.nameservers[1].host = "a.example"
            must be unique, and cdn.nameservers[0].host says it too (line 3); change or remove one of them
        perigee.toml:3  cdn.nameservers[2].host
            is missing; add host = "ns1.cdn.example""#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\nnameservers = [{{ host = \"www.cdn.example\", addresses = [\"198.18.0.1\"] }}]"),
        expect![[r#"
        perigee.toml:3  cdn.nameservers[0].host = "www.cdn.example"
            is the steered name of site www, whose addresses change; name the nameserver otherwise"#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\napex_site = \"wwv\""),
        expect![[r#"
        perigee.toml:3  cdn.apex_site = "wwv"
            must be the id of a site of this document; did you mean "www"?"#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\ncontact = \"nobody\"\nttl = \"68y\"\nnegative_ttl = \"1500ms\"\nsecret_file = \"\""),
        expect![[r#"
        perigee.toml:3  cdn.contact = "nobody"
            must be a mail address; remove it for the default (hostmaster@cdn.example)
        perigee.toml:4  cdn.ttl = "68y"
            must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s; remove it for the default ("30s")
        perigee.toml:5  cdn.negative_ttl = "1500ms"
            must be whole seconds; remove it for the default ("60s")
        perigee.toml:6  cdn.secret_file = ""
            must be the name of a file; correct it or remove it"#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\nttl = \"2147483648s\""),
        expect![[r#"
        perigee.toml:3  cdn.ttl = "2147483648s"
            must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s; remove it for the default ("30s")"#]],
    );
    check_with(ZONE, &format!("{ZONE}\nttl = \"2147483647s\""), expect!["ok"]);
    check_with(
        ZONE,
        &format!("{ZONE}\n[cdn.dnssec]\nalgorithm = \"rsa\""),
        expect![[r#"
        perigee.toml:3  cdn.dnssec.keys
            is missing; add keys = "keys"
        perigee.toml:4  cdn.dnssec.algorithm = "rsa"
            must be "ecdsa-p256" or "ed25519"; remove it for the default ("ecdsa-p256")"#]],
    );
}

#[test]
fn pops() {
    check_with(
        LON,
        "",
        expect![[r#"
        perigee.toml:10  pop.lon
            must have addresses, or nodes with addresses; add addresses = ["198.18.49.10"]"#]],
    );
    check_with(
        LON,
        "addresses = []",
        expect![[r#"
        perigee.toml:14  pop.lon.addresses = []
            must not be empty; correct it or remove it"#]],
    );
    check_with(
        "id = \"lon\"",
        "id = \"fra\"",
        expect![[r#"
        perigee.toml:11  pop.fra.id = "fra"
            must be unique, and pop.fra.id says it too (line 5); change or remove one of them"#]],
    );
    check_with(
        "id = \"lon\"",
        "",
        expect![[r#"
        perigee.toml:10  pop[1].id
            is missing; add id = "fra""#]],
    );
    check_with(
        LON,
        "addresses = [\"198.18.49.10\"]",
        expect![[r#"
        perigee.toml:14  pop.lon.addresses[0] = "198.18.49.10"
            must be unique, and pop.fra.addresses[0] says it too (line 8); change or remove one of them"#]],
    );
    check_with(
        LON,
        "addresses = [\"0.0.0.0\", \"224.0.0.1\", \"::ffff:198.18.0.1\", \"localhost\"]",
        expect![[r#"
        perigee.toml:14  pop.lon.addresses[0] = "0.0.0.0"
            must be an address that a client can connect to; correct it or remove it
        perigee.toml:14  pop.lon.addresses[1] = "224.0.0.1"
            must be an address that a client can connect to; correct it or remove it
        perigee.toml:14  pop.lon.addresses[2] = "::ffff:198.18.0.1"
            must be an address that a client can connect to; correct it or remove it
        perigee.toml:14  pop.lon.addresses[3] = "localhost"
            must be an IPv4 or IPv6 address; correct it or remove it"#]],
    );
    check_with(
        LON,
        &format!("{LON}\n[[pop.node]]\nid = \"a\"\naddresses = [\"198.18.0.1\"]"),
        expect![[r#"
        perigee.toml:10  pop.lon
            must have its addresses either itself or in its nodes; move addresses into a [[pop.node]]"#]],
    );
    check_with(
        LON,
        "[[pop.node]]\nid = \"fra\"\naddresses = [\"198.18.0.1\"]\n[[pop.node]]\nid = \"b\"",
        expect![[r#"
        perigee.toml:15  pop.lon.node.fra.id = "fra"
            must be unique, and pop.fra says it too (line 4); change or remove one of them
        perigee.toml:17  pop.lon.node.b.addresses
            is missing; add addresses = ["198.18.49.10"]"#]],
    );
    check_with(
        "latitude = 51.51",
        "latitude = nan",
        expect![[r#"
        perigee.toml:12  pop.lon.latitude = nan
            must be -90 to 90 degrees; for example latitude = 50.11"#]],
    );
    check_with(
        "longitude = -0.13",
        "longitude = 180.1\ncountry = \"gb\"\nweight = 65536\nweigth = 1",
        expect![[r#"
        perigee.toml:13  pop.lon.longitude = 180.1
            must be -180 to 180 degrees; for example longitude = 8.68
        perigee.toml:14  pop.lon.country = "gb"
            must be a country code of two capital letters (ISO 3166); remove it for the default (none)
        perigee.toml:15  pop.lon.weight = 65536
            must be 0..=65535; remove it for the default (100)
        perigee.toml:16  pop.lon.weigth
            is no key of this document; did you mean "weight"?"#]],
    );
    check_with("latitude = 51.51", "latitude = 90", expect!["ok"]);
    check_with(
        LON,
        &format!("{LON}\nhealth = {{ path = \"x\", port = 0, interval = \"1ms\", rise = 0, fall = 0.5 }}"),
        expect![[r#"
        perigee.toml:15  pop.lon.health.path = "x"
            must be a path that begins with /, of visible ASCII; remove it for the default ("/.perigee/healthz")
        perigee.toml:15  pop.lon.health.port = 0
            must be 1..=65535; remove it for the default (80)
        perigee.toml:15  pop.lon.health.interval = "1ms"
            must be a duration with a unit (ms, s, m, h, d), 100ms to 1h; remove it for the default ("2s")
        perigee.toml:15  pop.lon.health.rise = 0
            must be 1..=100; remove it for the default (2)
        perigee.toml:15  pop.lon.health.fall = 0.5
            must be a whole number, 1..=100, not a float; remove it for the default (3)"#]],
    );
    check_with(
        LON,
        &format!("{LON}\nhealth = {{ timeout = \"2s\" }}"),
        expect![[r#"
        perigee.toml:15  pop.lon.health
            must have a timeout ("2s") shorter than its interval ("2s"); shorten the timeout or lengthen the interval"#]],
    );
    check_with(
        LON,
        &format!("{LON}\nfallback = [\"fra\", \"fra\"]"),
        expect![[r#"
        perigee.toml:15  pop.lon.fallback[1] = "fra"
            must be unique, and pop.lon.fallback[0] says it too (line 15); change or remove one of them"#]],
    );
}

#[test]
fn shields() {
    check_and(
        "[[shield]]\n[[shield]]\nid = \"a\"\nurl = \"http://a\"\n[[shield]]\nid = \"a\"\nurl = \"http://A:80\"\npops = [\"fra\", \"*\"]",
        expect![[r#"
        perigee.toml:19  shield[0].id
            is missing; add id = "shield-eu"
        perigee.toml:19  shield[0].url
            is missing; add url = "http://198.18.0.80:8080"
        perigee.toml:24  shield.a.id = "a"
            must be unique, and shield.a.id says it too (line 21); change or remove one of them
        perigee.toml:25  shield.a.url = "http://A:80"
            must be unique, and shield.a.url says it too (line 22); change or remove one of them
        perigee.toml:26  shield.a.pops[1] = "*"
            must be the id of a PoP of this document; the PoPs are fra, lon"#]],
    );
    check_and(
        "[[shield]]\nid = \"a\"\nurl = \"ftp://a\"",
        expect![[r#"
        perigee.toml:21  shield.a.url = "ftp://a"
            must be http://HOST, http://HOST:PORT or the same with https, and nothing after it; for example url = "http://198.18.0.80:8080""#]],
    );
}

#[test]
fn geo() {
    check_and(
        "[geo]\ndefault_location = { latitude = 1 }\ndatabase = 7",
        expect![[r#"
        perigee.toml:20  geo.default_location.longitude
            is missing; add longitude = 8.68
        perigee.toml:21  geo.database = 7
            must be the name of a file, as a string, not an integer; correct it or remove it"#]],
    );
    check_and(
        "[[geo.override]]\nprefixes = [\"203.0.113.1/24\", \"203.0.113.0/33\"]",
        expect![[r#"
            perigee.toml:19  geo.override[0]
                must have a pop or a location; add pop = "ID"
            perigee.toml:20  geo.override[0].prefixes[0] = "203.0.113.1/24"
                must have no bits set after its length; write "203.0.113.0/24"
            perigee.toml:20  geo.override[0].prefixes[1] = "203.0.113.0/33"
                must be a prefix like 203.0.113.0/24 or 2001:db8::/48; correct it or remove it"#]],
    );
    check_and(
        "[[geo.override]]\nprefixes = [\"203.0.113.0/24\"]\npop = \"fra\"\nlocation = { latitude = 1, longitude = 1 }",
        expect![[r#"
        perigee.toml:19  geo.override[0]
            must have pop or location, not both; remove one of them"#]],
    );
    check_and(
        "[[geo.override]]\nprefixes = [\"10.0.0.0/8\"]\npop = \"fra\"\n[[geo.override]]\nprefixes = [\"10.0.0.0/8\"]\npop = \"par\"",
        expect![[r#"
        perigee.toml:23  geo.override[1].prefixes[0] = "10.0.0.0/8"
            must be unique, and geo.override[0].prefixes[0] says it too (line 20); change or remove one of them
        perigee.toml:24  geo.override[1].pop = "par"
            must be the id of a PoP of this document; the PoPs are fra, lon"#]],
    );
    check_and(
        "[geo.steering]\nanswers = 0\nbias = { fra = 0, lon = inf, par = 1 }\nfence = { de = [], CN = [\"hkg\"], \"*\" = \"fra\" }",
        expect![[r#"
            perigee.toml:20  geo.steering.answers = 0
                must be 1..=16; remove it for the default (2)
            perigee.toml:21  geo.steering.bias.fra = 0
                must be 0.001 to 1000; correct it or remove it
            perigee.toml:21  geo.steering.bias.lon = inf
                must be 0.001 to 1000; correct it or remove it
            perigee.toml:21  geo.steering.bias.par = 1
                must be the id of a PoP of this document; the PoPs are fra, lon
            perigee.toml:22  geo.steering.fence.de = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence.CN[0] = "hkg"
                must be the id of a PoP of this document; the PoPs are fra, lon
            perigee.toml:22  geo.steering.fence."*" = "fra"
                must be an array, not a string; correct it or remove it"#]],
    );
    check_and(
        "[geo.steering]\nanswers = 17",
        expect![[r#"
        perigee.toml:20  geo.steering.answers = 17
            must be 1..=16; remove it for the default (2)"#]],
    );
    check_and("[geo.steering]\nanswers = 16\nbias = { fra = 0.001, lon = 1000 }", expect!["ok"]);
}

#[test]
fn autonomous_systems_and_continents() {
    let check_geo = |more: &str, expected: Expect| check_and(&format!("[geo]\nasn_database = \"a\"\n{more}"), expected);
    check_geo(
        "[[geo.override]]\nasn = [1, 4294967294]\npop = \"fra\"\n[[geo.override]]\nprefixes = [\"10.0.0.0/8\"]\nasn = [2]\npop = \"fra\"",
        expect!["ok"],
    );
    check_geo(
        "[[geo.override]]\nasn = [0, 4294967295, \"AS1\", 7, 7]\npop = \"fra\"\n[[geo.override]]\nasn = [7]\npop = \"lon\"",
        expect![[r#"
            perigee.toml:22  geo.override[0].asn[0] = 0
                must be 1..=4294967294; correct it or remove it
            perigee.toml:22  geo.override[0].asn[1] = 4294967295
                must be 1..=4294967294; correct it or remove it
            perigee.toml:22  geo.override[0].asn[2] = "AS1"
                must be a whole number, 1..=4294967294, not a string; correct it or remove it
            perigee.toml:22  geo.override[0].asn[4] = 7
                must be unique, and geo.override[0].asn[3] says it too (line 22); change or remove one of them
            perigee.toml:25  geo.override[1].asn[0] = 7
                must be unique, and geo.override[0].asn[3] says it too (line 22); change or remove one of them"#]],
    );
    check_geo(
        "[[geo.override]]\nasn = []\npop = \"fra\"\n[[geo.override]]\npop = \"fra\"",
        expect![[r#"
        perigee.toml:22  geo.override[0].asn = []
            must not be empty; correct it or remove it
        perigee.toml:24  geo.override[1]
            must have prefixes, prefixes_file or asn; add prefixes = ["203.0.113.0/24"]"#]],
    );
    check_geo(
        "[geo.steering]\nfence = { AS1 = [], AS4294967294 = [], AS = [], \"continent:AS\" = [], \"continent:SA\" = [], \"*\" = [] }",
        expect!["ok"],
    );
    check_geo(
        "[geo.steering]\nfence = { AS0 = [], AS01 = [], AS4294967295 = [], as1 = [], AS-1 = [], \"continent:XX\" = [], continent = [] }",
        expect![[r#"
            perigee.toml:22  geo.steering.fence.AS0 = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence.AS01 = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence.AS4294967295 = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence.as1 = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence.AS-1 = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence."continent:XX" = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it
            perigee.toml:22  geo.steering.fence.continent = []
                must be under a country code of two capital letters, "continent:EU" and its like, "AS64500" and its like, or "*"; correct it or remove it"#]],
    );
    // Of no use without a database that knows them.
    check_and(
        "[geo.steering]\nfence = { AS1 = [], AS = [] }\n[[geo.override]]\nasn = [1]\npop = \"fra\"",
        expect![[r#"
            perigee.toml:20  geo.steering.fence.AS1 = []
                needs a database that tells autonomous systems; add asn_database = "GeoLite2-ASN.mmdb" to [geo], or remove it
            perigee.toml:22  geo.override[0].asn = [1]
                needs a database that tells autonomous systems; add asn_database = "GeoLite2-ASN.mmdb" to [geo], or remove it"#]],
    );
    let asns = |count: usize| (1..=count).map(|asn| asn.to_string()).collect::<Vec<_>>().join(",");
    let many = |count: usize| format!("[[geo.override]]\nasn = [{}]\npop = \"fra\"", asns(count));
    check_geo(&many(10_000), expect!["ok"]);
    check_geo(
        &many(10_001),
        expect![[r#"
        perigee.toml:22  geo.override[0].asn = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23…
            must have at most 10000 elements, and has 10001; correct it or remove it"#]],
    );
}

#[test]
fn control_and_admin() {
    check_and(
        "[control]\nengine = \"nats\"",
        expect![[r#"
        perigee.toml:19  control
            engine = "nats" needs the servers' url; add url = "nats://nats.cdn.example:4222""#]],
    );
    check_and(
        "[control]\nurl = \"nats://a\"\ncredentials = \"x\"",
        expect![[r#"
        perigee.toml:20  control.url = "nats://a"
            is for engine = "nats" only; remove it, or choose that engine
        perigee.toml:21  control.credentials = "x"
            is for engine = "nats" only; remove it, or choose that engine"#]],
    );
    check_and(
        "[control]\nengine = \"nats\"\nurl = \"http://a:4222\"",
        expect![[r#"
        perigee.toml:21  control.url = "http://a:4222"
            must be nats://HOST:PORT or tls://HOST:PORT; correct it or remove it"#]],
    );
    check_and("[control]\nengine = \"nats\"\nurl = \"nats://a:4222\"", expect!["ok"]);
    check_and(
        "[admin]\ntokens = [{ name = \"a\", sha256 = \"00\", scopes = [] }, { name = \"a\", scopes = [\"read\", \"read\", \"root\"] }]",
        expect![[r#"
        perigee.toml:20  admin.tokens[0].sha256 = "00"
            must be the SHA-256 of the token: 64 hexadecimal digits; for example sha256 = "(what sha256sum prints of the token)"
        perigee.toml:20  admin.tokens[0].scopes = []
            must not be empty; for example scopes = ["read"]
        perigee.toml:20  admin.tokens[1].sha256
            is missing; add sha256 = "(what sha256sum prints of the token)"
        perigee.toml:20  admin.tokens[1].name = "a"
            must be unique, and admin.tokens[0].name says it too (line 20); change or remove one of them
        perigee.toml:20  admin.tokens[1].scopes[1] = "read"
            must be unique, and admin.tokens[1].scopes[0] says it too (line 20); change or remove one of them
        perigee.toml:20  admin.tokens[1].scopes[2] = "root"
            must be "purge" or "drain" or "read"; for example scopes = ["read"]"#]],
    );
}

#[test]
fn rate_limits() {
    check_with(
        "zone = \"cdn.example\"",
        "zone = \"cdn.example\"\nrate_limit = { responses_per_second = 10000001, slip = 101, exempt = [\"10.0.0.1/8\"] }",
        expect![[r#"
            perigee.toml:3  cdn.rate_limit.responses_per_second = 10000001
                must be 0..=10000000; remove it for the default (1000)
            perigee.toml:3  cdn.rate_limit.slip = 101
                must be 0..=100; remove it for the default (2)
            perigee.toml:3  cdn.rate_limit.exempt[0] = "10.0.0.1/8"
                must have no bits set after its length; write "10.0.0.0/8""#]],
    );
    let document = crate::document::load(
        "f",
        &super::SMALL.replace("zone = \"cdn.example\"", "zone = \"cdn.example\"\nrate_limit = { slip = 0 }"),
    );
    let limit = document.unwrap().cdn.rate_limit;
    assert_eq!((limit.responses_per_second, limit.slip, limit.exempt.len()), (1_000, 0, 10));
}

#[test]
fn encrypted_transports() {
    use crate::model::DnsOffer::{Doh, Doq, Dot};
    check_with(
        ZONE,
        &format!("{ZONE}\ndns_tls = {{ certificate = \"\", offers = [\"dot\", \"dot\", \"dnscrypt\"], port = 853 }}"),
        expect![[r#"
            perigee.toml:3  cdn.dns_tls.key
                is missing; add key = "ns.key"
            perigee.toml:3  cdn.dns_tls.certificate = ""
                must be the name of a file; for example certificate = "ns.pem"
            perigee.toml:3  cdn.dns_tls.offers[1] = "dot"
                must be unique, and cdn.dns_tls.offers[0] says it too (line 3); change or remove one of them
            perigee.toml:3  cdn.dns_tls.offers[2] = "dnscrypt"
                must be "dot" or "doq" or "doh"; remove it for the default (["dot", "doq"])
            perigee.toml:3  cdn.dns_tls.port
                is no key of this document; the keys here are certificate, key, offers; port is a key of pop.health"#]],
    );
    check_with(
        ZONE,
        &format!("{ZONE}\ndns_tls = true"),
        expect![[r#"
        perigee.toml:3  cdn.dns_tls = true
            must be a table, not a boolean; correct it or remove it"#]],
    );
    let offers = |said: &str| {
        let line = format!("{ZONE}\ndns_tls = {{ certificate = \"ns.pem\", key = \"ns.key\"{said} }}");
        let tls = crate::document::load("f", &super::SMALL.replace(ZONE, &line)).unwrap().cdn.dns_tls.unwrap();
        assert_eq!((tls.certificate.to_str(), tls.key.to_str()), (Some("ns.pem"), Some("ns.key")));
        tls.offers.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(offers(""), [Dot, Doq]);
    assert_eq!(offers(", offers = []"), []);
    assert_eq!(offers(", offers = [\"doh\", \"dot\", \"doq\"]"), [Dot, Doq, Doh]);
    assert_eq!(crate::document::load("f", super::SMALL).unwrap().cdn.dns_tls, None);
}

#[test]
fn who_may_ask_why() {
    check_with(
        "zone = \"cdn.example\"",
        "zone = \"cdn.example\"\nwhy = [\"10.0.0.1/8\", \"nobody\"]",
        expect![[r#"
            perigee.toml:3  cdn.why[0] = "10.0.0.1/8"
                must have no bits set after its length; write "10.0.0.0/8"
            perigee.toml:3  cdn.why[1] = "nobody"
                must be a prefix like 203.0.113.0/24 or 2001:db8::/48; remove it for the default (loopback)"#]],
    );
    let why = |line: &str| {
        let text = super::SMALL.replace("zone = \"cdn.example\"", &format!("zone = \"cdn.example\"\n{line}"));
        crate::document::load("f", &text).unwrap().cdn.why.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(why(""), ["127.0.0.0/8", "::1/128"]);
    assert_eq!(why("why = []"), [""; 0]);
    assert_eq!(why("why = [\"10.0.0.0/8\"]"), ["10.0.0.0/8"]);
}
