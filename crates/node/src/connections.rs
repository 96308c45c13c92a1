//! The open connections of one server, kept per core so that nothing is shared on the path of a request: what a drain
//! tells and waits for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::{http::Connection, metrics::ConnectionMetrics};

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

    fn tell(&self, phase: Phase) {
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
    cores: Vec<Mutex<HashMap<u64, Arc<Connection>>>>,
    metrics: ConnectionMetrics,
}

impl Connections {
    pub(crate) fn new(cores: usize, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(Phase::Open as u8),
            next_id: AtomicU64::new(1),
            open: AtomicUsize::new(0),
            closed: Notify::new(),
            cores: (0..cores.max(1)).map(|_| Mutex::default()).collect(),
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
            open.insert(id, Arc::clone(&connection));
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
            for connection in self.lock(core).values() {
                connection.control().tell(phase);
            }
        }
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

    fn lock(&self, core: usize) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
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
