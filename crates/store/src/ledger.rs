//! The live purge ledger of a store: asked at every hit, never from a snapshot, and remembered across restarts.
//!
//! The rules are [`perigee_semantics::purge`]'s. Here is what makes them cheap (while nothing was purged since an object was
//! fetched, one atomic load tells) and durable (a purge is acknowledged when it is on disk; without a disk nothing that it
//! could match outlives the process either).

mod file;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use perigee_semantics::{
    key::CacheKey,
    purge::{Kind, Ledger, Purge, Scope, Seq, Subject, Target, Verdict},
    time::Timestamp,
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use crate::ledger::file::LEDGER_FILES;
use crate::ledger::file::{LedgerFile, Unreadable};

/// Purges that are listed in words.
pub const RECENT_PURGES_MAX: usize = 256;
/// How long a response waits for what it invalidated to be written.
const INVALIDATION_WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes of the words of one purge; longer ones are cut.
const TEXT_BYTES_MAX: usize = 512;

/// Where a ledger is remembered.
#[derive(Debug)]
pub(crate) struct LedgerFolder {
    pub(crate) dir: PathBuf,
    /// How often the folder was opened, this time included.
    pub(crate) epoch: u64,
    /// Nothing is stored in it.
    pub(crate) empty: bool,
}

impl LedgerFolder {
    /// Above every number of earlier openings, which are counted up one by one.
    fn first_seq(&self) -> Seq {
        Seq::new(self.epoch.saturating_mul(1 << 32))
    }
}

/// What became of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeAck {
    /// Its number.
    pub seq: Seq,
    /// Whether a restart remembers it. It holds in this process in any case.
    pub durable: bool,
}

#[derive(Debug)]
pub(crate) struct LiveLedger {
    seed: u64,
    /// Copies of the ledger's own, for those who need no more.
    applied: AtomicU64,
    latest: AtomicU64,
    ledger: RwLock<Ledger>,
    /// Oldest first. Who purges takes its turn here.
    recent: Mutex<VecDeque<Purge>>,
    file: Mutex<Option<LedgerFile>>,
    /// Whether there is a file.
    is_durable: bool,
    runtime: Handle,
    metrics: LedgerMetrics,
}

#[derive(Debug)]
pub(crate) struct LedgerMetrics {
    purges: Family<[(&'static str, &'static str); 2], Counter>,
    entries: Gauge,
    folds: Gauge,
    seq: Gauge,
    write_errors: Counter,
}

impl LedgerMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            purges: Family::default(),
            entries: Gauge::default(),
            folds: Gauge::default(),
            seq: Gauge::default(),
            write_errors: Counter::default(),
        };
        registry.register("perigee_purges", "Purges since the start by scope and kind", metrics.purges.clone());
        registry.register(
            "perigee_purge_ledger_entries",
            "URLs, prefixes and surrogate keys that the purge ledger tells apart",
            metrics.entries.clone(),
        );
        registry.register(
            "perigee_purge_ledger_folds",
            "Entries of the purge ledger that stand for their whole site by now",
            metrics.folds.clone(),
        );
        registry.register(
            "perigee_purge_ledger_seq",
            "Number of the last purge, which tells whether nodes with one log are at the same",
            metrics.seq.clone(),
        );
        registry.register(
            "perigee_purge_ledger_write_errors",
            "Purges that could not be written to disk: they hold until the node restarts",
            metrics.write_errors.clone(),
        );
        metrics
    }

    fn show(&self, ledger: &Ledger) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.entries.set(number(ledger.entries() as u64));
        self.folds.set(number(ledger.folds()));
        self.seq.set(number(ledger.applied().as_u64()));
    }
}

impl LiveLedger {
    /// Remembers nothing across a restart, which nothing that could be purged survives either.
    pub(crate) fn in_memory(seed: u64, runtime: Handle, metrics: LedgerMetrics) -> Self {
        Self::of(Ledger::default(), VecDeque::new(), None, seed, runtime, metrics)
    }

