//! The store: lookups, fills, commits, removals.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use perigee_protocol::model::DiskAdmission;
use perigee_semantics::{
    key::CacheKey,
    purge::{Kind, Purge, Scope, Seq, Verdict},
    time::Timestamp,
    vary::VariantIndex,
};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use self::inner::{entry_of, segment_of};
use crate::{
    buffer::Buffer,
    config::StoreConfig,
    disk::Disk,
    engine::{self, Memory},
    error::StoreError,
    ledger::{LedgerMetrics, LiveLedger, PurgeAck},
    lend::Lender,
    metrics::{Metrics, Sizes},
    object::{Body, Entry, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES, Stats, Tier},
    probe,
    recent::{Fetched, Recent},
    record::{HeadRef, RECORD_BYTES_MAX, Record, RecordKey, slot},
    removed::Removed,
    rescue,
    shares::Shares,
};

/// How long closing waits for the disk.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Objects in memory and on disk. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) memory: Memory,
    pub(crate) shares: Arc<Shares>,
    recent: Arc<Recent>,
    fetched: Fetched,
    /// `None` without a disk.
    disk: Option<Arc<Disk>>,
    hash_seed: u64,
    pub(crate) closed: AtomicBool,
    next_fill: AtomicU64,
    removed: Removed,
    pub(crate) ledger: Arc<LiveLedger>,
    pub(crate) lender: Lender,
    metrics: Metrics,
}

impl Store {
    /// Opens the store; with a disk, what an earlier process wrote there is found again.
    ///
    /// `runtime` carries the disk's tasks and blocking reads and writes; it must outlive the store and have its timer enabled.
    pub async fn open(config: StoreConfig, runtime: &Handle, registry: &mut Registry) -> Result<Self, StoreError> {
        let metrics = Metrics::register(registry);
        let disk_bytes = config.disk().map_or(0, |disk| disk.bytes);
        let recent = Arc::new(Recent::for_bytes(config.memory_bytes() + disk_bytes));
        let capacity = config.budget().entries;
        let (seed, displaced) = (config.hash_seed(), metrics.displaced.clone());
        let shares = Arc::new(Shares::new(seed, capacity, disk_bytes, Arc::clone(&recent), displaced));
        let disk = match config.disk().cloned() {
            None => None,
            Some(disk) => {
                let shares = Arc::clone(&shares);
                Some(Disk::open(disk, config.hash_seed(), metrics.disk.clone(), shares, runtime).await?)
            }
        };
        let epoch = disk.as_ref().map_or(0, |disk| disk.epoch());
        let ledger = open_ledger(disk.as_deref(), &config, runtime, registry).await?;
        let inner = Arc::new(Inner {
            memory: engine::memory(&config, &shares),
            shares,
            recent,
            fetched: Fetched::new(),
            disk,
            hash_seed: config.hash_seed(),
            closed: AtomicBool::new(false),
            next_fill: AtomicU64::new((epoch << FillId::EPOCH_SHIFT) + 1),
            removed: Removed::new(config.hash_seed()),
            ledger: Arc::new(ledger),
            lender: Lender::new(runtime, config.budget()),
            metrics,
        });
        registry.register_collector(Box::new(Sizes(Arc::downgrade(&inner))));
        if let Some(disk) = &inner.disk {
            let (disk, every) = (Arc::clone(disk), config.probe_every());
            if config.writes_anew() {
                runtime.spawn(rescue::work(Arc::downgrade(&inner), Arc::clone(&disk)));
            }
            runtime.spawn(probe::watch(Arc::downgrade(&inner), disk, every, runtime.clone()));
        }
        Ok(Self { inner })
    }

    /// What memory has under `key`. Neither waits nor allocates.
    pub fn memory_get(&self, key: &CacheKey) -> Option<Entry> {
        let found = self.inner.memory.get(&HeadRef(key))?;
        // Whoever stores, or reads from disk, looks for a removal after it inserted: until it has, what is gone is there.
        if found.value().stamp().is_some_and(|stamp| self.inner.removed.since(key, stamp)) {
            return None;
        }
        let entry = entry_of(found.value())?;
        self.inner.recent.mark(found.hash());
        self.inner.metrics.heads.memory.inc();
        Some(entry)
    }

