//! IXFR by differences (RFC 1995): who has an earlier version ends with the same zone as who asks for all of it.

use std::collections::BTreeSet;

use super::*;

type Zone = Snapshot<Vec<u8>>;

/// A zone file beside the document.
fn version_in(document: &str, text: &str, serial: u32) -> Zone {
    let document = document::load("test.toml", &format!("{document}[[zone.file]]\npath = \"a\"\n")).unwrap();
    let files = zone_file::load(&document, &mut |_| Ok(format!("$TTL 60\n{text}\n").into_bytes())).unwrap();
    let made = Snapshot::<Vec<u8>>::with_files(&document, &files, serial, None, service(0), None).unwrap();
    made.for_secondaries(secondaries())
}

fn version(text: &str, serial: u32) -> Zone {
    version_in(DOCUMENT, text, serial)
}

fn is_soa(line: &str) -> bool {
    line.contains(" SOA ")
}

/// All records but the SOA.
fn content(zone: &Zone) -> BTreeSet<String> {
    received(zone, &ask("cdn.example", AXFR).bytes()).1.into_iter().filter(|line| !is_soa(line)).collect()
}

/// As a secondary that has `zone` does with what it gets.
#[track_caller]
fn apply(zone: &BTreeSet<String>, lines: &[String]) -> BTreeSet<String> {
    assert!(is_soa(&lines[0]) && lines.first() == lines.last());
    let inner = &lines[1..lines.len() - 1];
    if !is_soa(&inner[0]) {
        return inner.iter().cloned().collect();
    }
    let (mut zone, mut is_adding) = (zone.clone(), true);
    for line in inner {
        if is_soa(line) {
            is_adding = !is_adding;
        } else if is_adding {
            assert!(zone.insert(line.clone()), "{line} is there already");
        } else {
            assert!(zone.remove(line), "{line} is not there");
        }
    }
    assert!(is_adding);
    zone
}

/// How many differences there are; None: all of the zone.
fn differences_in(lines: &[String]) -> Option<usize> {
    is_soa(&lines[1]).then(|| lines[1..lines.len() - 1].iter().filter(|line| is_soa(line)).count() / 2)
}

fn hosts(count: usize, address: &str) -> String {
    (0..count).map(|host| format!("h{host} A {address}\n")).collect()
}

#[test]
fn what_changed_and_no_more() {
    let first = version("a A 192.0.2.1\nb A 192.0.2.2\nc TXT x\ne A 192.0.2.3\ne A 192.0.2.4\n", 1);
    let second = version("a A 192.0.2.9\nc 61 TXT x\nd MX 1 a\ne A 192.0.2.4\n", 2).since(&first);
    let lines = received(&second, &ixfr(1)).1;
    let shown: Vec<&str> = lines.iter().map(|line| if is_soa(line) { "SOA" } else { line }).collect();
    assert_eq!(
        shown,
        [
            "SOA",
            "SOA",
            "a.cdn.example. 60 A 192.0.2.1",
            "b.cdn.example. 60 A 192.0.2.2",
            "c.cdn.example. 60 TXT x",
            "e.cdn.example. 60 A 192.0.2.3",
            "SOA",
            "a.cdn.example. 60 A 192.0.2.9",
            "c.cdn.example. 61 TXT x",
            "d.cdn.example. 60 MX 1 a.cdn.example.",
            "SOA"
        ]
    );
    // The new one first, then the one that is had, then the new one again.
    let serials = |line: &String| [" 1 ", " 2 "].map(|serial| line.contains(serial));
    assert_eq!(serials(&lines[1]), [true, false], "{}", lines[1]);
    assert!([0, 6, 10].iter().all(|at| serials(&lines[*at]) == [false, true]), "{lines:?}");
    assert_eq!(apply(&content(&first), &lines), content(&second));
    // Whoever has it has it.
    assert_eq!(received(&second, &ixfr(2)).1.len(), 1);
}

