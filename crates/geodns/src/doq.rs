//! DNS over QUIC (RFC 9250): a stream for each query, whose answer follows on it.
//!
//! A connection is one task, so that it answers one message at a time and no query is a task of its own.

use std::{
    net::{SocketAddr, UdpSocket},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use perigee_dns::Transport;
use perigee_node::{
    door_metrics::Ended,
    http::HANDSHAKE_TIMEOUT,
    quic::{self, QuicLimits},
};
use quinn::{Connection, Incoming, ReadError, ReadToEndError, RecvStream, SendStream, ServerConfig, VarInt};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    answerer::Answerer,
    stream::{IDLE_TIMEOUT, LINGER, asked, frame},
    tcp::Door,
};

/// RFC 9250 §8.4
const NO_ERROR: VarInt = quic::code(0);
const PROTOCOL_ERROR: VarInt = quic::code(2);
const EXCESSIVE_LOAD: VarInt = quic::code(4);

/// A length and what it can count.
const FRAME_BYTES_MAX: usize = 2 + 65_535;
/// A connection of QUIC is dear to make, so that it is kept longer than one of TCP.
const QUIC_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Handshakes at once with clients that have not shown that they are at their address; others are asked to first
/// (RFC 9000 §8.1.2).
const UNVALIDATED_MAX: usize = 32;
/// How long a drain waits for clients to acknowledge their answers, and then for them to learn of the end.
const ACKNOWLEDGED_BOUND: Duration = Duration::from_secs(1);
const CLOSED_BOUND: Duration = Duration::from_millis(200);

/// What one connection may have.
pub(crate) const LIMITS: QuicLimits = QuicLimits {
    streams_max: 100,
    // RFC 9250 §4.2: there is no use for them.
    client_streams_max: 0,
    stream_bytes_max: FRAME_BYTES_MAX as u32 + 1,
    received_bytes_max: 256 * 1024,
    sent_bytes_max: 256 * 1024,
    idle_timeout: QUIC_IDLE_TIMEOUT,
};

/// Accepts and answers until `drain` turns true and what had arrived is answered.
pub(crate) async fn serve(socket: UdpSocket, config: ServerConfig, door: Door) {
    serve_with(socket, config, door, UNVALIDATED_MAX).await;
}

async fn serve_with(socket: UdpSocket, config: ServerConfig, door: Door, unvalidated_max: usize) {
    let endpoint = match quic::endpoint(socket, config) {
        Ok(endpoint) => endpoint,
        Err(error) => return tracing::error!(%error, "a socket of QUIC cannot be watched"),
    };
    let unvalidated = Arc::new(Semaphore::new(unvalidated_max));
    let mut connections = JoinSet::new();
    let mut drain = door.drain.clone();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(&mut connections, incoming, endpoint.local_addr().ok(), &unvalidated, &door),
                None => return,
            },
            () = asked(&mut drain) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    endpoint.set_server_config(None);
    while connections.join_next().await.is_some() {}
    drop(time::timeout(CLOSED_BOUND, endpoint.wait_idle()).await);
}

fn admit(
    connections: &mut JoinSet<()>,
    incoming: Incoming,
    local: Option<SocketAddr>,
    unvalidated: &Arc<Semaphore>,
    door: &Door,
) {
    let turn = if incoming.remote_address_validated() {
        None
    } else {
        match Arc::clone(unvalidated).try_acquire_owned() {
            Ok(turn) => Some(turn),
            Err(_) => {
                // It cannot fail: only a validated client's can.
                drop(incoming.retry());
                return;
            }
        }
    };
    let Some(place) = door.room.take(incoming.remote_address().ip(), Transport::Quic) else {
        incoming.refuse();
        return door.at_limit();
    };
    let door = door.clone();
    let mut answerer = door.answerer(Transport::Quic);
    answerer.at(|| local.map(|local| SocketAddr::new(incoming.local_ip().unwrap_or(local.ip()), local.port())));
    connections.spawn(async move {
        door.node_metrics.connections.opened();
        let shaken = async { incoming.accept()?.await };
        let ended = match time::timeout(HANDSHAKE_TIMEOUT, shaken).await {
            Ok(Ok(connection)) => {
                drop(turn);
                Session::new(connection, answerer).serve(door.drain.clone()).await
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake of QUIC failed");
                Some(Ended::Handshake)
            }
            Err(_) => Some(Ended::HandshakeTimeout),
        };
        if let Some(ended) = ended {
            door.metrics.ended(ended);
        }
        door.node_metrics.connections.closed();
        drop(place);
    });
}

/// What a stream came to.
enum Step {
    /// A whole query.
    Asked(SendStream, Vec<u8>),
    /// What no client may send (RFC 9250 §4.3.3).
    Broken,
    /// The answer is acknowledged, or nobody wants it any more.
    Done,
}

type Steps = FuturesUnordered<Pin<Box<dyn Future<Output = Step> + Send>>>;

struct Session {
    connection: Connection,
    answerer: Answerer,
    steps: Steps,
}

impl Session {
    fn new(connection: Connection, answerer: Answerer) -> Self {
        Self { connection, answerer, steps: FuturesUnordered::new() }
    }

