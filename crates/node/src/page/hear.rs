//! Another node's figures, heard over its `/v1/live` while somebody looks at the page.
//!
//! Whatever the other node does costs this one a connection and a bounded event: no answer, a slow one, too much, too
//! often, or something else than figures ends in a [`Trouble`] that the page shows, and in a new try later.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::http::{Request, header};
use bytes::Bytes;
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    events::Events,
    told::{self, Node, World},
};
use crate::{clock, report};

/// How long another node may take to accept a connection, and then to answer.
pub(super) const ANSWER_BOUND: Duration = Duration::from_secs(3);
/// How long it may tell nothing; it should each second.
const SILENCE_BOUND: Duration = Duration::from_secs(10);
/// Faster than so it is not listened to.
const EVENT_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// Between two tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// Longest reason that is shown.
const WHY_CHARS_MAX: usize = 160;

/// Why nothing is heard from a node.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{}", word(.0))]
    Connect(#[source] io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("no figures for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("answers {0}")]
    Status(u16),
    #[error("answers no events: that is no node's admin listener")]
    NoEvents,
    #[error("tells what no node tells: {0}")]
    Figures(#[source] serde_json::Error),
    #[error("tells more than {} KiB at once", super::events::EVENT_BYTES_MAX / 1024)]
    TooLong,
    #[error("ended")]
    Ended,
    #[error("broke off: {}", report::line(.0))]
    Broke(#[source] hyper::Error),
}

/// The system's words without its number.
fn word(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => error.to_string(),
    }
}

/// A node elsewhere, and what is known of it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    heard: Mutex<Heard>,
}

/// What a node told last.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) at_ms: u64,
    /// Of the document; the same for the same.
    pub(super) world: Option<u64>,
    pub(super) node: Box<Node>,
}

/// What is known of it now.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) told: Option<Last>,
    /// Since when it is not heard, and why.
    pub(super) away: Option<(u64, String)>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, heard: Mutex::default() })
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hears(&self, node: Node) {
        let mut heard = self.heard();
        if heard.away.take().is_some() {
            tracing::info!(node = %self.address, "the page hears the node again");
        }
        let world = node.world.as_ref().map(World::fingerprint);
        heard.told = Some(Last { at_ms: clock::now_ms(), world, node: Box::new(node) });
    }

    /// Since it was heard last it counts as away, else since now.
    fn loses(&self, why: &Trouble) {
        // What is said may quote what was told.
        let why: String = why.to_string().chars().filter(|char| !char.is_control()).take(WHY_CHARS_MAX).collect();
        let mut heard = self.heard();
        let is_new = heard.away.as_ref().is_none_or(|(_, known)| *known != why);
        if is_new {
            tracing::info!(node = %self.address, why, "the page does not hear the node");
        }
        let known = heard.away.as_ref().map(|(since, _)| *since);
        let since = known.or_else(|| heard.told.as_ref().map(|last| last.at_ms)).unwrap_or_else(clock::now_ms);
        heard.away = Some((since, why));
    }

    fn forget(&self) {
        *self.heard() = Heard::default();
    }

    /// Listens while somebody looks, that is while `wanted` is true; returns when its sender is gone.
    pub(super) async fn follow(self: Arc<Self>, mut wanted: watch::Receiver<bool>) {
        loop {
            if wanted.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.listen_again_and_again() => {}
                ended = wanted.wait_for(|wanted| !*wanted) => {
                    self.forget();
                    if ended.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn listen_again_and_again(&self) {
        let (mut pause, longest) = PAUSES;
        loop {
            let began = Instant::now();
            let Err(trouble) = self.listen().await;
            self.loses(&trouble);
            if began.elapsed() > longest {
                pause = PAUSES.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn listen(&self) -> Result<std::convert::Infallible, Trouble> {
        let stream = TcpStream::connect(self.address);
        let stream = timeout(ANSWER_BOUND, stream).await.map_err(|_| Trouble::Slow(ANSWER_BOUND))?;
        let stream = TokioIo::new(stream.map_err(Trouble::Connect)?);
        let (sender, connection) = http1::handshake(stream).await.map_err(Trouble::Broke)?;
        let mut hearing = std::pin::pin!(self.hear(sender));
        tokio::select! {
            biased;
            ended = &mut hearing => ended,
            // What had come before the end is still there to be read.
            ended = connection => match ended {
                Ok(()) => hearing.await,
                Err(error) => Err(Trouble::Broke(error)),
            },
        }
    }

    async fn hear(&self, mut sender: SendRequest<String>) -> Result<std::convert::Infallible, Trouble> {
        let request = Request::get("/v1/live?only=self").header(header::HOST, self.address.to_string());
        let request = request.header(header::ACCEPT, EVENT_STREAM).body(String::new()).unwrap_or_default();
        let response = timeout(ANSWER_BOUND, sender.send_request(request)).await;
        let response = response.map_err(|_| Trouble::Slow(ANSWER_BOUND))?.map_err(Trouble::Broke)?;
        if response.status() != 200 {
            return Err(Trouble::Status(response.status().as_u16()));
        }
        let kind = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !kind.starts_with(EVENT_STREAM.as_bytes()) {
            return Err(Trouble::NoEvents);
        }
        let mut body = response.into_body();
        let mut events = Events::default();
        let mut silence = Instant::now() + SILENCE_BOUND;
        loop {
            // Of an event, not of a byte: what dribbles is silent, too.
            let piece = timeout_at(silence, next(&mut body)).await.map_err(|_| Trouble::Silent(SILENCE_BOUND))??;
            let Some(event) = events.push(&piece).map_err(|_| Trouble::TooLong)? else { continue };
            self.hears(told::read(&event).map_err(Trouble::Figures)?);
            silence = Instant::now() + SILENCE_BOUND;
            sleep_until(Instant::now() + EVENT_INTERVAL_MIN).await;
        }
    }
}

const EVENT_STREAM: &str = "text/event-stream";

/// The next piece of a body that should not end.
async fn next(body: &mut Incoming) -> Result<Bytes, Trouble> {
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await;
        let frame = frame.ok_or(Trouble::Ended)?.map_err(Trouble::Broke)?;
        if let Ok(data) = frame.into_data() {
            return Ok(data);
        }
    }
}
