//! The open connections of one server, kept per core so that nothing is shared on the path of a request: what a drain
//! tells and waits for.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::{
    client_cap::client_of,
    giving_way::{SILENCE_MIN, Silent},
    http::Connection,
    metrics::ConnectionMetrics,
};

/// A connection that was told to end has so long for its last words before it is dropped.
const LEAVE_BOUND: Duration = Duration::from_secs(1);

/// How far a server is in ending. Only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Serves.
    Open = 0,
    /// Ends connections after their request; those that have sent none yet may still send one.
    Draining = 1,
    /// Ends connections that have no request in flight.
    Closing = 2,
    /// Drops whatever is left.
    Aborted = 3,
}

impl Phase {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Open,
            1 => Self::Draining,
            2 => Self::Closing,
            _ => Self::Aborted,
        }
    }
}

/// What the server tells one connection, and how it wakes it.
#[derive(Debug)]
pub(crate) struct Control {
    phase: AtomicU8,
    waker: AtomicWaker,
}

impl Control {
    pub(crate) fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Acquire))
    }

    /// Returns once the phase is `phase` or a later one. One waits at a time.
    pub(crate) async fn reached(&self, phase: Phase) {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.phase() >= phase { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn tell(&self, phase: Phase) {
        // Only a change wakes: a waker is used up by it, and left again only by who sees a change.
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.waker.wake();
        }
    }
}

/// All open connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    phase: AtomicU8,
    next_id: AtomicU64,
    open: AtomicUsize,
    closed: Notify,
    cores: Vec<Mutex<HashMap<u64, Held>>>,
    began: Instant,
    metrics: ConnectionMetrics,
}

/// A connection, and what was seen of it when it was looked at last. Times are since [`Connections::began`].
#[derive(Debug)]
struct Held {
    connection: Arc<Connection>,
    requests: u64,
    /// When it was seen at work last, or came.
    since: Duration,
    told_to_end: Option<Duration>,
}

impl Held {
    fn is_busy(&self) -> bool {
        let activity = &self.connection.activity;
        let finished = activity.finished.load(Ordering::Relaxed);
        self.connection.requests() != finished || activity.blocked.load(Ordering::Relaxed)
    }
}

/// What there is on a core.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// No request is under way on these, and none was for [`SILENCE_MIN`].
    pub(crate) silent: Vec<Silent>,
    /// Connections of each client.
    pub(crate) held: HashMap<IpAddr, usize>,
    /// Connections that have been told to end.
    pub(crate) leaving: usize,
}

impl Connections {
    pub(crate) fn new(cores: usize, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(Phase::Open as u8),
            next_id: AtomicU64::new(1),
            open: AtomicUsize::new(0),
            closed: Notify::new(),
            cores: (0..cores.max(1)).map(|_| Mutex::default()).collect(),
            began: Instant::now(),
            metrics,
        })
    }

    pub(crate) fn metrics(&self) -> &ConnectionMetrics {
        &self.metrics
    }

    /// Enters a connection; it leaves when the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, core: usize, peer: SocketAddr, local: SocketAddr, secure: bool) -> Entry {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let control = Control { phase: AtomicU8::new(Phase::Open as u8), waker: AtomicWaker::new() };
        let connection = Arc::new(Connection::new(id, core, peer, local, secure, control));
        self.open.fetch_add(1, Ordering::SeqCst);
        self.metrics.opened();
        {
            let mut open = self.lock(core);
            // Under the lock: a change of phase either finds this connection in the map or is read here.
            connection.control().phase.store(self.phase.load(Ordering::SeqCst), Ordering::Release);
            let since = self.began.elapsed();
            open.insert(id, Held { connection: Arc::clone(&connection), requests: 0, since, told_to_end: None });
        }
        Entry { connections: Arc::clone(self), connection }
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Tells every connection, those to come included.
    pub(crate) fn tell(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        let phase = Phase::from_u8(self.phase.load(Ordering::SeqCst));
        for core in 0..self.cores.len() {
            for held in self.lock(core).values() {
                held.connection.control().tell(phase);
            }
        }
    }

    /// Looks at every connection of a core: what is silent is known as exactly as looks are frequent, and a look costs what
    /// a request need not. Drops those that were told to end and do not.
    pub(crate) fn look(&self, core: usize) -> Found {
        let now = self.began.elapsed();
        let mut found = Found::default();
        for (&id, held) in self.lock(core).iter_mut() {
            let client = client_of(held.connection.peer().ip());
            *found.held.entry(client).or_default() += 1;
            let (requests, is_busy) = (held.connection.requests(), held.is_busy());
            if is_busy || requests != held.requests {
                (held.requests, held.since) = (requests, now);
            }
            if let Some(told) = held.told_to_end {
                found.leaving += 1;
                if !is_busy && now >= told + LEAVE_BOUND {
                    held.connection.control().tell(Phase::Aborted);
                }
            } else if !is_busy && now >= held.since + SILENCE_MIN {
                found.silent.push(Silent { id, client, since: held.since });
            }
        }
        found
    }

    /// Tells connections of a core to end as soon as they have no request under way; returns how many there were.
    pub(crate) fn end(&self, core: usize, ids: &[u64]) -> usize {
        let now = self.began.elapsed();
        let mut open = self.lock(core);
        let mut told = 0;
        for id in ids {
            if let Some(held) = open.get_mut(id) {
                held.told_to_end = Some(now);
                held.connection.control().tell(Phase::Closing);
                told += 1;
            }
        }
        told
    }

    /// Returns when no connection is open.
    pub(crate) async fn none_open(&self) {
        loop {
            let closed = self.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }

    fn lock(&self, core: usize) -> MutexGuard<'_, HashMap<u64, Held>> {
        // `core` counts the runtimes this was made for; the remainder only keeps a slip from becoming a panic.
        let index = core % self.cores.len();
        self.cores[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in [`Connections`].
#[derive(Debug)]
pub(crate) struct Entry {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Entry {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock(self.connection.core()).remove(&self.connection.id());
        self.connections.metrics.closed();
        if self.connections.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.connections.closed.notify_waiters();
        }
    }
}
