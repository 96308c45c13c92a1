//! The disk tier behind a breaker.
//!
//! foyer's flusher dies of a disk error without a word, and then nothing reaches the disk any more. So the tier is replaceable:
//! while the breaker is open there is none, memory and the upstream serve, and what changes is noted for its return.

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use foyer::{Age, Load};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    config::DiskConfig,
    engine::{self, Hybrid, MemoryEntry, Storage},
    error::StoreError,
    folder::Folder,
    journal::{Journal, Note},
    ledger::LedgerFolder,
    metrics::DiskCounts,
    object::DiskStats,
    record::{HashRef, Record, RecordKey, SeededHash},
    rescue::{Reclaimed, Waiting},
    shares::Shares,
    window::{Ticket, Window},
};

/// How long a read may take: after that it is a miss, and the upstream is asked.
pub(crate) const READ_MAX: Duration = Duration::from_secs(2);
/// How long a head waits for others, to be written with them: alone it costs two writes, its own and that of its index, and
/// a turn of four threads.
const LINGER: Duration = Duration::from_millis(5);
/// Of those, how many are handed over before others get a turn at what is gathered.
const GATHERED_IN_TURN: usize = 32;

/// One opening of the disk tier.
pub(crate) struct Engine {
    hybrid: Hybrid,
    pub(crate) window: Window,
    /// See [`Self::enqueue`].
    order: Mutex<()>,
    /// See [`Self::enqueue_soon`]. What lies here has tickets, so it is bounded as they are.
    gathered: Mutex<HashMap<u64, (MemoryEntry, Ticket)>>,
    hash_seed: u64,
    shares: Arc<Shares>,
    runtime: Handle,
}

impl Engine {
    pub(crate) fn storage(&self) -> &Storage {
        self.hybrid.storage()
    }

    /// Hands an entry to the disk.
    ///
    /// One at a time: foyer numbers entries before it queues them, and after a restart reads a block only as far as the
    /// numbers go up. Two threads at once could cost all that lies behind them.
    pub(crate) fn enqueue(&self, entry: &MemoryEntry) {
        let _turn = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.hybrid.storage().enqueue(entry.piece(), true);
    }

    /// As [`Self::enqueue`], within [`LINGER`], together with what else comes until then.
    pub(crate) fn enqueue_soon(self: &Arc<Self>, entry: MemoryEntry, ticket: Ticket) {
        let hash = entry.hash();
        let is_first = {
            let mut gathered = self.gathered();
            gathered.insert(hash, (entry.clone(), ticket));
            gathered.len() == 1
        };
        if entry.is_outdated() {
            // Replaced or removed meanwhile: what was just gathered might take the place of the later one.
            self.delete(hash);
        }
        if is_first {
            let engine = Arc::clone(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(LINGER).await;
                engine.enqueue_gathered();
            });
        }
    }

    /// Hands all that has gathered to the disk.
    pub(crate) fn enqueue_gathered(&self) {
        loop {
            // Under the lock, so that whoever removes something finds it either here or in foyer's queue.
            let mut gathered = self.gathered();
            let some: Vec<u64> = gathered.keys().take(GATHERED_IN_TURN).copied().collect();
            if some.is_empty() {
                return;
            }
            for (entry, ticket) in some.iter().filter_map(|hash| gathered.remove(hash)) {
                self.enqueue(&entry);
                self.sent(&entry, ticket);
            }
        }
    }

    /// Hands an entry to the disk that was just put into memory. It is never removed by name.
    pub(crate) fn enqueue_segment(&self, entry: &MemoryEntry, ticket: Ticket) {
        self.enqueue(entry);
        self.sent(entry, ticket);
    }

    fn sent(&self, entry: &MemoryEntry, ticket: Ticket) {
        self.shares.enters_disk(entry.hash(), entry.value().disk_bytes(entry.key()) as u64);
        ticket.sent(entry.hash());
    }

    /// What is on its way to the disk, or on it, under a key of this hash is forgotten.
    pub(crate) fn delete(&self, hash: u64) {
        drop(self.gathered().remove(&hash));
        self.storage().delete(&HashRef { hash, seed: self.hash_seed });
    }

    /// Whether there is something under a key of this hash, or in the disk's index. Reads nothing.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.gathered().contains_key(&hash) || self.storage().may_contains(&HashRef { hash, seed: self.hash_seed })
    }

    #[cfg(test)]
    pub(crate) fn gathered_count(&self) -> usize {
        self.gathered().len()
    }

    fn hash(&self, key: &RecordKey) -> u64 {
        SeededHash(self.hash_seed).hash_one(key)
    }

    fn gathered(&self) -> MutexGuard<'_, HashMap<u64, (MemoryEntry, Ticket)>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn close(&self) -> foyer::Result<()> {
        self.enqueue_gathered();
        self.hybrid.close().await
    }
}

