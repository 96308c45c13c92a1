//! The space of addresses of one family, cut into runs of one decision each, and regions of one answer.

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

/// Of so many runs the first 16 bits are looked up rather than searched for.
const INDEXED_RUNS_MIN: usize = 4_096;
const TOPS: usize = 1 << 16;

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) class: Class,
    /// Leading bits of the address all of whose addresses have the same answer.
    pub(super) bits: u8,
}

/// Runs hold from their start to the next one's; the first begins at 0. Neighbours of one answer are one region.
#[derive(Debug)]
pub(super) struct Runs<K> {
    starts: Vec<K>,
    classes: Vec<Class>,
    /// Of each run, the ways to the first and to the last of its region.
    ways: Vec<[Way; 2]>,
    /// How many runs begin below each value of the first 16 bits; empty: there are few.
    below: Box<[u32]>,
    regions: usize,
}

/// A number of runs, or most of it: with every step on the way less than a sixteenth of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way(u8);

impl Way {
    /// The longest that is no longer than `runs`: four bits of it, and where they stand.
    fn most_of(runs: usize) -> Self {
        let excess = runs.checked_ilog2().unwrap_or(0).saturating_sub(4).min(14);
        let digits = (runs >> excess).min(31);
        // At most 15 * 16 + 15; below 16, the number itself.
        Self(if digits < 16 { digits as u8 } else { (excess as u8 + 1) << 4 | (digits as u8 & 15) })
    }

    fn runs(self) -> usize {
        let (excess, digits) = (self.0 >> 4, usize::from(self.0 & 15));
        if excess == 0 { digits } else { (16 | digits) << (excess - 1) }
    }
}

impl<K: Key> Runs<K> {
    pub(super) fn new() -> Self {
        Self { starts: Vec::new(), classes: Vec::new(), ways: Vec::new(), below: Box::default(), regions: 0 }
    }

    /// From `start`, which is above that of every call before, and at first 0, the class holds.
    pub(super) fn push(&mut self, start: K, class: Class) {
        if self.classes.last() != Some(&class) {
            self.starts.push(start);
            self.classes.push(class);
        }
    }

    /// Ready to be searched; `answer` tells classes of one answer.
    pub(super) fn finish(&mut self, answer: impl Fn(Class) -> Option<usize>) {
        self.starts.shrink_to_fit();
        self.classes.shrink_to_fit();
        self.ways.reserve_exact(self.classes.len());
        for region in self.classes.chunk_by(|a, b| answer(*a) == answer(*b)) {
            let last = region.len() - 1;
            self.ways.extend((0..=last).map(|at| [Way::most_of(at), Way::most_of(last - at)]));
            self.regions += usize::from(region.first().is_some_and(|class| *class != UNMADE));
        }
        if self.starts.len() < INDEXED_RUNS_MIN {
            return;
        }
        let mut below = Vec::with_capacity(TOPS + 1);
        for (at, start) in self.starts.iter().enumerate() {
            // Fewer than 2^32 by the bound on memory.
            below.resize(below.len().max(start.top() + 1), u32::try_from(at).unwrap_or(u32::MAX));
        }
        below.resize(TOPS + 1, u32::try_from(self.starts.len()).unwrap_or(u32::MAX));
        self.below = below.into();
    }

    pub(super) fn regions(&self) -> usize {
        self.regions
    }

    /// Of memory, when it is finished, but for the index.
    pub(super) fn bytes(&self) -> usize {
        self.starts.len() * (size_of::<K>() + size_of::<Class>() + size_of::<[Way; 2]>())
    }

    /// None: no answer is made there.
    pub(super) fn find(&self, key: K) -> Option<Run> {
        let (low, high) = match self.below.get(key.top()..key.top() + 2) {
            Some(&[low, high]) => (low as usize, high as usize),
            _ => (0, self.starts.len()),
        };
        let run = (low + self.starts.get(low..high)?.partition_point(|start| *start <= key)).checked_sub(1)?;
        let class = *self.classes.get(run)?;
        if class == UNMADE {
            return None;
        }
        let (mut first, mut last) = (run, run);
        while let Some(back) = self.ways.get(first).map(|[back, _]| back.runs()).filter(|back| *back > 0) {
            first = first.saturating_sub(back);
        }
        while let Some(on) = self.ways.get(last).map(|[_, on]| on.runs()).filter(|on| *on > 0) {
            last += on;
        }
        // The addresses just outside on either side must not share the prefix.
        let outside = [self.starts.get(first)?.before(), self.starts.get(last + 1).copied()];
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
            runs.push(*start, (at % 7) as Class);
        }
        runs.finish(|class| Some(usize::from(class) / 2));
        let below = std::mem::take(&mut runs.below);
        let keys = starts.iter().flat_map(|start| [*start, start.wrapping_sub(1), *start | 0xFFFF]);
        let searched: Vec<_> = keys.clone().map(|key| runs.find(key)).collect();
        assert!(!below.is_empty());
        runs.below = below;
        assert!(keys.zip(searched).all(|(key, expected)| runs.find(key) == expected));
    }

    #[test]
    fn a_way_is_most_of_it() {
        for runs in (0..2_000).chain([31 << 14, (31 << 14) + 1, 1_000_000, usize::MAX]) {
            let way = Way::most_of(runs).runs();
            assert!(way <= runs && (way > 0 || runs == 0), "{runs}: {way}");
            assert!(runs - way <= runs / 16 || runs > 31 << 14, "{runs}: {way}");
        }
    }

    #[test]
    fn long_regions_are_walked_to_their_ends() {
        let mut runs = Runs::<u32>::new();
        runs.push(0, 9);
        (1..=1_200_000).for_each(|at| runs.push(at * 1_000, (at % 2) as Class));
        runs.push(1 << 31, 9);
        runs.finish(|class| Some(usize::from(class == 9)));
        for key in [1_000, 600_000_500, 1_200_000_000, (1 << 31) - 1] {
            let (start, next) = (999_u32, 1_u32 << 31);
            let bits = key.common_bits(start).max(key.common_bits(next)) + 1;
            assert_eq!(runs.find(key).map(|run| run.bits), Some(bits), "{key}");
        }
        assert_eq!(runs.regions(), 3);
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
                runs.push(*start, class_of(*class));
            }
            runs.finish(|class| answer(if class == UNMADE { 4 } else { class }));
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
