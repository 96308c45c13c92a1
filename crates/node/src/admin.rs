//! The admin API of a node, on a listener and a runtime of its own: `GET /metrics`, `/healthz`, `/readyz`,
//! `/v1/status`, `POST /v1/drain`, the page, and what the caller adds.
//!
//! Reading needs no token: keep the listener on loopback or a private network. Whatever changes state goes through
//! [`Authorizer`]. What browsers must not be talked into is [`guard`]'s.

pub mod guard;
mod listener;
mod room;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use perigee_protocol::model::Scope;
use serde_json::{Map, Value, json};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use self::room::AdminMetrics;
use crate::{
    authorize::Authorizer,
    clock,
    listen::{ListenError, Transport},
    metrics::{CONTENT_TYPE, CONTENT_TYPE_PLAIN, NodeMetrics},
    page::{self, Feed, PageOptions},
    state::{NodeState, VERSION, tier},
};

/// In an Accept field.
const OPEN_METRICS: &[u8] = b"application/openmetrics-text";
/// How long an admin API that is to end waits for answers in flight.
const END_BOUND: Duration = Duration::from_secs(2);

/// Adds an engine's fields to `/v1/status`.
pub type StatusFields = dyn Fn(&mut Map<String, Value>) + Send + Sync;

/// Why there is no admin API.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address cannot be had.
    #[error("{0}; --admin ADDRESS moves the admin API, --admin off does without")]
    Listen(#[from] ListenError),
    /// More nodes for its page than there may be, in words.
    #[error("{0}; name fewer with --page-node")]
    Nodes(String),
}

/// Puts an admin API together.
pub struct AdminBuilder {
    shared: Shared,
    status: Vec<Box<StatusFields>>,
    routes: Router,
    feed: Option<Arc<Feed>>,
    page: PageOptions,
}

impl fmt::Debug for AdminBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminBuilder").field("state", &self.shared.state).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Shared {
    state: Arc<NodeState>,
    metrics: Arc<NodeMetrics>,
    authorizer: Authorizer,
    status: Arc<[Box<StatusFields>]>,
}

impl AdminBuilder {
    /// With the routes that every node has.
    pub fn new(state: Arc<NodeState>, metrics: Arc<NodeMetrics>, authorizer: Authorizer) -> Self {
        let shared = Shared { state, metrics, authorizer, status: Arc::new([]) };
        Self { shared, status: Vec::new(), routes: Router::new(), feed: None, page: PageOptions::default() }
    }

    /// Adds fields to `/v1/status`; called at each request, on the control runtime.
    #[must_use]
    pub fn status(mut self, fields: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) -> Self {
        self.status.push(Box::new(fields));
        self
    }

    /// Adds routes, with their state filled in. Those that change state ask their own clone of the [`Authorizer`].
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Adds the page at `/` and `/v1/live`, which tells `feed`, and what other nodes tell; it is closed when the API ends.
    #[must_use]
    pub fn page(mut self, feed: Arc<Feed>, options: PageOptions) -> Self {
        self.shared.metrics.register(|registry| feed.register(registry));
        self.feed = Some(feed);
        self.page = options;
        self
    }

    /// The API but for the page, for a caller with a listener of its own.
    pub fn router(self) -> Router {
        let shared = Shared { status: self.status.into(), ..self.shared };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/v1/status", get(status))
            .route("/v1/drain", post(drain))
            .with_state(shared)
            .merge(self.routes)
            .fallback(async || problem(StatusCode::NOT_FOUND, "not-found", "the admin API has no such path"))
            .method_not_allowed_fallback(async || {
                problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the path takes another method")
            });
        guard::guarded(router, &self.page.names)
    }

    /// Binds `address` and serves on the control runtime, with the page.
    pub fn serve(mut self, control: &Handle, address: SocketAddr) -> Result<AdminServing, AdminError> {
        let mut feeds = Vec::new();
        if let Some(own) = self.feed.take() {
            let shown = page::of_nodes(control, Some(Arc::clone(&own)), &self.page.nodes);
            let (shown, routes) = shown.map_err(AdminError::Nodes)?;
            self.routes = self.routes.merge(routes);
            feeds = vec![shown, own];
        }
        let state = Arc::clone(&self.shared.state);
        let others = self.page.nodes.len();
        let counted = self.shared.metrics.register(AdminMetrics::register);
        let serving = AdminServing::start_counting(control, address, self.router(), feeds, counted)?;
        tracing::info!(node = state.id(), page = %format_args!("http://{}/", serving.local_addr), others, "the admin API listens");
        Ok(serving)
    }
}

