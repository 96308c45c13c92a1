//! Files beside a database, where everything happens until the last step.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::CHECKSUM_BYTES_MAX;

/// The files around a database.
pub(super) struct Place {
    /// Through links, as whoever opens it gets there.
    pub(super) database: PathBuf,
    pub(super) archive: PathBuf,
    pub(super) new: PathBuf,
    pub(super) note: PathBuf,
    pub(super) checksum: PathBuf,
    pub(super) origin: PathBuf,
}

impl Place {
    pub(super) fn of(named: &Path) -> anyhow::Result<Self> {
        let is_link = fs::symlink_metadata(named).is_ok_and(|there| there.is_symlink());
        let database = if is_link {
            fs::canonicalize(named).with_context(|| format!("{} is a link that leads nowhere", named.display()))?
        } else {
            named.to_owned()
        };
        let name = database.file_name().with_context(|| format!("{} is no file name", database.display()))?;
        let name = name.to_string_lossy().into_owned();
        let beside = |name: String| database.with_file_name(name);
        Ok(Self {
            archive: beside(format!(".{name}.fetch-archive")),
            new: beside(format!(".{name}.fetch-new")),
            note: beside(format!(".{name}.fetch-note")),
            checksum: beside(format!("{name}.sha256")),
            origin: beside(format!("{name}.origin")),
            database,
        })
    }

    /// What a note says of the database, if it was written after it: whatever was put there by hand since is not what it is of.
    pub(super) fn kept(&self, note: &Path) -> Option<String> {
        let changed = |path: &Path| fs::metadata(path).ok().map(|file| (file.ctime(), file.ctime_nsec()));
        let is_later = changed(note)? >= changed(&self.database)?;
        let mut text = String::new();
        File::open(note).ok()?.take(CHECKSUM_BYTES_MAX as u64).read_to_string(&mut text).ok()?;
        is_later.then_some(text)
    }
}

/// A file that is taken away again, whatever happens; one process has it at a time.
pub(super) struct Beside {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Beside {
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        loop {
            let open = File::options().create(true).write(true).truncate(false).open(&path);
            let file = open.with_context(cannot)?;
            if file.try_lock().is_err() {
                bail!("another process fetches into {}", path.display());
            }
            // Whoever had it may have taken it away since it was opened: then another may have made it anew.
            let own = file.metadata().with_context(cannot)?;
            if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
                // What a process that was killed has left.
                file.set_len(0).with_context(cannot)?;
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Renamed into its place, it is not there any more.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}
