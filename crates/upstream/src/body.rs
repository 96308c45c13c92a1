//! A response's content, which holds its connection until it ended, and fails rather than end early.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Attempt, FetchError, FetchErrorKind, Peer, exchange::Exchange, lease::Lease, metrics::ServerMetrics,
    server::kind_of,
};

/// A response's content. Yields data frames only (trailers are dropped, RFC 9110 §6.5.1), then ends; a body that did not
/// arrive whole is an `Err`, never a short body. Dropping it early closes its connection.
pub struct UpstreamBody {
    inner: Inner,
}

enum Inner {
    Scripted(Pin<Box<dyn Body<Data = Bytes, Error = FetchError> + Send>>),
    Network(Box<Network>),
}

impl UpstreamBody {
    /// All of it at once.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::from_body(Full::new(bytes.into()).map_err(|never| match never {}))
    }

    /// No content.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// Any body, for scripted upstreams.
    pub fn from_body(body: impl Body<Data = Bytes, Error = FetchError> + Send + 'static) -> Self {
        Self { inner: Inner::Scripted(Box::pin(body)) }
    }

    /// What a connection brings. It is kept for reuse after the body's end, if `reusable`.
    pub(crate) fn network(
        incoming: Incoming,
        lease: Lease,
        reusable: bool,
        limit: Duration,
        peer: &Peer,
        metrics: &ServerMetrics,
    ) -> Self {
        let exchange = lease.exchange().cloned();
        if let Some(exchange) = &exchange {
            // Nothing has been taken of it.
            exchange.waits(Instant::now());
        }
        let mut network = Network {
            incoming,
            exchange,
            lease: Some(lease),
            reusable,
            limit,
            waiting_since: None,
            timer: None,
            peer: peer.clone(),
            metrics: metrics.clone(),
            failed: false,
            finished: false,
            seen: None,
        };
        if network.incoming.is_end_stream() {
            network.finish();
        }
        Self { inner: Inner::Network(Box::new(network)) }
    }

    /// Whether its connection was taken away because its reader took nothing.
    pub fn gave_way(&self) -> bool {
        matches!(&self.inner, Inner::Network(network) if network.gave_way())
    }

    /// Lets go of `attempt` at the body's end, and tells it when it breaks off.
    pub(crate) fn seen_by(&mut self, attempt: Box<dyn Attempt>) {
        if let Inner::Network(network) = &mut self.inner
            && !network.finished
        {
            network.seen = Some(attempt);
        }
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamBody({:?})", self.size_hint())
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        match &mut self.get_mut().inner {
            Inner::Scripted(body) => body.as_mut().poll_frame(cx),
            Inner::Network(body) => body.poll_data(cx).map(|piece| piece.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Scripted(body) => body.is_end_stream(),
            Inner::Network(body) => !body.failed && body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Scripted(body) => body.size_hint(),
            Inner::Network(body) => body.incoming.size_hint(),
        }
    }
}

struct Network {
    incoming: Incoming,
    exchange: Option<Arc<Exchange>>,
    lease: Option<Lease>,
    reusable: bool,
    limit: Duration,
    /// Since when somebody waits for the next piece: a reader that takes its time is not the upstream's fault.
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    peer: Peer,
    metrics: ServerMetrics,
    failed: bool,
    finished: bool,
    seen: Option<Box<dyn Attempt>>,
}

impl Network {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FetchError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        loop {
            let polled = Pin::new(&mut self.incoming).poll_frame(cx);
            // After the look: however a connection looks that was closed on purpose, its body is not whole.
            if self.gave_way() {
                let failure = FetchError::new(FetchErrorKind::SlowClient);
                return Poll::Ready(Some(Err(self.fail(failure))));
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waiting_since = None;
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(exchange) = &self.exchange {
                        exchange.moved(data.len() as u64);
                        exchange.waits(Instant::now());
                    }
                    if self.incoming.is_end_stream() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    let failure = FetchError::new(kind_of(&error)).because(error);
                    return Poll::Ready(Some(Err(self.fail(failure))));
                }
                Poll::Pending => {
                    if let Some(exchange) = &self.exchange {
                        exchange.rests();
                    }
                    if self.poll_late(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let failure = FetchError::new(FetchErrorKind::BetweenBytesTimeout);
                    return Poll::Ready(Some(Err(self.fail(failure))));
                }
            }
        }
    }

    /// Whether it was cut to make way, rather than finished or failed before.
    fn gave_way(&self) -> bool {
        !self.finished && self.exchange.as_ref().is_some_and(|exchange| exchange.gave_way())
    }

    /// Ready when nothing came for `limit`. The timer is left armed while pieces come, and looks again when it fires: cheaper
    /// than setting it anew for each.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn finish(&mut self) {
        self.finished = true;
        self.seen = None;
        if let Some(lease) = self.lease.take().filter(|_| self.reusable) {
            lease.release();
        }
    }

    fn fail(&mut self, error: FetchError) -> FetchError {
        self.failed = true;
        self.lease = None;
        let mut seen = self.seen.take();
        if let Some(seen) = &mut seen {
            seen.failed(error.kind());
        }
        self.metrics.body_failed(error.kind());
        let error = error.at(&self.peer);
        let trace_id = seen.as_ref().and_then(|seen| seen.trace_id()).map(tracing::field::display);
        tracing::debug!(
            site = self.metrics.site(),
            error = &error as &dyn std::error::Error,
            trace_id,
            "body broke off"
        );
        error
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whose reader never came back.
        if !self.failed && self.gave_way() {
            let failure = FetchError::new(FetchErrorKind::SlowClient);
            self.fail(failure);
        }
    }
}
