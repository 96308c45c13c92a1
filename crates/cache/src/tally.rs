//! What every request adds to, counted apart by threads and added up by whoever asks: cores that count share no cache
//! line, and a request takes one lock that nobody else wants.

mod sites;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

pub(crate) use self::sites::Place;
use self::sites::{Names, Table};
use crate::{metrics::Totals, record::Record, snapshot::Snapshot};

/// Threads beyond so many share a shard.
const SHARDS: usize = 16;
/// Upper bounds of the histogram of head times, in microseconds: 50 µs, then four times as long each.
const HEAD_US: [u64; 10] = [50, 200, 800, 3_200, 12_800, 51_200, 204_800, 819_200, 3_276_800, 13_107_200];

/// A label value that is one of the program's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        fmt::Write::write_str(encoder, self.0)
    }
}

/// Labels of a finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// How the cache handled it.
    cache: Word,
    /// Why.
    reason: Word,
    /// Class of the status: `2xx` and so on.
    status: Word,
}

/// The counts of all threads.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    shards: [Shard; SHARDS],
    sites: Names,
}

/// Two cache lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    began: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    ended: u64,
    hits: u64,
    bytes: u64,
    cut: u64,
    head_us: u64,
    /// By [`HEAD_US`], what is slower than all last.
    heads: [u64; HEAD_US.len() + 1],
    /// As many as the program has words for.
    outcomes: Vec<(Outcome, u64)>,
    sites: Table,
}

impl Tally {
    /// Whose sites are told from now on.
    pub(crate) fn serve(&self, snapshot: &Snapshot) {
        let places = self.sites.serve(snapshot.sites().iter().map(|site| &site.label));
        for (site, place) in snapshot.sites().iter().zip(places) {
            site.counted_at(place);
        }
    }

    pub(crate) fn began(&self) {
        if let Some(shard) = self.shards.get(shard()) {
            shard.began.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn ended(&self, record: &Record, site: Place) {
        if let Some(shard) = self.shards.get(shard()) {
            let mut counts = shard.lock();
            counts.add(record);
            counts.sites.add(site, record);
        }
    }

    fn sum(&self) -> (u64, Counts) {
        let (mut began, mut all) = (0, Counts::default());
        for shard in &self.shards {
            let counts = shard.lock().clone();
            began += shard.began.load(Ordering::Relaxed);
            all.merge(&counts);
        }
        (began, all)
    }

    pub(crate) fn totals(&self) -> Totals {
        let (mut began, mut totals) = (0, Totals::default());
        for shard in &self.shards {
            // Not all of it: who watches asks every second, and there may be thousands of sites.
            let Counts { ended, hits, bytes, .. } = *shard.lock();
            began += shard.began.load(Ordering::Relaxed);
            totals.requests += ended;
            totals.hits += hits;
            totals.bytes += bytes;
        }
        Totals { active: began.saturating_sub(totals.requests), ..totals }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, record: &Record) {
        self.ended += 1;
        self.hits += u64::from(matches!(record.cache, "hit" | "stale"));
        self.bytes += record.bytes;
        self.cut += u64::from(record.cut);
        self.head_us += record.head_us;
        let bucket = HEAD_US.iter().position(|bound| record.head_us <= *bound).unwrap_or(HEAD_US.len());
        if let Some(bucket) = self.heads.get_mut(bucket) {
            *bucket += 1;
        }
        let status = status_class(record.status);
        self.count(Outcome { cache: Word(record.cache), reason: Word(record.reason), status: Word(status) }, 1);
    }

    fn count(&mut self, outcome: Outcome, count: u64) {
        match self.outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, so_far)) => *so_far += count,
            None => self.outcomes.push((outcome, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.ended += other.ended;
        self.hits += other.hits;
        self.bytes += other.bytes;
        self.cut += other.cut;
        self.head_us += other.head_us;
        for (sum, count) in self.heads.iter_mut().zip(other.heads) {
            *sum += count;
        }
        for (outcome, count) in &other.outcomes {
            self.count(*outcome, *count);
        }
        self.sites.merge(&other.sites);
    }
}

/// Writes the sums when somebody scrapes.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) Arc<Tally>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (began, counts) = self.0.sum();
        let mut counter = |name: &str, help: &str, value: u64| {
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        counter("perigee_response_body_bytes", "Body bytes handed to client connections.", counts.bytes)?;
        counter(
            "perigee_responses_cut",
            "Responses that broke off before their body's end, for whatever reason.",
            counts.cut,
        )?;
        let active = i64::try_from(began.saturating_sub(counts.ended)).unwrap_or(i64::MAX);
        let (name, help) = ("perigee_requests_active", "Requests under way.");
        ConstGauge::new(active).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;

        let (name, help) =
            ("perigee_requests", "Finished requests, by what the cache did, why, and the class of the status.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (outcome, count) in &counts.outcomes {
            ConstCounter::new(*count).encode(family.encode_family(outcome)?)?;
        }
        self.0.sites.encode(&counts.sites, &mut encoder)?;
        // The last bucket's bound is written as +Inf.
        let bounds = HEAD_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.heads).collect();
        let (name, help) =
            ("perigee_response_head_seconds", "How long it took from a request's head to its response's head.");
        let mut histogram = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        histogram.encode_histogram::<NoLabelSet>(counts.head_us as f64 / 1e6, counts.ended, &buckets, None)
    }
}

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

/// Which shard is this thread's: threads are numbered as they come.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    MINE.with(|mine| *mine)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn record(cache: &'static str, status: u16, head_us: u64) -> Record {
        Record { cache, reason: "fresh", status, head_us, bytes: 10, ..crate::record::tests::record() }
    }

    #[test]
    fn threads_are_added_up() {
        let tally = Arc::new(Tally::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(Arc::clone(&tally))));
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for (cache, status, head_us) in [("hit", 200, 50), ("hit", 206, 51), ("miss", 200, 13_107_201)] {
                        tally.began();
                        tally.ended(&record(cache, status, head_us), Place::default());
                    }
                    tally.began();
                });
            }
        });
        assert_eq!(tally.totals(), Totals { requests: 60, hits: 40, bytes: 600, active: 20 });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "perigee_response_body_bytes_total 600",
            "perigee_responses_cut_total 0",
            "perigee_requests_active 20",
            r#"perigee_requests_total{cache="hit",reason="fresh",status="2xx"} 40"#,
            r#"perigee_requests_total{cache="miss",reason="fresh",status="2xx"} 20"#,
            r#"perigee_site_requests_total{site="(none)",cache="hit"} 40"#,
            r#"perigee_site_requests_total{site="(none)",cache="miss"} 20"#,
            r#"perigee_site_response_body_bytes_total{site="(none)",cache="miss"} 200"#,
            r#"perigee_site_errors_total{site="(none)"} 0"#,
            "perigee_response_head_seconds_count 60",
            r#"perigee_response_head_seconds_bucket{le="0.00005"} 20"#,
            r#"perigee_response_head_seconds_bucket{le="0.0002"} 40"#,
            r#"perigee_response_head_seconds_bucket{le="13.1072"} 40"#,
            r#"perigee_response_head_seconds_bucket{le="+Inf"} 60"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }
}
