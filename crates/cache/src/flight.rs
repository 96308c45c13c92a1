//! Coalescing: one fetch for however many requests want one cold object at one time.
//!
//! A flight has one leader, which fetches and pushes what arrives, and any number of readers, which stream it while it
//! comes. Only a bounded window of the body is held here: the leader never runs further than [`WINDOW_BYTES`] ahead of the
//! furthest reader, and a reader that falls out of the window is told so and reads the store instead.

mod leader;
mod reader;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderValue};
use perigee_semantics::{head::StoredHead, key::CacheKey, purge::Seq, time::Timestamp};
use perigee_store::{FillId, Object};

use self::state::Flight;
pub(crate) use self::{
    leader::{Leader, Room},
    reader::{Piece, Reader},
};
use crate::{error::Failure, segments::Stretch, trace::Trace};

/// How far a leader runs ahead of its furthest reader, and how much a flight holds, in bytes.
pub(crate) const WINDOW_BYTES: u64 = 1 << 20;
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

    /// Joins the flight for `key`, or starts one, which then has the `fence`. One that `is_closed`, given its fence and what it
    /// has come to, flies on with those on board, and another takes its place.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        now: Timestamp,
        (fence, trace): (Seq, Option<&Arc<Trace>>),
        is_closed: impl FnOnce(Seq, &Phase) -> bool,
    ) -> Joined {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.live.get(key)
            && !is_closed(flight.fence, &lock(&flight.state).phase)
        {
            let whole = lock(&flight.state).is_whole();
            if let (Some(trace), Some(other)) = (trace, &flight.trace) {
                trace.joins(other);
            }
            return if whole { Joined::Follower(Reader::new(Arc::clone(flight))) } else { Joined::Missed };
        }
        match shard.private.get(key) {
            Some(until) if *until > now => return Joined::Bypass,
            Some(_) => {
                shard.private.remove(key);
            }
            None => {}
        }
        let flight = Arc::new(Flight { fence, trace: trace.cloned(), ..Flight::default() });
        shard.live.insert(key.clone(), Arc::clone(&flight));
        let leader = Leader { flight: Arc::clone(&flight), listed: Some((Arc::clone(self), key.clone())) };
        Joined::Leader(leader, Reader::new(flight))
    }

    /// Whether a flight for `key` is under way that can be joined from its first byte.
    pub(crate) fn is_joinable(&self, key: &CacheKey) -> bool {
        self.shard(key).live.get(key).is_some_and(|flight| lock(&flight.state).is_whole())
    }

    /// Whether responses for `key` were known not to be for everybody, lately: requests for it do not wait for each other.
    pub(crate) fn is_private(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.shard(key).private.get(key).is_some_and(|until| *until > now)
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
    /// How far purges had been applied when the fetch began.
    pub(crate) fence: Seq,
    /// Of the whole body in bytes, where the upstream said so.
    pub(crate) length: Option<u64>,
    /// Whether it ends in the store (it may turn out too large).
    pub(crate) stored: bool,
    /// Fields for the one who caused the fetch, and for nobody else.
    pub(crate) own: HeaderMap,
    /// Cache-Status of the tiers below.
    pub(crate) below: Option<HeaderValue>,
    /// Whom it comes from, for the log.
    pub(crate) peer: String,
    /// Which part of the body comes; `None`: all of it.
    pub(crate) part: Option<Stretch>,
}

/// Why a flight's body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's body was cut short")]
pub(crate) struct Cut;
