//! HTTP/1.1 to clients: an accept loop per listener and core, hyper per connection, one service behind all of them.
//!
//! Limits are hyper's own where it has them (facts: it answers 431 by itself). What hyper lets through (odd
//! Transfer-Encoding, Host, targets) is for the service to refuse.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
};

use crate::{
    connections::{Connections, Control, Entry, Phase},
    cut::FlushBeforeCut,
    interim::{Interims, WithInterims},
    listen::Listeners,
    metrics::ConnectionMetrics,
    runtimes::Runtimes,
};

/// The longest request head, request line included; one byte more is a 431.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most fields of a request; one more is a 431. hyper's own, since any other number costs an allocation a request.
pub const HEADERS_MAX: usize = 100;
/// Fields that a tier adds to what it sends on: Via, CDN-Loop, who the client is, and the fleet's own.
pub const TIER_HEADERS_MAX: usize = 16;
/// Bytes of those fields.
pub const TIER_HEADER_BYTES_MAX: usize = 8 * 1024;
/// How long a connection may be idle or take to send a head; it is closed without a word.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a drain leaves connections open that have sent no request yet.
pub const FRESH_CONNECTION_GRACE: Duration = Duration::from_secs(1);
/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests; one value serves all connections of all cores.
///
/// A body that fails cuts the response: what it gave before is sent, then the connection ends short of the announced
/// length or without the last chunk, so that no client takes it for complete.
pub trait HttpService: Send + Sync + 'static {
    /// Of responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static;

    /// Answers one request. Runs on the connection's core; dropped when the client goes away.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    core: usize,
    peer: SocketAddr,
    local: SocketAddr,
    requests: AtomicU64,
    control: Control,
    interims: Interims,
}

impl Connection {
    pub(crate) fn new(id: u64, core: usize, peer: SocketAddr, local: SocketAddr, control: Control) -> Self {
        Self { id, core, peer, local, requests: AtomicU64::new(0), control, interims: Interims::default() }
    }
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }
    pub(crate) fn interims(&self) -> &Interims {
        &self.interims
    }
    /// Sends an interim response (RFC 9110 §15.2) to the request that was the connection's `request`th. Nothing happens
    /// if that is answered already, came over HTTP/1.0, or the status is 100, 101 or final.
    pub fn interim(&self, request: u64, status: StatusCode, headers: &HeaderMap) {
        self.interims.push(request, status, headers);
    }
    /// Unique among the connections of one [`Serving`]; counts from 1.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Which of [`Runtimes::cores`] it runs on.
    pub fn core(&self) -> usize {
        self.core
    }
    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
    /// The address that the client connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
    /// Requests that it has brought, the current one included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
    /// Whether the server is ending: its responses say `Connection: close`.
    pub fn is_draining(&self) -> bool {
        self.control.phase() != Phase::Open
    }
}

/// How much a server takes on.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections served at once, shared evenly by the cores (at least one each). Beyond it, clients wait unaccepted.
    pub connections_max: usize,
    /// See [`HEADER_BYTES_MAX`].
    pub header_bytes_max: usize,
    /// See [`HEADERS_MAX`].
    pub headers_max: usize,
    /// See [`HEADER_TIMEOUT`].
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_bytes_max: HEADER_BYTES_MAX,
            headers_max: HEADERS_MAX,
            header_timeout: HEADER_TIMEOUT,
        }
    }
}

impl Limits {
    /// For a tier that other tiers ask: what a client may send an edge, the edge may send on with what it adds.
    #[must_use]
    pub fn behind_a_tier(self) -> Self {
        Self {
            header_bytes_max: self.header_bytes_max + TIER_HEADER_BYTES_MAX,
            headers_max: self.headers_max + TIER_HEADERS_MAX,
            ..self
        }
    }
}

/// A server at work. Dropped, it stops accepting and cuts its connections; [`Serving::drain`] is the gentle way.
#[derive(Debug)]
pub struct Serving {
    local_addrs: Vec<SocketAddr>,
    connections: Arc<Connections>,
    stop: watch::Sender<bool>,
    accepting: Mutex<Vec<JoinHandle<()>>>,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still at work at the bound and were cut.
    pub aborted: usize,
}

/// Serves `service` on the listeners, each core's on its own runtime. Metrics are the caller's to register.
pub fn serve<S: HttpService>(
    runtimes: &Runtimes,
    listeners: Listeners,
    service: Arc<S>,
    limits: &Limits,
    metrics: ConnectionMetrics,
) -> Serving {
    let local_addrs = listeners.local_addrs().to_vec();
    let connections = Connections::new(runtimes.threads(), metrics);
    let (stop, _) = watch::channel(false);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes_max)
        .half_close(false);
    if limits.headers_max != HEADERS_MAX {
        // Said only where it differs: any explicit number costs hyper's fast path.
        http.max_headers(limits.headers_max);
    }
    let per_core = (limits.connections_max / runtimes.threads()).max(1);
    let mut accepting = Vec::new();
    for (core, row) in listeners.into_cores().into_iter().enumerate() {
        let Some(handle) = runtimes.cores.get(core) else {
            tracing::error!(core, "listeners were bound for more cores than there are; these serve nobody");
            continue;
        };
        let permits = Arc::new(Semaphore::new(per_core.min(Semaphore::MAX_PERMITS)));
        for listener in row {
            let acceptor = Acceptor {
                core,
                service: Arc::clone(&service),
                http: http.clone(),
                connections: Arc::clone(&connections),
                permits: Arc::clone(&permits),
                stop: stop.subscribe(),
            };
            accepting.push(handle.spawn(acceptor.run(listener)));
        }
    }
    Serving { local_addrs, connections, stop, accepting: Mutex::new(accepting) }
}

