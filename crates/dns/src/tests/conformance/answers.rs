//! What a good question is answered with.

use super::*;

#[test]
fn data() {
    let (soa, nothing) = ("NOERROR aa 0/1/0", "NXDOMAIN aa 0/1/0");
    Bench::new().points(
        Transport::Udp,
        &[
            ("RFC 8906 §8.1.1: SOA of the zone", q("cdn.example", 6), "NOERROR aa 1/0/0"),
            (
                "RFC 1034 §4.2.1: NS of the zone, with the addresses that we know",
                q("cdn.example", 2),
                "NOERROR aa 2/0/2",
            ),
            ("RFC 4343 §3: letters of any case", q("NS1.cDN.exAMple", 1), "NOERROR aa 1/0/0"),
            ("RFC 2308 §2.2: SOA below the apex", q("www.cdn.example", 6), soa),
            ("RFC 2308 §2.1: a name that is not there", q("nobody.cdn.example", 1), nothing),
            ("RFC 8020 §2: nor is anything below it", q("x.y.nobody.cdn.example", 1), nothing),
            ("RFC 8020 §3.1: an empty non-terminal is", q("deep.name.cdn.example", 1), soa),
            ("RFC 8020 §3.1: and what is above it", q("name.cdn.example", 1), soa),
            ("RFC 4592 §2.2.2: a service's parent", q("_tcp.cdn.example", 33), soa),
            ("RFC 1035 §3.3.14: a text of several strings", q("texts.cdn.example", 16), "NOERROR aa 1/0/0"),
            ("RFC 1034 §6.2.6: another zone", q("example.org", 1), "REFUSED 0/0/0"),
            ("RFC 1034 §6.2.6: the parent", q("example", 1), "REFUSED 0/0/0"),
            ("RFC 1034 §6.2.6: the root", q("", 2), "REFUSED 0/0/0"),
            ("RFC 1034 §6.2.6: a name that ends alike", q("xcdn.example", 1), "REFUSED 0/0/0"),
            (
                "RFC 8914 §4.21: and why",
                ask("example.org", 1).opt(1232, 0, &[]).bytes(),
                "REFUSED 0/0/0 opt v0 1232 ede=20",
            ),
            ("RFC 1034 §3.6.2: a CNAME is followed", q("assets.cdn.example", 1), "NOERROR aa 4/0/0"),
            ("RFC 1034 §3.6.2: but not when it is asked for", q("assets.cdn.example", 5), "NOERROR aa 1/0/0"),
            ("RFC 1034 §3.6.2: out of the zone it is the reader's", q("leaves.cdn.example", 1), "NOERROR aa 1/0/0"),
            ("RFC 6604 §3: the last name's code", q("dangles.cdn.example", 1), "NXDOMAIN aa 1/1/0"),
            ("RFC 2308 §2.2.1: the last name's SOA", q("assets.cdn.example", 15), "NOERROR aa 2/1/0"),
            ("RFC 1034 §3.6.2: a circle ends", q("circle.cdn.example", 1), "NOERROR aa 2/0/0"),
            ("RFC 1034 §3.6.2: a CNAME into a delegation", q("into-sub.cdn.example", 1), "NOERROR aa 1/2/1"),
            ("RFC 4592 §3.3.1: a CNAME of a wildcard", q("x.alias.cdn.example", 1), "NOERROR aa 2/0/0"),
            ("RFC 9460 §9: HTTPS of a site with TLS", q("img.cdn.example", 65), "NOERROR aa 1/0/0"),
            ("RFC 9460 §9: HTTPS of one without", q("www.cdn.example", 65), soa),
            ("RFC 9460 §2: SVCB is no HTTPS", q("img.cdn.example", 64), soa),
            ("RFC 1035 §3.3.9: MX without addresses of others", q("mail.cdn.example", 15), "NOERROR aa 2/0/0"),
            ("RFC 4034 §2: keys of an unsigned zone", q("cdn.example", 48), soa),
            ("RFC 4034 §3: signatures of an unsigned zone", q("cdn.example", 46), soa),
            ("RFC 5936 §4.2: AXFR over UDP", q("cdn.example", 252), "REFUSED 0/0/0"),
        ],
    );
}

#[test]
fn wildcards_of_rfc_4592() {
    let (soa, nothing) = ("NOERROR aa 0/1/0", "NXDOMAIN aa 0/1/0");
    Bench::new().points(
        Transport::Udp,
        &[
            ("§2.2.1: host3, MX: made by the wildcard", q("host3.rfc4592.cdn.example", 15), "NOERROR aa 1/0/0"),
            ("§2.2.1: host3, A: the wildcard has none", q("host3.rfc4592.cdn.example", 1), soa),
            ("§2.2.1: foo.bar, TXT: more than one label", q("foo.bar.rfc4592.cdn.example", 16), "NOERROR aa 1/0/0"),
            ("§2.2.1: host1, MX: the name is there", q("host1.rfc4592.cdn.example", 15), soa),
            (
                "§2.2.1: _telnet._tcp.host1: the encloser is there",
                q("_telnet._tcp.host1.rfc4592.cdn.example", 33),
                nothing,
            ),
            ("§2.2.1: host.subdel: a referral", q("host.subdel.rfc4592.cdn.example", 1), "NOERROR 0/2/0"),
            ("§2.2.1: ghost.*: the wildcard is its encloser", q("ghost.*.rfc4592.cdn.example", 15), nothing),
            ("§2.3: the wildcard itself", q("*.rfc4592.cdn.example", 16), "NOERROR aa 1/0/0"),
            ("§2.1.3: a label with a star in it is no wildcard", q("x*.there.wild.cdn.example", 16), nothing),
            ("§3.3.1: the wildcard stands not for its parent", q("rfc4592.cdn.example", 16), soa),
        ],
    );
}

