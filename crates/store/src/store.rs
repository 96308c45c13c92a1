//! The store: lookups, fills, commits, removals.

use std::{
    fmt,
    future::poll_fn,
    ops::Range,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use foyer::HybridCacheProperties;
use perigee_protocol::model::DiskAdmission;
use perigee_semantics::{
    key::CacheKey,
    purge::{Kind, Purge, Scope, Seq, Verdict},
    time::Timestamp,
    vary::VariantIndex,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::runtime::Handle;

use crate::{
    buffer::Buffer,
    config::StoreConfig,
    disk::{Disk, Engine},
    engine::{self, Memory, MemoryEntry},
    error::StoreError,
    journal::Note,
    ledger::{LedgerMetrics, LiveLedger, PurgeAck},
    lend::Lender,
    metrics::{Counts, Metrics, Sizes},
    object::{Body, Entry, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES, Stats, Tier},
    probe,
    recent::{Fetched, Recent},
    record::{HeadRef, RECORD_BYTES_MAX, Record, RecordKey, slot},
    removed::Removed,
    rescue,
    shares::Shares,
    window::Ticket,
};

/// What a future of foyer's is.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
    shares: Arc<Shares>,
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
            runtime.spawn(rescue::work(Arc::downgrade(&inner), Arc::clone(&disk)));
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
        engine.storage().may_contains(key).then_some(Tier::Disk)
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

    /// Purges what a response of upstream made invalid: like a hard [`Self::purge`], but waits for nothing.
    pub fn invalidate(&self, scopes: &[Scope], now: Timestamp) -> Seq {
        self.inner.ledger.invalidate(scopes, false, now)
    }

    /// Remembers across a restart what [`Self::remove`] takes out of memory at once and off the disk in a while.
    pub fn remember_removed(&self, scopes: &[Scope], now: Timestamp) -> Seq {
        self.inner.ledger.invalidate(scopes, true, now)
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

impl Inner {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            memory_used: self.memory.usage() as u64,
            memory_capacity: self.memory.capacity() as u64,
            memory_entries: self.memory.entries() as u64,
            disk: self.disk.as_ref().map(|disk| disk.stats()),
        }
    }

    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// The disk tier, if there is one that works.
    fn engine(&self) -> Option<Arc<Engine>> {
        self.disk.as_ref()?.engine()
    }

    /// From the disk, its queue, or memory if it got there meanwhile. Concurrent reads of one key share one read.
    async fn read(&self, key: &RecordKey) -> Option<Record> {
        let disk = self.disk.as_ref()?;
        let engine = disk.engine()?;
        // The index is in memory: a plain miss costs neither a task nor an allocation.
        if !engine.storage().may_contains(key) {
            return None;
        }
        let (disk, name) = (Arc::clone(disk), key.clone());
        let (memory, shares, recent) = (self.memory.clone(), Arc::clone(&self.shares), Arc::clone(&self.recent));
        // Told to the one who reads: it is written anew once.
        let is_old = Arc::new(AtomicBool::new(false));
        let (reads_old, owner) = (Arc::clone(&is_old), Arc::clone(&disk));
        let spawner = engine.storage().spawner().clone();
        let load = move |_: &mut ()| -> BoxFuture<'static, _> {
            Box::pin(async move {
                let found = disk.load(&engine, &name).await;
                if let Some((record, _)) = &found {
                    let hash = memory.hash(&name);
                    recent.mark(hash);
                    shares.make_room(&memory, hash, Record::weight(&name, record) as u64);
                }
                Ok(found.map(|(record, is_old)| {
                    reads_old.store(is_old, Ordering::Relaxed);
                    (record, HybridCacheProperties::default()).into()
                }))
            })
        };
        let reading = self.memory.get_or_fetch_inner(key, || Some(Box::new(load)), || None, (), &spawner);
        let mut reading = pin!(reading);
        // Awaiting it would take a miss for an error.
        match poll_fn(|context| reading.as_mut().poll_inner(context)).await {
            Ok(found) => {
                let found = found?;
                if is_old.load(Ordering::Relaxed) {
                    owner.waiting.push(found.hash());
                }
                Some(found.value().clone())
            }
            Err(error) => {
                // The runtime is shutting down.
                tracing::debug!(%error, "disk cache read abandoned");
                None
            }
        }
    }

    fn put(&self, key: &CacheKey, record: Record, fits: bool) {
        let counts = &self.metrics.heads;
        if !fits {
            // What was there is older than what cannot be stored.
            self.remove(key);
        }
        let stamp = record.stamp();
        let undone = || stamp.is_some_and(|stamp| self.removed.since(key, stamp));
        if !fits || self.closed.load(Ordering::Acquire) || undone() {
            counts.refused.inc();
            return;
        }
        let name = RecordKey::Head(key.clone());
        match &self.disk {
            None => self.insert_in_memory(&counts.memory_only, name, record),
            Some(disk) => self.put_on(disk, counts, name, record),
        }
        // A removal may have come between the check and the insertion.
        if undone() {
            self.remove(key);
        }
    }

    fn put_on(&self, disk: &Disk, counts: &Counts, name: RecordKey, record: Record) {
        let hash = self.memory.hash(&name);
        let Some(engine) = disk.changing(hash, false) else {
            return self.insert_in_memory(&counts.disk_down, name, record);
        };
        let is_first = matches!(&record, Record::Head { object, .. } if object.fill.memory_only);
        let count = if is_first { &counts.first_fetch } else { &counts.memory_only };
        let ticket = if is_first { None } else { engine.window.head(record.disk_bytes(&name)) };
        match ticket {
            Some(ticket) => self.insert(counts, &engine, ticket, name, record),
            None => {
                // Else an older head on disk would come back when memory lets this one go.
                disk.journal.note(Note { hash, removed: true });
                engine.storage().delete(&name);
                self.insert_in_memory(count, name, record);
            }
        }
    }

    fn insert_anywhere(&self, key: RecordKey, record: Record) -> MemoryEntry {
        self.shares.make_room(&self.memory, self.memory.hash(&key), Record::weight(&key, &record) as u64);
        self.memory.insert(key, record)
    }

    /// Into memory and to the disk.
    fn insert(&self, counts: &Counts, engine: &Engine, ticket: Ticket, key: RecordKey, record: Record) {
        let bytes = record.disk_bytes(&key) as u64;
        let entry = self.insert_anywhere(key, record);
        engine.enqueue(&entry);
        if entry.is_outdated() && !matches!(entry.key(), RecordKey::Segment(..)) {
            // Replaced or removed meanwhile: what was just written might be the later one on disk.
            engine.storage().delete(entry.key());
        }
        self.shares.enters_disk(entry.hash(), bytes);
        ticket.sent(entry.hash());
        counts.written.inc();
    }

    fn insert_in_memory(&self, count: &Counter, key: RecordKey, record: Record) {
        drop(self.insert_anywhere(key, record));
        count.inc();
    }

    fn remove(&self, key: &CacheKey) {
        let name = HeadRef(key);
        self.memory.remove(&name);
        let Some(disk) = &self.disk else { return };
        if let Some(engine) = disk.changing(self.memory.hash(&name), true) {
            engine.storage().delete(&name);
        }
    }
}

