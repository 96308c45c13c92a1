//! What a flight holds and how far it is.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use perigee_semantics::purge::Seq;
use tokio::sync::Notify;

use super::{Cut, Phase, WINDOW_BYTES};
use crate::trace::Trace;

/// More than a leader is ever ahead of a reader: it may go beyond the window by the piece that filled it.
const HELD_BYTES: u64 = WINDOW_BYTES + (256 << 10);
/// Pieces become one while that has at most so many bytes.
const MERGED_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Flight {
    /// How far purges had been applied when it began, or less.
    pub(super) fence: Seq,
    /// Of the request that it was begun for.
    pub(super) trace: Option<Arc<Trace>>,
    pub(super) state: Mutex<State>,
    pub(super) grown: Notify,
    pub(super) drained: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) window: VecDeque<(u64, Bytes)>,
    pub(super) window_start: u64,
    pub(super) end: u64,
    pub(super) ended: Option<Result<(), Cut>>,
    pub(super) positions: HashMap<u64, u64>,
    pub(super) next_reader: u64,
    /// Segments below this offset can be read from the store.
    pub(super) kept_below: u64,
    /// Whether the body is on its way into the store, so that what leaves the window can still be read.
    pub(super) keeping: bool,
    /// The leader waits longer for its response than followers need to.
    pub(super) is_late: bool,
    /// Readers below this offset are waited for no more.
    pub(super) left_below: u64,
    /// How far the leader may be ahead of its furthest reader: less than [`WINDOW_BYTES`] while memory is short.
    pub(super) window_bytes: u64,
    /// How much is held of what the store has, for readers that are behind.
    pub(super) held_bytes: u64,
    /// What the store loses can be fetched again.
    pub(super) is_mendable: bool,
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            fence: Seq::ZERO,
            trace: None,
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
                is_late: false,
                left_below: 0,
                window_bytes: WINDOW_BYTES,
                held_bytes: HELD_BYTES,
                is_mendable: false,
            }),
            grown: Notify::new(),
            drained: Notify::new(),
        }
    }
}

impl State {
    /// Adds to the window. Pieces so small that holding them takes more than they are become one.
    pub(super) fn append(&mut self, chunk: Bytes, count: impl FnOnce(Bytes) -> Bytes) {
        let offset = self.end;
        self.end += chunk.len() as u64;
        match self.window.back_mut() {
            Some((_, last)) if last.len() + chunk.len() <= MERGED_BYTES_MAX => {
                let merged = [&last[..], &chunk[..]].concat();
                *last = count(Bytes::from(merged));
            }
            _ => self.window.push_back((offset, count(chunk))),
        }
        self.trim();
    }

    /// What the window holds of bytes `from..to`; those that are not stored yet are all there.
    pub(super) fn collect(&self, from: u64, to: u64) -> Vec<Bytes> {
        let first = self.window.partition_point(|(offset, chunk)| offset + chunk.len() as u64 <= from);
        let reach = self.window.range(first..).take_while(|(offset, _)| *offset < to);
        let part = |(offset, chunk): &(u64, Bytes)| {
            let start = from.saturating_sub(*offset) as usize;
            let end = (to - offset).min(chunk.len() as u64) as usize;
            chunk.slice(start..end)
        };
        reach.map(part).collect()
    }

    /// Drops what the store holds, once every reader has passed it or the window is full. What is not to be stored goes
    /// when every reader has passed it: late comers then fetch for themselves.
    pub(super) fn trim(&mut self) {
        // For readers that were left behind, nothing is held any more.
        let counts = |position: &u64| *position >= self.left_below;
        let slowest = self.positions.values().copied().filter(counts).min().unwrap_or(self.end);
        while let Some((offset, chunk)) = self.window.front() {
            let chunk_end = offset + chunk.len() as u64;
            let passed = chunk_end <= slowest;
            let kept = chunk_end <= self.kept_below;
            let full = self.end - offset > self.held_bytes;
            let goes = if kept { passed || full } else { passed && !self.keeping };
            if !goes {
                break;
            }
            self.window_start = chunk_end;
            self.window.pop_front();
        }
    }

    /// Whether a reader from now on can read the body from its first byte.
    pub(super) fn is_whole(&self) -> bool {
        self.window_start <= self.kept_below
    }

    pub(super) fn furthest(&self) -> u64 {
        self.positions.values().copied().max().unwrap_or(0)
    }

    /// Goes on without readers that hold the others up, where nothing is stored that they could read later: what they find
    /// missing is fetched again for them, or they are cut.
    pub(super) fn leave_laggards(&mut self) {
        if self.keeping || self.end.saturating_sub(self.furthest()) >= self.window_bytes.max(1) {
            return;
        }
        while self.end - self.window_start > self.window_bytes
            && let Some((offset, chunk)) = self.window.pop_front()
        {
            self.window_start = offset + chunk.len() as u64;
        }
        self.left_below = self.window_start;
    }

    /// Whether what is held is held for the store alone: every reader has taken all there is.
    pub(super) fn is_taken(&self) -> bool {
        self.positions.values().all(|position| *position >= self.end)
    }

    /// Whether another piece may come. It may not while the furthest reader has yet to take a window's worth, nor while what
    /// will not be stored is held for others. What is on its way into the store is bounded by itself: see [`Self::trim`].
    pub(super) fn has_room(&self) -> bool {
        let ahead = self.end.saturating_sub(self.furthest());
        let held = self.end - self.window_start;
        let holds = held < 2 * self.window_bytes || self.window.is_empty() || self.keeping && self.window_bytes > 0;
        ahead < self.window_bytes.max(1) && holds
    }
}
