use proptest::prelude::*;

use super::*;
use crate::testing::{World, date, headers};

fn describe(answer: &RangeAnswer) -> String {
    let one = |range: &ByteRange| format!("{}-{}", range.first, range.last);
    match answer {
        RangeAnswer::One(range) => one(range),
        RangeAnswer::Many(ranges) => ranges.iter().map(one).collect::<Vec<_>>().join(","),
        other => other.as_str().to_owned(),
    }
}

fn check_with(response: &[&str], request: &[&str], length: u64, expected: &str) {
    let world = World::default();
    let mut fields = vec!["cache-control: max-age=60"];
    fields.extend(response);
    let stored = world.stored(&fields);
    assert_eq!(
        describe(&evaluate(world.view(&headers(request)), &stored, length)),
        expected,
        "{response:?} {request:?} {length}"
    );
}

fn check(range: &str, length: u64, expected: &str) {
    check_with(&[], &[&format!("range: {range}")], length, expected);
}

#[test]
fn one_range() {
    check("bytes=0-1", 10, "0-1");
    check("bytes=0-0", 10, "0-0");
    check("bytes=9-", 10, "9-9");
    check("bytes=0-", 10, "0-9");
    check("bytes=5-500", 10, "5-9");
    check("bytes=-1", 10, "9-9");
    check("bytes=-500", 10, "0-9");
    check("BYTES=1-2", 10, "1-2");
    check("bytes= 1-2 ,", 10, "1-2");
    check("bytes=0-99999999999999999999999999", 10, "0-9");
}

#[test]
fn outside() {
    check("bytes=10-", 10, "unsatisfiable-range");
    check("bytes=10-20", 10, "unsatisfiable-range");
    check("bytes=-0", 10, "unsatisfiable-range");
    check("bytes=0-", 0, "unsatisfiable-range");
    check("bytes=-5", 0, "unsatisfiable-range");
    check("bytes=99999999999999999999999999-", 10, "unsatisfiable-range");
    check("bytes=10-,1-2", 10, "1-2");
}

#[test]
fn not_understood() {
    for bad in [
        "bytes=",
        "bytes=,",
        "bytes",
        "byte=0-1",
        "bytes=2-1",
        "bytes=a-1",
        "bytes=1",
        "bytes=-",
        "bytes=1-2-3",
        "bytes=--1",
        "bytes=0-1,x",
        "items=0-1",
        "",
        "bytes=+1-2",
        "bytes=1 - 2",
    ] {
        check(bad, 10, "whole");
    }
    check_with(&[], &["range: bytes=0-1", "range: bytes=0-1"], 10, "whole");
    let world = World { method: Method::HEAD, ..World::default() };
    let stored = World::default().stored(&["cache-control: max-age=60"]);
    assert_eq!(evaluate(world.view(&headers(&["range: bytes=0-1"])), &stored, 10), RangeAnswer::Whole);
    let error = World::default().admit(&[], 404, &["cache-control: max-age=60"]).unwrap();
    assert_eq!(evaluate(World::default().view(&headers(&["range: bytes=0-1"])), &error, 10), RangeAnswer::Whole);
}

#[test]
fn many_ranges() {
    check("bytes=0-1,4-5", 10, "0-1,4-5");
    check("bytes=4-5,0-1", 10, "4-5,0-1");
    check("bytes=0-4,2-6", 10, "0-6");
    check("bytes=0-1,2-3", 10, "0-3");
    check("bytes=8-,0-1,4-4,5-6", 10, "0-1,4-6,8-9");
    check("bytes=0-,0-,0-", 10, "0-9");
    let apart = |count: usize| (0..count).map(|n| format!("{0}-{0}", n * 2)).collect::<Vec<_>>().join(",");
    check(&format!("bytes={}", apart(RANGES_MAX)), 100, &apart(RANGES_MAX));
    check(&format!("bytes={}", apart(RANGES_MAX + 1)), 100, "whole");
}

#[test]
fn if_range_holds_or_not() {
    let range = "range: bytes=0-1";
    let etag = ["etag: \"a\""];
    check_with(&etag, &[range, "if-range: \"a\""], 10, "0-1");
    check_with(&etag, &[range, "if-range: \"b\""], 10, "whole");
    check_with(&etag, &[range, "if-range: W/\"a\""], 10, "whole");
    check_with(&["etag: W/\"a\""], &[range, "if-range: W/\"a\""], 10, "whole");
    check_with(&etag, &[range, "if-range: a"], 10, "whole");
    check_with(&etag, &[range, "if-range: \"a\"", "if-range: \"a\""], 10, "whole");
    let modified = |seconds| format!("last-modified: {}", date(seconds));
    let unless = |seconds| format!("if-range: {}", date(seconds));
    check_with(&[&modified(-60)], &[range, &unless(-60)], 10, "0-1");
    check_with(&[&modified(-59)], &[range, &unless(-59)], 10, "whole");
    check_with(&[&modified(-100)], &[range, &unless(-90)], 10, "whole");
    check_with(&[], &[range, &unless(0)], 10, "whole");
}

