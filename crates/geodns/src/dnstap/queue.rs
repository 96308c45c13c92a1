//! What waits for the writer: a buffer for each few sockets, each with an end.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    TapMetrics,
    message::{self, Message},
};

/// Buffers of one nameserver; more sockets than that share them.
const SHARDS: usize = 16;
/// What one buffer holds at most, but for the last message; beyond it messages are dropped. 32 MiB in all.
pub(super) const SHARD_BYTES_MAX: usize = 2 << 20;
/// A buffer with so much in it wakes the writer early.
const WAKE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Queue {
    prefix: Vec<u8>,
    shards: [Mutex<Shard>; SHARDS],
    next: AtomicUsize,
    orders: Mutex<Orders>,
    ordered: Condvar,
    pub(super) metrics: TapMetrics,
}

#[derive(Debug, Default)]
struct Shard {
    frames: Vec<u8>,
    scratch: Vec<u8>,
}

/// What the writer is told.
#[derive(Debug, Default)]
pub(super) struct Orders {
    wake: bool,
    pub(super) reopen: bool,
    pub(super) stop: bool,
    /// Who waits for the end.
    pub(super) done: Vec<oneshot::Sender<()>>,
    /// Nobody is told anything any more.
    has_ended: bool,
}

impl Queue {
    /// `prefix`: of [`message::prefix`].
    pub(super) fn new(prefix: Vec<u8>, metrics: TapMetrics) -> Self {
        Self {
            prefix,
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicUsize::new(0),
            orders: Mutex::default(),
            ordered: Condvar::new(),
            metrics,
        }
    }

    /// The buffer of one more socket.
    pub(super) fn next_shard(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    /// Never waits for the writer: what has no room is dropped and counted.
    pub(super) fn add<'a>(&self, shard: usize, messages: impl IntoIterator<Item = Message<'a>>) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut shard = lock(shard);
        let Shard { frames, scratch } = &mut *shard;
        let before = frames.len();
        for message in messages {
            if frames.len() >= SHARD_BYTES_MAX {
                self.metrics.dropped.inc();
            } else {
                message::frame(&self.prefix, &message, scratch, frames);
            }
        }
        let crossed = before < WAKE_BYTES && frames.len() >= WAKE_BYTES;
        drop(shard);
        if crossed {
            self.order(|orders| orders.wake = true);
        }
    }

    /// Whole frames of the buffers from `*from` on, the next that has any, which gets `spare` instead: it must be empty. False:
    /// there are none up to the last buffer.
    pub(super) fn take(&self, from: &mut usize, spare: &mut Vec<u8>) -> bool {
        debug_assert!(spare.is_empty(), "it would be written twice");
        while let Some(shard) = self.shards.get(*from) {
            *from += 1;
            let mut shard = lock(shard);
            if !shard.frames.is_empty() {
                std::mem::swap(&mut shard.frames, spare);
                return true;
            }
        }
        false
    }

    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut lock(&self.orders));
        self.ordered.notify_one();
    }

    /// Asks for the end; None: it has been.
    pub(super) fn stop(&self) -> Option<oneshot::Receiver<()>> {
        let (done, ended) = oneshot::channel();
        let mut orders = lock(&self.orders);
        if orders.has_ended {
            return None;
        }
        orders.stop = true;
        orders.done.push(done);
        self.ordered.notify_one();
        Some(ended)
    }

    /// The writer is gone, of whatever: nobody is to wait for it.
    pub(super) fn ended(&self) {
        let mut orders = lock(&self.orders);
        orders.has_ended = true;
        orders.done.clear();
    }

    /// Waits for an order, at most so long. `for_work`: a full buffer is one too.
    pub(super) fn wait(&self, at_most: Duration, for_work: bool) -> Orders {
        let idle = |orders: &mut Orders| !(orders.wake && for_work || orders.reopen || orders.stop);
        let (mut orders, _) =
            self.ordered.wait_timeout_while(lock(&self.orders), at_most, idle).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *orders)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
