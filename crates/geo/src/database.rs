//! A MaxMind City database over bytes: GeoLite2-City, GeoIP2-City, and whatever else has their shape.
//!
//! The bytes are checked once, at load (see [`Damage`]); after that no lookup fails: a record that cannot be used is a
//! miss. A file must be replaced, never written in place, while it is mapped.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use maxminddb::{LookupResult, Reader, WithinOptions};
use perigee_protocol::model::Location;
use serde::Deserialize;

pub use crate::verify::Damage;
use crate::{
    place::{Country, Place, on_the_globe},
    verify,
};

mod cache;
#[cfg(test)]
mod tests;

use cache::PlaceCache;

/// Of how many records at load at least one must be usable.
const SAMPLED_RECORDS_MAX: usize = 256;
/// An IPv4 address is the last 32 bits of an IPv4-mapped one (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_LEN: u8 = 96;

/// Why bytes are no database of cities.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Truncated or damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The reader of the format refuses the metadata.
    #[error("its metadata are not understood: {0}")]
    Metadata(String),
    /// Another kind of database.
    #[error("is a {found:?} database; steering needs one of cities (GeoLite2-City, GeoIP2-City or of their shape)")]
    NotCities {
        /// `database_type` of its metadata.
        found: String,
    },
    /// Nothing of what was sampled says where it is.
    #[error(
        "none of {sampled} sampled records holds location.latitude or country.iso_code: not of MaxMind's City shape"
    )]
    NoPlaces {
        /// How many.
        sampled: usize,
    },
}

/// What a database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// `database_type`, say `GeoLite2-City`.
    pub kind: String,
    /// When it was built, in seconds since the Unix epoch.
    pub built_at_s: u64,
    /// 4 or 6; one of 6 holds IPv4 too.
    pub ip_version: u16,
    /// Nodes of the search tree.
    pub nodes: u32,
}

/// A checked database. `S` is a `Vec` in tests and a mapped file in production.
#[derive(Debug)]
pub struct GeoDatabase<S: AsRef<[u8]>> {
    reader: Reader<S>,
    info: DatabaseInfo,
    cache: PlaceCache,
}

/// All that people may want to know of an address; for `perigee geo lookup` and explanations, not for the hot path.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The record's prefix.
    pub network: IpNet,
    /// As [`Place::country`].
    pub country: Option<Country>,
    /// `city.names.en`.
    pub city: Option<String>,
    /// As [`Place::location`].
    pub location: Option<Location>,
    /// `location.accuracy_radius`, in kilometres.
    pub accuracy_radius_km: Option<u16>,
    /// `location.time_zone`.
    pub time_zone: Option<String>,
    /// `autonomous_system_number`, which `perigee geo build` writes beside the city.
    pub asn: Option<u32>,
}

impl<S: AsRef<[u8]>> GeoDatabase<S> {
    /// Takes the bytes of a database after checking them.
    pub fn from_source(source: S) -> Result<Self, DatabaseError> {
        let info = inspect(source.as_ref())?;
        let reader = Reader::from_source(source).map_err(|error| DatabaseError::Metadata(error.to_string()))?;
        Ok(Self { reader, info, cache: PlaceCache::new() })
    }

    /// What it says of itself.
    pub fn info(&self) -> &DatabaseInfo {
        &self.info
    }

    /// How many different records the tree points to. Walks all of it: for people who wait, not for servers.
    pub fn count_records(&self) -> usize {
        let networks = self.reader.networks(WithinOptions::default()).into_iter().flatten();
        networks.filter_map(|found| found.ok()?.offset()).collect::<HashSet<_>>().len()
    }

    /// Where an address is. IPv4-mapped IPv6 addresses are looked up as IPv4.
    ///
    /// A record that was decoded before is usually remembered: then this is the walk down the tree and a few loads.
    pub fn lookup(&self, address: IpAddr) -> Place {
        let Some((found, prefix_len)) = self.find(address) else { return Place::default() };
        let Some(offset) = found.offset() else { return Place { prefix_len, ..Place::default() } };
        if let Some((location, country)) = self.cache.get(offset) {
            return Place { location, country, prefix_len };
        }
        let (location, country) =
            found.decode::<Record<'_>>().ok().flatten().map_or((None, None), |record| record.place());
        self.cache.put(offset, location, country);
        Place { location, country, prefix_len }
    }

