//! How a store does what it is asked: memory first, the disk behind its window, removals after whatever came before them.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use foyer::HybridCacheProperties;
use perigee_semantics::key::CacheKey;
use prometheus_client::metrics::counter::Counter;

use super::Inner;
use crate::{
    disk::{Disk, Engine},
    engine::MemoryEntry,
    journal::Note,
    metrics::Counts,
    object::{Entry, Stats},
    record::{HeadRef, Record, RecordKey},
    window::Ticket,
};

/// What a future of foyer's is.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        self.disk.as_ref()?.engine()
    }

    /// From the disk, its queue, or memory if it got there meanwhile. Concurrent reads of one key share one read.
    pub(super) async fn read(&self, key: &RecordKey) -> Option<Record> {
        let disk = self.disk.as_ref()?;
        let engine = disk.engine()?;
        // The index is in memory: a plain miss costs neither a task nor an allocation.
        if !engine.may_contain(self.memory.hash(key)) {
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

    pub(super) fn put(&self, key: &CacheKey, record: Record, fits: bool) {
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

    pub(super) fn put_on(&self, disk: &Disk, counts: &Counts, name: RecordKey, record: Record) {
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
                engine.delete(hash);
                self.insert_in_memory(count, name, record);
            }
        }
    }

    pub(super) fn insert_anywhere(&self, key: RecordKey, record: Record) -> MemoryEntry {
        self.shares.make_room(&self.memory, self.memory.hash(&key), Record::weight(&key, &record) as u64);
        self.memory.insert(key, record)
    }

    /// Into memory and to the disk.
    pub(super) fn insert(&self, counts: &Counts, engine: &Arc<Engine>, ticket: Ticket, key: RecordKey, record: Record) {
        let entry = self.insert_anywhere(key, record);
        match entry.key() {
            RecordKey::Segment(..) => engine.enqueue_segment(&entry, ticket),
            RecordKey::Head(_) => engine.enqueue_soon(entry, ticket),
        }
        counts.written.inc();
    }

    pub(super) fn insert_in_memory(&self, count: &Counter, key: RecordKey, record: Record) {
        drop(self.insert_anywhere(key, record));
        count.inc();
    }

    pub(super) fn remove(&self, key: &CacheKey) {
        let name = HeadRef(key);
        self.memory.remove(&name);
        let Some(disk) = &self.disk else { return };
        let hash = self.memory.hash(&name);
        if let Some(engine) = disk.changing(hash, true) {
            engine.delete(hash);
        }
    }
}

pub(super) fn entry_of(record: &Record) -> Option<Entry> {
    match record {
        Record::Head { object, .. } => Some(Entry::Object(object.clone())),
        Record::Variants { index, .. } => Some(Entry::Variants(Arc::clone(index))),
        Record::Segment(_) => None,
    }
}

pub(super) fn segment_of(record: &Record) -> Option<Bytes> {
    match record {
        Record::Segment(bytes) => Some(bytes.clone()),
        _ => None,
    }
}
