//! Connections to one server: kept per core, counted per process, shared among client networks.
//!
//! A connection lives on the runtime that made it and is reused there only, so that no byte crosses cores. The cap is the
//! server's: a core that finds it exhausted closes another core's idle connection, or waits for one to come free. What one
//! network may have of them, and whose turn it is, stands in [`crate::share`]; when all are in use, one whose client lets it
//! stand still gives way ([`crate::exchange`]).

mod state;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    runtime,
    sync::oneshot,
    time::{Instant, sleep_until},
};

pub(crate) use self::state::Connection;
use self::state::{Debris, Idle, State, Waiter};
use crate::{
    FetchErrorKind,
    early::Readable,
    exchange::Exchange,
    lease::Lease,
    metrics::{Counted, ServerMetrics},
    multiplex::Core,
    share::Network,
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
/// Who waits looks again so often whether an exchange stands still.
const LOOK: Duration = Duration::from_millis(500);
/// After a look that found none, nobody who holds as many looks for so long.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Refusals of networks are logged so often.
const SAY_PAUSE: Duration = Duration::from_secs(10);

/// One server's connections.
pub(crate) struct Pool {
    state: Mutex<State>,
    connections_max: usize,
    idle_max: Duration,
    next_id: AtomicU64,
    metrics: ServerMetrics,
}

/// The right to make one connection.
pub(crate) struct Slot(Weak<Pool>);

/// A network's hold on one connection, or on the right to make one.
pub(crate) struct Share {
    pool: Arc<Pool>,
    id: u64,
    pub(crate) exchange: Arc<Exchange>,
}

/// What an asker gets.
pub(crate) enum Checkout {
    Reused(Lease),
    Slot(Slot, Share),
}

impl Pool {
    /// At most `connections_max` connections, each closed when it was idle for `idle_max`.
    pub(crate) fn new(connections_max: usize, idle_max: Duration, metrics: ServerMetrics) -> Arc<Self> {
        let connections_max = connections_max.max(1);
        let state = State::new(connections_max);
        Arc::new(Self { state: Mutex::new(state), connections_max, idle_max, next_id: AtomicU64::new(0), metrics })
    }

    /// A connection of this core that was idle for less than `idle_max` (zero: none will do), or the right to make one.
    ///
    /// # Errors
    ///
    /// Nothing came free within `patience`: the cap was reached, or the network has its share.
    pub(crate) async fn checkout(
        self: &Arc<Self>,
        network: Option<Network>,
        idle_max: Duration,
        patience: Duration,
    ) -> Result<Checkout, FetchErrorKind> {
        let core = runtime::Handle::current().id();
        let (grant, granted) = oneshot::channel();
        let ticket = {
            let mut debris = Debris::default();
            let mut state = self.lock();
            let left = state.left();
            if state.ledger.admits(network, left)
                && let Some(found) = self.take(&mut state, network, (core, idle_max), &mut debris)
            {
                return Ok(found);
            }
            let ticket = state.ledger.wait(network, Waiter { core, idle_max, grant });
            // Another core's idle connection makes way.
            self.settle(&mut state, true, &mut debris);
            ticket
        };
        let _place = Place { pool: self, network, ticket };
        self.wait(network, granted, Instant::now() + patience).await
    }

    async fn wait(
        &self,
        network: Option<Network>,
        mut granted: oneshot::Receiver<Checkout>,
        deadline: Instant,
    ) -> Result<Checkout, FetchErrorKind> {
        loop {
            self.make_way(network, Instant::now());
            let look = deadline.min(Instant::now() + LOOK);
            tokio::select! {
                biased;
                Ok(found) = &mut granted => return Ok(found),
                () = sleep_until(look) => if look >= deadline {
                    return Err(self.refused(network));
                },
            }
        }
    }

    /// Takes what there is for somebody who may have it.
    fn take(
        self: &Arc<Self>,
        state: &mut State,
        network: Option<Network>,
        (core, idle_max): (runtime::Id, Duration),
        debris: &mut Debris,
    ) -> Option<Checkout> {
        let idle = state.shard(core).take_idle(idle_max, debris);
        if idle.is_none() {
            state.free = state.free.checked_sub(1)?;
        }
        state.ledger.take(network);
        let share = Share { pool: Arc::clone(self), id: self.id(), exchange: Exchange::new(network) };
        if network.is_some() {
            state.exchanges.insert(share.id, Arc::clone(&share.exchange));
        }
        Some(match idle {
            Some(Idle { connection, .. }) => Checkout::Reused(Lease::new(connection, share, true)),
            None => Checkout::Slot(Slot(Arc::downgrade(self)), share),
        })
    }

    /// Gives what is left to those who wait, in turn. With `closes`, closes an idle connection where one of another core is
    /// all that there is for the next.
    fn settle(self: &Arc<Self>, state: &mut State, closes: bool, debris: &mut Debris) {
        loop {
            let left = state.left();
            let Some((network, waiter)) = state.ledger.next(left) else { return };
            let wanted = (waiter.core, waiter.idle_max);
            let Some(found) = self.take(state, network, wanted, debris) else {
                if closes {
                    debris.idle.extend(state.take_oldest_idle());
                }
                return;
            };
            let undeliverable = match state.ledger.call() {
                Some(waiter) => waiter.grant.send(found).err(),
                None => Some(found),
            };
            debris.undeliverable.extend(undeliverable);
        }
    }

    /// For a network that waits while all connections are in use: of the networks that hold more than it does, the one that
    /// holds most gives up what stands still longest.
    fn make_way(&self, network: Option<Network>, now: Instant) {
        let found = {
            let mut state = self.lock();
            let held = state.ledger.held(network);
            // Who holds less finds what others must leave alone.
            let in_vain = state.in_vain.is_some_and(|(at, theirs)| held >= theirs && now < at + LOOK_PAUSE);
            if in_vain || state.left() > 0 {
                return;
            }
            let still = state.exchanges.values().filter_map(|exchange| {
                let theirs = state.ledger.held(exchange.network);
                let since = exchange.still_since(now).filter(|_| theirs > held)?;
                Some((theirs, now.duration_since(since), exchange))
            });
            let found = still.max_by_key(|(theirs, still, _)| (*theirs, *still)).map(|(.., one)| Arc::clone(one));
            if found.is_none() {
                state.in_vain = Some((now, held));
            }
            found
        };
        if let Some(exchange) = found {
            exchange.give_way();
            self.metrics.gave_way.inc();
            tracing::debug!(network = ?exchange.network, "a connection whose client stands still gives way to others");
        }
    }

    fn refused(&self, network: Option<Network>) -> FetchErrorKind {
        let mut state = self.lock();
        let (held, left) = (state.ledger.held(network), state.left());
        let own = state.ledger.has_its_share(network, left, self.connections_max);
        let Some(network) = network.filter(|_| own) else { return FetchErrorKind::TooManyConnections };
        let now = Instant::now();
        state.said.1 += 1;
        if state.said.0.is_none_or(|at| now >= at + SAY_PAUSE) {
            let refusals = state.said.1;
            state.said = (Some(now), 0);
            drop(state);
            tracing::warn!(%network, held, refusals, "a client network has its share of an upstream's connections");
        }
        FetchErrorKind::ClientShare
    }

    /// The HTTP/2 connections of the current core.
    pub(crate) fn shared(&self) -> Arc<Core> {
        Arc::clone(&self.lock().shard(runtime::Handle::current().id()).shared)
    }

    /// Speaks HTTP/2 over a new socket, on the current runtime; the first stream is for `network`.
    pub(crate) async fn adopt_h2(
        &self,
        core: &Arc<Core>,
        socket: Socket,
        slot: Slot,
        network: Option<Network>,
    ) -> hyper::Result<Lease> {
        let held = (slot, Counted::new(&self.metrics.open));
        let stream = core.adopt(socket, held, self.idle_max, network).await?;
        self.metrics.opened.inc();
        Ok(Lease::of(stream, false))
    }

    /// Speaks HTTP/1 over a new socket, on the current runtime.
    pub(crate) async fn adopt(self: &Arc<Self>, socket: Socket, slot: Slot, share: Share) -> hyper::Result<Lease> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(RESPONSE_HEADERS_MAX)
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .handshake::<_, Upload>(TokioIo::new(Readable::new(socket)))
            .await?;
        let (id, core) = (self.id(), runtime::Handle::current().id());
        self.metrics.opened.inc();
        let held = (slot, Counted::new(&self.metrics.open));
        let driver = tokio::spawn(drive(connection, Arc::downgrade(self), core, id, held)).abort_handle();
        Ok(Lease::new(Connection { id, core, sender, driver }, share, false))
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// When to look again whether `id` has been idle for too long; none: it had been, and is no longer in the pool.
    fn next_look(&self, core: runtime::Id, id: u64) -> Option<Instant> {
        let mut state = self.lock();
        let shard = state.shard(core);
        let now = Instant::now();
        let Some(at) = shard.idle.iter().position(|idle| idle.connection.id == id) else {
            return Some(now + self.idle_max);
        };
        let until = shard.idle.get(at)?.since + self.idle_max;
        if until > now {
            return Some(until);
        }
        let expired = shard.idle.remove(at);
        drop(state);
        drop(expired);
        None
    }

    /// A connection ended.
    fn forget(&self, core: runtime::Id, id: u64) {
        let mut state = self.lock();
        let shard = state.shard(core);
        let at = shard.idle.iter().position(|idle| idle.connection.id == id);
        let gone = at.map(|at| shard.idle.remove(at));
        drop(state);
        drop(gone);
    }

    /// Changes something, and gives what is left to those who wait.
    fn change(self: &Arc<Self>, closes: bool, act: impl FnOnce(&mut State)) {
        let mut debris = Debris::default();
        let mut state = self.lock();
        act(&mut state);
        self.settle(&mut state, closes, &mut debris);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// The connection is ready for another request.
    pub(crate) fn put_back(self, connection: Connection) {
        let pool = Arc::clone(&self.pool);
        drop(self);
        let idle = Idle { since: Instant::now(), _counted: Counted::new(&pool.metrics.idle), connection };
        pool.change(true, |state| state.shard(idle.connection.core).idle.push(idle));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.change(false, |state| {
            state.ledger.give_back(self.exchange.network);
            state.exchanges.remove(&self.id);
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.change(false, |state| state.free += 1);
        }
    }
}

/// A place in the queue.
struct Place<'a> {
    pool: &'a Pool,
    network: Option<Network>,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.lock().ledger.leave(self.network, self.ticket);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free", &self.lock().free).finish_non_exhaustive()
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

#[cfg(test)]
mod tests;
