//! What a node tells of itself once a second, to whoever listens: `GET /v1/live`.

use std::{
    fmt, iter,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use ::http::{HeaderValue, StatusCode, header};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
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
    clients: Arc<Semaphore>,
    task: OnceLock<AbortHandle>,
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
        let feed = Arc::new(Self {
            told: watch::channel(Told::Quiet).0,
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

    /// Ends every stream, so that nobody's open page holds up an end, and lets the source go.
    pub fn close(&self) {
        self.told.send_replace(Told::Closed);
        if let Some(task) = self.task.get() {
            task.abort();
        }
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

pub(super) fn routes(feed: Arc<Feed>) -> Router {
    Router::new().route("/v1/live", get(live)).with_state(feed)
}

/// Each event is a JSON list of nodes, here of one.
async fn live(State(feed): State<Arc<Feed>>) -> Response {
    let Ok(permit) = Arc::clone(&feed.clients).try_acquire_owned() else {
        let message = "64 pages are open already; close one, or try again later";
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "too-many-pages", message);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return response;
    };
    let mut listener = feed.listen();
    // What was told last may be a second old: better than an empty page.
    listener.mark_changed();
    let first = stream::iter(iter::once(Ok::<_, std::convert::Infallible>(Bytes::from_static(b"retry: 2000\n\n"))));
    let events = stream::unfold((listener, permit), next);
    let mut response = Body::from_stream(futures_util::StreamExt::chain(first, events)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

type Listening = (watch::Receiver<Told>, OwnedSemaphorePermit);

/// A listener that is slow misses figures and is never owed more than the last.
async fn next((mut listener, permit): Listening) -> Option<(Result<Bytes, std::convert::Infallible>, Listening)> {
    loop {
        listener.changed().await.ok()?;
        let told = listener.borrow_and_update().clone();
        match told {
            Told::Quiet => {}
            Told::Closed => return None,
            Told::Figures(line) => return Some((Ok(event(&line)), (listener, permit))),
        }
    }
}

/// One event of the HTML standard's `text/event-stream`: a line that is no list becomes a list of one.
fn event(line: &str) -> Bytes {
    let (open, close) = if line.starts_with('[') { ("", "") } else { ("[", "]") };
    format!("data: {open}{line}{close}\n\n").into()
}
