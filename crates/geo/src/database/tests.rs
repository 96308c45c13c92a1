use mmdb_writer::{IpVersion, RecordSize, Value, Writer};
use proptest::prelude::*;

use maxminddb::Reader;

use super::*;
use crate::build::build;

fn writer(kind: &str, version: IpVersion, size: Option<RecordSize>) -> Writer {
    let builder = Writer::builder(kind).description(&[("en", "test")]).ip_version(version);
    match size {
        Some(size) => builder.record_size(size).build(),
        None => builder.build(),
    }
}

fn country(field: &str, code: &str) -> (String, Value) {
    (field.to_owned(), Value::map([("iso_code", Value::from(code))]))
}

fn location(latitude: impl Into<Value>, longitude: impl Into<Value>) -> (String, Value) {
    ("location".to_owned(), Value::map([("latitude", latitude.into()), ("longitude", longitude.into())]))
}

fn database(records: Vec<(&str, Vec<(String, Value)>)>) -> GeoDatabase<Vec<u8>> {
    let mut writer = writer("Test-City", IpVersion::V6, None);
    for (prefix, fields) in records {
        writer.insert_value(prefix.parse::<IpNet>().unwrap(), Value::map(fields)).unwrap();
    }
    GeoDatabase::from_source(writer.to_bytes().unwrap()).unwrap()
}

/// `expected` reads `latitude,longitude (centre) country /prefix`, `-` for what is not known. Twice: decoded and remembered.
fn check(database: &GeoDatabase<Vec<u8>>, address: &str, expected: &str) {
    for _ in 0..2 {
        let place = database.lookup(address.parse().unwrap());
        let location = place.location.map_or("-".to_owned(), |at| format!("{},{}", at.latitude, at.longitude));
        let centre = if place.is_centre { " (centre)" } else { "" };
        let country = place.country.map_or("-".to_owned(), |country| country.to_string());
        assert_eq!(format!("{location}{centre} {country} /{}", place.prefix_len), expected, "{address}");
    }
}

#[test]
fn records_of_all_shapes() {
    let database = database(vec![
        ("192.0.2.0/24", vec![country("country", "DE"), country("registered_country", "US"), location(52.5, 13.4)]),
        ("1.1.1.0/24", vec![country("registered_country", "AU")]),
        ("1.1.2.0/24", vec![country("country", "FR")]),
        ("1.1.3.0/24", vec![location(1.0, 2.0)]),
        ("1.1.4.0/24", vec![location(91.0, 2.0), country("country", "de")]),
        ("1.1.5.0/24", vec![location(f64::NAN, 2.0)]),
        (
            "1.1.6.0/24",
            vec![("location".into(), Value::map([("latitude", Value::from(1.0))])), country("country", "PE")],
        ),
        ("1.1.7.0/24", vec![("location".into(), Value::from("here")), country("country", "PE")]),
        ("1.1.8.0/24", vec![location(0.0, 0.0)]),
        ("2001:db8:5::/48", vec![country("country", "JP"), location(35.7, 139.7)]),
        ("203.0.113.77/32", vec![country("country", "NZ"), location(-36.85, 174.76)]),
    ]);
    check(&database, "192.0.2.1", "52.5,13.4 DE /24");
    check(&database, "1.1.1.1", "- AU /24");
    check(&database, "1.1.2.1", "48,3 (centre) FR /24");
    check(&database, "1.1.3.1", "1,2 - /24");
    check(&database, "1.1.4.1", "- - /24");
    check(&database, "1.1.5.1", "- - /24");
    check(&database, "1.1.6.1", "-11,-77 (centre) PE /24");
    // A field of another type spoils its record, which is then a miss.
    check(&database, "1.1.7.1", "- - /24");
    check(&database, "1.1.8.1", "0,0 - /24");
    check(&database, "203.0.113.77", "-36.85,174.76 NZ /32");
    check(&database, "203.0.113.76", "- - /32");
    check(&database, "240.0.0.1", "- - /3");
    check(&database, "2001:db8:5::1", "35.7,139.7 JP /48");
    check(&database, "2001:db8:6::1", "- - /47");
    // IPv4-mapped: the same record, in bits of the IPv6 address.
    check(&database, "::ffff:192.0.2.1", "52.5,13.4 DE /120");
    check(&database, "::ffff:240.0.0.1", "- - /99");
}

