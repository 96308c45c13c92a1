//! No site takes another's place.
//!
//! Whose an entry is stands in its hash ([`slot_in`]), so that memory and disk can keep accounts of it. A site may use all that
//! the others leave. Once a tier is full, a site that has more than its equal share pays for what it brings with what it has:
//! in memory its own oldest entries make room, except those that were hit lately, and on disk, which is a queue, its entries
//! are not saved from the queue's end (see `rescue`). What others hit is saved there.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use foyer::{Event, EventListener};
use prometheus_client::metrics::counter::Counter;

use crate::{
    engine::Memory,
    recent::{Asker, Recent},
    record::{HashRef, Record, RecordKey, SeededHash, slot_in},
};

/// Entries looked at to make room for one.
const STEPS_MAX: usize = 64;
/// Of those, spared because they were hit lately. Who hits everything has no better choice than the oldest.
const SPARED_MAX: usize = 8;

/// What one site has in a store. Sites whose slots are equal, which is rare, count as one.
#[derive(Debug, Default)]
struct Account {
    /// Bytes in memory.
    memory: AtomicU64,
    /// Entries in memory.
    entries: AtomicUsize,
    /// Bytes on disk that this process knows of.
    disk: AtomicU64,
    /// What came into memory, oldest first; some of it has left since.
    queue: Mutex<VecDeque<u64>>,
}

/// The accounts of a store.
pub(crate) struct Shares {
    seed: u64,
    memory_capacity: AtomicU64,
    disk_capacity: u64,
    /// Bytes in memory, of all sites.
    memory: AtomicU64,
    /// Sites that have something in memory, and on disk.
    in_memory: AtomicUsize,
    on_disk: AtomicUsize,
    accounts: RwLock<HashMap<u16, Arc<Account>>>,
    recent: Arc<Recent>,
    /// Entries that made room for others of their own site.
    displaced: Counter,
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares")
            .field("in_memory", &self.in_memory)
            .field("on_disk", &self.on_disk)
            .finish_non_exhaustive()
    }
}

fn add(total: &AtomicU64, sites: &AtomicUsize, bytes: u64) {
    if total.fetch_add(bytes, Ordering::Relaxed) == 0 && bytes > 0 {
        sites.fetch_add(1, Ordering::Relaxed);
    }
}