#[test]
fn values() {
    assert_eq!(content_range(ByteRange { first: 0, last: 4 }, 10), "bytes 0-4/10");
    assert_eq!(unsatisfied_range(10), "bytes */10");
}

#[test]
fn content_ranges_read() {
    let check = |text: &str, expected: Option<(u64, u64, Option<u64>)>| {
        let found = parse_content_range(&HeaderValue::from_str(text).unwrap());
        assert_eq!(found.map(|(range, length)| (range.first, range.last, length)), expected, "{text}");
    };
    check("bytes 0-4/10", Some((0, 4, Some(10))));
    check("Bytes 9-9/10", Some((9, 9, Some(10))));
    check("bytes 4-9/*", Some((4, 9, None)));
    for bad in [
        "bytes */10",
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes 0-4",
        "bytes=0-4/10",
        "bytes a-4/10",
        "bytes 0-/10",
        "items 0-4/10",
        "bytes 0-99999999999999999999/*",
        "",
    ] {
        check(bad, None);
    }
}

/// The body as it would be sent.
fn laid_out(body: &[u8], ranges: &[ByteRange], content_type: Option<&HeaderValue>) -> (Multipart, Vec<u8>) {
    let layout = multipart(ranges, content_type, body.len() as u64, 0xfeed);
    let mut bytes = Vec::new();
    for (head, range) in &layout.parts {
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(&body[range.first as usize..=range.last as usize]);
    }
    bytes.extend_from_slice(&layout.end);
    (layout, bytes)
}

#[test]
fn multipart_on_the_wire() {
    let text = HeaderValue::from_static("text/plain");
    let ranges = [ByteRange { first: 0, last: 1 }, ByteRange { first: 8, last: 9 }];
    let (layout, bytes) = laid_out(b"0123456789", &ranges, Some(&text));
    assert_eq!(layout.content_type, "multipart/byteranges; boundary=perigee-000000000000feed");
    let expected = "--perigee-000000000000feed\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
        --perigee-000000000000feed\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
        --perigee-000000000000feed--\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert_eq!(layout.length, expected.len() as u64);
}

proptest! {
    /// Every byte that was asked for is answered once, in order within each range; nothing else is.
    #[test]
    fn ranges_partition(length in 0_u64..200, specs in proptest::collection::vec((proptest::option::of(0_u64..220), proptest::option::of(0_u64..220)), 1..20)) {
        let text: Vec<String> = specs
            .iter()
            .map(|(first, last)| format!("{}-{}", first.map_or(String::new(), |n| n.to_string()), last.map_or(String::new(), |n| n.to_string())))
            .collect();
        let world = World::default();
        let stored = world.stored(&["cache-control: max-age=60"]);
        let request = headers(&[&format!("range: bytes={}", text.join(","))]);
        let answer = evaluate(world.view(&request), &stored, length);
        let readable = specs.iter().all(|spec| match spec { (Some(first), Some(last)) => first <= last, (None, None) => false, _ => true });
        let mut asked = vec![0_u8; length as usize];
        for (first, last) in &specs {
            let (from, to) = match (*first, *last) {
                (Some(first), last) => (first, last.map_or(length, |last| (last + 1).min(length))),
                (None, last) => (length.saturating_sub(last.unwrap_or(0)), length),
            };
            for slot in asked.iter_mut().take(to as usize).skip(from as usize) {
                *slot = 1;
            }
        }
        let mut answered = vec![0_u8; length as usize];
        let ranges = match &answer {
            RangeAnswer::One(range) => vec![*range],
            RangeAnswer::Many(ranges) => ranges.clone(),
            RangeAnswer::Whole => {
                prop_assert!(!readable || specs.len() > RANGES_MAX);
                return Ok(());
            }
            RangeAnswer::Unsatisfiable => vec![],
        };
        prop_assert!(readable && specs.len() <= RANGES_MAX && ranges.len() <= RANGES_MAX);
        for range in &ranges {
            prop_assert!(range.first <= range.last && range.last < length);
            for slot in &mut answered[range.first as usize..=range.last as usize] {
                *slot += 1;
            }
        }
        prop_assert_eq!(answered, asked);
        let body: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let (layout, bytes) = laid_out(&body, &ranges, None);
        prop_assert_eq!(layout.length, bytes.len() as u64);
    }
}
