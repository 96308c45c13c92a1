//! A database of places over bytes: MaxMind's City and Country shapes (GeoLite2, GeoIP2, DB-IP), and the flat one in which
//! DB-IP's data are passed on too (`country_code`, `latitude`, `longitude`, `city`).
//!
//! The bytes are checked once, at load (see [`Damage`]); after that no lookup fails: a record that cannot be used is a
//! miss. A file must be replaced, never written in place, while it is mapped.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use maxminddb::LookupResult;
use perigee_protocol::model::Location;

use crate::place::{Country, Place};
pub use crate::verify::Damage;

mod cache;
pub(crate) mod checked;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use cache::PlaceCache;
use checked::Checked;
use record::{Details, SAMPLED_RECORDS_MAX, Where};

/// Why bytes are no database that serves.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Truncated or damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The reader of the format refuses the metadata.
    #[error("its metadata are not understood: {0}")]
    Metadata(String),
    /// Nothing of what was sampled says where it is.
    #[error(
        "none of {sampled} sampled records of this {kind:?} database says where it is (location.latitude, country.iso_code, \
         latitude, country_code){hint}"
    )]
    NoPlaces {
        /// How many.
        sampled: usize,
        /// `database_type` of its metadata.
        kind: String,
        /// What it may be for.
        hint: &'static str,
    },
    /// Nothing of what was sampled says of which autonomous system it is.
    #[error("none of {sampled} sampled records of this {kind:?} database holds an autonomous_system_number")]
    NoSystems {
        /// How many.
        sampled: usize,
        /// `database_type` of its metadata.
        kind: String,
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

/// How well a database knows where addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Its records have places.
    City,
    /// They have countries only, whose clients are taken to be where most people of the country are
    /// ([`Country::centre`]).
    Country,
}

impl Level {
    /// The word in logs and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Country => "country",
        }
    }
}

/// A checked database. `S` is a `Vec` in tests and a mapped file in production.
#[derive(Debug)]
pub struct GeoDatabase<S: AsRef<[u8]>> {
    checked: Checked<S>,
    level: Level,
    cache: PlaceCache,
}

/// All that people may want to know of an address; for `perigee geo lookup` and explanations, not for the hot path.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The record's prefix.
    pub network: IpNet,
    /// As [`Place::country`].
    pub country: Option<Country>,
    /// `city.names.en`, or the flat `city`.
    pub city: Option<String>,
    /// As [`Place::location`].
    pub location: Option<Location>,
    /// As [`Place::is_centre`].
    pub is_centre: bool,
    /// `location.accuracy_radius`, in kilometres.
    pub accuracy_radius_km: Option<u16>,
    /// `location.time_zone`, or the flat `timezone`.
    pub time_zone: Option<String>,
    /// `autonomous_system_number`, which `perigee geo build` writes beside the city.
    pub asn: Option<u32>,
}

impl<S: AsRef<[u8]>> GeoDatabase<S> {
    /// Takes the bytes of a database after checking them.
    pub fn from_source(source: S) -> Result<Self, DatabaseError> {
        let checked = Checked::from_source(source)?;
        let level = level(&checked)?;
        Ok(Self { checked, level, cache: PlaceCache::new() })
    }

    /// What it says of itself.
    pub fn info(&self) -> &DatabaseInfo {
        self.checked.info()
    }

    /// How well it knows, by its first records.
    pub fn level(&self) -> Level {
        self.level
    }

    /// How many different records the tree points to. Walks all of it: for people who wait, not for servers.
    pub fn count_records(&self) -> usize {
        self.checked.networks().filter_map(|(_, found)| found.offset()).collect::<HashSet<_>>().len()
    }

    /// Every network that has a record, in order of address (IPv4 once, as IPv4), and its place. For people who wait.
    pub fn networks(&self) -> impl Iterator<Item = (IpNet, Place)> {
        self.checked.networks().map(|(network, found)| (network, self.place(&found, network.prefix_len())))
    }

    /// Where an address is. IPv4-mapped IPv6 addresses are looked up as IPv4.
    ///
    /// A record that was decoded before is usually remembered: then this is the walk down the tree and a few loads.
    pub fn lookup(&self, address: IpAddr) -> Place {
        let Some((found, prefix_len)) = self.checked.find(address) else { return Place::default() };
        self.place(&found, prefix_len)
    }

    fn place(&self, found: &LookupResult<'_, S>, prefix_len: u8) -> Place {
        let Some(offset) = found.offset() else { return Place { prefix_len, ..Place::default() } };
        if let Some(place) = self.cache.get(offset) {
            return Place { prefix_len, ..place };
        }
        let place = found.decode::<Where<'_>>().ok().flatten().map_or_else(Place::default, |record| record.place());
        self.cache.put(offset, &place);
        Place { prefix_len, ..place }
    }

    /// Everything of interest that the record of an address says. None: there is no record.
    pub fn describe(&self, address: IpAddr) -> Option<Description> {
        let (found, prefix_len) = self.checked.find(address)?;
        let place = found.decode::<Where<'_>>().ok()??.place();
        // What is told beside the place may be of any shape.
        let details = found.decode::<Details<'_>>().ok().flatten().unwrap_or_default();
        Some(Description {
            network: IpNet::new(address, prefix_len).ok()?.trunc(),
            country: place.country,
            city: details.city().map(str::to_owned),
            location: place.location,
            is_centre: place.is_centre,
            accuracy_radius_km: details.accuracy_radius_km(),
            time_zone: details.time_zone().map(str::to_owned),
            asn: details.asn(),
        })
    }
}

/// A file may call itself City and hold other fields: then every client would silently be at the default place.
fn level<S: AsRef<[u8]>>(checked: &Checked<S>) -> Result<Level, DatabaseError> {
    let (mut sampled, mut has_country, mut has_system) = (0, false, false);
    for (_, found) in checked.networks().take(SAMPLED_RECORDS_MAX) {
        sampled += 1;
        let place = found.decode::<Where<'_>>().ok().flatten().map_or_else(Place::default, |record| record.place());
        if place.location.is_some() && !place.is_centre {
            return Ok(Level::City);
        }
        has_country |= place.country.is_some();
        has_system |= record::asn(&found).is_some();
    }
    if has_country {
        return Ok(Level::Country);
    }
    let hint = if has_system { "; it tells autonomous systems: name it as geo.asn_database" } else { "" };
    Err(DatabaseError::NoPlaces { sampled, kind: checked.info().kind.clone(), hint })
}