#[test]
fn a_database_of_ipv4_only() {
    let mut writer = writer("Test-City", IpVersion::V4, None);
    writer.insert_value("192.0.2.0/24".parse::<IpNet>().unwrap(), Value::map([country("country", "DE")])).unwrap();
    let database = GeoDatabase::from_source(writer.to_bytes().unwrap()).unwrap();
    check(&database, "192.0.2.1", "51,9 (centre) DE /24");
    check(&database, "::ffff:192.0.2.1", "51,9 (centre) DE /120");
    check(&database, "2001:db8::1", "- - /0");
    assert_eq!(database.describe("2001:db8::1".parse().unwrap()), None);
}

#[test]
fn an_ipv6_record_over_all_of_ipv4() {
    let mut writer = writer("Test-City", IpVersion::V6, None);
    writer.insert_value("::/8".parse::<IpNet>().unwrap(), Value::map([country("country", "DE")])).unwrap();
    let database = GeoDatabase::from_source(writer.to_bytes().unwrap()).unwrap();
    check(&database, "192.0.2.1", "51,9 (centre) DE /0");
}

#[test]
fn every_record_size() {
    for size in [RecordSize::Bits24, RecordSize::Bits28, RecordSize::Bits32] {
        let mut writer = writer("Test-City", IpVersion::V6, Some(size));
        for n in 0..=255_u8 {
            let prefix = IpNet::new(IpAddr::from([n, n, 0, 0]), 16).unwrap();
            writer.insert_value(prefix, Value::map([location(f64::from(n) / 4.0, 1.5)])).unwrap();
        }
        let database = GeoDatabase::from_source(writer.to_bytes().unwrap()).unwrap();
        assert_eq!(database.count_records(), 256);
        for n in 0..=255_u8 {
            check(&database, &format!("{n}.{n}.1.1"), &format!("{},1.5 - /16", f64::from(n) / 4.0));
        }
    }
}

#[test]
fn describes_all_fields() {
    let details = [
        ("latitude", Value::from(52.5)),
        ("longitude", Value::from(13.4)),
        ("accuracy_radius", Value::from(20_u16)),
        ("time_zone", Value::from("Europe/Berlin")),
    ];
    let names = Value::map([("de", Value::from("Berlin!")), ("en", Value::from("Berlin"))]);
    let database = database(vec![(
        "192.0.2.0/24",
        vec![
            country("country", "DE"),
            ("city".into(), Value::map([("names", names)])),
            ("location".into(), Value::map(details)),
            ("autonomous_system_number".into(), Value::from(64_512_u32)),
        ],
    )]);
    let expected = Description {
        network: "192.0.2.0/24".parse().unwrap(),
        country: "DE".parse().ok(),
        city: Some("Berlin".into()),
        location: Some(Location { latitude: 52.5, longitude: 13.4 }),
        is_centre: false,
        accuracy_radius_km: Some(20),
        time_zone: Some("Europe/Berlin".into()),
        asn: Some(64_512),
    };
    assert_eq!(database.describe("192.0.2.9".parse().unwrap()), Some(expected));
    assert_eq!(database.describe("192.0.3.9".parse().unwrap()), None);
}

const CSV: &str =
    "prefix,country,city,lat,lon,asn\n192.0.2.0/24,DE,Berlin,52.5,13.4,1\n198.51.100.0/24,JP,Tokyo,35.7,139.7,2\n";

