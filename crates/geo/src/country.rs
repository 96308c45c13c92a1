//! What is known of a country without any database: its continent, and a point to take its clients to be at when a
//! record says no more than the country.
//!
//! The point is where most people live, not the middle of the land: half of Canada's area is north of nearly all Canadians.
//! It is given in whole degrees, which is as much as can be meant. (The figures were written for this table.)

use perigee_protocol::model::Location;

use crate::place::Country;

/// A continent as MaxMind's databases count them: Russia and Cyprus are Europe's, Turkey and the Caucasus Asia's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Continent {
    /// Africa
    Af,
    /// Antarctica
    An,
    /// Asia
    As,
    /// Europe
    Eu,
    /// North America, with the Caribbean
    Na,
    /// Oceania
    Oc,
    /// South America
    Sa,
}

use Continent::{Af, An, As, Eu, Na, Oc, Sa};

impl Continent {
    /// Every continent, in the order of the codes.
    pub const ALL: [Self; 7] = [Af, An, As, Eu, Na, Oc, Sa];

    /// The code of two letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Af => "AF",
            An => "AN",
            As => "AS",
            Eu => "EU",
            Na => "NA",
            Oc => "OC",
            Sa => "SA",
        }
    }

    /// The continent of that code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|continent| continent.as_str() == code)
    }
}

impl Country {
    /// The continent it is counted to. None: not a country of ISO 3166.
    pub fn continent(self) -> Option<Continent> {
        self.row().map(|row| row.1)
    }

    /// Where its clients are taken to be when no more is known. None: not a country of ISO 3166.
    pub fn centre(self) -> Option<Location> {
        let (_, _, latitude, longitude) = *self.row()?;
        Some(Location { latitude: latitude.into(), longitude: longitude.into() })
    }

    fn row(self) -> Option<&'static Row> {
        let at = COUNTRIES.binary_search_by_key(&self.bytes(), |row| *row.0).ok()?;
        COUNTRIES.get(at)
    }
}

/// Every country with its continent.
pub(crate) fn all() -> impl Iterator<Item = (Country, Continent)> {
    let country = |code: &[u8; 2]| std::str::from_utf8(code).ok()?.parse().ok();
    COUNTRIES.iter().filter_map(move |row| Some((country(row.0)?, row.1)))
}

