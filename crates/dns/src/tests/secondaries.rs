//! Signed messages (RFC 8945), transfers (RFC 5936, RFC 1995) and notifications (RFC 1996).

use hickory_proto::op::Message;
use perigee_protocol::{model::TsigAlgorithm, zone_file};
use proptest::prelude::*;

use super::*;
use crate::{
    Secondaries, Transfer, TsigKey, begin_transfer, notify,
    tsig::{Session, Shown},
};

mod incremental;

const NOW_S: u64 = NOW_MS / 1_000;
const SECONDARY: &str = "198.18.7.7";
const STRANGER: &str = "198.18.8.8";
const AXFR: u16 = 252;
const IXFR: u16 = 251;
const SOA: u16 = 6;

fn key(name: &str, algorithm: TsigAlgorithm) -> TsigKey {
    TsigKey::new(name, algorithm, b"sixteen bytes or more of it").unwrap()
}

fn transfer_key() -> TsigKey {
    key("transfer.key", TsigAlgorithm::HmacSha256)
}

fn secondaries() -> Secondaries {
    let others = [key("other.key", TsigAlgorithm::HmacSha256), key("long.key", TsigAlgorithm::HmacSha512)];
    let [other, long] = others;
    Secondaries { keys: vec![other, transfer_key(), long], allow: vec!["198.18.7.0/24".parse().unwrap()], key: Some(1) }
}

fn zone() -> Snapshot<Vec<u8>> {
    snapshot().for_secondaries(secondaries())
}

fn arrival(peer: &str, transport: Transport) -> Arrival {
    Arrival { peer: peer.parse().unwrap(), transport, now_ms: NOW_MS }
}

fn signed(message: &[u8], key: &TsigKey, at_s: u64) -> Vec<u8> {
    let mut message = message.to_vec();
    Session::asking(key).sign(at_s, &mut message);
    message
}

