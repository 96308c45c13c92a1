//! Bodies of any length that are never held in memory: every byte follows from the seed, the length and its position.
//!
//! A body is 64 KiB blocks. Each block is a window into one pool of noise, with its own number stamped on its front, so
//! that a block that is cut, repeated, moved or taken from another body cannot pass for the right one.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// The longest generated body, in bytes.
pub(crate) const GENERATED_BYTES_MAX: u64 = 1 << 40;
/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;
const POOL_BYTES: usize = 256 << 10;
const STAMP_BYTES: usize = 16;

/// A step of SplitMix64: a permutation of 64-bit numbers that looks like chance.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What generated bodies are cut from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Noise {
    seed: u64,
    pool: Arc<[u8]>,
}

impl std::fmt::Debug for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Noise").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        let words = (POOL_BYTES + BLOCK_BYTES) / 8;
        let pool = (0..words as u64).flat_map(|i| mix(seed ^ mix(i)).to_le_bytes()).collect();
        Self { seed, pool }
    }

    /// The strong validator of the body of this length, quotes included.
    pub(crate) fn etag(&self, length: u64) -> String {
        format!("\"g{:x}-{length:x}\"", self.seed)
    }

    /// The bytes `start..end` of the body of `length` bytes, in pieces of at most [`BLOCK_BYTES`].
    pub(crate) fn read(&self, length: u64, start: u64, end: u64) -> Pieces {
        let end = end.min(length);
        Pieces { noise: self.clone(), length, position: start.min(end), end }
    }

    fn block(&self, length: u64, number: u64) -> BytesMut {
        let stamp = mix(self.seed ^ mix(length) ^ number);
        let offset = stamp as usize % POOL_BYTES;
        let mut block = BytesMut::from(self.pool.get(offset..offset + BLOCK_BYTES).unwrap_or_default());
        if let Some(front) = block.get_mut(..STAMP_BYTES) {
            front[..8].copy_from_slice(&number.to_le_bytes());
            front[8..].copy_from_slice(&stamp.to_le_bytes());
        }
        block
    }
}

/// The rest of a generated body, one piece at a time.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    noise: Noise,
    length: u64,
    position: u64,
    end: u64,
}

impl Pieces {
    /// Bytes that are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.position
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.position >= self.end {
            return None;
        }
        let block_bytes = BLOCK_BYTES as u64;
        let number = self.position / block_bytes;
        let start = number * block_bytes;
        let block = self.noise.block(self.length, number).freeze();
        let piece = block.slice((self.position - start) as usize..(self.end - start).min(block_bytes) as usize);
        self.position += piece.len() as u64;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn whole(noise: &Noise, length: u64) -> Vec<u8> {
        noise.read(length, 0, length).flatten().collect()
    }

    #[test]
    fn a_body_is_the_same_today_and_tomorrow() {
        // Written down when this was made: whoever changes the generator changes every published hash.
        let hash = Sha256::digest(whole(&Noise::new(1), 200_000));
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "1102673dd042da3764bbf8fe12c95fed1dfada31064107e8c883bde626dbf052");
    }

    #[test]
    fn blocks_lengths_and_seeds_differ() {
        let noise = Noise::new(1);
        let body = whole(&noise, 4 * BLOCK_BYTES as u64);
        let blocks: std::collections::BTreeSet<&[u8]> = body.chunks(BLOCK_BYTES).collect();
        assert_eq!(blocks.len(), 4);
        assert_ne!(whole(&noise, 1000), whole(&noise, 1001)[..1000]);
        assert_ne!(whole(&noise, 1000), whole(&Noise::new(2), 1000));
        assert_ne!(noise.etag(1000), noise.etag(1001));
    }

    proptest! {
        #[test]
        fn any_range_equals_that_slice_of_the_whole(length in 0u64..300_000, a in 0u64..300_001, b in 0u64..300_001) {
            let noise = Noise::new(7);
            let body = whole(&noise, length);
            prop_assert_eq!(body.len() as u64, length);
            let (start, end) = (a.min(b).min(length), a.max(b).min(length));
            let pieces = noise.read(length, a.min(b), a.max(b));
            prop_assert_eq!(pieces.remaining(), end - start);
            let got: Vec<u8> = pieces.flatten().collect();
            prop_assert_eq!(&got[..], &body[start as usize..end as usize]);
        }
    }
}
