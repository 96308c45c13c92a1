use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::{
    storable::DoNotReason,
    testing::{AT_ONCE, World, date, headers},
};

const SEGMENT: u64 = 100;

fn asks(range: &str, expected: &str) {
    let fields = if range.is_empty() { HeaderMap::new() } else { headers(&[&format!("range: {range}")]) };
    let found = match asking(&fields, SEGMENT) {
        Asking::Whole => "whole".to_owned(),
        Asking::AsAsked => "as asked".to_owned(),
        Asking::Part(asked) => asked.value().to_str().unwrap().to_owned(),
    };
    assert_eq!(found, expected, "{range}");
}

#[test]
fn ranges_are_widened_to_segments() {
    asks("", "whole");
    asks("bytes=0-0", "bytes=0-99");
    asks("bytes=0-99", "bytes=0-99");
    asks("bytes=99-100", "bytes=0-199");
    asks("bytes=100-100", "bytes=100-199");
    asks("Bytes=250-", "bytes=200-");
    asks("bytes=0-", "whole");
    asks("bytes=99-", "whole");
    asks("bytes=-5", "bytes=-5");
    asks("bytes=0-99999999999999999999999", "whole");
    asks("bytes=18446744073709551614-18446744073709551614", "bytes=18446744073709551600-");
    for not_understood in ["bytes=-0", "bytes=", "bytes=,", "bytes=5-4", "bytes=a-", "bytes=-", "items=0-1", "bytes"] {
        asks(not_understood, "whole");
    }
    let twice = headers(&["range: bytes=500-", "range: bytes=600-"]);
    assert_eq!(asking(&twice, SEGMENT), Asking::Whole);
}

#[test]
fn many_ranges_do_not_reach_an_origin_unless_they_are_modest() {
    asks("bytes=0-1,5-6", "whole");
    asks(&format!("bytes=0-1,{RANGE_START_MAX}-{RANGE_START_MAX}"), "whole");
    asks("bytes=0-1,4194305-4194306", "as asked");
    for greedy in
        ["bytes=0-,99999999-", "bytes=9999999-99999999,9999999-99999999", "bytes=99999999-99999999,0-0", "bytes=-1,-2"]
    {
        asks(greedy, "whole");
    }
    let apart = |count: u64| (0..count).map(|n| format!("{0}-{0}", 5_000_000 + n * 2)).collect::<Vec<_>>().join(",");
    asks(&format!("bytes={}", apart(RANGES_MAX as u64)), "as asked");
    asks(&format!("bytes={}", apart(RANGES_MAX as u64 + 1)), "whole");
}

fn reads(asked: Asked, lines: &[&str], length: Option<u64>, expected: Option<(u64, u64, u64, bool)>) {
    let found = read(asked, &headers(lines), length);
    let found = found.ok().map(|part| (part.range.first, part.range.last, part.complete, part.as_told));
    assert_eq!(found, expected, "{asked:?} {lines:?} {length:?}");
}

#[test]
fn contradictory_parts_are_refused() {
    let run = Asked::Run { first: 0, last: Some(4) };
    reads(run, &["content-range: bytes 0-4/10"], Some(5), Some((0, 4, 10, true)));
    reads(run, &["content-range: bytes 0-4/10"], None, Some((0, 4, 10, true)));
    reads(run, &["content-range: bytes 3-9/10"], Some(7), Some((3, 9, 10, true)));
    for (line, length) in [
        ("content-range: bytes 4-0/10", 5),
        ("content-range: bytes 0-10/10", 11),
        ("content-range: bytes 0-4/10", 4),
        ("content-range: bytes 0-4/10", 6),
        ("content-range: items 0-4/10", 5),
        ("content-range: bytes 0-4/*", 5),
        ("content-range: bytes */10", 5),
        ("content-range: 0-4/10", 5),
        ("content-range: bytes 0-4/18446744073709551615", 5),
        ("content-type: multipart/byteranges; boundary=x", 5),
    ] {
        reads(run, &[line], Some(length), None);
    }
    reads(run, &["content-range: bytes 0-4/10", "content-range: bytes 0-4/10"], Some(5), None);
}

#[test]
fn a_suffix_that_came_whole_is_believed_over_its_own_count() {
    let lines = ["content-range: bytes 4-9/10"];
    reads(Asked::Suffix(5), &lines, Some(5), Some((4, 8, 9, false)));
    reads(Asked::Suffix(6), &lines, Some(6), Some((4, 9, 10, true)));
    // Not what was asked, not known before it came, not up to the end, or no suffix at all.
    reads(Asked::Suffix(4), &lines, Some(5), None);
    reads(Asked::Suffix(5), &lines, None, Some((4, 9, 10, true)));
    reads(Asked::Suffix(5), &["content-range: bytes 4-9/11"], Some(5), None);
    reads(Asked::Run { first: 4, last: Some(8) }, &lines, Some(5), None);
    reads(Asked::Suffix(0), &lines, Some(0), None);
}

