//! One attempt at one server: a connection, a request, the head of a response, and what its failure allows next.

use std::{
    error::Error,
    fmt::Display,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, Uri, Version, header};
use hyper::{body::Incoming, client::conn::TrySendError};
use perigee_protocol::{model::UpstreamPolicy, proof::FleetSecret};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::field::display;

use crate::{
    Attempt, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Peer, RequestBody, UpstreamBody,
    breaker::Breaker,
    connect::Connector,
    fleet::Clock,
    lease::Lease,
    metrics::ServerMetrics,
    multiplex::Core,
    pool::{Checkout, IDLE_MAX, Pool},
    share::Network,
    socket::Socket,
    upload::{Upload, Waiting, Watch},
    wire,
};

/// A request that must not be sent twice, or has content that cannot be, goes only over a connection that was used so
/// recently that its server has hardly given it up: RFC 9110 §9.2.2 forbids to repeat it when that goes wrong.
const IDLE_MAX_UNREPEATABLE: Duration = Duration::from_secs(1);

/// A shield or an origin.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) metrics: ServerMetrics,
    pub(crate) policy: UpstreamPolicy,
    pub(crate) connector: Connector,
    pub(crate) pool: Arc<Pool>,
    /// Whether HTTP/2 is wanted of it.
    pub(crate) speaks_h2: bool,
    /// Of its URL.
    pub(crate) scheme: http::uri::Scheme,
    pub(crate) clock: Clock,
    pub(crate) secret: Option<FleetSecret>,
    pub(crate) breaker: Mutex<Breaker>,
    /// Whether its last failure was to close a connection that it had taken.
    pub(crate) hung_up: AtomicBool,
}

/// What may be tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Nothing: the request may have had its effect, or is spent.
    Never,
    /// Another server: this one would take as long again.
    Elsewhere,
    /// Another server, or this one again.
    Anywhere,
}

/// An attempt that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: FetchError,
    pub(crate) retry: Retry,
}

type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

impl Server {
    /// Whether health allows to ask it now.
    pub(crate) fn admits(&self) -> bool {
        self.with_breaker(|breaker, now_ms| breaker.admits(now_ms))
    }

    /// Whether to ask it although it was given up, where nobody else is left: it takes connections, and that it closed some
    /// may be the fault of what was asked. Otherwise one URL that kills its handler takes the whole site down.
    pub(crate) fn is_last_resort(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }

    /// One attempt. A body that was not touched is back in `request` after a failure.
    pub(crate) async fn attempt(&self, request: &mut FetchRequest) -> Result<FetchResponse, Failure> {
        let began = Instant::now();
        let observer = request.observer.as_ref();
        let mut seen = observer.map(|observer| observer.attempt(request, &self.peer, self.connector.url()));
        let mut result = self.exchange(request, seen.as_deref()).await;
        match &mut result {
            Ok(response) => {
                if let Some(mut seen) = seen {
                    seen.answered(response.status, response.version, response.connect_reused);
                    response.body.seen_by(seen);
                }
                self.metrics.answered(response.status);
                self.metrics.first_byte.observe(began.elapsed().as_secs_f64());
                if self.with_breaker(|breaker, _| breaker.succeeded()) {
                    tracing::info!(site = self.metrics.site(), peer = %self.peer, "upstream answers again");
                }
            }
            Err(failure) => {
                if let Some(seen) = &mut seen {
                    seen.failed(failure.error.kind());
                }
                self.note(failure, seen.as_ref().and_then(|seen| seen.trace_id()));
            }
        }
        result
    }

