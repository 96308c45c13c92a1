//! HTTP/2 towards one server: per core one connection with many streams, and another when its streams are all taken.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{self, SendRequest},
    },
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};

use crate::{
    pool::{CONNECTION_BUFFER_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX},
    share::Network,
    socket::Socket,
    upload::Upload,
};

/// Exchanges on one connection at a time.
pub(crate) const STREAMS_MAX: usize = 100;
/// What a server may send of one response before we have read it (RFC 9113 §5.2).
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// And of all responses on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Exchanges of one network beside those of others: what their clients have not read fills half of the connection's window
/// at most. A network that wants more has a connection to itself.
pub(crate) const NETWORK_STREAMS_MAX: usize = (CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES / 2) as usize;
/// A connection in use that is silent for so long is asked for a sign of life (RFC 9113 §6.7)...
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// ...and given up when none comes.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// One core's connections to one server.
#[derive(Default)]
pub(crate) struct Core {
    connections: Mutex<Vec<Arc<Shared>>>,
    /// Who connects holds this, so that those who come at the same time share what it makes.
    pub(crate) connecting: tokio::sync::Mutex<()>,
}

struct Shared {
    sender: SendRequest<Upload>,
    taken: Mutex<Taken>,
}

/// Streams that are in use.
struct Taken {
    all: usize,
    /// Those of networks that have any: as many entries as streams at most.
    by: Vec<(Network, usize)>,
    idle_since: Instant,
}

/// The right to one exchange.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    network: Option<Network>,
}

impl Core {
    /// A stream of a connection that is there, if one has any left for the network.
    pub(crate) fn stream(&self, network: Option<Network>) -> Option<Stream> {
        self.find(network, |taken| taken.admits(network))
    }

    /// The same of whatever connection has any left: when there can be no other.
    pub(crate) fn any_stream(&self, network: Option<Network>) -> Option<Stream> {
        self.find(network, |_| true)
    }

    fn find(&self, network: Option<Network>, may: impl Fn(&Taken) -> bool) -> Option<Stream> {
        // Under the lock of the list, as nobody else adds streams.
        let connections = self.lock();
        connections.iter().filter(|shared| !shared.sender.is_closed()).find_map(|shared| {
            let mut taken = shared.taken();
            let free = taken.all < STREAMS_MAX && may(&taken);
            free.then(|| {
                taken.take(network);
                Stream { shared: Arc::clone(shared), network }
            })
        })
    }

