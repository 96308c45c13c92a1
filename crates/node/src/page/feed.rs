//! What a node tells of itself once a second, to whoever listens: `GET /v1/live`.

use std::{
    fmt, iter,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::http::{HeaderValue, StatusCode, header};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::AbortHandle,
    time::{self, MissedTickBehavior},
};

use crate::{admin::problem, clock};

/// How often figures are told.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Listeners of one feed at once; more are asked to come again.
pub const CLIENTS_MAX: usize = 64;

/// Where figures come from. Both are called on the control runtime and must not wait.
pub trait Source: Send + 'static {
    /// Called every [`INTERVAL`], whether anybody listens or not.
    fn tick(&mut self, now_ms: u64);

    /// The figures of this moment as one line of JSON; called after `tick` while somebody listens.
    fn tell(&mut self, now_ms: u64) -> String;
}

/// The last that was told.
#[derive(Clone, Debug, Default)]
pub enum Told {
    /// Nothing yet, or nothing lately, since nobody listened.
    #[default]
    Quiet,
    /// One line of JSON.
    Figures(Arc<str>),
    /// Nothing comes any more.
    Closed,
}

/// The figures of a node, once a second. Ends when dropped.
pub struct Feed {
    told: watch::Sender<Told>,
    /// Of what was told last; changes with it.
    number: AtomicU64,
    clients: Arc<Semaphore>,
    metrics: FeedMetrics,
    task: OnceLock<AbortHandle>,
}

