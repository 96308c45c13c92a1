//! What bodies under way take of the memory: one budget for a node, counted in bytes as they are held.
//!
//! Counted are the pieces that flights and connections hold, once however many share one, and a seat for each fetch and
//! each upload (what its connections buffer). A part of the memory is set aside for it. When more is under way, the store
//! lends up to half of what its entries may take, in steps, and gets it back later. The more fetches there are, the less
//! each of their leaders reads ahead of its readers. When three quarters are used up, leaders read on only when their readers have taken what there was, readers of stored objects get small pieces, and a new fetch waits a
//! while for a seat and is then refused. Nobody who has a seat waits for a seat, so nobody waits for ever.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering, fence},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use perigee_store::Budget;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// The seat of a fetch, in bytes: a piece that its upstream connection has read, and the one that it may always hold.
pub(crate) const FETCH_BYTES: u64 = 2 * BUFFER_BYTES;
/// The seat of an upload: what its two connections buffer at most, in bytes.
pub(crate) const UPLOAD_BYTES: u64 = 256 * 1024;
/// A piece below this is copied before it is held, since it may be a small part of a large buffer; in bytes.
const COPIED_BELOW: usize = 32 * 1024;
/// The largest buffer that a piece is part of, in bytes: 64 KiB (see `perigee_upstream`) in an allocator's page of eight,
/// the first of which is its own.
const BUFFER_BYTES: u64 = 72 * 1024;
/// Beside its bytes, what a counted piece takes, in bytes.
const PIECE_OVERHEAD: u64 = 128;
/// What a reader of a stored segment gets at a time when memory is short, in bytes.
const SHORT_PIECE_BYTES: usize = 16 * 1024;
/// The store lends in steps of so many bytes, and gets back what was not used for two of them.
const STEP_BYTES: u64 = 8 << 20;
/// Of what the store's entries may take, the part that it lends at most.
const LENT_SHARE: u64 = 2;
/// However many there are, each leader may be so far ahead of its readers, in bytes.
const WINDOW_BYTES_MIN: u64 = 128 * 1024;
/// How long a new fetch waits for a seat: longer than leaders take to notice that memory is short.
const SEAT_PATIENCE: Duration = Duration::from_secs(5);

/// How often the log says at most that there is no seat.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What it says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    used: Gauge,
    capacity: Gauge,
    lent: Gauge,
    waited: Counter,
    refused: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("perigee_inflight_bytes", "Bytes held for bodies under way", metrics.used.clone());
        registry.register(
            "perigee_inflight_capacity_bytes",
            "Bytes that may be held for bodies under way, with what the store lends",
            metrics.capacity.clone(),
        );
        registry.register(
            "perigee_inflight_lent_bytes",
            "Bytes that the store lends to bodies under way",
            metrics.lent.clone(),
        );
        registry.register(
            "perigee_inflight_waits",
            "Fetches that waited until there was memory for their bodies",
            metrics.waited.clone(),
        );
        registry.register(
            "perigee_inflight_refusals",
            "Fetches refused with 503 because there was no memory for their bodies in time",
            metrics.refused.clone(),
        );
        metrics
    }
}

/// The budget of one node.
pub(crate) struct Inflight {
    /// Set aside for it.
    reserve: u64,
    /// With all that the store lends.
    max: u64,
    /// The store has a disk: what it is given can be read later.
    spills: bool,
    /// In bytes; who changes it tells the store.
    lent: Mutex<u64>,
    lend: Box<dyn Fn(u64) + Send + Sync>,
    freed: Notify,
    waiting: AtomicUsize,
    /// Seats that are taken.
    seated: AtomicUsize,
    /// When the log last said that there was no seat.
    said: Mutex<Option<Instant>>,
    metrics: Metrics,
}

impl fmt::Debug for Inflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflight").field("used", &self.used()).field("max", &self.max).finish_non_exhaustive()
    }
}

impl Inflight {
    /// What the store's `budget` sets aside, and what `lend` gives of its entries: it is told how much to give in all.
    pub(crate) fn new(budget: Budget, metrics: Metrics, lend: impl Fn(u64) + Send + Sync + 'static) -> Arc<Self> {
        let max = budget.inflight + budget.entries / LENT_SHARE;
        metrics.capacity.set(signed(max));
        Arc::new(Self {
            reserve: budget.inflight,
            max,
            spills: budget.buffers > 0,
            lent: Mutex::new(0),
            lend: Box::new(lend),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            seated: AtomicUsize::new(0),
            said: Mutex::new(None),
            metrics,
        })
    }

    /// Of all that may be held, the part that is.
    pub(crate) fn share(&self) -> f64 {
        self.used() as f64 / self.max.max(1) as f64
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> u64 {
        u64::try_from(self.metrics.used.get()).unwrap_or(0)
    }

    /// Whether there is no seat left.
    fn is_full(&self) -> bool {
        self.used() >= self.max
    }

    /// Whether what is left is for seats: then a body goes on only where none of its pieces is still held.
    pub(crate) fn is_short(&self) -> bool {
        self.used() >= self.max / 4 * 3
    }

    /// Whether what the store was given can be read later, whatever its memory lets go.
    pub(crate) fn spills(&self) -> bool {
        self.spills
    }

    /// Whether what nobody needs to hold is better let go.
    pub(crate) fn is_tight(&self) -> bool {
        self.used() >= self.max / 2
    }

    /// How far a leader may be ahead of its readers, in bytes, of at most `whole`: all may hold half of the budget together,
    /// and each at least a piece. 0: only when its readers have taken what there was.
    pub(crate) fn window(&self, whole: u64) -> u64 {
        if self.is_short() {
            return 0;
        }
        let seated = self.seated.load(Ordering::Relaxed).max(1) as u64;
        let share = self.max / 2 / seated;
        let least = WINDOW_BYTES_MIN.min(whole);
        if self.is_tight() { (share / 2).clamp(least, least.max(whole / 4)) } else { share.clamp(least, whole) }
    }

    /// Counts bytes that are held in any case.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        self.metrics.used.inc_by(signed(bytes));
        self.settle();
        Held { budget: Arc::clone(self), bytes, is_seat: false }
    }

