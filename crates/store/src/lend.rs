//! Memory lent out: what bodies under way need beyond their reserve comes out of what entries may take, and goes back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::runtime::Handle;

use crate::{
    config::Budget,
    store::{Inner, Store},
};

/// Entries keep at least one part in so many.
const KEPT_SHARE: u64 = 2;

#[derive(Debug)]
pub(crate) struct Lender {
    runtime: Handle,
    budget: Budget,
    wanted: AtomicU64,
    at_work: AtomicBool,
}

impl Lender {
    pub(crate) fn new(runtime: &Handle, budget: Budget) -> Self {
        Self { runtime: runtime.clone(), budget, wanted: AtomicU64::new(0), at_work: AtomicBool::new(false) }
    }
}

impl Store {
    /// How the memory is divided, as long as nothing is lent.
    pub fn budget(&self) -> Budget {
        self.inner.lender.budget
    }

    /// From now on entries take so many bytes less than [`Store::budget`] says, but at least half of it; what is too much
    /// goes soon. Does not wait.
    pub fn lend(&self, bytes: u64) {
        let lender = &self.inner.lender;
        lender.wanted.store(bytes, Ordering::SeqCst);
        if !lender.at_work.swap(true, Ordering::SeqCst) {
            let inner = Arc::clone(&self.inner);
            // Evicting takes as long as there is to free, and foyer makes threads for it.
            lender.runtime.spawn_blocking(move || inner.lend());
        }
    }
}

impl Inner {
    fn lend(&self) {
        let lender = &self.lender;
        loop {
            let wanted = lender.wanted.load(Ordering::SeqCst);
            let entries = lender.budget.entries;
            let left = entries - wanted.min(entries - entries / KEPT_SHARE);
            self.shares.resize(left);
            if let Err(error) = self.memory.resize(usize::try_from(left).unwrap_or(usize::MAX)) {
                tracing::warn!(%error, "the memory of entries cannot be resized");
            }
            lender.at_work.store(false, Ordering::SeqCst);
            // Who asked for something else meanwhile found this at work.
            if lender.wanted.load(Ordering::SeqCst) == wanted || lender.at_work.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }
}
