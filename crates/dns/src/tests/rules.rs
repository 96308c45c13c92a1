//! Header, question, zone.

use super::*;

const SOA: &str = "authority cdn.example. 60 SOA ns1.cdn.example. host\\.master.cdn.example. 2026 3600 600 604800 60";

#[test]
fn headers() {
    let with_flags = |flags| Ask { flags, ..ask("mail.cdn.example", 6) };
    check(with_flags(0x8000), "dropped (is-response)");
    check(with_flags(0x0100), &format!("NOERROR aa rd (no-data)\n{SOA}"));
    // TC, RA, Z, AD, CD and an rcode in a query mean nothing.
    check(with_flags(0x02ff), &format!("NOERROR aa (no-data)\n{SOA}"));
    for (opcode, name) in [(1, "IQUERY"), (2, "STATUS"), (3, "3"), (4, "NOTIFY"), (5, "UPDATE"), (6, "DSO"), (15, "15")]
    {
        let (out, text) = reply_to(&with_flags(opcode << 11).bytes(), GERMANY, Transport::Udp, &HealthView::default());
        // Those that are known are refused, for they are not for strangers.
        let rcode = if matches!(opcode, 4 | 5) { "REFUSED" } else { "NOTIMP" };
        assert_eq!((text, out[2] >> 3 & 15), (format!("{rcode} (opcode)"), opcode as u8), "{name}");
    }
}

#[test]
fn questions() {
    for questions in [0, 2, 3] {
        check(Ask { questions, ..ask("mail.cdn.example", 15) }, "FORMERR (question-count)");
    }
    for (class, name) in [(3, "CH"), (4, "HS"), (254, "NONE"), (255, "ANY"), (0, "reserved")] {
        let (_, text) = reply_to(
            &Ask { class, ..ask("mail.cdn.example", 15) }.bytes(),
            GERMANY,
            Transport::Udp,
            &HealthView::default(),
        );
        assert_eq!(text, "REFUSED (class)", "{name}");
    }
    check(ask("cdn.example", 252), "REFUSED (transfer)");
    check(ask("cdn.example", 251), "REFUSED (transfer)");
    for kind in [129, 200, 248, 249, 253, 254] {
        check(ask("cdn.example", kind), "NOTIMP (meta-type)");
    }
    for kind in [0, 41, 128, 250] {
        check(ask("cdn.example", kind), "FORMERR (query-type)");
    }
    check(Ask { trailer: vec![0], ..ask("mail.cdn.example", 15) }, "FORMERR (malformed)");
}

#[test]
fn cut_short() {
    let whole = ask("mail.cdn.example", 15).opt(4096, 0, &[]).bytes();
    for length in 0..whole.len() {
        let (_, text) = reply_to(&whole[..length], GERMANY, Transport::Udp, &HealthView::default());
        let expected = if length < 12 { "dropped (too-short)" } else { "FORMERR (malformed)" };
        assert_eq!(text, expected, "{length}");
    }
}

#[test]
fn the_question_comes_back_byte_for_byte() {
    let message = ask("wWw.cDn.ExAmPlE", 1).bytes();
    let (out, text) = reply_to(&message, GERMANY, Transport::Udp, &HealthView::default());
    assert_eq!(out[12..message.len()], message[12..]);
    assert!(text.starts_with("NOERROR aa (nearest)\nwWw.cDn.ExAmPlE. 30 A 198.18.49.10"), "{text}");
    // The owner is a pointer to it.
    assert_eq!(out[message.len()..message.len() + 2], [0xc0, 12]);
}

#[test]
fn static_records() {
    check(ask("cdn.example", 16), "NOERROR aa (static)\ncdn.example. 300 TXT v=spf1 -all");
    check(
        ask("mail.cdn.example", 15),
        "NOERROR aa (static)\nmail.cdn.example. 3600 MX 10 mx.cdn.example.\nmail.cdn.example. 3600 MX 20 mx.other.example.",
    );
    check(
        ask("_sip._tcp.cdn.example", 33),
        "NOERROR aa (static)\n_sip._tcp.cdn.example. 3600 SRV 0 5 5060 mail.cdn.example.",
    );
    check(
        ask("cdn.example", 6),
        &format!("NOERROR aa (static)\n{}", SOA.replace("authority ", "").replacen(" 60 ", " 3600 ", 1)),
    );
}

#[test]
fn nameservers() {
    check(
        ask("cdn.example", 2),
        "NOERROR aa (static)\ncdn.example. 3600 NS ns1.cdn.example.\ncdn.example. 3600 NS ns2.other.example.\n\
         additional ns1.cdn.example. 3600 A 198.18.0.53\nadditional ns1.cdn.example. 3600 AAAA 2001:db8::53",
    );
    check(ask("ns1.cdn.example", 1), "NOERROR aa (static)\nns1.cdn.example. 3600 A 198.18.0.53");
    check(ask("ns1.cdn.example", 28), "NOERROR aa (static)\nns1.cdn.example. 3600 AAAA 2001:db8::53");
}