    fn note(&self, failure: &Failure, trace_id: Option<&dyn Display>) {
        use FetchErrorKind::{Connect, ConnectTimeout, FirstByteTimeout, PrematureClose};
        let kind = failure.error.kind();
        self.metrics.failed(kind);
        let (site, error, trace_id) = (self.metrics.site(), &failure.error as &dyn Error, trace_id.map(display));
        tracing::debug!(site, peer = %self.peer, error, trace_id, "attempt failed");
        self.hung_up.store(kind == PrematureClose, Ordering::Relaxed);
        let ill = matches!(kind, Connect | ConnectTimeout | FirstByteTimeout | PrematureClose);
        if ill && self.with_breaker(Breaker::failed) {
            tracing::warn!(site, peer = %self.peer, error, trace_id, "upstream is given up for a while");
        }
    }

    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker, u64) -> T) -> T {
        act(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner), (self.clock)())
    }

    async fn exchange(&self, request: &mut FetchRequest, seen: Option<&dyn Attempt>) -> Result<FetchResponse, Failure> {
        let secret = self.secret.as_ref().filter(|_| matches!(self.peer, Peer::Shield(_)));
        let has_content = request.body.is_some();
        let mut idle_max = if repeatable(request) && !has_content { IDLE_MAX } else { IDLE_MAX_UNREPEATABLE };
        loop {
            let mut lease = self.connection(request.network, idle_max).await?;
            let mut headers = wire::request_headers(request);
            if let Some(seen) = seen {
                seen.fields(&mut headers);
            }
            let proof = secret.and_then(|secret| wire::prove(request, &mut headers, secret, (self.clock)()));
            let exchange = lease.exchange().cloned();
            let (upload, watch) = Upload::new(request.body.take(), exchange.as_ref());
            let composed = if lease.is_h2() {
                compose_h2(request, headers, upload, &self.scheme).map_err(|(error, body)| {
                    request.body = body;
                    self.failure(FetchErrorKind::Protocol, error, Retry::Never)
                })?
            } else {
                compose(request, headers, upload)
            };
            let sending = lease.send(composed);
            let mut error = match self.head(sending, watch.as_deref()).await {
                _ if exchange.is_some_and(|exchange| exchange.gave_way()) => {
                    let error = FetchError::new(FetchErrorKind::SlowClient).at(&self.peer);
                    return Err(Failure { error, retry: Retry::Never });
                }
                Ok(Ok(response)) => return self.accept(request, response, lease, secret.zip(proof.as_deref())),
                Ok(Err(error)) => error,
                Err(kind) => return Err(self.timed_out(kind, request, watch.as_deref())),
            };
            let untouched = error.take_message();
            let unsent = untouched.is_some();
            request.body = untouched.and_then(|request| request.into_body().into_body());
            let error = error.into_error();
            if let Some(failure) = watch.and_then(|watch| watch.with(|progress| progress.failure.take())) {
                return Err(self.failure(FetchErrorKind::RequestBody, failure, Retry::Never));
            }
            let kind = kind_of(&error);
            // Nothing reached the server, or it may be asked twice and there is no content that was spent.
            let again = unsent || (repeatable(request) && !has_content);
            if kind != FetchErrorKind::PrematureClose || !again {
                return Err(self.failure(kind, error, Retry::Never));
            }
            if !lease.reused {
                return Err(self.failure(kind, error, Retry::Anywhere));
            }
            // The server closed a kept connection while the request was on its way: that is no failure of anybody's. The
            // next connection is a new one, so this happens once.
            idle_max = Duration::ZERO;
        }
    }

    async fn connection(&self, network: Option<Network>, idle_max: Duration) -> Result<Lease, Failure> {
        if !self.speaks_h2 {
            return self.own_connection(network, idle_max, None).await;
        }
        let core = self.pool.shared();
        // Zero: a connection that was there has just failed.
        if !idle_max.is_zero()
            && let Some(stream) = core.stream(network)
        {
            return Ok(Lease::of(stream, true));
        }
        let turn = timeout(self.policy.connect_timeout, core.connecting.lock()).await;
        let _turn = turn.map_err(|_| {
            let error = FetchError::new(FetchErrorKind::ConnectTimeout).at(&self.peer);
            Failure { error, retry: Retry::Elsewhere }
        })?;
        match core.stream(network) {
            Some(stream) => Ok(Lease::of(stream, true)),
            None => self.own_connection(network, idle_max, Some(&core)).await,
        }
    }

    /// A connection for one exchange alone, or the first stream of a new one where `h2` is given and the server agrees.
    async fn own_connection(
        &self,
        network: Option<Network>,
        idle_max: Duration,
        h2: Option<&Arc<Core>>,
    ) -> Result<Lease, Failure> {
        let (slot, share) = match self.pool.checkout(network, idle_max, self.policy.connect_timeout).await {
            Ok(Checkout::Reused(lease)) => return Ok(lease),
            Ok(Checkout::Slot(slot, share)) => (slot, share),
            Err(kind) => {
                if let Some(stream) = h2.and_then(|core| core.any_stream(network)) {
                    return Ok(Lease::of(stream, true));
                }
                // A network with its share here is not to take the others' elsewhere.
                let retry = if kind == FetchErrorKind::ClientShare { Retry::Never } else { Retry::Elsewhere };
                return Err(Failure { error: FetchError::new(kind).at(&self.peer), retry });
            }
        };
        let socket = self.connector.connect(self.policy.connect_timeout).await.map_err(|error| {
            let retry = if error.kind() == FetchErrorKind::ConnectTimeout { Retry::Elsewhere } else { Retry::Anywhere };
            Failure { error: error.at(&self.peer), retry }
        })?;
        let adopted = match h2 {
            // RFC 9113 §3.3: without TLS by prior knowledge; with it as ALPN says (§3.2).
            Some(core) if matches!(socket, Socket::Plain(_)) || socket.alpn() == Some(b"h2") => {
                // Of its streams a network has its share too; the connection is all networks'.
                drop(share);
                self.pool.adopt_h2(core, socket, slot, network).await
            }
            _ => self.pool.adopt(socket, slot, share).await,
        };
        adopted.map_err(|error| self.failure(FetchErrorKind::Connect, error, Retry::Anywhere))
    }

    /// Waits for the head, `first_byte_timeout` after the request's content last moved. Err: it did not come, and why.
    async fn head(&self, sending: impl Future<Output = Sent>, watch: Option<&Watch>) -> Result<Sent, FetchErrorKind> {
        let limit = self.policy.first_byte_timeout;
        let mut deadline = Instant::now() + limit;
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return Ok(sent),
                () = sleep_until(deadline) => {
                    let Some(watch) = watch else { return Err(FetchErrorKind::FirstByteTimeout) };
                    match watch.with(|progress| progress.waiting(limit, Instant::now())) {
                        Waiting::Until(later) => deadline = later,
                        Waiting::Source => return Err(FetchErrorKind::RequestBody),
                        Waiting::Server => return Err(FetchErrorKind::FirstByteTimeout),
                    }
                }
            }
        }
    }

    fn timed_out(&self, kind: FetchErrorKind, request: &FetchRequest, watch: Option<&Watch>) -> Failure {
        let retry = if repeatable(request) && watch.is_none() { Retry::Elsewhere } else { Retry::Never };
        Failure { error: FetchError::new(kind).at(&self.peer), retry }
    }

    fn accept(
        &self,
        request: &FetchRequest,
        response: Response<Incoming>,
        lease: Lease,
        asked: Option<(&FleetSecret, &str)>,
    ) -> Result<FetchResponse, Failure> {
        let (mut parts, incoming) = response.into_parts();
        let length = http_body::Body::size_hint(&incoming).exact();
        let delimited = parts.version >= Version::HTTP_2;
        let head = wire::receive(&request.method, parts.status, &mut parts.headers, length, delimited, asked)
            .map_err(|refusal| self.failure(FetchErrorKind::Protocol, refusal, Retry::Never))?;
        let connect_reused = lease.reused;
        let limit = self.policy.between_bytes_timeout;
        let body = UpstreamBody::network(incoming, lease, head.reusable, limit, &self.peer, &self.metrics);
        Ok(FetchResponse {
            status: parts.status,
            headers: parts.headers,
            version: parts.version,
            body,
            framing: head.framing,
            peer: self.peer.clone(),
            trusted_age_ms: head.trusted_age_ms,
            connect_reused,
        })
    }

    fn failure(&self, kind: FetchErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>, retry: Retry) -> Failure {
        Failure { error: FetchError::new(kind).because(source).at(&self.peer), retry }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("peer", &self.peer).field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// RFC 9110 §9.2.2: idempotent, so that a proxy may send it twice by itself.
fn repeatable(request: &FetchRequest) -> bool {
    matches!(
        request.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

fn compose(request: &FetchRequest, headers: HeaderMap, upload: Upload) -> Request<Upload> {
    let mut composed = Request::new(upload);
    *composed.method_mut() = request.method.clone();
    *composed.uri_mut() = Uri::from(request.target.clone());
    *composed.headers_mut() = headers;
    if let Some(interim) = request.interim.clone() {
        hyper::ext::on_informational(&mut composed, move |response| {
            let mut headers = response.headers().clone();
            wire::strip_hop(&mut headers);
            interim.hear(response.status(), &headers);
        });
    }
    composed
}

/// RFC 9113 §8.3.1: `:authority` says the host, and fields that frame HTTP/1.1 are not sent (§8.2.2). An error gives the
/// content back.
fn compose_h2(
    request: &FetchRequest,
    headers: HeaderMap,
    upload: Upload,
    scheme: &http::uri::Scheme,
) -> Result<Request<Upload>, (http::Error, Option<RequestBody>)> {
    let uri = Uri::builder()
        .scheme(scheme.clone())
        .authority(request.host.as_bytes())
        .path_and_query(request.target.clone())
        .build();
    let uri = match uri {
        Ok(uri) => uri,
        Err(error) => return Err((error, upload.into_body())),
    };
    let mut composed = compose(request, headers, upload);
    *composed.uri_mut() = uri;
    *composed.version_mut() = Version::HTTP_2;
    for name in [header::HOST, header::TRANSFER_ENCODING] {
        composed.headers_mut().remove(name);
    }
    Ok(composed)
}

/// What an error of hyper's means, before or after the head.
pub(crate) fn kind_of(error: &hyper::Error) -> FetchErrorKind {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return FetchErrorKind::PrematureClose;
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<h2::Error>()
            && (error.is_io() || error.is_go_away() || (error.is_reset() && error.is_remote()))
        {
            return FetchErrorKind::PrematureClose;
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            use io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof,
            };
            let closed = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof];
            return if closed.contains(&io.kind()) { FetchErrorKind::PrematureClose } else { FetchErrorKind::Protocol };
        }
        cause = inner.source();
    }
    FetchErrorKind::Protocol
}
