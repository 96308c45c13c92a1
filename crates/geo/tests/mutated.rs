//! Databases that are damaged or malign: refused with a reason, or answering whatever is asked. Nothing panics, nothing
//! runs without end, and nothing grows with what a file only claims.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, net::IpAddr};

use mmdb_writer::{IpVersion, RecordSize, Value, Writer};
use perigee_geo::{asn::AsnDatabase, database::GeoDatabase};
use rand::{Rng, SeedableRng, rngs::StdRng};

const ADDRESSES: [&str; 9] = [
    "0.0.0.0",
    "10.20.30.40",
    "192.0.2.1",
    "255.255.255.255",
    "::",
    "::ffff:192.0.2.1",
    "2001:db8:5::1",
    "2002:c000:201::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// Asks both kinds of database all there is to ask. What they said of the file.
fn ask(file: &[u8]) -> [Result<usize, String>; 2] {
    let addresses = ADDRESSES.map(|address| address.parse::<IpAddr>().unwrap());
    let places = GeoDatabase::from_source(file).map_err(|error| error.to_string()).map(|database| {
        for address in addresses {
            let place = database.lookup(address);
            assert!(place.prefix_len <= if address.is_ipv4() { 32 } else { 128 }, "{address}: {place:?}");
            assert_eq!(database.lookup(address), place, "{address}");
            assert_eq!(place.is_centre, place.is_centre && place.location.is_some());
            if let Some(told) = database.describe(address) {
                assert!(told.network.contains(&address), "{address}: {told:?}");
                assert_eq!((told.location, told.country), (place.location, place.country), "{address}");
            }
        }
        let networks = database.networks().count();
        // Every node is walked a few times at most, and has two leaves.
        assert!(networks <= 16 * database.info().nodes as usize, "{networks} networks");
        assert!(database.count_records() <= networks);
        networks
    });
    let systems = AsnDatabase::from_source(file).map_err(|error| error.to_string()).map(|database| {
        for address in addresses {
            if let Some(system) = database.describe(address) {
                assert!(system.network.contains(&address) && system.asn != 0, "{address}: {system:?}");
            }
        }
        database.prefixes_of(&BTreeSet::from([1, 2, 3])).len()
    });
    [places, systems]
}

type Fields = Vec<(&'static str, Value)>;

fn nested(n: u32) -> Fields {
    let degrees = f64::from(n % 90);
    vec![
        ("country", Value::map([("iso_code", Value::from(if n.is_multiple_of(2) { "DE" } else { "JP" }))])),
        ("city", Value::map([("names", Value::map([("en", Value::from("A city"))]))])),
        ("location", Value::map([("latitude", Value::from(degrees)), ("longitude", Value::from(1.5))])),
        ("autonomous_system_number", Value::from(n % 4)),
    ]
}

fn flat(n: u32) -> Fields {
    vec![
        ("country_code", Value::from("AU")),
        ("city", Value::from("Brisbane")),
        ("latitude", Value::Float(n as f32 % 90.0)),
        ("longitude", Value::Float(153.0)),
        ("autonomous_system_number", Value::from(n)),
    ]
}

fn sound(fields: fn(u32) -> Fields, version: IpVersion, size: RecordSize) -> Vec<u8> {
    let mut writer =
        Writer::builder("Test-City").description(&[("en", "x")]).ip_version(version).record_size(size).build();
    for (n, prefix) in (0..).zip(["10.20.0.0/16", "10.21.0.0/16", "192.0.2.0/24", "192.0.2.128/25", "198.51.100.0/30"])
    {
        writer.insert_value(prefix.parse::<ipnet::IpNet>().unwrap(), Value::map(fields(n))).unwrap();
    }
    if version == IpVersion::V6 {
        writer.insert_value("2001:db8::/32".parse::<ipnet::IpNet>().unwrap(), Value::map(fields(9))).unwrap();
    }
    writer.to_bytes().unwrap()
}

fn find(file: &[u8], text: &[u8]) -> usize {
    file.windows(text.len()).rposition(|window| window == text).unwrap()
}

/// One or two damages, of kinds that such files are known to suffer or be made of.
fn damage(file: &mut Vec<u8>, chance: &mut StdRng) {
    let tree_bytes = find(file, &[0; 16]);
    let metadata = find(file, b"\xab\xcd\xefMaxMind.com");
    for _ in 0..chance.random_range(1..=2) {
        let len = file.len();
        if len == 0 {
            return;
        }
        let anywhere = chance.random_range(0..len);
        let in_tree = chance.random_range(0..tree_bytes);
        let in_data = chance.random_range(tree_bytes..metadata);
        let in_metadata = chance.random_range(metadata..metadata + 200);
        let mut set = |at: usize, byte: u8| file.iter_mut().skip(at).take(1).for_each(|place| *place = byte);
        match chance.random_range(0..9) {
            0 => set(anywhere, 1 << chance.random_range(0..8)),
            1 => set(anywhere, chance.random()),
            // Small numbers in the tree are other nodes: loops, and ways that meet.
            2 => (0..4).for_each(|next| set(in_tree + next, if next < 2 { 0 } else { chance.random_range(0..120) })),
            // Control bytes of pointers, maps, arrays, and long strings, and what they lead to.
            3 => set(in_data, [0x20, 0x28, 0x38, 0xFF, 0xE2, 0x5F, 0x00, 0x04][chance.random_range(0..8)]),
            4 => (0..3).for_each(|next| set(in_data + next, [0x20, 0x00, 0xFF][chance.random_range(0..3)])),
            5 => set(in_metadata, chance.random()),
            6 => file.truncate(anywhere),
            7 => drop(file.drain(anywhere..(anywhere + chance.random_range(1..40)).min(file.len()))),
            _ => {
                let again: Vec<u8> = file.iter().skip(in_data).take(chance.random_range(1..60)).copied().collect();
                file.splice(in_data.min(file.len())..in_data.min(file.len()), again);
            }
        }
    }
}

#[test]
fn mutated_files() {
    // By the seed, so that a failure can be had again.
    let mut chance = StdRng::seed_from_u64(4);
    let mut outcomes = [0_usize; 2];
    for (fields, version, size) in [
        (nested as fn(u32) -> Fields, IpVersion::V6, RecordSize::Bits24),
        (nested, IpVersion::V4, RecordSize::Bits28),
        (flat, IpVersion::V6, RecordSize::Bits28),
        (flat, IpVersion::V4, RecordSize::Bits32),
    ] {
        let sound = sound(fields, version, size);
        assert!(ask(&sound).iter().all(Result::is_ok), "{:?}", ask(&sound));
        for _ in 0..3_000 {
            let mut file = sound.clone();
            damage(&mut file, &mut chance);
            for said in ask(&file) {
                outcomes[usize::from(said.is_ok())] += 1;
                assert!(said.is_ok() || said.is_err_and(|reason| !reason.is_empty()));
            }
        }
    }
    // Neither does all go through, nor is all refused at the door: both ways are walked.
    let [refused, answered] = outcomes;
    assert!(refused > 1_000 && answered > 1_000, "{refused} refused, {answered} answered");
}

/// A file of these nodes (pairs of records; a leaf's is the count, 16, and an offset of `data`) with sound metadata.
fn raw(is_ipv6: bool, nodes: &[[u32; 2]], data: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[0x40 | text.len() as u8], text.as_bytes()].concat();
    let long = |number: u32| [&[0xC4], &number.to_be_bytes()[..]].concat();
    let version = if is_ipv6 { 6 } else { 4 };
    let empty_array = vec![0x00, 0x04];
    let metadata: [(&str, Vec<u8>); 9] = [
        ("binary_format_major_version", vec![0xA1, 2]),
        ("binary_format_minor_version", vec![0xA0]),
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text("Raw-City")),
        ("description", vec![0xE0]),
        ("ip_version", vec![0xA1, version]),
        ("languages", empty_array),
        ("node_count", long(nodes.len() as u32)),
        ("record_size", vec![0xA1, 32]),
    ];
    let mut file: Vec<u8> = nodes.iter().flatten().flat_map(|record| record.to_be_bytes()).collect();
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.push(0xE0 | metadata.len() as u8);
    for (name, value) in metadata {
        file.extend(text(name).into_iter().chain(value));
    }
    file
}

