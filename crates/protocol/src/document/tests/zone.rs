//! `[[zone.record]]`.

use expect_test::{Expect, expect};

use super::{SMALL, check};

const NAMESERVERS: &str =
    "zone = \"cdn.example\"\nnameservers = [{ host = \"ns1.cdn.example\", addresses = [\"198.18.0.53\"] }]";

/// Records `(name, type, values)` beside site www and nameserver ns1.
fn check_records(records: &[(&str, &str, &str)], expected: Expect) {
    check_records_in(NAMESERVERS, records, expected);
}

fn check_records_in(zone: &str, records: &[(&str, &str, &str)], expected: Expect) {
    let mut text = SMALL.replace("zone = \"cdn.example\"", zone);
    for (name, kind, values) in records {
        text.push_str(&format!(
            "[[zone.record]]\nname = \"{name}\"\ntype = \"{kind}\"\nttl = \"5m\"\nvalues = {values}\n"
        ));
    }
    check(&text, expected);
}

#[test]
fn good_records() {
    check_records(
        &[
            ("@", "TXT", "[\"v=spf1 -all\"]"),
            ("@", "MX", "[\"10 mail.example.com.\", \"20 mx\"]"),
            ("@", "A", "[\"198.18.0.1\"]"),
            ("www", "TXT", "[\"beside steered addresses\"]"),
            ("*.img", "CNAME", "[\"www\"]"),
            ("_acme-challenge", "CNAME", "[\"x.acme.example.\"]"),
            ("_http._tcp", "SRV", "[\"0 0 80 www\"]"),
            ("static.cdn.example.", "AAAA", "[\"2001:db8::1\"]"),
            ("sub", "NS", "[\"ns.sub.cdn.example.\"]"),
            ("ns.sub", "A", "[\"198.18.0.2\"]"),
        ],
        expect!["ok"],
    );
}