    /// Reads what a folder remembers, or begins anew. Blocks.
    ///
    /// A folder whose ledger is missing or damaged counts as purged as a whole: what was purged in it is not known any more.
    pub(crate) fn open(folder: &LedgerFolder, seed: u64, runtime: Handle, metrics: LedgerMetrics) -> io::Result<Self> {
        let (mut ledger, recent) = remember(folder, fingerprint(seed))?;
        // A purge that was lost with an earlier process has given its number to fences that were not.
        ledger.advance(folder.first_seq());
        let snapshot = file::snapshot(fingerprint(seed), &ledger, recent.iter())?;
        let file = LedgerFile::create(&folder.dir, &snapshot)?;
        Ok(Self::of(ledger, recent, Some(file), seed, runtime, metrics))
    }

    fn of(
        ledger: Ledger,
        recent: VecDeque<Purge>,
        file: Option<LedgerFile>,
        seed: u64,
        runtime: Handle,
        metrics: LedgerMetrics,
    ) -> Self {
        metrics.show(&ledger);
        Self {
            seed,
            applied: AtomicU64::new(ledger.applied().as_u64()),
            latest: AtomicU64::new(ledger.latest().as_u64()),
            ledger: RwLock::new(ledger),
            recent: Mutex::new(recent),
            is_durable: file.is_some(),
            file: Mutex::new(file),
            runtime,
            metrics,
        }
    }

    pub(crate) fn applied(&self) -> Seq {
        // Whoever sees a number sees all that the ledger says of it: `latest` is published before.
        Seq::new(self.applied.load(Ordering::Acquire))
    }

    /// Whether nothing at all was purged since `fence`: two loads.
    fn is_clean(&self, fence: Seq) -> bool {
        fence <= self.applied() && self.latest.load(Ordering::Acquire) <= fence.as_u64()
    }

    pub(crate) fn verdict(&self, key: &CacheKey, tags: &[Box<str>], fence: Seq) -> Verdict {
        if self.is_clean(fence) {
            return Verdict::Clean;
        }
        match Subject::new(key, tags, self.seed) {
            Some(subject) => self.ledger().verdict(subject, fence),
            None => Verdict::Clean,
        }
    }

    pub(crate) fn may_match(&self, key: &CacheKey, fence: Seq) -> bool {
        if self.is_clean(fence) {
            return false;
        }
        Subject::new(key, &[], self.seed).is_none_or(|subject| self.ledger().may_match(subject, fence))
    }

    fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Purges: in force for every core, and on disk if it says so, when this returns.
    pub(crate) async fn purge(self: &Arc<Self>, kind: Kind, scopes: &[Scope], now: Timestamp) -> PurgeAck {
        let purge = self.apply(kind, scopes, false, words(scopes), now);
        let (ledger, seq) = (Arc::clone(self), purge.seq);
        // It goes on when whoever waits goes away; a runtime that has ended wrote nothing.
        let durable = self.runtime.spawn_blocking(move || ledger.write(&purge, true)).await.unwrap_or(false);
        PurgeAck { seq, durable }
    }

    /// Purges what a response of upstream made invalid: in force at once. With `local`, URLs that were removed from the store
    /// as well.
    ///
    /// When this returns it is written, but nobody waited for the disk: a process that is killed remembers it, a machine that
    /// fails within the next seconds may not.
    pub(crate) async fn invalidate(self: &Arc<Self>, scopes: &[Scope], local: bool, now: Timestamp) -> Seq {
        let purge = self.apply(Kind::Hard, scopes, local, "".into(), now);
        let seq = purge.seq;
        if self.is_durable {
            let ledger = Arc::clone(self);
            let written = self.runtime.spawn_blocking(move || ledger.write(&purge, false));
            // A disk that hangs holds no response up; what it does in the end is counted by `write`.
            if tokio::time::timeout(INVALIDATION_WAIT_MAX, written).await.is_err() {
                tracing::warn!(seq = seq.as_u64(), "an invalidation is still not written");
            }
        }
        seq
    }