/// Code, continent, degrees north, degrees east.
type Row = (&'static [u8; 2], Continent, i8, i16);

/// In order of code.
const COUNTRIES: [Row; 250] = [
    (b"AD", Eu, 43, 2),
    (b"AE", As, 25, 55),
    (b"AF", As, 35, 69),
    (b"AG", Na, 17, -62),
    (b"AI", Na, 18, -63),
    (b"AL", Eu, 41, 20),
    (b"AM", As, 40, 45),
    (b"AO", Af, -10, 14),
    (b"AQ", An, -78, 167),
    (b"AR", Sa, -34, -60),
    (b"AS", Oc, -14, -171),
    (b"AT", Eu, 48, 15),
    (b"AU", Oc, -34, 148),
    (b"AW", Na, 13, -70),
    (b"AX", Eu, 60, 20),
    (b"AZ", As, 40, 49),
    (b"BA", Eu, 44, 18),
    (b"BB", Na, 13, -60),
    (b"BD", As, 24, 90),
    (b"BE", Eu, 51, 4),
    (b"BF", Af, 12, -2),
    (b"BG", Eu, 43, 25),
    (b"BH", As, 26, 51),
    (b"BI", Af, -3, 30),
    (b"BJ", Af, 7, 2),
    (b"BL", Na, 18, -63),
    (b"BM", Na, 32, -65),
    (b"BN", As, 5, 115),
    (b"BO", Sa, -17, -66),
    (b"BQ", Na, 12, -68),
    (b"BR", Sa, -20, -46),
    (b"BS", Na, 25, -77),
    (b"BT", As, 27, 90),
    (b"BV", An, -54, 3),
    (b"BW", Af, -24, 26),
    (b"BY", Eu, 54, 28),
    (b"BZ", Na, 17, -89),
    (b"CA", Na, 45, -80),
    (b"CC", As, -12, 97),
    (b"CD", Af, -5, 20),
    (b"CF", Af, 5, 18),
    (b"CG", Af, -4, 15),
    (b"CH", Eu, 47, 8),
    (b"CI", Af, 6, -5),
    (b"CK", Oc, -21, -160),
    (b"CL", Sa, -34, -71),
    (b"CM", Af, 5, 11),
    (b"CN", As, 32, 115),
    (b"CO", Sa, 5, -75),
    (b"CR", Na, 10, -84),
    (b"CU", Na, 22, -80),
    (b"CV", Af, 15, -23),
    (b"CW", Na, 12, -69),
    (b"CX", As, -10, 106),
    (b"CY", Eu, 35, 33),
    (b"CZ", Eu, 50, 15),
    (b"DE", Eu, 51, 9),
    (b"DJ", Af, 12, 43),
    (b"DK", Eu, 56, 11),
    (b"DM", Na, 15, -61),
    (b"DO", Na, 19, -70),
    (b"DZ", Af, 36, 3),
    (b"EC", Sa, -1, -79),
    (b"EE", Eu, 59, 25),
    (b"EG", Af, 30, 31),
    (b"EH", Af, 27, -13),
    (b"ER", Af, 15, 39),
    (b"ES", Eu, 40, -3),
    (b"ET", Af, 9, 39),
    (b"FI", Eu, 61, 25),
    (b"FJ", Oc, -18, 178),
    (b"FK", Sa, -52, -58),
    (b"FM", Oc, 7, 158),
    (b"FO", Eu, 62, -7),
    (b"FR", Eu, 48, 3),
    (b"GA", Af, 0, 10),
    (b"GB", Eu, 52, -1),
    (b"GD", Na, 12, -62),
    (b"GE", As, 42, 44),
    (b"GF", Sa, 5, -53),
    (b"GG", Eu, 49, -3),
    (b"GH", Af, 6, -1),
    (b"GI", Eu, 36, -5),
    (b"GL", Na, 64, -52),
    (b"GM", Af, 13, -17),
    (b"GN", Af, 10, -12),
    (b"GP", Na, 16, -62),
    (b"GQ", Af, 3, 9),
    (b"GR", Eu, 38, 23),
    (b"GS", An, -54, -37),
    (b"GT", Na, 15, -91),
    (b"GU", Oc, 13, 145),
    (b"GW", Af, 12, -15),
    (b"GY", Sa, 7, -58),
    (b"HK", As, 22, 114),
    (b"HM", An, -53, 73),
    (b"HN", Na, 15, -87),
    (b"HR", Eu, 45, 16),
    (b"HT", Na, 19, -72),
    (b"HU", Eu, 47, 19),
    (b"ID", As, -7, 109),
    (b"IE", Eu, 53, -7),
    (b"IL", As, 32, 35),
    (b"IM", Eu, 54, -5),
    (b"IN", As, 22, 79),
    (b"IO", As, -7, 72),
    (b"IQ", As, 33, 44),
    (b"IR", As, 35, 52),
    (b"IS", Eu, 64, -22),
    (b"IT", Eu, 43, 12),
    (b"JE", Eu, 49, -2),
    (b"JM", Na, 18, -77),
    (b"JO", As, 32, 36),
    (b"JP", As, 36, 138),
    (b"KE", Af, -1, 37),
    (b"KG", As, 42, 74),
    (b"KH", As, 12, 105),
    (b"KI", Oc, 1, 173),
    (b"KM", Af, -12, 43),
    (b"KN", Na, 17, -63),
    (b"KP", As, 39, 126),
    (b"KR", As, 37, 127),
    (b"KW", As, 29, 48),
    (b"KY", Na, 19, -81),
    (b"KZ", As, 47, 72),
    (b"LA", As, 18, 103),
    (b"LB", As, 34, 36),
    (b"LC", Na, 14, -61),
    (b"LI", Eu, 47, 10),
    (b"LK", As, 7, 80),
    (b"LR", Af, 6, -11),
    (b"LS", Af, -29, 28),
    (b"LT", Eu, 55, 24),
    (b"LU", Eu, 50, 6),
    (b"LV", Eu, 57, 24),
    (b"LY", Af, 32, 15),
    (b"MA", Af, 34, -7),
    (b"MC", Eu, 44, 7),
    (b"MD", Eu, 47, 29),
    (b"ME", Eu, 42, 19),
    (b"MF", Na, 18, -63),
    (b"MG", Af, -19, 47),
    (b"MH", Oc, 7, 171),
    (b"MK", Eu, 42, 21),
    (b"ML", Af, 13, -7),
    (b"MM", As, 19, 96),
    (b"MN", As, 48, 107),
    (b"MO", As, 22, 114),
    (b"MP", Oc, 15, 146),
    (b"MQ", Na, 15, -61),
    (b"MR", Af, 18, -15),
    (b"MS", Na, 17, -62),
    (b"MT", Eu, 36, 14),
    (b"MU", Af, -20, 58),
    (b"MV", As, 4, 73),
    (b"MW", Af, -14, 34),
    (b"MX", Na, 20, -100),
    (b"MY", As, 3, 102),
    (b"MZ", Af, -19, 35),
    (b"NA", Af, -21, 17),
    (b"NC", Oc, -22, 166),
    (b"NE", Af, 14, 5),
    (b"NF", Oc, -29, 168),
    (b"NG", Af, 8, 6),
    (b"NI", Na, 12, -86),
    (b"NL", Eu, 52, 5),
    (b"NO", Eu, 60, 10),
    (b"NP", As, 28, 85),
    (b"NR", Oc, -1, 167),
    (b"NU", Oc, -19, -170),
    (b"NZ", Oc, -39, 175),
    (b"OM", As, 23, 58),
    (b"PA", Na, 9, -80),
    (b"PE", Sa, -11, -77),
    (b"PF", Oc, -18, -150),
    (b"PG", Oc, -7, 146),
    (b"PH", As, 14, 121),
    (b"PK", As, 31, 72),
    (b"PL", Eu, 52, 20),
    (b"PM", Na, 47, -56),
    (b"PN", Oc, -25, -130),
    (b"PR", Na, 18, -66),
    (b"PS", As, 32, 35),
    (b"PT", Eu, 40, -9),
    (b"PW", Oc, 7, 134),
    (b"PY", Sa, -25, -57),
    (b"QA", As, 25, 51),
    (b"RE", Af, -21, 55),
    (b"RO", Eu, 45, 26),
    (b"RS", Eu, 45, 20),
    (b"RU", Eu, 56, 42),
    (b"RW", Af, -2, 30),
    (b"SA", As, 24, 45),
    (b"SB", Oc, -9, 160),
    (b"SC", Af, -5, 55),
    (b"SD", Af, 15, 32),
    (b"SE", Eu, 59, 16),
    (b"SG", As, 1, 104),
    (b"SH", Af, -16, -6),
    (b"SI", Eu, 46, 15),
    (b"SJ", Eu, 78, 16),
    (b"SK", Eu, 48, 19),
    (b"SL", Af, 8, -13),
    (b"SM", Eu, 44, 12),
    (b"SN", Af, 15, -17),
    (b"SO", Af, 3, 45),
    (b"SR", Sa, 6, -55),
    (b"SS", Af, 6, 31),
    (b"ST", Af, 0, 7),
    (b"SV", Na, 14, -89),
    (b"SX", Na, 18, -63),
    (b"SY", As, 34, 37),
    (b"SZ", Af, -26, 31),
    (b"TC", Na, 22, -72),
    (b"TD", Af, 12, 16),
    (b"TF", An, -49, 70),
    (b"TG", Af, 7, 1),
    (b"TH", As, 14, 101),
    (b"TJ", As, 38, 69),
    (b"TK", Oc, -9, -172),
    (b"TL", Oc, -9, 126),
    (b"TM", As, 38, 59),
    (b"TN", Af, 36, 10),
    (b"TO", Oc, -21, -175),
    (b"TR", As, 40, 32),
    (b"TT", Na, 11, -61),
    (b"TV", Oc, -9, 179),
    (b"TW", As, 25, 121),
    (b"TZ", Af, -6, 37),
    (b"UA", Eu, 49, 31),
    (b"UG", Af, 1, 32),
    (b"UM", Oc, 19, 167),
    (b"US", Na, 38, -92),
    (b"UY", Sa, -35, -56),
    (b"UZ", As, 41, 68),
    (b"VA", Eu, 42, 12),
    (b"VC", Na, 13, -61),
    (b"VE", Sa, 10, -68),
    (b"VG", Na, 18, -65),
    (b"VI", Na, 18, -65),
    (b"VN", As, 16, 107),
    (b"VU", Oc, -17, 168),
    (b"WF", Oc, -13, -176),
    (b"WS", Oc, -14, -172),
    (b"XK", Eu, 43, 21),
    (b"YE", As, 15, 45),
    (b"YT", Af, -13, 45),
    (b"ZA", Af, -28, 28),
    (b"ZM", Af, -15, 28),
    (b"ZW", Af, -18, 31),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{distance, place::on_the_globe, world::DEMO_COUNTRIES};

    #[test]
    fn the_table_is_in_order_and_on_the_globe() {
        assert!(COUNTRIES.is_sorted_by(|a, b| a.0 < b.0));
        for row in COUNTRIES {
            let country: Country = std::str::from_utf8(row.0).unwrap().parse().unwrap();
            assert!(country.centre().is_some_and(on_the_globe), "{country}");
            assert_eq!(country.continent(), Some(row.1));
        }
        for nobody in ["AA", "EU", "ZZ", "XX", "AP"] {
            let country: Country = nobody.parse().unwrap();
            assert_eq!((country.centre(), country.continent()), (None, None), "{nobody}");
        }
    }

    /// The largest city of a country is not on another side of the Earth.
    #[test]
    fn the_demo_agrees() {
        for row in DEMO_COUNTRIES {
            let centre = row.country.parse::<Country>().unwrap().centre().unwrap();
            let km = distance::km(centre, Location { latitude: row.latitude, longitude: row.longitude });
            assert!(km < 2_000.0, "{}: {km} km from {}", row.country, row.city);
        }
    }

    #[test]
    fn continents_by_code() {
        for continent in Continent::ALL {
            assert_eq!(Continent::of_code(continent.as_str()), Some(continent));
        }
        assert_eq!(Continent::of_code("eu"), None);
    }
}
