//! Connections to one server: kept per core, counted per process.
//!
//! A connection lives on the runtime that made it and is reused there only, so that no byte crosses cores. The cap is the
//! server's: a core that finds it exhausted closes another core's idle connection, or waits for one to come free.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::Either;
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    runtime,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    early::Readable,
    metrics::{Counted, ServerMetrics},
    multiplex::{Core, Stream},
    socket::Socket,
    upload::Upload,
};

/// An idle connection is closed after so long: most servers keep theirs longer, so the close is rarely theirs.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30);
/// A response's head may have so many fields.
pub(crate) const RESPONSE_HEADERS_MAX: usize = 128;
/// And so many bytes.
pub(crate) const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// What one connection may hold of what it reads or writes.
pub(crate) const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// A response may end before its connection is free again (the request is still being sent); longer is not waited.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// One server's connections.
pub(crate) struct Pool {
    shards: Mutex<Vec<Shard>>,
    slots: Arc<Semaphore>,
    idle_max: Duration,
    /// Askers that wait for a slot, on any core.
    queued: AtomicUsize,
    next_id: AtomicU64,
    metrics: ServerMetrics,
}

struct Shard {
    core: runtime::Id,
    /// HTTP/2.
    shared: Arc<Core>,
    /// The last used is last.
    idle: Vec<Idle>,
    waiting: VecDeque<oneshot::Sender<Connection>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
    _counted: Counted,
}

