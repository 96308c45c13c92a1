//! The entries as foyer sees them: key, value, weight and disk form.
//!
//! Disk form (integers little-endian; foyer puts a checksum over value and key around it):
//! ```text
//! head      1 | fill u64 | slot u16 | fence u64 | 0 inline, 1 segments | body length u64 | head length u32 | head | inline body
//! variants  2 | stamp u64 | length u32 | index
//! segment   3 | length u32 | bytes
//! key       0 | cache key                    or    1 | fill u64 | slot u16 | index u32
//! ```

use std::{
    hash::{BuildHasher, Hash, Hasher},
    io::{Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use equivalent::Equivalent;
use foyer::{Code, Error, ErrorKind};
use perigee_semantics::{head::StoredHead, key::CacheKey, purge::Seq, vary::VariantIndex};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    buffer::Buffer,
    object::{Body, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES},
};

/// The largest encoded head or variant index that is stored, in bytes; larger ones are refused.
pub(crate) const RECORD_BYTES_MAX: usize = 512 * 1024;
/// What foyer's own record, hash table slot and queue links take per entry, in bytes (rounded up).
const ENTRY_OVERHEAD: usize = 256;
/// What a `HeaderMap` that was cloned takes per field beside its text, in bytes (bucket and index slots): with it, what is
/// counted for an object of 1 KiB and seven fields is 4 % above what the process grows by (`benches/figures.rs`).
const FIELD_OVERHEAD: usize = 120;
/// foyer's entry header and page on disk, in bytes.
const DISK_HEADER: usize = 36;
pub(crate) const DISK_PAGE: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecordKey {
    Head(CacheKey),
    Segment(FillId, u32),
}

impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Head(key) => HeadRef(key).hash(state),
            Self::Segment(fill, index) => {
                let mut bytes = [1_u8; 13];
                bytes[1..9].copy_from_slice(&fill.count.to_le_bytes());
                bytes[9..13].copy_from_slice(&index.to_le_bytes());
                state.write(&bytes);
                state.write_u16(fill.slot);
            }
        }
    }
}

/// A head's key, borrowed: looking one up neither allocates nor touches a reference count.
pub(crate) struct HeadRef<'a>(pub(crate) &'a CacheKey);

impl Hash for HeadRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
        state.write_u16(slot(self.0));
    }
}

impl Equivalent<RecordKey> for HeadRef<'_> {
    fn equivalent(&self, key: &RecordKey) -> bool {
        matches!(key, RecordKey::Head(head) if head == self.0)
    }
}

/// An entry's key by its hash under `seed` alone, where nothing else of it is known.
pub(crate) struct HashRef {
    pub(crate) hash: u64,
    pub(crate) seed: u64,
}

impl Hash for HashRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<RecordKey> for HashRef {
    fn equivalent(&self, key: &RecordKey) -> bool {
        SeededHash(self.seed).hash_one(key) == self.hash
    }
}

/// Where in a hash its site stands: not in the low bits, which choose the shard and the bucket, nor in the highest, which a
/// bucket's tag is made of.
const SLOT_SHIFT: u32 = 32;
const SLOT_MASK: u64 = 0xffff << SLOT_SHIFT;

/// Whose account a key is on: a number from the name of its site, 0 if there is none. Two sites may share one.
pub(crate) fn slot(key: &CacheKey) -> u16 {
    match key.site() {
        [] => 0,
        site => (xxh3_64_with_seed(site, 0) as u16).max(1),
    }
}

/// The slot of an entry, by its hash.
pub(crate) fn slot_in(hash: u64) -> u16 {
    (hash >> SLOT_SHIFT) as u16
}

/// Seeded XXH3: where a key lies cannot be told from outside, so nobody can choose URLs that collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeededHash(pub(crate) u64);

