//! Bodies that are a function of their name and version: whoever knows those can check any part of any length.

/// What bodies of one name and version grow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

/// Of the golden ratio, as in splitmix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const WORD: u64 = 8;

impl Seed {
    /// Of a name (a path) and its version.
    pub fn of(name: &str, version: u64) -> Self {
        // FNV-1a: short names, and nobody attacks a test.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(mix(hash ^ mix(version)))
    }

    /// A number below `bound` that only depends on the name.
    pub fn below(self, bound: u64) -> u64 {
        mix(self.0) % bound.max(1)
    }

    /// Fills `out` with the bytes from `offset` on.
    pub fn fill(self, offset: u64, out: &mut [u8]) {
        let mut index = offset / WORD;
        let skip = (offset % WORD) as usize;
        let (head, rest) = out.split_at_mut(if skip == 0 { 0 } else { (WORD as usize - skip).min(out.len()) });
        if !head.is_empty() {
            head.copy_from_slice(&self.word(index)[skip..skip + head.len()]);
            index += 1;
        }
        for chunk in rest.chunks_mut(WORD as usize) {
            let length = chunk.len();
            chunk.copy_from_slice(&self.word(index)[..length]);
            index += 1;
        }
    }

    /// The bytes `from..until`.
    pub fn bytes(self, from: u64, until: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(until.saturating_sub(from)).unwrap_or(0)];
        self.fill(from, &mut bytes);
        bytes
    }

    fn word(self, index: u64) -> [u8; WORD as usize] {
        mix(self.0.wrapping_add(index.wrapping_mul(STEP))).to_le_bytes()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers that repeat from run to run.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0) % bound.max(1)
    }

    /// From 0 to below 1.
    pub fn part(&mut self) -> f64 {
        self.below(1 << 53) as f64 / (1_u64 << 53) as f64
    }

    /// One of `count` things by Zipf's law with exponent 1: the first is asked for most.
    pub fn zipf(&mut self, count: u64) -> u64 {
        (((count as f64 + 1.0).powf(self.part())) as u64).clamp(1, count.max(1)) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_a_part_of_the_whole() {
        let seed = Seed::of("/a", 3);
        let whole = seed.bytes(0, 100);
        for from in 0..100 {
            for until in from..=100 {
                assert_eq!(seed.bytes(from, until), whole[from as usize..until as usize], "{from}..{until}");
            }
        }
        assert_ne!(whole, Seed::of("/a", 4).bytes(0, 100));
        assert_ne!(whole, Seed::of("/b", 3).bytes(0, 100));
    }

    #[test]
    fn the_first_of_zipf_is_asked_for_most() {
        let mut dice = Dice::new(1);
        let mut counts = [0; 1000];
        for _ in 0..100_000 {
            counts[dice.zipf(1000) as usize] += 1;
        }
        // 100,000 × ln 2 / ln 1001, and the last.
        assert!((9_500..10_600).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[999] > 0 && counts[999] < 60, "{}", counts[999]);
    }
}
