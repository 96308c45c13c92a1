//! HTTP/2 streams whose clients take nothing. A window that does not open holds a response, and with it what the response
//! comes from, for as long as its client likes, however well the connection does otherwise: such a stream is reset.
//!
//! hyper asks no body for more while it waits for a window, so that the stream's task is watched from outside. Progress
//! counts, not speed, as with sockets (see `stalled`). What is progress where streams wait for each other, `turn` says.

use std::{
    future::Future,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{
    task::futures::TaskLocalFuture,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    door_metrics::{DoorMetrics, Ended},
    http::Connection,
    turn::{Line, Look},
};

/// So much of a body's end may be left to its connection: waiting until it is written costs one more frame.
const TAIL_BYTES_MAX: u64 = 16 * 1024;

tokio::task_local! {
    /// Of the stream whose task runs.
    static PACE: Arc<Pace>;
    /// Of the connection whose task runs.
    static LINE: Arc<Line>;
}

/// What a stream was given, what its connection has written of it, and what nobody wants any more, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    given: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    all_written: AtomicWaker,
    line: Arc<Line>,
}

impl Pace {
    pub(crate) fn in_line(line: Arc<Line>) -> Arc<Self> {
        Arc::new(Self { line, ..Self::default() })
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn unwritten(&self) -> u64 {
        let settled = self.written().saturating_add(self.dropped.load(Ordering::Acquire));
        self.given.load(Ordering::Acquire).saturating_sub(settled)
    }

    pub(crate) fn piece(self: &Arc<Self>, bytes: Bytes) -> Piece {
        self.given.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        self.line.waits(bytes.len());
        Piece { bytes, pace: Arc::clone(self) }
    }

    fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::AcqRel);
        self.line.wrote(bytes);
        self.settled();
    }

    fn dropped(&self, bytes: usize) {
        if bytes > 0 {
            self.dropped.fetch_add(bytes as u64, Ordering::AcqRel);
            self.line.dropped(bytes);
            self.settled();
        }
    }

    fn settled(&self) {
        if self.unwritten() == 0 {
            self.all_written.wake();
        }
    }
}

/// Runs the streams of connections, each until it is done or its client has taken nothing for too long.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    patience: Duration,
    metrics: DoorMetrics,
}

impl Streams {
    pub(crate) fn new(patience: Duration, metrics: DoorMetrics) -> Self {
        Self { patience, metrics }
    }

    /// Runs the connection whose streams these are.
    pub(crate) async fn of<T>(&self, connection: &Arc<Connection>, serving: impl Future<Output = T>) -> T {
        let line = Line::new(Arc::clone(connection), self.patience, self.metrics.clone());
        let _end = line.end_when_dropped();
        LINE.scope(line, serving).await
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let pace = Pace::in_line(LINE.try_with(Arc::clone).unwrap_or_default());
        let stream = PACE.scope(Arc::clone(&pace), stream);
        drop(tokio::spawn(Watched { stream, pace, watch: None, streams: self.clone() }));
    }
}

pin_project! {
    /// A stream's task. It ends by itself, or when it is given up; then dropping it resets the stream.
    struct Watched<F> {
        #[pin]
        stream: TaskLocalFuture<Arc<Pace>, F>,
        pace: Arc<Pace>,
        watch: Option<Watch>,
        streams: Streams,
    }
}

/// What was seen last, and when the next look is. Left armed while all goes well: cheaper than one for each wait. A client has
/// so between one and two times of patience.
struct Watch {
    look: Look,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            if this.pace.unwritten() > 0 {
                this.pace.line.leave(Arc::clone(this.pace));
            }
            return Poll::Ready(());
        }
        while this.pace.unwritten() > 0 {
            let (pace, line) = (&*this.pace, &this.pace.line);
            let next = || Instant::now() + this.streams.patience;
            let watch = this.watch.get_or_insert_with(|| Watch {
                look: Look::new(pace.written(), line.seen()),
                timer: Box::pin(sleep_until(next())),
            });
            if watch.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            if watch.look.is_stalled(pace.written(), line.seen()) {
                tracing::debug!(written = pace.written(), "a stream is reset: its client has stopped taking it");
                this.streams.metrics.ended(Ended::WriteTimeout);
                return Poll::Ready(());
            }
            watch.timer.as_mut().reset(next());
        }
        Poll::Pending
    }
}

pin_project! {
    /// A response's body, counted. It ends when nearly all of it is written, so that its stream is watched until then.
    #[derive(Debug)]
    pub(crate) struct Paced<B> {
        #[pin]
        body: B,
        pace: Arc<Pace>,
        is_over: bool,
    }
}

impl<B> Paced<B> {
    /// In the task of the stream that it is for.
    pub(crate) fn new(body: B) -> Self {
        Self { body, pace: PACE.try_with(Arc::clone).unwrap_or_default(), is_over: false }
    }
}

impl<B: Body<Data = Bytes>> Body for Paced<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let this = self.project();
        if !*this.is_over && !this.body.is_end_stream() {
            match std::task::ready!(this.body.poll_frame(cx)) {
                Some(frame) => {
                    return Poll::Ready(Some(frame.map(|frame| frame.map_data(|bytes| this.pace.piece(bytes)))));
                }
                None => *this.is_over = true,
            }
        }
        this.pace.all_written.register(cx.waker());
        if this.pace.unwritten() > 0 { Poll::Pending } else { Poll::Ready(None) }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.pace.unwritten() <= TAIL_BYTES_MAX
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of a body, which tells its stream what is written of it.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    pace: Arc<Pace>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        self.pace.wrote(bytes);
    }
}

impl Drop for Piece {
    /// A stream that was reset has not been written.
    fn drop(&mut self) {
        self.pace.dropped(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pace: &Pace) -> (u64, u64, u64) {
        let seen = pace.line.seen();
        (pace.unwritten(), seen.waiting, seen.written)
    }

    #[test]
    fn pieces_are_written_or_dropped() {
        let line = Arc::<Line>::default();
        let (pace, sibling) = (Pace::in_line(Arc::clone(&line)), Pace::in_line(line));
        let (mut first, second) = (pace.piece(Bytes::from_static(b"12345")), pace.piece(Bytes::from_static(b"678")));
        let other = sibling.piece(Bytes::from_static(b"ab"));
        assert_eq!((counts(&pace), sibling.unwritten()), ((8, 10, 0), 2));
        first.advance(2);
        assert_eq!(counts(&pace), (6, 8, 2));
        drop(first);
        assert_eq!(counts(&pace), (3, 5, 2));
        drop((second, other));
        assert_eq!((counts(&pace), sibling.unwritten()), ((0, 0, 2), 0));
    }
}