/// An admin API at work; ends when dropped.
#[derive(Debug)]
pub struct AdminServing {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl AdminServing {
    /// Binds `address` and serves `router` on the control runtime; closes `feeds` when it ends.
    pub fn start(
        control: &Handle,
        address: SocketAddr,
        router: Router,
        feeds: Vec<Arc<Feed>>,
    ) -> Result<Self, AdminError> {
        Self::start_counting(control, address, router, feeds, AdminMetrics::default())
    }

    fn start_counting(
        control: &Handle,
        address: SocketAddr,
        router: Router,
        feeds: Vec<Arc<Feed>>,
        metrics: AdminMetrics,
    ) -> Result<Self, AdminError> {
        let failed = |source| ListenError::new(address, Transport::Tcp, source);
        // No SO_REUSEPORT: the admin port is one process's.
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let listener = {
            let _inside = control.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let (stop, mut stopped) = watch::channel(false);
        let stop_asked = async move {
            // An error means that the AdminServing is gone: stop as well.
            drop(stopped.wait_for(|stop| *stop).await);
            feeds.iter().for_each(|feed| feed.close());
        };
        let server = axum::serve(listener::Bounded::new(listener, metrics), router).with_graceful_shutdown(stop_asked);
        let task = control.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the admin API ended");
            }
        });
        Ok(Self { local_addr, stop, task })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Ends it after the answers in flight; call it last of all, so that a drain can be watched.
    pub async fn end(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(END_BOUND, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// An error as the admin API says it: `{"error":"<code>","message":"<what and what to do>"}`.
pub fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    json_response(status, &json!({ "error": code, "message": message }))
}

/// A JSON answer that ends with a line feed.
pub fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = (status, format!("{value}\n")).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// In OpenMetrics for who names it (Prometheus does), else in the older text that everything reads.
async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let is_asked = |value: &HeaderValue| value.as_bytes().windows(OPEN_METRICS.len()).any(|part| part == OPEN_METRICS);
    let (media_type, encoded) = match headers.get_all(header::ACCEPT).iter().any(is_asked) {
        true => (CONTENT_TYPE, shared.metrics.encode()),
        false => (CONTENT_TYPE_PLAIN, shared.metrics.encode_plain()),
    };
    match encoded {
        Ok(text) => ([(header::CONTENT_TYPE, media_type), (header::VARY, "Accept")], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics", &error.to_string()),
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let reasons = shared.state.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(status, &json!({ "ready": reasons.is_empty(), "reasons": reasons }))
}

async fn status(State(shared): State<Shared>) -> Response {
    let state = &shared.state;
    let reasons = state.reasons();
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    add("tier", json!(tier(state.kind())));
    add("node", json!(state.id()));
    add("version", json!(VERSION));
    add("started_ms", json!(state.started_ms()));
    add("uptime_s", json!(clock::now_ms().saturating_sub(state.started_ms()) / 1000));
    add("document_generation", json!(shared.metrics.reloads.generation()));
    add("document_refusal", json!(shared.metrics.reloads.document_refusal()));
    add("connections", json!(shared.metrics.connections.open()));
    add("ready", json!(reasons.is_empty()));
    add("draining", json!(state.is_draining()));
    add("reasons", json!(reasons));
    for extra in shared.status.iter() {
        extra(&mut fields);
    }
    json_response(StatusCode::OK, &Value::Object(fields))
}

async fn drain(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    match shared.authorizer.authorize(&headers, Scope::Drain) {
        Ok(token) => {
            tracing::info!(token, "draining, as the admin API was told");
            shared.state.request_drain();
            json_response(StatusCode::ACCEPTED, &json!({ "draining": true }))
        }
        Err(denied) => denied.into_response(),
    }
}
