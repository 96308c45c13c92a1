//! HTTP/1.1 and HTTP/2 to clients: an accept loop per listener and core, hyper per connection, one service behind all
//! of them.
//!
//! Limits are hyper's own where it has them (facts: it answers 431 by itself); time-outs are ours. What hyper lets
//! through (odd Transfer-Encoding, Host, targets) is for the service to refuse.

use std::{
    error::Error,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body::Body;
use ipnet::IpNet;
use tokio::{
    sync::{Mutex, Semaphore, watch},
    task::JoinHandle,
};

pub use crate::content::Content;
use crate::{
    accept::Acceptor,
    client_cap::ClientCap,
    connections::{Connections, Control, Phase},
    door::Door,
    door_metrics::DoorMetrics,
    drive::Protocols,
    interim::Interims,
    listen::Listeners,
    metrics::ConnectionMetrics,
    room::Room,
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
/// How long a request's head may take from its first byte, and a new connection to send one. A head that has begun is
/// answered with 408; silence is closed without a word.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection stays open between two requests. Longer than what clients and balancers usually allow, so that
/// they end it first and no request meets a closing connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take nothing of what it is sent: each byte that its socket takes begins the time anew. Of HTTP/2
/// the same holds of each stream, which ends alone.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Beside a head, what one HTTP/1 connection may buffer of what it reads or writes.
pub const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// How long a TLS handshake, or a PROXY protocol header, may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection at once (RFC 9113 §5.1.2).
pub const H2_STREAMS_MAX: u32 = 100;
/// Streams that a client has reset and that are not dealt with yet; one more ends the connection (CVE-2023-44487).
pub const H2_RESETS_PENDING_MAX: usize = 20;
/// Streams of one connection that we had to reset for a client's mistakes; one more ends the connection (CVE-2025-8671).
pub const H2_RESETS_LOCAL_MAX: usize = 256;
/// What a client may send of one request's body before it is read (RFC 9113 §5.2).
pub const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// … and of all bodies of a connection.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// What one stream may have written and not sent; a piece of a body may pass it by its own length.
pub const H2_SEND_BYTES_MAX: usize = 64 * 1024;
/// How often an HTTP/2 client is asked whether it is there, and how long it has to answer.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// See [`H2_PING_INTERVAL`].
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a drain leaves connections open that have sent no request yet.
pub const FRESH_CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// What answers requests; one value serves all connections of all cores.
///
/// A body that fails cuts the response: what it gave before is sent, then the connection ends short of the announced
/// length or without the last chunk, so that no client takes it for complete.
pub trait HttpService: Send + Sync + 'static {
    /// Of responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + Unpin + 'static;

    /// Answers one request. Runs on the connection's core; dropped when the client goes away.
    fn call(
        &self,
        request: Request<Content>,
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
    secure: bool,
    /// Whom a trusted balancer named as its client.
    proxied: OnceLock<SocketAddr>,
    requests: AtomicU64,
    pub(crate) activity: Activity,
    control: Control,
    interims: Interims,
}

/// What tells an idle connection from one at work.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests whose response has been handed over or given up.
    pub(crate) finished: AtomicU64,
    /// Reads that brought something; wraps.
    pub(crate) reads: AtomicU32,
    /// Whether the socket has no room for what is to be sent.
    pub(crate) blocked: AtomicBool,
    /// Whether the last request had no content: where it ends is then no question.
    pub(crate) bodiless: AtomicBool,
    /// Whether that was so for too long.
    pub(crate) stalled: AtomicBool,
}

impl Connection {
    pub(crate) fn new(
        id: u64,
        core: usize,
        peer: SocketAddr,
        local: SocketAddr,
        secure: bool,
        control: Control,
    ) -> Self {
        Self {
            id,
            core,
            peer,
            local,
            secure,
            proxied: OnceLock::new(),
            requests: AtomicU64::new(0),
            activity: Activity::default(),
            control,
            interims: Interims::default(),
        }
    }
    /// The first word counts.
    pub(crate) fn set_proxied(&self, client: SocketAddr) {
        let _first = self.proxied.set(client);
    }
    /// The number of a request that came just now.
    pub(crate) fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
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
    /// The client's address: the socket's, or what a trusted balancer said by the PROXY protocol.
    pub fn peer(&self) -> SocketAddr {
        self.proxied.get().copied().unwrap_or(self.peer)
    }
    /// Whether the client speaks TLS with us.
    pub fn is_secure(&self) -> bool {
        self.secure
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
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// Connections of one client (an IPv4 address, an IPv6 /64) at once, over all cores; further ones are closed as
    /// they come. None: no limit of its own.
    pub client_connections_max: Option<u32>,
    /// Whether a client may have no more than 16 times the places that are free, at each core; further connections of it
    /// are closed as they come.
    pub client_share: bool,
    /// See [`H2_STREAMS_MAX`].
    pub h2_streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_bytes_max: HEADER_BYTES_MAX,
            headers_max: HEADERS_MAX,
            header_timeout: HEADER_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            client_connections_max: None,
            client_share: true,
            h2_streams_max: H2_STREAMS_MAX,
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
    tls_addrs: Vec<SocketAddr>,
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

/// Where clients come in.
#[derive(Debug)]
pub struct Doors {
    /// For `http`: HTTP/1.1, and HTTP/2 for those who begin with its preface (RFC 9113 §3.3).
    pub plain: Listeners,
    /// For `https`, with what handshakes need.
    pub tls: Option<(Listeners, Arc<rustls::ServerConfig>)>,
    /// Balancers that must begin every connection with a PROXY protocol header; nobody else may.
    pub proxies: Vec<IpNet>,
    /// What is counted at the doors.
    pub metrics: DoorMetrics,
}

impl From<Listeners> for Doors {
    /// Plain HTTP to everybody.
    fn from(plain: Listeners) -> Self {
        Self { plain, tls: None, proxies: Vec::new(), metrics: DoorMetrics::default() }
    }
}

/// Serves `service` at the doors, each core's listeners on its own runtime. Metrics are the caller's to register.
pub fn serve<S: HttpService>(
    runtimes: &Runtimes,
    doors: impl Into<Doors>,
    service: Arc<S>,
    limits: &Limits,
    metrics: ConnectionMetrics,
) -> Serving {
    let Doors { plain, tls, proxies, metrics: door_metrics } = doors.into();
    let connections = Connections::new(runtimes.threads(), metrics);
    let (stop, _) = watch::channel(false);
    let local_addrs = plain.local_addrs().to_vec();
    let mut tls_addrs = Vec::new();
    let mut accepting = Vec::new();
    // Both doors share the room of a core.
    let per_core = (limits.connections_max / runtimes.threads()).clamp(1, Semaphore::MAX_PERMITS);
    let room = |core| {
        let (connections, metrics) = (Arc::clone(&connections), door_metrics.clone());
        Room::new(core, per_core, limits.client_share, connections, metrics)
    };
    let common = Door {
        tls: None,
        handshake_timeout: limits.handshake_timeout,
        header_timeout: limits.header_timeout,
        proxies: proxies.into(),
        metrics: door_metrics.clone(),
        client_cap: limits.client_connections_max.map(|max| Arc::new(ClientCap::new(max))),
        room: room(0),
        protocols: Protocols::new(limits, door_metrics.clone()),
    };
    let doors: Vec<_> = (0..runtimes.cores.len()).map(|core| Door { room: room(core), ..common.clone() }).collect();
    let mut open = |listeners: Listeners, config: Option<Arc<rustls::ServerConfig>>| {
        for (core, row) in listeners.into_cores().into_iter().enumerate() {
            let (Some(handle), Some(door)) = (runtimes.cores.get(core), doors.get(core)) else {
                tracing::error!(core, "listeners were bound for more cores than there are; these serve nobody");
                continue;
            };
            for listener in row {
                let acceptor = Acceptor {
                    core,
                    service: Arc::clone(&service),
                    door: Arc::new(door.with_tls(config.clone())),
                    connections: Arc::clone(&connections),
                    stop: stop.subscribe(),
                };
                accepting.push(handle.spawn(acceptor.run(listener)));
            }
        }
    };
    open(plain, None);
    if let Some((listeners, config)) = tls {
        tls_addrs.extend_from_slice(listeners.local_addrs());
        open(listeners, Some(config));
    }
    Serving { local_addrs, tls_addrs, connections, stop, accepting: Mutex::new(accepting) }
}

impl Serving {
    /// Where it listens for `http`, in the order of the listeners.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Where it listens for `https`, in the order of the listeners.
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        &self.tls_addrs
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
