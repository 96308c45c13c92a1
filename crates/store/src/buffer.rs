//! Where segments lie in memory: buffers of [`SEGMENT_BYTES`] that are used again.
//!
//! Segments are filled on one thread, read from disk on another and let go on a third. Left to an allocator with memory per
//! thread, that leaves each thread with what the others freed: streaming a gibibyte through a store of 256 MiB and reading a
//! quarter of it back peaked at 346 MiB, and peaks at 202 MiB this way. Here a freed buffer is the next one taken, whoever asks.
//!
//! And what nobody takes goes back to the system at once, since each is a mapping of its own: a cache that lends 56 MiB to
//! bodies under way otherwise leaves them as holes in the allocator's pages, where nothing else fits.

use std::{
    io::{self, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use memmap2::MmapMut;

use crate::object::SEGMENT_BYTES;

/// Freed buffers kept for the next taker, of all stores of the process together.
const IDLE_MAX: usize = 16;
/// Mappings of all stores of the process together; further buffers are the allocator's. Linux allows a process 65,530.
const MAPPINGS_MAX: usize = 40_000;

/// Memory like the allocator's: of the process, and no store's in particular.
static IDLE: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());
static MAPPINGS: AtomicUsize = AtomicUsize::new(0);

/// [`SEGMENT_BYTES`] of the system's.
#[derive(Debug)]
struct Mapping(MmapMut);

impl Mapping {
    fn new() -> Option<Self> {
        if MAPPINGS.fetch_add(1, Ordering::Relaxed) < MAPPINGS_MAX
            && let Ok(map) = MmapMut::map_anon(SEGMENT_BYTES)
        {
            return Some(Self(map));
        }
        MAPPINGS.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        MAPPINGS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Memory {
    Own(Mapping),
    /// Of the allocator.
    Heap(Vec<u8>),
}

/// One buffer; goes back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Always there until dropped.
    memory: Option<Memory>,
    /// Of an own mapping, what is filled.
    len: usize,
}

impl Buffer {
    /// An empty buffer with room for `len` bytes and not much more.
    pub(crate) fn take(len: usize) -> Self {
        // The short ends of bodies have memory of their own: a buffer would be mostly empty.
        let memory = if !is_pooled(len) {
            Memory::Heap(Vec::with_capacity(len))
        } else {
            let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mapping = idle.or_else(Mapping::new);
            mapping.map_or_else(|| Memory::Heap(Vec::with_capacity(SEGMENT_BYTES)), Memory::Own)
        };
        Self { memory: Some(memory), len: 0 }
    }

    /// A copy of `parts`, one after the other; at most [`SEGMENT_BYTES`].
    pub(crate) fn gather(parts: &[Bytes]) -> Bytes {
        let mut buffer = Self::take(parts.iter().map(Bytes::len).sum());
        for part in parts {
            buffer.append(part);
        }
        buffer.into_bytes()
    }

    fn append(&mut self, bytes: &[u8]) {
        match &mut self.memory {
            Some(Memory::Own(mapping)) => {
                let end = self.len + bytes.len();
                if let Some(room) = mapping.0.get_mut(self.len..end) {
                    room.copy_from_slice(bytes);
                    self.len = end;
                }
            }
            Some(Memory::Heap(vec)) => vec.extend_from_slice(bytes),
            None => {}
        }
    }

    /// Fills an empty buffer with `len` bytes of `reader`, for which it was taken.
    pub(crate) fn fill(&mut self, reader: &mut impl Read, len: usize) -> io::Result<()> {
        match &mut self.memory {
            Some(Memory::Own(mapping)) => {
                let room = mapping.0.get_mut(..len).ok_or(io::ErrorKind::InvalidData)?;
                reader.read_exact(room)?;
                self.len = len;
                Ok(())
            }
            Some(Memory::Heap(vec)) => {
                vec.resize(len, 0);
                reader.read_exact(vec)
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The bytes; the buffer goes back with the last clone of them.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Bytes of memory that a segment of `len` bytes takes.
    pub(crate) fn capacity_for(len: usize) -> usize {
        if is_pooled(len) { SEGMENT_BYTES } else { len }
    }
}

fn is_pooled(len: usize) -> bool {
    len > SEGMENT_BYTES / 2 && len <= SEGMENT_BYTES
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Some(Memory::Own(mapping)) => mapping.0.get(..self.len).unwrap_or_default(),
            Some(Memory::Heap(vec)) => vec,
            None => &[],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(Memory::Own(mapping)) = self.memory.take() else { return };
        let surplus = {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(mapping);
                None
            } else {
                Some(mapping)
            }
        };
        // The system takes it back outside the lock.
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(bytes: Vec<u8>) -> Bytes {
        Buffer::gather(&[bytes.into()])
    }

    #[test]
    fn a_freed_buffer_is_taken_again() {
        let first = copy(vec![1; SEGMENT_BYTES]);
        let clone = first.clone();
        drop(first);
        assert!(clone.iter().all(|byte| *byte == 1), "it stays while anybody has it");
        drop(clone);
        // Other tests take and free too: what is taken now is full-sized and empty in any case.
        let mut again = Buffer::take(SEGMENT_BYTES - 1);
        assert!(again.as_ref().is_empty());
        again.append(&vec![2; SEGMENT_BYTES - 1]);
        again.append(&[3]);
        assert_eq!((again.as_ref().len(), again.as_ref().last()), (SEGMENT_BYTES, Some(&3)));
    }

    #[test]
    fn what_is_read_is_all_there_or_an_error() {
        for len in [1, SEGMENT_BYTES / 2, SEGMENT_BYTES / 2 + 1, SEGMENT_BYTES] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut buffer = Buffer::take(len);
            buffer.fill(&mut &bytes[..], len).unwrap();
            assert_eq!(buffer.into_bytes(), bytes, "{len}");
            assert!(Buffer::take(len).fill(&mut &bytes[1..], len).is_err(), "{len}");
        }
    }

    #[test]
    fn short_ends_take_no_whole_buffer() {
        let check = |len: usize, capacity: usize| {
            let buffer = Buffer::take(len);
            let heap = match buffer.memory.as_ref().unwrap() {
                Memory::Heap(vec) => vec.capacity(),
                Memory::Own(mapping) => mapping.0.len(),
            };
            assert_eq!((heap, Buffer::capacity_for(len)), (capacity, capacity));
        };
        check(1, 1);
        check(SEGMENT_BYTES / 2, SEGMENT_BYTES / 2);
        check(SEGMENT_BYTES / 2 + 1, SEGMENT_BYTES);
        check(SEGMENT_BYTES, SEGMENT_BYTES);
    }

    #[test]
    fn only_so_many_lie_idle() {
        drop((0..2 * IDLE_MAX).map(|_| Buffer::take(SEGMENT_BYTES)).collect::<Vec<_>>());
        assert!(IDLE.lock().unwrap().len() <= IDLE_MAX);
    }
}
