use std::net::IpAddr;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::database::GeoDatabase;

fn check(csv: &str, expected: Expect) {
    expected.assert_eq(&build(csv.as_bytes()).map(|_| ()).unwrap_err().to_string());
}

#[test]
fn every_mistake_is_told() {
    check("", expect!["line 1: must name the columns, of which prefix must be there"]);
    check("prefix,country\n", expect!["line 0: holds no prefix: a database needs at least one line"]);
    check(
        "prefix,land,prefix\n192.0.2.0/24,DE,x\n",
        expect![[r#"
        line 1: column "land" is none of prefix, country, city, lat, lon, asn
        line 1: column "prefix" is named twice"#]],
    );
    check("country,city\nDE,Berlin\n", expect!["line 1: must name the columns, of which prefix must be there"]);
    check(
        "prefix,country,city,lat,lon,asn\n\
         192.0.2.0/24,DE,Berlin,52.5,13.4,1\n\
         192.0.2.0,DE,Berlin,52.5,13.4,1\n\
         192.0.2.1/24,DE,Berlin,52.5,13.4,1\n\
         # a remark\n\
         \n\
         192.0.2.0/33,de,Berlin,north,13.4,-1\n\
         198.51.100.0/24,DE,Berlin,52.5,,\n\
         198.51.100.0/24,DE,Berlin,91,13.4,\n\
         198.51.100.0/24,DE,Berlin,NaN,13.4,\n\
         198.51.100.0/24,DE\n\
         192.0.2.0/24,DE,Berlin,52.5,13.4,1\n",
        expect![[r#"
            line 3: prefix = "192.0.2.0": must be a prefix like 192.0.2.0/24 or 2001:db8::/32
            line 4: prefix = 192.0.2.1/24: has bits past its length; write 192.0.2.0/24
            line 7: prefix = "192.0.2.0/33": must be a prefix like 192.0.2.0/24 or 2001:db8::/32
            line 7: country = "de": must be two upper-case letters (ISO 3166 alpha-2), or nothing
            line 7: asn = "-1": must be a number of 0..=4294967295, or nothing
            line 7: lat = "north": must be degrees north, -90..=90, or nothing
            line 8: lat and lon: must be given together
            line 9: lat, lon = 91, 13.4: must be within -90..=90, -180..=180
            line 10: lat, lon = NaN, 13.4: must be within -90..=90, -180..=180
            line 11: has 2 fields where the header names 6
            line 12: prefix = 192.0.2.0/24 is in line 2 already"#]],
    );
    check(
        "prefix,country\n::ffff:0:0/96,DE\n2001::/40,DE\n2002::/16,DE\n192.0.2.0/24,DE\n",
        expect![[r#"
        line 2: prefix = ::ffff:0.0.0.0/96: cannot insert into aliased network ::ffff:0.0.0.0/96
        line 3: prefix = 2001::/40: cannot insert into aliased network 2001::/40
        line 4: prefix = 2002::/16: cannot insert into aliased network 2002::/16"#]],
    );
    let latin = build(&b"prefix,city\n192.0.2.0/24,S\xe3o Paulo\n198.51.100.0/24,x\n192.0.2.0/99,x\n"[..]).unwrap_err();
    expect![[r#"
        line 2: is not UTF-8
        line 4: prefix = "192.0.2.0/99": must be a prefix like 192.0.2.0/24 or 2001:db8::/32"#]]
    .assert_eq(&latin.to_string());
}

#[test]
fn fields_may_be_empty_and_columns_in_any_order() {
    let csv = "lon, lat , prefix, city\n13.4,52.5, 192.0.2.0/24 ,\"Berlin, Mitte\"\n,,198.51.100.0/24,\n";
    let database = GeoDatabase::from_source(build(csv.as_bytes()).unwrap()).unwrap();
    let described = database.describe("192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!((described.city.as_deref(), described.country, described.asn), (Some("Berlin, Mitte"), None, None));
    assert_eq!(described.location, Some(Location { latitude: 52.5, longitude: 13.4 }));
    assert_eq!(database.describe("198.51.100.1".parse().unwrap()).unwrap().city, None);
}

#[test]
fn the_same_csv_gives_the_same_bytes() {
    let csv = "prefix,city\n192.0.2.0/24,a\n198.51.100.0/24,b\n2001:db8::/32,a\n";
    assert_eq!(build(csv.as_bytes()), build(csv.as_bytes()));
    let dated = build_at(csv.as_bytes(), 1_700_000_000).unwrap();
    assert_eq!(maxminddb::Reader::from_source(&dated).unwrap().metadata().build_epoch, 1_700_000_000);
    maxminddb::Reader::from_source(&dated).unwrap().verify().unwrap();
}

/// What other readers of MaxMind's City shape see.
#[test]
fn other_readers_read_it() {
    let csv = "prefix,country,city,lat,lon,asn\n192.0.2.0/24,DE,Berlin,52.5,13.4,64512\n";
    let bytes = build(csv.as_bytes()).unwrap();
    let reader = maxminddb::Reader::from_source(&bytes).unwrap();
    let city: maxminddb::geoip2::City<'_> =
        reader.lookup("192.0.2.1".parse().unwrap()).unwrap().decode().unwrap().unwrap();
    assert_eq!(city.country.iso_code, Some("DE"));
    assert_eq!(city.city.names.english, Some("Berlin"));
    assert_eq!((city.location.latitude, city.location.longitude), (Some(52.5), Some(13.4)));
    let asn: maxminddb::geoip2::Asn<'_> =
        reader.lookup("192.0.2.1".parse().unwrap()).unwrap().decode().unwrap().unwrap();
    assert_eq!(asn.autonomous_system_number, Some(64_512));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The longest prefix holds, in whatever order the lines stand.
    #[test]
    fn equals_brute_force(rows in prop::collection::vec((0..=255_u8, 8..=32_u8, 0..90_u16), 1..30), third: [u8; 8]) {
        let mut csv = "prefix,lat,lon\n".to_owned();
        let mut nets: Vec<(IpNet, f64)> = Vec::new();
        for (part, len, degrees) in rows {
            let net = IpNet::new(IpAddr::from([10, part & 3, part, 0]), len).unwrap().trunc();
            if nets.iter().all(|(known, _)| *known != net) {
                csv += &format!("{net},{degrees},1\n");
                nets.push((net, f64::from(degrees)));
            }
        }
        let database = GeoDatabase::from_source(build(csv.as_bytes()).unwrap()).unwrap();
        for part in third {
            let address = IpAddr::from([10, part & 3, part, part]);
            let brute = nets.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
            let place = database.lookup(address);
            prop_assert_eq!(place.location.map(|at| at.latitude), brute.map(|(_, latitude)| *latitude));
        }
    }
}
