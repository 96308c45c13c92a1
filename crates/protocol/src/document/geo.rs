//! `[geo]`: prefixes, places, steering.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    fleet::{KnownPops, path},
    limits::{ANSWERS_MAX, OVERRIDE_ASNS_MAX, OVERRIDE_PREFIXES_MAX, OVERRIDES_MAX, POPS_MAX},
    names,
    read::Table,
    value::{Seen, Value},
};
use crate::{
    id::PopId,
    model::{Geo, GeoOverride, Location, OverrideTarget, Steering},
};

/// What holds where the document has no `[geo]`.
pub(crate) fn nowhere() -> Geo {
    Geo {
        database: None,
        asn_database: None,
        default_location: None,
        overrides: Vec::new(),
        steering: steering_default(),
    }
}

const ANSWERS_DEFAULT: u64 = 2;

fn steering_default() -> Steering {
    Steering { answers: ANSWERS_DEFAULT as usize, bias: BTreeMap::new(), fence: BTreeMap::new() }
}

pub(crate) fn geo(value: &Value<'_>, pops: &KnownPops<'_>) -> Option<Geo> {
    let mut table = value.table()?;
    let database = table.maybe("database", path);
    let asn_database = table.maybe("asn_database", path);
    let default_location = table.maybe("default_location", |value| location(&mut value.table()?));
    let mut seen = SeenClients { has_asn_database: !matches!(asn_database, Some(None)), ..SeenClients::default() };
    let overrides: Vec<_> =
        table.tables("override", 0..=OVERRIDES_MAX).iter().map(|value| one_override(value, pops, &mut seen)).collect();
    let has_asns = seen.has_asn_database;
    let steering = table.or("steering", steering_default(), "answers = 2", |value| steering(value, pops, has_asns));
    Some(Geo {
        database: database?,
        asn_database: asn_database?,
        default_location: default_location?,
        overrides: overrides.into_iter().collect::<Option<_>>()?,
        steering: steering?,
    })
}

/// `latitude` and `longitude` of a table.
pub(crate) fn location(table: &mut Table<'_>) -> Option<Location> {
    let latitude =
        table.must("latitude", "50.11", |value| value.number("-90 to 90 degrees", |degrees| degrees.abs() <= 90.0));
    let longitude =
        table.must("longitude", "8.68", |value| value.number("-180 to 180 degrees", |degrees| degrees.abs() <= 180.0));
    Some(Location { latitude: latitude?, longitude: longitude? })
}

/// Whom overrides have named until now.
#[derive(Default)]
struct SeenClients {
    prefixes: Seen<IpNet>,
    asns: Seen<u32>,
    /// Or one that cannot be read, which is told already.
    has_asn_database: bool,
}

