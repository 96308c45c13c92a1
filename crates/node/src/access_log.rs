//! The access log: one JSON line of each request, written by a thread of its own and never waited for.
//!
//! A line is serialised into a buffer of the thread that has it; the writer takes the buffers at least twice a second.
//! A buffer that is full drops the line and counts it. A line is lost with the process when it is killed, never
//! with a drain that calls [`AccessLog::flush`].

mod writer;

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    io,
    num::NonZeroU32,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use serde::Serialize;
use tokio::sync::oneshot;

use self::writer::{Sink, Writer};
use crate::flags::AccessLogTarget;

/// How long a line waits at most before it is written.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Buffers of one log; more threads than that share them.
const SHARDS: usize = 16;
/// What one buffer holds at most; beyond it lines are dropped.
pub const SHARD_BYTES_MAX: usize = 1 << 20;
/// A buffer with so much in it wakes the writer early.
const WAKE_BYTES: usize = 64 * 1024;

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("the access log {} cannot be opened: {source}; --access-log takes a file in a folder that this user may write to, stdout or off", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread.
    #[error("the access log's thread cannot be started: {0}")]
    Thread(io::Error),
}

/// What an access log counts.
#[derive(Clone, Debug, Default)]
pub struct AccessLogMetrics {
    written: Counter,
    dropped: Counter,
    errors: Counter,
}

impl AccessLogMetrics {
    /// Registers `perigee_access_log_*`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("perigee_access_log_lines", "Access log lines written", metrics.written.clone());
        registry.register(
            "perigee_access_log_dropped",
            "Access log lines lost to a full buffer or a failed write",
            metrics.dropped.clone(),
        );
        registry.register("perigee_access_log_errors", "Writes to the access log that failed", metrics.errors.clone());
        metrics
    }

    /// Lines written.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Lines lost.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

/// A node's access log. Cheap to clone; its thread ends, after the last lines, when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct AccessLog {
    handle: Option<Arc<Handle>>,
    one_in: NonZeroU32,
}

/// Ends the thread when the last clone of the log goes.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.order(|orders| orders.stop = true);
    }
}

impl AccessLog {
    /// No log: [`AccessLog::write`] does nothing.
    pub fn off() -> Self {
        Self { handle: None, one_in: NonZeroU32::MIN }
    }

    /// Opens the file, made when it is missing and appended to when it is there, or the standard output.
    pub fn open(target: &AccessLogTarget, metrics: AccessLogMetrics) -> Result<Self, AccessLogError> {
        let sink = match target {
            AccessLogTarget::Off => return Ok(Self::off()),
            AccessLogTarget::Stdout => Sink::Stdout,
            AccessLogTarget::File(path) => Sink::open(path.clone())?,
        };
        Self::start(sink, metrics)
    }

    fn start(sink: Sink, metrics: AccessLogMetrics) -> Result<Self, AccessLogError> {
        let shared = Arc::new(Shared {
            shards: std::array::from_fn(|_| Mutex::default()),
            orders: Mutex::default(),
            ordered: Condvar::new(),
            metrics,
        });
        let writer = Writer::new(Arc::clone(&shared), sink);
        thread::Builder::new().name("access-log".to_owned()).spawn(|| writer.run()).map_err(AccessLogError::Thread)?;
        Ok(Self { handle: Some(Arc::new(Handle(shared))), one_in: NonZeroU32::MIN })
    }

    /// The same log of one event in `one_in`, chosen by chance: by count, traffic with a rhythm would be seen wrongly.
    pub fn sampled(self, one_in: NonZeroU32) -> Self {
        Self { one_in, ..self }
    }

    /// Whether the next event gets a line: to be asked before each one is made.
    pub fn takes_next(&self) -> bool {
        self.handle.is_some() && (self.one_in.get() == 1 || chance().is_multiple_of(u64::from(self.one_in.get())))
    }