    /// Speaks HTTP/2 over a new socket, on the current runtime; the first stream is for `network`. What is `held` goes when the
    /// socket does.
    pub(crate) async fn adopt<T: Send + 'static>(
        self: &Arc<Self>,
        socket: Socket,
        held: T,
        idle_max: Duration,
        network: Option<Network>,
    ) -> hyper::Result<Stream> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .max_header_list_size(RESPONSE_HEAD_BYTES_MAX as u32)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake::<_, Upload>(TokioIo::new(socket))
            .await?;
        let mut taken = Taken::default();
        taken.take(network);
        let shared = Arc::new(Shared { sender, taken: Mutex::new(taken) });
        self.lock().push(Arc::clone(&shared));
        tokio::spawn(drive(connection, Arc::downgrade(self), Arc::downgrade(&shared), idle_max, held));
        Ok(Stream { shared, network })
    }

    fn forget(&self, shared: &Weak<Shared>) {
        self.lock().retain(|listed| !std::ptr::eq(Arc::as_ptr(listed), shared.as_ptr()));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("connections", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Taken {
    fn default() -> Self {
        Self { all: 0, by: Vec::new(), idle_since: Instant::now() }
    }
}

impl Taken {
    /// Whether a network may have a stream beside those who have some: either has few, or all are its own.
    fn admits(&self, network: Option<Network>) -> bool {
        let is_own = |other: Network| Some(other) == network;
        let own = self.by.iter().find(|(other, _)| is_own(*other)).map_or(0, |(_, count)| *count);
        let crowded = self.by.iter().any(|(other, count)| !is_own(*other) && *count > NETWORK_STREAMS_MAX);
        own == self.all || !crowded && own < NETWORK_STREAMS_MAX
    }

    fn take(&mut self, network: Option<Network>) {
        self.all += 1;
        let Some(network) = network else { return };
        match self.by.iter_mut().find(|(other, _)| *other == network) {
            Some((_, count)) => *count += 1,
            None => self.by.push((network, 1)),
        }
    }

    fn give_back(&mut self, network: Option<Network>) {
        self.all = self.all.saturating_sub(1);
        self.idle_since = Instant::now();
        if let Some((_, count)) = self.by.iter_mut().find(|(other, _)| Some(*other) == network) {
            *count = count.saturating_sub(1);
            self.by.retain(|(_, count)| *count > 0);
        }
    }
}

impl Stream {
    /// Sends a request; ready with the response's head. An error may hold the request, untouched.
    pub(crate) fn send(
        &self,
        request: http::Request<Upload>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Upload>>>> + Send + use<>
    {
        self.shared.sender.clone().try_send_request(request)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.taken().give_back(self.network);
    }
}

/// Runs a connection until it ends, or has had no stream for too long. It then closes when its last sender goes.
async fn drive<T>(
    connection: http2::Connection<TokioIo<Socket>, Upload, TokioExecutor>,
    core: Weak<Core>,
    shared: Weak<Shared>,
    idle_max: Duration,
    held: T,
) {
    let mut look = Instant::now() + idle_max;
    tokio::pin!(connection);
    loop {
        tokio::select! {
            // Its errors reach the exchanges they belong to.
            _ended = &mut connection => break,
            () = sleep_until(look) => {
                look = next_look(&core, &shared, idle_max);
            }
        }
    }
    if let Some(core) = core.upgrade() {
        core.forget(&shared);
    }
    drop(held);
}

fn next_look(core: &Weak<Core>, shared: &Weak<Shared>, idle_max: Duration) -> Instant {
    let later = Instant::now() + idle_max;
    let (Some(core), Some(held)) = (core.upgrade(), shared.upgrade()) else { return later };
    // Under the list's lock, so that nobody takes a stream of it meanwhile.
    let mut connections = core.lock();
    let (streams, until) = {
        let taken = held.taken();
        (taken.all, taken.idle_since + idle_max)
    };
    if streams > 0 {
        return later;
    }
    if until > Instant::now() {
        return until;
    }
    connections.retain(|listed| !Arc::ptr_eq(listed, &held));
    later
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_a_few_streams_beside_others_or_a_connection_to_itself() {
        let network = |number: u8| Some(Network::of([192, 0, 2, number].into()));
        let check = |taken: &[(u8, usize)], asks: u8, expected: bool| {
            let mut all = Taken::default();
            for (number, count) in taken {
                (0..*count).for_each(|_| all.take(network(*number)));
            }
            assert_eq!(all.admits(network(asks)), expected, "{asks} beside {taken:?}");
            for (number, count) in taken {
                (0..*count).for_each(|_| all.give_back(network(*number)));
            }
            assert!(all.all == 0 && all.by.is_empty());
        };
        let few = NETWORK_STREAMS_MAX;
        check(&[], 1, true);
        check(&[(1, STREAMS_MAX)], 1, true);
        check(&[(1, few), (2, few)], 3, true);
        check(&[(1, few - 1), (2, 1)], 1, true);
        check(&[(1, few), (2, 1)], 1, false);
        check(&[(1, few)], 2, true);
        check(&[(1, few + 1)], 2, false);
        // Nobody's are no network's own.
        let mut nobodys = Taken::default();
        (0..few).for_each(|_| nobodys.take(network(1)));
        nobodys.take(None);
        assert!(!nobodys.admits(network(1)) && nobodys.admits(network(2)) && nobodys.admits(None));
        nobodys.give_back(None);
        assert!(nobodys.admits(network(1)));
    }
}
