use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn sample() -> StoredHead {
    StoredHead {
        status: StatusCode::OK,
        fields: HeaderMap::from_iter([(HeaderName::from_static("etag"), HeaderValue::from_static("W/\"a\""))]),
        freshness: Freshness {
            response_time: Timestamp::from_millis(0x0102_0304_0506),
            initial_age_ms: 7,
            lifetime_ms: 60_000,
            source: LifetimeSource::MaxAge,
            swr_ms: Some(5),
            sie_ms: None,
            no_cache: false,
            must_revalidate: true,
            immutable: false,
        },
        vary: vec![(HeaderName::from_static("foo"), Some("1".into())), (HeaderName::from_static("bar"), None)],
        etag: EntityTag::parse(b"W/\"a\""),
        last_modified: Some(Timestamp::from_millis(1000)),
        tags: vec!["k".into()],
    }
}

/// Whoever changes these bytes raises `HEAD_VERSION`: they lie on disks.
#[test]
fn golden() {
    let mut bytes = Vec::new();
    sample().encode(&mut bytes);
    let expected = [
        &[1][..],
        &[200, 0],
        &[6, 5, 4, 3, 2, 1, 0, 0],
        &[7, 0, 0, 0, 0, 0, 0, 0],
        &[0x60, 0xea, 0, 0, 0, 0, 0, 0],
        &[3],
        &[1, 5, 0, 0, 0, 0, 0, 0, 0],
        &[0],
        &[0, 1, 0],
        &[1, 0, 0, 0],
        &[4, 0, 0, 0],
        b"etag",
        &[5, 0, 0, 0],
        b"W/\"a\"",
        &[2, 0, 0, 0],
        &[3, 0, 0, 0],
        b"foo",
        &[1],
        &[1, 0, 0, 0],
        b"1",
        &[3, 0, 0, 0],
        b"bar",
        &[0],
        &[2],
        &[1, 0, 0, 0],
        b"a",
        &[1, 0xe8, 3, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[1, 0, 0, 0],
        b"k",
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(StoredHead::decode(&bytes), Ok(sample()));
}

#[test]
fn refuses_everything_else() {
    let mut bytes = Vec::new();
    sample().encode(&mut bytes);
    for length in 0..bytes.len() {
        assert!(StoredHead::decode(&bytes[..length]).is_err(), "cut at {length}");
    }
    let mut other = bytes.clone();
    other[0] = 9;
    assert_eq!(StoredHead::decode(&other), Err(DecodeError::Version(9)));
    bytes.push(0);
    assert_eq!(StoredHead::decode(&bytes), Err(DecodeError::Trailing(1)));
}

#[test]
fn what_waiting_requests_may_share() {
    let check = |control: &str, expected: bool| {
        let stored = crate::testing::World::default().stored(&[&format!("cache-control: {control}"), "etag: \"a\""]);
        assert_eq!(stored.is_collapsible(), expected, "{control}");
    };
    check("max-age=1", true);
    check("max-age=0", false);
    check("max-age=1, no-cache", false);
    check("max-age=1, no-cache=\"a\"", true);
}

#[test]
fn entity_tags() {
    let check = |value: &str, expected: Option<(bool, &str)>| {
        let expected = expected.map(|(weak, opaque)| EntityTag { weak, opaque: opaque.as_bytes().into() });
        assert_eq!(EntityTag::parse(value.as_bytes()), expected, "{value}");
    };
    check("\"a\"", Some((false, "a")));
    check("W/\"a\"", Some((true, "a")));
    check("\"\"", Some((false, "")));
    check("\"a,b\"", Some((false, "a,b")));
    check("\"ü\"", Some((false, "ü")));
    for bad in ["", "a", "\"", "\"a", "w/\"a\"", "W\"a\"", "W\\\"a\"", "\"a\" ", "\"a\"b\"", "\"a b\"", "*"] {
        check(bad, None);
    }
}

fn heads() -> impl Strategy<Value = StoredHead> {
    let numbers =
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), 0..SOURCES.len());
    let flags = any::<[bool; 3]>();
    let fields = proptest::collection::vec(("[a-z][a-z0-9-]{0,9}", "[ -~]{0,20}"), 0..10);
    let vary = proptest::collection::vec(("[a-z]{1,9}", any::<Option<String>>()), 0..4);
    let etag = proptest::option::of((any::<bool>(), any::<Vec<u8>>()));
    let rest = (100_u16..=999, any::<Option<u64>>(), any::<Vec<String>>());
    (numbers, flags, fields, vary, etag, rest).prop_map(
        |(numbers, flags, fields, vary, etag, (status, modified, tags))| {
            let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).unwrap();
            let mut map = HeaderMap::new();
            for (field, value) in fields {
                map.append(name(&field), HeaderValue::from_str(&value).unwrap());
            }
            StoredHead {
                status: StatusCode::from_u16(status).unwrap(),
                fields: map,
                freshness: Freshness {
                    response_time: Timestamp::from_millis(numbers.0),
                    initial_age_ms: numbers.1,
                    lifetime_ms: numbers.2,
                    source: SOURCES[numbers.5],
                    swr_ms: numbers.3,
                    sie_ms: numbers.4,
                    no_cache: flags[0],
                    must_revalidate: flags[1],
                    immutable: flags[2],
                },
                vary: vary.into_iter().map(|(field, value)| (name(&field), value)).collect(),
                etag: etag.map(|(weak, opaque)| EntityTag { weak, opaque: opaque.into() }),
                last_modified: modified.map(Timestamp::from_millis),
                tags: tags.into_iter().map(Into::into).collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn round_trip(head in heads()) {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        prop_assert_eq!(StoredHead::decode(&bytes), Ok(head));
    }

    #[test]
    fn junk_never_panics(mut head in heads(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        head.tags.truncate(2);
        head.encode(&mut bytes);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        // What is accepted in spite of it means something, and means it again.
        if let Ok(other) = StoredHead::decode(&bytes) {
            let mut again = Vec::new();
            other.encode(&mut again);
            prop_assert_eq!(StoredHead::decode(&again), Ok(other));
        }
    }
}