    /// Adds a line. Never waits for the disk; drops and counts the line when the buffer is full.
    pub fn write(&self, record: &impl Serialize) {
        if let Some(handle) = &self.handle {
            handle.0.add(record);
        }
    }

    /// As [`AccessLog::write`], for those who write their JSON themselves: `line` appends one value, without a line's end.
    pub fn write_line(&self, line: impl FnOnce(&mut Vec<u8>)) {
        if let Some(handle) = &self.handle {
            handle.0.append(|buffer| {
                line(buffer);
                Ok(())
            });
        }
    }

    /// Opens the file anew, say after it was renamed; one that cannot be opened leaves the old one in use.
    pub fn reopen(&self) {
        if let Some(handle) = &self.handle {
            handle.0.order(|orders| orders.reopen = true);
        }
    }

    /// Returns when every line written before has been handed to the system (or lost, and counted). A standard output
    /// that nobody reads can hold it forever: give it a bound.
    pub async fn flush(&self) {
        let Some(handle) = &self.handle else { return };
        let (done, flushed) = oneshot::channel();
        handle.0.order(|orders| orders.flushes.push(done));
        // An error means that the thread has ended, and then there is nothing to wait for.
        flushed.await.unwrap_or_default();
    }
}

#[derive(Debug)]
struct Shared {
    shards: [Mutex<Vec<u8>>; SHARDS],
    orders: Mutex<Orders>,
    ordered: Condvar,
    metrics: AccessLogMetrics,
}

#[derive(Debug, Default)]
struct Orders {
    wake: bool,
    reopen: bool,
    stop: bool,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Shared {
    fn add(&self, record: &impl Serialize) {
        self.append(|buffer| serde_json::to_writer(buffer, record));
    }

    fn append(&self, line: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) {
        let mut buffer = lock(&self.shards[shard()]);
        let before = buffer.len();
        if before >= SHARD_BYTES_MAX {
            self.metrics.dropped.inc();
            return;
        }
        if let Err(error) = line(&mut buffer) {
            buffer.truncate(before);
            self.metrics.dropped.inc();
            tracing::debug!(%error, "a record has no JSON form");
            return;
        }
        buffer.push(b'\n');
        let crossed = before < WAKE_BYTES && buffer.len() >= WAKE_BYTES;
        drop(buffer);
        if crossed {
            self.order(|orders| orders.wake = true);
        }
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut lock(&self.orders));
        self.ordered.notify_one();
    }

    fn wait(&self) -> Orders {
        let orders = lock(&self.orders);
        let idle = |orders: &mut Orders| !(orders.wake || orders.reopen || orders.stop || !orders.flushes.is_empty());
        let (mut orders, _) =
            self.ordered.wait_timeout_while(orders, FLUSH_INTERVAL, idle).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *orders)
    }
}

