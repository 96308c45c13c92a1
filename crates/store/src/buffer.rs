//! Where segments lie in memory: buffers of [`SEGMENT_BYTES`] that are used again.
//!
//! Segments are filled on one thread, read from disk on another and let go on a third. Left to an allocator with memory per
//! thread, that leaves each thread with what the others freed: streaming a gibibyte through a store of 256 MiB and reading a
//! quarter of it back peaked at 346 MiB, and peaks at 202 MiB this way. Here a freed buffer is the next one taken, whoever asks.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::object::SEGMENT_BYTES;

/// Freed buffers kept for the next taker, of all stores of the process together.
const IDLE_MAX: usize = 64;

/// Memory like the allocator's: of the process, and no store's in particular.
static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// One buffer; goes back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for `len` bytes and not much more.
    pub(crate) fn take(len: usize) -> Self {
        // The short ends of bodies have memory of their own: a buffer would be mostly empty.
        if !is_pooled(len) {
            return Self(Vec::with_capacity(len));
        }
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(idle.unwrap_or_else(|| Vec::with_capacity(SEGMENT_BYTES)))
    }

    /// A copy of `parts`, one after the other.
    pub(crate) fn gather(parts: &[Bytes]) -> Bytes {
        let mut buffer = Self::take(parts.iter().map(Bytes::len).sum());
        for part in parts {
            buffer.0.extend_from_slice(part);
        }
        buffer.into_bytes()
    }

    /// A copy of `bytes`.
    #[cfg(test)]
    pub(crate) fn copy(bytes: &[u8]) -> Bytes {
        let mut buffer = Self::take(bytes.len());
        buffer.0.extend_from_slice(bytes);
        buffer.into_bytes()
    }

    pub(crate) fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
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
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() != SEGMENT_BYTES {
            return;
        }
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_buffer_is_taken_again() {
        let first = Buffer::copy(&vec![1; SEGMENT_BYTES]);
        let clone = first.clone();
        drop(first);
        assert!(clone.iter().all(|byte| *byte == 1), "it stays while anybody has it");
        drop(clone);
        // Other tests take and free too: what is taken now is full-sized and empty in any case.
        let mut again = Buffer::take(SEGMENT_BYTES - 1);
        assert!(again.vec().is_empty());
        assert_eq!(again.vec().capacity(), SEGMENT_BYTES);
    }

    #[test]
    fn short_ends_take_no_whole_buffer() {
        let check = |len: usize, capacity: usize| {
            assert_eq!(Buffer::take(len).vec().capacity(), capacity);
            assert_eq!(Buffer::capacity_for(len), capacity);
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