fn refusal(bytes: impl AsRef<[u8]>) -> String {
    GeoDatabase::from_source(bytes).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn refuses_what_is_no_database_of_cities() {
    let check = |bytes: Vec<u8>, expected: &str| {
        let refusal = refusal(bytes);
        assert!(refusal.contains(expected), "{refusal:?} does not say {expected:?}");
    };
    let of_kind = |kind: &str| {
        let mut writer = writer(kind, IpVersion::V6, None);
        writer
            .insert_value("192.0.2.0/24".parse::<IpNet>().unwrap(), Value::map([("asn", Value::from(1_u32))]))
            .unwrap();
        writer.to_bytes().unwrap()
    };
    let systems = {
        let mut writer = writer("Test-ASN", IpVersion::V6, None);
        let fields = [("autonomous_system_number", Value::from(64_500_u32))];
        writer.insert_value("192.0.2.0/24".parse::<IpNet>().unwrap(), Value::map(fields)).unwrap();
        writer.to_bytes().unwrap()
    };
    check(systems, "it tells autonomous systems: name it as geo.asn_database");
    check(Vec::new(), "no metadata");
    check(b"<!doctype html>".repeat(20_000), "no metadata");
    check(of_kind("Test-ASN"), "none of 1 sampled records of this \"Test-ASN\" database says where it is");
    check(of_kind("Flat-City"), "none of 1 sampled records");
    check(writer("Empty-City", IpVersion::V6, None).to_bytes().unwrap(), "none of 0 sampled records");
}

#[test]
fn refuses_every_truncation() {
    let whole = build(CSV.as_bytes()).unwrap();
    for len in 0..whole.len() {
        refusal(&whole[..len]);
    }
    // A piece missing in the middle shifts everything after it.
    for missing in 1..200 {
        let cut = [&whole[..100], &whole[100 + missing..]].concat();
        assert!(!refusal(cut).is_empty(), "{missing}");
    }
}

#[test]
fn says_what_is_damaged() {
    let check = |at: fn(&[u8]) -> usize, byte: u8, expected: &str| {
        let mut bytes = build(CSV.as_bytes()).unwrap();
        let at = at(&bytes);
        bytes[at] = byte;
        let refusal = refusal(bytes);
        assert!(refusal.contains(expected), "{refusal:?} does not say {expected:?}");
    };
    fn of(bytes: &[u8], text: &[u8]) -> usize {
        bytes.windows(text.len()).position(|window| window == text).unwrap()
    }
    fn tree_len(bytes: &[u8]) -> usize {
        let reader = Reader::from_source(bytes).unwrap();
        reader.metadata().node_count as usize * usize::from(reader.metadata().record_size) / 4
    }
    check(|_| 0, 0x7F, "its search tree is damaged: node 0 points outside");
    check(|bytes| of(bytes, b"Berlin"), 0xFF, "a string is not UTF-8");
    check(|bytes| of(bytes, b"latitude") - 1, 0x0C << 3, "its data is damaged at byte");
    // The key before this value is a pointer of two bytes to an earlier one: its highest bits.
    check(|bytes| of(bytes, b"JP") - 3, 0x27, "a pointer leaves the data");
    check(|bytes| tree_len(bytes) + 7, 1, "not separated");
    check(|bytes| of(bytes, b"\xab\xcd\xefMaxMind.com"), 0, "no metadata");
    check(|bytes| of(bytes, b"node_count") + 11, 0xFF, "search tree extends beyond");
}

/// The reader of metadata recurses, on stacks of any size.
#[test]
fn metadata_that_nest_are_refused() {
    const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
    const CODES: &[u8] = b"\x49languages";
    let whole = build(CSV.as_bytes()).unwrap();
    let start = whole.windows(MARKER.len()).position(|window| window == MARKER).unwrap() + MARKER.len();
    let entries = whole[start] & 31;
    // One more entry of the map, behind the others: a key, and values that are in one another.
    let with =
        |value: &[u8]| [&whole[..start], &[7 << 5 | (entries + 1)], &whole[start + 1..], b"\x41x", value].concat();
    let to = |at: usize| <[u8; 2]>::try_from(&((1 << 13) + at).to_be_bytes()[6..]).unwrap();
    let value = whole.len() - start + 2;
    let check = |bytes: &[u8], is_sound: bool| match GeoDatabase::from_source(bytes) {
        Ok(_) => assert!(is_sound),
        Err(error) => assert!(!is_sound && error.to_string().contains("metadata are tangled"), "{error}"),
    };
    // An array of one array of ... of an empty one (type 11); the map and its value are the first two of what is open.
    let nested = |depth: usize| [b"\x01\x04".repeat(depth - 1).as_slice(), b"\x00\x04"].concat();
    check(&with(&nested(14)), true);
    check(&with(&nested(15)), false);
    check(&with(&nested(60_000)), false);
    // A pointer to the whole, one to itself, and an array of pointers to what they are in.
    check(&with(&to(0)), false);
    check(&with(&to(value)), false);
    check(&with(&[&[2, 4][..], &to(value), &to(value)].concat()), false);
    // A pointer that leads to an end is none of that.
    check(&with(&to(1)), true);
    // As a key, and where the reader looks for something.
    let languages = whole.windows(CODES.len()).position(|window| window == CODES).unwrap() + CODES.len();
    check(&[&whole[..languages], &to(0), &whole[languages + 1..]].concat(), false);
}

/// The same in a record: a name that is a pointer to what it is in, or to itself.
#[test]
fn records_in_themselves() {
    let whole = build(CSV.replace("Berlin", "Bonn").as_bytes()).unwrap();
    let address = "192.0.2.9".parse().unwrap();
    let reader = Reader::from_source(&whole[..]).unwrap();
    let metadata = reader.metadata();
    let data = metadata.node_count as usize * usize::from(metadata.record_size) / 4 + 16;
    let record = reader.lookup(address).unwrap().offset().unwrap();
    let name = whole.windows(5).position(|window| window == b"\x44Bonn").unwrap();
    for target in [record, name - data] {
        let pointer = [&[1 << 5 | 3 << 3][..], &(target as u32).to_be_bytes()].concat();
        let bytes = [&whole[..name], &pointer, &whole[name + 5..]].concat();
        let database = GeoDatabase::from_source(bytes).unwrap();
        let told = database.describe(address).unwrap();
        assert_eq!((told.city, told.location), (None, Some(Location { latitude: 52.5, longitude: 13.4 })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the bytes, nothing panics and nothing hangs, and what is accepted answers.
    #[test]
    fn survives_flipped_bits(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..6), v4: [u8; 4], v6: [u8; 16]) {
        let mut bytes = build(CSV.as_bytes()).unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Ok(database) = GeoDatabase::from_source(bytes) {
            for address in [IpAddr::from(v4), IpAddr::from(v6), IpAddr::from([192, 0, 2, 1])] {
                let place = database.lookup(address);
                let width = if address.is_ipv4() { 32 } else { 128 };
                prop_assert!(place.prefix_len <= width);
                database.describe(address);
            }
        }
    }

    /// The walk and the reader's own verification agree on sound files.
    #[test]
    fn accepts_what_the_reader_verifies(prefixes in prop::collection::vec((any::<u32>(), 1..=32_u8, 0..90_u8), 1..40)) {
        let mut writer = writer("Test-City", IpVersion::V6, None);
        for (address, len, degrees) in prefixes {
            let prefix = IpNet::new(std::net::Ipv4Addr::from_bits(address).into(), len).unwrap().trunc();
            writer.insert_value(prefix, Value::map([location(f64::from(degrees), 1.0)])).unwrap();
        }
        let bytes = writer.to_bytes().unwrap();
        Reader::from_source(&bytes[..]).unwrap().verify().unwrap();
        prop_assert!(GeoDatabase::from_source(bytes).is_ok());
    }
}

/// What is passed on of DB-IP's data: the same in flat fields, with floats, and empty for what is not known.
#[test]
fn the_flat_shape() {
    let flat = |code: &str, city: &str, place: Option<[f32; 2]>| {
        let mut fields = vec![("country_code", Value::from(code)), ("city", Value::from(city))];
        fields.extend([("timezone", Value::from("")), ("postcode", Value::from(""))]);
        if let Some([latitude, longitude]) = place {
            fields.extend([("latitude", Value::Float(latitude)), ("longitude", Value::Float(longitude))]);
        }
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Vec<_>>()
    };
    let database = database(vec![
        ("192.0.2.0/24", flat("AU", "South Brisbane", Some([-27.5, 153.25]))),
        ("198.51.100.0/24", flat("JP", "", None)),
        ("203.0.113.0/24", flat("", "", Some([1.5, 2.5]))),
    ]);
    assert_eq!(database.level(), Level::City);
    check(&database, "192.0.2.1", "-27.5,153.25 AU /24");
    check(&database, "198.51.100.1", "36,138 (centre) JP /24");
    check(&database, "203.0.113.1", "1.5,2.5 - /24");
    let described = database.describe("192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!((described.city.as_deref(), described.time_zone), (Some("South Brisbane"), None));
    assert_eq!(database.describe("198.51.100.1".parse().unwrap()).unwrap().city, None);
}

#[test]
fn a_database_of_countries() {
    let database = database(vec![
        ("192.0.2.0/24", vec![country("country", "DE")]),
        ("198.51.100.0/24", vec![country("registered_country", "US")]),
        // A code of no country, as some databases have for what is nowhere.
        ("203.0.113.0/24", vec![country("country", "EU")]),
    ]);
    assert_eq!(database.level(), Level::Country);
    check(&database, "192.0.2.1", "51,9 (centre) DE /24");
    check(&database, "198.51.100.1", "- US /24");
    check(&database, "203.0.113.1", "- EU /24");
}

#[test]
fn walks_every_network_once() {
    let database = database(vec![
        ("192.0.2.0/25", vec![location(1.0, 2.0)]),
        ("192.0.2.128/25", vec![location(1.0, 3.0)]),
        ("2001:db8::/32", vec![location(1.0, 4.0)]),
    ]);
    let told = |(network, place): (IpNet, Place)| format!("{network} {}", place.location.unwrap().longitude);
    let networks: Vec<String> = database.networks().map(told).collect();
    assert_eq!(networks, ["192.0.2.0/25 2", "192.0.2.128/25 3", "2001:db8::/32 4"]);
    assert_eq!(database.count_records(), 3);
}