/// Numbers that look random, of a thread's own (SplitMix64): for samples, never for secrets.
pub fn chance() -> u64 {
    thread_local! {
        // A map's seed is the one thing random that needs no system call of ours.
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which buffer is this thread's: threads are numbered as they come.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    MINE.with(|mine| *mine)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    #[derive(Serialize)]
    struct Line {
        n: usize,
        text: &'static str,
    }

    fn open(path: &std::path::Path) -> (AccessLog, AccessLogMetrics) {
        let metrics = AccessLogMetrics::default();
        let log = AccessLog::open(&AccessLogTarget::File(path.into()), metrics.clone()).unwrap();
        (log, metrics)
    }

    #[test]
    fn one_event_in_so_many_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = open(&folder.path().join("access.log"));
        let taken = |log: &AccessLog| (0..100_000).filter(|_| log.takes_next()).count();
        assert_eq!(taken(&log), 100_000);
        let sampled = log.clone().sampled(NonZeroU32::new(100).unwrap());
        // 1,000 by chance: seven standard deviations (31.5) to each side.
        assert!((780..=1_220).contains(&taken(&sampled)), "{}", taken(&sampled));
        assert_eq!(taken(&AccessLog::off().sampled(NonZeroU32::MIN)), 0);
    }

    #[tokio::test]
    async fn lines_are_whole_in_order_and_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        fs::write(&path, "before\n").unwrap();
        let (log, metrics) = open(&path);
        for n in 0..2000 {
            log.write(&Line { n, text: "a\nb" });
        }
        log.flush().await;
        let text = fs::read_to_string(&path).unwrap();
        let expected: String = (0..2000).map(|n| format!("{{\"n\":{n},\"text\":\"a\\nb\"}}\n")).collect();
        assert_eq!(text, format!("before\n{expected}"));
        assert_eq!((metrics.written(), metrics.dropped()), (2000, 0));
    }

    #[tokio::test]
    async fn a_renamed_file_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (log, _) = open(&at("access.log"));
        log.write(&1);
        log.flush().await;
        fs::rename(at("access.log"), at("access.log.1")).unwrap();
        log.write(&2);
        log.reopen();
        log.flush().await;
        log.write(&3);
        log.flush().await;
        assert_eq!(fs::read_to_string(at("access.log.1")).unwrap(), "1\n2\n");
        assert_eq!(fs::read_to_string(at("access.log")).unwrap(), "3\n");
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let target = AccessLogTarget::File("/nonexistent/access.log".into());
        let said = AccessLog::open(&target, AccessLogMetrics::default()).unwrap_err().to_string();
        assert!(said.contains("/nonexistent/access.log cannot be opened"), "{said}");
        let off = AccessLog::open(&AccessLogTarget::Off, AccessLogMetrics::default()).unwrap();
        assert!(!off.takes_next());
        off.write(&1);
    }

    /// Takes `room` bytes, then fails until it is given more.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let taken = bytes.len().min(disk.0);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= taken;
            disk.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_disk_costs_lines_and_heals() {
        let disk = Disk::default();
        disk.0.lock().unwrap().0 = 8;
        let metrics = AccessLogMetrics::default();
        let log = AccessLog::start(Sink::Fake(Box::new(disk.clone())), metrics.clone()).unwrap();
        let (line, other) = ("123", "456");
        for text in [line, other, other] {
            log.write(&text);
            log.flush().await;
        }
        assert_eq!((metrics.written(), metrics.dropped()), (1, 2));
        disk.0.lock().unwrap().0 = 100;
        log.write(&line);
        log.flush().await;
        assert_eq!((metrics.written(), metrics.dropped()), (2, 2));
        assert_eq!(String::from_utf8_lossy(&disk.0.lock().unwrap().1), "\"123\"\n\"4\n\"123\"\n");
    }

    /// Blocks until it is let go.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or_default();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stuck_sink_costs_bounded_memory_and_never_waits() {
        let (release, stuck) = std::sync::mpsc::channel();
        let metrics = AccessLogMetrics::default();
        let log = AccessLog::start(Sink::Fake(Box::new(Stuck(stuck))), metrics.clone()).unwrap();
        let text = "x".repeat(1021);
        let lines = 4 * SHARD_BYTES_MAX / 1024;
        for _ in 0..lines {
            log.write(&text);
        }
        let dropped = metrics.dropped();
        assert!(dropped > 0 && dropped < lines as u64, "{dropped}");
        drop(release);
        log.flush().await;
        assert_eq!(metrics.written() + metrics.dropped(), lines as u64);
    }

    #[test]
    fn the_last_clone_writes_what_is_left() {
        let (told, seen) = std::sync::mpsc::channel();
        struct Tell(std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Tell {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start(Sink::Fake(Box::new(Tell(told))), AccessLogMetrics::default()).unwrap();
        let clone = log.clone();
        drop(log);
        clone.write(&"last");
        drop(clone);
        assert_eq!(seen.recv().unwrap(), b"\"last\"\n");
        assert!(seen.recv().is_err(), "the thread has not ended");
    }
}
