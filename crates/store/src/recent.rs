//! Two small memories of keys by their hashes, neither of them exact: what was hit lately, and what was fetched lately.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// One spot, of two bits, for so many bytes of a store: entries are seldom smaller, and who shares a spot is asked about in
/// another's name.
const BYTES_PER_SPOT: u64 = 1024;
/// Between 64 KiB and 16 MiB.
const SPOTS_RANGE: std::ops::RangeInclusive<u64> = 1 << 18..=1 << 26;
/// In one word.
const SPOTS: u64 = 32;

/// Who asks whether an entry was hit since they last asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker {
    /// Memory, which looks for what may go.
    Memory = 0b01,
    /// The disk, whose end an entry has reached.
    Disk = 0b10,
}

/// Which entries were hit since they were last asked about.
#[derive(Debug)]
pub(crate) struct Recent {
    words: Box<[AtomicU64]>,
    mask: u64,
}

impl Recent {
    /// For a store of so many bytes in all.
    pub(crate) fn for_bytes(bytes: u64) -> Self {
        let spots = (bytes / BYTES_PER_SPOT).clamp(*SPOTS_RANGE.start(), *SPOTS_RANGE.end()).next_power_of_two();
        Self { words: (0..spots / SPOTS).map(|_| AtomicU64::new(0)).collect(), mask: spots - 1 }
    }

    fn word(&self, hash: u64) -> Option<(&AtomicU64, u64)> {
        let at = hash & self.mask;
        // Always there: the mask ends where the words do.
        self.words.get((at / SPOTS) as usize).map(|word| (word, 2 * (at % SPOTS)))
    }

    /// Notes a hit. Costs a read when it was noted before, which is the usual case of what is hot.
    pub(crate) fn mark(&self, hash: u64) {
        if let Some((word, shift)) = self.word(hash)
            && (word.load(Ordering::Relaxed) >> shift) & 0b11 != 0b11
        {
            word.fetch_or(0b11 << shift, Ordering::Relaxed);
        }
    }

    /// Whether it was hit since this asker last asked.
    pub(crate) fn take(&self, hash: u64, asker: Asker) -> bool {
        self.word(hash).is_some_and(|(word, shift)| {
            let bit = (asker as u64) << shift;
            word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
        })
    }
}

/// Keys that one half of [`Fetched`] remembers: at this load one key in about 250 is taken for one that was seen.
const FETCHED_MAX: u32 = 64 * 1024;
const FETCHED_BITS: usize = 1 << 20;

/// Which keys were fetched before: the last 64 Ki surely, as many before those too.
#[derive(Debug)]
pub(crate) struct Fetched(Mutex<Halves>);

#[derive(Debug)]
struct Halves {
    young: Vec<u64>,
    old: Vec<u64>,
    count: u32,
}

impl Fetched {
    pub(crate) fn new() -> Self {
        let empty = || vec![0; FETCHED_BITS / 64];
        Self(Mutex::new(Halves { young: empty(), old: empty(), count: 0 }))
    }

    /// Notes a fetch of the key of this hash; returns whether there was one before.
    pub(crate) fn again(&self, hash: u128) -> bool {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Halves { young, old, count } = &mut *halves;
        let spots = [hash as usize, (hash >> 64) as usize].map(|part| part % FETCHED_BITS);
        let has =
            |half: &[u64]| spots.iter().all(|spot| half.get(spot / 64).is_some_and(|w| w & (1 << (spot % 64)) != 0));
        let seen = has(young);
        let seen_before = seen || has(old);
        if !seen {
            for spot in spots {
                if let Some(word) = young.get_mut(spot / 64) {
                    *word |= 1 << (spot % 64);
                }
            }
            *count += 1;
            if *count >= FETCHED_MAX {
                std::mem::swap(young, old);
                young.fill(0);
                *count = 0;
            }
        }
        seen_before
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128_with_seed;

    use super::*;

    #[test]
    fn a_hit_counts_once() {
        let recent = Recent::for_bytes(0);
        recent.mark(7);
        recent.mark(7);
        assert!(recent.take(7, Asker::Memory));
        assert!(!recent.take(7, Asker::Memory));
        assert!(recent.take(7, Asker::Disk), "each asks for itself");
        assert!(!recent.take(7, Asker::Disk));
        assert!(!recent.take(8, Asker::Disk));
        recent.mark(7);
        assert!(recent.take(7, Asker::Disk));
        recent.mark(u64::MAX);
        assert!(recent.take(u64::MAX, Asker::Memory), "the last spot of the last word");
    }

    #[test]
    fn bits_follow_the_store_within_limits() {
        let check = |bytes: u64, words: usize| assert_eq!(Recent::for_bytes(bytes).words.len(), words);
        check(0, 1 << 13);
        check(256 << 20, 1 << 13);
        check((256 << 20) + BYTES_PER_SPOT, 1 << 14);
        check(u64::MAX, 1 << 21);
    }

    #[test]
    fn a_second_fetch_is_known_and_an_old_one_forgotten() {
        let fetched = Fetched::new();
        let hash = |number: u32| xxh3_128_with_seed(&number.to_le_bytes(), 5);
        assert!(!fetched.again(hash(0)));
        assert!(fetched.again(hash(0)));
        let mistaken = (1..2 * FETCHED_MAX).filter(|number| fetched.again(hash(*number))).count();
        assert!(mistaken < 4_000, "{mistaken} new keys were taken for old ones");
        let remembered = (FETCHED_MAX + 1000..2 * FETCHED_MAX).filter(|number| fetched.again(hash(*number))).count();
        assert_eq!(remembered, (FETCHED_MAX - 1000) as usize, "the last ones are all known");
        (2 * FETCHED_MAX..3 * FETCHED_MAX).for_each(|number| _ = fetched.again(hash(number)));
        let remembered = (0..1000).filter(|number| fetched.again(hash(*number))).count();
        assert!(remembered < 100, "{remembered} of the oldest are still known");
    }
}
