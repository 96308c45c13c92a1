//! The laws of the wire, a point a line: what a message breaks or asks, and what an answer must then be.
//!
//! An answer is told as `RCODE flags answers/authorities/additionals` and what OPT says, as [`render`] has it.

use super::*;
use crate::dnssec::{Algorithm, KeyRing, Life, Role, ZoneKey};

mod answers;
mod redirections;

/// The zone of RFC 4592 §2.2.1 but for its sub.*, below a name of ours, and what else the points need.
const MORE: &str = r#"
[[zone.record]]
name = "*.rfc4592"
type = "TXT"
ttl = "1h"
values = ["this is a wildcard"]
[[zone.record]]
name = "*.rfc4592"
type = "MX"
ttl = "1h"
values = ["10 host1.rfc4592.cdn.example."]
[[zone.record]]
name = "host1.rfc4592"
type = "A"
ttl = "1h"
values = ["192.0.2.1"]
[[zone.record]]
name = "_ssh._tcp.host1.rfc4592"
type = "SRV"
ttl = "1h"
values = ["0 0 22 host1"]
[[zone.record]]
name = "subdel.rfc4592"
type = "NS"
ttl = "1h"
values = ["ns.example.com.", "ns.example.net."]
[[zone.record]]
name = "*.alias"
type = "CNAME"
ttl = "1h"
values = ["host1.rfc4592.cdn.example."]
[[zone.record]]
name = "old"
type = "DNAME"
ttl = "7m"
values = ["new"]
[[zone.record]]
name = "old"
type = "TXT"
ttl = "1h"
values = ["beside it"]
[[zone.record]]
name = "a.new"
type = "A"
ttl = "1h"
values = ["192.0.2.7"]
[[zone.record]]
name = "*.w.new"
type = "TXT"
ttl = "1h"
values = ["made"]
[[zone.record]]
name = "gone"
type = "DNAME"
ttl = "1h"
values = ["elsewhere.example."]
[[zone.record]]
name = "steers"
type = "DNAME"
ttl = "1h"
values = ["@"]
[[zone.record]]
name = "loopa"
type = "DNAME"
ttl = "1h"
values = ["loopb"]
[[zone.record]]
name = "loopb"
type = "DNAME"
ttl = "1h"
values = ["loopa"]
[[zone.record]]
name = "grows"
type = "DNAME"
ttl = "1h"
values = ["a.grows.cdn.example."]
[[zone.record]]
name = "far"
type = "DNAME"
ttl = "1h"
values = ["_FAR.elsewhere.example."]
[[zone.record]]
name = "intoold"
type = "CNAME"
ttl = "1h"
values = ["a.old.cdn.example."]
[[zone.record]]
name = "unknown"
type = "TYPE65280"
ttl = "1h"
values = ['\# 4 0a000001']
[[zone.record]]
name = "texts"
type = "TXT"
ttl = "1h"
values = ['"one" "" "two"']
"#;

const DNSSEC_OK: u32 = 0x8000;
const COMPACT_OK: u32 = 0x4000;

