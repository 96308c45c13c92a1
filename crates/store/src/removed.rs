//! Which keys were removed lately.
//!
//! foyer removes asynchronously: an entry still in its write queue, or just being read from disk, can come back for a moment.
//! And a fill that was under way when its key was removed must not bring the old response back. Both are caught by one
//! rule: what a fill brought that began before its key's removal is not there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use perigee_semantics::key::CacheKey;

use crate::object::FillId;

/// Removals remembered. An older one has long been carried out on disk too.
const REMEMBERED_MAX: usize = 64 * 1024;
/// A power of two, of eight bytes each.
const SLOTS: usize = 4096;

#[derive(Debug)]
pub(crate) struct Removed {
    seed: u64,
    /// The last removal of the keys of each slot: what came after it is there, and needs no lock to know. Every hit asks.
    last: Box<[AtomicU64]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    floors: HashMap<u128, FillId>,
    order: VecDeque<(u128, FillId)>,
}

impl Removed {
    pub(crate) fn new(seed: u64) -> Self {
        let last = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { seed, last, state: Mutex::default() }
    }

    /// From now on what came before `floor` under `key` is gone.
    pub(crate) fn note(&self, key: &CacheKey, floor: FillId) {
        let hash = key.hash128(self.seed);
        if let Some(last) = self.last.get(slot(hash)) {
            last.fetch_max(floor.count, Ordering::SeqCst);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.floors.insert(hash, floor);
        state.order.push_back((hash, floor));
        if state.order.len() > REMEMBERED_MAX
            && let Some((oldest, floor)) = state.order.pop_front()
            && state.floors.get(&oldest) == Some(&floor)
        {
            state.floors.remove(&oldest);
        }
    }

    /// Whether `key` was removed after `stamp`.
    pub(crate) fn since(&self, key: &CacheKey, stamp: FillId) -> bool {
        let hash = key.hash128(self.seed);
        if self.last.get(slot(hash)).is_some_and(|last| stamp.count >= last.load(Ordering::SeqCst)) {
            return false;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.floors.get(&hash).is_some_and(|floor| stamp < *floor)
    }
}

fn slot(hash: u128) -> usize {
    hash as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> CacheKey {
        CacheKey::from_bytes(name.as_bytes())
    }

    #[test]
    fn a_removal_undoes_what_began_before_it() {
        let removed = Removed::new(7);
        assert!(!removed.since(&key("a"), FillId::bare(1)));
        removed.note(&key("a"), FillId::bare(5));
        let check =
            |name: &str, stamp: u64, gone: bool| assert_eq!(removed.since(&key(name), FillId::bare(stamp)), gone);
        check("a", 4, true);
        check("a", 5, false);
        check("b", 4, false);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let removed = Removed::new(7);
        removed.note(&key("first"), FillId::bare(9));
        removed.note(&key("again"), FillId::bare(9));
        (0..REMEMBERED_MAX - 2).for_each(|i| removed.note(&key(&i.to_string()), FillId::bare(9)));
        assert!(removed.since(&key("first"), FillId::bare(1)), "exactly as many are kept");
        removed.note(&key("again"), FillId::bare(10));
        assert!(!removed.since(&key("first"), FillId::bare(1)), "one more forgets the oldest");
        removed.note(&key("more"), FillId::bare(11));
        assert!(removed.since(&key("again"), FillId::bare(1)), "its later removal counts, not its first");
        assert_eq!(removed.state.lock().unwrap().order.len(), REMEMBERED_MAX);
    }
}
