//! What the store holds, as its users see it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use perigee_semantics::{head::StoredHead, purge::Seq, vary::VariantIndex};

/// Bytes of every segment of a body but its last. foyer writes whole entries: this is small enough that none is ever too
/// large for its buffers, and large enough that a segment costs one read.
pub const SEGMENT_BYTES: usize = 256 * 1024;
/// Bodies up to this many bytes lie in the head's own entry (a disk entry takes whole 4 KiB pages anyway).
pub const INLINE_BYTES_MAX: usize = 32 * 1024;

/// What a key leads to. Clones share everything.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A stored response.
    Object(Object),
    /// The URL varies: which variant lies under which id.
    Variants(Arc<VariantIndex>),
}

/// One stored response. Clones share everything.
#[derive(Debug, Clone)]
pub struct Object {
    /// Status, fields, freshness, validators, tags.
    pub head: Arc<StoredHead>,
    /// Which fill brought the body; its segments lie under this name.
    pub fill: FillId,
    /// How far purges had been applied when the fetch that brought or last validated it began: one that matches it and
    /// has a higher number undoes it. Of parts that several fetches brought, the lowest.
    pub fence: Seq,
    /// The body, or where it is.
    pub body: Body,
}

/// A body, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// At most [`INLINE_BYTES_MAX`] bytes.
    Inline(Bytes),
    /// Segments `0..segments()` of [`SEGMENT_BYTES`] each, the last one shorter; ask [`Store::segment`](crate::Store::segment).
    Segments {
        /// The whole body's length in bytes, or [`Body::LEN_UNKNOWN`].
        len: u64,
    },
}

impl Body {
    /// The length in bytes of a body that is still arriving, nobody knows how long: its segments can be read, whatever
    /// their length, but it cannot be committed.
    pub const LEN_UNKNOWN: u64 = u64::MAX;

    /// The whole body's length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Segments { len } => *len,
        }
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many segments the body has; 0 when it is inline.
    pub fn segments(&self) -> u32 {
        match self {
            Self::Inline(_) => 0,
            Self::Segments { len } => u32::try_from(len.div_ceil(SEGMENT_BYTES as u64)).unwrap_or(u32::MAX),
        }
    }

    /// The length in bytes of segment `index`, `None` past the end.
    pub fn segment_len(&self, index: u32) -> Option<usize> {
        let start = u64::from(index) * SEGMENT_BYTES as u64;
        match self {
            Self::Segments { len } if start < *len => Some((len - start).min(SEGMENT_BYTES as u64) as usize),
            _ => None,
        }
    }
}

/// The name of one fill: unique in a store for as long as its disk folder lives, and later fills are greater.
///
/// The upper 24 bits count how often the folder was opened, the rest the fills since: neither a clock that jumps nor a weak
/// source of chance can bring a name back while segments of its first bearer are still on the disk.
///
/// It also carries whose account the fill is on, and whether it may go to the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FillId {
    pub(crate) count: u64,
    /// Of the site: see [`crate::record::slot`].
    pub(crate) slot: u16,
    pub(crate) memory_only: bool,
}

impl FillId {
    pub(crate) const EPOCH_SHIFT: u32 = 40;

    /// Nobody's, and for the disk as well.
    pub(crate) const fn bare(count: u64) -> Self {
        Self { count, slot: 0, memory_only: false }
    }

    /// Whether the fill stays in memory: its key was not fetched before, and its site wants that of what goes to the disk.
    pub fn is_memory_only(self) -> bool {
        self.memory_only
    }

    /// The number, for logs and records.
    pub fn as_u64(self) -> u64 {
        self.count
    }
}

impl fmt::Debug for FillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count & ((1 << Self::EPOCH_SHIFT) - 1);
        write!(f, "FillId({}:{count})", self.count >> Self::EPOCH_SHIFT)
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Memory.
    Memory,
    /// The disk, or its write queue.
    Disk,
}

impl Tier {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// What a store holds and did, at one moment. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Of cached entries, their overhead included.
    pub memory_used: u64,
    /// What `memory_used` may reach: the configured memory less buffers and reserve.
    pub memory_capacity: u64,
    /// Entries in memory: heads, segments, variant indices.
    pub memory_entries: u64,
    /// The disk's part; `None` without a disk.
    pub disk: Option<DiskStats>,
}

/// What the disk tier holds and did. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskStats {
    /// Whether it works. While it does not, everything is served from memory and upstream.
    pub up: bool,
    /// What the folder may take; all of it is allocated from the start.
    pub capacity: u64,
    /// Written since the start, and at most `capacity` of it is still there.
    pub written: u64,
    /// Read since the start.
    pub read: u64,
    /// Handed to the disk and not yet written.
    pub outstanding: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_a_length() {
        const S: u64 = SEGMENT_BYTES as u64;
        let check = |len: u64, segments: u32, last: Option<usize>| {
            let body = Body::Segments { len };
            assert_eq!(body.segments(), segments, "{len}");
            assert_eq!(body.segment_len(segments.saturating_sub(1)), last, "{len}");
            assert_eq!(body.segment_len(segments), None, "{len}");
            let sum: u64 = (0..segments).filter_map(|i| body.segment_len(i)).map(|n| n as u64).sum();
            assert_eq!(sum, len);
        };
        check(0, 0, None);
        check(1, 1, Some(1));
        check(S, 1, Some(SEGMENT_BYTES));
        check(S + 1, 2, Some(1));
        check(3 * S - 1, 3, Some(SEGMENT_BYTES - 1));
    }
}