    /// Everything of interest that the record of an address says. None: there is no record.
    pub fn describe(&self, address: IpAddr) -> Option<Description> {
        let (found, prefix_len) = self.find(address)?;
        let record = found.decode::<Record<'_>>().ok()??;
        let (location, country) = record.place();
        let details = record.location.as_ref();
        Some(Description {
            network: IpNet::new(address, prefix_len).ok()?.trunc(),
            country,
            city: record.city.as_ref().and_then(|city| city.names.en).map(str::to_owned),
            location,
            accuracy_radius_km: details.and_then(|location| location.accuracy_radius),
            time_zone: details.and_then(|location| location.time_zone).map(str::to_owned),
            asn: record.autonomous_system_number,
        })
    }

    /// The reader's result and how many bits of `address` led to it. None: an IPv6 address in a database of IPv4, whose
    /// answer is the same for all.
    fn find(&self, address: IpAddr) -> Option<(LookupResult<'_, S>, u8)> {
        let canonical = address.to_canonical();
        let found = self.reader.lookup(canonical).ok()?;
        let prefix_len = match found.network().ok()? {
            network if network.is_ipv4() == canonical.is_ipv4() => network.prefix(),
            // An IPv6 record shorter than ::/96 covers all of IPv4.
            _ => 0,
        };
        // Not a bit of the 96 before it may differ: another address there is no IPv4-mapped one.
        let is_mapped = canonical.is_ipv4() && address.is_ipv6();
        Some((found, if is_mapped { MAPPED_PREFIX_LEN + prefix_len } else { prefix_len }))
    }
}

fn inspect(file: &[u8]) -> Result<DatabaseInfo, DatabaseError> {
    verify::metadata_marker(file)?;
    let reader = Reader::from_source(file).map_err(|error| DatabaseError::Metadata(error.to_string()))?;
    let metadata = reader.metadata();
    let kind = metadata.database_type.clone();
    // MaxMind's name for City with more fields is Enterprise.
    if !["City", "Enterprise"].iter().any(|shape| kind.contains(shape)) {
        return Err(DatabaseError::NotCities { found: kind });
    }
    let nodes = metadata.node_count;
    verify::walk(file, nodes, metadata.record_size)?;
    sample(&reader)?;
    Ok(DatabaseInfo { kind, built_at_s: metadata.build_epoch, ip_version: metadata.ip_version, nodes })
}

/// A file may call itself City and hold other fields: then every client would silently be at the default place.
fn sample(reader: &Reader<&[u8]>) -> Result<(), DatabaseError> {
    let mut sampled = 0;
    let networks =
        reader.networks(WithinOptions::default()).map_err(|error| DatabaseError::Metadata(error.to_string()))?;
    for found in networks.flatten().take(SAMPLED_RECORDS_MAX) {
        sampled += 1;
        if let Ok(Some(record)) = found.decode::<Record<'_>>()
            && record.place() != (None, None)
        {
            return Ok(());
        }
    }
    Err(DatabaseError::NoPlaces { sampled })
}

/// The fields of MaxMind's City shape that we use; all may be absent.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<CountryRecord<'a>>,
    #[serde(borrow)]
    registered_country: Option<CountryRecord<'a>>,
    #[serde(borrow)]
    city: Option<CityRecord<'a>>,
    #[serde(borrow)]
    location: Option<LocationRecord<'a>>,
    autonomous_system_number: Option<u32>,
}

impl Record<'_> {
    fn place(&self) -> (Option<Location>, Option<Country>) {
        // 1.1.1.1 and its like have only the country of whom they are registered to.
        let countries = [&self.country, &self.registered_country].into_iter().flatten();
        let country = countries.filter_map(|country| country.iso_code?.parse().ok()).next();
        let location = self.location.as_ref().and_then(|location| {
            let location = Location { latitude: location.latitude?, longitude: location.longitude? };
            Some(location).filter(|location| on_the_globe(*location))
        });
        (location, country)
    }
}

#[derive(Deserialize)]
struct CountryRecord<'a> {
    iso_code: Option<&'a str>,
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
struct LocationRecord<'a> {
    latitude: Option<f64>,
    longitude: Option<f64>,
    accuracy_radius: Option<u16>,
    time_zone: Option<&'a str>,
}