    fn sit(self: &Arc<Self>, bytes: u64) -> Held {
        self.seated.fetch_add(1, Ordering::Relaxed);
        let mut held = self.hold(bytes);
        held.is_seat = true;
        held
    }

    /// A place for `bytes`, when there is room for them; waits a while for it. None: there is none.
    pub(crate) async fn seat(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        if !self.is_full() {
            return Some(self.sit(bytes));
        }
        self.metrics.waited.inc();
        let found = timeout(SEAT_PATIENCE, self.wait(|| !self.is_full())).await.is_ok();
        if !found {
            self.metrics.refused.inc();
            self.say_refused();
        }
        found.then(|| self.sit(bytes))
    }

    /// Not for each fetch: where there is no memory for one, there is none for thousands.
    fn say_refused(&self) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            *said = Some(now);
            let refused = self.metrics.refused.get();
            tracing::warn!(used = self.used(), max = self.max, refused, "no memory for another fetch");
        }
    }

    /// Ready when windows have room.
    pub(crate) async fn room(&self) {
        self.wait(|| !self.is_short()).await;
    }

    async fn wait(&self, enough: impl Fn() -> bool) {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if enough() {
                return;
            }
            freed.await;
        }
    }

    /// The piece, counted until the last that holds any part of it lets go.
    pub(crate) fn count(self: &Arc<Self>, piece: Bytes, of: Option<&Arc<Outstanding>>) -> Bytes {
        let (bytes, takes) = if piece.len() < COPIED_BELOW {
            let takes = piece.len() as u64;
            (Bytes::copy_from_slice(&piece), takes)
        } else {
            let takes = BUFFER_BYTES.max(piece.len() as u64);
            (piece, takes)
        };
        Bytes::from_owner(Counted {
            bytes,
            _outstanding: of.map(Outstanding::one_more),
            _held: self.hold(takes + PIECE_OVERHEAD),
        })
    }

    /// A piece of a stored segment for a connection, or when memory is short a copy of its beginning: the connection may
    /// hold it long after the store let the segment go.
    pub(crate) fn lend_out(self: &Arc<Self>, piece: Bytes, segment_bytes: u64) -> Bytes {
        if piece.len() <= SHORT_PIECE_BYTES {
            return Bytes::copy_from_slice(&piece);
        }
        if self.is_short() {
            return Bytes::copy_from_slice(piece.get(..SHORT_PIECE_BYTES).unwrap_or(&piece));
        }
        Bytes::from_owner(Counted { bytes: piece, _outstanding: None, _held: self.hold(segment_bytes) })
    }

    fn release(&self, bytes: u64) {
        self.metrics.used.dec_by(signed(bytes));
        self.settle();
        // Either a waiter's look at `used` comes after this, or its count is seen here.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 && !self.is_full() {
            self.freed.notify_waiters();
        }
    }

    /// Borrows from the store what is above the reserve, and gives back what has not been used for two steps.
    fn settle(&self) {
        // Where another thread is at it, what changed meanwhile is seen to by the next that holds or lets go.
        let mut lent = match self.lent.try_lock() {
            Ok(lent) => lent,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return,
        };
        let used = self.used();
        let above = used.min(self.max).saturating_sub(self.reserve);
        let wanted = above.div_ceil(STEP_BYTES) * STEP_BYTES;
        let is_idle = wanted == 0 && *lent > 0 && used <= self.reserve / 2;
        if wanted > *lent || wanted + 2 * STEP_BYTES <= *lent || is_idle {
            *lent = wanted;
            self.metrics.lent.set(signed(wanted));
            (self.lend)(wanted);
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that somebody holds; they are free again when this is dropped.
pub(crate) struct Held {
    budget: Arc<Inflight>,
    bytes: u64,
    is_seat: bool,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_seat {
            self.budget.seated.fetch_sub(1, Ordering::Relaxed);
        }
        self.budget.release(self.bytes);
    }
}

/// The pieces of one body that its connection has not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    pieces: AtomicUsize,
    waker: AtomicWaker,
}

impl Outstanding {
    fn one_more(self: &Arc<Self>) -> OneOf {
        self.pieces.fetch_add(1, Ordering::SeqCst);
        OneOf(Arc::clone(self))
    }

    /// Ready when none is.
    pub(crate) fn poll_none(&self, cx: &Context<'_>) -> Poll<()> {
        if self.pieces.load(Ordering::SeqCst) == 0 {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.pieces.load(Ordering::SeqCst) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[derive(Debug)]
struct OneOf(Arc<Outstanding>);

impl Drop for OneOf {
    fn drop(&mut self) {
        if self.0.pieces.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.waker.wake();
        }
    }
}

struct Counted {
    bytes: Bytes,
    _outstanding: Option<OneOf>,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
#[path = "inflight_tests.rs"]
mod tests;