#[test]
fn negative_answers() {
    check(ask("mail.cdn.example", 1), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("www.cdn.example", 16), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("www.cdn.example", 65), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("nobody.cdn.example", 1), &format!("NXDOMAIN aa (nx-domain)\n{SOA}"));
    check(ask("x.www.cdn.example", 1), &format!("NXDOMAIN aa (nx-domain)\n{SOA}"));
    // An empty non-terminal exists (RFC 8020), and so do all above it.
    check(ask("deep.name.cdn.example", 1), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("name.cdn.example", 1), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("name.cdn.example", 255), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("_tcp.cdn.example", 33), &format!("NOERROR aa (no-data)\n{SOA}"));
}

#[test]
fn outside() {
    for name in ["", "example", "other.example", "cdn.example.org", "xcdn.example", "x.cdn.example.com"] {
        check(ask(name, 1), "REFUSED (out-of-zone)");
    }
}

#[test]
fn wildcards() {
    check(ask("x.wild.cdn.example", 16), "NOERROR aa (static)\nx.wild.cdn.example. 3600 TXT from the wildcard");
    check(ask("x.y.wild.cdn.example", 16), "NOERROR aa (static)\nx.y.wild.cdn.example. 3600 TXT from the wildcard");
    check(ask("*.wild.cdn.example", 16), "NOERROR aa (static)\n*.wild.cdn.example. 3600 TXT from the wildcard");
    check(ask("x.wild.cdn.example", 1), &format!("NOERROR aa (no-data)\n{SOA}"));
    // RFC 4592 §2.2.1: a name that is there, or has one below, is not the wildcard's.
    check(ask("there.wild.cdn.example", 16), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(ask("x.there.wild.cdn.example", 16), &format!("NXDOMAIN aa (nx-domain)\n{SOA}"));
    check(ask("wild.cdn.example", 16), &format!("NOERROR aa (no-data)\n{SOA}"));
}

#[test]
fn aliases() {
    check(
        ask("assets.cdn.example", 1),
        "NOERROR aa (nearest)\nassets.cdn.example. 3600 CNAME alias.cdn.example.\nalias.cdn.example. 3600 CNAME www.cdn.example.\n\
         www.cdn.example. 30 A 198.18.49.10\nwww.cdn.example. 30 A 198.18.61.10",
    );
    check(ask("assets.cdn.example", 5), "NOERROR aa (static)\nassets.cdn.example. 3600 CNAME alias.cdn.example.");
    check(ask("leaves.cdn.example", 1), "NOERROR aa (alias)\nleaves.cdn.example. 3600 CNAME elsewhere.example.");
    // RFC 6604 §2.1: the rcode is that of the last name.
    check(
        ask("dangles.cdn.example", 1),
        &format!("NXDOMAIN aa (nx-domain)\ndangles.cdn.example. 3600 CNAME nobody.cdn.example.\n{SOA}"),
    );
    check(
        ask("circle.cdn.example", 1),
        "NOERROR aa (alias)\ncircle.cdn.example. 3600 CNAME circle2.cdn.example.\ncircle2.cdn.example. 3600 CNAME circle.cdn.example.",
    );
}

#[test]
fn a_circle_through_a_wildcard_is_told_until_a_name_comes_again() {
    let more =
        "[[zone.record]]\nname = \"*.turns\"\ntype = \"CNAME\"\nttl = \"1h\"\nvalues = [\"once.turns.cdn.example.\"]\n";
    let snapshot = snapshot_of(&format!("{DOCUMENT}{}{more}", super::delegations()), |_| {});
    let check = |name: &'static str, expected: &str| {
        let (message, mut out) = (ask(name, 1).bytes(), Vec::new());
        let everybody = HealthView::default();
        let outcome = answer(&snapshot, GERMANY.parse().unwrap(), Transport::Udp, &message, &everybody, &mut out);
        assert_eq!(render(&out, &outcome), expected);
    };
    let last = "once.turns.cdn.example. 3600 CNAME once.turns.cdn.example.";
    check(
        "a.turns.cdn.example",
        &format!("NOERROR aa (alias)\na.turns.cdn.example. 3600 CNAME once.turns.cdn.example.\n{last}"),
    );
    check("once.turns.cdn.example", &format!("NOERROR aa (alias)\n{last}"));
}

#[test]
fn delegations() {
    let referral = "authority sub.cdn.example. 3600 NS ns.sub.cdn.example.\nauthority sub.cdn.example. 3600 NS ns.elsewhere.example.\n\
                    additional ns.sub.cdn.example. 3600 A 192.0.2.53";
    for (name, kind) in [
        ("x.sub.cdn.example", 1),
        ("sub.cdn.example", 2),
        ("sub.cdn.example", 1),
        ("ns.sub.cdn.example", 1),
        ("x.sub.cdn.example", 43),
    ] {
        check(ask(name, kind), &format!("NOERROR (referral)\n{referral}"));
    }
    // RFC 4035 §3.1.4.1: the parent's side.
    check(ask("sub.cdn.example", 43), &format!("NOERROR aa (no-data)\n{SOA}"));
    check(
        ask("into-sub.cdn.example", 1),
        &format!("NOERROR aa (referral)\ninto-sub.cdn.example. 3600 CNAME x.sub.cdn.example.\n{referral}"),
    );
}

