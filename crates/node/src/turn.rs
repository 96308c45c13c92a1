//! Whose turn it is: the streams of one HTTP/2 connection wait for its window in a line. One that is given nothing while
//! others are served is not stalled, it waits its turn; one that is passed over though the whole line has been served is,
//! since then its own window is what stays shut. So is every one when nothing goes at all.
//!
//! The line is h2's: whoever wants to send waits at its end, and is given no more than what it had to send when its turn
//! came. When as much has been written as all had waiting when we looked, everybody who could be served has been.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};

use crate::{
    connections::Phase,
    door_metrics::{DoorMetrics, Ended},
    http::Connection,
    paced::Pace,
};

/// Ends that are written already are forgotten whenever there are so many more.
const TAILS_SWEPT: usize = 32;

/// A connection's streams, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Written of all of them, ever.
    pub(crate) written: u64,
    /// Given by their bodies, and not written.
    pub(crate) waiting: u64,
}

/// What a stream and its connection had come to.
#[derive(Debug)]
pub(crate) struct Look {
    written: u64,
    line: Seen,
    line_written_last: u64,
}

impl Look {
    pub(crate) fn new(written: u64, line: Seen) -> Self {
        Self { written, line, line_written_last: line.written }
    }

    /// Asked again and again, each time after the patience that a client is shown.
    pub(crate) fn is_stalled(&mut self, written: u64, line: Seen) -> bool {
        if written != self.written {
            *self = Self::new(written, line);
            return false;
        }
        let nothing_goes = line.written == self.line_written_last;
        let had_its_turn = line.written.saturating_sub(self.line.written) >= self.line.waiting;
        self.line_written_last = line.written;
        nothing_goes || had_its_turn
    }
}

/// The line of one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    written: AtomicU64,
    waiting: AtomicU64,
    tails: Mutex<Tails>,
    end: Option<TheEnd>,
}

/// What a connection comes to whose client does not take the ends of its streams.
#[derive(Debug)]
struct TheEnd {
    connection: Arc<Connection>,
    patience: Duration,
    metrics: DoorMetrics,
}

/// Streams whose tasks are over, while their last bytes are not written: nobody can reset these.
#[derive(Debug, Default)]
struct Tails {
    list: Vec<(Arc<Pace>, Look)>,
    sweep_at: usize,
    watcher: Option<AbortHandle>,
    told: Told,
    is_over: bool,
}

/// What a connection was told for its tails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    /// To take no more requests.
    Closing,
    /// All of so many requests were answered then; what was said last may be on its way.
    Answered(u64),
}

impl Line {
    pub(crate) fn new(connection: Arc<Connection>, patience: Duration, metrics: DoorMetrics) -> Arc<Self> {
        Arc::new(Self { end: Some(TheEnd { connection, patience, metrics }), ..Self::default() })
    }

    pub(crate) fn waits(&self, bytes: usize) {
        self.waiting.fetch_add(bytes as u64, Ordering::AcqRel);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::AcqRel);
        self.dropped(bytes);
    }

    pub(crate) fn dropped(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes as u64, Ordering::AcqRel);
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen { written: self.written.load(Ordering::Acquire), waiting: self.waiting.load(Ordering::Acquire) }
    }

    /// Watches the end of a stream until it is written.
    pub(crate) fn leave(self: &Arc<Self>, pace: Arc<Pace>) {
        let Some(end) = &self.end else { return };
        let look = Look::new(pace.written(), self.seen());
        let mut tails = self.tails();
        if tails.is_over {
            return;
        }
        tails.list.push((pace, look));
        if tails.list.len() >= tails.sweep_at.max(TAILS_SWEPT) {
            tails.list.retain(|(pace, _)| pace.unwritten() > 0);
            tails.sweep_at = tails.list.len() + TAILS_SWEPT;
        }
        if tails.watcher.is_none() && !tails.list.is_empty() {
            let watcher = tokio::spawn(watch(Arc::downgrade(self), end.patience));
            tails.watcher = Some(watcher.abort_handle());
        }
    }

    /// False: there is nothing to watch any more.
    fn look(&self) -> bool {
        let Some(end) = &self.end else { return false };
        let seen = self.seen();
        let mut tails = self.tails();
        tails.list.retain(|(pace, _)| pace.unwritten() > 0);
        let stalled =
            tails.list.iter_mut().filter_map(|(pace, look)| look.is_stalled(pace.written(), seen).then_some(()));
        if stalled.count() > 0 {
            tails.told = end.come(tails.told);
        }
        if tails.list.is_empty() {
            tails.watcher = None;
        }
        !tails.list.is_empty()
    }

    /// The streams know their line and the line its last streams: whoever drops what is returned parts them.
    pub(crate) fn end_when_dropped(self: &Arc<Self>) -> impl Sized + use<> {
        struct Part(Arc<Line>);
        impl Drop for Part {
            fn drop(&mut self) {
                let mut tails = self.0.tails();
                tails.is_over = true;
                let list = std::mem::take(&mut tails.list);
                if let Some(watcher) = tails.watcher.take() {
                    watcher.abort();
                }
                drop(tails);
                drop(list);
            }
        }
        Part(Arc::clone(self))
    }

    fn tails(&self) -> std::sync::MutexGuard<'_, Tails> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TheEnd {
    /// RFC 9113 §6.8: first the connection takes no more requests, and goes on with those that it has; once these are
    /// answered, and still nobody takes the rest, it is dropped.
    fn come(&self, told: Told) -> Told {
        let control = self.connection.control();
        let (requests, finished) = (self.connection.requests(), &self.connection.activity.finished);
        let is_answered = requests == finished.load(Ordering::Relaxed);
        match told {
            Told::Nothing => {
                tracing::debug!(peer = %self.connection.peer(), "a connection is to end: its client does not take a stream's last bytes");
                self.metrics.ended(Ended::WriteTimeout);
                control.tell(Phase::Closing);
                Told::Closing
            }
            Told::Answered(before) if is_answered && before == requests => {
                control.tell(Phase::Aborted);
                told
            }
            Told::Closing | Told::Answered(_) if is_answered => Told::Answered(requests),
            Told::Closing | Told::Answered(_) => Told::Closing,
        }
    }
}

