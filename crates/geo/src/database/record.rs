//! Records, in the shapes that databases come in; every field may be absent.

use maxminddb::LookupResult;
use perigee_protocol::model::Location;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::place::{Country, Place, on_the_globe};

/// Of how many records at load at least one must be usable.
pub(crate) const SAMPLED_RECORDS_MAX: usize = 256;

/// Where a record is: all that steering decodes.
#[derive(Deserialize)]
pub(super) struct Where<'a> {
    #[serde(borrow)]
    country: Option<CountryRecord<'a>>,
    #[serde(borrow)]
    registered_country: Option<CountryRecord<'a>>,
    location: Option<LocationRecord>,
    // The flat shape.
    country_code: Option<&'a str>,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

impl Where<'_> {
    /// Without the prefix.
    pub(super) fn place(&self) -> Place {
        let code = |country: &Option<CountryRecord<'_>>| -> Option<Country> {
            country.as_ref().and_then(|country| country.iso_code?.parse().ok())
        };
        let flat = || self.country_code.and_then(|code| code.parse().ok());
        let own = code(&self.country).or_else(flat);
        let nested = self.location.as_ref().and_then(|location| Some((location.latitude?, location.longitude?)));
        let location = nested.or(self.latitude.zip(self.longitude));
        let location = location.map(|(Degrees(latitude), Degrees(longitude))| Location { latitude, longitude });
        let location = location.filter(|location| on_the_globe(*location));
        // 1.1.1.1 and its like have only the country of whom they are registered to, which does not say where they are.
        let centre = own.filter(|_| location.is_none()).and_then(Country::centre);
        Place {
            location: location.or(centre),
            is_centre: centre.is_some(),
            country: own.or_else(|| code(&self.registered_country)),
            prefix_len: 0,
        }
    }
}

/// A double, or a float, which the flat shape has.
#[derive(Clone, Copy)]
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Degrees;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("degrees")
            }
            fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }
            fn visit_f32<E>(self, degrees: f32) -> Result<Degrees, E> {
                Ok(Degrees(degrees.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(Deserialize)]
struct CountryRecord<'a> {
    iso_code: Option<&'a str>,
}

#[derive(Deserialize)]
struct LocationRecord {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

/// What people may want to know beside the place.
#[derive(Default, Deserialize)]
pub(super) struct Details<'a> {
    #[serde(borrow)]
    city: Option<City<'a>>,
    #[serde(borrow)]
    location: Option<LocationDetails<'a>>,
    autonomous_system_number: Option<u32>,
    timezone: Option<&'a str>,
}

impl Details<'_> {
    pub(super) fn city(&self) -> Option<&str> {
        let name = match self.city.as_ref()? {
            City::Names(city) => city.names.en,
            City::Flat(name) => Some(*name),
        };
        name.filter(|name| !name.is_empty())
    }

    pub(super) fn accuracy_radius_km(&self) -> Option<u16> {
        self.location.as_ref()?.accuracy_radius
    }

    pub(super) fn time_zone(&self) -> Option<&str> {
        let nested = self.location.as_ref().and_then(|location| location.time_zone);
        nested.or(self.timezone).filter(|zone| !zone.is_empty())
    }

    pub(super) fn asn(&self) -> Option<u32> {
        self.autonomous_system_number
    }
}

enum City<'a> {
    Names(CityRecord<'a>),
    Flat(&'a str),
}

/// By hand, since `untagged` takes in the whole value first, all fields that nobody wants included: of one that holds
/// a pointer to itself, until the stack is full.
impl<'de: 'a, 'a> Deserialize<'de> for City<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = City<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a city")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<City<'de>, E> {
                Ok(City::Flat(name))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<City<'de>, A::Error> {
                CityRecord::deserialize(MapAccessDeserializer::new(map)).map(City::Names)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(Deserialize)]
struct CityRecord<'a> {
    #[serde(borrow, default)]
    names: Names<'a>,
}

#[derive(Default, Deserialize)]
struct Names<'a> {
    en: Option<&'a str>,
}

#[derive(Deserialize)]
struct LocationDetails<'a> {
    accuracy_radius: Option<u16>,
    time_zone: Option<&'a str>,
}

/// The autonomous system of a record, in MaxMind's and DB-IP's shape.
pub(crate) fn asn<S: AsRef<[u8]>>(found: &LookupResult<'_, S>) -> Option<u32> {
    #[derive(Deserialize)]
    struct Number {
        autonomous_system_number: Option<u32>,
    }
    // 0 is nobody's (RFC 7607); some databases mean by it that they do not know.
    found.decode::<Number>().ok()??.autonomous_system_number.filter(|number| *number != 0)
}
