//! The canary: whether the disk still takes what it is given, asked every few seconds by writing an entry and reading it back
//! from disk; what follows when it does not; and the way back.

use std::{
    io,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use foyer::{HybridCacheProperties, Load, Location};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    disk::{Disk, Engine},
    error::StoreError,
    journal::Forget,
    object::FillId,
    record::{HashRef, Record, RecordKey},
    store::Inner,
};

/// How long a disk may take for a probe.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to open a failed disk again.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The canary's name: real fills are never 0.
const CANARY: RecordKey = RecordKey::Segment(FillId::bare(0), 0);

/// Why the breaker opens. [`Self::as_str`] is the metric's label.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the folder is not what it was: {0}")]
    Folder(#[from] io::Error),
    #[error("what was written is not there")]
    Lost,
    #[error("what was written cannot be read: {0}")]
    Read(foyer::Error),
    #[error("no answer within {PROBE_MAX:?}")]
    Slow,
    #[error("the store is closing")]
    Closing,
}

impl Fault {
    pub(crate) const ALL: [&'static str; 4] = ["folder", "lost", "read", "slow"];

    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Lost => "lost",
            Self::Read(_) => "read",
            Self::Slow | Self::Closing => "slow",
        }
    }
}

/// Watches a store's disk until the store is closed or gone.
pub(crate) async fn watch(store: Weak<Inner>, disk: Arc<Disk>, every: Duration, runtime: Handle) {
    let mut count = 0_u64;
    let backoff_min = every / 5;
    let mut backoff = backoff_min;
    let mut retired: Option<JoinHandle<()>> = None;
    loop {
        let is_up = disk.engine().is_some();
        tokio::select! {
            () = tokio::time::sleep(if is_up { every } else { backoff }) => {}
            () = disk.suspicion.notified(), if is_up => {}
        }
        let Some(inner) = store.upgrade() else { return };
        if inner.closed.load(Ordering::SeqCst) {
            return;
        }
        count += 1;
        let Some(engine) = disk.engine() else {
            // Two tiers must not write into one folder: the last one's write may still hang somewhere.
            let reopened = if retired.as_ref().is_none_or(JoinHandle::is_finished) {
                reopen(&inner, &disk, count, &mut retired, &runtime).await
            } else {
                Err(Refusal::Busy)
            };
            backoff = if reopened.is_ok() { backoff_min } else { (2 * backoff).min(BACKOFF_MAX) };
            if let Err(refusal) = reopened {
                let again_in = backoff;
                tracing::warn!(error = refusal.to_string(), ?again_in, "the disk cache stays away");
            }
            continue;
        };
        disk.journal.probe_begins();
        match probe(&inner, &disk, &engine, count, &runtime).await {
            Ok(()) => {
                disk.journal.probe_succeeded();
                disk.counts.probed.inc();
            }
            Err(_) if inner.closed.load(Ordering::SeqCst) => return,
            Err(fault) => {
                disk.counts.fault(fault.as_str());
                tracing::error!(fault = fault.to_string(), "the disk cache failed: serving from memory and upstream");
                let failed = disk.open_breaker();
                drop(engine);
                retired = failed.map(|failed| runtime.spawn(retire(failed)));
            }
        }
    }
}

async fn retire(engine: Arc<Engine>) {
    if let Err(error) = engine.close().await {
        tracing::debug!(%error, "the failed disk tier did not close cleanly");
    }
}

/// Writes one entry and reads it from disk.
async fn probe(inner: &Inner, disk: &Disk, engine: &Engine, count: u64, runtime: &Handle) -> Result<(), Fault> {
    let probing = async {
        let Some(folder) = disk.folder() else { return Err(Fault::Closing) };
        let checked = runtime.spawn_blocking(move || folder.intact());
        checked.await.map_err(|_| Fault::Closing)??;
        let stamp = Bytes::copy_from_slice(&count.to_le_bytes());
        let on_disk = HybridCacheProperties::default().with_location(Location::OnDisk);
        // What was noted is to be on disk before the canary is.
        engine.enqueue_gathered();
        // It passes through memory without staying there.
        let entry = inner.memory.insert_with_properties(CANARY, Record::Segment(stamp.clone()), on_disk);
        engine.enqueue(&entry);
        drop(entry);
        engine.storage().wait().await;
        match engine.storage().load(&CANARY).await {
            Ok(Load::Entry { value: Record::Segment(found), .. }) if found == stamp => Ok(()),
            Ok(_) => Err(Fault::Lost),
            Err(error) => Err(Fault::Read(error)),
        }
    };
    tokio::time::timeout(PROBE_MAX, probing).await.unwrap_or(Err(Fault::Slow))
}

/// Why a failed disk is not used again yet.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("its last write has not ended")]
    Busy,
    #[error("more changed meanwhile than could be noted")]
    Behind,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

async fn reopen(
    inner: &Inner,
    disk: &Arc<Disk>,
    count: u64,
    retired: &mut Option<JoinHandle<()>>,
    runtime: &Handle,
) -> Result<(), Refusal> {
    let folder = disk.folder().ok_or(Fault::Closing)?;
    let wipe = disk.journal.to_forget() == Forget::All;
    let readied = runtime.spawn_blocking(move || folder.reopen(wipe));
    let folder = readied.await.map_err(|_| StoreError::Runtime)??;
    // Without it the next process would take everything in the folder for purged.
    let ledger = Arc::clone(&inner.ledger);
    runtime
        .spawn_blocking(move || ledger.put_in_place())
        .await
        .map_err(|_| StoreError::Runtime)?
        .map_err(Fault::from)?;
    let (engine, folder) = disk.engine_in(folder, runtime).await?;
    disk.set_folder(folder);
    // Before it serves, and before the probe, which proves that this is on disk too.
    if let Forget::These(hashes) = disk.journal.to_forget() {
        forget(inner, &engine, hashes);
    }
    disk.journal.probe_begins();
    if let Err(fault) = probe(inner, disk, &engine, count, runtime).await {
        *retired = Some(runtime.spawn(retire(engine)));
        return Err(fault.into());
    }
    disk.close_breaker(Arc::clone(&engine));
    // Again, for what changed meanwhile: what changes from here on goes through the tier itself.
    match disk.journal.to_forget() {
        Forget::These(hashes) => forget(inner, &engine, hashes),
        Forget::All if wipe => {}
        Forget::All => {
            *retired = disk.open_breaker().map(|failed| runtime.spawn(retire(failed)));
            return Err(Refusal::Behind);
        }
    }
    disk.journal.probe_succeeded();
    if inner.closed.load(Ordering::SeqCst) {
        *retired = disk.open_breaker().map(|failed| runtime.spawn(retire(failed)));
        disk.unlock();
        return Err(Fault::Closing.into());
    }
    disk.counts.reopened.inc();
    tracing::info!(emptied = wipe, "the disk cache is back");
    Ok(())
}

fn forget(inner: &Inner, engine: &Engine, hashes: Vec<u64>) {
    let seed = inner.hash_seed();
    hashes.into_iter().for_each(|hash| engine.storage().delete(&HashRef { hash, seed }));
}
