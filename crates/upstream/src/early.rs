//! Servers that answer before they have read the whole request (RFC 9112 §9.5), say 413, and close.
//!
//! What is still being sent then fails, while the answer waits to be read. hyper gives a connection up at the first write
//! that fails, and the answer with it; so here a lost way out is only silent, and the way in tells how it ended.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose writes never fail because the other side has closed: they wait for what reading brings, the answer or
/// the end.
#[derive(Debug)]
pub(crate) struct Readable<T> {
    socket: T,
    /// The other side takes nothing any more.
    deaf: bool,
}

impl<T> Readable<T> {
    pub(crate) fn new(socket: T) -> Self {
        Self { socket, deaf: false }
    }

    fn write<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>>
    where
        T: Unpin,
    {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if self.deaf {
            return Poll::Pending;
        }
        match write(Pin::new(&mut self.socket), cx) {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                self.deaf = true;
                // A read is always under way beside a write: it looks at once what there is, and is woken by what comes.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Readable<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Readable<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |socket, cx| socket.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |socket, cx| socket.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write(cx, |socket, cx| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;

    /// The answer comes between a look whether there is one and the write that fails.
    #[derive(Debug, Default)]
    struct Broken {
        written: bool,
        answer: Option<&'static [u8]>,
    }

    impl AsyncRead for Broken {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if !self.written {
                return Poll::Pending;
            }
            buffer.put_slice(self.answer.take().unwrap_or_default());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.written = true;
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn status(answer: &'static [u8]) -> hyper::Result<u16> {
        let socket = Broken { written: false, answer: Some(answer) };
        let (mut sender, connection) = http1::handshake(TokioIo::new(Readable::new(socket))).await?;
        tokio::spawn(connection);
        let content = Full::new(Bytes::from_static(&[1; 100_000]));
        Ok(sender.send_request(Request::post("/").body(content).unwrap()).await?.status().as_u16())
    }

    #[tokio::test]
    async fn what_the_server_said_is_read_after_a_write_failed() {
        assert_eq!(status(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap(), 413);
        assert!(status(b"").await.is_err());
    }
}