#[test]
fn any() {
    check(ask("cdn.example", 255), "NOERROR aa (any)\ncdn.example. 3600 HINFO RFC8482 ");
    check(ask("www.cdn.example", 255), "NOERROR aa (any)\nwww.cdn.example. 3600 HINFO RFC8482 ");
    check(ask("alias.cdn.example", 255), "NOERROR aa (static)\nalias.cdn.example. 3600 CNAME www.cdn.example.");
    check(ask("nobody.cdn.example", 255), &format!("NXDOMAIN aa (nx-domain)\n{SOA}"));
}

#[test]
fn glue_that_does_not_fit() {
    let referral = |name| {
        let (out, text) = reply_to(&ask(name, 1).bytes(), GERMANY, Transport::Udp, &HealthView::default());
        let count = |section: &str| text.lines().filter(|line| line.starts_with(section)).count();
        assert!(out.len() <= 512 && text.starts_with("NOERROR"), "{text}");
        (count("authority"), count("additional") > 0, text.contains(" tc "))
    };
    // RFC 9471 §3: needed below the cut, so that the client must come again; else as much as there is room for.
    assert_eq!(referral("x.below.cdn.example"), (0, false, true));
    assert_eq!(referral("x.beside.cdn.example"), (13, true, false));
    let (_, text) = reply_to(&ask("x.below.cdn.example", 1).bytes(), GERMANY, Transport::Tcp, &HealthView::default());
    assert_eq!(text.lines().count(), 1 + 13 + 13, "{text}");
}

#[test]
fn names_are_compressed_whatever_their_case() {
    let size = |name| reply_to(&ask(name, 1).bytes(), GERMANY, Transport::Udp, &HealthView::default()).0.len();
    let question = ask("assets.cdn.example", 1).bytes().len();
    // Two aliases of 12 bytes, a pointer, and a label with a pointer, and two addresses.
    let expected = question + (12 + 8) + (12 + 6) + 2 * 16;
    assert_eq!(size("assets.cdn.example"), expected);
    assert_eq!(size("ASSETS.CDN.EXAMPLE"), expected);
}

#[test]
fn records_are_there_once() {
    let snapshot = snapshot_of(DOCUMENT, |document| document.cdn.nameservers.extend(document.cdn.nameservers.clone()));
    let mut out = Vec::new();
    let message = ask("cdn.example", 2).bytes();
    let outcome =
        answer(&snapshot, GERMANY.parse().unwrap(), Transport::Udp, &message, &HealthView::default(), &mut out);
    assert_eq!(render(&out, &outcome).lines().count(), 1 + 2 + 2);
}

/// A record in the wire form, with nothing in it.
fn record(owner: &[u8], kind: u16) -> Vec<u8> {
    [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 0, 0, 0]].concat()
}

#[test]
fn other_records_of_a_query() {
    let with = |counts: [u8; 3], records: &[u8]| {
        let mut message = [ask("ns1.cdn.example", 1).bytes(), records.to_vec()].concat();
        for (place, count) in [7, 9, 11].into_iter().zip(counts) {
            message[place] = count;
        }
        reply_to(&message, GERMANY, Transport::Udp, &HealthView::default()).1.lines().next().unwrap().to_owned()
    };
    let (fine, malformed, edns) = ("NOERROR aa (static)", "FORMERR (malformed)", "FORMERR (edns)");
    assert_eq!(with([1, 1, 1], &[record(b"\0", 6), record(b"\x01a\0", 6), record(b"\xc0\x0c", 1)].concat()), fine);
    // A pointer to itself, one to what comes later, and the last one that leads back.
    assert_eq!(with([0, 0, 1], &record(b"\xc0\x21", 1)), malformed);
    assert_eq!(with([0, 0, 1], &record(b"\xc0\x25", 1)), malformed);
    assert_eq!(with([0, 0, 1], &record(b"\xc0\x20", 1)), fine);
    assert_eq!(with([0, 0, 1], &record(b"\x41", 1)), malformed);
    // OPT belongs to the root and to the additional section.
    assert_eq!(with([1, 0, 0], &record(b"\0", 41)), malformed);
    assert_eq!(with([0, 1, 0], &record(b"\0", 41)), malformed);
    assert_eq!(with([0, 0, 1], &record(b"\x01a\0", 41)), edns);
    assert_eq!(with([0, 0, 1], &record(b"\0", 41)), fine);
    // Counts are claims.
    assert_eq!(with([0, 0, 2], &record(b"\0", 1)), malformed);
    assert_eq!(with([255, 255, 255], &[]), malformed);
}
