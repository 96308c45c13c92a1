//! What is asked for stays on disk.
//!
//! The disk is a queue of blocks: whatever reaches its end is gone, hot or not. foyer could write chosen entries anew when it
//! takes a block back, but they keep their old numbers, and a restart stops reading a block at the first number that is lower
//! than its predecessor's: all behind it would be lost. So entries are written anew from memory, as new ones: those that were
//! hit since they were written when their block is taken back, and those that are read from its last tenth.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use foyer::{Statistics, StorageFilterCondition, StorageFilterResult};
use tokio::sync::Notify;

use crate::{
    disk::Disk,
    record::{DISK_PAGE, HashRef, Record},
    store::Inner,
};

/// Entries that may wait to be written anew. Others leave the disk.
const WAITING_MAX: usize = 4 * 1024;

/// Hashes of entries that are to be written anew.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    hashes: Mutex<Vec<u64>>,
    more: Notify,
}

impl Waiting {
    pub(crate) fn push(&self, hash: u64) {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if hashes.len() < WAITING_MAX {
            hashes.push(hash);
            drop(hashes);
            self.more.notify_one();
        }
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.hashes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sees each entry of each block that foyer takes back, once: that keeps the accounts right, and tells what was hit.
#[derive(Debug)]
pub(crate) struct Reclaimed(pub(crate) Weak<Disk>);

impl StorageFilterCondition for Reclaimed {
    fn filter(&self, _: &Arc<Statistics>, hash: u64, len: usize) -> StorageFilterResult {
        if let Some(disk) = self.0.upgrade() {
            disk.counts.expired.inc();
            if disk.shares.leaves_disk(hash, len.next_multiple_of(DISK_PAGE) as u64) {
                disk.waiting.push(hash);
            }
        }
        StorageFilterResult::Reject
    }
}

/// At most a third of all that is written is written anew, else new entries would wait for old ones.
#[derive(Debug)]
struct Budget {
    written: u64,
    bytes: u64,
    /// What is hot may lie close together: this much of it in a row.
    bytes_max: u64,
}

impl Budget {
    fn for_disk(disk_bytes: u64) -> Self {
        Self { written: 0, bytes: 0, bytes_max: disk_bytes / 4 }
    }

    fn take(&mut self, written: u64, bytes: u64) -> bool {
        let earned = written.saturating_sub(self.written) / 3;
        self.written = written;
        self.bytes = (self.bytes + earned).min(self.bytes_max);
        let has = self.bytes >= bytes;
        if has {
            self.bytes -= bytes;
        }
        has
    }
}

/// Writes anew what waits for it, until the store is gone.
pub(crate) async fn work(store: Weak<Inner>, disk: Arc<Disk>) {
    let mut budget = Budget::for_disk(disk.bytes());
    loop {
        disk.waiting.more.notified().await;
        let Some(inner) = store.upgrade() else { return };
        for hash in disk.waiting.take() {
            write_anew(&inner, &disk, hash, &mut budget).await;
        }
    }
}

async fn write_anew(inner: &Inner, disk: &Disk, hash: u64, budget: &mut Budget) {
    let Some(engine) = disk.engine() else { return };
    let Some(entry) = inner.memory.get(&HashRef { hash, seed: inner.hash_seed() }) else { return };
    let (key, record) = (entry.key(), entry.value());
    if matches!(record, Record::Head { object, .. } if object.fill.memory_only) {
        return;
    }
    let bytes = record.disk_bytes(key);
    if disk.shares.is_over_on_disk(hash) || !budget.take(disk.stats().written, bytes as u64) {
        return;
    }
    // Heads too: their own lane is for those that cannot wait.
    let Some(ticket) = engine.window.segment(bytes).await else { return };
    engine.enqueue(&entry);
    if entry.is_outdated() {
        // Replaced or removed meanwhile: what was just written might be the later one on disk.
        engine.storage().delete(key);
        return;
    }
    disk.shares.enters_disk(hash, bytes as u64);
    ticket.sent(hash);
    disk.counts.kept.inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_what_is_written_may_be_written_anew() {
        let mut budget = Budget::for_disk(40_000);
        let check = |budget: &mut Budget, written: u64, bytes: u64, fits: bool| {
            assert_eq!(budget.take(written, bytes), fits, "{bytes} after {written}");
        };
        check(&mut budget, 0, 1, false);
        check(&mut budget, 30_000, 10_000, true);
        check(&mut budget, 30_000, 1, false);
        check(&mut budget, 1 << 40, 10_001, false);
        check(&mut budget, 1 << 40, 10_000, true);
        check(&mut budget, 1 << 40, 1, false);
    }

    #[test]
    fn only_so_many_wait() {
        let waiting = Waiting::default();
        (0..=WAITING_MAX as u64).for_each(|hash| waiting.push(hash));
        assert_eq!(waiting.take().len(), WAITING_MAX);
        assert!(waiting.take().is_empty());
    }
}