#[test]
fn redirections() {
    check_records(
        &[
            ("old", "DNAME", "[\"new\"]"),
            ("old", "TXT", "[\"beside it\"]"),
            ("www", "DNAME", "[\"elsewhere.example.\"]"),
        ],
        expect!["ok"],
    );
    check_records(
        &[
            ("old", "DNAME", "[\"new\"]"),
            ("a.b.old", "TXT", "[\"below\"]"),
            ("two", "DNAME", "[\"a\", \"b\"]"),
            ("alias", "CNAME", "[\"a\"]"),
            ("alias", "DNAME", "[\"a\"]"),
            ("*.w", "DNAME", "[\"a\"]"),
            ("cut", "NS", "[\"ns.other.example.\"]"),
            ("cut", "DNAME", "[\"a\"]"),
            ("x.cut", "DNAME", "[\"a\"]"),
        ],
        expect![[r#"
            perigee.toml:25  zone.record[1]
                a.b.old.cdn.example is below old.cdn.example, which is a DNAME: names there are looked for elsewhere; remove it, or the DNAME record above it
            perigee.toml:34  zone.record[2].values = ["a", "b"]
                must be one name: a DNAME has one target; remove the others
            perigee.toml:35  zone.record[3]
                a CNAME stands alone at its name, and at alias.cdn.example there are other records; remove it or the others
            perigee.toml:45  zone.record[5]
                a wildcard with a DNAME means no one thing; name what is looked for elsewhere
            perigee.toml:55  zone.record[7]
                cut.cdn.example is delegated, and a DNAME is the child's to have; remove it or the NS record
            perigee.toml:60  zone.record[8]
                x.cut.cdn.example is below cut.cdn.example, which is a DNAME: names there are looked for elsewhere; remove it, or the DNAME record above it"#]],
    );
    check_records(
        &[("@", "DNAME", "[\"other.example.\"]"), ("a", "A", "[\"192.0.2.1\"]")],
        expect![[r#"
        perigee.toml:20  zone.record[0]
            www.cdn.example is below cdn.example, and nothing is below a DNAME: names there are looked for elsewhere; give the DNAME a name of its own"#]],
    );
    // RFC 9461: a nameserver that is reached in private has a record below it.
    let record = [("ns1", "DNAME", "[\"other.example.\"]")];
    check_records(&record, expect!["ok"]);
    check_records_in(
        &format!("{NAMESERVERS}\ndns_tls = {{ certificate = \"ns.pem\", key = \"ns.key\" }}"),
        &record,
        expect![[r#"
        perigee.toml:21  zone.record[0]
            _dns.ns1.cdn.example is below ns1.cdn.example, and nothing is below a DNAME: names there are looked for elsewhere; give the DNAME a name of its own"#]],
    );
}

#[test]
fn names() {
    check_records(
        &[("www.cdn.example", "TXT", "[\"a\"]")],
        expect![[r#"
        perigee.toml:21  zone.record[0].name = "www.cdn.example"
            is below the zone already without it: names are relative; write "www.cdn.example." for the full name, with its final dot"#]],
    );
    check_records(
        &[("www.other.example.", "TXT", "[\"a\"]"), ("", "TXT", "[\"a\"]"), ("a..b", "TXT", "[\"a\"]")],
        expect![[r#"
        perigee.toml:21  zone.record[0].name = "www.other.example."
            must be @, a name below the zone, or a full name inside the zone that ends with a dot; for example name = "@"
        perigee.toml:26  zone.record[1].name = ""
            must be @, a name below the zone, or a full name inside the zone that ends with a dot; for example name = "@"
        perigee.toml:31  zone.record[2].name = "a..b"
            must be @, a name below the zone, or a full name inside the zone that ends with a dot; for example name = "@""#]],
    );
    check_records(
        &[("a", "TXT", "[\"a\"]"), ("A", "TXT", "[\"b\"]")],
        expect![[r#"
        perigee.toml:25  zone.record[1]
            must be unique, and zone.record[0] says it too (line 20); change or remove one of them"#]],
    );
}

#[test]
fn values() {
    check_records(
        &[
            ("a", "A", "[\"2001:db8::1\", \"198.18.0.1\", \"198.18.0.1\"]"),
            ("b", "AAAA", "[]"),
            ("c", "CNAME", "[\"a.example\", 7]"),
            ("d", "MX", "[\"mail\"]"),
            ("e", "SRV", "[\"0 0 http www\"]"),
            ("f", "TXT", "['\"open']"),
            ("g", "CAA", "[\"issue x\"]"),
            ("h", "HINFO", "[\"a\"]"),
            ("i", "CNAME", "[\"a\", \"b\"]"),
        ],
        expect![[r#"
            perigee.toml:24  zone.record[0].values[0] = "2001:db8::1"
                must be an IPv4 address; correct it
            perigee.toml:24  zone.record[0].values[2] = "198.18.0.1"
                must be unique, and zone.record[0].values[1] says it too (line 24); change or remove one of them
            perigee.toml:29  zone.record[1].values = []
                must not be empty; for example values = ["198.18.0.1"]
            perigee.toml:34  zone.record[2].values[0] = "a.example"
                must be a name: one label of the zone, @, or a full name that ends with a dot; correct it
            perigee.toml:34  zone.record[2].values[1] = 7
                must be a string, not an integer; for example values = ["198.18.0.1"]
            perigee.toml:39  zone.record[3].values[0] = "mail"
                must be PREFERENCE NAME, like 10 mail.example.com. (a full name ends with a dot); correct it
            perigee.toml:44  zone.record[4].values[0] = "0 0 http www"
                must be PRIORITY WEIGHT PORT NAME, like 0 5 443 host.example.com. (a full name ends with a dot); correct it
            perigee.toml:49  zone.record[5].values[0] = '"open'
                must be a text, or "quoted" strings of at most 255 octets each; correct it
            perigee.toml:54  zone.record[6].values[0] = "issue x"
                must be FLAGS TAG "VALUE", like 0 issue "letsencrypt.org"; correct it
            perigee.toml:59  zone.record[7].values[0] = "a"
                must be "CPU" "OS"; correct it
            perigee.toml:64  zone.record[8].values = ["a", "b"]
                must be one name: a CNAME has one target; remove the others"#]],
    );
}

#[test]
fn one_name_says_one_thing() {
    check_records(
        &[("www", "A", "[\"198.18.0.1\"]"), ("ns1", "AAAA", "[\"2001:db8::1\"]"), ("@", "NS", "[\"ns\"]")],
        expect![[r#"
        perigee.toml:20  zone.record[0]
            www.cdn.example is the steered name of site www: its addresses are chosen for each client; remove it, or rename one of them
        perigee.toml:25  zone.record[1]
            ns1.cdn.example is a nameserver: its addresses stand in cdn.nameservers; remove it
        perigee.toml:30  zone.record[2]
            the zone's own nameservers stand in cdn.nameservers; move them there"#]],
    );
    check_records(
        &[("@", "CNAME", "[\"www\"]"), ("a", "CNAME", "[\"www\"]"), ("a", "TXT", "[\"a\"]")],
        expect![[r#"
        perigee.toml:20  zone.record[0]
            a CNAME stands alone at its name, and at cdn.example the zone's apex has SOA and NS; remove it or the others
        perigee.toml:25  zone.record[1]
            a CNAME stands alone at its name, and at a.cdn.example there are other records; remove it or the others"#]],
    );
    check_records(
        &[("sub", "NS", "[\"a\"]"), ("x.y.sub", "TXT", "[\"a\"]"), ("*.b", "NS", "[\"a\"]")],
        expect![[r#"
        perigee.toml:25  zone.record[1]
            x.y.sub.cdn.example is delegated to other nameservers, and only glue (A, AAAA) may lie there; remove it, or the NS record above it
        perigee.toml:30  zone.record[2]
            a wildcard cannot be delegated; name the delegated zone"#]],
    );
    check_records_in(
        "zone = \"cdn.example\"\napex_site = \"www\"",
        &[("@", "A", "[\"198.18.0.1\"]")],
        expect![[r#"
        perigee.toml:20  zone.record[0]
            cdn.example is the steered name of site www: its addresses are chosen for each client; remove it, or rename one of them"#]],
    );
}

#[test]
fn a_bad_zone_is_one_mistake() {
    check_records_in(
        "zone = \"cdn..example\"",
        &[("a.cdn.example.", "TXT", "[\"a\"]"), ("@", "TXT", "[\"a\"]")],
        expect![[r#"
        perigee.toml:2  cdn.zone = "cdn..example"
            must be a domain name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example zone = "cdn.example""#]],
    );
}

#[test]
fn missing_keys() {
    check(
        &format!("{SMALL}[[zone.record]]\n[[zone.records]]\n"),
        expect![[r#"
        perigee.toml:19  zone.record[0].name
            is missing; add name = "@"
        perigee.toml:19  zone.record[0].ttl
            is missing; add ttl = "5m"
        perigee.toml:19  zone.record[0].type
            is missing; add type = "TXT"
        perigee.toml:19  zone.record[0].values
            is missing; add values = ["198.18.0.1"]
        perigee.toml:20  zone.records
            is no key of this document; did you mean "record"?"#]],
    );
    check(
        &format!("{SMALL}[[zone.record]]\nname = \"a\"\ntype = \"A\"\nttl = \"1500ms\"\nvalues = [\"198.18.0.1\"]"),
        expect![[r#"
        perigee.toml:22  zone.record[0].ttl = "1500ms"
            must be whole seconds; for example ttl = "5m""#]],
    );
}