/// `{"country": {"iso_code": "DE"}}`
const GERMANY: &[u8] = b"\xE1\x47country\xE1\x48iso_code\x42DE";

#[test]
fn malign_files() {
    let check = |what: &str, file: Vec<u8>, expected: &str| match ask(&file) {
        [Err(reason), _] => assert!(!expected.is_empty() && reason.contains(expected), "{what}: {reason}"),
        [Ok(_), _] => assert!(expected.is_empty(), "{what}: is accepted"),
    };
    let one = |data: &[u8]| raw(false, &[[1 + 16, 1]], data);
    check("a sound one", one(GERMANY), "");
    check("a root that is its own child", raw(false, &[[0, 0]], GERMANY), "tangled");
    check("a loop further down", raw(true, &[[1, 2], [2, 2], [1, 1]], GERMANY), "tangled");
    let doubled: Vec<[u32; 2]> = (1..=100).map(|next| [next, next]).collect();
    check("2^100 ways", raw(true, &doubled, GERMANY), "tangled");
    let mut below_itself: Vec<[u32; 2]> = (1..=96).map(|next| [next, 200]).collect();
    below_itself.push([96, 96]);
    below_itself.resize(200, [200, 200]);
    check("IPv4 below itself", raw(true, &below_itself, GERMANY), "tangled");
    check("a leaf past the end", raw(false, &[[1 + 16 + 500, 1]], GERMANY), "points outside");
    check("a leaf in the separator", raw(false, &[[1 + 5, 1]], GERMANY), "points outside");

    // A record that is none is a miss; here it is all there is.
    check("a pointer to itself", one(&[0x20, 0x00]), "says where it is");
    check("pointers in a ring", one(&[0x20, 0x02, 0x20, 0x00]), "says where it is");
    let deep: Vec<u8> = std::iter::repeat_n([0xE1, 0x41, b'a'], 5_000).flatten().chain([0xA0]).collect();
    check("5,000 maps in each other", one(&deep), "says where it is");
    let deep: Vec<u8> = [&b"\xE1\x47country"[..], &deep].concat();
    check("5,000 maps in the country", one(&deep), "says where it is");
    check("a map of 16 million", one(&[0xFF, 0xFF, 0xFF, 0xFF, 0x41, b'a']), "damaged");
    check("an array of 16 million", one(&[0x1F, 0x04, 0xFF, 0xFF, 0xFF, 0xA0]), "damaged");
    check("a string of 16 million", one(&[0x5F, 0xFF, 0xFF, 0xFF]), "cut short");
    check("a bomb", one(&bomb(0)), "says where it is");
    let below_country = [&b"\xE1\x47country\x20\x0B"[..], &bomb(11)].concat();
    check("a bomb as the country", one(&below_country), "says where it is");
}

/// Thirty maps, each of which holds the next one twice: 2^30 values in 300 bytes, the first of them at `start`.
fn bomb(start: usize) -> Vec<u8> {
    let map = |number: usize| {
        let [high, low] = u16::try_from(start + 9 * (number + 1)).unwrap().to_be_bytes();
        [0xE2, 0x41, b'a', 0x20 | high, low, 0x41, b'b', 0x20 | high, low]
    };
    (0..30).flat_map(map).chain([0xE0]).collect()
}
