//! `perigee geo build` and `perigee geo lookup`.

use std::{
    fs::{self, File},
    io::{BufReader, Write},
    net::IpAddr,
    path::Path,
};

use anyhow::{Context, anyhow};
use perigee_geo::{
    build::build_at,
    database::{Description, GeoDatabase},
};
use perigee_node::{clock, mmap::MappedFile};
use serde_json::json;

/// Builds `database` from the CSV `table` and puts it in its place by a rename; writes one line about it.
pub(crate) fn build(table: &Path, database: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let reader = File::open(table).with_context(|| format!("cannot read {}", table.display()))?;
    let bytes = build_at(BufReader::new(reader), clock::now_ms() / 1000)
        .map_err(|errors| anyhow!("{}: nothing was built, since the table has mistakes\n{errors}", table.display()))?;
    let about = GeoDatabase::from_source(&bytes).context("what was built cannot be read back; please report this")?;
    replace(database, &bytes)?;
    let (records, length) = (about.count_records(), bytes.len());
    writeln!(out, "{}: {records} records, {length} bytes", database.display())?;
    Ok(())
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
    let file = MappedFile::open(database).with_context(|| format!("cannot read {}", database.display()))?;
    let known = GeoDatabase::from_source(file).with_context(|| format!("cannot use {}", database.display()))?;
    let Some(about) = known.describe(address) else {
        return Ok(false);
    };
    if as_json {
        writeln!(out, "{}", object(address, &about))?;
    } else {
        for (name, value) in lines(&about) {
            writeln!(out, "{name:<10} {value}")?;
        }
    }
    Ok(true)
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
        "asn": about.asn,
    })
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
    ]
}