    /// What memory, else the disk, has under `key`. Read errors and damage are a miss.
    pub async fn get(&self, key: &CacheKey) -> Option<(Entry, Tier)> {
        if let Some(entry) = self.memory_get(key) {
            return Some((entry, Tier::Memory));
        }
        let entry = self.disk_get(key).await;
        let counts = &self.inner.metrics.heads;
        if entry.is_some() {
            counts.disk.inc()
        } else {
            counts.nowhere.inc()
        };
        entry.map(|entry| (entry, Tier::Disk))
    }

    async fn disk_get(&self, key: &CacheKey) -> Option<Entry> {
        let record = self.inner.read(&RecordKey::Head(key.clone())).await?;
        if record.stamp().is_some_and(|stamp| self.inner.removed.since(key, stamp)) {
            // foyer has just put it into memory again.
            self.inner.memory.remove(&HeadRef(key));
            return None;
        }
        entry_of(&record)
    }

    /// Segment `index` of the object's body, checked against the checksum it was written with when it comes from disk.
    /// An inline body is its own segment 0.
    ///
    /// `None`: it is past the end, or it is missing, and the caller fetches it again.
    pub async fn segment(&self, object: &Object, index: u32) -> Option<(Bytes, Tier)> {
        if let Body::Inline(bytes) = &object.body {
            return (index == 0 && !bytes.is_empty()).then(|| (bytes.clone(), Tier::Memory));
        }
        let len = object.body.segment_len(index)?;
        let key = RecordKey::Segment(object.fill, index);
        let counts = &self.inner.metrics.segments;
        let found = match self.inner.memory.get(&key) {
            Some(found) => {
                self.inner.recent.mark(found.hash());
                segment_of(found.value()).map(|bytes| (bytes, Tier::Memory))
            }
            None => self.inner.read(&key).await.as_ref().and_then(segment_of).map(|bytes| (bytes, Tier::Disk)),
        };
        let unknown = object.body.len() == Body::LEN_UNKNOWN;
        let found = found.filter(|(bytes, _)| bytes.len() == len || unknown);
        match &found {
            Some((_, Tier::Memory)) => counts.memory.inc(),
            Some((_, Tier::Disk)) => counts.disk.inc(),
            None => counts.nowhere.inc(),
        };
        found
    }

    /// Whether memory or the disk's index has all of these segments of a fill. Reads nothing: a segment may yet turn out
    /// damaged, or go.
    pub fn holds(&self, fill: FillId, segments: Range<u32>) -> bool {
        let inner = &self.inner;
        let engine = inner.engine();
        segments.into_iter().all(|index| {
            let key = RecordKey::Segment(fill, index);
            inner.memory.contains(&key) || engine.as_ref().is_some_and(|engine| engine.storage().may_contains(&key))
        })
    }

    /// Whether memory or the disk's index has something under `key`. Reads nothing: it may yet turn out damaged, or go.
    pub fn has(&self, key: &CacheKey) -> bool {
        self.place(&RecordKey::Head(key.clone())).is_some()
    }

    /// Where one record lies, without reading it.
    pub(crate) fn place(&self, key: &RecordKey) -> Option<Tier> {
        if self.inner.memory.contains(key) {
            return Some(Tier::Memory);
        }
        let engine = self.inner.engine()?;
        engine.may_contain(self.inner.memory.hash(key)).then_some(Tier::Disk)
    }

    /// Names a new fill. A removal of its key from here on undoes it.
    pub fn begin(&self) -> FillId {
        FillId::bare(self.inner.next_fill.fetch_add(1, Ordering::Relaxed))
    }

    /// Names a new fill of `key`, on the account of the key's site. Asked to admit to the disk on the second fetch, it tells
    /// the first one to stay in memory ([`FillId::is_memory_only`]).
    pub fn begin_for(&self, key: &CacheKey, admission: DiskAdmission) -> FillId {
        let inner = &self.inner;
        let memory_only = match admission {
            DiskAdmission::Always => false,
            DiskAdmission::SecondFetch => inner.disk.is_some() && !inner.fetched.again(key.hash128(inner.hash_seed)),
        };
        FillId { slot: slot(key), memory_only, ..self.begin() }
    }

