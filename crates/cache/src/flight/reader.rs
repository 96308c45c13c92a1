//! The streaming end of a flight.

use std::sync::Arc;

use bytes::Bytes;

use super::{Phase, lock, state::Flight};

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
    pub(super) fn new(flight: Arc<Flight>) -> Self {
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
            if let Some(phase) = self.watch(false).await {
                return phase;
            }
        }
    }

    /// As [`Self::phase`]; `None` when the leader turns out to be slow.
    pub(crate) async fn soon(&self) -> Option<Phase> {
        self.watch(true).await
    }

    async fn watch(&self, impatient: bool) -> Option<Phase> {
        loop {
            let grown = self.flight.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let state = lock(&self.flight.state);
                if !matches!(state.phase, Phase::Waiting) {
                    return Some(state.phase.clone());
                }
                if impatient && state.is_late {
                    return None;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flight::Flights;

    fn bytes(from: u64, length: usize) -> Bytes {
        (0..length).map(|at| ((from as usize + at) * 31 % 251) as u8).collect::<Vec<_>>().into()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        /// The store has all but so many of the bytes that have come.
        Keep(u64),
        GiveUp,
        Read(usize),
        Join,
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![1..50_usize, 3000..5000_usize, 60_000..70_000_usize].prop_map(Step::Push),
            2 => (0..300_000_u64).prop_map(Step::Keep),
            1 => Just(Step::GiveUp),
            8 => (0..4_usize).prop_map(Step::Read),
            1 => Just(Step::Join),
            1 => (0..4_usize).prop_map(Step::Leave),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes in whichever order: readers get the body's own bytes, in their order; what the store has not got is
        /// all held while it may yet be stored; and only what it has got is ever missed.
        #[test]
        fn readers_get_what_was_pushed(steps in prop::collection::vec(step(), 1..300)) {
            let (leader, first) = Flights::alone();
            let flight = Arc::clone(&first.flight);
            let mut readers = vec![first];
            let (mut end, mut kept, mut keeping) = (0_u64, 0_u64, true);
            for step in steps {
                match step {
                    Step::Push(length) => {
                        leader.push(bytes(end, length), |piece| piece);
                        end += length as u64;
                    }
                    Step::Keep(less) if keeping => {
                        kept = kept.max(end.saturating_sub(less));
                        leader.kept(kept);
                    }
                    Step::GiveUp => {
                        keeping = false;
                        leader.give_up_keeping();
                    }
                    Step::Join if lock(&flight.state).is_whole() => readers.push(Reader::new(Arc::clone(&flight))),
                    Step::Leave(which) if which < readers.len() => drop(readers.swap_remove(which)),
                    Step::Read(which) if which < readers.len() => {
                        let reader = &mut readers[which];
                        let position = reader.position;
                        match reader.take() {
                            Some(Piece::Chunk(piece)) => prop_assert_eq!(&piece, &bytes(position, piece.len())),
                            Some(Piece::Behind { position, window }) => {
                                prop_assert!(position < window && window <= kept, "{} of {}", window, kept);
                                reader.advance(window);
                            }
                            None => prop_assert_eq!(position, end),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                    _ => {}
                }
                if keeping {
                    let held = leader.collect(kept, end).concat();
                    prop_assert_eq!(held, bytes(kept, (end - kept) as usize));
                }
            }
        }
    }
}