/// The disk's part of a store.
pub(crate) struct Disk {
    config: DiskConfig,
    hash_seed: u64,
    /// `None`: the breaker is open, or the store is closed.
    engine: ArcSwapOption<Engine>,
    /// Given up when the store closes.
    folder: ArcSwapOption<Folder>,
    pub(crate) journal: Journal,
    pub(crate) counts: DiskCounts,
    /// Something looks wrong: probe now.
    pub(crate) suspicion: Notify,
    pub(crate) shares: Arc<Shares>,
    /// What is to be written anew.
    pub(crate) waiting: Waiting,
    /// Bytes written and read by engines that are gone.
    past: (AtomicU64, AtomicU64),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the folder and the tier in it. The folder's epoch is [`Self::epoch`].
    pub(crate) async fn open(
        config: DiskConfig,
        hash_seed: u64,
        counts: DiskCounts,
        shares: Arc<Shares>,
        runtime: &Handle,
    ) -> Result<Arc<Self>, StoreError> {
        let wanted = config.clone();
        let folder = runtime.spawn_blocking(move || Folder::open(&wanted, hash_seed));
        let folder = folder.await.map_err(|_| StoreError::Runtime)??;
        let disk = Arc::new(Self {
            config,
            hash_seed,
            engine: ArcSwapOption::empty(),
            folder: ArcSwapOption::empty(),
            journal: Journal::default(),
            counts,
            suspicion: Notify::new(),
            shares,
            waiting: Waiting::default(),
            past: Default::default(),
        });
        let (engine, folder) = disk.engine_in(folder, runtime).await?;
        disk.set_folder(folder);
        disk.close_breaker(engine);
        Ok(disk)
    }

    /// Opens a tier in a folder, all its space allocated.
    pub(crate) async fn engine_in(
        self: &Arc<Self>,
        folder: Folder,
        runtime: &Handle,
    ) -> Result<(Arc<Engine>, Arc<Folder>), StoreError> {
        let failed = |source| StoreError::Engine { dir: self.config.dir.clone(), source };
        let reclaimed = Reclaimed(Arc::downgrade(self));
        let hybrid = engine::disk(&self.config, self.hash_seed, reclaimed, runtime).await.map_err(failed)?;
        let (bytes, folder) = (self.config.bytes, Arc::new(folder));
        let allocating = Arc::clone(&folder);
        let allocated = runtime.spawn_blocking(move || allocating.allocate(bytes));
        allocated.await.map_err(|_| StoreError::Runtime)??;
        let storage = hybrid.storage().clone();
        let flushed = move || {
            let storage = storage.clone();
            async move { storage.wait().await }
        };
        let (storage, disk) = (hybrid.storage().clone(), Arc::downgrade(self));
        let window = Window::new(runtime, flushed, move |hashes| {
            if let Some(disk) = disk.upgrade() {
                disk.verify(&storage, hashes);
            }
        });
        let engine = Engine {
            hybrid,
            window,
            order: Mutex::new(()),
            gathered: Mutex::default(),
            hash_seed: self.hash_seed,
            shares: Arc::clone(&self.shares),
            runtime: runtime.clone(),
        };
        Ok((Arc::new(engine), folder))
    }