    /// What a fill's objects share, in bytes: memory, or the disk if they may go there and it works.
    pub fn capacity_for(&self, fill: FillId) -> u64 {
        let memory = self.inner.memory.capacity() as u64;
        let disk = if fill.memory_only { None } else { self.inner.engine().and(self.inner.disk.as_ref()) };
        disk.map_or(memory, |disk| memory.max(disk.bytes()))
    }

    /// How far purges have been applied: what a fill takes as its fence before its fetch begins.
    pub fn fence(&self) -> Seq {
        self.inner.ledger.applied()
    }

    /// Whether purges allow what is stored under `key`, or one of its variants, to be used. To be asked of everything that
    /// [`Self::get`] finds, and again after every wait; costs two loads while nothing was purged since.
    pub fn verdict(&self, key: &CacheKey, tags: &[Box<str>], fence: Seq) -> Verdict {
        self.inner.ledger.verdict(key, tags, fence)
    }

    /// Whether a purge since `fence` may match a response for `key` whose head is not known yet.
    pub fn may_be_purged(&self, key: &CacheKey, fence: Seq) -> bool {
        self.inner.ledger.may_match(key, fence)
    }

    /// Purges all `scopes` under one number. When this returns, whoever asks for a [`Self::verdict`] is told, on whichever
    /// core, and the purge is on disk, if there is one and the acknowledgement says so.
    pub async fn purge(&self, kind: Kind, scopes: &[Scope], now: Timestamp) -> PurgeAck {
        self.inner.ledger.purge(kind, scopes, now).await
    }

    /// Purges what a response of upstream made invalid: like a hard [`Self::purge`], but waits for no disk.
    pub async fn invalidate(&self, scopes: &[Scope], now: Timestamp) -> Seq {
        self.inner.ledger.invalidate(scopes, false, now).await
    }

    /// Remembers across a restart what [`Self::remove`] takes out of memory at once and off the disk in a while.
    pub async fn remember_removed(&self, scopes: &[Scope], now: Timestamp) -> Seq {
        self.inner.ledger.invalidate(scopes, true, now).await
    }

    /// The latest purges, at most [`RECENT_PURGES_MAX`](crate::RECENT_PURGES_MAX), youngest first.
    pub fn recent_purges(&self) -> Vec<Purge> {
        self.inner.ledger.recent()
    }

    /// URLs, prefixes and surrogate keys that the ledger of purges tells apart.
    pub fn purge_entries(&self) -> usize {
        self.inner.ledger.entries()
    }

    /// Stores one segment of a fill's body: [`SEGMENT_BYTES`] bytes, the last segment fewer.
    ///
    /// Waits for the disk, which is what slows a fill down to the disk's speed, but only for seconds: a disk that does not
    /// keep up costs the segment its disk copy, counted as `memory-only`. `body` is copied out of whatever buffer it shares.
    pub async fn put_segment(&self, fill: FillId, index: u32, body: Bytes) {
        self.put_parts(fill, index, vec![body]).await;
    }

    /// As [`Store::put_segment`], of a segment in parts.
    pub async fn put_parts(&self, fill: FillId, index: u32, parts: Vec<Bytes>) {
        let inner = &self.inner;
        let counts = &inner.metrics.segments;
        if parts.iter().map(Bytes::len).sum::<usize>() > SEGMENT_BYTES || inner.closed.load(Ordering::Acquire) {
            counts.refused.inc();
            return;
        }
        let (key, record) = (RecordKey::Segment(fill, index), Record::Segment(Buffer::gather(&parts)));
        drop(parts);
        let Some(disk) = &inner.disk else { return inner.insert_in_memory(&counts.memory_only, key, record) };
        if fill.memory_only {
            return inner.insert_in_memory(&counts.first_fetch, key, record);
        }
        let Some(engine) = disk.engine() else { return inner.insert_in_memory(&counts.disk_down, key, record) };
        let bytes = record.disk_bytes(&key);
        let mut ticket = engine.window.try_segment(bytes);
        if ticket.is_none() {
            inner.metrics.write_waits.inc();
            ticket = engine.window.segment(bytes).await;
        }
        match ticket {
            Some(ticket) => inner.insert(counts, &engine, ticket, key, record),
            None => inner.insert_in_memory(&counts.memory_only, key, record),
        }
    }

