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
//! The ledger of purges is here too: [`Store::purge`], and [`Store::verdict`] for everything that is about to be used.
//!
//! Deliberately absent: every caching rule (freshness, reuse, Vary and what a purge matches are `semantics`), coalescing
//! (`cache`), and the clock.

mod buffer;
mod config;
mod disk;
mod engine;
mod error;
mod folder;
mod journal;
mod ledger;
mod lend;
mod metrics;
mod object;
mod places;
mod probe;
mod recent;
mod record;
mod removed;
mod rescue;
mod shares;
mod store;
mod window;

pub use perigee_protocol::model::DiskAdmission;

pub use config::{
    Budget, DISK_BYTES_MIN, DiskConfig, MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK, StoreConfig, disk_buffer_bytes,
    inflight_bytes_reserve,
};
pub use error::{ConfigError, StoreError};
pub use ledger::{PurgeAck, RECENT_PURGES_MAX};
pub use object::{Body, DiskStats, Entry, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES, Stats, Tier};
pub use places::Places;
pub use store::Store;
