//! The store: lookups, fills, commits, removals.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use foyer::{HybridCacheProperties, Location};
use perigee_semantics::{key::CacheKey, vary::VariantIndex};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::{
    buffer::Buffer,
    config::StoreConfig,
    engine::{self, Hybrid},
    error::StoreError,
    folder::Folder,
    metrics::{Counts, Metrics, Sizes},
    object::{Body, DiskStats, Entry, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES, Stats, Tier},
    record::{HeadRef, RECORD_BYTES_MAX, Record, RecordKey},
    removed::Removed,
    window::Window,
};

/// Objects in memory and on disk. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    hybrid: Hybrid,
    /// The disk's back-pressure; `None` without a disk.
    window: Option<Window>,
    /// Given up when the store closes.
    folder: Mutex<Option<Folder>>,
    disk_bytes: u64,
    closed: AtomicBool,
    next_fill: AtomicU64,
    removed: Removed,
    metrics: Metrics,
}

impl Store {
    /// Opens the store; with a disk, what an earlier process wrote there is found again.
    ///
    /// `runtime` carries the disk's tasks and blocking reads and writes; it must outlive the store and have its timer enabled.
    pub async fn open(config: StoreConfig, runtime: &Handle, registry: &mut Registry) -> Result<Self, StoreError> {
        let metrics = Metrics::register(registry);
        let folder = match config.disk().cloned() {
            None => None,
            Some(disk) => {
                let seed = config.hash_seed();
                let opened = runtime.spawn_blocking(move || Folder::open(&disk, seed)).await;
                Some(opened.map_err(|_| StoreError::Runtime)??)
            }
        };
        let hybrid = engine::open(&config, runtime).await?;
        let disk_bytes = config.disk().map_or(0, |disk| disk.bytes);
        let folder = match folder {
            None => None,
            Some(folder) => {
                let allocated = runtime.spawn_blocking(move || folder.allocate(disk_bytes).map(|()| folder)).await;
                Some(allocated.map_err(|_| StoreError::Runtime)??)
            }
        };
        let window = folder.as_ref().map(|_| {
            let storage = hybrid.storage().clone();
            Window::new(runtime, move || {
                let storage = storage.clone();
                async move { storage.wait().await }
            })
        });
        let epoch = folder.as_ref().map_or(0, |folder| folder.epoch);
        let inner = Arc::new(Inner {
            hybrid,
            window,
            folder: Mutex::new(folder),
            disk_bytes,
            closed: AtomicBool::new(false),
            next_fill: AtomicU64::new((epoch << FillId::EPOCH_SHIFT) + 1),
            removed: Removed::new(config.hash_seed()),
            metrics,
        });
        registry.register_collector(Box::new(Sizes(Arc::downgrade(&inner))));
        Ok(Self { inner })
    }

