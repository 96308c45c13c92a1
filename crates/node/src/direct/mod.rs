//! HTTP/1.1 without hyper, where it is simple: a plain GET or HEAD whose head came whole, answered at once by content that
//! is at hand. That is what a cache does nearly always, and hyper's state and steps are more than half of its work then.
//!
//! Everything else goes over to hyper: what was read is given back to be read again, and a request that the service has
//! begun to answer goes on there (`drive`). So the refusal of what is wrong, content, closing, chunks and time-outs of
//! heads are hyper's and `timing`'s alone, and there is one place for each. When hyper has nothing under way, the
//! connection comes back.
//!
//! A connection that waits for its client here holds no buffer: this is also how idle ones are kept.

mod encode;
mod head;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use ::http::{Method, Response};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

pub(crate) use self::head::Rules;
use crate::{
    answer::{Answering, PerConnection, answer},
    connections::Phase,
    cut::FlushBeforeCut,
    door_metrics::{DoorMetrics, Ended, Parked},
    drive::is_late,
    http::HttpService,
    stream::Watched,
};

/// What is read at once. A longer head is hyper's.
const INPUT_BYTES: usize = 16 * 1024;
/// Content of at most so many bytes is copied behind its head: dearer than the copy is a write of two pieces.
const COPY_BYTES_MAX: usize = 2 * 1024;
/// After so many requests other connections have their turn, as with hyper.
const REQUESTS_AT_ONCE: usize = 16;
/// What a core keeps for heads of responses.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// A core's buffers: used from a request's first byte to its answer's last, all within one turn.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

struct Scratch {
    input: [u8; INPUT_BYTES],
    output: Vec<u8>,
}

/// Why a connection is not served here any more.
pub(crate) enum Left<B: Body> {
    /// By its client, or by a drain while nothing was under way.
    Closed,
    /// Nothing came for too long.
    Late(Ended),
    /// In the middle; the reason where it was a limit.
    Cut(Option<Ended>),
    /// It is hyper's turn.
    Over(Over<B>),
}

/// What hyper takes over.
pub(crate) struct Over<B: Body> {
    /// The request that is the next to be read, where the service has it already.
    pub(crate) started: Option<Answering<B>>,
    /// The connection's requests before that.
    pub(crate) before: u64,
    /// How many of them were answered here since it came.
    pub(crate) served: u64,
}

/// What a connection is served with.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    pub(crate) rules: Rules,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) metrics: DoorMetrics,
}

impl Direct {
    /// Serves a connection that is between two requests, since then, or new.
    pub(crate) async fn serve<S: HttpService, T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        each: &Arc<PerConnection<S>>,
        stream: &mut Watched<T>,
        since: Instant,
    ) -> Left<S::Body> {
        let parked = Some(self.metrics.park());
        let mut turn =
            Turn { with: self, each, stream, since, unsent: None, served: 0, told: None, parked, armed: None };
        let mut alarm = pin!(sleep_until(since));
        poll_fn(|cx| turn.poll(alarm.as_mut(), cx)).await
    }
}

/// What a client's socket did not take yet.
struct Unsent {
    head: Vec<u8>,
    body: Bytes,
}

/// One stay of a connection.
struct Turn<'a, S, T> {
    with: &'a Direct,
    each: &'a Arc<PerConnection<S>>,
    stream: &'a mut Watched<T>,
    since: Instant,
    unsent: Option<Box<Unsent>>,
    served: u64,
    told: Option<Phase>,
    parked: Option<Parked>,
    armed: Option<Instant>,
}

/// What became of a request.
enum Answered<B: Body> {
    /// Its head was so long, and its answer is with the socket.
    Sent(usize),
    /// The same, but the socket has yet to take the rest.
    Waits(usize),
    Failed(io::Error),
    Over(Option<Answering<B>>),
}

