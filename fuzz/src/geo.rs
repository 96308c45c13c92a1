//! Databases of any bytes: refused with a reason, or answering every lookup.
//!
//! A database is too long to be found by chance, so that an input is a list of damages to a sound one.

use std::{net::IpAddr, sync::OnceLock};

use perigee_geo::{build, database::GeoDatabase};

const WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.49.0.0/16,DE,Berlin,52.52,13.40,64500
127.61.0.0/16,AU,Canberra,-35.28,149.13,
127.55.3.0/24,BR,,,,64501
127.86.0.0/16,CN,Beijing,39.90,116.40,
2001:db8:61::/48,AU,Canberra,-35.28,149.13,
2001:db8:49::/48,DE,,,,
";

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

fn sound() -> &'static [u8] {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| build::build(WORLD.as_bytes()).unwrap_or_else(|errors| panic!("{errors}")))
}

/// The sound database with an input's damages: four bytes each, a place, what happens there, and a value.
fn damaged(input: &[u8]) -> Vec<u8> {
    let mut file = sound().to_vec();
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

/// Laws of databases: the first byte says whether the rest is a file itself or damages to a sound one.
pub fn check(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let file = if kind % 8 == 0 { rest.to_vec() } else { damaged(rest) };
    let database = match GeoDatabase::from_source(file.clone()) {
        Ok(database) => database,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(!database.info().kind.is_empty());
    for address in ADDRESSES.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
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
}

/// The sound database, and damages to its every part.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![1], [&[0], sound()].concat()];
    for place in (0..sound().len()).step_by(97) {
        let [.., high, low] = place.to_be_bytes();
        seeds.push(vec![1, high & 0x7f, low, 0, 0xff]);
        seeds.push(vec![1, high | 0x80, low, 5, 0]);
    }
    seeds
}