    async fn serve(mut self, mut drain: watch::Receiver<bool>) -> Option<Ended> {
        let mut deadline = Instant::now() + QUIC_IDLE_TIMEOUT;
        let mut timer = pin!(time::sleep_until(deadline));
        let mut asked = pin!(asked(&mut drain));
        let mut is_draining = false;
        loop {
            tokio::select! {
                () = &mut asked, if !is_draining => {
                    is_draining = true;
                    deadline = Instant::now() + LINGER;
                    timer.as_mut().reset(deadline);
                }
                stream = self.connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        self.steps.push(Box::pin(read(send, receive)));
                        if !is_draining {
                            deadline = Instant::now() + QUIC_IDLE_TIMEOUT;
                        }
                    }
                    // The client is gone.
                    Err(_) => return None,
                },
                Some(step) = self.steps.next() => if !self.step(step) {
                    self.connection.close(PROTOCOL_ERROR, b"");
                    return None;
                },
                () = &mut timer => {
                    // The deadline moves with each query, the timer only when it rings. Signs of life that ask for nothing are none.
                    if Instant::now() < deadline {
                        timer.as_mut().reset(deadline);
                        continue;
                    }
                    break;
                }
            }
        }
        drop(time::timeout(ACKNOWLEDGED_BOUND, self.finish()).await);
        self.connection.close(NO_ERROR, b"");
        (!is_draining).then_some(Ended::IdleTimeout)
    }

    /// Ends the streams that there are.
    async fn finish(&mut self) {
        while let Some(step) = self.steps.next().await {
            if !self.step(step) {
                return;
            }
        }
    }

    /// False: the client breaks the rules.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Done => true,
            Step::Broken => false,
            Step::Asked(send, message) => {
                let mut reply = Vec::new();
                let is_reply = self.answerer.answer(self.connection.remote_address(), &message, &mut reply);
                match u16::try_from(reply.len()).ok().filter(|_| is_reply) {
                    Some(length) => {
                        let framed = [&length.to_be_bytes()[..], &reply].concat();
                        self.steps.push(Box::pin(write(send, framed)));
                        true
                    }
                    None => false,
                }
            }
        }
    }
}

/// A query: a length, as much as it says, and the stream's end (RFC 9250 §4.2).
async fn read(mut send: SendStream, mut receive: RecvStream) -> Step {
    let whole = match time::timeout(IDLE_TIMEOUT, receive.read_to_end(FRAME_BYTES_MAX)).await {
        Ok(Ok(whole)) => whole,
        Ok(Err(ReadToEndError::TooLong)) => return Step::Broken,
        // RFC 9250 §4.3.1: the client has thought better of it.
        Ok(Err(ReadToEndError::Read(ReadError::Reset(_)))) => return Step::Done,
        Ok(Err(ReadToEndError::Read(_))) => return Step::Done,
        Err(_) => {
            give_up(&mut send);
            drop(receive.stop(EXCESSIVE_LOAD));
            return Step::Done;
        }
    };
    match frame(&whole) {
        Some((message, [])) => Step::Asked(send, message.to_vec()),
        _ => Step::Broken,
    }
}

async fn write(mut send: SendStream, framed: Vec<u8>) -> Step {
    let sent = async {
        send.write_all(&framed).await.ok()?;
        send.finish().ok()?;
        send.stopped().await.ok()
    };
    if time::timeout(IDLE_TIMEOUT, sent).await.is_err() {
        give_up(&mut send);
    }
    Step::Done
}

/// The client is too slow.
fn give_up(send: &mut SendStream) {
    // An error: it is closed already.
    drop(send.reset(EXCESSIVE_LOAD));
}

#[cfg(test)]
mod tests {
    use perigee_dns::dnssec::Signatures;
    use perigee_node::{
        door_metrics::DoorMetrics,
        metrics::NodeMetrics,
        state::{NodeKind, NodeState},
    };
    use perigee_testkit::{certificates::Authority, patiently};
    use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, crypto::rustls::QuicClientConfig};

    use super::*;
    use crate::{encrypted::ALPN_QUIC, room::Room};

    const QUERY: &[u8] = b"\0\x21\0\0\0\0\0\x01\0\0\0\0\0\0\x03www\x03cdn\x07example\0\0\x01\0\x01";

    /// Where there is room for no unproven address at all, every client has to prove its own, and does.
    #[tokio::test]
    async fn under_load_addresses_are_to_be_proven() {
        let authority = Authority::default();
        let tls = authority.server_config(&authority.issue(&["ns1.cdn.example"]), &["doq"]);
        let config = quic::server_config(Arc::new(tls), LIMITS).unwrap();
        let state = NodeState::new(NodeKind::Geodns, "test");
        let (drain, draining) = watch::channel(false);
        let door = Door {
            shared: Arc::new(crate::udp::tests::shared()),
            node_metrics: Arc::new(NodeMetrics::new(&state)),
            metrics: DoorMetrics::default(),
            room: Arc::new(Room::default()),
            signatures: Signatures::new([0; 16]),
            drain: draining,
        };
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let socket = bind();
        let address = socket.local_addr().unwrap();
        let served = tokio::spawn(serve_with(socket, config, door, 0));
        let mut client = Endpoint::new(EndpointConfig::default(), None, bind(), Arc::new(TokioRuntime)).unwrap();
        let tls = authority.client_config_of(&[std::str::from_utf8(ALPN_QUIC).unwrap()], &[&rustls::version::TLS13]);
        client.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
        let connecting = client.connect(address, "ns1.cdn.example").unwrap();
        let connection = patiently("a handshake", connecting).await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(QUERY).await.unwrap();
        send.finish().unwrap();
        let reply = patiently("an answer", receive.read_to_end(70_000)).await.unwrap();
        assert_eq!(reply.get(4), Some(&0x84), "an answer: {reply:?}");
        drain.send_replace(true);
        patiently("the end", served).await.unwrap();
    }
}
