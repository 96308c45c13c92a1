//! The most frequent of many, in bounded memory: the space-saving algorithm (Metwally, Agrawal, El Abbadi 2005).

use std::{collections::HashMap, hash::Hash};

/// Counts at most so many keys at once; when one more comes, it takes the place, and the count, of the rarest.
#[derive(Debug)]
pub struct Sketch<K, V> {
    keys_max: usize,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Hash + Eq + Clone + Ord, V: Default> Sketch<K, V> {
    /// Empty; `keys_max` is at least 1.
    pub fn new(keys_max: usize) -> Self {
        Self { keys_max: keys_max.max(1), entries: HashMap::new() }
    }

    /// Counts `key` and gives what is kept of it; of a key that takes another's place: nothing yet.
    pub fn count(&mut self, key: K) -> &mut V {
        let mut inherited = 0;
        if self.entries.len() >= self.keys_max && !self.entries.contains_key(&key) {
            let rarest = self.entries.iter().map(|(key, (count, _))| (*count, key)).min();
            if let Some((count, rarest)) = rarest.map(|(count, key)| (count, key.clone())) {
                inherited = count;
                self.entries.remove(&rarest);
            }
        }
        let entry = self.entries.entry(key).or_insert_with(|| (inherited, V::default()));
        entry.0 += 1;
        &mut entry.1
    }

    /// Halves every count, so that what was frequent long ago goes; `halve` does the same to what is kept.
    pub fn halve(&mut self, halve: impl Fn(&mut V)) {
        self.entries.retain(|_, (count, kept)| {
            *count /= 2;
            halve(kept);
            *count > 0
        });
    }

    /// The most frequent, most frequent first.
    pub fn top(&self, number: usize) -> Vec<(&K, u64, &V)> {
        let mut all: Vec<_> = self.entries.iter().map(|(key, (count, kept))| (key, *count, kept)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(number);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frequent_is_found_among_much_that_is_rare() {
        let mut sketch: Sketch<u32, u32> = Sketch::new(16);
        for n in 0..10_000_u32 {
            *sketch.count(n + 1_000) += 1;
            *sketch.count(n % 4) += 1;
        }
        let top: Vec<u32> = sketch.top(4).into_iter().map(|(key, _, _)| *key).collect();
        assert_eq!(top, [0, 1, 2, 3]);
        assert!(sketch.entries.len() <= 16);
        sketch.halve(|kept| *kept /= 2);
        assert_eq!(sketch.top(1)[0].1, 1_250);
        for _ in 0..20 {
            sketch.halve(|kept| *kept /= 2);
        }
        assert!(sketch.entries.is_empty());
    }
}
