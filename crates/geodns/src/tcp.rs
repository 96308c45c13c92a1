//! Where connections of TCP, and of TLS over it (RFC 7858), come in: accepted, counted, and where they are to be private,
//! shaken hands with. What is said on them is `stream`'s.

use std::{io, net::SocketAddr, net::TcpListener as StdListener, sync::Arc, time::Duration};

use perigee_dns::{Limiter, Memory, Transport, dnssec::Signatures};
use perigee_node::{
    door_metrics::{DoorMetrics, Ended, HandshakeKind},
    http::HANDSHAKE_TIMEOUT,
    metrics::NodeMetrics,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    answerer::{Answerer, Shared},
    room::Room,
    stream::{Connection, LINGER, asked},
};

/// After an accept that failed for want of something, say file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the listeners of one nameserver share.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node_metrics: Arc<NodeMetrics>,
    pub(crate) metrics: DoorMetrics,
    pub(crate) room: Arc<Room>,
    /// Of the core.
    pub(crate) signatures: Signatures,
    pub(crate) drain: watch::Receiver<bool>,
}

impl Door {
    /// What answers one connection.
    pub(crate) fn answerer(&self, transport: Transport) -> Answerer {
        let memory = Memory::new(Limiter::unused(), self.signatures.clone());
        Answerer::new(Arc::clone(&self.shared), transport, memory)
    }

    /// Tells that a client found no room.
    pub(crate) fn at_limit(&self) {
        self.shared.metrics.refused_connections.inc();
        self.node_metrics.connections.at_limit();
    }
}

/// How the connections of a listener begin.
#[derive(Clone)]
pub(crate) enum Greeting {
    /// With the first query.
    Plain,
    /// With a handshake.
    Tls(TlsAcceptor),
}

impl Greeting {
    /// Of one core.
    pub(crate) fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::Tls(TlsAcceptor::from(config))
    }
}

/// Accepts and answers until `drain` turns true and the connections then open have been answered. Runs on one core.
pub(crate) async fn serve(listener: StdListener, greeting: Greeting, door: Door) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a TCP listener cannot be watched"),
    };
    let mut connections = JoinSet::new();
    let mut drain = door.drain.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&mut connections, stream, peer, &greeting, &door),
                Err(error) => {
                    door.node_metrics.connections.accept_failed();
                    tracing::debug!(%error, "an accept failed");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = asked(&mut drain) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    let linger = time::Instant::now() + LINGER;
    while let Ok(Ok((stream, peer))) = time::timeout_at(linger, listener.accept()).await {
        admit(&mut connections, stream, peer, &greeting, &door);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr, greeting: &Greeting, door: &Door) {
    let transport = match greeting {
        Greeting::Plain => Transport::Tcp,
        Greeting::Tls(_) => Transport::Tls,
    };
    let Some(place) = door.room.take(peer.ip(), transport) else { return door.at_limit() };
    let (door, greeting) = (door.clone(), greeting.clone());
    connections.spawn(async move {
        door.node_metrics.connections.opened();
        let mut answerer = door.answerer(transport);
        answerer.at(|| stream.local_addr().ok());
        let ended = match greeting {
            Greeting::Plain => Connection::new(stream, peer, answerer).serve(door.drain.clone()).await,
            Greeting::Tls(acceptor) => match shake_hands(&acceptor, stream, &door).await {
                Ok(stream) => Connection::new(stream, peer, answerer).serve(door.drain.clone()).await,
                Err(ended) => ended,
            },
        };
        if let Some(ended) = ended {
            tracing::debug!(%peer, reason = ended.as_str(), "a connection was ended");
            door.metrics.ended(ended);
        }
        door.node_metrics.connections.closed();
        drop(place);
    });
}

/// None: the client went away.
async fn shake_hands(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    door: &Door,
) -> Result<TlsStream<TcpStream>, Option<Ended>> {
    let shake = async {
        acceptor.accept(stream).await.map_err(|error| {
            let left = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            (!left).then_some(Ended::Handshake)
        })
    };
    let stream = time::timeout(HANDSHAKE_TIMEOUT, shake).await.map_err(|_| Some(Ended::HandshakeTimeout))??;
    door.metrics.shook_hands(match stream.get_ref().1.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => HandshakeKind::Resumed,
        _ => HandshakeKind::Full,
    });
    Ok(stream)
}