impl BuildHasher for SeededHash {
    type Hasher = SeededHasher;
    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    /// Says whose it is.
    fn write_u16(&mut self, slot: u16) {
        self.0 = (self.0 & !SLOT_MASK) | (u64::from(slot) << SLOT_SHIFT);
    }
    /// A hash is its own hash: see [`HashRef`].
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// `encoded` is the length in bytes of the head's disk form.
    Head { object: Object, encoded: u32 },
    /// `stamp` tells whether the key was removed since.
    Variants { index: Arc<VariantIndex>, stamp: FillId, encoded: u32 },
    /// In a [`Buffer`].
    Segment(Bytes),
}

impl Record {
    /// What of removals counts for it: one that came after `stamp` undoes it. Segments are found through heads only.
    pub(crate) fn stamp(&self) -> Option<FillId> {
        match self {
            Self::Head { object, .. } => Some(object.fill),
            Self::Variants { stamp, .. } => Some(*stamp),
            Self::Segment(_) => None,
        }
    }

    /// Bytes in memory, overhead included.
    pub(crate) fn weight(key: &RecordKey, record: &Self) -> usize {
        let key = match key {
            RecordKey::Head(key) => key.as_bytes().len(),
            RecordKey::Segment(..) => 0,
        };
        ENTRY_OVERHEAD
            + key
            + match record {
                Self::Head { object, encoded } => {
                    let inline = if let Body::Inline(bytes) = &object.body { bytes.len() } else { 0 };
                    let fields = object.head.fields.len() * FIELD_OVERHEAD;
                    size_of::<StoredHead>() + *encoded as usize + fields + inline
                }
                // An index keeps names and values apart: count them twice.
                Self::Variants { encoded, .. } => size_of::<VariantIndex>() + 2 * *encoded as usize,
                Self::Segment(bytes) => Buffer::capacity_for(bytes.len()),
            }
    }

    /// Bytes on disk: whole pages.
    pub(crate) fn disk_bytes(&self, key: &RecordKey) -> usize {
        (DISK_HEADER + key.estimated_size() + self.estimated_size()).next_multiple_of(DISK_PAGE)
    }
}

/// An entry that this release cannot read. foyer forgets entries it gets this error for, and answers a miss.
fn unreadable(what: &'static str) -> Error {
    Error::new(ErrorKind::MagicMismatch, what)
}

fn write(writer: &mut impl Write, bytes: &[u8]) -> foyer::Result<()> {
    writer.write_all(bytes).map_err(Error::io_error)
}

fn read<const N: usize>(reader: &mut impl Read) -> foyer::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(|_| unreadable("entry ends early"))?;
    Ok(bytes)
}

/// `len` bytes in one allocation of just that size.
fn read_bytes(reader: &mut impl Read, len: usize, max: usize) -> foyer::Result<Vec<u8>> {
    if len > max {
        return Err(unreadable("entry is too large"));
    }
    let mut bytes = Vec::with_capacity(len);
    read_into(reader, len, &mut bytes)?;
    Ok(bytes)
}

/// `len` bytes into a vector that is empty and has room for them.
fn read_into(reader: &mut impl Read, len: usize, bytes: &mut Vec<u8>) -> foyer::Result<()> {
    reader.take(len as u64).read_to_end(bytes).map_err(|_| unreadable("entry ends early"))?;
    if bytes.len() == len { Ok(()) } else { Err(unreadable("entry ends early")) }
}

fn read_fill(reader: &mut impl Read) -> foyer::Result<FillId> {
    let count = u64::from_le_bytes(read(reader)?);
    Ok(FillId { slot: u16::from_le_bytes(read(reader)?), ..FillId::bare(count) })
}

fn read_u32(reader: &mut impl Read) -> foyer::Result<usize> {
    Ok(u32::from_le_bytes(read(reader)?) as usize)
}