/// What asks, of whom.
struct Bench {
    plain: Snapshot<Vec<u8>>,
    signed: Snapshot<Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let text = format!("{DOCUMENT}{}{MORE}", delegations())
            .replace("_FAR", &["t"; 3].map(|label| label.repeat(63)).join("."))
            .replace("id = \"img\"", "id = \"img\"\ntls = { certificate = \"c\", key = \"k\" }");
        let always = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };
        let key = ZoneKey::new(Algorithm::EcdsaP256, &[9; 32], Role::Csk, always).unwrap();
        let keys = KeyRing::new(vec![key]).at(NOW_MS / 1_000).unwrap();
        Self { plain: snapshot_of(&text, |_| {}), signed: snapshot_signed(&text, keys) }
    }

    #[track_caller]
    fn points(&self, transport: Transport, points: &[(&str, Vec<u8>, &str)]) {
        self.points_of(&self.plain, transport, points);
    }

    #[track_caller]
    fn signed(&self, points: &[(&str, Vec<u8>, &str)]) {
        self.points_of(&self.signed, Transport::Tcp, points);
    }

    #[track_caller]
    fn points_of(&self, snapshot: &Snapshot<Vec<u8>>, transport: Transport, points: &[(&str, Vec<u8>, &str)]) {
        let wrong: Vec<String> = points
            .iter()
            .filter_map(|(law, message, expected)| {
                let mut out = b"left over".to_vec();
                let peer = GERMANY.parse().unwrap();
                let outcome = answer(snapshot, peer, transport, message, &HealthView::default(), &mut out);
                let told = told(message, &out, &outcome);
                (told != *expected).then(|| format!("{law}\n  is      {told}\n  must be {expected}\n  {message:02x?}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

fn told(message: &[u8], out: &[u8], outcome: &Outcome<'_>) -> String {
    let Some(rcode) = outcome.rcode else {
        assert!(out.is_empty());
        return "dropped".into();
    };
    assert_eq!(out[..2], message[..2], "the id");
    assert_eq!(out[2] & 0xf9, 0x80 | message[2] & 0x79, "QR, opcode and RD");
    assert_eq!(out[3] & 0xf0, 0, "RA, Z, AD and CD");
    let flag = |mask: u8, name: &'static str| if out[2] & mask != 0 { name } else { "" };
    let count = |at: usize| u16::from_be_bytes([out[at], out[at + 1]]);
    let question = if count(4) == 0 { " no-question" } else { "" };
    let text = format!("{rcode}{}{}{question}", flag(4, " aa"), flag(2, " tc"));
    // hickory reads UPDATE otherwise, and opcodes that it does not know not at all.
    if out[2] & 0x78 != 0 {
        let opt = if count(10) == 1 { " opt" } else { "" };
        return format!("{text} {}/{}/0{opt}", count(6), count(8));
    }
    let rendered = render(out, outcome);
    let opt = rendered.lines().find(|line| line.starts_with("opt ")).map_or(String::new(), |line| format!(" {line}"));
    format!("{text} {}/{}/{}{opt}", count(6), count(8), count(10) - u16::from(!opt.is_empty()))
}

fn q(name: &'static str, kind: u16) -> Vec<u8> {
    ask(name, kind).bytes()
}

fn flags(flags: u16) -> Vec<u8> {
    Ask { flags, ..ask("ns1.cdn.example", 1) }.bytes()
}

fn edns(payload: u16, flags: u32, options: &[u8]) -> Vec<u8> {
    ask("ns1.cdn.example", 1).opt(payload, flags, options).bytes()
}

fn signed(name: &'static str, kind: u16) -> Vec<u8> {
    ask(name, kind).opt(1232, DNSSEC_OK, &[]).bytes()
}

/// A message with its header's counts, and what follows it.
fn raw(counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0];
    message.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    message.extend(rest);
    message
}

/// A question for A in IN of a name in the wire form.
fn raw_name(name: &[u8]) -> Vec<u8> {
    raw([1, 0, 0, 0], &[name, &[0, 1, 0, 1]].concat())
}

const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
const QUESTION: &[u8] = b"\x03ns1\x03cdn\x07example\0\0\x01\0\x01";
#[test]
fn headers() {
    let fine = "NOERROR aa 1/0/0";
    Bench::new().points(
        Transport::Udp,
        &[
            ("RFC 1035 §4.1.1: nothing at all", vec![], "dropped"),
            ("RFC 1035 §4.1.1: eleven bytes", vec![0; 11], "dropped"),
            ("RFC 1035 §4.1.1: a header is no question", raw([0; 4], &[]), "FORMERR no-question 0/0/0"),
            ("RFC 1035 §4.1.1: answers are not answered", flags(0x8000), "dropped"),
            ("RFC 1035 §4.1.1: nor are they with an rcode", flags(0x8185), "dropped"),
            ("RFC 1035 §4.1.1: RD is copied", flags(0x0100), fine),
            ("RFC 1035 §4.1.1: RD clear stays clear", flags(0), fine),
            ("RFC 1035 §4.1.1: AA of a query means nothing", flags(0x0400), fine),
            ("RFC 1035 §4.1.1: TC of a query means nothing", flags(0x0200), fine),
            ("RFC 1035 §4.1.1: RA of a query means nothing", flags(0x0080), fine),
            ("RFC 8906 §8.1.3: Z of a query is ignored, and zero in the answer", flags(0x0040), fine),
            ("RFC 6840 §5.7: AD of a query is for resolvers", flags(0x0020), fine),
            ("RFC 4035 §3.1.6: CD is cleared", flags(0x0010), fine),
            ("RFC 1035 §4.1.1: an rcode of a query means nothing", flags(0x000f), fine),
            ("RFC 3425 §3: IQUERY", flags(1 << 11), "NOTIMP 0/0/0"),
            ("RFC 1035 §4.1.1: STATUS", flags(2 << 11), "NOTIMP 0/0/0"),
            ("RFC 8906 §3.1.4: opcode 3", flags(3 << 11), "NOTIMP 0/0/0"),
            ("RFC 1996 §3: NOTIFY is not for us", flags(4 << 11), "REFUSED 0/0/0"),
            ("RFC 2136 §3.3: UPDATE is not for strangers", flags(5 << 11), "REFUSED 0/0/0"),
            ("RFC 8490 §5.1: DSO over UDP", flags(6 << 11), "NOTIMP 0/0/0"),
            ("RFC 8906 §8.1.4: opcode 15", flags(15 << 11), "NOTIMP 0/0/0"),
            (
                "RFC 8906 §8.1.4: opcode 15, header alone",
                [&[1, 2, 0x78, 0], &[0; 8][..]].concat(),
                "NOTIMP no-question 0/0/0",
            ),
            (
                "RFC 6891 §6.1.1: OPT is answered by OPT, whatever the opcode",
                Ask { flags: 15 << 11, ..ask("ns1.cdn.example", 1) }.opt(1232, 0, &[]).bytes(),
                "NOTIMP 0/0/0 opt",
            ),
            (
                "RFC 9619 §4: two questions",
                Ask { questions: 2, ..ask("cdn.example", 6) }.bytes(),
                "FORMERR no-question 0/0/0",
            ),
            (
                "RFC 9619 §4: 65,535 questions, of which one is there",
                raw([65_535, 0, 0, 0], QUESTION),
                "FORMERR no-question 0/0/0",
            ),
            (
                "RFC 6891 §6.1.1: two questions and OPT",
                Ask { questions: 2, ..ask("cdn.example", 6) }.opt(1232, 0, &[]).bytes(),
                "FORMERR no-question 0/0/0 opt v0 1232",
            ),
        ],
    );
}

#[test]
fn malformed_messages() {
    let malformed = "FORMERR no-question 0/0/0";
    let pointer = |to: u8| [&QUESTION[..4], &[0xc0, to, 0, 1, 0, 1]].concat();
    let labels = |count: usize, last: &[u8]| [&b"\x01a".repeat(count)[..], last].concat();
    let with = |counts: [u16; 3], records: &[u8]| {
        let [answers, authorities, additionals] = counts;
        raw([1, answers, authorities, additionals], &[QUESTION, records].concat())
    };
    Bench::new().points(
        Transport::Udp,
        &[
            ("RFC 1035 §4.1.2: a question that is not there", raw([1, 0, 0, 0], &[]), malformed),
            ("RFC 1035 §4.1.2: a name alone", raw([1, 0, 0, 0], b"\x03cdn\0"), malformed),
            ("RFC 1035 §4.1.2: no class", raw([1, 0, 0, 0], b"\x03cdn\0\0\x01"), malformed),
            ("RFC 1035 §3.1: a label longer than the message", raw_name(b"\x3fcdn"), malformed),
            ("RFC 1035 §3.1: a name without end", raw([1, 0, 0, 0], b"\x03cdn"), malformed),
            ("RFC 1035 §4.1.4: a question that points to itself", raw_name(b"\xc0\x0c"), malformed),
            ("RFC 1035 §4.1.4: a question that points into the header", raw_name(b"\xc0\x00"), malformed),
            ("RFC 1035 §4.1.4: a question that points forward", raw_name(b"\xc0\xff"), malformed),
            ("RFC 1035 §4.1.4: a label, then a pointer back to it", raw([1, 0, 0, 0], &pointer(12)), malformed),
            ("RFC 6891 §5: labels of type 01", raw_name(b"\x41a\0"), malformed),
            ("RFC 1035 §4.1.4: labels of type 10", raw_name(b"\x80a\0"), malformed),
            (
                "RFC 1035 §3.1: 64 octets are no label's length",
                raw_name(&[&[64][..], &[b'a'; 64], &[0]].concat()),
                malformed,
            ),
            ("RFC 1035 §2.3.4: 63 octets are", raw_name(&[&[63][..], &[b'a'; 63], &[0]].concat()), "REFUSED 0/0/0"),
            ("RFC 1035 §2.3.4: a name of 255 octets", raw_name(&labels(127, b"\0")), "REFUSED 0/0/0"),
            ("RFC 1035 §2.3.4: a name of 256 octets", raw_name(&labels(126, b"\x02aa\0")), malformed),
            ("RFC 1035 §2.3.4: a name of 257 octets", raw_name(&labels(128, b"\0")), malformed),
            (
                "RFC 2181 §11: any octet may be in a label",
                raw_name(b"\x04\0\xff\x2e\x20\x03cdn\x07example\0"),
                "NXDOMAIN aa 0/1/0",
            ),
            ("RFC 1035 §4.1: octets behind the message", with([0, 0, 0], &[0]), "FORMERR 0/0/0"),
            (
                "RFC 6891 §6.1.1: and behind OPT",
                with([0, 0, 1], &[&OPT[..], &[0]].concat()),
                "FORMERR 0/0/0 opt v0 1232",
            ),
            ("RFC 1035 §4.1.1: a record that is not there", with([0, 0, 1], &[]), "FORMERR 0/0/0"),
            ("RFC 1035 §4.1.1: 65,535 records that are not there", with([65_535; 3], &[]), "FORMERR 0/0/0"),
            ("RFC 1035 §4.1.3: a record cut short", with([0, 0, 1], &OPT[..10]), "FORMERR 0/0/0"),
            (
                "RFC 1035 §4.1.3: data longer than the message",
                with([0, 0, 1], b"\0\0\x29\x04\xd0\0\0\0\0\0\x01"),
                "FORMERR 0/0/0",
            ),
            (
                "RFC 1035 §4.1.4: an owner that points to itself",
                with([0, 0, 1], b"\xc0\x21\0\x01\0\x01\0\0\0\0\0\0"),
                "FORMERR 0/0/0",
            ),
            (
                "RFC 1034 §3.6: other records of a query are passed",
                with([1, 1, 1], &b"\0\0\x06\0\x01\0\0\0\0\0\0".repeat(3)),
                "NOERROR aa 1/0/0",
            ),
            ("RFC 6891 §6.1.1: OPT among the answers", with([1, 0, 0], &OPT), "FORMERR 0/0/0"),
            ("RFC 6891 §6.1.1: OPT among the authorities", with([0, 1, 0], &OPT), "FORMERR 0/0/0"),
            ("RFC 6891 §6.1.1: two OPTs", with([0, 0, 2], &OPT.repeat(2)), "FORMERR 0/0/0 opt v0 1232"),
            ("RFC 6891 §6.1.2: OPT of a name", with([0, 0, 1], b"\x01a\0\x29\x04\xd0\0\0\0\0\0\0"), "FORMERR 0/0/0"),
        ],
    );
}

#[test]
fn types_and_classes() {
    let class = |class| Ask { class, ..ask("ns1.cdn.example", 1) }.bytes();
    Bench::new().points(
        Transport::Udp,
        &[
            ("RFC 1035 §3.2.4: class CH", class(3), "REFUSED 0/0/0"),
            ("RFC 4892 §2: who asks what we are", Ask { class: 3, ..ask("version.bind", 16) }.bytes(), "REFUSED 0/0/0"),
            ("RFC 4892 §2: or who", Ask { class: 3, ..ask("id.server", 16) }.bytes(), "REFUSED 0/0/0"),
            ("RFC 1035 §3.2.4: class HS", class(4), "REFUSED 0/0/0"),
            ("RFC 2136 §1.3: class NONE", class(254), "REFUSED 0/0/0"),
            ("RFC 1035 §3.2.5: class ANY", class(255), "REFUSED 0/0/0"),
            ("RFC 6895 §3.2: class 0", class(0), "REFUSED 0/0/0"),
            ("RFC 6895 §3.2: an unassigned class", class(1_000), "REFUSED 0/0/0"),
            ("RFC 8906 §8.1.2: a type that nobody knows", q("ns1.cdn.example", 1_000), "NOERROR aa 0/1/0"),
            ("RFC 3597 §3: the last private type", q("ns1.cdn.example", 65_534), "NOERROR aa 0/1/0"),
            ("RFC 6895 §3.1: type 65,535", q("ns1.cdn.example", 65_535), "NOERROR aa 0/1/0"),
            ("RFC 3597 §5: a record of an unknown type", q("unknown.cdn.example", 65_280), "NOERROR aa 1/0/0"),
            ("RFC 6895 §3.1: type 0", q("cdn.example", 0), "FORMERR 0/0/0"),
            ("RFC 6891 §6.1.1: OPT is no question", q("cdn.example", 41), "FORMERR 0/0/0"),
            ("RFC 9824 §3.5: NXNAME is no question", signed("cdn.example", 128), "FORMERR 0/0/0 opt v0 1232 do ede=30"),
            ("RFC 8945 §4.2: TSIG is no question", q("cdn.example", 250), "FORMERR 0/0/0"),
            ("RFC 2930 §4: TKEY", q("cdn.example", 249), "NOTIMP 0/0/0"),
            ("RFC 1035 §3.2.3: MAILB", q("cdn.example", 253), "NOTIMP 0/0/0"),
            ("RFC 1035 §3.2.3: MAILA", q("cdn.example", 254), "NOTIMP 0/0/0"),
            ("RFC 8906 §3.1.2: an unknown meta-type", q("cdn.example", 200), "NOTIMP 0/0/0"),
            ("RFC 8482 §4.2: ANY", q("cdn.example", 255), "NOERROR aa 1/0/0"),
            ("RFC 8482 §4.2: ANY of a steered name", q("www.cdn.example", 255), "NOERROR aa 1/0/0"),
            ("RFC 8482 §4: ANY of a CNAME", q("assets.cdn.example", 255), "NOERROR aa 1/0/0"),
            ("RFC 8482 §4: ANY of an empty non-terminal", q("name.cdn.example", 255), "NOERROR aa 0/1/0"),
            ("RFC 8482 §4: ANY of nothing", q("nobody.cdn.example", 255), "NXDOMAIN aa 0/1/0"),
            ("RFC 8482 §4: ANY is as small over TCP", q("cdn.example", 255), "NOERROR aa 1/0/0"),
        ],
    );
}

#[test]
fn opt() {
    let (fine, malformed) = ("NOERROR aa 1/0/0 opt v0 1232", "FORMERR 0/0/0 opt v0 1232");
    let bench = Bench::new();
    bench.points(
        Transport::Udp,
        &[
            ("RFC 6891 §7: no OPT for who sends none", q("ns1.cdn.example", 1), "NOERROR aa 1/0/0"),
            ("RFC 6891 §6.1.1: OPT is answered by OPT", edns(1232, 0, &[]), fine),
            ("RFC 6891 §6.2.3: a size below 512", edns(0, 0, &[]), fine),
            ("RFC 6891 §6.2.3: the greatest size", edns(65_535, 0, &[]), fine),
            ("RFC 6891 §6.1.3: version 1", edns(1232, 0x0001_0000, &[]), "BADVERS 0/0/0 opt v0 1232"),
            ("RFC 6891 §6.1.3: version 255", edns(1232, 0x00ff_0000, &[]), "BADVERS 0/0/0 opt v0 1232"),
            (
                "RFC 8906 §8.2.7: version 1 and an option",
                edns(1232, 0x0001_0000, &[0, 100, 0, 0]),
                "BADVERS 0/0/0 opt v0 1232",
            ),
            (
                "RFC 6891 §6.1.3: what version 1 says is not read",
                edns(1232, 0x0001_0000, &[0]),
                "BADVERS 0/0/0 opt v0 1232",
            ),
            ("RFC 6891 §6.1.3: an extended rcode of a query means nothing", edns(1232, 0xff00_0000, &[]), fine),
            ("RFC 3225 §3: DO is copied", edns(1232, DNSSEC_OK, &[]), "NOERROR aa 1/0/0 opt v0 1232 do"),
            ("RFC 8906 §8.2.4: unknown flags are not", edns(1232, 0x3fff, &[]), fine),
            ("RFC 6891 §6.1.2: unknown options are ignored", edns(1232, 0, &[0, 100, 0, 0]), fine),
            ("RFC 6891 §6.1.2: whatever is in them", edns(1232, 0, &[0xff, 0xff, 0, 2, 1, 2, 0, 0, 0, 0]), fine),
            ("RFC 6891 §6.1.2: half an option's head", edns(1232, 0, &[0, 100, 0]), malformed),
            ("RFC 6891 §6.1.2: an option that is longer than OPT", edns(1232, 0, &[0, 100, 0, 1]), malformed),
            ("RFC 5001 §2.1: NSID", edns(1232, 0, &[0, 3, 0, 0]), "NOERROR aa 1/0/0 opt v0 1232 nsid=ns1"),
            ("RFC 7828 §3.3.2: keepalive over UDP", edns(1232, 0, &[0, 11, 0, 0]), fine),
            ("RFC 7828 §3.3.2: even one with a time-out", edns(1232, 0, &[0, 11, 0, 2, 0, 1]), fine),
            ("RFC 7830 §3: padding is for encrypted transports", edns(1232, 0, &[0, 12, 0, 4, 0, 0, 0, 0]), fine),
            ("RFC 7830 §3: padding of any octets", edns(1232, 0, &[0, 12, 0, 2, 7, 7]), fine),
            ("RFC 7901 §4: CHAIN is not ours", edns(1232, 0, &[0, 13, 0, 1, 0]), fine),
            ("RFC 7314 §2: nor is EXPIRE", edns(1232, 0, &[0, 9, 0, 0]), fine),
        ],
    );
    bench.points(
        Transport::Tcp,
        &[
            (
                "RFC 7828 §3.3.2: keepalive over TCP",
                edns(1232, 0, &[0, 11, 0, 0]),
                "NOERROR aa 1/0/0 opt v0 1232 11=[0, 100]",
            ),
            ("RFC 7828 §3.2.1: only for those who ask", edns(1232, 0, &[]), fine),
            ("RFC 6891 §6.2.5: the size is of datagrams", edns(512, 0, &[]), fine),
        ],
    );
}

#[test]
fn cookies() {
    let bench = Bench::new();
    let cookie = |length: u8| edns(1232, 0, &[&[0, 10, 0, length], &vec![1; length.into()][..]].concat());
    let malformed = "FORMERR 0/0/0 opt v0 1232";
    bench.points(
        Transport::Udp,
        &[
            ("RFC 7873 §5.2.2: no cookie in a cookie", cookie(0), malformed),
            ("RFC 7873 §5.2.2: 7 octets", cookie(7), malformed),
            ("RFC 7873 §5.2.2: 9 octets", cookie(9), malformed),
            ("RFC 7873 §5.2.2: 15 octets", cookie(15), malformed),
            ("RFC 7873 §5.2.2: 41 octets", cookie(41), malformed),
        ],
    );
    // RFC 7873 §5.2.3 to §5.2.5: a client's part, and servers' parts of any server's form, are answered with ours.
    for length in [8, 16, 24, 40] {
        let mut out = Vec::new();
        let outcome = answer(
            &bench.plain,
            GERMANY.parse().unwrap(),
            Transport::Udp,
            &cookie(length),
            &HealthView::default(),
            &mut out,
        );
        let text = render(&out, &outcome);
        assert!(text.starts_with("NOERROR aa"), "{length}: {text}");
        let option = [0, 10, 0, 24, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
        assert!(out.windows(option.len()).any(|bytes| bytes == option), "{length}: {out:02x?}");
    }
    let alone = Ask { questions: 0, ..ask("", 1) }.opt(1232, 0, &[0, 10, 0, 8, 1, 1, 1, 1, 1, 1, 1, 1]).bytes();
    let mut out = Vec::new();
    answer(&bench.plain, GERMANY.parse().unwrap(), Transport::Udp, &alone, &HealthView::default(), &mut out);
    assert_eq!(
        (out[3] & 15, &out[4..12]),
        (0, &[0, 0, 0, 0, 0, 0, 0, 1][..]),
        "RFC 7873 §5.4: a question for a cookie"
    );
}

#[test]
fn client_subnets() {
    let bench = Bench::new();
    let www = |data: &[u8]| ask("www.cdn.example", 1).subnet(data).bytes();
    let ns1 = |data: &[u8]| ask("ns1.cdn.example", 1).subnet(data).bytes();
    let malformed = "FORMERR 0/0/0 opt v0 1232";
    let steered = |subnet: &str| format!("NOERROR aa 2/0/0 opt v0 1232 {subnet}");
    bench.points(
        Transport::Udp,
        &[
            (
                "RFC 7871 §7.2.1: family, source and address come back",
                www(&[0, 1, 24, 0, 127, 61, 9]),
                &steered("127.61.9.0/24/16"),
            ),
            (
                "RFC 7871 §7.2.1: a scope may be longer than the source",
                www(&[0, 1, 8, 0, 127]),
                &steered("127.0.0.0/8/11"),
            ),
            ("RFC 7871 §7.2.1: a whole address", www(&[0, 1, 32, 0, 127, 61, 9, 1]), &steered("127.61.9.1/32/16")),
            ("RFC 7871 §7.1.2: who opts out", www(&[0, 1, 0, 0]), &steered("0.0.0.0/0/0")),
            ("RFC 7871 §7.1.2: in IPv6", www(&[0, 2, 0, 0]), &steered("::/0/0")),
            (
                "RFC 7871 §7.2.1: what no client changes",
                ns1(&[0, 1, 24, 0, 127, 61, 9]),
                "NOERROR aa 1/0/0 opt v0 1232 127.61.9.0/24/0",
            ),
            ("RFC 7871 §6: a scope in a query", www(&[0, 1, 24, 24, 127, 61, 9]), malformed),
            ("RFC 7871 §6: a family that is unknown", www(&[0, 3, 8, 0, 127]), malformed),
            ("RFC 7871 §6: 33 bits of IPv4", www(&[0, 1, 33, 0, 127, 61, 9, 1, 0]), malformed),
            ("RFC 7871 §6: 129 bits of IPv6", www(&[[0, 2, 129, 0].as_slice(), &[0; 17]].concat()), malformed),
            ("RFC 7871 §6: too few octets", www(&[0, 1, 24, 0, 127, 61]), malformed),
            ("RFC 7871 §6: too many octets", www(&[0, 1, 24, 0, 127, 61, 9, 0]), malformed),
            ("RFC 7871 §6: bits beyond the source", www(&[0, 1, 23, 0, 127, 61, 9]), malformed),
            ("RFC 7871 §6: cut short", www(&[0, 1, 24]), malformed),
            ("RFC 7871 §7.2.1: none for who sends none", q("www.cdn.example", 1), "NOERROR aa 2/0/0"),
            (
                "RFC 7871 §7.4: a negative answer is everybody's",
                ask("nobody.cdn.example", 1).subnet(&[0, 1, 24, 0, 127, 61, 9]).bytes(),
                "NXDOMAIN aa 0/1/0 opt v0 1232 127.61.9.0/24/0",
            ),
        ],
    );
}
