//! Watches one file that is replaced or rewritten while the process runs: the document, the geo database.
//!
//! The folder is watched, because a rename over the file ends a watch on the file itself; and the file's metadata is
//! compared every second, because some file systems tell nothing. What a change means is the caller's.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{runtime::Handle, sync::Notify, task::JoinHandle};

/// How often the file's metadata is compared.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A change is told when nothing more has happened for so long: a writer in place is given time to finish.
pub const QUIET: Duration = Duration::from_millis(50);
/// … but at the latest after so long.
pub const QUIET_MAX: Duration = Duration::from_millis(300);

/// Why the callback runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The file changed, or may have.
    Changed,
    /// [`FileWatcher::trigger`], say on SIGHUP.
    Asked,
}

/// A watch on one file; ends when dropped.
#[derive(Debug)]
pub struct FileWatcher {
    changed: Arc<Notify>,
    asked: Arc<Notify>,
    task: JoinHandle<()>,
    // Held for its threads; None where the system gives no events, and the poll alone remains.
    _events: Option<RecommendedWatcher>,
}

impl FileWatcher {
    /// Calls `on_change` on a blocking thread of the control runtime, one call at a time, after each change of the
    /// file at `path`. Changes during a call lead to one more call. A file that is gone is a change, too.
    pub fn start(control: &Handle, path: &Path, on_change: impl FnMut(Cause) + Send + 'static) -> Self {
        let changed = Arc::new(Notify::new());
        let asked = Arc::new(Notify::new());
        let events = match events(path, Arc::clone(&changed)) {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the folder cannot be watched; looking once a second");
                None
            }
        };
        let watching = Watching {
            last: Fingerprint::of(path),
            path: path.to_owned(),
            changed: Arc::clone(&changed),
            asked: Arc::clone(&asked),
            on_change: Some(on_change),
        };
        Self { changed, asked, task: control.spawn(watching.run()), _events: events }
    }

    /// Tells of a change that may have happened before the watch began.
    pub fn check(&self) {
        self.changed.notify_one();
    }

    /// Runs the callback though nothing may have changed.
    pub fn trigger(&self) {
        self.asked.notify_one();
    }
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn events(path: &Path, changed: Arc<Notify>) -> Result<RecommendedWatcher, Box<dyn std::error::Error + Send + Sync>> {
    let name: Box<OsStr> = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.into();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns_us = match event {
            // Reading the file, ours included, changes nothing.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {
                matches!(
                    event.kind,
                    EventKind::Access(notify::event::AccessKind::Close(notify::event::AccessMode::Write))
                ) && is_about(&event, &name)
            }
            Ok(event) => event.need_rescan() || is_about(&event, &name),
            // Events may have been lost.
            Err(_) => true,
        };
        if concerns_us {
            changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn is_about(event: &notify::Event, name: &OsStr) -> bool {
    event.paths.iter().any(|path| path.file_name() == Some(name))
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

impl Fingerprint {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok()?, bytes: metadata.len(), inode: metadata.ino() })
    }
}

struct Watching<F> {
    path: PathBuf,
    last: Option<Fingerprint>,
    changed: Arc<Notify>,
    asked: Arc<Notify>,
    /// None while it runs.
    on_change: Option<F>,
}

impl<F: FnMut(Cause) + Send + 'static> Watching<F> {
    async fn run(mut self) {
        loop {
            let cause = self.next().await;
            // Taken before the callback reads: a change during the call is seen as one afterwards.
            self.last = Fingerprint::of(&self.path);
            let Some(mut on_change) = self.on_change.take() else { return };
            let call = tokio::task::spawn_blocking(move || {
                on_change(cause);
                on_change
            });
            match call.await {
                Ok(on_change) => self.on_change = Some(on_change),
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "a reload panicked; no more reloads of this file");
                    return;
                }
            }
        }
    }

    async fn next(&mut self) -> Cause {
        loop {
            tokio::select! {
                biased;
                () = self.asked.notified() => return Cause::Asked,
                () = self.changed.notified() => {
                    self.settle().await;
                    return Cause::Changed;
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {
                    if Fingerprint::of(&self.path) != self.last {
                        return Cause::Changed;
                    }
                }
            }
        }
    }

    /// Waits until nothing more happens to the file, within a bound.
    async fn settle(&mut self) {
        let quiet = async { while tokio::time::timeout(QUIET, self.changed.notified()).await.is_ok() {} };
        if tokio::time::timeout(QUIET_MAX, quiet).await.is_err() {
            tracing::debug!(path = %self.path.display(), "the file keeps changing; reading it as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;

    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        seen: mpsc::UnboundedReceiver<(Cause, String)>,
        watcher: FileWatcher,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("watched");
            fs::write(&path, "first").unwrap();
            let (tell, seen) = mpsc::unbounded_channel();
            let read = path.clone();
            let watcher = FileWatcher::start(&Handle::current(), &path, move |cause| {
                let content = fs::read_to_string(&read).unwrap_or_else(|_| "gone".to_owned());
                tell.send((cause, content)).unwrap_or_default();
            });
            Self { folder, seen, watcher }
        }

        async fn until(&mut self, cause: Cause, content: &str) {
            loop {
                let seen = self.seen.recv().await.unwrap();
                if seen == (cause, content.to_owned()) {
                    return;
                }
            }
        }
    }

    #[tokio::test]
    async fn written_renamed_removed_and_made_again() {
        let mut bench = Bench::new();
        let path = bench.folder.path().join("watched");
        fs::write(&path, "in place").unwrap();
        bench.until(Cause::Changed, "in place").await;
        for content in ["renamed", "renamed again"] {
            let next = bench.folder.path().join("next");
            fs::write(&next, content).unwrap();
            fs::rename(&next, &path).unwrap();
            bench.until(Cause::Changed, content).await;
        }
        fs::remove_file(&path).unwrap();
        bench.until(Cause::Changed, "gone").await;
        fs::write(&path, "back").unwrap();
        bench.until(Cause::Changed, "back").await;
    }

    #[tokio::test]
    async fn a_trigger_needs_no_change() {
        let mut bench = Bench::new();
        bench.watcher.trigger();
        bench.until(Cause::Asked, "first").await;
    }

    #[tokio::test]
    async fn a_link_that_is_moved_is_a_change() {
        // How a mounted config map is replaced: neither the name nor its folder's entry for it changes.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("watched"), version).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("data")).unwrap();
        std::os::unix::fs::symlink("data/watched", at("watched")).unwrap();
        let (tell, mut seen) = mpsc::unbounded_channel();
        let read = at("watched");
        let _watcher = FileWatcher::start(&Handle::current(), &at("watched"), move |_| {
            tell.send(fs::read_to_string(&read).unwrap_or_default()).unwrap_or_default();
        });
        std::os::unix::fs::symlink("v2", at("data.new")).unwrap();
        fs::rename(at("data.new"), at("data")).unwrap();
        while seen.recv().await.unwrap() != "v2" {}
    }
}