fn admitted(response: &[&str], part: Part) -> Result<Box<StoredHead>, DoNotReason> {
    let (world, request) = (World::default(), HeaderMap::new());
    match admit(world.view(&request), &headers(response), part, &world.policy(), AT_ONCE, None) {
        Admission::Store(head) => Ok(head),
        Admission::DoNot(reason) => Err(reason),
    }
}

fn part(first: u64, last: u64, complete: u64) -> Part {
    Part { range: ByteRange { first, last }, complete, as_told: true }
}

#[test]
fn a_part_is_admitted_as_the_whole_that_it_is_of() {
    let told = ["cache-control: max-age=60", "content-range: bytes 4-8/9", "content-length: 5", "etag: \"1\""];
    let head = admitted(&told, part(4, 8, 9)).unwrap();
    assert_eq!((head.status, &head.fields["content-length"]), (StatusCode::OK, &HeaderValue::from_static("9")));
    assert!(!head.fields.contains_key("content-range"));
    assert_eq!(head.freshness.lifetime_ms, 60_000);
    assert_eq!(strong_validator(&head), Some(&HeaderValue::from_static("\"1\"")));
    let put_right = admitted(&told, Part { as_told: false, ..part(4, 8, 9) }).unwrap();
    assert_eq!((strong_validator(&put_right), &put_right.etag), (None, &None));

    assert_eq!(admitted(&["cache-control: private"], part(0, 1, 9)), Err(DoNotReason::Private));
    assert_eq!(admitted(&["cache-control: no-store"], part(0, 1, 9)), Err(DoNotReason::NoStore));
    let most = World::default().cache.object_bytes_max;
    assert!(admitted(&["cache-control: max-age=1"], part(0, 1, most)).is_ok());
    assert_eq!(admitted(&["cache-control: max-age=1"], part(0, 1, most + 1)), Err(DoNotReason::TooLarge));
    // Elsewhere a 206 is never stored.
    assert_eq!(World::default().admit(&[], 206, &["cache-control: max-age=60"]), Err(DoNotReason::Partial));
}

#[test]
fn a_fragment_knows_what_it_is_of() {
    let whole = admitted(&["cache-control: max-age=60", "etag: \"1\""], part(4, 8, 9)).unwrap();
    let stored = fragment(&whole, part(4, 8, 9));
    assert_eq!(stored.fields["content-range"], "bytes 4-8/9");
    assert_eq!(of_fragment(&stored), Some((*whole.clone(), part(4, 8, 9))));
    assert_eq!(of_fragment(&whole), None);
    let mut bytes = Vec::new();
    stored.encode(&mut bytes);
    assert_eq!(StoredHead::decode(&bytes).unwrap(), stored);
}

#[test]
fn only_one_strong_validator_joins_parts() {
    let check = |stored: &[&str], response: &[&str], expected: bool| {
        let mut fields = vec!["cache-control: max-age=60"];
        fields.extend(stored);
        let stored = World::default().stored(&fields);
        assert_eq!(is_same(&stored, &headers(response)), expected, "{fields:?} {response:?}");
    };
    let modified = |seconds: i64| format!("last-modified: {}", date(seconds));
    check(&["etag: \"1\""], &["etag: \"1\""], true);
    check(&["etag: \"1\""], &["etag: \"2\""], false);
    check(&["etag: \"1\""], &[], false);
    check(&["etag: W/\"1\""], &["etag: W/\"1\""], false);
    check(&["etag: \"1\""], &["etag: W/\"1\""], false);
    check(&[], &[], false);
    check(&[&modified(-60)], &[&modified(-60)], true);
    check(&[&modified(-60)], &[&modified(-61)], false);
    check(&[&modified(-59)], &[&modified(-59)], false);
    check(&[&modified(-60)], &[&modified(-60), "etag: \"1\""], false);
    // A weak tag says that the date is not to be relied on either.
    check(&[&modified(-60), "etag: W/\"1\""], &[&modified(-60)], false);
}

proptest! {
    /// What is asked upstream covers what the client asked, starts on a boundary, and is at most two segments more.
    #[test]
    fn widening_covers_and_is_bounded(first in 0_u64..5000, length in 1_u64..3000, segment in 1_u64..300) {
        let last = first + length - 1;
        let fields = headers(&[&format!("range: bytes={first}-{last}")]);
        match asking(&fields, segment) {
            Asking::Part(Asked::Run { first: from, last: Some(to) }) => {
                prop_assert!(from <= first && to >= last);
                prop_assert!(from.is_multiple_of(segment) && (to + 1).is_multiple_of(segment));
                prop_assert!(to - from + 1 < length + 2 * segment);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