impl<S: HttpService, T: AsyncRead + AsyncWrite + Unpin> Turn<'_, S, T> {
    fn poll(&mut self, alarm: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Left<S::Body>> {
        let control = self.each.connection.control();
        let mut phase = control.phase();
        // Each change of phase uses the waker up (see `drive::run`).
        while self.told != Some(phase) {
            control.register(cx.waker());
            self.told = Some(phase);
            phase = control.phase();
        }
        if phase == Phase::Aborted {
            return Poll::Ready(Left::Cut(None));
        }
        let empty = || Box::new(Scratch { input: [0; INPUT_BYTES], output: Vec::new() });
        let mut scratch = SCRATCH.take().unwrap_or_else(empty);
        let polled = self.poll_with(&mut scratch, cx);
        if scratch.output.capacity() <= OUTPUT_BYTES_MAX {
            SCRATCH.set(Some(scratch));
        }
        if polled.is_pending() && self.unsent.is_none() {
            return self.poll_idle(phase, alarm, cx);
        }
        polled
    }

    /// Nothing is under way.
    fn poll_idle(&mut self, phase: Phase, alarm: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Left<S::Body>> {
        // Those that have sent nothing yet have longer; see `Serving::drain`.
        let fresh = self.each.connection.requests() == 0;
        if phase == Phase::Closing || (phase == Phase::Draining && !fresh) {
            return Poll::Ready(Left::Closed);
        }
        let (limit, reason) = if fresh {
            (self.with.header_timeout, Ended::HeaderTimeout)
        } else {
            (self.with.idle_timeout, Ended::IdleTimeout)
        };
        if is_late(self.since + limit, alarm, &mut self.armed, cx) {
            return Poll::Ready(Left::Late(reason));
        }
        Poll::Pending
    }

    fn poll_with(&mut self, scratch: &mut Scratch, cx: &mut Context<'_>) -> Poll<Left<S::Body>> {
        if let Err(error) = ready!(self.poll_unsent(cx)) {
            return Poll::Ready(self.cut(&error));
        }
        let Scratch { input, output } = scratch;
        let mut turns = 0;
        loop {
            let mut read = ReadBuf::new(input);
            match ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Left::Closed),
            }
            let mut rest = read.filled();
            while !rest.is_empty() {
                if turns == REQUESTS_AT_ONCE {
                    self.stream.give_back(rest);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                turns += 1;
                let before = self.each.connection.requests();
                let answered = self.answer(rest, output, cx);
                let (Answered::Sent(length) | Answered::Waits(length)) = answered else {
                    return Poll::Ready(match answered {
                        Answered::Failed(error) => self.cut(&error),
                        Answered::Over(started) => {
                            self.stream.give_back(rest);
                            Left::Over(Over { started, before, served: self.served })
                        }
                        Answered::Sent(_) | Answered::Waits(_) => Left::Closed,
                    });
                };
                self.served += 1;
                rest = rest.get(length..).unwrap_or_default();
                if matches!(answered, Answered::Waits(_)) {
                    self.stream.give_back(rest);
                    return Poll::Pending;
                }
            }
        }
    }

    fn answer(&mut self, input: &[u8], output: &mut Vec<u8>, cx: &mut Context<'_>) -> Answered<S::Body> {
        let Some((request, length)) = head::read(input, self.with.rules) else { return Answered::Over(None) };
        let is_head = request.method() == Method::HEAD;
        let mut answering = answer(Arc::clone(self.each), request);
        let mut response = match answering.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => return Answered::Over(Some(answering)),
        };
        drop(answering);
        let Some(body) = encode::encode(output, is_head, &response).and_then(|bytes| take(&mut response, bytes, cx))
        else {
            return Answered::Over(Some(Box::pin(std::future::ready(Ok(response)))));
        };
        // All of it is in hand: its request is over, as it is for hyper once it has written all into its buffer.
        drop(response);
        self.since = Instant::now();
        let body = if body.len() <= COPY_BYTES_MAX {
            output.extend_from_slice(&body);
            Bytes::new()
        } else {
            body
        };
        self.send(output, body, length, cx)
    }

    fn send(&mut self, head: &[u8], mut body: Bytes, length: usize, cx: &mut Context<'_>) -> Answered<S::Body> {
        let mut left = head;
        match poll_send(self.stream, &mut left, &mut body, cx) {
            Poll::Ready(Ok(())) => Answered::Sent(length),
            Poll::Ready(Err(error)) => Answered::Failed(error),
            Poll::Pending => {
                // Who is sent something is not idle.
                self.parked = None;
                self.unsent = Some(Box::new(Unsent { head: left.to_vec(), body }));
                Answered::Waits(length)
            }
        }
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(unsent) = &mut self.unsent else { return Poll::Ready(Ok(())) };
        let Unsent { head, body } = &mut **unsent;
        let mut left = &**head;
        let sent = poll_send(self.stream, &mut left, body, cx);
        let taken = head.len() - left.len();
        head.drain(..taken);
        ready!(sent)?;
        self.unsent = None;
        self.parked = Some(self.with.metrics.park());
        self.since = Instant::now();
        Poll::Ready(Ok(()))
    }

    fn cut(&self, error: &io::Error) -> Left<S::Body> {
        let connection = &self.each.connection;
        if connection.activity.stalled.load(Ordering::Relaxed) {
            return Left::Cut(Some(Ended::WriteTimeout));
        }
        tracing::debug!(peer = %connection.peer(), %error, "a connection ended early");
        Left::Cut(None)
    }
}

/// The content of a response, exactly so many bytes. None where it is not at hand in one piece; then the response is as it
/// was.
fn take<B: Body<Data = Bytes> + Unpin>(
    response: &mut Response<FlushBeforeCut<B>>,
    bytes: u64,
    cx: &mut Context<'_>,
) -> Option<Bytes> {
    if bytes == 0 {
        return Some(Bytes::new());
    }
    let first = match Pin::new(response.body_mut()).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) if data.len() as u64 == bytes => return Some(data),
            Ok(data) => Poll::Ready(Some(Frame::data(data))),
            Err(other) => Poll::Ready(Some(other)),
        },
        // Too early: hyper cuts the connection.
        Poll::Ready(None) => Poll::Ready(None),
        // Its error, if it has one, it gives only later (see `cut`).
        Poll::Ready(Some(Err(_))) | Poll::Pending => Poll::Pending,
    };
    response.body_mut().rewind(first);
    None
}

/// Hands over a head and a body, as far as the socket takes them.
fn poll_send<T: AsyncWrite + Unpin>(
    stream: &mut T,
    head: &mut &[u8],
    body: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !(head.is_empty() && body.is_empty()) {
        let to = Pin::new(&mut *stream);
        let written = match (head.is_empty(), body.is_empty()) {
            (_, true) => to.poll_write(cx, head),
            (true, false) => to.poll_write(cx, body),
            (false, false) => to.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
        };
        let written = ready!(written)?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = written.min(head.len());
        *head = head.get(of_head..).unwrap_or_default();
        body.advance((written - of_head).min(body.len()));
    }
    Pin::new(stream).poll_flush(cx)
}
