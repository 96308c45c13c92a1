//! A request's content on its way out, watched, so that a time-out knows whom it waits for.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::{RequestBody, exchange::Exchange, message::BoxError};

/// What hyper sends: nothing, or a watched stream.
pub(crate) struct Upload(Option<(RequestBody, Arc<Watch>, Option<Arc<Exchange>>)>);

/// How far an upload is.
#[derive(Debug)]
pub(crate) struct Watch(Mutex<Progress>);

#[derive(Debug)]
pub(crate) struct Progress {
    /// When something last moved.
    pub(crate) moved: Instant,
    /// Whether the source was asked and had nothing yet.
    pub(crate) source_is_late: bool,
    /// What the source failed with.
    pub(crate) failure: Option<BoxError>,
}

impl Watch {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Progress) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whom a request waits for, some time after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nobody in particular: look again then.
    Until(Instant),
    /// The source of the content.
    Source,
    /// The server, which neither takes more nor answers.
    Server,
}

impl Progress {
    /// Who is to blame at `now`, if nothing may stand still for longer than `limit`.
    pub(crate) fn waiting(&self, limit: Duration, now: Instant) -> Waiting {
        match self.moved + limit {
            until if until > now => Waiting::Until(until),
            _ if self.source_is_late => Waiting::Source,
            _ => Waiting::Server,
        }
    }
}

impl Upload {
    /// `exchange` hears how it goes.
    pub(crate) fn new(body: Option<RequestBody>, exchange: Option<&Arc<Exchange>>) -> (Self, Option<Arc<Watch>>) {
        let Some(body) = body else { return (Self(None), None) };
        let progress = Progress { moved: Instant::now(), source_is_late: false, failure: None };
        let watch = Arc::new(Watch(Mutex::new(progress)));
        (Self(Some((body, Arc::clone(&watch), exchange.cloned()))), Some(watch))
    }

    /// The body again, of an upload that hyper handed back untouched.
    pub(crate) fn into_body(self) -> Option<RequestBody> {
        self.0.map(|(body, ..)| body)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((body, watch, exchange)) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let polled = body.0.as_mut().poll_frame(cx);
        watch.with(|progress| {
            progress.source_is_late = polled.is_pending();
            if polled.is_ready() {
                progress.moved = Instant::now();
            }
        });
        if let Some(exchange) = exchange {
            match &polled {
                Poll::Pending => exchange.waits(Instant::now()),
                Poll::Ready(Some(Ok(frame))) if !body.0.is_end_stream() => {
                    exchange.moved(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Poll::Ready(_) => exchange.rests(),
            }
        }
        match polled {
            Poll::Ready(Some(Err(error))) => {
                // hyper needs one error and the fetch another; it is not Clone.
                watch.with(|progress| progress.failure = Some(error));
                Poll::Ready(Some(Err("the request's content failed".into())))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, ..)| body.0.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |(body, ..)| body.0.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for() {
        let (moved, limit) = (Instant::now(), Duration::from_secs(15));
        let check = |source_is_late: bool, after: Duration, expected: Waiting| {
            let progress = Progress { moved, source_is_late, failure: None };
            assert_eq!(progress.waiting(limit, moved + after), expected, "{source_is_late} {after:?}");
        };
        let just_before = limit - Duration::from_millis(1);
        check(false, just_before, Waiting::Until(moved + limit));
        check(true, just_before, Waiting::Until(moved + limit));
        check(false, limit, Waiting::Server);
        check(true, limit, Waiting::Source);
    }
}
