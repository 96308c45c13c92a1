//! Databases of any bytes: refused with a reason, or answering every lookup.
//!
//! A database is too long to be found by chance, so that an input is a list of damages to a sound one.

use std::{collections::BTreeSet, net::IpAddr, sync::OnceLock};

use ipnet::IpNet;
use mmdb_writer::{Value, Writer};
use perigee_geo::{asn::AsnDatabase, build, database::GeoDatabase};

/// MaxMind's nested shape.
const WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.49.0.0/16,DE,Berlin,52.52,13.40,64500
127.61.0.0/16,AU,Canberra,-35.28,149.13,
127.55.3.0/24,BR,,,,64501
127.86.0.0/16,CN,Beijing,39.90,116.40,
2001:db8:61::/48,AU,Canberra,-35.28,149.13,
2001:db8:49::/48,DE,,,,
";
/// DB-IP's flat one, and that of autonomous systems.
const FLAT: [(&str, &str, f32, f32, u32); 3] = [
    ("127.49.0.0/16", "DE", 52.5, 13.4, 64_500),
    ("127.61.128.0/17", "AU", -35.2, 149.1, 64_501),
    ("2001:db8:61::/48", "AU", -35.2, 149.1, 0),
];

const ADDRESSES: [&str; 10] = [
    "0.0.0.0",
    "127.49.0.1",
    "127.55.3.9",
    "127.61.255.255",
    "192.0.2.1",
    "255.255.255.255",
    "::",
    "::ffff:127.86.0.1",
    "2001:db8:61::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// What inputs damage.
#[derive(Clone, Copy)]
enum Sound {
    Nested,
    Flat,
}

const SOUND: [Sound; 2] = [Sound::Nested, Sound::Flat];

impl Sound {
    fn bytes(self) -> &'static [u8] {
        static NESTED: OnceLock<Vec<u8>> = OnceLock::new();
        static FLAT: OnceLock<Vec<u8>> = OnceLock::new();
        match self {
            Self::Nested => {
                NESTED.get_or_init(|| build::build(WORLD.as_bytes()).unwrap_or_else(|errors| panic!("{errors}")))
            }
            Self::Flat => FLAT.get_or_init(flat),
        }
    }
}

fn flat() -> Vec<u8> {
    let mut writer = Writer::builder("Test-City").build();
    for (prefix, country, latitude, longitude, asn) in FLAT {
        let fields = [
            ("country_code", Value::from(country)),
            ("latitude", Value::from(latitude)),
            ("longitude", Value::from(longitude)),
            ("autonomous_system_number", Value::from(asn)),
        ];
        let prefix: IpNet = prefix.parse().unwrap_or_else(|error| panic!("{error}"));
        writer.insert_value(prefix, Value::map(fields)).unwrap_or_else(|error| panic!("{error}"));
    }
    writer.to_bytes().unwrap_or_else(|error| panic!("{error}"))
}

/// A sound database with an input's damages: four bytes each, a place, what happens there, and a value.
fn damaged(sound: &[u8], input: &[u8]) -> Vec<u8> {
    let mut file = sound.to_vec();
    for [high, low, what, value] in input.as_chunks::<4>().0 {
        // From the end for the upper half: metadata are there.
        let place = usize::from(u16::from_be_bytes([high & 0x7f, *low]));
        let at = if high & 0x80 == 0 { place } else { file.len().saturating_sub(1 + place) };
        let at = at.min(file.len());
        match what % 6 {
            0 => file.iter_mut().skip(at).take(1).for_each(|byte| *byte = *value),
            1 => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
            2 => file.iter_mut().skip(at).take(usize::from(*value)).for_each(|byte| *byte = 0xff),
            3 => drop(file.drain(at..(at + usize::from(*value)).min(file.len()))),
            4 => file.insert(at, *value),
            _ => file.truncate(at),
        }
    }
    file
}

/// Laws of databases: the first byte says whether the rest is a file itself, or damages to which sound one.
pub fn check(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let file = match kind % 8 {
        0 => rest.to_vec(),
        kind if kind % 2 == 1 => damaged(Sound::Nested.bytes(), rest),
        _ => damaged(Sound::Flat.bytes(), rest),
    };
    check_places(&file);
    check_systems(&file);
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    ADDRESSES.iter().filter_map(|address| address.parse().ok())
}

fn check_places(file: &[u8]) {
    let database = match GeoDatabase::from_source(file) {
        Ok(database) => database,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(database.info().nodes > 0);
    assert!(!database.level().as_str().is_empty());
    for address in addresses() {
        let place = database.lookup(address);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        assert!(place.prefix_len <= bits, "{address}: {place:?}");
        // What was remembered is what was read.
        assert_eq!(database.lookup(address), place, "{address}");
        if let Some(location) = place.location {
            assert!(location.latitude.abs() <= 90.0 && location.longitude.abs() <= 180.0, "{address}: {place:?}");
        }
        if let Some(told) = database.describe(address) {
            assert!(told.network.contains(&address), "{address}: {told:?}");
            assert_eq!((told.location, told.country), (place.location, place.country), "{address}");
        }
    }
    // All of it is walked, and that ends.
    let networks = database.networks().count();
    assert!(networks >= database.count_records().min(1), "{networks} networks");
}

fn check_systems(file: &[u8]) {
    let database = match AsnDatabase::from_source(file) {
        Ok(database) => database,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for address in addresses() {
        if let Some(told) = database.describe(address) {
            assert!(told.network.contains(&address), "{address}: {told:?}");
        }
    }
    let all: BTreeSet<u32> = database.networks().map(|(_, asn)| asn).collect();
    assert_eq!(database.prefixes_of(&all).len(), database.networks().count());
}

/// The sound databases, and damages to their every part.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, sound) in [1, 2].into_iter().zip(SOUND) {
        let sound = sound.bytes();
        seeds.push(vec![kind]);
        seeds.push([&[0], sound].concat());
        for place in (0..sound.len()).step_by(97) {
            let [.., high, low] = place.to_be_bytes();
            seeds.push(vec![kind, high & 0x7f, low, 0, 0xff]);
            seeds.push(vec![kind, high | 0x80, low, 5, 0]);
        }
    }
    seeds
}
