//! Coalescing: one fetch for however many requests want one cold object at one time.
//!
//! A flight has one leader, which fetches and pushes what arrives, and any number of readers, which stream it while it
//! comes. Only a bounded window of the body is held here: the leader never runs further than [`WINDOW_BYTES`] ahead of the
//! furthest reader, and a reader that falls out of the window is told so and reads the store instead.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use perigee_semantics::{head::StoredHead, key::CacheKey, time::Timestamp};
use perigee_store::{FillId, Object};
use tokio::{sync::Notify, time::timeout};

use crate::error::Failure;

/// How far a leader runs ahead of its furthest reader, and how much a flight holds, in bytes.
pub(crate) const WINDOW_BYTES: u64 = 1 << 20;
/// How long all readers of a body that is not stored wait for one that reads nothing.
const LAGGARD_PATIENCE: Duration = Duration::from_secs(2);
/// How long a key whose response could not be shared is fetched without coalescing, in milliseconds.
pub(crate) const PRIVATE_MS: u64 = 10_000;
/// Keys remembered as private, per shard.
pub(crate) const PRIVATE_KEYS_MAX: usize = 1024;
const SHARDS: usize = 64;

/// All flights of one node.
#[derive(Debug)]
pub(crate) struct Flights {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    live: HashMap<CacheKey, Arc<Flight>>,
    /// Known not to be shareable, until then.
    private: HashMap<CacheKey, Timestamp>,
}

/// What a request becomes that wants a key fetched.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It fetches for itself and all that follow.
    Leader(Leader, Reader),
    /// Somebody fetches already.
    Follower(Reader),
    /// Somebody fetches what will not be stored, and its beginning is gone: fetch alone.
    Missed,
    /// The last response was not to be shared: send the request on as it stands.
    Bypass,
}

impl Default for Flights {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Flights {
    fn shard(&self, key: &CacheKey) -> MutexGuard<'_, Shard> {
        // `hash64 % SHARDS` is below the length by construction; the fallback is never taken.
        let index = key.hash64(0) as usize % SHARDS;
        lock(self.shards.get(index).unwrap_or(&self.shards[0]))
    }

    /// Joins the flight for `key`, or starts one.
    pub(crate) fn join(self: &Arc<Self>, key: &CacheKey, now: Timestamp) -> Joined {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.live.get(key) {
            let whole = lock(&flight.state).is_whole();
            return if whole { Joined::Follower(Reader::new(Arc::clone(flight))) } else { Joined::Missed };
        }
        match shard.private.get(key) {
            Some(until) if *until > now => return Joined::Bypass,
            Some(_) => {
                shard.private.remove(key);
            }
            None => {}
        }
        let flight = Arc::new(Flight::default());
        shard.live.insert(key.clone(), Arc::clone(&flight));
        let leader = Leader { flight: Arc::clone(&flight), listed: Some((Arc::clone(self), key.clone())) };
        Joined::Leader(leader, Reader::new(flight))
    }

    /// A flight that nobody else can join: for requests whose response may be stored but whose fetch must not be shared.
    pub(crate) fn alone() -> (Leader, Reader) {
        let flight = Arc::new(Flight::default());
        (Leader { flight: Arc::clone(&flight), listed: None }, Reader::new(flight))
    }

    /// Lets nobody join the flight for `key` any more; those on board travel on. For what was invalidated: whoever asks
    /// from now on must not get what was sent before.
    pub(crate) fn close(&self, key: &CacheKey) {
        self.shard(key).live.remove(key);
    }

