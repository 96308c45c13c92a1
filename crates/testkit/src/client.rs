//! A client that asks exactly what it is told and keeps everything that came back.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{patiently, sha256};

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// All fields.
    pub headers: HeaderMap,
    /// The content, or what came of it.
    pub body: Bytes,
    /// Why the content ended before it was whole, if it did.
    pub cut: Option<String>,
    /// What the server speaks.
    pub version: Version,
}

impl Response {
    /// The first field of that name as text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content's SHA-256 in hexadecimal digits.
    pub fn sha256(&self) -> String {
        sha256(&self.body)
    }
}

/// A GET over a connection of its own.
pub async fn get(server: SocketAddr, host: &str, target: &str) -> Response {
    Connection::open(server).await.send(Method::GET, host, target, &[]).await
}

/// A GET with fields of the test's own, over a connection of its own.
pub async fn get_with(server: SocketAddr, host: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    Connection::open(server).await.send(Method::GET, host, target, headers).await
}

/// A HEAD over a connection of its own.
pub async fn head(server: SocketAddr, host: &str, target: &str) -> Response {
    Connection::open(server).await.send(Method::HEAD, host, target, &[]).await
}

/// Writes `bytes`, closes the sending side, and reads until the server closes: what a server makes of input that no
/// client library would send.
pub async fn raw(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    patiently("the server closing a raw connection", async {
        let mut socket = TcpStream::connect(server).await.expect("connect");
        let mut answer = Vec::new();
        // A server may close before it has read everything: what it said before counts.
        if socket.write_all(bytes).await.is_ok() {
            drop(socket.shutdown().await);
        }
        drop(socket.read_to_end(&mut answer).await);
        answer
    })
    .await
}

/// One request over HTTP/2, on a stream of the test's own making; `url` is absolute.
pub async fn ask_h2<T>(stream: T, method: Method, url: &str, headers: &[(&str, &str)]) -> Response
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("an HTTP/2 handshake");
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).expect("a request that hyper can send");
    let response = patiently("a response head", sender.send_request(request)).await.expect("a response head");
    let (head, body) = response.into_parts();
    let exchange = Exchange { status: head.status, headers: head.headers, version: head.version, body };
    let response = exchange.finish().await;
    connection.abort();
    response
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects.
    pub async fn open(server: SocketAddr) -> Self {
        let socket = patiently("connecting", TcpStream::connect(server)).await.expect("connect");
        Self::over(socket).await
    }

    /// Connects from `source`, an address of this machine (any of 127.0.0.0/8 on Linux).
    pub async fn open_from(source: std::net::IpAddr, server: SocketAddr) -> Self {
        let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
        socket.bind((source, 0).into()).expect("bind the source address");
        Self::over(patiently("connecting", socket.connect(server)).await.expect("connect")).await
    }

    async fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("nodelay");
        Self::over_stream(socket).await
    }

    /// Over a stream of the test's own making, say one of TLS.
    pub async fn over_stream<T>(socket: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("handshake");
        tokio::spawn(async move {
            // How it ended shows in the exchanges over it.
            drop(connection.await);
        });
        Self { sender }
    }

    /// Sends a request without content and reads the whole answer.
    pub async fn send(&mut self, method: Method, host: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send_body(method, host, target, headers, Bytes::new()).await
    }

    /// Sends a request with content and reads the whole answer.
    pub async fn send_body(
        &mut self,
        method: Method,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(target).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request that hyper can send");
        self.begin(request).await.finish().await
    }

    /// Sends a request and waits for the head alone.
    pub async fn begin(&mut self, request: Request<Full<Bytes>>) -> Exchange {
        patiently("the connection being ready", self.sender.ready()).await.expect("the connection is open");
        let response = patiently("a response head", self.sender.send_request(request)).await.expect("a response head");
        let (head, body) = response.into_parts();
        Exchange { status: head.status, headers: head.headers, version: head.version, body }
    }

    /// Sends a GET and waits for the head alone.
    pub async fn begin_get(&mut self, host: &str, target: &str) -> Exchange {
        let request = Request::get(target).header("host", host).body(Full::default());
        self.begin(request.expect("a request that hyper can send")).await
    }
}

/// A response whose content is still to be read.
#[derive(Debug)]
pub struct Exchange {
    /// The status.
    pub status: StatusCode,
    /// All fields.
    pub headers: HeaderMap,
    /// What the server speaks.
    pub version: Version,
    body: Incoming,
}

impl Exchange {
    /// The next piece of content; none at its proper end; an error text where it was cut.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match patiently("a piece of content", self.body.frame()).await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => continue,
                },
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }

    /// Reads the rest.
    pub async fn finish(mut self) -> Response {
        let (mut body, mut cut) = (BytesMut::new(), None);
        while let Some(piece) = self.next().await {
            match piece {
                Ok(data) => body.extend_from_slice(&data),
                Err(error) => {
                    cut = Some(error);
                    break;
                }
            }
        }
        Response { status: self.status, headers: self.headers, body: body.freeze(), cut, version: self.version }
    }
}
