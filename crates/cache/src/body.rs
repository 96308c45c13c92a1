//! The body of a response on its way to the connection: from memory, from the store, from a flight or from upstream.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use perigee_upstream::{FetchErrorKind, UpstreamBody};

use crate::{
    inflight::{FETCH_BYTES, Held, Inflight, Outstanding},
    record::Recording,
};

/// A stream of body bytes.
pub(crate) type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Why a response is cut: the connection must not look as if it were complete.
#[derive(Debug, thiserror::Error)]
#[error("response cut: {0}")]
pub struct BodyError(pub &'static str);

/// A response's body. Dropping it completes the request's record.
#[derive(Debug)]
pub struct Body {
    source: Source,
    /// Bytes still to come, where known.
    remaining: Option<u64>,
    failure: Option<BodyError>,
    recording: Option<Box<Recording>>,
}

/// A body that is only passed on.
struct Relayed {
    body: UpstreamBody,
    inflight: Arc<Inflight>,
    /// Its pieces that the connection has yet to write; counted where the seat does not cover the whole body.
    outstanding: Option<Arc<Outstanding>>,
    _seat: Option<Held>,
}

enum Source {
    Empty,
    Whole(Bytes),
    Stream(ByteStream),
    Upstream(Box<Relayed>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Whole(_) => "Whole",
            Self::Stream(_) => "Stream",
            Self::Upstream(_) => "Upstream",
        })
    }
}

impl Body {
    fn new(source: Source, remaining: Option<u64>) -> Self {
        Self { source, remaining, failure: None, recording: None }
    }
    /// No bytes.
    pub fn empty() -> Self {
        Self::new(Source::Empty, Some(0))
    }
    /// These bytes.
    pub fn whole(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self::new(Source::Whole(bytes), Some(length))
    }
    /// What the stream yields; exactly `length` bytes where given.
    pub fn stream(stream: ByteStream, length: Option<u64>) -> Self {
        Self::new(Source::Stream(stream), length)
    }
    /// What the upstream sends, untouched.
    pub(crate) fn upstream(body: UpstreamBody, inflight: &Arc<Inflight>, seat: Option<Held>) -> Self {
        let length = http_body::Body::size_hint(&body).exact();
        let outstanding = length.is_none_or(|length| length > FETCH_BYTES).then(Arc::default);
        let relayed = Relayed { body, inflight: Arc::clone(inflight), outstanding, _seat: seat };
        Self::new(Source::Upstream(Box::new(relayed)), length)
    }
    pub(crate) fn recorded(mut self, recording: Box<Recording>) -> Self {
        self.recording = Some(recording);
        self
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Whole(_) => match std::mem::replace(&mut self.source, Source::Empty) {
                Source::Whole(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(bytes))),
                _ => Poll::Ready(None),
            },
            Source::Stream(stream) => stream.as_mut().poll_next(cx),
            Source::Upstream(relayed) => relayed.poll_piece(cx),
        }
    }
}

impl Relayed {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(outstanding) = &self.outstanding
            && self.inflight.is_short()
        {
            ready!(outstanding.poll_none(cx));
        }
        loop {
            return match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => Poll::Ready(None),
                Some(Err(error)) => Poll::Ready(Some(Err(BodyError(error.as_str())))),
                // Trailers are not passed on (RFC 9110 §6.5.1 lets an intermediary drop them).
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if self.outstanding.is_some() => {
                        Poll::Ready(Some(Ok(self.inflight.count(bytes, self.outstanding.as_ref()))))
                    }
                    Ok(bytes) => Poll::Ready(Some(Ok(bytes))),
                    Err(_) => continue,
                },
            };
        }
    }
}

use http_body::Body as _;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        match ready!(this.poll_source(cx)) {
            Some(Ok(bytes)) => {
                let length = bytes.len() as u64;
                this.remaining = this.remaining.map(|left| left.saturating_sub(length));
                if let Some(recording) = &mut this.recording {
                    recording.record.bytes += length;
                    recording.complete = this.remaining == Some(0);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(failure)) => {
                // One turn later, so that the connection first flushes what it holds: a cut client keeps what arrived.
                this.failure = Some(failure);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                if let Some(recording) = &mut this.recording {
                    // One that ends too early is cut by the connection.
                    recording.complete = this.remaining.is_none_or(|left| left == 0);
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Empty) && self.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // A body that never had bytes to send is complete without being polled (HEAD, 304, 204).
        let Some(recording) = &mut self.recording else { return };
        if self.remaining == Some(0) {
            recording.complete = true;
        } else if let Source::Upstream(relayed) = &self.source
            && relayed.body.gave_way()
        {
            recording.record.reason = FetchErrorKind::SlowClient.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::stream;
    use http_body_util::BodyExt;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{
        metrics::Metrics,
        record::{Record, Recorder, tests::record},
        tally::Place,
    };

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<(u64, bool)>>);

    impl Recorder for Kept {
        fn record(&self, record: &Record) {
            self.0.lock().unwrap().push((record.bytes, record.cut));
        }
    }

    /// What is recorded of a body that was asked for so many frames, its end included.
    async fn check(pieces: &[&'static str], length: Option<u64>, asked: usize, expected: (u64, bool)) {
        let kept = Arc::new(Kept::default());
        let recording = Recording {
            record: Record { bytes: 0, ..record() },
            began: std::time::Instant::now(),
            recorder: Arc::clone(&kept) as _,
            metrics: Metrics::register(&mut Registry::default()),
            site: Place::default(),
            answered: true,
            complete: false,
        };
        let given: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut body = Body::stream(Box::pin(stream::iter(given)), length).recorded(Box::new(recording));
        for _ in 0..asked {
            drop(body.frame().await);
        }
        drop(body);
        assert_eq!(*kept.0.lock().unwrap(), [expected], "{pieces:?} of {length:?}, {asked} asked");
    }

    /// A connection that is told less than it was promised cuts its client.
    #[tokio::test]
    async fn what_is_not_whole_is_recorded_as_cut() {
        check(&["ab", "cd"], Some(4), 2, (4, false)).await;
        check(&["ab", "cd"], Some(4), 1, (2, true)).await;
        check(&["ab"], Some(4), 2, (2, true)).await;
        check(&[], Some(4), 1, (0, true)).await;
        check(&[], Some(0), 0, (0, false)).await;
        check(&["ab"], None, 2, (2, false)).await;
        check(&["ab"], None, 1, (2, true)).await;
    }
}
