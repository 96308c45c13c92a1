//! Unbound in front: client subnets go up to us, scopes come down and are kept, and every answer is checked.

use perigee_tests::installed;

use crate::{
    bench::{AUSTRALIA, DNSSEC, FRA, GERMANY, Nameserver, SYD, ZONE, document, perigee, run},
    unbound::{Resolved, Resolver},
};

fn validated(rcode: &str, records: &[&str]) -> Resolved {
    let records = records.iter().map(|record| (*record).to_owned()).collect();
    Resolved { rcode: rcode.into(), is_validated: true, records }
}

/// What the parent would have of the nameserver's keys.
pub(crate) fn anchor(nameserver: &Nameserver) -> String {
    perigee(&nameserver.folder, &["dns", "ds"]).lines().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_resolver_are_steered_one_by_one() {
    if !installed("unbound") || !installed("dig") {
        return;
    }
    let nameserver = Nameserver::start(&document("")).await;
    let resolver = Resolver::start(&[nameserver.address], None, "").await;
    let first = |from: &str| resolver.ask(from, "www.cdn.example", "A").records;
    assert_eq!(first(GERMANY), [FRA]);
    assert_eq!(first(AUSTRALIA), [SYD]);
    assert_eq!(nameserver.times_asked("www.cdn.example", "A").await, 2);
    // The whole of Germany is one scope: who else lives there is answered from the resolver's memory.
    for client in ["127.49.0.200", "127.49.9.1", "127.49.255.254", GERMANY] {
        assert_eq!(first(client), [FRA], "{client}");
    }
    for client in ["127.61.0.200", "127.61.200.1"] {
        assert_eq!(first(client), [SYD], "{client}");
    }
    assert_eq!(nameserver.times_asked("www.cdn.example", "A").await, 2);
    // A client that says where its own clients are.
    let told = resolver.ask_with(GERMANY, "www.cdn.example", "A", &["+subnet=127.61.77.0/24"]);
    assert_eq!(told.records, [SYD]);
    // What no client changes is asked once for all of them.
    for client in [GERMANY, AUSTRALIA, "127.0.0.1"] {
        assert_eq!(resolver.ask(client, "mail.cdn.example", "MX").records, ["10 mx.example.net."]);
    }
    assert_eq!(nameserver.times_asked("mail.cdn.example", "MX").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validating_resolver_believes_every_answer() {
    if !installed("unbound") || !installed("dig") {
        return;
    }
    for algorithm in ["ecdsa-p256", "ed25519"] {
        let more = format!("{DNSSEC}algorithm = \"{algorithm}\"\n");
        let nameserver = Nameserver::start_keyed(&more).await;
        let resolver =
            Resolver::start(&[nameserver.address], Some(&anchor(&nameserver)), "  aggressive-nsec: yes\n").await;
        let rows: [(&str, &str, &str, Resolved); 20] = [
            (GERMANY, "www.cdn.example", "A", validated("NOERROR", &[FRA])),
            (AUSTRALIA, "www.cdn.example", "A", validated("NOERROR", &[SYD])),
            (AUSTRALIA, "www.cdn.example", "AAAA", validated("NOERROR", &["2001:db8:61::80"])),
            (
                GERMANY,
                "alias.cdn.example",
                "A",
                validated("NOERROR", &["assets.cdn.example.", "www.cdn.example.", FRA]),
            ),
            (GERMANY, "mail.cdn.example", "MX", validated("NOERROR", &["10 mx.example.net."])),
            // RFC 6672 §5.3: the CNAME has no signature, and is believed for the DNAME's.
            (GERMANY, "www.moved.cdn.example", "A", validated("NOERROR", &["cdn.example.", "www.cdn.example.", FRA])),
            (GERMANY, "moved.cdn.example", "DNAME", validated("NOERROR", &["cdn.example."])),
            (GERMANY, "moved.cdn.example", "A", validated("NOERROR", &[])),
            (GERMANY, "nobody.moved.cdn.example", "A", validated("NOERROR", &["cdn.example.", "nobody.cdn.example."])),
            (GERMANY, "x.y.wild.cdn.example", "A", validated("NOERROR", &["192.0.2.2"])),
            // Denials, each followed by a question for the same name that has an answer, which an aggressive use of NSEC
            // (RFC 8198) must not take away.
            (GERMANY, "www.cdn.example", "TXT", validated("NOERROR", &[])),
            (GERMANY, "www.cdn.example", "A", validated("NOERROR", &[FRA])),
            (GERMANY, "z.wild.cdn.example", "MX", validated("NOERROR", &[])),
            (GERMANY, "z.wild.cdn.example", "A", validated("NOERROR", &["192.0.2.2"])),
            (GERMANY, "deep.name.cdn.example", "A", validated("NOERROR", &[])),
            (GERMANY, "a.deep.name.cdn.example", "A", validated("NOERROR", &["192.0.2.1"])),
            // RFC 9824 §3: what is not there is proven by NODATA; the resolver does not know NXNAME.
            (GERMANY, "nobody.cdn.example", "A", validated("NOERROR", &[])),
            (GERMANY, "a.nobody.cdn.example", "A", validated("NOERROR", &[])),
            (GERMANY, "noaa.cdn.example", "A", validated("NOERROR", &[])),
            (GERMANY, "ns1.cdn.example", "A", validated("NOERROR", &["127.0.0.1"])),
        ];
        for (from, name, kind, expected) in rows {
            // What is kept is asked twice.
            for _ in 0..2 {
                assert_eq!(resolver.ask(from, name, kind), expected, "{algorithm}: {name} {kind}\n{}", resolver.said());
            }
        }
        let https = resolver.ask(GERMANY, "tls.cdn.example", "HTTPS");
        assert!(https.is_validated && https.records.len() == 1, "{https:?}");
        for kind in ["DNSKEY", "CDS", "CDNSKEY", "SOA", "NS", "CAA"] {
            let apex = resolver.ask(GERMANY, ZONE, kind);
            assert!(apex.is_validated && !apex.records.is_empty(), "{kind}: {apex:?}");
        }
        // Below an unsigned delegation nothing is proven, and nothing is bogus: nobody is there.
        assert_eq!(resolver.ask(GERMANY, "sub.cdn.example", "DS"), validated("NOERROR", &[]));
        assert!(!resolver.said().contains("bogus"), "{}", resolver.said());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delv_and_kdig_find_the_signatures() {
    let nameserver = Nameserver::start_keyed(DNSSEC).await;
    let (at, port) = (format!("@{}", nameserver.address.ip()), nameserver.address.port().to_string());
    if installed("delv") {
        let ds = anchor(&nameserver);
        let words: Vec<&str> = ds.split_whitespace().collect();
        let [zone, _, _, tag, algorithm, digest_kind, digest] = words[..] else { panic!("{ds}") };
        let anchors = nameserver.folder.path().join("anchors");
        std::fs::write(
            &anchors,
            format!("trust-anchors {{ \"{zone}\" static-ds {tag} {algorithm} {digest_kind} \"{digest}\"; }};\n"),
        )
        .unwrap();
        let file = anchors.display().to_string();
        for (name, kind, expected) in [
            ("www.cdn.example", "A", "; fully validated"),
            ("alias.cdn.example", "AAAA", "; fully validated"),
            ("q.wild.cdn.example", "A", "; fully validated"),
            ("www.moved.cdn.example", "A", "; fully validated"),
            ("cdn.example", "DNSKEY", "; fully validated"),
            ("mail.cdn.example", "A", "; negative response, fully validated"),
            ("nobody.cdn.example", "A", "; negative response, fully validated"),
        ] {
            let text = run("delv", &[&at, "-p", &port, "-a", &file, "+root=cdn.example", name, kind]);
            assert!(text.contains(expected), "{name} {kind}:\n{text}");
        }
    }
    if installed("kdig") {
        for (name, kind) in [("www.cdn.example", "A"), ("cdn.example", "DNSKEY"), ("nobody.cdn.example", "A")] {
            let text = run("kdig", &[&at, "-p", &port, "+dnssec", "+norec", name, kind]);
            assert!(text.contains("RRSIG") && text.contains("flags: do;"), "{name} {kind}:\n{text}");
        }
    }
    if installed("drill") {
        // Chases nothing: it reads and prints signatures of every kind of denial.
        let text = run("drill", &["-D", "-p", &port, "nobody.cdn.example", &at, "A"]);
        assert!(text.contains("RRSIG") && text.contains("NSEC"), "{text}");
    }
}
