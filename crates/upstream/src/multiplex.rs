//! HTTP/2 towards one server: per core one connection with many streams, and another when its streams are all taken.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
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
    socket::Socket,
    upload::Upload,
};

/// Exchanges on one connection at a time.
pub(crate) const STREAMS_MAX: usize = 100;
/// What a server may send of one response before we have read it (RFC 9113 §5.2).
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// And of all responses on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
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
    streams: AtomicUsize,
    idle_since: Mutex<Instant>,
}

/// The right to one exchange.
pub(crate) struct Stream(Arc<Shared>);

impl Core {
    /// A stream of a connection that is there, if one has any left.
    pub(crate) fn stream(&self) -> Option<Stream> {
        let connections = self.lock();
        connections.iter().find_map(Stream::of)
    }

    /// Speaks HTTP/2 over a new socket, on the current runtime. What is `held` goes when the socket does.
    pub(crate) async fn adopt<T: Send + 'static>(
        self: &Arc<Self>,
        socket: Socket,
        held: T,
        idle_max: Duration,
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
        let shared = Arc::new(Shared { sender, streams: AtomicUsize::new(1), idle_since: Mutex::new(Instant::now()) });
        self.lock().push(Arc::clone(&shared));
        tokio::spawn(drive(connection, Arc::downgrade(self), Arc::downgrade(&shared), idle_max, held));
        Ok(Stream(shared))
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

impl Stream {
    /// Called under the lock of the list, as nobody else adds streams.
    fn of(shared: &Arc<Shared>) -> Option<Self> {
        if shared.sender.is_closed() || shared.streams.load(Ordering::Relaxed) >= STREAMS_MAX {
            return None;
        }
        shared.streams.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(shared)))
    }

    /// Sends a request; ready with the response's head. An error may hold the request, untouched.
    pub(crate) fn send(
        &self,
        request: http::Request<Upload>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Upload>>>> + Send + use<>
    {
        self.0.sender.clone().try_send_request(request)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
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
    let until = *held.idle_since.lock().unwrap_or_else(PoisonError::into_inner) + idle_max;
    if held.streams.load(Ordering::Relaxed) > 0 {
        return later;
    }
    if until > Instant::now() {
        return until;
    }
    connections.retain(|listed| !Arc::ptr_eq(listed, &held));
    later
}
