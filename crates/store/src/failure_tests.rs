//! Disks that fail and come back: full, deleted, cut short, unreadable, damaged.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use tempfile::TempDir;

use super::{
    tests::{head, runtime},
    *,
};
use crate::{
    config::{DISK_BYTES_MIN, DiskConfig, MEMORY_BYTES_MIN_WITH_DISK},
    object::DiskStats,
};

/// A state that should come, and has long been due when this is over.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(name: &str) -> CacheKey {
    CacheKey::from_bytes(name.as_bytes())
}

struct World {
    store: Store,
    registry: Registry,
}

impl World {
    async fn open(dir: &Path) -> Self {
        let disk = DiskConfig { dir: dir.to_owned(), bytes: DISK_BYTES_MIN };
        let config = StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, Some(disk), 1).unwrap();
        let config = config.probed_every(Duration::from_millis(20));
        let mut registry = Registry::default();
        let store = Store::open(config, &Handle::current(), &mut registry).await.unwrap();
        Self { store, registry }
    }

    fn put(&self, name: &str, body: &[u8]) {
        let body = Body::Inline(Bytes::copy_from_slice(body));
        let object = Object { head: head(), fill: self.store.begin(), fence: self.store.fence(), body };
        self.store.commit(&key(name), object);
    }

    async fn body(&self, name: &str) -> Option<(Bytes, Tier)> {
        match self.store.get(&key(name)).await? {
            (Entry::Object(Object { body: Body::Inline(body), .. }), tier) => Some((body, tier)),
            other => panic!("{other:?}"),
        }
    }

    /// What is found when memory has let everything go.
    async fn body_on_disk(&self, name: &str) -> Option<Bytes> {
        self.written().await;
        self.store.inner.memory.evict_all();
        let (body, tier) = self.body(name).await?;
        assert_eq!(tier, Tier::Disk);
        Some(body)
    }

    async fn written(&self) {
        self.until("written", |stats| stats.outstanding == 0).await;
    }

    async fn until_up(&self, up: bool) {
        self.until(if up { "up" } else { "down" }, |stats| stats.up == up).await;
    }

    async fn until(&self, what: &str, is: impl Fn(DiskStats) -> bool) {
        let start = Instant::now();
        while !is(self.store.stats().disk.unwrap()) {
            assert!(start.elapsed() < PATIENCE, "not {what}:\n{}", self.metrics());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What was written before is known to be on disk.
    async fn probed(&self) {
        let count = || self.store.inner.metrics.disk.probed.get();
        let before = count();
        // One may have been under way.
        self.until("probed", |_| count() >= before + 2).await;
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    fn assert_metric(&self, line: &str) {
        let text = self.metrics();
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }

    /// A disk that works: what is written now is read from it.
    async fn assert_works(&self) {
        self.put("proof", b"of life");
        assert_eq!(self.body_on_disk("proof").await.as_deref(), Some(&b"of life"[..]));
        self.assert_metric("perigee_store_disk_up 1");
    }

    /// A disk that does not: memory serves what comes.
    async fn assert_serves_from_memory(&self) {
        self.put("meanwhile", b"from memory");
        assert_eq!(self.body("meanwhile").await, Some((Bytes::from_static(b"from memory"), Tier::Memory)));
        let object = Object {
            head: head(),
            fill: self.store.begin(),
            fence: self.store.fence(),
            body: Body::Segments { len: SEGMENT_BYTES as u64 },
        };
        self.store.put_segment(object.fill, 0, Bytes::from(vec![1; SEGMENT_BYTES])).await;
        assert!(self.store.segment(&object, 0).await.is_some());
        self.assert_metric("perigee_store_disk_up 0");
    }
}

fn engine_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("foyer-storage-"));
    files.sort();
    files
}

/// Something in the disk's way, so that it stays away until [`make_way`]. Each is one step: nothing is seen in between.
fn bar(dir: &Path) {
    fs::copy(dir.join("FORMAT"), dir.join("FORMAT.away")).unwrap();
    std::os::unix::fs::symlink(".", dir.join("FORMAT.bar")).unwrap();
    fs::rename(dir.join("FORMAT.bar"), dir.join("FORMAT")).unwrap();
}

fn make_way(dir: &Path) {
    fs::rename(dir.join("FORMAT.away"), dir.join("FORMAT")).unwrap();
}

fn with_world(test: impl AsyncFnOnce(World, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async { test(World::open(dir.path()).await, dir.path()).await });
}