    /// In force when it returns.
    fn apply(&self, kind: Kind, scopes: &[Scope], local: bool, text: Box<str>, now: Timestamp) -> Purge {
        let targets: Vec<Target> = scopes.iter().map(|scope| scope.target(self.seed)).collect();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        let purge = Purge { seq: ledger.applied().next(), kind, local, at: now, targets, text };
        purge.apply_to(&mut ledger);
        self.latest.store(ledger.latest().as_u64(), Ordering::Release);
        self.applied.store(purge.seq.as_u64(), Ordering::Release);
        self.metrics.show(&ledger);
        drop(ledger);
        let kind = if local { "local" } else { kind.as_str() };
        for scope in scopes {
            self.metrics.purges.get_or_create(&[("scope", scope.as_str()), ("kind", kind)]).inc();
        }
        if purge.text.is_empty() {
            return purge;
        }
        if recent.len() >= RECENT_PURGES_MAX {
            recent.pop_front();
        }
        recent.push_back(purge.clone());
        purge
    }

    /// Whether a restart remembers the purge, as far as was asked. Blocks.
    fn write(&self, purge: &Purge, sync: bool) -> bool {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a disk nothing that it could match outlives the process.
        let Some(writer) = &mut *file else { return true };
        let written = writer.append(purge, || self.snapshot());
        drop(file);
        // Others write on meanwhile: the system brings all of it to the disk at once.
        let done = written.and_then(|written| if sync { written.sync_data() } else { Ok(()) });
        let Err(error) = done else { return true };
        self.not_written(&error, purge.seq);
        if let Some(writer) = &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.distrust();
        }
        false
    }

    /// Remembers all of it in the folder again, where that was made anew under a running store. Blocks.
    pub(crate) fn put_in_place(&self) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.as_mut().map_or(Ok(()), |writer| writer.put_in_place(|| self.snapshot()))
    }

    fn not_written(&self, error: &io::Error, seq: Seq) {
        self.metrics.write_errors.inc();
        tracing::error!(%error, seq = seq.as_u64(), "a purge is not on disk: it holds until this node restarts");
    }

    fn snapshot(&self) -> io::Result<Vec<u8>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        file::snapshot(fingerprint(self.seed), &self.ledger(), recent.iter())
    }

    /// The latest purges, youngest first.
    pub(crate) fn recent(&self) -> Vec<Purge> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    pub(crate) fn entries(&self) -> usize {
        self.ledger().entries()
    }
}

/// Tells ledgers of different seeds apart; the seed is a secret.
fn fingerprint(seed: u64) -> u64 {
    xxh3_64_with_seed(b"perigee-ledger seed", seed)
}

fn remember(folder: &LedgerFolder, fingerprint: u64) -> io::Result<(Ledger, VecDeque<Purge>)> {
    let dir: &Path = &folder.dir;
    let unreadable = match file::read(dir, fingerprint) {
        Ok(contents) => {
            let recent = contents.recent.into_iter().rev().take(RECENT_PURGES_MAX).collect::<Vec<_>>();
            return Ok((contents.ledger, recent.into_iter().rev().collect()));
        }
        Err(unreadable) => unreadable,
    };
    let is_missing = matches!(unreadable, Unreadable::Missing);
    if !is_missing {
        file::set_aside(dir)?;
    }
    if folder.empty && is_missing {
        return Ok((Ledger::default(), VecDeque::new()));
    }
    tracing::warn!(
        dir = %dir.display(),
        reason = %unreadable,
        "what was purged is not known, because of the purge ledger: all that is stored counts as purged"
    );
    Ok((Ledger::unknown_until(folder.first_seq()), VecDeque::new()))
}

fn words(scopes: &[Scope]) -> Box<str> {
    let mut text = String::new();
    for scope in scopes {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&scope.to_string());
        if text.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
            break;
        }
    }
    text.into()
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
