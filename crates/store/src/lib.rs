//! Objects in memory and on disk over foyer: heads, segments, commit.
//!
//! One [`Store`] keeps, under one key, either an [`Object`] (its head, and its body inline or as segments of
//! [`SEGMENT_BYTES`]) or the [`VariantIndex`](perigee_semantics::vary::VariantIndex) of a URL that varies. A fill writes its
//! segments under a [`FillId`] nobody else has, then the head that names them: the head is the commit, and until it is
//! written nothing of the fill can be seen. Whatever is missing or damaged reads as a miss; the caller fetches again.
//!
//! Memory is bounded by [`StoreConfig`], buffers of the disk included, and writes wait for the disk
//! ([`Store::put_segment`]) instead of being dropped by it.
//!
//! A probe writes to the disk and reads back every few seconds; a disk that fails is left out, its folder opened again with
//! growing pauses, and what changed meanwhile is forgotten there before it serves again.
//!
//! Deliberately absent: every caching rule (freshness, reuse and Vary are `semantics`), coalescing (`cache`), and the clock.
//! The purge ledger is to come.

mod buffer;
mod config;
mod disk;
mod engine;
mod error;
mod folder;
mod journal;
mod lend;
mod metrics;
mod object;
mod probe;
mod record;
mod removed;
mod store;
mod window;

pub use config::{
    Budget, DISK_BYTES_MIN, DiskConfig, MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK, StoreConfig, disk_buffer_bytes,
    inflight_bytes_reserve,
};
pub use error::{ConfigError, StoreError};
pub use object::{Body, DiskStats, Entry, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES, Stats, Tier};
pub use store::Store;