#[test]
fn below_a_cut() {
    let bench = Bench::new();
    bench.points(
        Transport::Udp,
        &[
            ("RFC 1034 §4.3.2: below a cut, with glue, not ours", q("x.sub.cdn.example", 1), "NOERROR 0/2/1"),
            ("RFC 1034 §4.3.2: the cut itself", q("sub.cdn.example", 1), "NOERROR 0/2/1"),
            ("RFC 2181 §6.1: NS of the cut are the child's", q("sub.cdn.example", 2), "NOERROR 0/2/1"),
            ("RFC 2181 §5.4.1: glue is no answer", q("ns.sub.cdn.example", 1), "NOERROR 0/2/1"),
            ("RFC 8482 §4: ANY of the cut", q("sub.cdn.example", 255), "NOERROR 0/2/1"),
            ("RFC 4035 §3.1.4.1: DS of the cut is ours", q("sub.cdn.example", 43), "NOERROR aa 0/1/0"),
            ("RFC 4035 §3.1.4.1: DS below it is not", q("x.sub.cdn.example", 43), "NOERROR 0/2/1"),
            ("RFC 9471 §3: glue that is needed and does not fit", q("x.below.cdn.example", 1), "NOERROR tc 0/0/0"),
        ],
    );
    bench.points(Transport::Tcp, &[("RFC 9471 §3: over TCP it does", q("x.below.cdn.example", 1), "NOERROR 0/13/13")]);
    bench.signed(&[
        (
            "RFC 4035 §3.1.4: that there is no DS is proven",
            signed("x.sub.cdn.example", 1),
            "NOERROR 0/4/1 opt v0 1232 do",
        ),
        (
            "RFC 4035 §3.1.4.1: and so it is when it is asked",
            signed("sub.cdn.example", 43),
            "NOERROR aa 0/4/0 opt v0 1232 do",
        ),
    ]);
}

#[test]
fn sizes() {
    let bench = Bench::new();
    let long = |payload: u16| ask("long.cdn.example", 16).opt(payload, 0, &[]).bytes();
    bench.points(
        Transport::Udp,
        &[
            ("RFC 1035 §4.2.1: 512 octets without EDNS", q("long.cdn.example", 16), "NOERROR aa tc 0/0/0"),
            ("RFC 6891 §6.2.3: 512 at least", long(100), "NOERROR aa tc 0/0/0 opt v0 1232"),
            ("RFC 6891 §6.2.4: as the client offers", long(1_232), "NOERROR aa 3/0/0 opt v0 1232"),
            ("RFC 9715 §3.1: and no more than 1232", long(65_535), "NOERROR aa 3/0/0 opt v0 1232"),
        ],
    );
    bench.points(
        Transport::Tcp,
        &[
            ("RFC 7766 §5: over TCP all of it", q("long.cdn.example", 16), "NOERROR aa 3/0/0"),
            ("RFC 6891 §6.2.5: whatever EDNS says", long(512), "NOERROR aa 3/0/0 opt v0 1232"),
        ],
    );
    // RFC 8467 §4.1: answers in blocks of 468 octets, for those who pad.
    let mut out = Vec::new();
    for (name, blocks) in [("ns1.cdn.example", 1), ("long.cdn.example", 2)] {
        let message = ask(name, 16).opt(1232, 0, &[0, 12, 0, 0]).bytes();
        answer(&bench.plain, GERMANY.parse().unwrap(), Transport::Tls, &message, &HealthView::default(), &mut out);
        assert_eq!(out.len(), blocks * 468, "{name}");
    }
}