#[test]
fn steered_names_are_records_of_a_copy() {
    let first = version("a A 192.0.2.1", 1);
    let moved = version_in(&DOCUMENT.replace("198.18.49.10", "198.18.49.11"), "a A 192.0.2.1", 2).since(&first);
    let lines = received(&moved, &ixfr(1)).1;
    assert_eq!(differences_in(&lines), Some(1));
    // Two sites and the apex, which is one of them.
    assert_eq!(lines.iter().filter(|line| line.contains(" A 198.18.49.1")).count(), 6, "{lines:#?}");
    assert_eq!(apply(&content(&first), &lines), content(&moved));
}

#[test]
fn one_after_the_other_as_far_as_they_are_kept() {
    let text = |serial: u32| format!("{}now TXT {serial}", hosts(300, "192.0.2.1"));
    let first = version(&text(1), 1);
    let last = (2..=18).fold(version(&text(1), 1), |before, serial| version(&text(serial), serial).since(&before));
    for (serial, expected) in [(1, None), (2, Some(16)), (17, Some(1)), (0, None), (u32::MAX, None)] {
        let lines = received(&last, &ixfr(serial)).1;
        assert_eq!(differences_in(&lines), expected, "{serial}");
        let had = if serial == 1 { content(&first) } else { content(&version(&text(serial), serial)) };
        assert_eq!(apply(&had, &lines), content(&last), "{serial}");
    }
    // A database or a table that is another changes nothing.
    let other = last.with_database(None).ending();
    assert_eq!(differences_in(&received(&other, &ixfr(17)).1), Some(1));
}

#[test]
fn a_number_that_says_two_things_says_nothing() {
    let rest = hosts(50, "192.0.2.1");
    let text = |what: &str| format!("{rest}now TXT {what}");
    let is_incremental = |zone: &Zone, serial: u32| differences_in(&received(zone, &ixfr(serial)).1).is_some();
    let fourth = version(&text("x"), 4);
    let fifth = version(&text("a"), 5).since(&fourth);
    assert!(is_incremental(&fifth, 4));
    // The same again.
    let again = version(&text("a"), 5).since(&fifth);
    assert!(is_incremental(&again, 4));
    // Another content of the same number: whoever has 5 may have either.
    let other = version(&text("b"), 5).since(&again);
    assert!(!is_incremental(&other, 4));
    let sixth = version(&text("c"), 6).since(&version(&text("b"), 5).since(&other));
    assert!(!is_incremental(&sixth, 5));
    let seventh = version(&text("d"), 7).since(&sixth);
    assert!(is_incremental(&seventh, 6) && !is_incremental(&seventh, 5));
    // Numbers that go back: whoever has 4 to 7 may have what they were before.
    let back = version(&text("e"), 3).since(&seventh);
    let (last, _) = (4..=9).fold((back, 3), |(before, had), serial| {
        let zone = version(&text(&serial.to_string()), serial).since(&before);
        assert_eq!(is_incremental(&zone, had), had > 7, "{had}");
        (zone, serial)
    });
    assert!(is_incremental(&last, 8) && !is_incremental(&last, 7));
    // RFC 1982: past the end of all numbers.
    let wrapped = version(&text("b"), 1).since(&version(&text("a"), u32::MAX));
    assert!(is_incremental(&wrapped, u32::MAX));
    // No copy, no differences.
    let nobody = |zone: Zone| zone.for_secondaries(Secondaries::default());
    assert!(nobody(version(&text("b"), 2)).since(&nobody(version(&text("a"), 1))).history.since(1).is_none());
}

#[test]
fn differences_longer_than_the_zone_are_not_sent() {
    let (few, all) = (hosts(300, "192.0.2.1").replacen("192.0.2.1", "192.0.2.2", 20), hosts(300, "192.0.2.3"));
    let first = version(&hosts(300, "192.0.2.1"), 1);
    let second = version(&few, 2).since(&first);
    assert_eq!(differences_in(&received(&second, &ixfr(1)).1), Some(1));
    let third = version(&all, 3).since(&second);
    assert_eq!(differences_in(&received(&third, &ixfr(2)).1), None);
}

