//! The simulated world of `perigee demo` and of the compose file: a client's address tells its country.
//!
//! Telephone country code N is `127.N.0.0/16` on loopback and `198.18.N.0/24` in containers, for every country code of
//! one or two digits. Other addresses are nowhere: they get the document's default location.

use std::fmt::Write as _;

/// Which addresses stand for countries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoBase {
    /// `127.N.0.0/16`
    Loopback,
    /// `198.18.N.0/24`
    Compose,
}

impl DemoBase {
    /// The prefix of a telephone country code.
    pub fn prefix(self, code: u8) -> String {
        match self {
            Self::Loopback => format!("127.{code}.0.0/16"),
            Self::Compose => format!("198.18.{code}.0/24"),
        }
    }
}

/// One country of the simulated world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemoCountry {
    /// Telephone country code.
    pub code: u8,
    /// ISO 3166 alpha-2.
    pub country: &'static str,
    /// The capital or the largest city, whose place its clients have.
    pub city: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// The world as CSV for [`crate::build::build`].
pub fn demo_world(base: DemoBase) -> String {
    let mut csv = String::from("prefix,country,city,lat,lon,asn\n");
    for row in &DEMO_COUNTRIES {
        let DemoCountry { code, country, city, latitude, longitude } = row;
        // Of the numbers for private use (RFC 6996): 64512 to 65534.
        let asn = 64_512 + u32::from(*code);
        // Writing to a String cannot fail.
        _ = writeln!(csv, "{},{country},{city},{latitude},{longitude},{asn}", base.prefix(*code));
    }
    csv
}

const fn at(code: u8, country: &'static str, city: &'static str, latitude: f64, longitude: f64) -> DemoCountry {
    DemoCountry { code, country, city, latitude, longitude }
}

/// In order of code.
pub const DEMO_COUNTRIES: [DemoCountry; 46] = [
    at(1, "US", "New York", 40.71, -74.01),
    at(7, "RU", "Moscow", 55.76, 37.62),
    at(20, "EG", "Cairo", 30.04, 31.24),
    at(27, "ZA", "Johannesburg", -26.2, 28.05),
    at(30, "GR", "Athens", 37.98, 23.73),
    at(31, "NL", "Amsterdam", 52.37, 4.9),
    at(32, "BE", "Brussels", 50.85, 4.35),
    at(33, "FR", "Paris", 48.86, 2.35),
    at(34, "ES", "Madrid", 40.42, -3.7),
    at(36, "HU", "Budapest", 47.5, 19.04),
    at(39, "IT", "Rome", 41.9, 12.5),
    at(40, "RO", "Bucharest", 44.43, 26.1),
    at(41, "CH", "Zurich", 47.38, 8.54),
    at(43, "AT", "Vienna", 48.21, 16.37),
    at(44, "GB", "London", 51.51, -0.13),
    at(45, "DK", "Copenhagen", 55.68, 12.57),
    at(46, "SE", "Stockholm", 59.33, 18.07),
    at(47, "NO", "Oslo", 59.91, 10.75),
    at(48, "PL", "Warsaw", 52.23, 21.01),
    at(49, "DE", "Berlin", 52.52, 13.4),
    at(51, "PE", "Lima", -12.05, -77.04),
    at(52, "MX", "Mexico City", 19.43, -99.13),
    at(53, "CU", "Havana", 23.11, -82.37),
    at(54, "AR", "Buenos Aires", -34.6, -58.38),
    at(55, "BR", "Sao Paulo", -23.55, -46.63),
    at(56, "CL", "Santiago", -33.45, -70.67),
    at(57, "CO", "Bogota", 4.71, -74.07),
    at(58, "VE", "Caracas", 10.48, -66.9),
    at(60, "MY", "Kuala Lumpur", 3.15, 101.69),
    at(61, "AU", "Sydney", -33.87, 151.21),
    at(62, "ID", "Jakarta", -6.21, 106.85),
    at(63, "PH", "Manila", 14.6, 120.98),
    at(64, "NZ", "Auckland", -36.85, 174.76),
    at(65, "SG", "Singapore", 1.35, 103.82),
    at(66, "TH", "Bangkok", 13.76, 100.5),
    at(81, "JP", "Tokyo", 35.68, 139.69),
    at(82, "KR", "Seoul", 37.57, 126.98),
    at(84, "VN", "Hanoi", 21.03, 105.85),
    at(86, "CN", "Shanghai", 31.23, 121.47),
    at(90, "TR", "Istanbul", 41.01, 28.98),
    at(91, "IN", "Mumbai", 19.08, 72.88),
    at(92, "PK", "Karachi", 24.86, 67.01),
    at(93, "AF", "Kabul", 34.53, 69.17),
    at(94, "LK", "Colombo", 6.93, 79.85),
    at(95, "MM", "Yangon", 16.87, 96.2),
    at(98, "IR", "Tehran", 35.69, 51.39),
];

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{build, database::GeoDatabase};

    #[test]
    fn every_country_is_where_its_code_says() {
        for (base, host) in [(DemoBase::Loopback, "127.{}.200.1"), (DemoBase::Compose, "198.18.{}.9")] {
            let bytes = build::build(demo_world(base).as_bytes()).unwrap();
            let database = GeoDatabase::from_source(bytes).unwrap();
            for row in DEMO_COUNTRIES {
                let address: IpAddr = host.replace("{}", &row.code.to_string()).parse().unwrap();
                let found = database.describe(address).unwrap();
                assert_eq!(found.country.unwrap().as_str(), row.country, "{address}");
                assert_eq!(found.city.as_deref(), Some(row.city), "{address}");
                let location = found.location.unwrap();
                assert_eq!((location.latitude, location.longitude), (row.latitude, row.longitude), "{address}");
            }
            for nowhere in ["127.0.0.1", "127.200.0.1", "198.18.0.1", "198.19.49.1", "8.8.8.8"] {
                assert_eq!(database.lookup(nowhere.parse().unwrap()).location, None, "{nowhere}");
            }
        }
    }

    #[test]
    fn codes_rise_and_so_are_unique() {
        assert!(DEMO_COUNTRIES.is_sorted_by(|a, b| a.code < b.code));
    }
}
