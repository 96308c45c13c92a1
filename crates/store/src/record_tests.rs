use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn round_trip<T: Code>(value: &T) -> (T, Vec<u8>) {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).expect("a vector takes all");
    assert_eq!(bytes.len(), value.estimated_size(), "tickets are for just what is written");
    (T::decode(&mut &bytes[..]).expect("own form"), bytes)
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    SeededHash(3).hash_one(value)
}

#[test]
fn keys_round_trip() {
    let check = |key: RecordKey| assert_eq!(round_trip(&key).0, key);
    check(RecordKey::Head(CacheKey::from_bytes(b"\0www\0http\0www.example\0/a?b")));
    check(RecordKey::Segment(FillId::bare(u64::MAX), 7));
    check(RecordKey::Segment(FillId::bare(0), u32::MAX));
    check(RecordKey::Segment(FillId { slot: 0xabcd, ..FillId::bare(1) }, 2));
}

#[test]
fn a_borrowed_key_finds_its_own_and_no_other() {
    let [a, b] = [b"a", b"b"].map(|name| CacheKey::from_bytes(name));
    let stored = RecordKey::Head(a.clone());
    assert_eq!(hash(&HeadRef(&a)), hash(&stored));
    assert!(HeadRef(&a).equivalent(&stored));
    assert!(!HeadRef(&b).equivalent(&stored));
    // A head's key may have the bytes that a segment's key is hashed by; it is still another key.
    let segment = RecordKey::Segment(FillId::bare(0), 0);
    let same_bytes = CacheKey::from_bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(hash(&HeadRef(&same_bytes)), hash(&segment));
    assert!(!HeadRef(&same_bytes).equivalent(&segment));
    assert_ne!(SeededHash(3).hash_one(&stored), SeededHash(4).hash_one(&stored));
}

#[test]
fn segments_round_trip_up_to_the_limit() {
    let check = |len: usize, fits: bool| {
        let record = Record::Segment(Bytes::from(vec![7; len]));
        let mut bytes = Vec::new();
        record.encode(&mut bytes).expect("a vector takes all");
        match Record::decode(&mut &bytes[..]) {
            Ok(Record::Segment(back)) => assert!(fits && back.len() == len),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(!fits, "{error}"),
        }
    };
    check(0, true);
    check(1, true);
    check(SEGMENT_BYTES, true);
    check(SEGMENT_BYTES + 1, false);
}

#[test]
fn a_page_is_the_least_on_disk() {
    let check = |len: usize, pages: usize| {
        let bytes = Record::Segment(Bytes::from(vec![0; len])).disk_bytes(&RecordKey::Segment(FillId::bare(1), 0));
        assert_eq!(bytes, pages * DISK_PAGE);
    };
    let overhead = DISK_HEADER + 16 + 5;
    check(0, 1);
    check(DISK_PAGE - overhead + 1, 1);
    check(DISK_PAGE - overhead + 2, 2);
}

proptest! {
    #[test]
    fn junk_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(RecordKey::decode(&mut &bytes[..]));
        drop(Record::decode(&mut &bytes[..]));
    }

    #[test]
    fn what_ends_early_is_refused(len in 1_usize..500, cut in any::<prop::sample::Index>()) {
        let (_, bytes) = round_trip(&Record::Segment(Bytes::from(vec![9; len])));
        let cut = cut.index(bytes.len());
        prop_assert!(Record::decode(&mut &bytes[..cut]).is_err());
    }
}