#[test]
fn signatures_and_denials() {
    let signed_ = |counts: &str| format!("NOERROR aa {counts} opt v0 1232 do");
    let is_compact = ask("nobody.cdn.example", 1).opt(1232, DNSSEC_OK | COMPACT_OK, &[]).bytes();
    let without = |name, kind| ask(name, kind).opt(1232, 0, &[]).bytes();
    Bench::new().signed(&[
        ("RFC 4035 §3.1.1: a set and its signature", signed("ns1.cdn.example", 1), &signed_("2/0/0")),
        ("RFC 4035 §3.1.1: a steered set too", signed("www.cdn.example", 1), &signed_("3/0/0")),
        (
            "RFC 4035 §3.1: none for who does not want them",
            without("ns1.cdn.example", 1),
            "NOERROR aa 1/0/0 opt v0 1232",
        ),
        ("RFC 4035 §3.1: nor for who knows no EDNS", q("ns1.cdn.example", 1), "NOERROR aa 1/0/0"),
        ("RFC 4035 §2.1: the keys", signed("cdn.example", 48), &signed_("2/0/0")),
        ("RFC 4035 §3.1: keys that are asked for by name", q("cdn.example", 48), "NOERROR aa 1/0/0"),
        ("RFC 7344 §4: CDS", signed("cdn.example", 59), &signed_("2/0/0")),
        ("RFC 7344 §4: CDNSKEY", signed("cdn.example", 60), &signed_("2/0/0")),
        ("RFC 4035 §3.1.1: each set of a chain", signed("assets.cdn.example", 1), &signed_("7/0/0")),
        ("RFC 4035 §3.1.3: NODATA", signed("ns1.cdn.example", 16), &signed_("0/4/0")),
        ("RFC 9824 §3.1: what is not there", signed("nobody.cdn.example", 1), &signed_("0/4/0")),
        ("RFC 9824 §5.1: and says so to who understands", is_compact, "NXDOMAIN aa 0/4/0 opt v0 1232 do"),
        ("RFC 2308 §2.1: and to who wants no proof", without("nobody.cdn.example", 1), "NXDOMAIN aa 0/1/0 opt v0 1232"),
        ("RFC 9824 §3.3: an empty non-terminal", signed("name.cdn.example", 1), &signed_("0/4/0")),
        ("RFC 9824 §3.4: made by a wildcard", signed("x.wild.cdn.example", 16), &signed_("2/0/0")),
        ("RFC 4035 §3.1: NSEC that is asked for", signed("ns1.cdn.example", 47), &signed_("2/0/0")),
        ("RFC 4035 §3.1: NSEC without signatures", q("ns1.cdn.example", 47), "NOERROR aa 1/0/0"),
        ("RFC 8482 §4.1: signatures that are asked for", signed("ns1.cdn.example", 46), &signed_("1/0/0")),
        ("RFC 4034 §4: NSEC of a CNAME's own name", signed("assets.cdn.example", 47), &signed_("2/0/0")),
        ("RFC 4034 §3: signatures of a CNAME's own name", signed("assets.cdn.example", 46), &signed_("1/0/0")),
        ("RFC 9824 §3.1: signatures of nothing", signed("nobody.cdn.example", 46), &signed_("0/4/0")),
        ("RFC 8482 §4.2: ANY", signed("cdn.example", 255), &signed_("2/0/0")),
        ("RFC 9460 §9: HTTPS", signed("img.cdn.example", 65), &signed_("2/0/0")),
        (
            "RFC 4035 §3.1: refusals have nothing to sign",
            signed("example.org", 1),
            "REFUSED 0/0/0 opt v0 1232 do ede=20",
        ),
    ]);
}

/// A denial of the longest names has names that are none too long.
#[test]
fn the_longest_names_are_denied() {
    let bench = Bench::new();
    let zone = b"\x03cdn\x07example\0";
    for octets in 240..=255 {
        let mut name = Vec::new();
        while name.len() + zone.len() < octets {
            let left = octets - zone.len() - name.len();
            let label = if left == 65 { 62 } else { (left - 1).min(63) };
            name.push(u8::try_from(label).unwrap());
            name.resize(name.len() + label, b'x');
        }
        name.extend(zone);
        assert_eq!(name.len(), octets);
        let message = raw([1, 0, 0, 1], &[&name[..], &[0, 1, 0, 1], &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]].concat());
        bench.points_of(
            &bench.signed,
            Transport::Udp,
            &[("RFC 9824 §3.1", message, "NOERROR aa 0/4/0 opt v0 1232 do")],
        );
    }
}

/// RFC 5452 §10 and the issue's own bound: a flood of forged queries brings their victim no three times as much.
#[test]
fn amplification_is_bounded() {
    let bench = Bench::new();
    let flooded = Snapshot { service: service(200), ..bench.signed };
    let queries = [
        signed("cdn.example", 48),
        signed("cdn.example", 2),
        ask("long.cdn.example", 16).opt(4_096, 0, &[]).bytes(),
        signed("nobody.cdn.example", 1),
        q("cdn.example", 255),
    ];
    let mut memory = memory();
    for query in &queries {
        let (mut asked, mut answered, mut out) = (0, 0, Vec::new());
        // Ten thousand a second, for three seconds, long after the first second's allowance.
        for number in 0..30_000_u64 {
            let arrival =
                Arrival { peer: [192, 0, 2, 1].into(), transport: Transport::Udp, now_ms: NOW_MS + number / 10 };
            let outcome = answer_with(&flooded, arrival, query, &HealthView::default(), &mut memory, &mut out);
            assert_eq!(outcome.rcode.is_none(), out.is_empty());
            asked += query.len();
            answered += out.len();
        }
        assert!(answered < 3 * asked, "{answered} bytes for {asked}: {query:02x?}");
        assert!(answered > 0);
    }
}
