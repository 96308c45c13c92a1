//! What a run came to, as one value: printed as JSON, as a table, or as a plot.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    assets::Asset,
    figures::{Connection, ROWS, Row, Sample, Spared, Spread, Way, early, row, spared},
    findings::{Evidence, Finding, findings},
    run::{Place, Run, Seen},
};

/// Of the JSON: another where a field changes its meaning or goes away; one that comes is no other.
const VERSION: u32 = 2;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    /// URLs of the path that --direct named.
    pub(super) direct: String,
    pub(super) cdn: String,
    pub(super) assets: Vec<Asset>,
    /// Paths that were not measured, and why.
    pub(super) left_out: Vec<String>,
    pub(super) places: Vec<PlaceReport>,
    pub(super) spared: Spared,
    pub(super) findings: Vec<Finding>,
    /// Fetches that failed.
    pub(super) failed: usize,
    /// Whether somebody ended the run before it was over.
    pub(super) interrupted: bool,
    /// In the order in which they were made, place by place.
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
pub(super) struct PlaceReport {
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    /// Whether its fetches left from the address; otherwise the times are this machine's.
    pub(super) fetched_from_there: bool,
    pub(super) edges: Vec<IpAddr>,
    pub(super) rows: Vec<Row>,
    pub(super) spared: Spared,
    pub(super) errors: Vec<String>,
    pub(super) failed: usize,
    /// Fetches that were left, since so many before them failed in a row.
    pub(super) untried: usize,
}

impl PlaceReport {
    /// The time of a fetch over a fresh connection, straight and again through the CDN: with DNS where both have names, else
    /// without, since one of them would be compared by what the other never waits for.
    pub(super) fn gain(&self) -> Option<(Spread, Spread)> {
        let is_fair = self.has_fair_dns();
        let total = |way| {
            let row = self.rows.iter().find(|row| row.way == way)?;
            if is_fair { row.total_ms } else { row.without_dns_ms }
        };
        Some((total(Way::Direct)?, total(Way::CdnAgain)?))
    }

    /// Whether both sides waited for DNS, or neither did.
    pub(super) fn has_fair_dns(&self) -> bool {
        let has_dns = |way| self.rows.iter().any(|row| row.way == way && row.dns_ms.is_some());
        has_dns(Way::Direct) == has_dns(Way::CdnAgain)
    }
}

#[cfg(test)]
impl PlaceReport {
    /// A place of these rows, of which nothing else is known.
    pub(super) fn of(name: &str, rows: Vec<Row>) -> Self {
        Self {
            name: name.to_owned(),
            address: None,
            fetched_from_there: true,
            edges: Vec::new(),
            rows,
            spared: Spared::default(),
            errors: Vec::new(),
            failed: 0,
            untried: 0,
        }
    }
}

/// The rows of one place, of those kinds of fetches that there were.
pub(super) fn rows(samples: &[Sample], place: usize) -> Vec<Row> {
    let of = |way, connection| row(samples, place, way, connection);
    let whole = ROWS.into_iter().map(|(way, connection)| {
        let mut own = of(way, connection);
        // What was fetched for the first time has nothing that it could be held against.
        if connection == Connection::Fresh && way != Way::CdnFirst {
            own.early_ms = early(&own, &of(way, Connection::Kept));
        }
        own
    });
    whole.filter(|row| row.fetches > 0).collect()
}

impl Report {
    pub(super) fn new(run: Run<'_>, left_out: Vec<String>, places: Vec<Place>, seen: Vec<Seen>) -> Self {
        let names: Vec<(String, bool)> = places.iter().map(|place| (place.name.clone(), place.is_ours)).collect();
        let failed = seen.iter().map(|seen| seen.failed).sum();
        let mut samples = Vec::new();
        let mut reports = Vec::new();
        for (index, (place, seen)) in places.into_iter().zip(seen).enumerate() {
            reports.push(PlaceReport {
                name: place.name,
                address: place.address,
                fetched_from_there: place.is_ours,
                edges: seen.edges.into_iter().collect(),
                rows: rows(&seen.samples, index),
                spared: spared(&seen.samples),
                errors: seen.errors,
                failed: seen.failed,
                untried: seen.untried,
            });
            samples.extend(seen.samples);
        }
        let far_ms = f64::from(run.args.far_ms);
        let evidence = Evidence { assets: &run.assets, places: &names, samples: &samples, far_ms };
        let cut = *run.stop.borrow();
        Self {
            version: VERSION,
            interrupted: cut,
            direct: run.direct.url(&run.direct.path),
            cdn: run.cdn.url(&run.direct.path),
            findings: findings(&evidence),
            left_out,
            places: reports,
            spared: spared(&samples),
            assets: run.assets,
            failed,
            samples,
        }
    }
}