async fn watch(line: Weak<Line>, patience: Duration) {
    loop {
        sleep(patience).await;
        match line.upgrade() {
            Some(line) if line.look() => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};

    use super::*;
    use crate::{connections::Connections, metrics::ConnectionMetrics};

    /// What a stream and its line had written and what was waiting, at the first look and at each next; whether it is stalled
    /// at the last one, and not before.
    fn check(looks: &[(u64, u64, u64)], expected: bool) {
        let (first, next) = looks.split_first().unwrap();
        let seen = |&(_, written, waiting): &(u64, u64, u64)| Seen { written, waiting };
        let mut look = Look::new(first.0, seen(first));
        let judged: Vec<_> = next.iter().map(|now| look.is_stalled(now.0, seen(now))).collect();
        let (last, before) = judged.split_last().unwrap();
        assert_eq!((*last, before.contains(&true)), (expected, false), "{looks:?}: {judged:?}");
    }

    #[test]
    fn who_is_passed_over_is_stalled_and_who_waits_is_not() {
        // Alone.
        check(&[(0, 0, 100), (0, 0, 100)], true);
        check(&[(0, 0, 100), (1, 1, 99)], false);
        check(&[(0, 0, 100), (1, 1, 99), (1, 1, 99)], true);
        // Others are served, and it may be next.
        check(&[(0, 50, 100), (0, 51, 99)], false);
        check(&[(0, 50, 100), (0, 149, 100)], false);
        check(&[(0, 50, 100), (0, 150, 100)], true);
        // Also over many looks, however much has come behind it.
        check(&[(0, 50, 100), (0, 90, 900), (0, 149, 900)], false);
        check(&[(0, 50, 100), (0, 90, 900), (0, 150, 900)], true);
        // Nothing goes any more.
        check(&[(0, 50, 100), (0, 90, 900), (0, 90, 900)], true);
        // It had its turn, and waits for the next.
        check(&[(0, 50, 100), (0, 149, 100), (1, 200, 100), (1, 299, 100)], false);
        check(&[(0, 50, 100), (0, 149, 100), (1, 200, 100), (1, 300, 100)], true);
    }

    #[tokio::test]
    async fn a_last_byte_is_written_or_dropped_or_ends_the_connection() {
        let nowhere = ([127, 0, 0, 1], 0).into();
        let entry = Connections::new(1, ConnectionMetrics::default()).enter(0, nowhere, nowhere, false);
        let connection = Arc::clone(entry.connection());
        let metrics = DoorMetrics::default();
        let line = Line::new(Arc::clone(&connection), Duration::from_secs(3600), metrics.clone());
        let parting = line.end_when_dropped();
        let tail = || {
            let pace = Pace::in_line(Arc::clone(&line));
            let piece = pace.piece(Bytes::from_static(b"ab"));
            line.leave(pace);
            piece
        };
        let (mut written, dropped) = (tail(), tail());
        written.advance(1);
        assert!(line.look(), "one has moved, the other waits for its turn");
        written.advance(1);
        drop(dropped);
        assert!(!line.look() && line.tails().watcher.is_none());
        // Many that come and go are not kept.
        for _ in 0..3 * TAILS_SWEPT {
            drop(tail());
        }
        assert!(line.tails().list.len() <= TAILS_SWEPT);
        let _stuck = tail();
        connection.count_request();
        for (number, phase) in [Phase::Closing, Phase::Closing, Phase::Closing, Phase::Aborted].into_iter().enumerate()
        {
            if number == 2 {
                connection.activity.finished.fetch_add(1, Ordering::Relaxed);
            }
            assert!(line.look());
            assert_eq!(connection.control().phase(), phase, "{number}");
        }
        assert_eq!(metrics.ended_total(Ended::WriteTimeout), 1);
        drop(parting);
        line.leave(Arc::default());
        assert!(line.tails().list.is_empty() && !line.look());
    }
}
