//! What comes before a connection's first request: the PROXY protocol's header, the TLS handshake, the choice of HTTP's
//! version. Each with a bound in time, in the connection's own task.

use std::{io, sync::Arc, time::Duration};

use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use crate::{
    client_cap::{ClientCap, Place},
    connections::{Entry, Phase},
    door_metrics::{DoorMetrics, Ended, HandshakeKind, Protocol},
    drive::Protocols,
    http::{Connection, HttpService},
    proxy_protocol::{self, Progress},
    room::{Room, Share},
    stream::ClientStream,
};

/// Enough of HTTP/2's preface (RFC 9113 §3.4) to tell it from any request: no method may be called PRI.
const PREFACE: &[u8; 4] = b"PRI ";
/// A client that sends less than that at first is looked at again after this.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// What all connections of one listener and core go through.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) proxies: Arc<[IpNet]>,
    pub(crate) metrics: DoorMetrics,
    pub(crate) client_cap: Option<Arc<ClientCap>>,
    pub(crate) room: Arc<Room>,
    pub(crate) protocols: Protocols,
}

/// A connection that may speak HTTP.
struct Ready {
    stream: ClientStream,
    protocol: Protocol,
    places: (Option<Place>, Option<Share>),
}

/// Why a connection never spoke HTTP; None: its client went away.
type Refused = Option<Ended>;

impl Door {
    pub(crate) fn with_tls(&self, config: Option<Arc<ServerConfig>>) -> Self {
        Self { tls: config.map(TlsAcceptor::from), ..self.clone() }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves a connection to its end.
    pub(crate) async fn open<S: HttpService>(&self, service: Arc<S>, stream: TcpStream, entry: &Entry) {
        let connection = entry.connection();
        // Boxed, each: what an idle connection holds is its protocol's state, not the largest of all that it went through.
        let prepare = Box::pin(self.prepare(stream, connection));
        let ready = tokio::select! {
            biased;
            // A drain leaves new connections the time to send a request; see `Serving::drain`.
            () = connection.control().reached(Phase::Closing) => return,
            ready = prepare => ready,
        };
        let Ready { stream, protocol, places: _places } = match ready {
            Ok(ready) => ready,
            Err(Some(reason)) => {
                tracing::debug!(peer = %connection.peer(), reason = reason.as_str(), "a connection was refused");
                return self.metrics.ended(reason);
            }
            Err(None) => return,
        };
        self.metrics.speaks(protocol, connection.is_secure());
        let ended = match protocol {
            Protocol::Http1 => Box::pin(self.protocols.http1(service, stream, connection)).await,
            Protocol::Http2 => Box::pin(self.protocols.http2(service, stream, connection)).await,
        };
        if let Some(reason) = ended {
            self.metrics.ended(reason);
        }
    }

    async fn prepare(&self, mut stream: TcpStream, connection: &Connection) -> Result<Ready, Refused> {
        let peer = connection.peer().ip().to_canonical();
        if self.proxies.iter().any(|prefix| prefix.contains(&peer)) {
            let named = timeout(self.handshake_timeout, proxied(&mut stream)).await;
            if let Some(client) = named.map_err(|_| Some(Ended::ProxyTimeout))?? {
                connection.set_proxied(client);
            }
        }
        let place = match &self.client_cap {
            Some(cap) => Some(cap.enter(connection.peer().ip()).ok_or(Some(Ended::ClientLimit))?),
            None => None,
        };
        let share = self.room.share(connection.peer().ip()).ok_or(Some(Ended::ClientLimit))?;
        let (stream, protocol) = match &self.tls {
            Some(acceptor) => self.handshake(acceptor, stream, connection).await?,
            None => {
                let h2 = timeout(self.header_timeout, begins_as_h2(&stream)).await;
                let h2 = h2.map_err(|_| Some(Ended::HeaderTimeout))?.map_err(|_| None)?;
                (ClientStream::Plain(stream), if h2 { Protocol::Http2 } else { Protocol::Http1 })
            }
        };
        Ok(Ready { stream, protocol, places: (place, share) })
    }

    /// Of handshakes there are as many at once as connections: one that waits for its client costs what an idle connection
    /// costs, and were others to wait for it, those who say nothing would keep everybody out.
    async fn handshake(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
        connection: &Connection,
    ) -> Result<(ClientStream, Protocol), Refused> {
        let shake = async {
            acceptor.accept(stream).await.map_err(|error| {
                tracing::debug!(peer = %connection.peer(), %error, "a TLS handshake failed");
                // A client that goes away in the middle has nothing against us.
                let left = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
                (!left).then_some(Ended::Handshake)
            })
        };
        let stream = timeout(self.handshake_timeout, shake).await.map_err(|_| Some(Ended::HandshakeTimeout))??;
        let (_, session) = stream.get_ref();
        self.metrics.shook_hands(match session.handshake_kind() {
            Some(rustls::HandshakeKind::Resumed) => HandshakeKind::Resumed,
            _ => HandshakeKind::Full,
        });
        // RFC 7301 §3.2: without ALPN it is HTTP/1.1.
        let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        Ok((ClientStream::Tls(Box::new(stream)), protocol))
    }
}

/// Reads the header that a balancer must send; never a byte of what follows it.
async fn proxied(stream: &mut TcpStream) -> Result<Option<std::net::SocketAddr>, Refused> {
    let mut header = Vec::new();
    loop {
        let more = match proxy_protocol::read(&header) {
            Ok(Progress::Need(more)) => more,
            Ok(Progress::Done(client)) => return Ok(client),
            Err(error) => {
                tracing::debug!(%error, "a balancer's connection is refused");
                return Err(Some(Ended::ProxyHeader));
            }
        };
        let mut next = stream.take(more as u64);
        // The end of the stream is no header; at its very beginning it is nothing at all, a health check say.
        let refused = if header.is_empty() { None } else { Some(Ended::ProxyHeader) };
        match next.read_buf(&mut header).await {
            Ok(0) => return Err(refused),
            Ok(_) => {}
            Err(_) => return Err(None),
        }
    }
}

async fn begins_as_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 || seen.get(..count) != PREFACE.get(..count) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // Peeking again would find the same bytes at once; nobody but a test sends so little.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}
