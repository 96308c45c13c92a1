//! HTTP/2 streams whose clients take nothing. A window that does not open holds a response, and with it what the response
//! comes from, for as long as its client likes, however well the connection does otherwise: such a stream is reset.
//!
//! hyper asks no body for more while it waits for a window, so that the stream's task is watched from outside. Progress
//! counts, not speed, as with sockets (see `stalled`).

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

use crate::door_metrics::{DoorMetrics, Ended};

/// So much of a body's end may be left to its connection: waiting until it is written costs one more frame.
const TAIL_BYTES_MAX: u64 = 16 * 1024;

tokio::task_local! {
    /// Of the stream whose task runs.
    static PACE: Arc<Pace>;
}

/// What a stream was given, and what its connection has written of it, in bytes.
#[derive(Debug, Default)]
struct Pace {
    given: AtomicU64,
    written: AtomicU64,
    all_written: AtomicWaker,
}

impl Pace {
    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn unwritten(&self) -> u64 {
        self.given.load(Ordering::Acquire).saturating_sub(self.written())
    }

    fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::AcqRel);
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
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let pace = Arc::<Pace>::default();
        let stream = PACE.scope(Arc::clone(&pace), stream);
        drop(tokio::spawn(Watched { stream, pace, look: None, streams: self.clone() }));
    }
}

pin_project! {
    /// A stream's task. It ends by itself, or when it is given up; then dropping it resets the stream.
    struct Watched<F> {
        #[pin]
        stream: TaskLocalFuture<Arc<Pace>, F>,
        pace: Arc<Pace>,
        look: Option<Look>,
        streams: Streams,
    }
}

/// What had been written at the last look, and when the next one is. Left armed while all goes well: cheaper than one for
/// each wait. A client has so between one and two times of patience.
struct Look {
    written: u64,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while this.pace.unwritten() > 0 {
            let written = this.pace.written();
            let next = || Instant::now() + this.streams.patience;
            let look = this.look.get_or_insert_with(|| Look { written, timer: Box::pin(sleep_until(next())) });
            if look.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            if look.written == written {
                tracing::debug!(written, "a stream is reset: its client has stopped taking it");
                this.streams.metrics.ended(Ended::WriteTimeout);
                return Poll::Ready(());
            }
            look.written = written;
            look.timer.as_mut().reset(next());
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

impl Pace {
    fn piece(self: &Arc<Self>, bytes: Bytes) -> Piece {
        self.given.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        Piece { bytes, pace: Arc::clone(self) }
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
