//! The folder of a disk store: whose it is, what wrote it, and that its bytes are really there.
//!
//! foyer has no lock and no format version, and its flusher dies on a full disk. So: a `LOCK` file, locked for as long as the
//! store is open; a `FORMAT` file with the version, what the layout depends on, and how often the folder was opened; and
//! all space allocated before the first write.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{config::DiskConfig, error::StoreError, ledger::LEDGER_FILES};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
/// The first line of `FORMAT`. The number goes up with every change of foyer's or our disk form that older code misreads.
const VERSION: &str = "perigee-store 2";
/// What earlier releases wrote there. Their entries cannot be read, and all of them can be fetched again.
const EARLIER: [&str; 1] = ["perigee-store 1"];
/// How foyer's files begin.
const ENGINE_FILES: &str = "foyer-storage-";
/// What a fresh file system has of its own.
const LOST_AND_FOUND: &str = "lost+found";

/// An open folder. The lock goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    /// How often the folder was opened, this time included.
    pub(crate) epoch: u64,
    /// Whether nothing was stored in it when it was opened.
    pub(crate) empty: bool,
    layout: Layout,
    lock: Arc<File>,
    /// foyer's files and their lengths, once they are allocated.
    files: OnceLock<Vec<(PathBuf, u64)>>,
}

/// What must be as it was for the entries to be found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    bytes: u64,
    /// A fingerprint of the hash seed, which is a secret.
    seed: u64,
}

