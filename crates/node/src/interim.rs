//! Interim responses (1xx) to a client: hyper's server has no way to send them, so they are written beneath it, at the
//! moments when its own buffer is empty.

use std::{
    fmt::Write as _,
    io,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use ::http::{HeaderMap, StatusCode};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::Connection;

/// What waits for a client may have so many bytes; more is dropped.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// The interim responses that wait on one connection.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    /// Read at every flush, so that connections without any pay no lock there.
    waiting: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The request that is being answered, while its final response has not begun.
    request: Option<u64>,
    bytes: Vec<u8>,
    written: usize,
    /// The connection's task.
    task: Option<Waker>,
}

impl Interims {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready at once: from here on interim responses to this request are sent.
    pub(crate) fn poll_open(&self, request: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        state.request = Some(request);
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        Poll::Ready(())
    }

    /// Ready once all that came are written; none is taken after that.
    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        state.request = None;
        if state.bytes.is_empty() {
            return Poll::Ready(());
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queues one; nothing if the request is not the one being answered.
    pub(crate) fn push(&self, request: u64, status: StatusCode, headers: &HeaderMap) {
        // RFC 9110 §15.2: 100 and 101 are about one hop.
        if !status.is_informational() || matches!(status.as_u16(), 100 | 101) {
            return;
        }
        let mut state = self.lock();
        if state.request != Some(request) || state.bytes.len() > WAITING_BYTES_MAX {
            return;
        }
        let mut line = String::new();
        let _infallible = write!(line, "HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or(""));
        state.bytes.extend_from_slice(line.as_bytes());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                state.bytes.extend_from_slice(part);
            }
        }
        state.bytes.extend_from_slice(b"\r\n");
        self.waiting.store(true, Ordering::Release);
        let task = state.task.clone();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    fn poll_write(&self, stream: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = stream;
        let mut state = self.lock();
        let state = &mut *state;
        while let Some(rest) = state.bytes.get(state.written..).filter(|rest| !rest.is_empty()) {
            match stream.as_mut().poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => state.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        state.bytes.clear();
        state.written = 0;
        self.waiting.store(false, Ordering::Release);
        if state.request.is_none()
            && let Some(task) = &state.task
        {
            task.wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

pin_project! {
    /// A client's socket, with its interim responses.
    pub(crate) struct WithInterims<T> {
        #[pin]
        stream: T,
        connection: std::sync::Arc<Connection>,
    }
}

impl<T> WithInterims<T> {
    pub(crate) fn new(stream: T, connection: std::sync::Arc<Connection>) -> Self {
        Self { stream, connection }
    }
}

impl<T: AsyncRead> AsyncRead for WithInterims<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite> AsyncWrite for WithInterims<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when all that it wrote is with the socket: only then is there no response's middle to fall into.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let interims = this.connection.interims();
        if interims.waiting.load(Ordering::Acquire) {
            std::task::ready!(interims.poll_write(this.stream.as_mut(), cx))?;
        }
        this.stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}