/// Where the last record begins.
fn last_record(message: &[u8]) -> usize {
    let after_name = |mut at: usize| loop {
        match message[at] {
            0 => return at + 1,
            0xc0.. => return at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    let count = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    let mut at = (0..count(4)).fold(12, |at, _| after_name(at) + 4);
    let mut last = at;
    for _ in 0..count(6) + count(8) + count(10) {
        last = at;
        let head = after_name(at);
        at = head + 10 + count(head + 8);
    }
    assert_eq!(at, message.len());
    last
}

/// The message before its signature, and the signature; the additional section holds at most OPT beside it.
fn split(message: &[u8]) -> (Vec<u8>, Shown<'_>) {
    let at = last_record(message);
    let mut before = message[..at].to_vec();
    let additionals = u16::from_be_bytes([before[10], before[11]]) - 1;
    before[10..12].copy_from_slice(&additionals.to_be_bytes());
    (before, Shown::read(message, at).unwrap())
}

fn reply(snapshot: &Snapshot<Vec<u8>>, message: &[u8], peer: &str, transport: Transport) -> (Vec<u8>, String) {
    let mut out = Vec::new();
    let mut memory = memory();
    let health = HealthView::default();
    let outcome = answer_with(snapshot, arrival(peer, transport), message, &health, &mut memory, &mut out);
    let text = format!(
        "{} {}",
        outcome.rcode.map_or("dropped".to_owned(), |rcode| rcode.to_string()),
        outcome.reason.as_str()
    );
    (out, text)
}

/// What the key makes of a reply: the same as the reply shows.
#[track_caller]
fn verify(key: &TsigKey, prior: &mut Vec<u8>, is_first: bool, message: &[u8]) -> Vec<u8> {
    let (before, shown) = split(message);
    let mut again = before.clone();
    let mut session = Session::continuing(key, prior, is_first);
    session.sign(NOW_S, &mut again);
    assert!(again == message, "signed as it should be");
    *prior = shown.mac.to_vec();
    before
}

#[test]
fn a_signed_question_gets_a_signed_answer() {
    for key in secondaries().keys {
        for transport in [Transport::Udp, Transport::Tcp] {
            let question = signed(&ask("cdn.example", SOA).opt(1232, 0, &[]).bytes(), &key, NOW_S);
            let mut prior = split(&question).1.mac.to_vec();
            let (out, text) = reply(&zone(), &question, STRANGER, transport);
            assert_eq!(text, "NOERROR static");
            let plain = verify(&key, &mut prior, true, &out);
            assert_eq!(
                plain,
                reply(&zone(), &ask("cdn.example", SOA).opt(1232, 0, &[]).bytes(), STRANGER, transport).0
            );
        }
    }
}

#[track_caller]
fn check_refused(message: &[u8], rcode: &str, error: Option<(u16, usize, usize)>) {
    let (out, text) = reply(&zone(), message, SECONDARY, Transport::Tcp);
    assert_eq!(text, rcode, "{out:?}");
    let Some(expected) = error else { return };
    let (_, shown) = split(&out);
    assert_eq!((shown.error, shown.mac.len(), shown.other.len()), expected);
    assert_eq!(Message::from_vec(&out).unwrap().answers.len(), 0);
}

#[test]
fn what_no_key_of_ours_made() {
    let question = ask("cdn.example", SOA).bytes();
    let sign = |key: &TsigKey| signed(&question, key, NOW_S);
    check_refused(&sign(&key("nobody.key", TsigAlgorithm::HmacSha256)), "NOTAUTH tsig-bad-key", Some((17, 0, 0)));
    check_refused(&sign(&key("transfer.key", TsigAlgorithm::HmacSha384)), "NOTAUTH tsig-bad-key", Some((17, 0, 0)));
    let other = TsigKey::new("transfer.key", TsigAlgorithm::HmacSha256, b"another secret of this name").unwrap();
    check_refused(&sign(&other), "NOTAUTH tsig-bad-signature", Some((16, 0, 0)));
    let mut changed = sign(&transfer_key());
    changed[13] ^= 1;
    check_refused(&changed, "NOTAUTH tsig-bad-signature", Some((16, 0, 0)));
    // The identifier may be another on the way: a proxy's.
    let mut renumbered = sign(&transfer_key());
    renumbered[0] ^= 1;
    assert_eq!(reply(&zone(), &renumbered, SECONDARY, Transport::Tcp).1, "NOERROR static");
}

/// RFC 8945 §5.1
#[test]
fn a_signature_is_the_last_record_and_the_only_one() {
    let question = ask("cdn.example", SOA).bytes();
    let signed = signed(&question, &transfer_key(), NOW_S);
    let tsig = &signed[question.len()..];
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    for (more, what) in [(tsig, "twice"), (&opt, "before OPT")] {
        let mut message = [&signed, more].concat();
        message[11] += 1;
        check_refused(&message, "FORMERR malformed", None);
        assert_eq!(reply(&zone(), &message, SECONDARY, Transport::Tcp).0[3] & 15, 1, "{what}");
    }
}

#[test]
fn both_sides_of_the_fudge() {
    let at = |at_s: u64| signed(&ask("cdn.example", SOA).bytes(), &transfer_key(), at_s);
    for (at_s, holds) in [(NOW_S - 300, true), (NOW_S - 301, false), (NOW_S + 300, true), (NOW_S + 301, false)] {
        let message = at(at_s);
        if holds {
            assert_eq!(reply(&zone(), &message, SECONDARY, Transport::Tcp).1, "NOERROR static");
        } else {
            check_refused(&message, "NOTAUTH tsig-bad-time", Some((18, 32, 6)));
            let (out, _) = reply(&zone(), &message, SECONDARY, Transport::Tcp);
            assert_eq!(split(&out).1.other, &NOW_S.to_be_bytes()[2..], "our time");
        }
    }
}

/// A message whose signature has its first `bytes` only, or as many zeros more.
fn cut(message: &[u8], bytes: usize) -> Vec<u8> {
    let (_, shown) = split(message);
    let mac = shown.mac.to_vec();
    let at = message.windows(mac.len()).position(|window| window == mac).unwrap();
    let mut new: Vec<u8> = mac.iter().copied().chain(std::iter::repeat(0)).take(bytes).collect();
    let mut out = message[..at - 2].to_vec();
    out.extend(u16::try_from(bytes).unwrap().to_be_bytes());
    out.append(&mut new);
    out.extend(&message[at + mac.len()..]);
    // The record's own length: before the algorithm's name.
    let algorithm = b"\x0bhmac-sha256\x00";
    let length_at = message.windows(algorithm.len()).position(|window| window == algorithm).unwrap() - 2;
    let length = u16::from_be_bytes([message[length_at], message[length_at + 1]]);
    let length = length + u16::try_from(bytes).unwrap() - 32;
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    out
}

/// RFC 8945 §5.2.2.1
#[test]
fn both_sides_of_a_cut_signature() {
    let whole = signed(&ask("cdn.example", SOA).bytes(), &transfer_key(), NOW_S);
    for (bytes, expected) in [
        (32, "NOERROR static"),
        (16, "NOERROR static"),
        (15, "FORMERR malformed"),
        (0, "FORMERR malformed"),
        (33, "FORMERR malformed"),
    ] {
        assert_eq!(reply(&zone(), &cut(&whole, bytes), SECONDARY, Transport::Tcp).1, expected, "{bytes}");
    }
}

/// A key below the zone: its name may point into the question.
#[test]
fn the_name_of_a_key_may_be_compressed() {
    let key = key("key.cdn.example", TsigAlgorithm::HmacSha256);
    let zone = snapshot().for_secondaries(Secondaries { keys: vec![key.clone()], ..Secondaries::default() });
    let whole = signed(&ask("cdn.example", SOA).bytes(), &key, NOW_S);
    let name = b"\x03key\x03cdn\x07example\x00";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap();
    let pointing = |to: u8| [&whole[..at], b"\x03key\xc0", &[to], &whole[at + name.len()..]].concat();
    assert_eq!(reply(&zone, &pointing(12), SECONDARY, Transport::Tcp).1, "NOERROR static");
    // Forwards, at itself, and at no name.
    for to in [u8::try_from(at).unwrap(), u8::try_from(at + 4).unwrap(), 255] {
        assert_eq!(reply(&zone, &pointing(to), SECONDARY, Transport::Tcp).1, "FORMERR malformed", "{to}");
    }
}

/// RFC 8945 §5.1
#[test]
fn a_signature_comes_last_and_once() {
    let key = transfer_key();
    let once = signed(&ask("cdn.example", SOA).bytes(), &key, NOW_S);
    check_refused(&signed(&once, &key, NOW_S), "FORMERR malformed", None);
    let mut before_another = once.clone();
    before_another.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
    before_another[11] = 2;
    check_refused(&before_another, "FORMERR malformed", None);
    // In the answer section.
    let mut misplaced = once.clone();
    (misplaced[7], misplaced[11]) = (1, 0);
    check_refused(&misplaced, "FORMERR malformed", None);
    let mut trailing = once;
    trailing.push(0);
    check_refused(&trailing, "FORMERR malformed", None);
}

#[test]
fn a_signature_has_its_place_in_a_datagram() {
    let key = transfer_key();
    // 512 bytes without EDNS: what fits without a signature does not with it.
    for kind in [SOA, 16, 1, 28] {
        for name in ["cdn.example", "www.cdn.example", "mail.cdn.example", "many.cdn.example", "x.wild.cdn.example"] {
            let message = signed(&ask(name, kind).bytes(), &key, NOW_S);
            let (out, _) = reply(&zone(), &message, SECONDARY, Transport::Udp);
            assert!(out.len() <= 512, "{name} {kind}: {}", out.len());
            let mut prior = split(&message).1.mac.to_vec();
            verify(&key, &mut prior, true, &out);
        }
    }
}

fn transfer(snapshot: &Snapshot<Vec<u8>>, message: &[u8], peer: &str, transport: Transport) -> Option<Transfer> {
    begin_transfer(snapshot, arrival(peer, transport), message)
}

/// All messages of a transfer, checked, as lines of records.
#[track_caller]
fn received(snapshot: &Snapshot<Vec<u8>>, question: &[u8]) -> (usize, Vec<String>) {
    let key = transfer_key();
    let message = signed(question, &key, NOW_S);
    let mut prior = split(&message).1.mac.to_vec();
    let mut sent = transfer(snapshot, &message, SECONDARY, Transport::Tcp).expect("a transfer");
    let (mut out, mut lines, mut messages) = (Vec::new(), Vec::new(), 0);
    while sent.next(NOW_MS, &mut out) {
        assert!(out.len() <= 65_535);
        let plain = verify(&key, &mut prior, messages == 0, &out);
        let read = Message::from_vec(&plain).unwrap();
        assert_eq!(read.queries.len(), usize::from(messages == 0));
        assert!(read.metadata.authoritative && !read.answers.is_empty());
        lines.extend(read.answers.iter().map(line));
        messages += 1;
    }
    assert!(out.is_empty() && !sent.next(NOW_MS, &mut out), "it ends once");
    (messages, lines)
}

#[test]
fn the_whole_zone() {
    let (messages, lines) = received(&zone(), &ask("cdn.example", AXFR).bytes());
    assert_eq!(messages, 1);
    assert_eq!(lines.first(), lines.last());
    assert!(lines[0].contains("SOA"), "{}", lines[0]);
    assert_eq!(lines.iter().filter(|line| line.contains(" SOA ")).count(), 2);
    let has = |line: &str| assert!(lines.iter().any(|has| has == line), "{line} is not in {lines:#?}");
    // Static, glue, a wildcard as it is, and a steered name as whoever is nowhere gets it.
    has("ns.sub.cdn.example. 3600 A 192.0.2.53");
    has("sub.cdn.example. 3600 NS ns.sub.cdn.example.");
    has("*.wild.cdn.example. 3600 TXT from the wildcard");
    has("www.cdn.example. 30 A 198.18.49.10");
    has("www.cdn.example. 30 AAAA 2001:db8:49::10");
    has("cdn.example. 30 A 198.18.49.10");
    // Every record once, but for the SOA.
    let mut sorted = lines[1..].to_vec();
    sorted.sort();
    let all = sorted.len();
    sorted.dedup();
    assert_eq!(sorted.len(), all);
}

#[test]
fn who_gets_it() {
    let axfr = |key: &TsigKey| signed(&ask("cdn.example", AXFR).bytes(), key, NOW_S);
    let good = axfr(&transfer_key());
    let is_sent = |message: &[u8], peer: &str, transport| transfer(&zone(), message, peer, transport).is_some();
    assert!(is_sent(&good, SECONDARY, Transport::Tcp));
    assert!(is_sent(&good, SECONDARY, Transport::Tls));
    assert!(is_sent(&good, "::ffff:198.18.7.7", Transport::Tcp));
    assert!(!is_sent(&good, STRANGER, Transport::Tcp));
    assert!(!is_sent(&good, SECONDARY, Transport::Udp));
    assert!(!is_sent(&good, SECONDARY, Transport::Https));
    assert!(!is_sent(&ask("cdn.example", AXFR).bytes(), SECONDARY, Transport::Tcp), "unsigned");
    assert!(!is_sent(&axfr(&key("other.key", TsigAlgorithm::HmacSha256)), SECONDARY, Transport::Tcp), "another's key");
    assert!(!is_sent(
        &signed(&ask("www.cdn.example", AXFR).bytes(), &transfer_key(), NOW_S),
        SECONDARY,
        Transport::Tcp
    ));
    assert!(!is_sent(&signed(&ask("cdn.example", SOA).bytes(), &transfer_key(), NOW_S), SECONDARY, Transport::Tcp));
    // Whoever does not get it is told so.
    assert_eq!(reply(&zone(), &good, STRANGER, Transport::Tcp).1, "REFUSED transfer");
    assert_eq!(reply(&zone(), &ask("cdn.example", AXFR).bytes(), SECONDARY, Transport::Tcp).1, "REFUSED transfer");
    // Nobody, where the document names nobody.
    let nobody = snapshot().for_secondaries(Secondaries { key: None, ..secondaries() });
    assert!(transfer(&nobody, &good, SECONDARY, Transport::Tcp).is_none());
}

/// IXFR of who has that serial.
fn ixfr(serial: u32) -> Vec<u8> {
    let mut message = ask("cdn.example", IXFR).bytes();
    message[9] = 1;
    message.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
    message.extend(serial.to_be_bytes());
    message.extend([0; 16]);
    message
}

#[test]
fn differences() {
    let whole = received(&zone(), &ask("cdn.example", AXFR).bytes()).1;
    let check = |serial: u32, is_current: bool| {
        let lines = received(&zone(), &ixfr(serial)).1;
        assert_eq!(lines.len(), if is_current { 1 } else { whole.len() }, "{serial}");
        assert_eq!(lines[0], whole[0]);
    };
    check(SERIAL, true);
    check(SERIAL.wrapping_sub(1), false);
    // RFC 1982: half of all serials lie ahead.
    check(SERIAL.wrapping_add(1), true);
    check(SERIAL.wrapping_add(0x7fff_ffff), true);
    check(SERIAL.wrapping_add(0x8000_0001), false);
    // By a datagram the SOA alone, and to those who may have the zone.
    let question = signed(&ixfr(1), &transfer_key(), NOW_S);
    let (out, text) = reply(&zone(), &question, SECONDARY, Transport::Udp);
    assert_eq!(text, "NOERROR static");
    assert_eq!(Message::from_vec(&split(&out).0).unwrap().answers.iter().map(line).collect::<Vec<_>>(), whole[..1]);
    assert_eq!(reply(&zone(), &question, STRANGER, Transport::Udp).1, "REFUSED transfer");
    // Without the version that is there already there is nothing to compare.
    let bare = signed(&ask("cdn.example", IXFR).bytes(), &transfer_key(), NOW_S);
    assert!(transfer(&zone(), &bare, SECONDARY, Transport::Tcp).is_none());
}

#[test]
fn a_large_zone_takes_many_messages() {
    let mut text = String::from("$TTL 60\n");
    for number in 0..3_000 {
        text += &format!("host{number} A 192.0.2.1\n");
    }
    text += &format!("long TYPE65280 \\# 50000 {}\n", "ab".repeat(50_000));
    let document = format!("{DOCUMENT}{}[[zone.file]]\npath = \"a\"\n", delegations());
    let document = ["_AAAA", "_BBBB", "_CCCC"]
        .iter()
        .fold(document, |text, word| text.replace(word, &format!("{word}{}", "x".repeat(249))));
    let document = document::load("test.toml", &document).unwrap();
    let files = zone_file::load(&document, &mut |_| Ok(text.clone().into_bytes())).unwrap();
    let big = Snapshot::<Vec<u8>>::with_files(&document, &files, SERIAL, None, service(0), None).unwrap();
    let (messages, lines) = received(&big.for_secondaries(secondaries()), &ask("cdn.example", AXFR).bytes());
    let few = received(&zone(), &ask("cdn.example", AXFR).bytes()).1.len();
    assert!((5..30).contains(&messages), "{messages}");
    assert_eq!(lines.len(), few + 3_001);
}

#[test]
fn a_notification_is_signed_and_says_the_version() {
    let out = notify(&zone(), 0x4321, NOW_MS).unwrap();
    let (plain, _) = split(&out);
    assert_eq!(signed(&plain, &transfer_key(), NOW_S), out);
    assert_eq!(plain[..4], [0x43, 0x21, 0x24, 0], "NOTIFY, authoritative");
    let read = Message::from_vec(&plain).unwrap();
    assert!(line(&read.answers[0]).contains("SOA"));
    assert!(notify(&snapshot(), 1, NOW_MS).is_none(), "nobody to tell");
}

/// A signed zone has no unsigned copy.
#[test]
fn a_signed_zone_stays_at_home() {
    let signed_zone = super::signed::signed().for_secondaries(secondaries());
    let message = signed(&ask("cdn.example", AXFR).bytes(), &transfer_key(), NOW_S);
    assert!(transfer(&signed_zone, &message, SECONDARY, Transport::Tcp).is_none());
}

proptest! {
    /// No octet of a signed message can be another.
    #[test]
    fn a_changed_message_is_not_ours(at in 2_usize..100, bit in 0_u8..8) {
        let mut message = signed(&ask("cdn.example", SOA).bytes(), &transfer_key(), NOW_S);
        let at = at.min(message.len() - 1);
        message[at] ^= 1 << bit;
        let (out, text) = reply(&zone(), &message, SECONDARY, Transport::Tcp);
        // Letters' case does not count in names of keys and algorithms (RFC 8945 §4.2).
        let is_case = message[at].is_ascii_alphabetic() && bit == 5;
        let is_verified = text.starts_with("NOERROR") && !out.is_empty() && is_signed(&out);
        prop_assert!(!is_verified || is_case, "{at} {bit} {text}");
    }
}

/// Whether a reply is signed.
fn is_signed(message: &[u8]) -> bool {
    Shown::read(message, last_record(message)).is_some_and(|shown| !shown.mac.is_empty())
}
