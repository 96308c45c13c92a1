//! Why a store cannot be opened. Once open, it has no errors: what cannot be read is a miss.

use std::{io, path::PathBuf};

use crate::config::{DISK_BYTES_MIN, MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK};

/// A configuration that no store can honour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too little memory for a store without a disk.
    #[error("memory of {bytes} bytes is too little: at least {MEMORY_BYTES_MIN} bytes (8 MiB)")]
    Memory {
        /// What was asked for.
        bytes: u64,
    },
    /// Too little memory for the buffers of a disk.
    #[error(
        "memory of {bytes} bytes is too little beside a disk cache, whose write buffers are taken from it: \
         at least {MEMORY_BYTES_MIN_WITH_DISK} bytes (192 MiB), or leave the disk out"
    )]
    MemoryWithDisk {
        /// What was asked for.
        bytes: u64,
    },
    /// Too small a disk cache.
    #[error("a disk cache of {bytes} bytes is too small: at least {DISK_BYTES_MIN} bytes (64 MiB)")]
    Disk {
        /// What was asked for.
        bytes: u64,
    },
}

/// Why a store did not open. Each names the folder and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder cannot be made, or nothing can be written in it.
    #[error("the cache folder {} cannot be written: {source}; make it a folder that this user owns, or choose another", dir.display())]
    Unwritable {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another store of this one, has the folder.
    #[error("the cache folder {} is in use by another process; give each node a folder of its own", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has contents that are not a store's.
    #[error("the folder {} is not empty and not a cache of ours ({found}); choose an empty folder", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// What gave it away.
        found: String,
    },
    /// The folder was written by a release with another layout.
    #[error("the cache folder {} has format {found}, this program writes {expected}; empty the folder (it is only a cache), or choose another", dir.display())]
    Format {
        /// The folder.
        dir: PathBuf,
        /// The version line found.
        found: String,
        /// The version line of this release.
        expected: &'static str,
    },
    /// The file system has no room for the configured size.
    #[error("the cache folder {} cannot take {bytes} bytes: {source}; make room, or configure a smaller disk cache", dir.display())]
    NoRoom {
        /// The folder.
        dir: PathBuf,
        /// The configured size.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// foyer refused.
    #[error("the cache folder {} cannot be opened; empty the folder (it is only a cache), or choose another", dir.display())]
    Engine {
        /// The folder.
        dir: PathBuf,
        /// What it said.
        #[source]
        source: foyer::Error,
    },
    /// The memory tier refused: a mistake of ours.
    #[error("the memory cache cannot be made")]
    Memory(#[source] foyer::Error),
    /// The runtime that the store was given has shut down.
    #[error("the store's runtime has shut down")]
    Runtime,
}
