//! How large a store may be, checked once, and what of that is left for entries.

use std::{path::PathBuf, time::Duration};

use crate::{error::ConfigError, window};

const MIB: u64 = 1024 * 1024;
/// How often a disk is probed, unless told otherwise.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The least memory of a store without a disk, in bytes.
pub const MEMORY_BYTES_MIN: u64 = 8 * MIB;
/// The least memory of a store with a disk, in bytes: the disk's buffers come out of it.
pub const MEMORY_BYTES_MIN_WITH_DISK: u64 = 192 * MIB;
/// The least disk cache, in bytes.
pub const DISK_BYTES_MIN: u64 = 64 * MIB;

/// Bytes kept free for bodies in flight (segments that readers still send after the cache let them go, and the bytes that
/// fills are gathering): an eighth of the memory, at most 32 MiB.
pub const fn inflight_bytes_reserve(memory_bytes: u64) -> u64 {
    let eighth = memory_bytes / 8;
    if eighth < 32 * MIB { eighth } else { 32 * MIB }
}

/// Bytes that the disk tier takes of the memory: foyer's two flush buffers, and the entries that wait for them.
pub const fn disk_buffer_bytes() -> u64 {
    2 * window::BUFFER_BYTES as u64 + window::OUTSTANDING_BYTES_MAX as u64
}

/// Where a store is on disk, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// A folder of its own; made when it is missing.
    pub dir: PathBuf,
    /// What its files take, all of it allocated at once.
    pub bytes: u64,
}

/// The size of a store. Can only be made valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    memory_bytes: u64,
    disk: Option<DiskConfig>,
    hash_seed: u64,
    probe_every: Duration,
    writes_anew: bool,
}

impl StoreConfig {
    /// A store of `memory_bytes` in all (buffers and bodies in flight counted) and perhaps a disk.
    ///
    /// `hash_seed` makes the place of a key unpredictable to clients. It should be the same at every start: with another seed
    /// nothing on the disk is found again, so the store starts empty.
    pub fn new(memory_bytes: u64, disk: Option<DiskConfig>, hash_seed: u64) -> Result<Self, ConfigError> {
        match &disk {
            None if memory_bytes < MEMORY_BYTES_MIN => Err(ConfigError::Memory { bytes: memory_bytes }),
            Some(_) if memory_bytes < MEMORY_BYTES_MIN_WITH_DISK => {
                Err(ConfigError::MemoryWithDisk { bytes: memory_bytes })
            }
            Some(disk) if disk.bytes < DISK_BYTES_MIN => Err(ConfigError::Disk { bytes: disk.bytes }),
            _ => Ok(Self { memory_bytes, disk, hash_seed, probe_every: PROBE_EVERY, writes_anew: true }),
        }
    }

    /// The memory in all, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The disk, when there is one.
    pub fn disk(&self) -> Option<&DiskConfig> {
        self.disk.as_ref()
    }

    /// The seed of every hash of a key.
    pub fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// Probes the disk this often instead of every 5 seconds. A disk that failed is tried again after a fifth of it, then
    /// after pauses that double up to a minute.
    #[must_use]
    pub fn probed_every(mut self, interval: Duration) -> Self {
        self.probe_every = interval;
        self
    }

    /// How often the disk is probed.
    pub fn probe_every(&self) -> Duration {
        self.probe_every
    }

    /// Lets what is hit leave the disk like anything else. It shows what writing it anew is worth.
    #[must_use]
    pub fn never_writing_anew(mut self) -> Self {
        self.writes_anew = false;
        self
    }

    /// Whether what is hit is written anew before it leaves the disk.
    pub fn writes_anew(&self) -> bool {
        self.writes_anew
    }

    /// How the memory is divided.
    pub fn budget(&self) -> Budget {
        let buffers = if self.disk.is_some() { disk_buffer_bytes() } else { 0 };
        let inflight = inflight_bytes_reserve(self.memory_bytes);
        // The constructor's minimum leaves something: see `the_least_memory_leaves_room`.
        Budget { entries: self.memory_bytes.saturating_sub(buffers + inflight), buffers, inflight }
    }
}

/// How the memory of a store is divided, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// For cached entries.
    pub entries: u64,
    /// For the disk's write buffers and queue.
    pub buffers: u64,
    /// For bodies in flight.
    pub inflight: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bytes: u64) -> Option<DiskConfig> {
        Some(DiskConfig { dir: "cache".into(), bytes })
    }

    #[test]
    fn both_sides_of_every_limit() {
        let check = |memory: u64, disk: Option<DiskConfig>, wanted: Result<(), ConfigError>| {
            assert_eq!(StoreConfig::new(memory, disk, 0).map(|_| ()), wanted);
        };
        let (least, with_disk) = (MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK);
        check(least, None, Ok(()));
        check(least - 1, None, Err(ConfigError::Memory { bytes: least - 1 }));
        check(with_disk, disk(DISK_BYTES_MIN), Ok(()));
        check(with_disk - 1, disk(DISK_BYTES_MIN), Err(ConfigError::MemoryWithDisk { bytes: with_disk - 1 }));
        check(with_disk, disk(DISK_BYTES_MIN - 1), Err(ConfigError::Disk { bytes: DISK_BYTES_MIN - 1 }));
    }

    #[test]
    fn the_least_memory_leaves_room() {
        let check = |memory: u64, disk: Option<DiskConfig>| {
            let budget = StoreConfig::new(memory, disk, 0).expect("valid").budget();
            assert_eq!(budget.entries + budget.buffers + budget.inflight, memory);
            assert!(budget.entries >= memory / 3, "{budget:?}");
        };
        check(MEMORY_BYTES_MIN, None);
        check(MEMORY_BYTES_MIN_WITH_DISK, disk(DISK_BYTES_MIN));
        check(256 * MIB, disk(DISK_BYTES_MIN));
    }
}
