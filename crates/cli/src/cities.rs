//! The eight cities of the demo: where its edges stand and what its site shows.

/// One city of the demo, with an edge in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct City {
    /// The PoP's id and the page's name.
    pub(crate) id: &'static str,
    /// As people write it.
    pub(crate) name: &'static str,
    /// ISO 3166 alpha-2.
    pub(crate) country: &'static str,
    /// As people write it.
    pub(crate) country_name: &'static str,
    /// The country's telephone code: clients of 127.CODE.0.0/16 are there.
    pub(crate) code: u8,
    /// Degrees north.
    pub(crate) latitude: f64,
    /// Degrees east.
    pub(crate) longitude: f64,
    /// The shield that serves this edge first.
    pub(crate) shield: &'static str,
    /// Where its clients go while it is down.
    pub(crate) fallback: &'static str,
    /// One sentence for its page.
    pub(crate) note: &'static str,
}

/// In the document's order. Frankfurt is the first: clients that are nowhere are taken to be there.
pub(crate) const CITIES: [City; 8] = [
    City {
        id: "fra",
        name: "Frankfurt",
        country: "DE",
        country_name: "Germany",
        code: 49,
        latitude: 50.11,
        longitude: 8.68,
        shield: "shield-west",
        fallback: "lon",
        note: "Towers beside a slow river, and most of a continent's cables in one basement.",
    },
    City {
        id: "lon",
        name: "London",
        country: "GB",
        country_name: "the United Kingdom",
        code: 44,
        latitude: 51.51,
        longitude: -0.13,
        shield: "shield-west",
        fallback: "fra",
        note: "Longitude nought, near enough: the place from which the others are measured.",
    },
    City {
        id: "nyc",
        name: "New York",
        country: "US",
        country_name: "the United States",
        code: 1,
        latitude: 40.71,
        longitude: -74.01,
        shield: "shield-west",
        fallback: "lon",
        note: "An old telegraph building full of light, still relaying messages.",
    },
    City {
        id: "gru",
        name: "São Paulo",
        country: "BR",
        country_name: "Brazil",
        code: 55,
        latitude: -23.55,
        longitude: -46.63,
        shield: "shield-west",
        fallback: "nyc",
        note: "Helicopters above, rivers below, and the ocean's cables an hour downhill.",
    },
    City {
        id: "jnb",
        name: "Johannesburg",
        country: "ZA",
        country_name: "South Africa",
        code: 27,
        latitude: -26.20,
        longitude: 28.05,
        shield: "shield-west",
        fallback: "fra",
        note: "A city of planted trees on a high plain, far from any sea.",
    },
    City {
        id: "sin",
        name: "Singapore",
        country: "SG",
        country_name: "Singapore",
        code: 65,
        latitude: 1.35,
        longitude: 103.82,
        shield: "shield-east",
        fallback: "tyo",
        note: "One degree from the equator, where ships and packets both change lanes.",
    },
    City {
        id: "tyo",
        name: "Tokyo",
        country: "JP",
        country_name: "Japan",
        code: 81,
        latitude: 35.68,
        longitude: 139.69,
        shield: "shield-east",
        fallback: "sin",
        note: "Thirty million people, and the last train is on time.",
    },
    City {
        id: "syd",
        name: "Sydney",
        country: "AU",
        country_name: "Australia",
        code: 61,
        latitude: -33.87,
        longitude: 151.21,
        shield: "shield-east",
        fallback: "sin",
        note: "A harbour with many arms, a long way from everything else on this list.",
    },
];

/// The shields of the demo and where they stand in words.
pub(crate) const SHIELDS: [&str; 2] = ["shield-west", "shield-east"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cities_are_unique_and_refer_to_each_other() {
        let ids: BTreeSet<_> = CITIES.iter().map(|city| city.id).collect();
        let codes: BTreeSet<_> = CITIES.iter().map(|city| city.code).collect();
        assert_eq!((ids.len(), codes.len()), (CITIES.len(), CITIES.len()));
        for city in &CITIES {
            assert!(ids.contains(city.fallback) && city.fallback != city.id, "{}", city.id);
            assert!(SHIELDS.contains(&city.shield), "{}", city.id);
        }
    }
}
