//! CSV → a database of MaxMind's City shape, for worlds of one's own.
//!
//! The first line names the columns, in any order: `prefix`, `country`, `city`, `lat`, `lon`, `asn`. Only `prefix` must
//! hold a value in every line; `lat` and `lon` come together. Of nested prefixes the longer one holds, wherever it
//! stands. Empty lines and those that begin with `#` are skipped.

use std::{
    collections::HashMap,
    fmt,
    io::Read,
    time::{Duration, SystemTime},
};

use csv::{ReaderBuilder, StringRecord, Trim};
use ipnet::IpNet;
use mmdb_writer::{Value, Writer};
use perigee_protocol::model::Location;

use crate::place::{Country, on_the_globe};

/// `database_type` of what is built.
pub const DATABASE_TYPE: &str = "Perigee-City";

#[cfg(test)]
mod tests;

const COLUMNS: [&str; 6] = ["prefix", "country", "city", "lat", "lon", "asn"];

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// From 1, the header's; 0: of the whole file.
    pub line: u64,
    /// What is wrong and what would be right.
    pub what: String,
}

/// Every mistake of a file, in its order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildErrors(pub Vec<LineError>);

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildErrors {}

/// Builds a database that says it was made at the Unix epoch: the same CSV gives the same bytes.
pub fn build(csv: impl Read) -> Result<Vec<u8>, BuildErrors> {
    build_at(csv, 0)
}

/// Builds a database; `built_at_s` are seconds since the Unix epoch.
pub fn build_at(csv: impl Read, built_at_s: u64) -> Result<Vec<u8>, BuildErrors> {
    let rows = read(csv)?;
    let mut writer = Writer::builder(DATABASE_TYPE)
        // Readers that verify want one.
        .description(&[("en", "Made by perigee geo build")])
        .build_epoch(
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(built_at_s)).unwrap_or(SystemTime::UNIX_EPOCH),
        )
        .build();
    let mut errors = Vec::new();
    for row in rows {
        if let Err(error) = writer.insert_value(row.prefix, row.value()) {
            errors.push(LineError { line: row.line, what: format!("prefix = {}: {error}", row.prefix) });
        }
    }
    if !errors.is_empty() {
        errors.sort_by_key(|error| error.line);
        return Err(BuildErrors(errors));
    }
    writer.to_bytes().map_err(|error| BuildErrors(vec![LineError { line: 0, what: error.to_string() }]))
}

struct Row {
    line: u64,
    prefix: IpNet,
    country: Option<Country>,
    city: Option<String>,
    location: Option<Location>,
    asn: Option<u32>,
}

impl Row {
    fn value(&self) -> Value {
        let mut fields = Vec::new();
        if let Some(country) = self.country {
            fields.push(("country", Value::map([("iso_code", Value::from(country.as_str()))])));
        }
        if let Some(city) = &self.city {
            fields.push(("city", Value::map([("names", Value::map([("en", Value::from(city.as_str()))]))])));
        }
        if let Some(Location { latitude, longitude }) = self.location {
            let location = [("latitude", Value::from(latitude)), ("longitude", Value::from(longitude))];
            fields.push(("location", Value::map(location)));
        }
        if let Some(asn) = self.asn {
            fields.push(("autonomous_system_number", Value::from(asn)));
        }
        Value::map(fields)
    }
}

/// All rows, the wider prefixes first: later insertions go over earlier ones.
fn read(mut csv: impl Read) -> Result<Vec<Row>, BuildErrors> {
    let mut text = Vec::new();
    let whole = |what: String| BuildErrors(vec![LineError { line: 0, what }]);
    csv.read_to_end(&mut text).map_err(|error| whole(error.to_string()))?;
    let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).comment(Some(b'#')).from_reader(&text[..]);
    let header = reader.headers().map_err(|error| BuildErrors(vec![of_csv(&text, &error)]))?;
    let columns = columns(header)?;
    let width = header.len();
    let (mut rows, mut errors): (Vec<Row>, Vec<LineError>) = (Vec::new(), Vec::new());
    let mut lines = HashMap::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                errors.push(of_csv(&text, &error));
                continue;
            }
        };
        let line = record.position().map_or(0, |position| line(&text, position));
        let mut faults = Vec::new();
        if record.len() != width {
            faults.push(format!("has {} fields where the header names {width}", record.len()));
        } else if let Some(row) = row(line, &record, &columns, &mut faults) {
            match lines.insert(row.prefix, line) {
                None => rows.push(row),
                Some(earlier) => faults.push(format!("prefix = {} is in line {earlier} already", row.prefix)),
            }
        }
        errors.extend(faults.into_iter().map(|what| LineError { line, what }));
    }
    if rows.is_empty() && errors.is_empty() {
        errors.push(LineError { line: 0, what: "holds no prefix: a database needs at least one line".into() });
    }
    if !errors.is_empty() {
        return Err(BuildErrors(errors));
    }
    rows.sort_by_key(|row| row.prefix.prefix_len());
    Ok(rows)
}

