//! The engine: what one tier's requests share.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use perigee_protocol::{headers as tier, model::Scheme, proof::FleetSecret};
use perigee_semantics::{headers, policy::Tier, time::Timestamp};
use perigee_store::{FillId, Store};
use perigee_upstream::{Interim, RequestBody};

use crate::{
    answer::Answer,
    ask::{Ask, Refusal},
    body::Body,
    debug::Debuggers,
    flight::Flights,
    inflight::{Held, Inflight},
    metrics::Metrics,
    record::{CLIENT_GONE, Record, Recorder, Recording, elapsed_us},
    snapshot::Snapshot,
    tally::Place,
    trace::Tracer,
};

/// Where the data listener says that it serves.
pub const HEALTH_PATH: &str = "/.perigee/healthz";
/// Of the store, one object takes at most one part in so many.
const OBJECT_SHARE: u64 = 2;
const INDEX_TURNS: usize = 64;

/// Reads the wall clock, once per request.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Who this tier is.
#[derive(Clone, Debug)]
pub struct Config {
    /// In Cache-Status (RFC 9211 §2) and Via (RFC 9110 §7.6.3): a token.
    pub name: Arc<str>,
    /// In CDN-Loop (RFC 8586): unique per node of the fleet.
    pub loop_id: String,
    /// Which rules hold.
    pub tier: Tier,
    /// Believes internal headers of peers that prove it, and proves itself to them.
    pub secret: Option<FleetSecret>,
    /// Seeds the hashes that choose among upstreams; the same on all nodes of a fleet.
    pub hash_seed: u64,
}

/// One tier's cache: routes, looks up, coalesces, fetches, stores, answers.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) flights: Arc<Flights>,
    pub(crate) inflight: Arc<Inflight>,
    /// What connections take of it: see [`Self::connections`].
    connections: Mutex<Option<Held>>,
    /// What this tier appends to Via of responses.
    pub(crate) via: Option<HeaderValue>,
    /// Writers of variant indexes take turns, per shard of keys.
    index_turns: [tokio::sync::Mutex<()>; INDEX_TURNS],
    pub(crate) debuggers: Debuggers,
    /// What the health path says of the node; without, that it serves.
    report: OnceLock<Box<dyn Fn() -> Report + Send + Sync>>,
    /// Without, nothing is traced.
    pub(crate) tracer: OnceLock<Arc<dyn Tracer>>,
    snapshot: ArcSwap<Snapshot>,
    clock: Clock,
    recorder: Arc<dyn Recorder>,
    pub(crate) metrics: Metrics,
}

