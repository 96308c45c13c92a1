//! The admin API's listener: so many connections, of which a new one takes the place of whoever is said in `room`, and none
//! that nothing happens on.

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
    time::{Instant, Sleep, sleep},
};

use super::room::{AdminMetrics, Room, Seat};

/// Connections of one admin API at once; further ones take the place of others.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// How long a connection stays on which no byte goes either way: twice what scrapers usually leave between two questions.
pub(super) const IDLE_BOUND: Duration = Duration::from_secs(120);

/// A listener with room for so many.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    room: Arc<Room>,
    idle: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, metrics: AdminMetrics) -> Self {
        Self::with(listener, CONNECTIONS_MAX, IDLE_BOUND, metrics)
    }

    fn with(listener: TcpListener, connections_max: usize, idle: Duration, metrics: AdminMetrics) -> Self {
        Self { listener, room: Room::new(connections_max, metrics), idle }
    }
}

impl Listener for Bounded {
    type Io = Lively;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Lively, SocketAddr) {
        let permit = self.room.permit().await;
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let seat = self.room.enter(address.ip(), permit);
        let idle = Idle { timer: Box::pin(sleep(self.idle)), moved: Instant::now(), bound: self.idle, seat };
        (Lively { stream, idle }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pin_project! {
    /// A connection that fails with [`io::ErrorKind::TimedOut`] when no byte has gone either way for a while: a reader that has
    /// stopped, a head that never ends, and a client that has gone without a word cost a place no longer than that. One whose
    /// place is another's now fails with [`io::ErrorKind::ConnectionAborted`].
    pub(super) struct Lively {
        #[pin]
        stream: TcpStream,
        idle: Idle,
    }
}

/// How long no byte has gone.
struct Idle {
    timer: Pin<Box<Sleep>>,
    moved: Instant,
    bound: Duration,
    seat: Seat,
}

impl Idle {
    fn judge<R>(&mut self, polled: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            self.seat.moved();
            return polled;
        }
        if self.seat.is_lost(cx.waker()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
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

    async fn serve(connections_max: usize, idle: Duration) -> (SocketAddr, AdminMetrics) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = AdminMetrics::default();
        let listener = Bounded::with(listener, connections_max, idle, metrics.clone());
        let address = listener.local_addr().unwrap();
        let unending = async || Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(vec![b'x'; 64 * 1024])));
        let held = async || Body::from_stream(stream::pending::<io::Result<Vec<u8>>>());
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/unending", get(unending))
            .route("/held", get(held))
            .route("/never", get(std::future::pending::<&str>));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, metrics)
    }

    async fn ask(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    async fn ends(mut stream: TcpStream) {
        let mut rest = Vec::new();
        // By a reset where something was unread.
        let _end = stream.read_to_end(&mut rest).await;
    }

    #[tokio::test]
    async fn whoever_says_nothing_or_stops_reading_is_let_go() {
        let (address, metrics) = serve(9, Duration::from_millis(200)).await;
        for said in ["", "GET / HTTP/1.1\r\nHo"] {
            ends(ask(address, said).await).await;
        }
        let mut stopped = ask(address, "GET /unending HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Reads no more than that, and far more is sent than buffers hold.
        stopped.read_u8().await.unwrap();
        perigee_testkit::wait_until("its end", || metrics.open() == 0).await;
    }

    #[tokio::test]
    async fn a_new_one_takes_the_place_of_each_that_holds_one() {
        let (address, _) = serve(1, IDLE_BOUND).await;
        // Silent, in a head, idle, in an answer, before its answer, before its answer with more to be read.
        let held = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let heads = [String::new(), "GET / HTTP/1.1\r\nHo".into(), held("/"), held("/held"), held("/never")];
        for head in heads {
            let holds = ask(address, &head).await;
            let mut said = String::new();
            ask(address, GET).await.read_to_string(&mut said).await.unwrap();
            assert!(said.ends_with("ok"), "beside {head:?}: {said}");
            ends(holds).await;
        }
    }

    #[tokio::test]
    async fn one_that_cannot_be_ended_at_once_is_beside_the_new_one() {
        let (address, _) = serve(1, IDLE_BOUND).await;
        // Of more than one request nothing is read while the first is not answered: its end is not seen.
        let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
        let _holds = [ask(address, &never.repeat(2)).await, ask(address, &never.repeat(2)).await];
        let mut said = String::new();
        ask(address, GET).await.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("ok"), "{said}");
    }
}