struct Connection {
    id: u64,
    /// Where its driver runs.
    core: runtime::Id,
    sender: SendRequest<Upload>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The right to make one connection.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// What an asker gets.
pub(crate) enum Checkout {
    Reused(Lease),
    Slot(Slot),
}

impl Pool {
    /// At most `connections_max` connections, each closed when it was idle for `idle_max`.
    pub(crate) fn new(connections_max: usize, idle_max: Duration, metrics: ServerMetrics) -> Arc<Self> {
        Arc::new(Self {
            shards: Mutex::default(),
            slots: Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS))),
            idle_max,
            queued: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            metrics,
        })
    }

    /// A connection of this core that was idle for less than `idle_max` (zero: none will do), or the right to make one.
    /// None: the cap was reached, and nothing came free within `patience`.
    pub(crate) async fn checkout(self: &Arc<Self>, idle_max: Duration, patience: Duration) -> Option<Checkout> {
        let core = runtime::Handle::current().id();
        if let Some(connection) = self.take_idle(core, idle_max) {
            return Some(Checkout::Reused(Lease::new(connection, self, true)));
        }
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(Checkout::Slot(Slot { _permit: permit }));
        }
        timeout(patience, self.wait(core, !idle_max.is_zero())).await.ok()
    }

    async fn wait(self: &Arc<Self>, core: runtime::Id, may_reuse: bool) -> Checkout {
        let _queued = Queued::new(&self.queued);
        let (handover, mut handed) = oneshot::channel();
        // Not kept when any connection would be too old: the receiver then sees a closed channel and is not asked again.
        if may_reuse {
            self.with_shard(core, |shard| {
                shard.waiting.retain(|other| !other.is_closed());
                shard.waiting.push_back(handover);
            });
        } else {
            drop(handover);
        }
        // After queueing, so that a connection put back meanwhile is either seen here or sees us there.
        drop(self.take_oldest_idle());
        tokio::select! {
            biased;
            Ok(connection) = &mut handed => Checkout::Reused(Lease::new(connection, self, true)),
            permit = Arc::clone(&self.slots).acquire_owned() => match permit {
                Ok(permit) => Checkout::Slot(Slot { _permit: permit }),
                // Only a closed semaphore says so, and nobody closes this one; the caller's time-out would end the wait.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The HTTP/2 connections of the current core.
    pub(crate) fn shared(&self) -> Arc<Core> {
        self.with_shard(runtime::Handle::current().id(), |shard| Arc::clone(&shard.shared))
    }

    /// Speaks HTTP/2 over a new socket, on the current runtime.
    pub(crate) async fn adopt_h2(&self, core: &Arc<Core>, socket: Socket, slot: Slot) -> hyper::Result<Lease> {
        let held = (slot, Counted::new(&self.metrics.open));
        let stream = core.adopt(socket, held, self.idle_max).await?;
        self.metrics.opened.inc();
        Ok(Lease { held: Held::Stream(stream), reused: false })
    }

    /// Speaks HTTP/1 over a new socket, on the current runtime.
    pub(crate) async fn adopt(self: &Arc<Self>, socket: Socket, slot: Slot) -> hyper::Result<Lease> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(RESPONSE_HEADERS_MAX)
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .handshake::<_, Upload>(TokioIo::new(Readable::new(socket)))
            .await?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let core = runtime::Handle::current().id();
        self.metrics.opened.inc();
        let held = (slot, Counted::new(&self.metrics.open));
        let driver = tokio::spawn(drive(connection, Arc::downgrade(self), core, id, held)).abort_handle();
        Ok(Lease::new(Connection { id, core, sender, driver }, self, false))
    }

    fn take_idle(&self, core: runtime::Id, idle_max: Duration) -> Option<Connection> {
        let mut closed = Vec::new();
        let found = self.with_shard(core, |shard| {
            while let Some(idle) = shard.idle.pop() {
                if idle.since.elapsed() >= idle_max {
                    shard.idle.push(idle);
                    return None;
                }
                if idle.connection.sender.is_closed() {
                    closed.push(idle);
                } else {
                    return Some(idle);
                }
            }
            None
        });
        found.map(|idle| idle.connection)
    }

    fn take_oldest_idle(&self) -> Option<Idle> {
        let mut shards = self.lock();
        let oldest = shards
            .iter_mut()
            .filter(|shard| !shard.idle.is_empty())
            .min_by_key(|shard| shard.idle.first().map(|idle| idle.since));
        oldest.map(|shard| shard.idle.remove(0))
    }

    /// Puts back a connection that is ready for another request.
    fn put_back(&self, connection: Connection) {
        let surplus = self.with_shard(connection.core, |shard| {
            let mut connection = connection;
            while let Some(asker) = shard.waiting.pop_front() {
                match asker.send(connection) {
                    Ok(()) => return None,
                    Err(returned) => connection = returned,
                }
            }
            // Somebody on another core waits for the slot that this connection holds.
            if self.queued.load(Ordering::SeqCst) > 0 {
                return Some(connection);
            }
            shard.idle.push(Idle { connection, since: Instant::now(), _counted: Counted::new(&self.metrics.idle) });
            None
        });
        drop(surplus);
    }

    /// When to look again whether `id` has been idle for too long; none: it had been, and is no longer in the pool.
    fn next_look(&self, core: runtime::Id, id: u64) -> Option<Instant> {
        let expired = self.with_shard(core, |shard| {
            let at = shard.idle.iter().position(|idle| idle.connection.id == id)?;
            let until = shard.idle.get(at)?.since + self.idle_max;
            if until > Instant::now() { Some(Err(until)) } else { Some(Ok(shard.idle.remove(at))) }
        });
        match expired {
            None => Some(Instant::now() + self.idle_max),
            Some(Err(until)) => Some(until),
            Some(Ok(_idle)) => None,
        }
    }

    /// A connection ended.
    fn forget(&self, core: runtime::Id, id: u64) {
        let gone = self.with_shard(core, |shard| {
            let at = shard.idle.iter().position(|idle| idle.connection.id == id)?;
            Some(shard.idle.remove(at))
        });
        drop(gone);
    }

    fn with_shard<T>(&self, core: runtime::Id, act: impl FnOnce(&mut Shard) -> T) -> T {
        let mut shards = self.lock();
        if let Some(shard) = shards.iter_mut().find(|shard| shard.core == core) {
            return act(shard);
        }
        let mut shard = Shard { core, shared: Arc::default(), idle: Vec::new(), waiting: VecDeque::new() };
        let result = act(&mut shard);
        shards.push(shard);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("slots", &self.slots.available_permits()).finish_non_exhaustive()
    }
}

/// Runs a connection until it ends or was idle for too long. What is `held` goes when the socket does.
async fn drive(
    connection: http1::Connection<TokioIo<Readable<Socket>>, Upload>,
    pool: Weak<Pool>,
    core: runtime::Id,
    id: u64,
    held: (Slot, Counted),
) {
    let mut look = Instant::now();
    tokio::pin!(connection);
    loop {
        tokio::select! {
            // Its errors reach the exchange they belong to; one between exchanges belongs to nobody.
            _ended = &mut connection => break,
            () = sleep_until(look) => match pool.upgrade().and_then(|pool| pool.next_look(core, id)) {
                Some(next) => look = next,
                None => break,
            },
        }
    }
    if let Some(pool) = pool.upgrade() {
        pool.forget(core, id);
    }
    drop(held);
}

struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection in use, or a part of one. Dropping it closes what it has; [`release`](Self::release) keeps it.
pub(crate) struct Lease {
    held: Held,
    pub(crate) reused: bool,
}

enum Held {
    Own(Connection, Arc<Pool>),
    Stream(Stream),
}

impl Lease {
    fn new(connection: Connection, pool: &Arc<Pool>, reused: bool) -> Self {
        Self { held: Held::Own(connection, Arc::clone(pool)), reused }
    }

    /// A stream of a connection that has served before.
    pub(crate) fn of(stream: Stream) -> Self {
        Self { held: Held::Stream(stream), reused: true }
    }

    pub(crate) fn is_h2(&self) -> bool {
        matches!(self.held, Held::Stream(_))
    }

    /// Sends a request; ready with the response's head. An error may hold the request, untouched.
    pub(crate) fn send(
        &mut self,
        request: http::Request<Upload>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Upload>>>> + Send + use<>
    {
        match &mut self.held {
            Held::Own(connection, _) => Either::Left(connection.sender.try_send_request(request)),
            Held::Stream(stream) => Either::Right(stream.send(request)),
        }
    }

    /// The exchange is over: keeps the connection for the next, once it is ready for one.
    pub(crate) fn release(self) {
        // A stream ends by itself.
        let Held::Own(mut connection, pool) = self.held else { return };
        if connection.sender.is_ready() {
            pool.put_back(connection);
        } else if !connection.sender.is_closed() {
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(SETTLE_MAX, connection.sender.ready()).await {
                    pool.put_back(connection);
                }
            });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("reused", &self.reused).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metrics, Peer};
    use perigee_testkit::{Reply, ScriptedOrigin, wait_until};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn an_idle_connection_is_closed_in_time_and_a_busy_one_is_not() {
        let origin = ScriptedOrigin::answering(|_| Reply::new(204)).await;
        let metrics = Metrics::default().server("www", &Peer::Origin("o".into()));
        let pool = Pool::new(2, Duration::from_millis(20), metrics.clone());
        let mut leases = Vec::new();
        for _ in 0..2 {
            let Some(Checkout::Slot(slot)) = pool.checkout(IDLE_MAX, IDLE_MAX).await else { panic!("nothing is idle") };
            let socket = Socket::Plain(TcpStream::connect(origin.address()).await.unwrap());
            leases.push(pool.adopt(socket, slot).await.unwrap());
        }
        assert_eq!((metrics.open.get(), metrics.idle.get()), (2, 0));
        leases.pop().unwrap().release();
        wait_until("the idle connection closing", || metrics.open.get() == 1).await;
        origin.wait_for_connections_open(1).await;
        // However long it takes, the busy one outlives several looks at it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((metrics.open.get(), metrics.idle.get(), origin.connections_open()), (1, 0, 1));
        assert_eq!(pool.slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_connection_put_back_makes_way_for_another_core() {
        let origin = ScriptedOrigin::answering(|_| Reply::new(204)).await;
        let metrics = Metrics::default().server("www", &Peer::Origin("o".into()));
        let pool = Pool::new(1, IDLE_MAX, metrics.clone());
        let Some(Checkout::Slot(slot)) = pool.checkout(IDLE_MAX, IDLE_MAX).await else { panic!("nothing is idle") };
        let lease = pool.adopt(Socket::Plain(TcpStream::connect(origin.address()).await.unwrap()), slot).await.unwrap();
        let (theirs, (answer, answered)) = (Arc::clone(&pool), oneshot::channel());
        std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // Shorter than the idle connection lives: waiting for its end must not do.
            let got = runtime.block_on(theirs.checkout(IDLE_MAX, IDLE_MAX / 2));
            answer.send(matches!(got, Some(Checkout::Slot(_)))).unwrap();
        });
        wait_until("the other core queueing", || pool.queued.load(Ordering::SeqCst) == 1).await;
        lease.release();
        assert!(perigee_testkit::patiently("the other core's slot", answered).await.unwrap());
        assert_eq!(metrics.idle.get(), 0);
    }
}
