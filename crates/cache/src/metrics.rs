//! What the engine counts.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::record::Record;

/// A label value that is one of the program's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        std::fmt::Write::write_str(encoder, self.0)
    }
}

/// Labels of a finished request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    /// How the cache handled it.
    pub(crate) cache: Word,
    /// Why.
    pub(crate) reason: Word,
    /// Class of the status: `2xx` and so on.
    pub(crate) status: Word,
}

/// The engine's counters; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outcomes: Family<Outcome, Counter>,
    bytes: Counter,
    cut: Counter,
    active: Gauge,
    head_seconds: Histogram,
    refetched_segments: Counter,
    vary_dropped: Counter,
    requests: AtomicU64,
    hits: AtomicU64,
    bytes_total: AtomicU64,
    active_total: AtomicU64,
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
            outcomes: Family::default(),
            bytes: Counter::default(),
            cut: Counter::default(),
            active: Gauge::default(),
            head_seconds: Histogram::new(exponential_buckets(0.000_05, 4.0, 10)),
            refetched_segments: Counter::default(),
            vary_dropped: Counter::default(),
            requests: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            active_total: AtomicU64::new(0),
        };
        registry.register("perigee_requests", "Requests by what the cache did and why", inner.outcomes.clone());
        registry.register("perigee_response_body_bytes", "Body bytes handed to connections", inner.bytes.clone());
        registry.register("perigee_responses_cut", "Responses that ended before their end", inner.cut.clone());
        registry.register("perigee_requests_active", "Requests under way", inner.active.clone());
        registry.register(
            "perigee_response_head_seconds",
            "From a request's head to its response's head",
            inner.head_seconds.clone(),
        );
        registry.register(
            "perigee_segments_refetched",
            "Segments fetched again because the store had lost them",
            inner.refetched_segments.clone(),
        );
        registry.register("perigee_variants_dropped", "Variants dropped at vary_limit", inner.vary_dropped.clone());
        Self(Arc::new(inner))
    }

    pub(crate) fn began(&self) {
        self.0.active.inc();
        self.0.active_total.fetch_add(1, RELAXED);
    }

    pub(crate) fn ended(&self, record: &Record) {
        let outcome = Outcome {
            cache: Word(record.cache),
            reason: Word(record.reason),
            status: Word(status_class(record.status)),
        };
        self.0.outcomes.get_or_create(&outcome).inc();
        self.0.bytes.inc_by(record.bytes);
        self.0.active.dec();
        self.0.active_total.fetch_sub(1, RELAXED);
        self.0.head_seconds.observe(record.head_us as f64 / 1e6);
        self.0.requests.fetch_add(1, RELAXED);
        self.0.bytes_total.fetch_add(record.bytes, RELAXED);
        if matches!(record.cache, "hit" | "stale") {
            self.0.hits.fetch_add(1, RELAXED);
        }
        if record.cut {
            self.0.cut.inc();
        }
    }

    pub(crate) fn refetched(&self) {
        self.0.refetched_segments.inc();
    }

    pub(crate) fn variants_dropped(&self, count: u64) {
        self.0.vary_dropped.inc_by(count);
    }

    /// What has been counted.
    pub fn totals(&self) -> Totals {
        Totals {
            requests: self.0.requests.load(RELAXED),
            hits: self.0.hits.load(RELAXED),
            bytes: self.0.bytes_total.load(RELAXED),
            active: self.0.active_total.load(RELAXED),
        }
    }
}

const RELAXED: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;

fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}
