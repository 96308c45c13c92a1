//! foyer, set up as measurements say it must be: a memory tier that lives as long as the store, and disk tiers that can be
//! given up and opened anew.

use std::{path::Path, sync::Arc};

use foyer::{
    BlockEngineConfig, Cache, CacheBuilder, CacheEntry, DeviceBuilder, FifoPicker, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, HybridCachePolicy, HybridCacheProperties, InvalidRatioPicker, PsyncIoEngineConfig, RecoverMode,
    S3FifoConfig, Spawner, StorageFilter,
};
use tokio::runtime::Handle;

use crate::{
    config::{DiskConfig, StoreConfig},
    record::{Record, RecordKey, SeededHash},
    rescue::Reclaimed,
    shares::{Leaving, Shares},
    window,
};

/// What memory holds, whatever becomes of the disk.
pub(crate) type Memory = Cache<RecordKey, Record, SeededHash, HybridCacheProperties>;
pub(crate) type MemoryEntry = CacheEntry<RecordKey, Record, SeededHash, HybridCacheProperties>;
/// A disk tier. Its own memory tier holds nothing: it is there because foyer makes disk tiers in no other way.
pub(crate) type Hybrid = HybridCache<RecordKey, Record, SeededHash>;
pub(crate) type Storage = foyer::Store<RecordKey, Record, SeededHash, HybridCacheProperties>;

const MIB: u64 = 1024 * 1024;
/// foyer divides its capacity among shards: each must hold many segments, else entries push each other out.
const SHARD_BYTES_MIN: u64 = 4 * MIB;
const SHARDS_MAX: u64 = 16;

/// The memory tier.
pub(crate) fn memory(config: &StoreConfig, shares: &Arc<Shares>) -> Memory {
    let capacity = config.budget().entries;
    let entering = Arc::clone(shares);
    CacheBuilder::new(usize::try_from(capacity).unwrap_or(usize::MAX))
        .with_name("perigee")
        .with_shards(shards(capacity))
        // A hit takes only a read lock, and one large file streaming through does not push out what is asked for often.
        .with_eviction_config(S3FifoConfig::default())
        .with_hash_builder(SeededHash(config.hash_seed()))
        .with_weighter(move |key: &RecordKey, record: &Record| entering.enters(key, record))
        .with_event_listener(Arc::new(Leaving(Arc::clone(shares))))
        .build()
}

/// Opens the disk tier in its folder, which is locked already.
pub(crate) async fn disk(
    disk: &DiskConfig,
    hash_seed: u64,
    reclaimed: Reclaimed,
    runtime: &Handle,
) -> foyer::Result<Hybrid> {
    let device = device(&disk.dir, disk.bytes)?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(block_bytes(disk.bytes))
        .with_buffer_pool_size(window::BUFFER_BYTES)
        // Never reached: `window` keeps all that is on its way below the buffer's size.
        .with_submit_queue_size_threshold(2 * window::OUTSTANDING_BYTES_MAX)
        // Without it removed entries are back after a restart.
        .with_tombstone_log(true)
        // It is told what leaves and admits nothing.
        .with_reinsertion_filter(StorageFilter::new().with_condition(reclaimed))
        // First the blocks that hold next to nothing any more, then the oldest; what is read from the last tenth is told apart.
        .with_eviction_pickers(vec![Box::new(InvalidRatioPicker::new(0.8)), Box::new(FifoPicker::new(0.1))])
        .with_clean_block_threshold(2);
    HybridCacheBuilder::new()
        .with_name("perigee")
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .memory(SHARDS_MAX as usize)
        // The disk's write queue has as many locks as this has shards.
        .with_shards(SHARDS_MAX as usize)
        .with_eviction_config(S3FifoConfig::default())
        .with_hash_builder(SeededHash(hash_seed))
        .with_weighter(Record::weight)
        .storage()
        .with_spawner(Spawner::from(runtime.clone()))
        // io_uring would spin a core when idle.
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        // Damaged entries are skipped, not fatal.
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
}

fn device(dir: &Path, bytes: u64) -> foyer::Result<Arc<dyn foyer::Device>> {
    FsDeviceBuilder::new(dir).with_capacity(usize::try_from(bytes).unwrap_or(usize::MAX)).build()
}

fn shards(capacity: u64) -> usize {
    // At most SHARDS_MAX, so it fits.
    (capacity / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX) as usize
}

/// The unit of eviction on disk, in bytes: small disks need smaller ones, so that a flush never waits for its own blocks.
pub(crate) fn block_bytes(disk_bytes: u64) -> usize {
    let mib = if disk_bytes < 1024 * MIB { 4 } else { 16 };
    mib * MIB as usize
}
