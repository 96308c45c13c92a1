//! `perigee geo`: databases of places and of autonomous systems, made, fetched, compared and asked.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write},
    net::IpAddr,
    path::Path,
};

use anyhow::{Context, anyhow};
use perigee_geo::{
    asn::{AsnDatabase, System},
    build::build_at,
    database::{Description, GeoDatabase},
};
use perigee_node::clock;
use serde_json::json;

pub(crate) mod args;
mod diff;
mod fetch;
mod file;
mod stats;

use args::GeoCommand;
use file::Known;

/// False when the answer is no.
pub(crate) fn geo(command: &GeoCommand, out: &mut impl Write) -> anyhow::Result<bool> {
    match command {
        GeoCommand::Build(args) => build(&args.table, &args.database, out).map(|()| true),
        GeoCommand::Lookup(args) => {
            let known = lookup(&args.database, args.address, args.json, out)?;
            if !known {
                writeln!(io::stderr(), "perigee: {} does not know {}", args.database.display(), args.address)?;
            }
            Ok(known)
        }
        GeoCommand::Fetch(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(fetch::fetch(args, out))
        }
        GeoCommand::Diff(args) => diff::diff(args, out).map(|()| true),
        GeoCommand::Stats(args) => stats::stats(args, out).map(|()| true),
    }
}

/// Builds `database` from the CSV `table` and puts it in its place by a rename; writes one line about it.
pub(crate) fn build(table: &Path, database: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let reader = File::open(table).with_context(|| format!("cannot read {}", table.display()))?;
    let bytes = build_at(BufReader::new(reader), clock::now_ms() / 1000)
        .map_err(|errors| anyhow!("{}: nothing was built, since the table has mistakes\n{errors}", table.display()))?;
    let records = count_records(&bytes)?;
    replace(database, &bytes)?;
    writeln!(out, "{}: {records} records, {} bytes", database.display(), bytes.len())?;
    Ok(())
}

/// A table of prefixes and systems alone is a database of these.
fn count_records(bytes: &[u8]) -> anyhow::Result<usize> {
    let refusal = match GeoDatabase::from_source(bytes) {
        Ok(places) => return Ok(places.count_records()),
        Err(refusal) => refusal,
    };
    match AsnDatabase::from_source(bytes) {
        Ok(systems) => Ok(systems.count_records()),
        Err(_) => Err(refusal).context("nothing was built, since it would serve nobody"),
    }
}

/// Writes beside the place and renames into it: whoever has the old file mapped keeps it whole.
pub(crate) fn replace(place: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = place.file_name().with_context(|| format!("{} is no file name", place.display()))?;
    let beside = place.with_file_name(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&beside, place));
    done.map_err(|error| {
        // The reason is told; whether the half-written file can be removed changes nothing.
        fs::remove_file(&beside).unwrap_or_default();
        anyhow!(error).context(format!("cannot write {}", place.display()))
    })
}

/// Writes what `database` knows of `address`; false when that is nothing.
pub(crate) fn lookup(database: &Path, address: IpAddr, as_json: bool, out: &mut impl Write) -> anyhow::Result<bool> {
    let (object, lines) = match Known::open(database)? {
        Known::Places(places) => match places.describe(address) {
            Some(about) => (object(address, &about), lines(&about)),
            None => return Ok(false),
        },
        Known::Systems(systems) => match systems.describe(address) {
            Some(about) => (object_of_system(address, &about), lines_of_system(&about)),
            None => return Ok(false),
        },
    };
    if as_json {
        writeln!(out, "{object}")?;
        return Ok(true);
    }
    for (name, value) in lines {
        writeln!(out, "{name:<10} {value}")?;
    }
    Ok(true)
}

fn object_of_system(address: IpAddr, about: &System) -> serde_json::Value {
    json!({ "address": address, "prefix": about.network, "asn": about.asn, "organization": about.organization })
}

fn lines_of_system(about: &System) -> Vec<(&'static str, String)> {
    let organization = about.organization.clone().unwrap_or_else(|| "-".into());
    vec![("prefix", about.network.to_string()), ("asn", about.asn.to_string()), ("organization", organization)]
}

fn object(address: IpAddr, about: &Description) -> serde_json::Value {
    json!({
        "address": address,
        "prefix": about.network,
        "country": about.country.map(|country| country.as_str().to_owned()),
        "city": about.city,
        "latitude": about.location.map(|location| location.latitude),
        "longitude": about.location.map(|location| location.longitude),
        "accuracy_radius_km": about.accuracy_radius_km,
        "time_zone": about.time_zone,
        "is_country_centre": about.is_centre,
        "asn": about.asn,
    })
}

/// What the place is the place of.
fn known_by(about: &Description) -> &'static str {
    match (&about.location, about.is_centre) {
        (Some(_), false) => "place",
        (Some(_), true) => "country",
        (None, _) => "-",
    }
}

/// What is known, in a fixed order; what is not is a dash, so that scripts find each name.
fn lines(about: &Description) -> Vec<(&'static str, String)> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let location = about.location.as_ref();
    vec![
        ("prefix", about.network.to_string()),
        ("country", or_dash(about.country.map(|country| country.as_str().to_owned()))),
        ("city", or_dash(about.city.clone())),
        ("latitude", or_dash(location.map(|at| at.latitude.to_string()))),
        ("longitude", or_dash(location.map(|at| at.longitude.to_string()))),
        ("asn", or_dash(about.asn.map(|asn| asn.to_string()))),
        ("known by", known_by(about).to_owned()),
    ]
}