/// Who looks.
#[derive(Clone, Debug, Default)]
struct FeedMetrics {
    viewers: Gauge,
    refused: Counter,
    missed: Counter,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("listeners", &self.told.receiver_count()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Asks `source` from now on.
    pub fn start(control: &Handle, source: impl Source) -> Arc<Self> {
        Self::start_counting(control, source, FeedMetrics::default())
    }

    /// The same, whose viewers count as this one's.
    pub(super) fn start_beside(&self, control: &Handle, source: impl Source) -> Arc<Self> {
        Self::start_counting(control, source, self.metrics.clone())
    }

    fn start_counting(control: &Handle, source: impl Source, metrics: FeedMetrics) -> Arc<Self> {
        let feed = Arc::new(Self {
            told: watch::channel(Told::Quiet).0,
            number: AtomicU64::new(0),
            metrics,
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
            task: OnceLock::new(),
        });
        let task = control.spawn(run(Arc::downgrade(&feed), source));
        feed.task.set(task.abort_handle()).unwrap_or_default();
        feed
    }

    /// What is told from now on; while the receiver lives, the source is asked.
    pub fn listen(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Registers `perigee_page_*`.
    pub fn register(&self, registry: &mut Registry) {
        let FeedMetrics { viewers, refused, missed } = self.metrics.clone();
        registry.register("perigee_page_viewers", "Streams of the page's figures that are open", viewers);
        let help = "Streams of the page's figures that were refused, since as many as may be were open";
        registry.register("perigee_page_viewers_refused", help, refused);
        let help = "Figures that a viewer of the page did not get, since it read too slowly";
        registry.register("perigee_page_events_missed", help, missed);
    }

    /// Ends every stream, so that nobody's open page holds up an end, and lets the source go.
    pub fn close(&self) {
        self.told.send_replace(Told::Closed);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Viewers, refusals, figures that were missed.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (i64, u64, u64) {
        let FeedMetrics { viewers, refused, missed } = &self.metrics;
        (viewers.get(), refused.get(), missed.get())
    }

    #[cfg(test)]
    pub(super) fn listening(self: &Arc<Self>) -> Listening {
        let permit = Arc::clone(&self.clients).try_acquire_owned().unwrap();
        Listening::new(self, permit)
    }

    #[cfg(test)]
    pub(super) fn clients_free(&self) -> usize {
        self.clients.available_permits()
    }

    fn tell(&self, now_ms: u64, source: &mut impl Source) -> bool {
        source.tick(now_ms);
        let told = if self.told.receiver_count() > 0 { Told::Figures(source.tell(now_ms).into()) } else { Told::Quiet };
        // What was closed meanwhile stays closed.
        self.told.send_if_modified(|last| {
            let is_open = !matches!(last, Told::Closed);
            if is_open {
                if matches!(told, Told::Figures(_)) {
                    // Read and written under the channel's lock.
                    self.number.fetch_add(1, Ordering::Relaxed);
                }
                *last = told;
            }
            is_open
        })
    }
}

async fn run(feed: Weak<Feed>, mut source: impl Source) {
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(feed) = feed.upgrade() else { return };
        if !feed.tell(clock::now_ms(), &mut source) {
            return;
        }
    }
}

/// `GET /v1/live` tells `shown`; with `only=self` the node's `own` figures, which is how pages of other nodes ask.
pub(super) fn routes(shown: Arc<Feed>, own: Arc<Feed>) -> Router {
    Router::new().route("/v1/live", get(live)).with_state(Feeds { shown, own })
}

#[derive(Clone)]
struct Feeds {
    shown: Arc<Feed>,
    own: Arc<Feed>,
}

/// Each event is a JSON list of nodes.
async fn live(State(feeds): State<Feeds>, RawQuery(query): RawQuery) -> Response {
    let feed = if query.as_deref() == Some("only=self") { feeds.own } else { feeds.shown };
    let Ok(permit) = Arc::clone(&feed.clients).try_acquire_owned() else {
        feed.metrics.refused.inc();
        let message = "64 pages are open already; close one, or try again later";
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "too-many-pages", message);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return response;
    };
    let mut listening = Listening::new(&feed, permit);
    // What was told last may be a second old: better than an empty page.
    listening.told.mark_changed();
    let first = stream::iter(iter::once(Ok::<_, std::convert::Infallible>(Bytes::from_static(b"retry: 2000\n\n"))));
    let events = stream::unfold(listening, next);
    let mut response = Body::from_stream(futures_util::StreamExt::chain(first, events)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// One open page.
pub(super) struct Listening {
    told: watch::Receiver<Told>,
    feed: Weak<Feed>,
    /// The number of what it was sent last; none before the first.
    last: Option<u64>,
    metrics: FeedMetrics,
    _permit: OwnedSemaphorePermit,
}

impl Listening {
    fn new(feed: &Arc<Feed>, permit: OwnedSemaphorePermit) -> Self {
        feed.metrics.viewers.inc();
        let metrics = feed.metrics.clone();
        Self { told: feed.listen(), feed: Arc::downgrade(feed), last: None, metrics, _permit: permit }
    }

    /// What is told now, and what was missed since the last.
    fn take(&mut self) -> Told {
        let told = self.told.borrow_and_update();
        if let (Told::Figures(_), Some(feed)) = (&*told, self.feed.upgrade()) {
            let number = feed.number.load(Ordering::Relaxed);
            let missed = self.last.map_or(0, |last| number.saturating_sub(last + 1));
            self.metrics.missed.inc_by(missed);
            self.last = Some(number);
        }
        told.clone()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.metrics.viewers.dec();
    }
}

async fn next(mut listening: Listening) -> Option<(Result<Bytes, std::convert::Infallible>, Listening)> {
    let line = next_line(&mut listening).await?;
    Some((Ok(event(&line)), listening))
}

/// A listener that is slow misses figures and is never owed more than the last.
pub(super) async fn next_line(listening: &mut Listening) -> Option<Arc<str>> {
    loop {
        listening.told.changed().await.ok()?;
        match listening.take() {
            Told::Quiet => {}
            Told::Closed => return None,
            Told::Figures(line) => return Some(line),
        }
    }
}

/// One event of the HTML standard's `text/event-stream`: a line that is no list becomes a list of one.
fn event(line: &str) -> Bytes {
    let (open, close) = if line.starts_with('[') { ("", "") } else { ("[", "]") };
    format!("data: {open}{line}{close}\n\n").into()
}