fn entry_of(record: &Record) -> Option<Entry> {
    match record {
        Record::Head { object, .. } => Some(Entry::Object(object.clone())),
        Record::Variants { index, .. } => Some(Entry::Variants(Arc::clone(index))),
        Record::Segment(_) => None,
    }
}

fn segment_of(record: &Record) -> Option<Bytes> {
    match record {
        Record::Segment(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

/// A head that shares no memory with the connection it came from.
mod compact {
    use bytes::BytesMut;
    use http::HeaderValue;
    use perigee_semantics::head::StoredHead;

    /// hyper hands out field values as slices of its read buffer: kept as they are, each small response would keep 8 KiB and
    /// more alive, uncounted. All values move into one allocation of just their size.
    pub(super) fn head(head: &StoredHead) -> StoredHead {
        let mut head = head.clone();
        let mut text = BytesMut::with_capacity(head.fields.values().map(HeaderValue::len).sum());
        for value in head.fields.values_mut() {
            text.extend_from_slice(value.as_bytes());
            // It was a valid value a moment ago; if it were not, it stays as it was.
            if let Ok(mut copy) = HeaderValue::from_maybe_shared(text.split().freeze()) {
                copy.set_sensitive(value.is_sensitive());
                *value = copy;
            }
        }
        head
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "failure_tests.rs"]
mod failure_tests;