    /// What memory has under `key`. Neither waits nor allocates.
    pub fn memory_get(&self, key: &CacheKey) -> Option<Entry> {
        let found = self.inner.hybrid.memory().get(&HeadRef(key))?;
        let entry = entry_of(found.value())?;
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
            self.inner.hybrid.memory().remove(&HeadRef(key));
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
        let found = match self.inner.hybrid.memory().get(&key) {
            Some(found) => segment_of(found.value()).map(|bytes| (bytes, Tier::Memory)),
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
        let disk = (inner.window.is_some() && !inner.closed.load(Ordering::Acquire)).then(|| inner.hybrid.storage());
        segments.into_iter().all(|index| {
            let key = RecordKey::Segment(fill, index);
            inner.hybrid.memory().contains(&key) || disk.is_some_and(|disk| disk.may_contains(&key))
        })
    }

    /// Names a new fill. A removal of its key from here on undoes it.
    pub fn begin(&self) -> FillId {
        FillId(self.inner.next_fill.fetch_add(1, Ordering::Relaxed))
    }

    /// Stores one segment of a fill's body: [`SEGMENT_BYTES`] bytes, the last segment fewer.
    ///
    /// Waits for the disk, which is what slows a fill down to the disk's speed, but only for seconds: a disk that does not
    /// keep up costs the segment its disk copy, counted as `memory-only`. `body` is copied out of whatever buffer it shares.
    pub async fn put_segment(&self, fill: FillId, index: u32, body: Bytes) {
        let inner = &self.inner;
        let counts = &inner.metrics.segments;
        if body.len() > SEGMENT_BYTES || inner.closed.load(Ordering::Acquire) {
            counts.refused.inc();
            return;
        }
        let (key, record) = (RecordKey::Segment(fill, index), Record::Segment(Buffer::copy(&body)));
        drop(body);
        let Some(window) = &inner.window else { return inner.insert_in_memory(counts, key, record) };
        let bytes = record.disk_bytes(&key);
        let mut ticket = window.try_segment(bytes);
        if ticket.is_none() {
            inner.metrics.write_waits.inc();
            ticket = window.segment(bytes).await;
        }
        match ticket {
            Some(ticket) => {
                drop(inner.hybrid.insert(key, record));
                ticket.sent();
                counts.written.inc();
            }
            None => inner.insert_in_memory(counts, key, record),
        }
    }

    /// Makes a fill visible under `key`; its segments are in already. Replaces what was there.
    ///
    /// Nothing happens when `key` was removed after the fill began, or the object is larger than the store takes. Fields and
    /// inline body are copied out of whatever buffers they share.
    pub fn commit(&self, key: &CacheKey, object: Object) {
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
        let object = Object { head: Arc::new(head), fill: object.fill, body };
        self.inner.put(key, Record::Head { object, encoded: encoded.len() as u32 }, fits);
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
        inner.removed.note(key, FillId(inner.next_fill.fetch_add(1, Ordering::Relaxed)));
        inner.remove(key);
        inner.metrics.removed.inc();
    }

    /// Writes what is on its way to the disk and gives the folder up. Later writes are refused; memory can still be read.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        if let Err(error) = self.inner.hybrid.close().await {
            tracing::warn!(%error, "the disk cache did not close cleanly");
        }
        drop(self.inner.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
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

impl Inner {
    pub(crate) fn stats(&self) -> Stats {
        let memory = self.hybrid.memory();
        let disk = self.window.as_ref().map(|window| DiskStats {
            capacity: self.disk_bytes,
            written: self.hybrid.statistics().disk_write_bytes() as u64,
            read: self.hybrid.statistics().disk_read_bytes() as u64,
            outstanding: window.outstanding(),
        });
        Stats {
            memory_used: memory.usage() as u64,
            memory_capacity: memory.capacity() as u64,
            memory_entries: memory.entries() as u64,
            disk,
        }
    }

    /// From the disk, its queue, or memory if it got there meanwhile. Concurrent reads of one key share one read.
    async fn read(&self, key: &RecordKey) -> Option<Record> {
        // The index is in memory: a plain miss costs neither a task nor an allocation.
        if self.window.is_none() || self.closed.load(Ordering::Acquire) || !self.hybrid.storage().may_contains(key) {
            return None;
        }
        match self.hybrid.get(key).await {
            Ok(found) => found.map(|found| found.value().clone()),
            Err(error) => {
                self.metrics.read_errors.inc();
                tracing::debug!(%error, "disk cache read failed");
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
        match &self.window {
            None => self.insert_in_memory(counts, name, record),
            Some(window) => match window.head(record.disk_bytes(&name)) {
                Some(ticket) => {
                    drop(self.hybrid.insert(name, record));
                    ticket.sent();
                    counts.written.inc();
                }
                None => {
                    // Else an older head on disk would come back when memory lets this one go.
                    self.hybrid.storage().delete(&name);
                    self.insert_in_memory(counts, name, record);
                }
            },
        }
        // A removal may have come between the check and the insertion.
        if undone() {
            self.remove(key);
        }
    }

    fn insert_in_memory(&self, counts: &Counts, key: RecordKey, record: Record) {
        let properties = HybridCacheProperties::default().with_location(Location::InMem);
        drop(self.hybrid.insert_with_properties(key, record, properties));
        counts.memory_only.inc();
    }

    fn remove(&self, key: &CacheKey) {
        if self.window.is_some() && !self.closed.load(Ordering::Acquire) {
            self.hybrid.remove(&RecordKey::Head(key.clone()));
        } else {
            self.hybrid.memory().remove(&HeadRef(key));
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
