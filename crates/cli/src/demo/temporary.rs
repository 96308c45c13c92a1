//! The demo's temporary folder. One that is killed cannot remove its own: the next demo does.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use tempfile::TempDir;

const PREFIX: &str = "perigee-demo-";
/// Locked for as long as somebody lives in the folder.
const LOCK_FILE: &str = "lock";

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    // Dropped before the lock, so that nobody else removes it meanwhile.
    folder: TempDir,
    _lock: Option<File>,
}

impl Temporary {
    /// Makes one in `parent`, and removes from there what demos of the same user left when they were killed.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Where files cannot be locked it is left behind, and nobody takes it for a killed demo's.
        let lock = lock(folder.path()).ok();
        if let Ok(own) = fs::metadata(folder.path()) {
            sweep(parent, own.uid());
        }
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Has its name only when it is locked: one that is not is a killed demo's.
fn lock(folder: &Path) -> io::Result<File> {
    let unnamed = folder.join("lock.new");
    let lock = File::create(&unnamed)?;
    lock.try_lock()?;
    fs::rename(unnamed, folder.join(LOCK_FILE))?;
    Ok(lock)
}

fn sweep(parent: &Path, owner: u32) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        // Not through links, and nothing of other users: what lies in theirs may be a pipe that waits for somebody.
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir() && data.uid() == owner);
        if !is_ours {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK_FILE)) else { continue };
        if lock.try_lock().is_ok() {
            // What cannot be removed is the next one's to try, and no reason not to start.
            drop(fs::remove_dir_all(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_killed_demo_left_goes_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = Temporary::make(parent.path()).unwrap();
        let folder = |name: &str, file: &str| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), "").unwrap();
            folder
        };
        let killed = folder("perigee-demo-killed", LOCK_FILE);
        let starting = folder("perigee-demo-starting", "lock.new");
        let other = folder("something-else", LOCK_FILE);
        symlink(&other, parent.path().join("perigee-demo-link")).unwrap();
        let next = Temporary::make(parent.path()).unwrap();
        assert!(!killed.exists());
        for stays in [living.path(), next.path(), &starting, &other, &other.join(LOCK_FILE)] {
            assert!(stays.exists(), "{}", stays.display());
        }
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