/// Never below nothing: what was on disk before the process began was never added.
fn subtract(total: &AtomicU64, sites: &AtomicUsize, bytes: u64) {
    let less = |now: u64| Some(now.saturating_sub(bytes));
    let before = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
    if before > 0 && before <= bytes {
        sites.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shares {
    pub(crate) fn new(
        seed: u64,
        memory_capacity: u64,
        disk_capacity: u64,
        recent: Arc<Recent>,
        displaced: Counter,
    ) -> Self {
        Self {
            seed,
            memory_capacity: AtomicU64::new(memory_capacity),
            disk_capacity,
            memory: AtomicU64::new(0),
            in_memory: AtomicUsize::new(0),
            on_disk: AtomicUsize::new(0),
            accounts: RwLock::default(),
            recent,
            displaced,
        }
    }

    /// Memory may take so many bytes from now on.
    pub(crate) fn resize(&self, memory_capacity: u64) {
        self.memory_capacity.store(memory_capacity, Ordering::Relaxed);
    }

    /// `None`: it is nobody's.
    fn account(&self, hash: u64) -> Option<Arc<Account>> {
        let slot = slot_in(hash);
        if slot == 0 {
            return None;
        }
        let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(&slot).cloned();
        let made =
            || Arc::clone(self.accounts.write().unwrap_or_else(PoisonError::into_inner).entry(slot).or_default());
        Some(known.unwrap_or_else(made))
    }

    /// The weight of an entry that is about to enter memory; it is on its site's account from now on.
    pub(crate) fn enters(&self, key: &RecordKey, record: &Record) -> usize {
        let weight = Record::weight(key, record);
        let hash = key.hash(self.seed);
        self.memory.fetch_add(weight as u64, Ordering::Relaxed);
        if let Some(account) = self.account(hash) {
            add(&account.memory, &self.in_memory, weight as u64);
            account.entries.fetch_add(1, Ordering::Relaxed);
            account.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(hash);
        }
        weight
    }

    fn leaves(&self, key: &RecordKey, record: &Record) {
        let weight = Record::weight(key, record) as u64;
        self.memory.fetch_sub(weight, Ordering::Relaxed);
        if let Some(account) = self.account(key.hash(self.seed)) {
            subtract(&account.memory, &self.in_memory, weight);
            account.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Before an entry of `bytes` under `hash` enters memory: when memory is full and its site has more than its share, as
    /// much of the site's own goes first.
    pub(crate) fn make_room(&self, memory: &Memory, hash: u64, bytes: u64) {
        let Some(account) = self.account(hash) else { return };
        let mut queue = account.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() > 2 * account.entries.load(Ordering::Relaxed) + STEPS_MAX {
            queue.retain(|hash| memory.contains(&HashRef { hash: *hash, seed: self.seed }));
        }
        let sites = self.in_memory.load(Ordering::Relaxed) as u64;
        let capacity = self.memory_capacity.load(Ordering::Relaxed);
        let share = capacity / sites.max(1);
        // A little below: foyer's shards fill unevenly, and the first full one takes from anybody.
        let full = capacity - capacity / 16;
        let is_full = self.memory.load(Ordering::Relaxed) + bytes > full;
        if sites < 2 || !is_full || account.memory.load(Ordering::Relaxed) + bytes <= share {
            return;
        }
        let (mut freed, mut spared) = (0, 0);
        for _ in 0..STEPS_MAX {
            let Some(oldest) = queue.pop_front() else { return };
            if freed >= bytes {
                queue.push_front(oldest);
                return;
            }
            if spared < SPARED_MAX && self.recent.take(oldest, Asker::Memory) {
                queue.push_back(oldest);
                spared += 1;
            } else if let Some(gone) = memory.remove(&HashRef { hash: oldest, seed: self.seed }) {
                freed += gone.weight() as u64;
                self.displaced.inc();
            }
        }
    }

    /// An entry of so many bytes is handed to the disk.
    pub(crate) fn enters_disk(&self, hash: u64, bytes: u64) {
        if let Some(account) = self.account(hash) {
            add(&account.disk, &self.on_disk, bytes);
        }
    }

    /// An entry of so many bytes has reached the disk's end. Returns whether it was hit since the last time.
    pub(crate) fn leaves_disk(&self, hash: u64, bytes: u64) -> bool {
        if let Some(account) = self.account(hash) {
            subtract(&account.disk, &self.on_disk, bytes);
        }
        self.recent.take(hash, Asker::Disk)
    }

    /// Whether a site has more than its share of the disk.
    pub(crate) fn is_over_on_disk(&self, hash: u64) -> bool {
        let sites = self.on_disk.load(Ordering::Relaxed) as u64;
        let has = self.account(hash).map_or(0, |account| account.disk.load(Ordering::Relaxed));
        sites > 1 && has > self.disk_capacity / sites
    }
}

/// Takes from the accounts what leaves memory.
pub(crate) struct Leaving(pub(crate) Arc<Shares>);

impl EventListener for Leaving {
    type Key = RecordKey;
    type Value = Record;

    fn on_leave(&self, _: Event, key: &RecordKey, record: &Record) {
        self.0.leaves(key, record);
    }
}

impl RecordKey {
    fn hash(&self, seed: u64) -> u64 {
        std::hash::BuildHasher::hash_one(&SeededHash(seed), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_counted_while_they_have_something() {
        let (total, sites) = (AtomicU64::new(0), AtomicUsize::new(0));
        let check = |bytes: u64, count: usize| {
            assert_eq!((total.load(Ordering::Relaxed), sites.load(Ordering::Relaxed)), (bytes, count));
        };
        add(&total, &sites, 5);
        check(5, 1);
        add(&total, &sites, 1);
        check(6, 1);
        subtract(&total, &sites, 5);
        check(1, 1);
        subtract(&total, &sites, 9);
        check(0, 0);
        subtract(&total, &sites, 1);
        check(0, 0);
        add(&total, &sites, 0);
        check(0, 0);
    }
}
