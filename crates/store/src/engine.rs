//! foyer, set up as measurements say it must be.

use std::{path::Path, sync::Arc};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode, S3FifoConfig, Spawner,
};
use tokio::runtime::Handle;

use crate::{
    config::StoreConfig,
    error::StoreError,
    record::{Record, RecordKey, SeededHash},
    window,
};

pub(crate) type Hybrid = HybridCache<RecordKey, Record, SeededHash>;

const MIB: u64 = 1024 * 1024;
/// foyer divides its capacity among shards: each must hold many segments, else entries push each other out.
const SHARD_BYTES_MIN: u64 = 4 * MIB;
const SHARDS_MAX: u64 = 16;

/// Opens the memory tier and, in its folder, the disk tier. The folder is locked already.
pub(crate) async fn open(config: &StoreConfig, runtime: &Handle) -> Result<Hybrid, StoreError> {
    let capacity = config.budget().entries;
    let builder = HybridCacheBuilder::new()
        .with_name("perigee")
        // The default writes on eviction, and a killed process loses what memory held.
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .memory(usize::try_from(capacity).unwrap_or(usize::MAX))
        .with_shards(shards(capacity))
        // A hit takes only a read lock, and one large file streaming through does not push out what is asked for often.
        .with_eviction_config(S3FifoConfig::default())
        .with_hash_builder(SeededHash(config.hash_seed()))
        .with_weighter(Record::weight)
        .storage()
        .with_spawner(Spawner::from(runtime.clone()));
    let Some(disk) = config.disk() else {
        return builder.build().await.map_err(StoreError::Memory);
    };
    let failed = |source: foyer::Error| StoreError::Engine { dir: disk.dir.clone(), source };
    let device = device(&disk.dir, disk.bytes).map_err(failed)?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(block_bytes(disk.bytes))
        .with_buffer_pool_size(window::BUFFER_BYTES)
        // Never reached: `window` keeps all that is on its way below the buffer's size.
        .with_submit_queue_size_threshold(2 * window::OUTSTANDING_BYTES_MAX)
        // Without it removed entries are back after a restart.
        .with_tombstone_log(true)
        .with_clean_block_threshold(2);
    builder
        // io_uring would spin a core when idle.
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        // Damaged entries are skipped, not fatal.
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
        .map_err(failed)
}

fn device(dir: &Path, bytes: u64) -> foyer::Result<Arc<dyn foyer::Device>> {
    FsDeviceBuilder::new(dir).with_capacity(usize::try_from(bytes).unwrap_or(usize::MAX)).build()
}

fn shards(capacity: u64) -> usize {
    // At most SHARDS_MAX, so it fits.
    (capacity / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX) as usize
}

/// The unit of eviction on disk, in bytes: small disks need smaller ones, so that a flush never waits for its own blocks.
fn block_bytes(disk_bytes: u64) -> usize {
    let mib = if disk_bytes < 1024 * MIB { 4 } else { 16 };
    mib * MIB as usize
}
