//! The ledger's file: what a purge that was acknowledged is remembered by.
//!
//! ```text
//! file    "perigee-ledger 1\n" | fingerprint of the hash seed u64 | frames
//! frame   length u32 | checksum of the length u32 | payload | checksum of the payload u64
//! payload 0 | a ledger          1 | a purge          2 | a purge that the ledger has already, for the list of recent ones
//! ```
//!
//! The first frame is a ledger. Purges are appended behind it; now and then all is written anew beside it and renamed into
//! its place. A last frame that ends early was never acknowledged and does not count. Anything else that is not as it was
//! written is damage, which might hide a purge: it is said ([`Unreadable`]), and never skipped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use perigee_semantics::purge::{ENTRIES_MAX, Ledger, Purge};
use xxhash_rust::xxh3::xxh3_64;

/// The name in the store's folder.
const LEDGER: &str = "LEDGER";
const LEDGER_NEW: &str = "LEDGER.new";
/// Where a damaged one is left for whoever wants to look.
const LEDGER_DAMAGED: &str = "LEDGER.damaged";
/// All of them.
pub(crate) const LEDGER_FILES: [&str; 3] = [LEDGER, LEDGER_NEW, LEDGER_DAMAGED];

const MAGIC: &[u8] = b"perigee-ledger 1\n";
/// A file is rewritten when what was appended is so much larger than what it would be rewritten to, in bytes.
const APPENDED_BYTES_MIN: u64 = 1 << 20;
/// No file of ours is larger, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// No frame of ours is larger, in bytes.
const FRAME_BYTES_MAX: usize = 32 << 20;

/// Why there is no ledger in a folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// There is no file.
    #[error("it is missing")]
    Missing,
    /// The system does not give it.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) ledger: Ledger,
    /// Oldest first.
    pub(crate) recent: Vec<Purge>,
}

impl Contents {
    /// One that was appended while all was written anew is there twice.
    fn remember(&mut self, purge: Purge) {
        // What nobody asked for is not listed.
        if !purge.text.is_empty()
            && let Err(place) = self.recent.binary_search_by_key(&purge.seq, |known| known.seq)
        {
            self.recent.insert(place, purge);
        }
    }
}

/// Reads a folder's file.
pub(crate) fn read(dir: &Path, fingerprint: u64) -> Result<Contents, Unreadable> {
    let file = match File::open(dir.join(LEDGER)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unreadable::Missing),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Unreadable::Damaged("it is too large"));
    }
    parse(&bytes, fingerprint)
}

fn parse(bytes: &[u8], fingerprint: u64) -> Result<Contents, Unreadable> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Unreadable::Damaged("it does not begin as one"))?;
    let (seed, mut rest) = rest.split_first_chunk::<8>().ok_or(Unreadable::Damaged("its beginning is cut short"))?;
    if u64::from_le_bytes(*seed) != fingerprint {
        return Err(Unreadable::Damaged("it is of another hash seed"));
    }
    let mut contents: Option<Contents> = None;
    while let Some(payload) = frame(&mut rest)? {
        let (kind, payload) = payload.split_first().ok_or(Unreadable::Damaged("a frame is empty"))?;
        let purge = |payload: &[u8]| Purge::decode(payload).map_err(|_| Unreadable::Damaged("a purge"));
        match (kind, &mut contents) {
            (0, contents @ None) => {
                let ledger =
                    Ledger::decode(payload, ENTRIES_MAX).map_err(|_| Unreadable::Damaged("the ledger in it"))?;
                *contents = Some(Contents { ledger, recent: Vec::new() });
            }
            (1, Some(contents)) => {
                let purge = purge(payload)?;
                purge.apply_to(&mut contents.ledger);
                contents.remember(purge);
            }
            (2, Some(contents)) => contents.remember(purge(payload)?),
            _ => return Err(Unreadable::Damaged("a frame is out of place")),
        }
    }
    // It was renamed into place with its first frame.
    contents.ok_or(Unreadable::Damaged("its first frame is missing"))
}