    /// Whether what was handed to the disk is in its index now. It counts what is not, and has the disk probed.
    fn verify(&self, storage: &Storage, hashes: &mut dyn Iterator<Item = u64>) {
        let seed = self.hash_seed;
        let lost = hashes
            .filter(|hash| !storage.may_contains(&HashRef { hash: *hash, seed }) && !self.journal.is_removed(*hash))
            .count();
        if lost > 0 {
            self.counts.lost.inc_by(lost as u64);
            self.suspicion.notify_one();
        }
    }

    /// What it may take.
    pub(crate) fn bytes(&self) -> u64 {
        self.config.bytes
    }

    /// The tier, unless the breaker is open.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.load_full()
    }

    /// The folder, unless the store is closed.
    pub(crate) fn folder(&self) -> Option<Arc<Folder>> {
        self.folder.load_full()
    }

    /// How often the folder was opened.
    pub(crate) fn epoch(&self) -> u64 {
        self.folder.load().as_ref().map_or(0, |folder| folder.epoch)
    }

    /// Where purges are remembered; `None` once it is closed.
    pub(crate) fn ledger_folder(&self) -> Option<LedgerFolder> {
        let folder = self.folder.load();
        let Folder { epoch, empty, .. } = **folder.as_ref()?;
        Some(LedgerFolder { dir: self.config.dir.clone(), epoch, empty })
    }

    /// Uses this tier from now on.
    pub(crate) fn close_breaker(&self, engine: Arc<Engine>) {
        self.engine.store(Some(engine));
    }

    /// This is the folder now, and its lock is the one that counts.
    pub(crate) fn set_folder(&self, folder: Arc<Folder>) {
        self.folder.store(Some(folder));
    }

    /// Uses no tier from now on; returns the one that was used.
    pub(crate) fn open_breaker(&self) -> Option<Arc<Engine>> {
        let engine = self.engine.swap(None)?;
        let statistics = engine.hybrid.statistics();
        self.past.0.fetch_add(statistics.disk_write_bytes() as u64, Ordering::Relaxed);
        self.past.1.fetch_add(statistics.disk_read_bytes() as u64, Ordering::Relaxed);
        Some(engine)
    }

    /// Gives the folder up.
    pub(crate) fn unlock(&self) {
        self.folder.store(None);
    }

    /// Notes that a head changes, then tells through which tier, if there is one. In this order: a tier that comes back
    /// meanwhile has read the note.
    pub(crate) fn changing(&self, hash: u64, removed: bool) -> Option<Arc<Engine>> {
        self.journal.note(Note { hash, removed });
        self.engine()
    }

    /// Reads one entry, and tells whether it lies in the last tenth of the disk. `None`: it is not there, damaged, the disk
    /// failed or did not answer in time.
    pub(crate) async fn load(&self, engine: &Engine, key: &RecordKey) -> Option<(Record, bool)> {
        let hash = engine.hash(key);
        if let Some((entry, _)) = engine.gathered().get(&hash).filter(|(entry, _)| entry.key() == key) {
            return Some((entry.value().clone(), false));
        }
        let found = match tokio::time::timeout(READ_MAX, engine.storage().load(key)).await {
            Ok(Ok(Load::Entry { value, populated, .. })) => return Some((value, populated.age == Age::Old)),
            Ok(Ok(Load::Piece { piece, .. })) => return Some((piece.value().clone(), false)),
            Ok(Ok(Load::Miss | Load::Throttled)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                self.counts.read_timeouts.inc();
                format!("no answer in {READ_MAX:?}")
            }
        };
        self.counts.read_errors.inc();
        self.suspicion.notify_one();
        tracing::debug!(error = found, "disk cache read failed");
        None
    }

    pub(crate) fn stats(&self) -> DiskStats {
        let engine = self.engine.load();
        let statistics = engine.as_ref().map(|engine| engine.hybrid.statistics());
        let of = |past: &AtomicU64, now: Option<usize>| past.load(Ordering::Relaxed) + now.unwrap_or(0) as u64;
        DiskStats {
            up: engine.is_some(),
            capacity: self.config.bytes,
            written: of(&self.past.0, statistics.map(|statistics| statistics.disk_write_bytes())),
            read: of(&self.past.1, statistics.map(|statistics| statistics.disk_read_bytes())),
            outstanding: engine.as_ref().map_or(0, |engine| engine.window.outstanding()),
        }
    }
}