    /// Flights under way that may be joined.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).live.len()).sum()
    }

    fn land(&self, key: &CacheKey, flight: &Arc<Flight>) {
        let mut shard = self.shard(key);
        if shard.live.get(key).is_some_and(|listed| Arc::ptr_eq(listed, flight)) {
            shard.live.remove(key);
        }
    }

    fn remember_private(&self, key: &CacheKey, now: Timestamp) {
        let mut shard = self.shard(key);
        if shard.private.len() >= PRIVATE_KEYS_MAX {
            shard.private.retain(|_, until| *until > now);
        }
        if shard.private.len() < PRIVATE_KEYS_MAX {
            shard.private.insert(key.clone(), Timestamp::from_millis(now.as_millis().saturating_add(PRIVATE_MS)));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned lock means that a thread panicked between two plain assignments; the data is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a flight has come to.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// The upstream has not answered.
    Waiting,
    /// The head is here and the body is coming.
    Streaming(Arc<Filling>),
    /// What is stored was validated, or may be served for want of better: serve it.
    Stored(Object, Arc<Landing>),
    /// The response is its requester's alone: everyone else fetches for himself.
    Declined,
    /// No response.
    Failed(Failure),
}

/// How a flight came to serve a stored object.
#[derive(Clone, Debug)]
pub(crate) struct Landing {
    /// The status the upstream answered with, if it answered.
    pub(crate) upstream_status: Option<u16>,
    /// Why a stale object is served instead of a fresh one; `None` after a successful validation.
    pub(crate) stale: Option<Failure>,
    /// Cache-Status of the tiers below.
    pub(crate) below: Option<HeaderValue>,
}

/// An object on its way into the store.
#[derive(Debug)]
pub(crate) struct Filling {
    /// As it will be stored.
    pub(crate) head: Arc<StoredHead>,
    /// Where its segments are.
    pub(crate) fill: FillId,
    /// Of the whole body in bytes, where the upstream said so.
    pub(crate) length: Option<u64>,
    /// Whether it ends in the store (it may turn out too large).
    pub(crate) stored: bool,
    /// Cache-Status of the tiers below.
    pub(crate) below: Option<HeaderValue>,
    /// Whom it comes from, for the log.
    pub(crate) peer: String,
}

/// Why a flight's body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's body was cut short")]
pub(crate) struct Cut;

#[derive(Debug)]
struct Flight {
    state: Mutex<State>,
    grown: Notify,
    drained: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    window: VecDeque<(u64, Bytes)>,
    window_start: u64,
    end: u64,
    ended: Option<Result<(), Cut>>,
    positions: HashMap<u64, u64>,
    next_reader: u64,
    /// Segments below this offset can be read from the store.
    kept_below: u64,
    /// Whether the body is on its way into the store, so that what leaves the window can still be read.
    keeping: bool,
    /// Readers below this offset are waited for no more.
    left_below: u64,
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Waiting,
                window: VecDeque::new(),
                window_start: 0,
                end: 0,
                ended: None,
                positions: HashMap::new(),
                next_reader: 0,
                kept_below: 0,
                keeping: true,
                left_below: 0,
            }),
            grown: Notify::new(),
            drained: Notify::new(),
        }
    }
}

impl State {
    /// Drops what the store holds, once every reader has passed it or the window is full. What is not to be stored goes
    /// when every reader has passed it: late comers then fetch for themselves.
    fn trim(&mut self) {
        // For readers that were left behind, nothing is held any more.
        let counts = |position: &u64| *position >= self.left_below;
        let slowest = self.positions.values().copied().filter(counts).min().unwrap_or(self.end);
        while let Some((offset, chunk)) = self.window.front() {
            let chunk_end = offset + chunk.len() as u64;
            let passed = chunk_end <= slowest;
            let kept = chunk_end <= self.kept_below;
            let full = self.end - offset > WINDOW_BYTES;
            let goes = if kept { passed || full } else { passed && !self.keeping };
            if !goes {
                break;
            }
            self.window_start = chunk_end;
            self.window.pop_front();
        }
    }

    /// Whether a reader from now on can read the body from its first byte.
    fn is_whole(&self) -> bool {
        self.window_start <= self.kept_below
    }

    fn furthest(&self) -> u64 {
        self.positions.values().copied().max().unwrap_or(0)
    }

    /// Goes on without readers that hold the others up, where nothing is stored that they could read later: what they find
    /// missing is fetched again for them, or they are cut.
    fn leave_laggards(&mut self) {
        if self.keeping || self.end.saturating_sub(self.furthest()) >= WINDOW_BYTES {
            return;
        }
        while self.end - self.window_start > WINDOW_BYTES
            && let Some((offset, chunk)) = self.window.pop_front()
        {
            self.window_start = offset + chunk.len() as u64;
        }
        self.left_below = self.window_start;
    }

    fn has_room(&self) -> bool {
        self.end.saturating_sub(self.furthest()) < WINDOW_BYTES
            && (self.end - self.window_start < 2 * WINDOW_BYTES || self.window.is_empty())
    }
}

/// The fetching end of a flight. Dropped before its time (a panic, an aborted task), it fails the flight.
#[derive(Debug)]
pub(crate) struct Leader {
    flight: Arc<Flight>,
    listed: Option<(Arc<Flights>, CacheKey)>,
}

/// Whether anybody still wants the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// There is a reader.
    Present,
    /// All readers left.
    Gone,
}

impl Leader {
    /// Publishes the head; readers begin to stream.
    pub(crate) fn stream(&self, filling: Filling) {
        lock(&self.flight.state).phase = Phase::Streaming(Arc::new(filling));
        self.flight.grown.notify_waiters();
    }

    /// Adds a piece of the body.
    pub(crate) fn push(&self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let mut state = lock(&self.flight.state);
        let offset = state.end;
        state.end += chunk.len() as u64;
        state.window.push_back((offset, chunk));
        state.trim();
        drop(state);
        self.flight.grown.notify_waiters();
    }

    /// Says that the body will not be stored, or no longer.
    pub(crate) fn give_up_keeping(&self) {
        let mut state = lock(&self.flight.state);
        state.keeping = false;
        state.trim();
    }

    /// Says that everything below `offset` is in the store.
    pub(crate) fn kept(&self, offset: u64) {
        let mut state = lock(&self.flight.state);
        state.kept_below = offset;
        state.trim();
    }

