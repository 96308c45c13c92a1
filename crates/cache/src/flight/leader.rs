//! The fetching end of a flight.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use perigee_semantics::{key::CacheKey, time::Timestamp};
use perigee_store::Object;
use tokio::time::{sleep, timeout};

use super::{Cut, Filling, Flights, Landing, Phase, WINDOW_BYTES, lock, state::Flight};
use crate::{error::Failure, inflight::Inflight, segments};

/// The same, and how long the store's part is held, when there is no memory for it.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);
/// How long all readers of a body that is not stored wait for one that reads nothing.
const LAGGARD_PATIENCE: Duration = Duration::from_secs(2);

/// The fetching end of a flight. Dropped before its time (a panic, an aborted task), it fails the flight.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(super) flight: Arc<Flight>,
    pub(super) listed: Option<(Arc<Flights>, CacheKey)>,
}

/// Whether the leader reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room for another piece.
    Free,
    /// All readers left.
    Nobody,
    /// Memory has been short for a while, and what is held is held for the store alone.
    Short,
}

impl Leader {
    /// Runs a fetch. When it takes longer than `patience`, followers hear of it, and nobody else joins.
    pub(crate) async fn watch<T>(&self, patience: Duration, fetch: impl Future<Output = T>) -> T {
        tokio::pin!(fetch);
        if let Ok(fetched) = timeout(patience, &mut fetch).await {
            return fetched;
        }
        lock(&self.flight.state).is_late = true;
        if let Some((flights, key)) = &self.listed {
            flights.land(key, &self.flight);
        }
        self.flight.grown.notify_waiters();
        fetch.await
    }

    /// Publishes the head; readers begin to stream.
    pub(crate) fn stream(&self, filling: Filling) {
        let mut state = lock(&self.flight.state);
        state.is_mendable = segments::can_be_mended(&filling.head);
        state.phase = Phase::Streaming(Arc::new(filling));
        drop(state);
        self.flight.grown.notify_waiters();
    }

    /// Adds a piece of the body, as `count` counts it.
    pub(crate) fn push(&self, chunk: Bytes, count: impl FnOnce(Bytes) -> Bytes) {
        if chunk.is_empty() {
            return;
        }
        lock(&self.flight.state).append(chunk, count);
        self.flight.grown.notify_waiters();
    }

    /// Bytes `from..to` of the body; none of them has been [`kept`](Self::kept) yet.
    pub(crate) fn collect(&self, from: u64, to: u64) -> Vec<Bytes> {
        lock(&self.flight.state).collect(from, to)
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

    /// Waits until a further piece fits the window and the budget, or every reader has gone.
    pub(crate) async fn room(&self, budget: &Inflight) -> Room {
        let mut patient = true;
        loop {
            let drained = self.flight.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            let window = budget.window(WINDOW_BYTES);
            {
                let mut state = lock(&self.flight.state);
                let shrinks = window < state.window_bytes;
                state.window_bytes = window;
                if shrinks && (state.is_mendable || budget.spills()) {
                    state.held_bytes = window;
                    state.trim();
                }
                if state.positions.is_empty() && (window > 0 || state.window.is_empty()) {
                    return Room::Nobody;
                }
                if !state.positions.is_empty() && state.has_room() {
                    return Room::Free;
                }
                if !patient && window == 0 && state.keeping && state.is_taken() {
                    return Room::Short;
                }
            }
            tokio::select! {
                () = drained => {}
                () = budget.room(), if window == 0 => {}
                () = sleep(if window == 0 { SHORT_PATIENCE } else { LAGGARD_PATIENCE }) => {
                    patient = false;
                    lock(&self.flight.state).leave_laggards();
                }
            }
        }
    }

    /// Holds no more than must be held, where memory is tight: nobody will see to it later. What the store might lose for
    /// good is held for those who have yet to read it.
    pub(crate) fn leave(&self, budget: &Inflight) {
        let mut state = lock(&self.flight.state);
        if budget.is_tight() && (state.is_mendable || budget.spills()) {
            state.held_bytes = 0;
            state.trim();
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
