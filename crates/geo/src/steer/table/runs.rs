//! The space of addresses of one family, cut into regions of one answer, and these into runs of one decision.

/// An address, or its first 64 bits.
pub(super) trait Key: Copy + Ord {
    /// The highest 16 bits.
    fn top(self) -> usize;
    fn before(self) -> Option<Self>;
    /// Leading bits that two have in common.
    fn common_bits(self, other: Self) -> u8;
}

impl Key for u32 {
    fn top(self) -> usize {
        (self >> 16) as usize
    }

    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn common_bits(self, other: Self) -> u8 {
        // At most 32.
        (self ^ other).leading_zeros() as u8
    }
}

impl Key for u64 {
    fn top(self) -> usize {
        (self >> 48) as usize
    }

    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn common_bits(self, other: Self) -> u8 {
        // At most 64.
        (self ^ other).leading_zeros() as u8
    }
}

/// What holds for a run; the last stands for "no answer is made".
pub(super) type Class = u16;
pub(super) const UNMADE: Class = Class::MAX;

/// Of so many regions the first 16 bits are looked up rather than searched for.
const INDEXED_REGIONS_MIN: usize = 4_096;
const TOPS: usize = 1 << 16;

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) class: Class,
    /// Leading bits of the address all of whose addresses are in its region.
    pub(super) bits: u8,
}

/// Regions and runs hold from their start to the next one's; the first begin at 0.
#[derive(Debug)]
pub(super) struct Runs<K> {
    regions: Vec<K>,
    /// Of each region, the first of its runs.
    first_runs: Vec<u32>,
    runs: Vec<K>,
    classes: Vec<Class>,
    /// How many regions begin below each value of the first 16 bits; empty: there are few regions.
    below: Box<[u32]>,
    /// The answer of the last region, while it is built.
    last: Option<usize>,
}

impl<K: Key> Runs<K> {
    pub(super) fn new() -> Self {
        Self {
            regions: Vec::new(),
            first_runs: Vec::new(),
            runs: Vec::new(),
            classes: Vec::new(),
            below: Box::default(),
            last: None,
        }
    }

    /// From `start`, which is above that of every call before, and at first 0, the class holds, which gives the answer;
    /// None with [`UNMADE`].
    pub(super) fn push(&mut self, start: K, class: Class, answer: Option<usize>) {
        if self.classes.last() == Some(&class) {
            return;
        }
        if self.regions.is_empty() || answer != self.last {
            self.regions.push(start);
            // Fewer than 2^32 by the bound on memory.
            self.first_runs.push(u32::try_from(self.runs.len()).unwrap_or(u32::MAX));
            self.last = answer;
        }
        self.runs.push(start);
        self.classes.push(class);
    }

    /// Ready to be searched.
    pub(super) fn finish(&mut self) {
        self.regions.shrink_to_fit();
        self.first_runs.shrink_to_fit();
        self.runs.shrink_to_fit();
        self.classes.shrink_to_fit();
        if self.regions.len() < INDEXED_REGIONS_MIN {
            return;
        }
        let mut below = Vec::with_capacity(TOPS + 1);
        for (at, region) in self.regions.iter().enumerate() {
            below.resize(below.len().max(region.top() + 1), u32::try_from(at).unwrap_or(u32::MAX));
        }
        below.resize(TOPS + 1, u32::try_from(self.regions.len()).unwrap_or(u32::MAX));
        self.below = below.into();
    }

    pub(super) fn counts(&self) -> (usize, usize) { (self.regions.len(), self.runs.len()) }
    pub(super) fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Of memory.
    pub(super) fn bytes(&self) -> usize {
        self.regions.len() * (size_of::<K>() + size_of::<u32>())
            + self.runs.len() * (size_of::<K>() + size_of::<Class>())
            + self.below.len() * size_of::<u32>()
    }

    /// None: no answer is made there.
    pub(super) fn find(&self, key: K) -> Option<Run> {
        let (low, high) = match self.below.get(key.top()..key.top() + 2) {
            Some(&[low, high]) => (low as usize, high as usize),
            _ => (0, self.regions.len()),
        };
        let next = low + self.regions.get(low..high)?.partition_point(|start| *start <= key);
        let region = next.checked_sub(1)?;
        let start = *self.regions.get(region)?;
        let first_run = *self.first_runs.get(region)? as usize;
        let end_run = self.first_runs.get(next).map_or(self.runs.len(), |run| *run as usize);
        let within = match end_run - first_run {
            1 => 1,
            _ => self.runs.get(first_run..end_run)?.partition_point(|start| *start <= key),
        };
        let class = *self.classes.get((first_run + within).checked_sub(1)?)?;
        if class == UNMADE {
            return None;
        }
        // The addresses just outside on either side must not share the prefix.
        let outside = [start.before(), self.regions.get(next).copied()];
        let bits = outside.into_iter().flatten().map(|other| key.common_bits(other) + 1).max();
        Some(Run { class, bits: bits.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_finds_as_a_search_does() {
        let mut starts: Vec<u32> = (0..20_000_u32).map(|n| n.wrapping_mul(101_111) >> (n % 9)).collect();
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        let mut runs = Runs::new();
        for (at, start) in starts.iter().enumerate() {
            runs.push(*start, (at % 7) as Class, Some(at % 7 / 2));
        }
        let keys = starts.iter().flat_map(|start| [*start, start.wrapping_sub(1), *start | 0xFFFF]);
        let searched: Vec<_> = keys.clone().map(|key| runs.find(key)).collect();
        runs.finish();
        assert!(!runs.below.is_empty());
        assert!(keys.zip(searched).all(|(key, expected)| runs.find(key) == expected));
    }

    proptest! {
        /// Whatever the runs, each key finds the last that begins at or before it, and the region around.
        #[test]
        fn finds_as_a_scan_does(cuts in prop::collection::btree_map(any::<u32>(), 0..5_u16, 0..40), keys: [u32; 16]) {
            let mut cuts: Vec<(u32, u16)> = cuts.into_iter().collect();
            cuts.insert(0, (0, 9));
            cuts.dedup_by_key(|(start, _)| *start);
            // Classes 1 and 2 answer the same.
            let answer = |class: u16| (class != 4).then_some(usize::from(class.min(1)));
            let class_of = |class: u16| if class == 4 { UNMADE } else { class };
            let mut runs = Runs::new();
            for (start, class) in &cuts {
                runs.push(*start, class_of(*class), answer(*class));
            }
            runs.finish();
            for key in keys.into_iter().chain(cuts.iter().take(50).flat_map(|(start, _)| [*start, start.wrapping_sub(1)])) {
                let at = cuts.iter().rposition(|(start, _)| *start <= key).unwrap();
                let found = runs.find(key);
                prop_assert_eq!(found.map(|run| run.class), Some(class_of(cuts[at].1)).filter(|class| *class != UNMADE));
                let Some(bits) = found.map(|run| run.bits) else { continue };
                let of = |key: u32| answer(cuts[cuts.iter().rposition(|(start, _)| *start <= key).unwrap()].1);
                let (same, all) = (of(key), |bits: u8| {
                    let host = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                    let (first, last) = (key & !host, key | host);
                    cuts.iter().map(|(start, _)| *start).filter(|start| (first..=last).contains(start)).chain([first]).all(|key| of(key) == of(first))
                });
                prop_assert!(all(bits), "{key:08x}/{bits} {same:?}");
                prop_assert!(bits == 0 || !all(bits - 1), "{key:08x}/{bits} is not the shortest");
            }
        }
    }
}