impl Serving {
    /// Where it listens, in the order of the listeners.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.connections.open()
    }

    /// Stops accepting, lets requests in flight finish (their responses say `Connection: close`), and cuts what is
    /// left after `bound`. Returns when no connection is open. A second call joins the first.
    pub async fn drain(&self, bound: Duration) -> Drained {
        let deadline = tokio::time::Instant::now() + bound;
        self.stop.send_replace(true);
        for task in self.accepting.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "an accept loop ended badly");
            }
        }
        self.connections.tell(Phase::Draining);
        let grace = deadline.min(tokio::time::Instant::now() + FRESH_CONNECTION_GRACE);
        if tokio::time::timeout_at(grace, self.connections.none_open()).await.is_ok() {
            return Drained { aborted: 0 };
        }
        self.connections.tell(Phase::Closing);
        if tokio::time::timeout_at(deadline, self.connections.none_open()).await.is_ok() {
            return Drained { aborted: 0 };
        }
        let aborted = self.connections.open();
        self.connections.tell(Phase::Aborted);
        self.connections.none_open().await;
        tracing::warn!(aborted, bound_s = bound.as_secs(), "cut connections that had not finished within the bound");
        Drained { aborted }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.connections.tell(Phase::Aborted);
    }
}

struct Acceptor<S> {
    core: usize,
    service: Arc<S>,
    http: http1::Builder,
    connections: Arc<Connections>,
    permits: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl<S: HttpService> Acceptor<S> {
    async fn run(mut self, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "a listener cannot be used"),
        };
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer).await,
                Err(error) => self.accept_failed(&error).await,
            }
        }
        // Clients that the kernel has already greeted would be reset by closing the listener: serve them.
        while let Some(Ok((stream, peer))) = accept_now(&listener).await {
            self.admit(stream, peer).await;
        }
    }

    async fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.connections.metrics().at_limit();
                let permits = Arc::clone(&self.permits);
                tokio::select! {
                    permit = permits.acquire_owned() => match permit {
                        Ok(permit) => permit,
                        Err(_) => return,
                    },
                    // Nothing was promised to this client yet; a drain does not wait for room.
                    _ = self.stop.wait_for(|stop| *stop) => return,
                }
            }
        };
        let Ok(local) = stream.local_addr() else { return };
        let entry = self.connections.enter(self.core, peer, local);
        tokio::spawn(drive(self.http.clone(), Arc::clone(&self.service), stream, entry, permit));
    }

    async fn accept_failed(&self, error: &io::Error) {
        // A client that went away while it waited is its own affair; anything else is want of descriptors or memory.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        self.connections.metrics().accept_failed();
        tracing::warn!(%error, "cannot accept; pausing");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn accept_now(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        std::task::Poll::Ready(accepted) => std::task::Poll::Ready(Some(accepted)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// What every request of a connection needs; one count of references per connection, so that cores share none.
struct PerConnection<S> {
    service: Arc<S>,
    connection: Arc<Connection>,
}

async fn drive<S: HttpService>(
    http: http1::Builder,
    service: Arc<S>,
    stream: TcpStream,
    entry: Entry,
    _permit: OwnedSemaphorePermit,
) {
    let connection = Arc::clone(entry.connection());
    let each = Arc::new(PerConnection { service, connection: Arc::clone(&connection) });
    let answer = service_fn(move |request| answer(Arc::clone(&each), request));
    let mut serving =
        pin!(http.serve_connection(TokioIo::new(WithInterims::new(stream, Arc::clone(&connection))), answer));
    let mut told = None;
    let mut ending = false;
    let ended = poll_fn(|cx| {
        let mut phase = connection.control().phase();
        // Each change of phase uses the waker up, so it is left again after each. In between it stays good: this
        // future remains in the task it was spawned in.
        while told != Some(phase) {
            connection.control().register(cx.waker());
            told = Some(phase);
            phase = connection.control().phase();
        }
        if phase == Phase::Aborted {
            return std::task::Poll::Ready(Ok(()));
        }
        let fresh = connection.requests() == 0;
        if !ending && (phase == Phase::Closing || (phase == Phase::Draining && !fresh)) {
            ending = true;
            serving.as_mut().graceful_shutdown();
        }
        serving.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(peer = %connection.peer(), error = %describe(&error), "a connection ended early");
    }
}

async fn answer<S: HttpService>(
    each: Arc<PerConnection<S>>,
    request: Request<Incoming>,
) -> Result<Response<FlushBeforeCut<S::Body>>, Infallible> {
    let number = each.connection.requests.fetch_add(1, Ordering::Relaxed) + 1;
    // RFC 9110 §15.2: HTTP/1.0 knows no interim responses.
    if request.version() == Version::HTTP_11 {
        poll_fn(|cx| each.connection.interims.poll_open(number, cx)).await;
    }
    let mut response = each.service.call(request, &each.connection).await;
    poll_fn(|cx| each.connection.interims.poll_close(cx)).await;
    if each.connection.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(FlushBeforeCut::new))
}

fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