    /// Makes a fill visible under `key`; its segments are in already. Replaces what was there.
    ///
    /// Nothing happens when `key` was removed or the object purged after the fill began, or the object is larger than the
    /// store takes. Fields and
    /// inline body are copied out of whatever buffers they share.
    pub fn commit(&self, key: &CacheKey, object: Object) {
        if self.is_overtaken(key, &object) {
            self.inner.metrics.heads.refused.inc();
            return;
        }
        let head = compact::head(&object.head);
        let mut encoded = Vec::new();
        head.encode(&mut encoded);
        let body = match object.body {
            Body::Inline(bytes) => Body::Inline(Bytes::copy_from_slice(&bytes)),
            segments @ Body::Segments { .. } => segments,
        };
        let fits = encoded.len() <= RECORD_BYTES_MAX
            && match &body {
                Body::Inline(bytes) => bytes.len() <= INLINE_BYTES_MAX,
                Body::Segments { len } => *len != Body::LEN_UNKNOWN,
            };
        let object = Object { head: Arc::new(head), fill: object.fill, fence: object.fence, body };
        self.inner.put(key, Record::Head { object, encoded: encoded.len() as u32 }, fits);
    }

    /// Whether a purge came after the fetch of an object that is to be stored, so that it is of no use, or of less than what
    /// was fetched since.
    fn is_overtaken(&self, key: &CacheKey, object: &Object) -> bool {
        match self.verdict(key, &object.head.tags, object.fence) {
            Verdict::Clean => false,
            Verdict::Hard(..) => true,
            Verdict::Soft(..) => self.inner.memory.get(&HeadRef(key)).is_some_and(
                |found| matches!(found.value(), Record::Head { object: stored, .. } if stored.fence > object.fence),
            ),
        }
    }

    /// Stores which variants the URL of `key` has. Replaces what was there.
    pub fn put_variants(&self, key: &CacheKey, index: VariantIndex) {
        let mut encoded = Vec::new();
        index.encode(&mut encoded);
        let fits = encoded.len() <= RECORD_BYTES_MAX;
        let record = Record::Variants { index: Arc::new(index), stamp: self.begin(), encoded: encoded.len() as u32 };
        self.inner.put(key, record, fits);
    }

    /// Forgets what is under `key`, and whatever a fill that has begun already commits there later. Its segments, which
    /// nothing leads to any more, go as they age.
    pub fn remove(&self, key: &CacheKey) {
        let inner = &self.inner;
        inner.removed.note(key, self.begin());
        inner.remove(key);
        inner.metrics.removed.inc();
    }

    /// Writes what is on its way to the disk and gives the folder up. Later writes are refused; memory can still be read.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        let Some(disk) = &self.inner.disk else { return };
        // Wakes the watch, which sees that the store is closed and ends.
        disk.suspicion.notify_one();
        if let Some(engine) = disk.open_breaker() {
            match tokio::time::timeout(CLOSE_MAX, engine.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the disk cache did not close cleanly"),
                Err(_) => tracing::warn!(waited = ?CLOSE_MAX, "the disk does not take what is on its way: left behind"),
            }
        }
        disk.unlock();
    }

    /// Whether `key` was removed after `fill` began: what the fill brought must not be used or stored under it any more.
    pub fn removed_since(&self, key: &CacheKey, fill: FillId) -> bool {
        self.inner.removed.since(key, fill)
    }

    /// Sizes, now.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

async fn open_ledger(
    disk: Option<&Disk>,
    config: &StoreConfig,
    runtime: &Handle,
    registry: &mut Registry,
) -> Result<LiveLedger, StoreError> {
    let (folder, seed) = (disk.and_then(Disk::ledger_folder), config.hash_seed());
    let Some(folder) = folder else {
        return Ok(LiveLedger::in_memory(seed, runtime.clone(), LedgerMetrics::register(registry)));
    };
    let dir = folder.dir.clone();
    let (remembering, of_ledger) = (runtime.clone(), LedgerMetrics::register(registry));
    let opened = runtime.spawn_blocking(move || LiveLedger::open(&folder, seed, remembering, of_ledger)).await;
    opened.map_err(|_| StoreError::Runtime)?.map_err(|source| StoreError::Unwritable { dir, source })
}

mod compact;
mod inner;

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "failure_tests.rs"]
mod failure_tests;