/// The next frame's payload; `None` at the end, and where the last frame ends early.
fn frame<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let [a, b, c, d, sum @ ..] = *head;
    let length = [a, b, c, d];
    // A length that was written wrong would pass for a frame that ends early.
    if length_sum(length) != sum {
        return Err(Unreadable::Damaged("a length"));
    }
    let length = u32::from_le_bytes(length) as usize;
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some((sum, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    if xxh3_64(payload) != u64::from_le_bytes(*sum) {
        return Err(Unreadable::Damaged("a checksum"));
    }
    *bytes = rest;
    Ok(Some(payload))
}

fn length_sum(length: [u8; 4]) -> [u8; 4] {
    // The lower half is as good as any.
    (xxh3_64(&length) as u32).to_le_bytes()
}

fn put_frame(out: &mut Vec<u8>, kind: u8, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut payload = vec![kind];
    encode(&mut payload);
    if payload.len() > FRAME_BYTES_MAX {
        return Err(io::Error::other("a ledger's frame is too large"));
    }
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&length_sum(length));
    out.extend_from_slice(&payload);
    out.extend_from_slice(&xxh3_64(&payload).to_le_bytes());
    Ok(())
}

/// What a new file begins with.
pub(crate) fn snapshot<'a>(
    fingerprint: u64,
    ledger: &Ledger,
    recent: impl Iterator<Item = &'a Purge>,
) -> io::Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&fingerprint.to_le_bytes());
    put_frame(&mut bytes, 0, |out| ledger.encode(out))?;
    for purge in recent {
        put_frame(&mut bytes, 2, |out| purge.encode(out))?;
    }
    Ok(bytes)
}

/// The file of a ledger, open for appending.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    dir: PathBuf,
    file: Arc<File>,
    /// What it began with, in bytes.
    rewritten: u64,
    /// Since, in bytes.
    appended: u64,
    /// A write failed: what the file ends with is unknown, so nothing may be appended to it.
    broken: bool,
}

impl LedgerFile {
    /// Writes a new file, of a [`snapshot`], in place of whatever is there. On disk when it returns.
    pub(crate) fn create(dir: &Path, snapshot: &[u8]) -> io::Result<Self> {
        let new = dir.join(LEDGER_NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        let rewritten = snapshot.len() as u64;
        reserve(&file, rewritten + APPENDED_BYTES_MIN);
        file.write_all(snapshot)?;
        file.sync_all()?;
        fs::rename(&new, dir.join(LEDGER))?;
        File::open(dir)?.sync_all()?;
        Ok(Self { dir: dir.to_owned(), file: Arc::new(file), rewritten, appended: 0, broken: false })
    }

    /// Appends one purge; or writes all anew, of a snapshot that has it already. What is returned is still to be synced
    /// before the purge counts as remembered.
    pub(crate) fn append(
        &mut self,
        purge: &Purge,
        snapshot: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Arc<File>> {
        if self.broken || self.appended > APPENDED_BYTES_MIN.max(2 * self.rewritten) || !self.is_in_place() {
            self.broken = true;
            *self = Self::create(&self.dir, &snapshot()?)?;
            return Ok(Arc::clone(&self.file));
        }
        let mut bytes = Vec::new();
        put_frame(&mut bytes, 1, |out| purge.encode(out))?;
        let written = (&*self.file).write_all(&bytes);
        self.broken |= written.is_err();
        written?;
        self.appended += bytes.len() as u64;
        Ok(Arc::clone(&self.file))
    }

    /// Whether the folder still leads to this file: one that was deleted can be written, in vain.
    #[cfg(unix)]
    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let name = |data: fs::Metadata| (data.dev(), data.ino());
        let found = fs::metadata(self.dir.join(LEDGER)).map(name);
        matches!((self.file.metadata().map(name), found), (Ok(held), Ok(found)) if held == found)
    }

    #[cfg(not(unix))]
    fn is_in_place(&self) -> bool {
        true
    }

    /// Writes all anew if the folder does not lead to this file any more.
    pub(crate) fn put_in_place(&mut self, snapshot: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
        if !self.is_in_place() {
            *self = Self::create(&self.dir, &snapshot()?)?;
        }
        Ok(())
    }

    /// What was appended may not be on disk: the next purge writes all anew.
    pub(crate) fn distrust(&mut self) {
        self.broken = true;
    }
}

/// Moves an unreadable file out of the way.
pub(crate) fn set_aside(dir: &Path) -> io::Result<()> {
    match fs::rename(dir.join(LEDGER), dir.join(LEDGER_DAMAGED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Room for purges to come, so that a full disk does not keep them from being remembered. Where the system cannot, a purge on
/// a full disk is answered as not durable.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) {
    use nix::fcntl::{FallocateFlags, fallocate};
    let Ok(bytes) = i64::try_from(bytes) else { return };
    if let Err(errno) = fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes) {
        tracing::debug!(%errno, "no room is reserved for purges to come");
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _bytes: u64) {}