/// What the health path says of the node beside that it serves, for nameservers that probe it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// How much of what it can bear it bears; 1.0: all.
    pub load: Option<f64>,
    /// Whether it is about to end.
    pub is_draining: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that serves `snapshot`.
    pub fn new(
        config: Config,
        store: Store,
        snapshot: Snapshot,
        clock: Clock,
        recorder: Arc<dyn Recorder>,
        metrics: Metrics,
    ) -> Arc<Self> {
        metrics.serve(&snapshot);
        let snapshot = ArcSwap::from_pointee(snapshot);
        let via = headers::via(Version::HTTP_11, &config.name);
        let index_turns = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        let (budget, lender) = (store.budget(), store.clone());
        let inflight = Inflight::new(budget, metrics.inflight(), move |bytes| lender.lend(bytes));
        Arc::new(Self {
            config,
            store,
            via,
            flights: Arc::default(),
            inflight,
            connections: Mutex::default(),
            index_turns,
            debuggers: Debuggers::none(),
            report: OnceLock::new(),
            tracer: OnceLock::new(),
            snapshot,
            clock,
            recorder,
            metrics,
        })
    }

    /// The sites that requests are served by now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Serves another generation from the next request on; requests under way keep theirs.
    pub fn publish(&self, snapshot: Snapshot) {
        self.metrics.serve(&snapshot);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Says how much memory the clients' connections take beside the bodies that they carry, in bytes: it comes out of the
    /// budget of bodies under way.
    pub fn connections(&self, bytes: u64) {
        let held = self.inflight.hold(bytes);
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// Bytes held for bodies under way, connections included.
    pub fn inflight_bytes(&self) -> u64 {
        self.inflight.used()
    }

    /// The same as a part of all that may be held; above 1.0 while more is held than may be.
    pub fn inflight_share(&self) -> f64 {
        self.inflight.share()
    }

    /// What the health path says from now on; asked at each request of it. The first caller's holds.
    pub fn report_by(&self, report: impl Fn() -> Report + Send + Sync + 'static) {
        // Whoever comes second has nothing to add.
        drop(self.report.set(Box::new(report)));
    }

    /// Who decides from now on which requests are traced, and takes their spans. The first caller's holds.
    pub fn trace_by(&self, tracer: Arc<dyn Tracer>) {
        drop(self.tracer.set(tracer));
    }

    /// The engine's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Fetches under way.
    pub fn flights(&self) -> usize {
        self.flights.len()
    }

    /// The objects.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) async fn index_turn(&self, key_hash: u64) -> tokio::sync::MutexGuard<'_, ()> {
        let turn = self.index_turns.get(key_hash as usize % INDEX_TURNS).unwrap_or(&self.index_turns[0]);
        turn.lock().await
    }

    /// The largest object worth storing: one that would push out most of the others, and its own beginning, is not.
    pub(crate) fn store_share(&self, fill: FillId) -> u64 {
        self.store.capacity_for(fill) / OBJECT_SHARE
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Answers one request. Never fails: whatever goes wrong is a response, or a body that is cut.
    ///
    /// Must be called on a tokio runtime: a fetch goes on there when its client leaves.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>, client: SocketAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.handle_with_interim(request, client, Scheme::Http, None).await
    }

    /// As [`Self::handle`], for a client that asked over `scheme`; `interim` hears the interim responses (RFC 9110 §15.2) to what is fetched for this request.
    pub async fn handle_with_interim<B>(
        self: &Arc<Self>,
        request: Request<B>,
        client: SocketAddr,
        scheme: Scheme,
        interim: Option<Interim>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let began = Instant::now();
        let now = self.now();
        let (parts, body) = request.into_parts();
        if parts.uri.path() == HEALTH_PATH {
            return health(&parts.method, self.report.get().map(|report| report()).unwrap_or_default());
        }
        self.metrics.began();
        // Dropped before there is an answer, it says that the client is gone.
        let mut recording = Box::new(Recording {
            record: self.record(&parts, client, now),
            began,
            recorder: Arc::clone(&self.recorder),
            metrics: self.metrics.clone(),
            site: Place::default(),
            answered: false,
            complete: false,
        });
        let Recording { record, site, .. } = &mut *recording;
        let answer = match Ask::new(self, parts, client, scheme, now, interim) {
            Ok(ask) => {
                *site = ask.site.place();
                record.site = Arc::clone(&ask.site.label);
                record.generation = ask.generation;
                record.rule = ask.choice.index().and_then(|index| u16::try_from(index).ok());
                record.key = Some(ask.key_hash);
                record.trace = ask.trace.clone();
                let body = (!body.is_end_stream()).then(|| RequestBody::new(body));
                self.drive(ask, body).await
            }
            Err(refusal) => {
                *site = refusal.site.as_ref().map(|site| site.place()).unwrap_or_default();
                self.refuse(refusal, record)
            }
        };
        complete(answer, recording)
    }

    fn record(&self, parts: &http::request::Parts, client: SocketAddr, now: Timestamp) -> Record {
        Record {
            time: now.as_millis(),
            node: Arc::clone(&self.config.name),
            site: Arc::default(),
            client: client.ip(),
            method: parts.method.clone(),
            host: host(parts),
            target: parts.uri.path_and_query().cloned(),
            protocol: protocol(parts.version),
            status: CLIENT_GONE,
            bytes: 0,
            cut: false,
            cache: "error",
            reason: "client-gone",
            tier: "",
            upstream: String::new(),
            key: None,
            generation: 0,
            rule: None,
            head_us: 0,
            total_us: 0,
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            trace: None,
        }
    }

    fn refuse(&self, refusal: Refusal, record: &mut Record) -> Answer {
        if let Some(site) = &refusal.site {
            record.site = Arc::clone(&site.label);
        }
        let mut answer = Answer::plain(&self.config.name, refusal.status, "error", refusal.reason);
        if matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED) {
            // RFC 9112 §11.2: where a message ends is not to be trusted after it could not be understood.
            answer.response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 §15.5.6. Others pass too; these are what a site without an API has.
            let usual = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            answer.response.headers_mut().insert(header::ALLOW, usual);
        }
        answer
    }
}

fn complete(mut answer: Answer, mut recording: Box<Recording>) -> Response<Body> {
    recording.answered = true;
    let record = &mut recording.record;
    if let Some(trace) = &record.trace {
        trace.tell(answer.response.headers_mut());
    }
    record.status = answer.response.status().as_u16();
    record.cache = answer.cache;
    record.reason = answer.reason;
    record.tier = answer.tier;
    record.upstream = answer.upstream;
    record.head_us = elapsed_us(recording.began);
    answer.response.map(|body| body.recorded(recording))
}

/// As asked: over HTTP/2 it is `:authority` (RFC 9113 §8.3.1).
fn host(parts: &http::request::Parts) -> Option<HeaderValue> {
    let authority = || HeaderValue::from_str(parts.uri.authority()?.as_str()).ok();
    parts.headers.get(header::HOST).cloned().or_else(authority)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn health(method: &Method, report: Report) -> Response<Body> {
    let mut response = Response::new(match *method {
        Method::HEAD => Body::empty(),
        _ => Body::whole(Bytes::from_static(b"ok\n")),
    });
    if !matches!(*method, Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        *response.body_mut() = Body::empty();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(load) = report.load.and_then(|load| HeaderValue::try_from(format!("{load:.2}")).ok()) {
        headers.insert(tier::LOAD, load);
    }
    if report.is_draining {
        headers.insert(tier::DRAINING, HeaderValue::from_static("1"));
    }
    response
}
