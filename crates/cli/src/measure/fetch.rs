//! One fetch over HTTP/1.1 or HTTP/2, its phases timed apart.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::{net::TcpSocket, task::AbortHandle, time::timeout};
use tokio_rustls::TlsConnector;
use xxhash_rust::xxh3::Xxh3;

use super::target::Target;
use crate::tls::{Stream, config};

/// RFC 9113 §3.1
const H2: &[u8] = b"h2";

/// Opens connections.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsConnector,
    /// Of each fetch, and of opening a connection.
    timeout: Duration,
    size_max: u64,
}

/// The half of a connection that asks.
enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Two(sender) => sender.send_request(request).await,
        }
    }
}

/// A connection, and what opening it took.
pub(super) struct Line {
    sender: Sender,
    driver: AbortHandle,
    /// Requests that went over it.
    asked: usize,
    pub(super) connect: Duration,
    /// None without TLS.
    pub(super) tls: Option<Duration>,
    timeout: Duration,
    size_max: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What came.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) status: u16,
    pub(super) is_http2: bool,
    pub(super) headers: HeaderMap,
    /// Of the content, as it came over the line.
    pub(super) bytes: u64,
    pub(super) digest: u128,
    /// From the request to the head of the answer.
    pub(super) first_byte: Duration,
    /// From the request to the end.
    pub(super) total: Duration,
    /// The beginning of the content, as far as was wished for.
    pub(super) kept: Vec<u8>,
}

/// What a fetch wants besides timing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep {
    /// Bytes of the content.
    pub(super) bytes_max: usize,
}

impl Client {
    /// Trusts the authorities of a PEM file, or the public ones as bundled.
    pub(super) fn new(ca: Option<&Path>, http2: bool, timeout: Duration, size_max: u64) -> anyhow::Result<Self> {
        let mut config = config(ca)?;
        // Every fresh connection is a stranger's: a resumed one would be a round trip or a signature cheaper.
        config.resumption = rustls::client::Resumption::disabled();
        // RFC 7301: whoever wants to be asked otherwise says so here, and not by an answer that nobody reads.
        let protocols: &[&[u8]] = if http2 { &[H2, b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self { tls: Arc::new(config).into(), timeout, size_max })
    }

    /// Connects to the first of the target's addresses that takes a connection, from that address; says to which.
    pub(super) async fn open_any(
        &self,
        target: &Target,
        addresses: &[IpAddr],
        from: Option<IpAddr>,
    ) -> anyhow::Result<(Line, IpAddr)> {
        let mut failed = anyhow!("{} has no address", target.host);
        for address in addresses {
            match self.open(target, *address, from).await {
                Ok(line) => return Ok((line, *address)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Connects to that address of the target, from that address.
    pub(super) async fn open(&self, target: &Target, address: IpAddr, from: Option<IpAddr>) -> anyhow::Result<Line> {
        let address = SocketAddr::new(address, target.port);
        let opened = timeout(self.timeout, self.handshakes(target, address, from)).await;
        opened
            .map_err(|_| anyhow!("{address} takes no connection within {:?}", self.timeout))?
            .with_context(|| format!("cannot connect to {address}"))
    }

    async fn handshakes(&self, target: &Target, address: SocketAddr, from: Option<IpAddr>) -> anyhow::Result<Line> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from.filter(|from| from.is_ipv4() == address.is_ipv4()) {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let began = Instant::now();
        let tcp = socket.connect(address).await?;
        let connect = began.elapsed();
        tcp.set_nodelay(true)?;
        let (stream, tls, is_two): (Box<dyn Stream>, _, _) = if target.is_tls {
            let began = Instant::now();
            let name = target.tls_name();
            let refused = || format!("the TLS handshake for {name} fails");
            let name = ServerName::try_from(name.to_owned()).with_context(refused)?;
            let stream = self.tls.connect(name, tcp).await.with_context(refused)?;
            let is_two = stream.get_ref().1.alpn_protocol() == Some(H2);
            (Box::new(stream), Some(began.elapsed()), is_two)
        } else {
            (Box::new(tcp), None, false)
        };
        // A connection's error is told by the request that it breaks.
        let (sender, driver) = if is_two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            (Sender::Two(sender), tokio::spawn(async move { connection.await.unwrap_or_default() }))
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            (Sender::One(sender), tokio::spawn(async move { connection.await.unwrap_or_default() }))
        };
        let driver = driver.abort_handle();
        Ok(Line { sender, driver, asked: 0, connect, tls, timeout: self.timeout, size_max: self.size_max })
    }
}

/// Whether that is what it looks like when a server closes a kept connection while a request is on its way to it
/// (RFC 9112 §9.3.1), which a new connection makes good.
pub(super) fn was_closed(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    causes.any(|cause| cause.is_incomplete_message() || cause.is_closed() || cause.is_canceled())
}

/// The connection, if there is one that another request can go over.
pub(super) async fn usable(line: Option<Line>) -> Option<Line> {
    let mut line = line?;
    line.sender.is_ready().await.then_some(line)
}

impl Line {
    /// Whether requests went over it before, so that the server may have closed it while the next one was on its way.
    pub(super) fn is_used(&self) -> bool {
        self.asked > 0
    }

    /// Fetches a path with its query.
    pub(super) async fn get(&mut self, target: &Target, path: &str, keep: Keep) -> anyhow::Result<Fetched> {
        let limit = self.timeout;
        self.asked += 1;
        let got = timeout(limit, self.exchange(target, path, keep)).await;
        got.map_err(|_| anyhow!("{} takes longer than {limit:?}", target.url(path)))?
            .with_context(|| format!("cannot fetch {}", target.url(path)))
    }

    async fn exchange(&mut self, target: &Target, path: &str, keep: Keep) -> anyhow::Result<Fetched> {
        // gzip alone, which everybody has: what is compared is compressed in one way.
        let request = match &self.sender {
            Sender::One(_) => Request::get(path).header(header::HOST, &target.authority),
            // RFC 9113 §8.3.1: the authority stands in a field of its own.
            Sender::Two(_) => Request::get(target.url(path)).version(http::Version::HTTP_2),
        };
        let request = request
            .header(header::USER_AGENT, concat!("perigee-measure/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "gzip")
            .body(Empty::new())?;
        let began = Instant::now();
        let response = self.sender.send(request).await?;
        let first_byte = began.elapsed();
        let (head, mut body) = response.into_parts();
        let (mut bytes, mut digest, mut kept) = (0_u64, Xxh3::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            bytes = bytes.saturating_add(piece.len() as u64);
            ensure!(bytes <= self.size_max, "it is larger than {} bytes (see --size-max)", self.size_max);
            digest.update(&piece);
            let room = keep.bytes_max.saturating_sub(kept.len()).min(piece.len());
            kept.extend_from_slice(piece.get(..room).unwrap_or_default());
        }
        Ok(Fetched {
            status: head.status.as_u16(),
            is_http2: head.version == http::Version::HTTP_2,
            headers: head.headers,
            bytes,
            digest: digest.digest128(),
            first_byte,
            total: began.elapsed(),
            kept,
        })
    }
}

/// Whether this machine has that address.
pub(super) fn is_ours(address: IpAddr) -> io::Result<bool> {
    match std::net::UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}