#[test]
fn a_failed_disk_is_left_out_and_comes_back_with_what_it_had() {
    with_world(async |world, dir| {
        world.put("kept", b"kept");
        world.assert_works().await;
        world.probed().await;
        let written = world.store.stats().disk.unwrap().written;
        bar(dir);
        world.until_up(false).await;
        world.assert_metric("perigee_store_disk_faults_total{reason=\"folder\"} 1");
        world.assert_serves_from_memory().await;
        make_way(dir);
        world.until_up(true).await;
        assert_eq!(world.body_on_disk("kept").await.as_deref(), Some(&b"kept"[..]));
        world.assert_works().await;
        assert!(world.store.stats().disk.unwrap().written > written, "a counter never goes back");
        world.store.close().await;
    });
}

#[test]
fn what_changed_while_the_disk_was_away_does_not_come_back_with_it() {
    with_world(async |world, dir| {
        for name in ["removed", "replaced", "kept"] {
            world.put(name, b"old");
        }
        world.probed().await;
        bar(dir);
        world.until_up(false).await;
        world.store.remove(&key("removed"));
        world.put("replaced", b"new");
        make_way(dir);
        world.until_up(true).await;
        // A restart forgets what the process remembers of removals.
        world.written().await;
        world.store.close().await;
        drop(world);
        let world = World::open(dir).await;
        assert_eq!(world.body("removed").await, None);
        assert_eq!(world.body("replaced").await, None, "the new one was in memory only, the old one is gone");
        assert_eq!(world.body("kept").await, Some((Bytes::from_static(b"old"), Tier::Disk)));
    });
}

#[test]
fn what_was_just_written_to_a_disk_that_fails_is_not_trusted() {
    with_world(async |world, dir| {
        world.put("a", b"long proved");
        world.probed().await;
        bar(dir);
        world.put("a", b"perhaps on disk");
        world.until_up(false).await;
        make_way(dir);
        world.until_up(true).await;
        assert_eq!(world.body_on_disk("a").await, None, "neither the old one nor what may have been lost");
        world.store.close().await;
    });
}

#[test]
fn a_deleted_folder_is_made_and_locked_again() {
    with_world(async |world, dir| {
        world.put("a", b"gone with the folder");
        world.written().await;
        fs::remove_dir_all(dir).unwrap();
        world.until("noticed", |_| !world.metrics().contains("disk_reopened_total 0")).await;
        world.until_up(true).await;
        assert_eq!(world.body_on_disk("a").await, None);
        world.assert_works().await;
        let another = DiskConfig { dir: dir.to_owned(), bytes: DISK_BYTES_MIN };
        let another = StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, Some(another), 1).unwrap();
        let refused = Store::open(another, &Handle::current(), &mut Registry::default()).await;
        assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
        let last = world.store.begin();
        world.store.close().await;
        assert!(World::open(dir).await.store.begin() > last, "no fill is named twice");
    });
}

#[test]
fn files_that_were_cut_short_are_noticed_and_made_whole() {
    with_world(async |world, dir| {
        world.put("a", b"cut off");
        world.written().await;
        let files = engine_files(dir);
        let lengths =
            |files: &[PathBuf]| files.iter().map(|file| fs::metadata(file).unwrap().len()).collect::<Vec<_>>();
        let before = lengths(&files);
        for file in &files {
            OpenOptions::new().write(true).open(file).unwrap().set_len(0).unwrap();
        }
        assert_eq!(world.body_on_disk("a").await, None, "a read past the end is a miss");
        world.until("noticed", |_| !world.metrics().contains("disk_reopened_total 0")).await;
        // It may have been noticed, and mended, before the last of them was cut.
        world.until("made whole", |_| lengths(&files) == before).await;
        world.until_up(true).await;
        world.assert_works().await;
    });
}

#[test]
fn a_disk_that_does_not_answer_is_left_out_until_it_does() {
    // All of the disk's reads and writes wait behind whatever holds this one thread.
    let one =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build();
    let dir = tempfile::tempdir().unwrap();
    one.unwrap().block_on(async {
        let world = World::open(dir.path()).await;
        world.put("a", b"slow to come");
        world.probed().await;
        world.store.inner.memory.evict_all();
        let (answer, hang) = std::sync::mpsc::channel::<()>();
        let hanging = tokio::task::spawn_blocking(move || _ = hang.recv());
        let start = Instant::now();
        assert_eq!(world.body("a").await, None, "a miss, and not a client that waits");
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        world.assert_metric("perigee_store_read_timeouts_total 1");
        world.put("b", b"meanwhile");
        assert!(world.body("b").await.is_some());
        world.until_up(false).await;
        world.assert_metric("perigee_store_disk_faults_total{reason=\"slow\"} 1");
        world.assert_serves_from_memory().await;
        assert_eq!(world.body("a").await, None);

        drop(answer);
        hanging.await.unwrap();
        world.until_up(true).await;
        assert_eq!(world.body_on_disk("a").await.as_deref(), Some(&b"slow to come"[..]));
        world.assert_works().await;
        world.store.close().await;
    });
}

