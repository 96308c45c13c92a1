//! A client that stops reading: its connection is cut when its socket has taken nothing for a while.
//!
//! Progress counts, not speed: whoever takes a byte now and then is slow, not gone. What such a client holds meanwhile is
//! bounded by the engine's budget of bodies under way.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::http::Connection;

pin_project! {
    /// A client's socket. A write that has waited for too long fails with [`io::ErrorKind::TimedOut`].
    pub(crate) struct Stalling<T> {
        #[pin]
        stream: T,
        patience: Patience,
    }
}

/// How long a write has waited.
struct Patience {
    limit: Duration,
    since: Option<Instant>,
    /// Left armed while the socket takes what it is given, and looks again when it fires: cheaper than one for each wait.
    timer: Option<Pin<Box<Sleep>>>,
    connection: Arc<Connection>,
}

impl<T> Stalling<T> {
    /// Notes in the connection's `Activity` when it gives it up.
    pub(crate) fn new(stream: T, limit: Duration, connection: Arc<Connection>) -> Self {
        Self { stream, patience: Patience { limit, since: None, timer: None, connection } }
    }
}

impl Patience {
    fn judge<R>(&mut self, polled: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.since = None;
            return polled;
        }
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                self.connection.activity.stalled.store(true, Ordering::Relaxed);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client has stopped reading")));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl<T: AsyncRead> AsyncRead for Stalling<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite> AsyncWrite for Stalling<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.stream.poll_write(cx, buf);
        this.patience.judge(polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.stream.poll_write_vectored(cx, bufs);
        this.patience.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// TLS keeps what the socket does not take, and waits for it here.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.stream.poll_flush(cx);
        this.patience.judge(polled, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.stream.poll_shutdown(cx);
        this.patience.judge(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::{connections::Connections, metrics::ConnectionMetrics};

    fn pair(limit: Duration) -> (Stalling<DuplexStream>, DuplexStream, Arc<Connection>) {
        let (server, client) = duplex(4);
        let nowhere = ([127, 0, 0, 1], 0).into();
        let entry = Connections::new(1, ConnectionMetrics::default()).enter(0, nowhere, nowhere, false);
        let connection = Arc::clone(entry.connection());
        (Stalling::new(server, limit, Arc::clone(&connection)), client, connection)
    }

    fn stalled(connection: &Connection) -> bool {
        connection.activity.stalled.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut() {
        let limit = Duration::from_millis(50);
        let (mut server, _client, connection) = pair(limit);
        let began = Instant::now();
        let error = server.write_all(b"12345").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= limit && stalled(&connection));
    }

    #[tokio::test]
    async fn who_takes_a_byte_now_and_then_is_not() {
        let limit = Duration::from_secs(2);
        let (mut server, mut client, connection) = pair(limit);
        let reading = tokio::spawn(async move {
            for _ in 0..6 {
                tokio::time::sleep(limit / 5).await;
                client.read_exact(&mut [0]).await.unwrap();
            }
            client
        });
        let began = Instant::now();
        server.write_all(b"0123456789").await.unwrap();
        assert!(began.elapsed() > limit, "in less than the limit it could not have been cut");
        drop(reading.await.unwrap());
        assert!(!stalled(&connection));
    }
}
