//! What a store counts. Sizes are read at scrape time from the store itself.

use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::Registry,
};

use crate::{object::Tier, probe::Fault, store::Inner};

/// Names and values: of each family all combinations exist from the start.
type Labels = [(&'static str, &'static str); 2];

/// Counters of one kind of entry, resolved once.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) memory: Counter,
    pub(crate) disk: Counter,
    pub(crate) nowhere: Counter,
    /// Written to memory and, with a disk, handed to it.
    pub(crate) written: Counter,
    /// Kept in memory only, because the disk did not keep up.
    pub(crate) memory_only: Counter,
    /// Kept in memory only, because the disk had failed.
    pub(crate) disk_down: Counter,
    /// Kept in memory only, because the key was fetched for the first time.
    pub(crate) first_fetch: Counter,
    /// Too large, or undone by a removal.
    pub(crate) refused: Counter,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) heads: Counts,
    pub(crate) segments: Counts,
    pub(crate) disk: DiskCounts,
    pub(crate) write_waits: Counter,
    pub(crate) displaced: Counter,
    pub(crate) removed: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<Labels, Counter>::default();
        let writes = Family::<Labels, Counter>::default();
        let counts = |kind: &'static str| {
            let lookup = |found| lookups.get_or_create(&[("kind", kind), ("found", found)]).clone();
            let write = |fate| writes.get_or_create(&[("kind", kind), ("fate", fate)]).clone();
            Counts {
                memory: lookup(Tier::Memory.as_str()),
                disk: lookup(Tier::Disk.as_str()),
                nowhere: lookup("nowhere"),
                written: write("disk"),
                memory_only: write("memory-only"),
                disk_down: write("disk-down"),
                first_fetch: write("first-fetch"),
                refused: write("refused"),
            }
        };
        let metrics = Self {
            heads: counts("head"),
            segments: counts("segment"),
            disk: DiskCounts::default(),
            write_waits: Counter::default(),
            displaced: Counter::default(),
            removed: Counter::default(),
        };
        registry.register(
            "perigee_store_lookups",
            "Lookups in the store, by kind of entry and where it was found",
            lookups,
        );
        registry.register(
            "perigee_store_writes",
            "Entries that were to be written, by kind of entry and what became of it",
            writes,
        );
        metrics.disk.register(registry);
        registry.register(
            "perigee_store_write_waits",
            "Segments that waited until the disk took them",
            metrics.write_waits.clone(),
        );
        registry.register(
            "perigee_store_displaced",
            "Entries in memory that made room for others of a site above its share",
            metrics.displaced.clone(),
        );
        registry.register(
            "perigee_store_removed",
            "Keys removed from the store, say by a purge of one URL",
            metrics.removed.clone(),
        );
        metrics
    }
}

/// What goes wrong on a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiskCounts {
    pub(crate) read_errors: Counter,
    /// Of those, the ones that took too long.
    pub(crate) read_timeouts: Counter,
    /// Handed to the disk, and not there when it said that all was written.
    pub(crate) lost: Counter,
    faults: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) reopened: Counter,
    /// Entries of blocks that were taken back: written anew, and let go.
    pub(crate) kept: Counter,
    pub(crate) expired: Counter,
    /// Entries written and read back from disk.
    pub(crate) probed: Counter,
}

impl DiskCounts {
    /// The disk failed, for this reason.
    pub(crate) fn fault(&self, reason: &'static str) {
        self.faults.get_or_create(&[("reason", reason)]).inc();
    }

    fn register(&self, registry: &mut Registry) {
        for reason in Fault::ALL {
            drop(self.faults.get_or_create(&[("reason", reason)]));
        }
        let counters = [
            ("perigee_store_read_errors", "Reads of the disk that failed; each is a miss", &self.read_errors),
            (
                "perigee_store_read_timeouts",
                "Reads of the disk that took too long; each is a miss",
                &self.read_timeouts,
            ),
            (
                "perigee_store_lost",
                "Entries handed to the disk that were not there when it said that all was written",
                &self.lost,
            ),
            ("perigee_store_disk_kept", "Entries written anew at the disk's end, because they were hit", &self.kept),
            ("perigee_store_disk_expired", "Entries that left the disk at its end", &self.expired),
            (
                "perigee_store_disk_probes",
                "Probes of the disk, entries written and read back, that went well",
                &self.probed,
            ),
            ("perigee_store_disk_reopened", "Times that a failed disk was opened again", &self.reopened),
        ];
        counters.into_iter().for_each(|(name, help, counter)| registry.register(name, help, counter.clone()));
        registry.register(
            "perigee_store_disk_faults",
            "Times that the disk was given up because it failed, by reason",
            self.faults.clone(),
        );
    }
}

/// Sizes, read from the store when somebody scrapes; nothing once the store is gone.
pub(crate) struct Sizes(pub(crate) Weak<Inner>);

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sizes")
    }
}

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(stats) = self.0.upgrade().map(|inner| inner.stats()) else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("perigee_store_memory_bytes", "Bytes of entries in memory.", stats.memory_used)?;
        gauge("perigee_store_memory_capacity_bytes", "Bytes that entries may take in memory.", stats.memory_capacity)?;
        gauge("perigee_store_memory_entries", "Entries in memory.", stats.memory_entries)?;
        let Some(disk) = stats.disk else { return Ok(()) };
        gauge(
            "perigee_store_disk_up",
            "Whether the disk cache works: 1, or 0 after it failed, when memory serves alone; nothing without a disk.",
            disk.up.into(),
        )?;
        gauge("perigee_store_disk_capacity_bytes", "Bytes that the disk cache may take.", disk.capacity)?;
        gauge("perigee_store_disk_outstanding_bytes", "Bytes on their way to the disk.", disk.outstanding)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter("perigee_store_disk_written_bytes", "Bytes written to the disk cache.", disk.written)?;
        counter("perigee_store_disk_read_bytes", "Bytes read from the disk cache.", disk.read)
    }
}