/// Where each of [`COLUMNS`] stands.
fn columns(header: &StringRecord) -> Result<[Option<usize>; COLUMNS.len()], BuildErrors> {
    let mut errors = Vec::new();
    let mut found = [None; COLUMNS.len()];
    for (at, name) in header.iter().enumerate() {
        match COLUMNS.iter().position(|column| *column == name).and_then(|column| found.get_mut(column)) {
            Some(column @ None) => *column = Some(at),
            Some(Some(_)) => errors.push(format!("column {name:?} is named twice")),
            None => errors.push(format!("column {name:?} is none of {}", COLUMNS.join(", "))),
        }
    }
    if found[0].is_none() {
        errors.push("must name the columns, of which prefix must be there".into());
    }
    if errors.is_empty() {
        return Ok(found);
    }
    Err(BuildErrors(errors.into_iter().map(|what| LineError { line: 1, what }).collect()))
}

fn row(line: u64, record: &StringRecord, columns: &[Option<usize>; 6], faults: &mut Vec<String>) -> Option<Row> {
    let field =
        |column: usize| columns.get(column).copied().flatten().and_then(|at| record.get(at)).unwrap_or_default();
    let prefix = field(0).parse::<IpNet>();
    match &prefix {
        Err(_) => faults.push(format!("prefix = {:?}: must be a prefix like 192.0.2.0/24 or 2001:db8::/32", field(0))),
        Ok(prefix) if prefix.trunc() != *prefix => {
            faults.push(format!("prefix = {prefix}: has bits past its length; write {}", prefix.trunc()));
        }
        Ok(_) => {}
    }
    let country = value(field(1), "country", "be two upper-case letters (ISO 3166 alpha-2)", faults);
    let asn = value(field(5), "asn", "be a number of 0..=4294967295", faults);
    let latitude: Option<f64> = value(field(3), "lat", "be degrees north, -90..=90", faults);
    let longitude: Option<f64> = value(field(4), "lon", "be degrees east, -180..=180", faults);
    let location = match (latitude, longitude) {
        (Some(latitude), Some(longitude)) => Some(Location { latitude, longitude }),
        _ => None,
    };
    if location.is_some_and(|location| !on_the_globe(location)) {
        faults.push(format!("lat, lon = {}, {}: must be within -90..=90, -180..=180", field(3), field(4)));
    }
    if field(3).is_empty() != field(4).is_empty() {
        faults.push("lat and lon: must be given together".into());
    }
    let city = Some(field(2)).filter(|city| !city.is_empty()).map(str::to_owned);
    Some(Row { line, prefix: prefix.ok()?, country, city, location, asn }).filter(|_| faults.is_empty())
}

fn value<T: std::str::FromStr>(text: &str, name: &str, law: &str, faults: &mut Vec<String>) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    let value = text.parse().ok();
    if value.is_none() {
        faults.push(format!("{name} = {text:?}: must {law}, or nothing"));
    }
    value
}

fn of_csv(text: &[u8], error: &csv::Error) -> LineError {
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    LineError { line: error.position().map_or(0, |position| line(text, position)), what }
}

/// The line where a record begins: its position is before the empty lines and remarks that the reader skipped.
fn line(text: &[u8], position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let lines = text.get(start..).unwrap_or_default().split(|byte| *byte == b'\n');
    let skipped = lines.take_while(|line| matches!(line, [] | [b'\r'] | [b'#', ..]));
    position.line() + skipped.count() as u64
}
