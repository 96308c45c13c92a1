//! Where an address is: what one record of a database says, in the few words that steering needs.

use std::{fmt, str::FromStr};

use perigee_protocol::model::Location;

/// A country by its ISO 3166 alpha-2 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// A text is not two letters of A to Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a country's two letters (ISO 3166 alpha-2), upper-case")]
pub struct InvalidCountry;

impl Country {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        // Two ASCII letters by construction.
        std::str::from_utf8(&self.0).unwrap_or("??")
    }

    /// The two letters as bytes.
    pub fn bytes(self) -> [u8; 2] {
        self.0
    }
}

impl FromStr for Country {
    type Err = InvalidCountry;
    fn from_str(text: &str) -> Result<Self, InvalidCountry> {
        match text.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(InvalidCountry),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a database says of an address. Both `None`: it does not know the address, or its record is unusable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// `location.latitude` and `location.longitude` (or the flat ones), when both are there and on the globe; else the
    /// country's centre.
    pub location: Option<Location>,
    /// Whether `location` is [`Country::centre`]: the record says no more than the country.
    pub is_centre: bool,
    /// `country.iso_code` or the flat `country_code`, else `registered_country.iso_code`.
    pub country: Option<Country>,
    /// How many leading bits of the address as asked share this answer (also when nothing is known): 0..=32 for IPv4,
    /// 0..=128 for IPv6, IPv4-mapped addresses included.
    pub prefix_len: u8,
}

/// Whether a point is on the globe: finite, latitude -90..=90, longitude -180..=180.
pub(crate) fn on_the_globe(location: Location) -> bool {
    (-90.0..=90.0).contains(&location.latitude) && (-180.0..=180.0).contains(&location.longitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries() {
        assert_eq!("DE".parse::<Country>().unwrap().to_string(), "DE");
        for bad in ["", "D", "DEU", "de", "D1", "Ä", "*"] {
            assert_eq!(bad.parse::<Country>(), Err(InvalidCountry), "{bad}");
        }
    }
}
