//! What a run came to, as one value: printed as JSON, as a table, or as a plot.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    assets::Asset,
    figures::{ROWS, Row, Sample, Spared, Spread, Way, row, spared},
    findings::{Evidence, Finding, findings},
    run::{Place, Run, Seen},
};

/// Of the JSON: another where a field changes its meaning or goes away; one that comes is no other.
const VERSION: u32 = 1;

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
    /// The time of a fetch over a fresh connection, straight and again through the CDN.
    pub(super) fn gain(&self) -> Option<(Spread, Spread)> {
        let total = |way| self.rows.iter().find(|row| row.way == way)?.total_ms;
        Some((total(Way::Direct)?, total(Way::CdnAgain)?))
    }
}

impl Report {
    pub(super) fn new(run: Run<'_>, left_out: Vec<String>, places: Vec<Place>, seen: Vec<Seen>) -> Self {
        let names: Vec<(String, bool)> = places.iter().map(|place| (place.name.clone(), place.is_ours)).collect();
        let failed = seen.iter().map(|seen| seen.failed).sum();
        let mut samples = Vec::new();
        let mut reports = Vec::new();
        for (index, (place, seen)) in places.into_iter().zip(seen).enumerate() {
            let rows = ROWS.into_iter().map(|(way, connection)| row(&seen.samples, index, way, connection));
            reports.push(PlaceReport {
                name: place.name,
                address: place.address,
                fetched_from_there: place.is_ours,
                edges: seen.edges.into_iter().collect(),
                rows: rows.filter(|row| row.fetches > 0).collect(),
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
