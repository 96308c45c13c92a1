//! A client's socket, with or without TLS, and what is seen of it while it is used.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::http::Connection;

/// A client's socket.
pub(crate) enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            ClientStream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}

/// Notes in the connection's `Activity` what `timing` has to know.
pub(crate) struct Watched<T> {
    stream: T,
    /// Read before, and to be read again.
    given_back: Bytes,
    connection: Arc<Connection>,
}

impl<T> Watched<T> {
    pub(crate) fn new(stream: T, connection: Arc<Connection>) -> Self {
        Self { stream, given_back: Bytes::new(), connection }
    }

    /// The next reads bring these first.
    pub(crate) fn give_back(&mut self, bytes: &[u8]) {
        // What was given back before and is not all read again comes after them. A copy, since even no bytes at all of a
        // buffer keep the whole of it.
        self.given_back = [bytes, &*self.given_back].concat().into();
    }

    fn set_blocked(&self, blocked: bool) {
        let known = &self.connection.activity.blocked;
        if known.load(Ordering::Relaxed) != blocked {
            known.store(blocked, Ordering::Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.given_back.is_empty() {
            let count = self.given_back.len().min(buf.remaining());
            buf.put_slice(&self.given_back.split_to(count));
            self.connection.activity.reads.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.activity.reads.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.set_blocked(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.set_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        // Whoever is ending is not idle.
        self.set_blocked(ended.is_pending());
        ended
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::{connections::Connections, metrics::ConnectionMetrics};

    #[tokio::test]
    async fn what_is_given_back_is_read_again_in_order() {
        let nowhere = ([127, 0, 0, 1], 0).into();
        let entry = Connections::new(1, ConnectionMetrics::default()).enter(0, nowhere, nowhere, false);
        let (server, mut client) = duplex(64);
        let mut watched = Watched::new(server, Arc::clone(entry.connection()));
        client.write_all(b"fghi").await.unwrap();
        watched.give_back(b"cde");
        let mut two = [0; 2];
        watched.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"cd");
        watched.give_back(b"abcd");
        drop(client);
        let mut all = String::new();
        watched.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "abcdefghi");
    }
}