    /// Waits until a further piece fits the window, or every reader has gone.
    pub(crate) async fn room(&self) -> Audience {
        loop {
            let drained = self.flight.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let state = lock(&self.flight.state);
                if state.positions.is_empty() {
                    return Audience::Gone;
                }
                if state.has_room() {
                    return Audience::Present;
                }
            }
            if timeout(LAGGARD_PATIENCE, drained).await.is_err() {
                lock(&self.flight.state).leave_laggards();
            }
        }
    }

    /// Ends a body that was streamed.
    pub(crate) fn finish(self, result: Result<(), Cut>) {
        lock(&self.flight.state).ended = Some(result);
        self.land();
    }

    /// Ends the flight with an object of the store.
    pub(crate) fn stored(self, object: Object, landing: Landing) {
        lock(&self.flight.state).phase = Phase::Stored(object, Arc::new(landing));
        self.land();
    }

    /// Ends the flight: the response is not to be shared, and for a while those for its key are not awaited.
    pub(crate) fn decline(self, now: Timestamp) {
        lock(&self.flight.state).phase = Phase::Declined;
        if let Some((flights, key)) = &self.listed {
            flights.remember_private(key, now);
        }
        self.land();
    }

    /// Ends the flight: others try for themselves, but the key may be shared again.
    pub(crate) fn release(self) {
        lock(&self.flight.state).phase = Phase::Declined;
        self.land();
    }

    /// Ends the flight without a response.
    pub(crate) fn fail(self, failure: Failure) {
        lock(&self.flight.state).phase = Phase::Failed(failure);
        self.land();
    }

    fn land(mut self) {
        self.unlist();
    }

    fn unlist(&mut self) {
        if let Some((flights, key)) = self.listed.take() {
            flights.land(&key, &self.flight);
        }
        self.flight.grown.notify_waiters();
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        match state.phase {
            Phase::Waiting => state.phase = Phase::Failed(Failure::LeaderGone),
            Phase::Streaming(_) if state.ended.is_none() => state.ended = Some(Err(Cut)),
            _ => {}
        }
        drop(state);
        self.unlist();
    }
}

/// The streaming end of a flight.
#[derive(Debug)]
pub(crate) struct Reader {
    flight: Arc<Flight>,
    id: u64,
    position: u64,
    until: u64,
}

/// What a reader is handed next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next bytes.
    Chunk(Bytes),
    /// The window has moved on: bytes `position..window` are in the store.
    Behind {
        /// Of the reader.
        position: u64,
        /// Where the window begins.
        window: u64,
    },
    /// The body, or the reader's range of it, is complete.
    End,
    /// The upstream's body was cut.
    Cut,
}

impl Reader {
    fn new(flight: Arc<Flight>) -> Self {
        let mut state = lock(&flight.state);
        let id = state.next_reader;
        state.next_reader += 1;
        state.positions.insert(id, 0);
        drop(state);
        Self { flight, id, position: 0, until: u64::MAX }
    }

    /// Waits until the flight is more than [`Phase::Waiting`].
    pub(crate) async fn phase(&self) -> Phase {
        loop {
            let grown = self.flight.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let state = lock(&self.flight.state);
                if !matches!(state.phase, Phase::Waiting) {
                    return state.phase.clone();
                }
            }
            grown.await;
        }
    }

    /// Restricts the reader to bytes `start..until` of the body.
    pub(crate) fn seek(&mut self, start: u64, until: u64) {
        self.until = until;
        self.advance(start);
    }

    /// What lies before this offset is no longer held by the flight.
    pub(crate) fn window_start(&self) -> u64 {
        lock(&self.flight.state).window_start
    }

    /// The next piece of the body.
    pub(crate) async fn next(&mut self) -> Piece {
        loop {
            let flight = Arc::clone(&self.flight);
            let grown = flight.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if let Some(piece) = self.take() {
                return piece;
            }
            grown.await;
        }
    }

    fn take(&mut self) -> Option<Piece> {
        if self.position >= self.until {
            return Some(Piece::End);
        }
        let mut state = lock(&self.flight.state);
        if self.position < state.window_start {
            return Some(Piece::Behind { position: self.position, window: state.window_start.min(self.until) });
        }
        if self.position < state.end {
            let after = state.window.partition_point(|(offset, _)| *offset <= self.position);
            let (offset, chunk) = state.window.get(after.checked_sub(1)?)?;
            let from = (self.position - offset) as usize;
            let to = chunk.len().min((self.until - offset).min(usize::MAX as u64) as usize);
            let piece = chunk.slice(from..to);
            self.position += piece.len() as u64;
            state.positions.insert(self.id, self.position);
            state.trim();
            drop(state);
            self.flight.drained.notify_waiters();
            return Some(Piece::Chunk(piece));
        }
        state.ended.map(|ended| if ended.is_ok() { Piece::End } else { Piece::Cut })
    }

    /// Goes on at `position`, having read up to there elsewhere.
    pub(crate) fn advance(&mut self, position: u64) {
        self.position = position;
        let mut state = lock(&self.flight.state);
        state.positions.insert(self.id, position);
        state.trim();
        drop(state);
        self.flight.drained.notify_waiters();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.flight.state).positions.remove(&self.id);
        self.flight.drained.notify_waiters();
    }
}