/// A file system of its own, or `None` with a line that says so: mounting takes root.
fn tmpfs(bytes: u64) -> Option<TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let options = format!("size={bytes}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
    if mounted.is_ok_and(|status| status.success()) {
        return Some(dir);
    }
    let line = "SKIP: a tmpfs cannot be mounted (root only): the test of a full disk did not run\n";
    if let Some(list) = std::env::var_os("PERIGEE_SKIPS") {
        OpenOptions::new().append(true).create(true).open(list).unwrap().write_all(line.as_bytes()).unwrap();
    }
    None
}

struct Mounted(TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the store's files may still be open when a test failed.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// Takes the space of the store's files away, lengths kept, and fills the file system up.
fn fill_up(mount: &Path, dir: &Path) -> PathBuf {
    use nix::fcntl::{FallocateFlags, fallocate};
    let whole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for path in engine_files(dir) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        fallocate(&file, whole, 0, i64::try_from(file.metadata().unwrap().len()).unwrap()).unwrap();
    }
    let ballast = mount.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    let piece = vec![0; 1024 * 1024];
    while file.write_all(&piece).is_ok() {}
    while file.write_all(&piece[..4096]).is_ok() {}
    ballast
}

#[test]
fn a_full_disk_is_left_out_until_there_is_room() {
    let Some(mount) = tmpfs(DISK_BYTES_MIN + 8 * 1024 * 1024).map(Mounted) else { return };
    let dir = mount.0.path().join("cache");
    runtime().block_on(async {
        let world = World::open(&dir).await;
        world.put("before", b"before");
        world.assert_works().await;
        let ballast = fill_up(mount.0.path(), &dir);
        for turn in 0.. {
            if !world.store.stats().disk.unwrap().up {
                break;
            }
            world.put(&format!("flood {turn}"), &[1; 20_000]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.assert_metric("perigee_store_disk_faults_total{reason=\"lost\"} 1");
        // Whether a write or a probe was the first to find no room is chance, and with it whether anything was lost.
        world.assert_serves_from_memory().await;
        // Longer than a few attempts: none may succeed without room.
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.assert_serves_from_memory().await;

        fs::remove_file(ballast).unwrap();
        world.until_up(true).await;
        world.assert_works().await;
        world.assert_metric("perigee_store_disk_reopened_total 1");
        // And it stays: all space is allocated again.
        let ballast = mount.0.path().join("ballast");
        let mut file = File::create(ballast).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        for turn in 0..200 {
            world.put(&format!("after {turn}"), &[turn; 20_000]);
        }
        assert_eq!(world.body_on_disk("after 199").await.as_deref(), Some(&[199; 20_000][..]));
        world.store.close().await;
    });
}

/// Every page of every file has its turn: entries, their indices, the log of removals.
#[test]
fn flipped_bytes_are_never_served_after_a_restart() {
    const OBJECTS: u8 = 60;
    let dir = tempfile::tempdir().unwrap();
    let content = |number: u8| vec![number; 1000 + 500 * usize::from(number)];
    let runtime = runtime();
    let (mut served, mut missed) = (0, 0);
    for round in 0..8_u64 {
        let found = runtime.block_on(async {
            let world = World::open(dir.path()).await;
            for number in 0..OBJECTS {
                world.put(&format!("{round}/{number}"), &content(number));
            }
            world.store.remove(&key(&format!("{round}/0")));
            world.written().await;
            world.store.close().await;
            drop(world);
            for path in engine_files(dir.path()) {
                let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                // Where anything can be: the first MiB of each block. Every 8th page, another byte of it each time.
                let pages = (file.metadata().unwrap().len() / 4096).min(256);
                for page in (round..pages).step_by(8) {
                    let at = page * 4096 + (page * 131 + round * 517) % 64;
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, at).unwrap();
                    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
                }
            }
            let world = World::open(dir.path()).await;
            let mut found = [0, 0];
            for number in 1..OBJECTS {
                match world.body(&format!("{round}/{number}")).await {
                    None => found[1] += 1,
                    Some((body, _)) => {
                        assert!(body[..] == content(number)[..], "round {round}: object {number} is damaged");
                        found[0] += 1;
                    }
                }
            }
            assert!(world.body(&format!("{round}/0")).await.is_none(), "what was removed is back");
            world.store.close().await;
            found
        });
        served += found[0];
        missed += found[1];
    }
    assert!(served > 0 && missed > 0, "the test shows nothing: {served} served, {missed} missed");
}