fn one_override(value: &Value<'_>, pops: &KnownPops<'_>, seen: &mut SeenClients) -> Option<GeoOverride> {
    let mut table = value.table()?;
    let prefixes = table.maybe("prefixes", |value| {
        let read: Vec<_> = value
            .list(1..=OVERRIDE_PREFIXES_MAX)?
            .iter()
            .map(|value| prefix(value).filter(|prefix| seen.prefixes.is_new(*prefix, value)))
            .collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let prefixes_file = table.maybe("prefixes_file", path);
    let asns = table.maybe("asn", |value| {
        if !seen.has_asn_database {
            refuse_asn(value);
        }
        let read: Vec<_> = value
            .list(1..=OVERRIDE_ASNS_MAX)?
            .iter()
            .map(|value| asn(value).filter(|asn| seen.asns.is_new(*asn, value)))
            .collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    if matches!((&prefixes, &prefixes_file, &asns), (Some(None), Some(None), Some(None))) {
        table.refuse("must have prefixes, prefixes_file or asn", "add prefixes = [\"203.0.113.0/24\"]");
    }
    let pop = table.maybe("pop", |value| pops.id(value));
    let place = table.maybe("location", |value| location(&mut value.table()?));
    let target = match (pop?, place?) {
        (Some(pop), None) => OverrideTarget::Pop(pop),
        (None, Some(place)) => OverrideTarget::Location(place),
        (Some(_), Some(_)) => {
            table.refuse("must have pop or location, not both", "remove one of them");
            return None;
        }
        (None, None) => {
            table.refuse("must have a pop or a location", "add pop = \"ID\"");
            return None;
        }
    };
    let (prefixes, prefixes_file, asns) = (prefixes?.unwrap_or_default(), prefixes_file?, asns?.unwrap_or_default());
    let is_told = !prefixes.is_empty() || prefixes_file.is_some() || !asns.is_empty();
    is_told.then_some(GeoOverride { prefixes, prefixes_file, asns, target })
}

/// 0 and the last are nobody's (RFC 7607, RFC 7300).
const ASN_MAX: u32 = u32::MAX - 1;

fn asn(value: &Value<'_>) -> Option<u32> {
    value.integer(1..=ASN_MAX.into()).and_then(|asn| u32::try_from(asn).ok())
}

fn refuse_asn(value: &Value<'_>) {
    let remedy = "add asn_database = \"GeoLite2-ASN.mmdb\" to [geo], or remove it";
    value.wrong("needs a database that tells autonomous systems", remedy);
}

/// A network without bits beyond its length.
pub(crate) fn prefix(value: &Value<'_>) -> Option<IpNet> {
    let prefix =
        value.parse("must be a prefix like 203.0.113.0/24 or 2001:db8::/48", |text| text.parse::<IpNet>().ok())?;
    if prefix.trunc() != prefix {
        value.wrong("must have no bits set after its length", format!("write \"{}\"", prefix.trunc()));
        return None;
    }
    Some(prefix)
}

fn steering(value: &Value<'_>, pops: &KnownPops<'_>, has_asns: bool) -> Option<Steering> {
    let mut table = value.table()?;
    let answers = table.integer_or("answers", ANSWERS_DEFAULT, 1..=ANSWERS_MAX);
    let bias = table.or("bias", BTreeMap::new(), "1.0 for all", |value| bias(value, pops));
    let fence = table.or("fence", BTreeMap::new(), "any PoP for all", |value| fence(value, pops, has_asns));
    Some(Steering { answers: usize::try_from(answers?).ok()?, bias: bias?, fence: fence? })
}

/// Divides a distance: so far from 1 that it means something, so near that distances stay finite.
const BIAS_MAX: f64 = 1_000.0;

fn bias(value: &Value<'_>, pops: &KnownPops<'_>) -> Option<BTreeMap<PopId, f64>> {
    let read: Vec<_> = value
        .table()?
        .entries()
        .into_iter()
        .map(|(pop, value)| {
            let pop = pops.key(pop, &value);
            let bias = value.number("0.001 to 1000", |bias| (1.0 / BIAS_MAX..=BIAS_MAX).contains(&bias));
            Some((pop?, bias?))
        })
        .collect();
    read.into_iter().collect()
}

/// As MaxMind's databases name them.
const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

/// Whom a fence is around, in the one form of the model. Two letters alone are a country: AS is American Samoa.
fn fenced(text: &str) -> Option<String> {
    if text == "*" || text.strip_prefix("continent:").is_some_and(|code| CONTINENTS.contains(&code)) {
        return Some(text.to_owned());
    }
    let asn = text.strip_prefix("AS").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match asn.filter(|digits| !digits.is_empty() && !digits.starts_with('0')) {
        Some(digits) => digits.parse().ok().filter(|asn| *asn <= ASN_MAX).map(|asn: u32| format!("AS{asn}")),
        None => names::country(text),
    }
}

fn fence(value: &Value<'_>, pops: &KnownPops<'_>, has_asns: bool) -> Option<BTreeMap<String, Vec<PopId>>> {
    let read: Vec<_> = value
        .table()?
        .entries()
        .into_iter()
        .map(|(clients, value)| {
            let name = fenced(clients);
            match &name {
                None => value.refuse(
                    "must be under a country code of two capital letters, \"continent:EU\" and its like, \"AS64500\" and its \
                     like, or \"*\"",
                ),
                Some(name) if name.len() > 2 && name.starts_with("AS") && !has_asns => refuse_asn(&value),
                Some(_) => {}
            }
            let list = value.set(0..=POPS_MAX, |value| pops.id(value));
            Some((name?, list?))
        })
        .collect();
    read.into_iter().collect()
}
