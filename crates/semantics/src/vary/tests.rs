use proptest::prelude::*;

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    lines.iter().map(pair).collect()
}

#[test]
fn same_variant_or_not() {
    let check = |vary: &str, first: &[(&str, &str)], second: &[(&str, &str)], same: bool| {
        let selector = selector(&headers(&[("vary", vary)]), &headers(first)).unwrap();
        assert_eq!(matches(&selector, &headers(second)), same, "{vary} {first:?} {second:?} {selector:?}");
        assert!(matches(&selector, &headers(first)), "a request selects its own response: {vary} {first:?}");
    };
    check("foo", &[("foo", "1")], &[("foo", "1"), ("other", "2")], true);
    check("foo", &[("foo", "1")], &[("foo", "2")], false);
    check("foo", &[("foo", "1")], &[("foo", "12")], false);
    check("foo", &[("foo", "12")], &[("foo", "1")], false);
    check("foo", &[("foo", "1")], &[], false);
    check("foo", &[], &[("foo", "")], false);
    check("foo", &[("foo", "")], &[], false);
    check("foo, bar", &[("foo", "1"), ("bar", "a")], &[("bar", "a"), ("foo", "1")], true);
    check("foo, bar", &[("foo", "1"), ("bar", "a")], &[("foo", "1")], false);
    check("foo, bar, baz", &[("foo", "1")], &[("foo", "1")], true);
    check("Foo, FOO,, foo", &[("foo", "1")], &[("foo", "1")], true);
    // Lists: spaces and lines do not count, case and order do.
    check("foo", &[("foo", "1,2")], &[("foo", " 1, 2 ")], true);
    check("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true);
    check("foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false);
    check("foo", &[("foo", "a")], &[("foo", "A")], false);
    // Weighted lists: neither order nor case nor the spelling of weights counts.
    let (encoding, language) = ("accept-encoding", "accept-language");
    check(encoding, &[(encoding, "gzip, br")], &[(encoding, "BR ,gzip;q=1.0")], true);
    check(encoding, &[(encoding, "gzip;q=0.5, br")], &[(encoding, "br;Q=1, gzip; q=0.50")], true);
    check(encoding, &[(encoding, "gzip;q=0.5, br")], &[(encoding, "br, gzip")], false);
    check(encoding, &[(encoding, "gzip;q=0")], &[(encoding, "gzip")], false);
    check(language, &[(language, "en, de")], &[(language, "de, en")], true);
    check(language, &[(language, "en-GB,en;q=0.9,*;q=0.1")], &[(language, "*;q=0.100, EN-gb, en;q=0.9")], true);
    // What is not of that form is compared as it stands.
    check(encoding, &[(encoding, "gzip;q=2, br")], &[(encoding, "gzip;q=2,br")], true);
    check(encoding, &[(encoding, "gzip;q=2, br")], &[(encoding, "br, gzip;q=2")], false);
    check(encoding, &[(encoding, "gzip;level=1")], &[(encoding, "gzip")], false);
}

#[test]
fn a_response_in_the_favourite_language_needs_no_negotiation() {
    let check = |language: &[(&str, &str)], second: &str, same: bool| {
        let name = "accept-language";
        let response: Vec<_> = [("vary", name)].iter().chain(language).copied().collect();
        let selector = selector(&headers(&response), &headers(&[(name, "en, de")])).unwrap();
        assert_eq!(matches(&selector, &headers(&[(name, second)])), same, "{language:?} {second}");
        assert!(!matches(&selector, &HeaderMap::new()), "{language:?}");
    };
    let german = [("content-language", "de")];
    for wanted in ["de", "DE;q=1.0", "fr;q=0.5, de", "de, en;q=0.9, *;q=0.1"] {
        check(&german, wanted, true);
        check(&[], wanted, false);
        check(&[("content-language", "de, en")], wanted, false);
        check(&[("content-language", "de-AT")], wanted, false);
    }
    for wanted in ["fr", "de;q=0.9", "de, fr", "de-AT, de;q=0.9", "de;q=2", "de, *", "de;level=1", "fr, de;q=0.5", ""] {
        check(&german, wanted, false);
    }
}

#[test]
fn star_in_every_spelling() {
    for star in ["*", "*, *", ", *", "*, foo", "foo, *", "foo,*,bar", "\"*\""] {
        assert_eq!(selector(&headers(&[("vary", star)]), &HeaderMap::new()), None, "{star}");
    }
    assert_eq!(selector(&headers(&[("vary", ""), ("vary", "*")]), &HeaderMap::new()), None);
    assert_eq!(selector(&headers(&[("vary", "a b")]), &HeaderMap::new()), None);
    assert_eq!(selector(&headers(&[("vary", " , ")]), &HeaderMap::new()), Some(Vec::new()));
}

#[test]
fn many_items_are_compared_as_they_stand() {
    let name = ACCEPT_LANGUAGE;
    let list = |count: usize| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
    let sorted = |count: usize| {
        let mut items: Vec<_> = (0..count).map(|n| format!("x-{n}")).collect();
        items.sort();
        items.join(",")
    };
    let form = |value: String| normal_form(&name, &headers(&[(name.as_str(), &value)])).unwrap();
    assert_eq!(form(list(WEIGHTED_ITEMS_MAX)), sorted(WEIGHTED_ITEMS_MAX));
    assert_eq!(form(list(WEIGHTED_ITEMS_MAX + 1)), list(WEIGHTED_ITEMS_MAX + 1));
}

#[test]
fn requests_are_forwarded_as_they_are_keyed() {
    let check = |lines: &[(&str, &str)], expected: &[(&str, &str)]| {
        let mut request = headers(lines);
        normalise_request(&mut request);
        assert_eq!(request, headers(expected));
    };
    check(
        &[("accept-encoding", "gzip;q=1.0, BR"), ("accept-encoding", "zstd;q=0.5"), ("foo", "b, a")],
        &[("accept-encoding", "br,gzip,zstd;q=0.500"), ("foo", "b, a")],
    );
    check(&[("accept-language", "de , EN")], &[("accept-language", "de,en")]);
    check(&[("accept-language", "")], &[("accept-language", "")]);
    check(&[("accept-encoding", "gzip;x=1 , br")], &[("accept-encoding", "gzip;x=1 , br")]);
    check(&[], &[]);
}

fn selecting(value: &str) -> Selector {
    vec![(HeaderName::from_static("foo"), Some(value.to_owned()))]
}

#[test]
fn newest_first_and_bounded() {
    let mut index = VariantIndex::default();
    for (value, id) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(index.insert(selecting(value), id, 3), Vec::<u64>::new());
    }
    assert_eq!(index.insert(selecting("d"), 4, 3), [1]);
    assert_eq!(index.insert(selecting("b"), 5, 3), [2], "an equal selector is replaced");
    assert_eq!(index.ids().collect::<Vec<_>>(), [5, 4, 3]);
    assert_eq!(index.select(&headers(&[("foo", "b")])), Some(5));
    assert_eq!(index.select(&headers(&[("foo", "a")])), None);
    // A response without Vary answers everything that came after it was newest.
    index.insert(Vec::new(), 6, 3);
    assert_eq!(index.select(&headers(&[("foo", "b")])), Some(6));
    assert_eq!(index.insert(selecting("z"), 7, 0), [6, 5, 4], "a limit of nothing keeps the newest");
    index.remove(7);
    assert!(index.is_empty());
}

#[test]
fn golden_index() {
    let mut index = VariantIndex::default();
    index.insert(vec![(HeaderName::from_static("a"), None)], 7, 8);
    index.insert(selecting("x"), 258, 8);
    let mut bytes = Vec::new();
    index.encode(&mut bytes);
    let expected = [
        &[1][..],
        &[2, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[3, 0, 0, 0],
        b"foo",
        &[1],
        &[1, 0, 0, 0],
        b"x",
        &[7, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[1, 0, 0, 0],
        b"a",
        &[0],
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(VariantIndex::decode(&bytes), Ok(index));
    assert_eq!(VariantIndex::decode(&[2]), Err(DecodeError::Version(2)));
    bytes.push(0);
    assert_eq!(VariantIndex::decode(&bytes), Err(DecodeError::Trailing(1)));
}

proptest! {
    /// Equal keys and equal selected headers give the same variant; the index survives the disk.
    #[test]
    fn own_request_selects_own_variant(values in proptest::collection::vec("[ -~]{0,20}", 1..8), vary in "(foo|accept-encoding|accept-language)") {
        let mut index = VariantIndex::default();
        let response = headers(&[("vary", &vary)]);
        for (id, value) in values.iter().enumerate() {
            let request = headers(&[(&vary, value)]);
            index.insert(selector(&response, &request).unwrap(), id as u64, 64);
            prop_assert_eq!(index.select(&request), Some(id as u64));
        }
        let mut bytes = Vec::new();
        index.encode(&mut bytes);
        prop_assert_eq!(VariantIndex::decode(&bytes).unwrap(), index);
    }

    #[test]
    fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(index) = VariantIndex::decode(&bytes) {
            let mut again = Vec::new();
            index.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn requests_that_select_the_same_have_one_hash() {
    let selector: Selector = vec![(ACCEPT_ENCODING, None), (HeaderName::from_static("x-a"), None)];
    let hash = |fields: &[(&'static str, &'static str)]| {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        selection_hash(&selector, &headers, 7)
    };
    assert_eq!(
        hash(&[("accept-encoding", "gzip, BR"), ("x-b", "1")]),
        hash(&[("accept-encoding", "br,gzip"), ("x-b", "2")])
    );
    let all = [
        hash(&[]),
        hash(&[("x-a", "")]),
        hash(&[("x-a", "1")]),
        hash(&[("accept-encoding", "")]),
        hash(&[("accept-encoding", "1")]),
    ];
    assert!(all.iter().enumerate().all(|(at, one)| !all[at + 1..].contains(one)), "{all:?}");
}