#[test]
fn differences_take_as_many_messages_as_they_need() {
    let first = version(&hosts(4_000, "192.0.2.1"), 1);
    let text = hosts(4_000, "192.0.2.1").replacen("192.0.2.1", "192.0.2.2", 1_800);
    let second = version(&text, 2).since(&first);
    let (messages, lines) = received(&second, &ixfr(1));
    assert!(messages > 3, "{messages}");
    assert_eq!((differences_in(&lines), lines.len()), (Some(1), 4 + 2 * 1_800));
    assert_eq!(apply(&content(&first), &lines), content(&second));
}

/// RFC 1995 §2: what fits a datagram comes by it, and of what does not the SOA alone.
#[test]
fn by_a_datagram() {
    let first = version(&hosts(100, "192.0.2.1"), 1);
    let text = |changed| hosts(100, "192.0.2.1").replacen("192.0.2.1", "192.0.2.2", changed);
    let check = |changed: usize, with_edns: bool, peer: &str, expected: &str| {
        let second = version(&text(changed), 2).since(&first);
        let mut question = ixfr(1);
        if with_edns {
            question[11] = 1;
            question.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        let question = signed(&question, &transfer_key(), NOW_S);
        let (out, text) = reply(&second, &question, peer, Transport::Udp);
        assert_eq!(text, expected, "{changed} {with_edns}");
        let mut prior = split(&question).1.mac.to_vec();
        let plain = verify(&transfer_key(), &mut prior, true, &out);
        assert!(out.len() <= if with_edns { 1_232 } else { 512 });
        let read = Message::from_vec(&plain).unwrap();
        assert_eq!(read.edns.is_some(), with_edns);
        let lines: Vec<String> = read.answers.iter().map(line).collect();
        match lines.len() {
            0 | 1 => {}
            _ => assert_eq!(apply(&content(&first), &lines), content(&second)),
        }
        lines.len()
    };
    assert_eq!(check(2, false, SECONDARY, "NOERROR transferred"), 4 + 4);
    assert_eq!(check(20, false, SECONDARY, "NOERROR static"), 1);
    assert_eq!(check(20, true, SECONDARY, "NOERROR transferred"), 4 + 40);
    assert_eq!(check(40, true, SECONDARY, "NOERROR static"), 1);
    assert_eq!(check(2, true, STRANGER, "REFUSED transfer"), 0);
}

/// A record of a walk: a name of some, and what it has.
fn record() -> impl Strategy<Value = (u8, u8)> {
    (0_u8..6, 0_u8..8)
}

fn text_of(records: &BTreeSet<(u8, u8)>, ttl_s: u8) -> String {
    let filler = hosts(40, "192.0.2.1");
    let line = |(name, data): &(u8, u8)| match data {
        0..4 => format!("n{name} {ttl_s} A 192.0.2.{data}\n"),
        4 | 5 => format!("x.n{name} TXT t{data}\n"),
        6 => format!("n{name} MX 5 n{data}\n"),
        _ => format!("n{name}.y.z A 192.0.2.7\n"),
    };
    records.iter().map(line).chain([filler]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is edited in whatever order, the differences since any version lead to the last one.
    #[test]
    fn a_walk_of_edits(steps in proptest::collection::vec((proptest::collection::btree_set(record(), 0..8), 1_u8..3), 2..6), start in any::<u32>()) {
        let mut records = BTreeSet::new();
        let mut versions: Vec<(u32, BTreeSet<String>)> = Vec::new();
        let mut last: Option<Zone> = None;
        for (index, (toggled, ttl_s)) in (0_u32..).zip(&steps) {
            records = records.symmetric_difference(toggled).copied().collect();
            let serial = start.wrapping_add(index * 7);
            let zone = version(&text_of(&records, *ttl_s), serial);
            let zone = match &last {
                Some(before) => zone.since(before),
                None => zone,
            };
            versions.push((serial, content(&zone)));
            last = Some(zone);
        }
        let last = last.unwrap();
        let (_, now) = versions.pop().unwrap();
        for (back, (serial, had)) in versions.iter().rev().enumerate() {
            let lines = received(&last, &ixfr(*serial)).1;
            prop_assert_eq!(&apply(had, &lines), &now);
            if let Some(count) = differences_in(&lines) {
                prop_assert_eq!(count, back + 1);
            }
        }
    }
}
