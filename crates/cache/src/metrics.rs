//! What the engine counts.

use std::sync::Arc;

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use crate::{
    inflight,
    record::Record,
    snapshot::Snapshot,
    tally::{Place, Scrape, Tally},
};

/// The engine's counters; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tally: Arc<Tally>,
    ranges: Counter,
    vary_dropped: Counter,
    inflight: inflight::Metrics,
}

/// Totals since the start, for status pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests finished.
    pub requests: u64,
    /// Of those, answered from the store, fresh or stale.
    pub hits: u64,
    /// Body bytes sent.
    pub bytes: u64,
    /// Requests under way.
    pub active: u64,
}

impl Metrics {
    /// Makes the counters and names them in the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let inner = Inner {
            tally: Arc::default(),
            ranges: Counter::default(),
            vary_dropped: Counter::default(),
            inflight: inflight::Metrics::register(registry),
        };
        registry.register_collector(Box::new(Scrape(Arc::clone(&inner.tally))));
        registry.register(
            "perigee_ranges_fetched",
            "Ranges fetched from upstream: of cold objects, and what is missing of stored ones",
            inner.ranges.clone(),
        );
        registry.register(
            "perigee_variants_dropped",
            "Variants of URLs that were dropped because vary_limit was reached",
            inner.vary_dropped.clone(),
        );
        Self(Arc::new(inner))
    }

    pub(crate) fn began(&self) {
        self.0.tally.began();
    }

    pub(crate) fn ended(&self, record: &Record, site: Place) {
        self.0.tally.ended(record, site);
    }

    /// Whose sites have figures from now on.
    pub(crate) fn serve(&self, snapshot: &Snapshot) {
        self.0.tally.serve(snapshot);
    }

    pub(crate) fn inflight(&self) -> inflight::Metrics {
        self.0.inflight.clone()
    }

    pub(crate) fn fetched_range(&self) {
        self.0.ranges.inc();
    }

    pub(crate) fn variants_dropped(&self, count: u64) {
        self.0.vary_dropped.inc_by(count);
    }

    /// What has been counted.
    pub fn totals(&self) -> Totals {
        self.0.tally.totals()
    }
}
