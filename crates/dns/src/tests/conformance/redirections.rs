//! DNAME (RFC 6672).

use super::*;

/// With the label before it, 255 octets below the target of `far`, and 256.
const FITS: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.far.cdn.example";
const TOO_LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.far.cdn.example";

#[test]
fn redirections() {
    let bench = Bench::new();
    bench.points(
        Transport::Udp,
        &[
            ("RFC 6672 §3.2: DNAME, CNAME, and what is there", q("a.old.cdn.example", 1), "NOERROR aa 3/0/0"),
            ("RFC 6672 §2.3: the owner is not below itself", q("old.cdn.example", 16), "NOERROR aa 1/0/0"),
            ("RFC 6672 §2.3: nor for what it has not", q("old.cdn.example", 1), "NOERROR aa 0/1/0"),
            ("RFC 6672 §2.1: the DNAME itself", q("old.cdn.example", 39), "NOERROR aa 1/0/0"),
            ("RFC 1034 §3.6.2: the CNAME that is made", q("b.old.cdn.example", 5), "NOERROR aa 2/0/0"),
            ("RFC 6672 §3.2: DNAME below a DNAME", q("a.old.cdn.example", 39), "NOERROR aa 2/1/0"),
            ("RFC 8482 §4.2: ANY of the owner", q("old.cdn.example", 255), "NOERROR aa 1/0/0"),
            ("RFC 6672 §3.2: ANY below", q("a.old.cdn.example", 255), "NOERROR aa 3/0/0"),
            ("RFC 6604 §3: the code is the last name's", q("b.old.cdn.example", 1), "NXDOMAIN aa 2/1/0"),
            ("RFC 2308 §2.2.1: and so is NODATA", q("a.old.cdn.example", 28), "NOERROR aa 2/1/0"),
            ("RFC 6672 §2.2: any number of labels", q("p.q.r.old.cdn.example", 1), "NXDOMAIN aa 2/1/0"),
            ("RFC 6672 §3.2: a wildcard at the target", q("x.w.old.cdn.example", 16), "NOERROR aa 3/0/0"),
            ("RFC 4343 §3: letters of any case", q("A.oLD.cdn.example", 1), "NOERROR aa 3/0/0"),
            ("RFC 6672 §3.2: out of the zone it is the reader's", q("x.gone.cdn.example", 1), "NOERROR aa 2/0/0"),
            ("RFC 6672 §3.2: a CNAME into it", q("intoold.cdn.example", 1), "NOERROR aa 4/0/0"),
            ("RFC 6672 §3.2: to a steered name", q("www.steers.cdn.example", 1), "NOERROR aa 4/0/0"),
            ("RFC 9460 §9: HTTPS of one", q("img.steers.cdn.example", 65), "NOERROR aa 3/0/0"),
            ("RFC 6672 §2.4: a circle ends where it closes", q("x.loopa.cdn.example", 1), "NOERROR aa 4/0/0"),
            ("RFC 2181 §5: what grows ends, its DNAME told once", q("x.grows.cdn.example", 1), "NOERROR aa 9/0/0"),
            ("RFC 6672 §2.2: a name too long", q(TOO_LONG, 1), "YXDOMAIN aa 1/0/0"),
            ("RFC 2181 §9: what does not fit is not there", q(FITS, 1), "NOERROR aa tc 0/0/0"),
        ],
    );
    bench.points(Transport::Tcp, &[("RFC 6672 §2.2: the longest name", q(FITS, 1), "NOERROR aa 2/0/0")]);
    let signed_ = |counts: &str| format!("NOERROR aa {counts} opt v0 1232 do");
    bench.signed(&[
        ("RFC 6672 §5.3.1: the DNAME is signed, the CNAME is not", signed("x.gone.cdn.example", 1), &signed_("3/0/0")),
        ("RFC 6672 §5.3.1: what stands there is", signed("a.old.cdn.example", 1), &signed_("5/0/0")),
        (
            "RFC 6672 §5.3.4: what is not there is denied at its own name",
            signed("b.old.cdn.example", 1),
            &signed_("3/4/0"),
        ),
        ("RFC 6672 §5.3.4: NODATA of the owner", signed("old.cdn.example", 1), &signed_("0/4/0")),
        ("RFC 6672 §3.2: one signature for what is told once", signed("x.grows.cdn.example", 1), &signed_("10/0/0")),
        (
            "RFC 6672 §2.2: the signed DNAME proves that the name is too long",
            signed(TOO_LONG, 1),
            "YXDOMAIN aa 2/0/0 opt v0 1232 do",
        ),
    ]);
}

#[test]
fn the_cname_that_is_made() {
    let bench = Bench::new();
    let mut out = Vec::new();
    let peer = GERMANY.parse().unwrap();
    let message = q("A.oLD.cdn.example", 1);
    let outcome = answer(&bench.plain, peer, Transport::Udp, &message, &HealthView::default(), &mut out);
    let lines = render(&out, &outcome);
    // RFC 6672 §3.1: as long as the DNAME; its name is as it was asked.
    assert!(lines.contains("\nA.oLD.cdn.example. 420 CNAME a.new.cdn.example.\n"), "{lines}");
    assert!(lines.contains("\na.new.cdn.example. 3600 A 192.0.2.7"), "{lines}");
    // §2.5: the target is not compressed.
    let dname = b"\x03new\x03cdn\x07example\0";
    assert!(out.windows(dname.len()).any(|bytes| bytes == dname), "{out:02x?}");
}

#[test]
fn an_explanation_follows() {
    let bench = Bench::new();
    let explained = |name: &'static str| {
        let mut out = Vec::new();
        let peer = GERMANY.parse().unwrap();
        let outcome = answer(&bench.plain, peer, Transport::Tcp, &q(name, 16), &HealthView::default(), &mut out);
        render(&out, &outcome)
    };
    let (through, direct) = (explained("_why.www.steers.cdn.example"), explained("_why.www.cdn.example"));
    assert_eq!(through.replace(".steers", ""), direct);
    assert!(direct.starts_with("NOERROR aa (why)"), "{direct}");
    // What leads nowhere has none, and ends.
    for name in ["_why.x.grows.cdn.example", "_why.x.loopa.cdn.example", "_why.b.old.cdn.example"] {
        assert!(!explained(name).contains("(why)"), "{name}");
    }
}

#[test]
fn nothing_is_below_a_dname() {
    let document = format!("{DOCUMENT}{MORE}").replace("_FAR", "far");
    let check = |name: &str, kind: &str, value: &str, is_wrong: bool| {
        let mut document = document::load("test.toml", &document).unwrap();
        let ttl = std::time::Duration::from_secs(60);
        let (name, kind) = (format!("{name}cdn.example"), kind.to_owned());
        document.records.push(perigee_protocol::model::StaticRecord {
            name,
            kind,
            ttl,
            values: vec![value.to_owned()],
        });
        let made = Snapshot::<Vec<u8>>::new(&document, SERIAL, None, service(0), None);
        assert_eq!(matches!(made, Err(crate::ZoneError::Dname { .. })), is_wrong, "{made:?}");
    };
    check("x.old.", "A", "192.0.2.1", true);
    check("x.y.old.", "A", "192.0.2.1", true);
    check("old.", "DNAME", "other.example.", true);
    check("", "DNAME", "other.example.", true);
    check("x.gold.", "A", "192.0.2.1", false);
    check("other.", "DNAME", "other.example.", false);
}
