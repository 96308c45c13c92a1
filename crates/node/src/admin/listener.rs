//! The admin API's listener: so many connections, and none that nothing happens on.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Connections of one admin API at once; further ones wait unaccepted.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// How long a connection stays on which no byte goes either way: twice what scrapers usually leave between two questions.
pub(super) const IDLE_BOUND: Duration = Duration::from_secs(120);

/// A listener with room for so many.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, CONNECTIONS_MAX, IDLE_BOUND)
    }

    fn with(listener: TcpListener, connections_max: usize, idle: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections_max)), idle }
    }
}

impl Listener for Bounded {
    type Io = Lively;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Lively, SocketAddr) {
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let idle = Idle { timer: Box::pin(sleep(self.idle)), moved: Instant::now(), bound: self.idle };
        (Lively { stream, idle, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pin_project! {
    /// A connection that fails with [`io::ErrorKind::TimedOut`] when no byte has gone either way for a while: a reader that has
    /// stopped, a head that never ends, and a client that has gone without a word cost a place no longer than that.
    pub(super) struct Lively {
        #[pin]
        stream: TcpStream,
        idle: Idle,
        _place: Option<OwnedSemaphorePermit>,
    }
}

/// How long no byte has gone.
struct Idle {
    timer: Pin<Box<Sleep>>,
    moved: Instant,
    bound: Duration,
}

impl Idle {
    fn judge<R>(&mut self, polled: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        // Left armed while bytes go, and looks again when it fires.
        while self.timer.as_mut().poll(cx).is_ready() {
            let deadline = self.moved + self.bound;
            if deadline <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl AsyncRead for Lively {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.stream.poll_read(cx, buf);
        this.idle.judge(polled, cx)
    }
}

impl AsyncWrite for Lively {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.stream.poll_write(cx, buf);
        this.idle.judge(polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.stream.poll_write_vectored(cx, bufs);
        this.idle.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn serve(connections_max: usize, idle: Duration) -> SocketAddr {
        let listener = Bounded::with(TcpListener::bind("127.0.0.1:0").await.unwrap(), connections_max, idle);
        let address = listener.local_addr().unwrap();
        let unending = async || Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(vec![b'x'; 64 * 1024])));
        let router = Router::new().route("/", get(async || "ok")).route("/unending", get(unending));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn ask(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn whoever_says_nothing_or_stops_reading_is_let_go() {
        let address = serve(3, Duration::from_millis(200)).await;
        let silent = ask(address, "").await;
        let slow = ask(address, "GET / HTTP/1.1\r\nHo").await;
        // Reads nothing, and far more is sent than buffers hold.
        let stopped = ask(address, "GET /unending HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Accepted after them, when one of their places is free again.
        let mut said = String::new();
        let mut fourth = ask(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        fourth.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("ok"), "{said}");
        drop((silent, slow, stopped));
    }

    #[tokio::test]
    async fn one_more_waits_for_a_place() {
        let address = serve(1, IDLE_BOUND).await;
        let first = ask(address, "").await;
        let mut second = ask(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let early = tokio::time::timeout(Duration::from_millis(100), second.read_u8()).await;
        assert!(early.is_err(), "answered beside the first");
        drop(first);
        let mut said = String::new();
        second.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("ok"), "{said}");
    }
}