impl Code for RecordKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        match self {
            Self::Head(key) => {
                write(writer, &[0])?;
                write(writer, key.as_bytes())
            }
            Self::Segment(fill, index) => {
                write(writer, &[1])?;
                write(writer, &fill.count.to_le_bytes())?;
                write(writer, &fill.slot.to_le_bytes())?;
                write(writer, &index.to_le_bytes())
            }
        }
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        match read::<1>(reader)? {
            [0] => {
                let mut key = Vec::new();
                reader.take(RECORD_BYTES_MAX as u64).read_to_end(&mut key).map_err(|_| unreadable("key ends early"))?;
                Ok(Self::Head(CacheKey::from_bytes(&key)))
            }
            [1] => {
                let fill = read_fill(reader)?;
                Ok(Self::Segment(fill, u32::from_le_bytes(read(reader)?)))
            }
            _ => Err(unreadable("unknown key")),
        }
    }

    fn estimated_size(&self) -> usize {
        match self {
            Self::Head(key) => 1 + key.as_bytes().len(),
            Self::Segment(..) => 15,
        }
    }
}

impl Code for Record {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let mut encoded = Vec::new();
        match self {
            Self::Head { object, encoded: len } => {
                encoded.reserve_exact(*len as usize);
                object.head.encode(&mut encoded);
                write(writer, &[1])?;
                write(writer, &object.fill.count.to_le_bytes())?;
                write(writer, &object.fill.slot.to_le_bytes())?;
                write(writer, &object.fence.as_u64().to_le_bytes())?;
                write(writer, &[u8::from(matches!(object.body, Body::Segments { .. }))])?;
                write(writer, &object.body.len().to_le_bytes())?;
                write(writer, &(encoded.len() as u32).to_le_bytes())?;
                write(writer, &encoded)?;
                if let Body::Inline(bytes) = &object.body { write(writer, bytes) } else { Ok(()) }
            }
            Self::Variants { index, stamp, .. } => {
                index.encode(&mut encoded);
                write(writer, &[2])?;
                write(writer, &stamp.count.to_le_bytes())?;
                write(writer, &(encoded.len() as u32).to_le_bytes())?;
                write(writer, &encoded)
            }
            Self::Segment(bytes) => {
                write(writer, &[3])?;
                write(writer, &(bytes.len() as u32).to_le_bytes())?;
                write(writer, bytes)
            }
        }
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        match read::<1>(reader)? {
            [1] => {
                let fill = read_fill(reader)?;
                let fence = Seq::new(u64::from_le_bytes(read(reader)?));
                let segmented = read::<1>(reader)? == [1];
                let len = u64::from_le_bytes(read(reader)?);
                let encoded = read_u32(reader)?;
                let head = read_bytes(reader, encoded, RECORD_BYTES_MAX)?;
                let head = StoredHead::decode(&head).map_err(|_| unreadable("head"))?;
                let body = if segmented {
                    Body::Segments { len }
                } else {
                    let len = usize::try_from(len).map_err(|_| unreadable("entry is too large"))?;
                    Body::Inline(read_bytes(reader, len, INLINE_BYTES_MAX)?.into())
                };
                Ok(Self::Head { object: Object { head: Arc::new(head), fill, fence, body }, encoded: encoded as u32 })
            }
            [2] => {
                let stamp = FillId::bare(u64::from_le_bytes(read(reader)?));
                let encoded = read_u32(reader)?;
                let index = read_bytes(reader, encoded, RECORD_BYTES_MAX)?;
                let index = VariantIndex::decode(&index).map_err(|_| unreadable("variant index"))?;
                Ok(Self::Variants { index: Arc::new(index), stamp, encoded: encoded as u32 })
            }
            [3] => {
                let len = read_u32(reader)?;
                if len > SEGMENT_BYTES {
                    return Err(unreadable("segment is too large"));
                }
                let mut buffer = Buffer::take(len);
                buffer.fill(reader, len).map_err(|_| unreadable("entry ends early"))?;
                Ok(Self::Segment(buffer.into_bytes()))
            }
            _ => Err(unreadable("unknown entry")),
        }
    }

    fn estimated_size(&self) -> usize {
        match self {
            Self::Head { object, encoded } => {
                let inline = if let Body::Inline(bytes) = &object.body { bytes.len() } else { 0 };
                32 + *encoded as usize + inline
            }
            Self::Variants { encoded, .. } => 13 + *encoded as usize,
            Self::Segment(bytes) => 5 + bytes.len(),
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