impl Folder {
    /// Makes, locks and checks the folder, and counts the opening. Empties it when its layout differs from the wanted one.
    pub(crate) fn open(config: &DiskConfig, hash_seed: u64) -> Result<Self, StoreError> {
        let dir = config.dir.clone();
        let unwritable = |source: io::Error| StoreError::Unwritable { dir: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(unwritable)?;
        // Before anything is made in it: a foreign folder stays as it was.
        let stored = fs::read_to_string(dir.join(FORMAT));
        if let Err(error) = &stored {
            match error.kind() {
                io::ErrorKind::NotFound => refuse_foreign(&dir)?,
                _ => return Err(unwritable(io::Error::new(error.kind(), error.to_string()))),
            }
        }
        let lock = lock(&dir)?;
        let layout = Layout { bytes: config.bytes, seed: xxh3_64_with_seed(b"perigee-store seed", hash_seed) };
        // Read again under the lock: another may have opened it in between.
        let before = match fs::read_to_string(dir.join(FORMAT)) {
            Ok(text) => Some(parse(&dir, &text)?),
            Err(_) => None,
        };
        let epoch = before.map_or(0, |(epoch, _)| epoch) + 1;
        match before {
            Some((_, None)) => {
                tracing::warn!(dir = %dir.display(), "an earlier release wrote the disk cache: starting empty");
                empty(&dir).map_err(unwritable)?;
            }
            Some((_, Some(stored))) if stored != layout => {
                tracing::warn!(dir = %dir.display(), "the disk cache's size or hash seed changed: starting empty");
                empty(&dir).map_err(unwritable)?;
            }
            _ => {}
        }
        room(&dir, config.bytes)?;
        write_format(&dir, epoch, layout).map_err(unwritable)?;
        let empty = engine_files(&dir).map_err(unwritable)?.is_empty();
        Ok(Self { dir, epoch, empty, layout, lock: Arc::new(lock), files: OnceLock::new() })
    }

    /// The folder made ready for another disk tier: as it is if it is still ours, else made, locked and checked anew.
    ///
    /// With `wipe` it has no entries any more. The epoch stays at least what it was, so that fills keep their names apart.
    pub(crate) fn reopen(&self, wipe: bool) -> Result<Self, StoreError> {
        let dir = self.dir.clone();
        let unwritable = |source: io::Error| StoreError::Unwritable { dir: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(unwritable)?;
        let stored = match fs::read_to_string(dir.join(FORMAT)) {
            Ok(text) => Some(parse(&dir, &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unwritable(error)),
        };
        let lock = if self.is_locked().is_ok() {
            Arc::clone(&self.lock)
        } else {
            if stored.is_none() {
                refuse_foreign(&dir)?;
            }
            Arc::new(lock(&dir)?)
        };
        if wipe || stored.is_none_or(|(_, layout)| layout != Some(self.layout)) {
            empty(&dir).map_err(unwritable)?;
        }
        room(&dir, self.layout.bytes)?;
        let epoch = stored.map_or(0, |(epoch, _)| epoch).max(self.epoch);
        write_format(&dir, epoch, self.layout).map_err(unwritable)?;
        Ok(Self { dir, epoch: self.epoch, empty: self.empty, layout: self.layout, lock, files: OnceLock::new() })
    }

    /// Whether folder, lock and files are what they were: a file that was deleted can still be written, in vain.
    pub(crate) fn intact(&self) -> io::Result<()> {
        self.is_locked()?;
        if !fs::metadata(self.dir.join(FORMAT))?.is_file() {
            return Err(io::Error::other(format!("{FORMAT} is no file")));
        }
        for (path, len) in self.files.get().into_iter().flatten() {
            let found = fs::metadata(path)?.len();
            if found != *len {
                return Err(io::Error::other(format!("{} has {found} bytes instead of {len}", path.display())));
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn is_locked(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let (held, found) = (self.lock.metadata()?, fs::metadata(self.dir.join(LOCK))?);
        if (held.dev(), held.ino()) == (found.dev(), found.ino()) {
            Ok(())
        } else {
            Err(io::Error::other(format!("{LOCK} is another file than the one that is held")))
        }
    }

    #[cfg(not(unix))]
    fn is_locked(&self) -> io::Result<()> {
        fs::metadata(self.dir.join(LOCK)).map(|_| ())
    }

    /// Allocates every byte of foyer's files, so that no write can find the disk full.
    pub(crate) fn allocate(&self, bytes: u64) -> Result<(), StoreError> {
        let mut files = Vec::new();
        for path in
            engine_files(&self.dir).map_err(|source| StoreError::Unwritable { dir: self.dir.clone(), source })?
        {
            let no_room = |source| StoreError::NoRoom { dir: self.dir.clone(), bytes, source };
            allocate_file(&path).map_err(no_room)?;
            files.push((path.clone(), fs::metadata(&path).map_err(no_room)?.len()));
        }
        // Twice would be a mistake of ours, and what was known first is right.
        let _known = self.files.set(files);
        Ok(())
    }
}

/// Asks before taking: a disk filled up to the last block on the way to a refusal would hurt others.
#[cfg(target_os = "linux")]
fn room(dir: &Path, bytes: u64) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;
    let unwritable = |source| StoreError::Unwritable { dir: dir.to_owned(), source };
    let mut taken = 0_u64;
    for path in engine_files(dir).map_err(unwritable)? {
        taken += fs::metadata(path).map_err(unwritable)?.blocks() * 512;
    }
    let system = nix::sys::statvfs::statvfs(dir).map_err(|errno| unwritable(errno.into()))?;
    let free = system.blocks_available().saturating_mul(system.fragment_size());
    if lacks(bytes, taken, free) {
        let source = io::Error::new(io::ErrorKind::StorageFull, format!("only {free} bytes are free"));
        return Err(StoreError::NoRoom { dir: dir.to_owned(), bytes, source });
    }
    Ok(())
}

/// Whether what is still to be taken does not fit. foyer takes whole blocks and leaves the rest of `bytes`: a folder that
/// has all of them already needs no more, however full the disk is.
#[cfg(target_os = "linux")]
fn lacks(bytes: u64, taken: u64, free: u64) -> bool {
    let missing = bytes.saturating_sub(taken);
    missing >= crate::engine::block_bytes(bytes) as u64 && missing > free
}

#[cfg(not(target_os = "linux"))]
fn room(_dir: &Path, _bytes: u64) -> Result<(), StoreError> {
    Ok(())
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK))
        .map_err(|source| StoreError::Unwritable { dir: dir.to_owned(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StoreError::Unwritable { dir: dir.to_owned(), source }),
    }
}

/// A folder without `FORMAT` may only have what a first opening that was cut off leaves, and a ledger of purges, which is
/// written anew when the folder was emptied under us.
fn refuse_foreign(dir: &Path) -> Result<(), StoreError> {
    let unwritable = |source| StoreError::Unwritable { dir: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(unwritable)? {
        let name = entry.map_err(unwritable)?.file_name();
        if ![LOCK, FORMAT_NEW, LOST_AND_FOUND].iter().chain(&LEDGER_FILES).any(|ours| name == *ours) {
            return Err(StoreError::Foreign { dir: dir.to_owned(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

/// How often the folder was opened, and its layout, unless an earlier release made it.
fn parse(dir: &Path, text: &str) -> Result<(u64, Option<Layout>), StoreError> {
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    let is_earlier = EARLIER.contains(&version);
    if version != VERSION && !is_earlier {
        let found = version.chars().take(40).collect();
        return Err(StoreError::Format { dir: dir.to_owned(), found, expected: VERSION });
    }
    let mut number = |name: &str| {
        let line = lines.next().unwrap_or_default();
        line.strip_prefix(name)
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| StoreError::Foreign { dir: dir.to_owned(), found: format!("{FORMAT} without {name}") })
    };
    let epoch = number("epoch")?;
    let layout = Layout { bytes: number("bytes")?, seed: number("seed")? };
    Ok((epoch, (!is_earlier).then_some(layout)))
}

/// Complete or not at all: the old file stays until the new one is on disk.
fn write_format(dir: &Path, epoch: u64, layout: Layout) -> io::Result<()> {
    let new = dir.join(FORMAT_NEW);
    let mut file = File::create(&new)?;
    write!(file, "{VERSION}\nepoch {epoch}\nbytes {}\nseed {}\n", layout.bytes, layout.seed)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FORMAT))?;
    File::open(dir)?.sync_all()
}

fn engine_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(ENGINE_FILES) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn empty(dir: &Path) -> io::Result<()> {
    engine_files(dir)?.into_iter().try_for_each(fs::remove_file)
}

#[cfg(target_os = "linux")]
fn allocate_file(path: &Path) -> io::Result<()> {
    use nix::{
        errno::Errno,
        fcntl::{FallocateFlags, fallocate},
    };
    let file = OpenOptions::new().write(true).open(path)?;
    let len = i64::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if len == 0 {
        return Ok(());
    }
    match fallocate(&file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // Not every file system can (say NFS): then a full disk shows later, as entries that are missing.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            tracing::debug!(path = %path.display(), "the file system cannot allocate ahead");
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate_file(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
