//! Streams: messages with a length in front, answered in the order in which they came (RFC 7766).
//!
//! Replies go out together with those of all queries that had arrived, and nothing is read before they are out, so that
//! a client that sends and never reads holds one buffer and, after [`IDLE_TIMEOUT`], nothing.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perigee_dns::{Limiter, Memory, Transport, dnssec::Signatures};
use perigee_node::metrics::NodeMetrics;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};

use crate::answerer::{Answerer, Shared};

/// How long a client may take for its next whole query, and for taking replies (RFC 7766 §6.2.3: a few seconds).
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one nameserver at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Of which one address may have so many: resolvers use few, and many clients may share one behind a translator.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
/// A length and what it can count.
const FRAME_BYTES_MAX: usize = 2 + 65_535;
/// Replies are sent at the latest when there are so many bytes of them.
const FLUSH_BYTES: usize = 64 * 1024;
/// What one read asks for.
const READ_BYTES: usize = 4_096;
/// How long a drain looks for what has arrived but was not seen yet.
const LINGER: Duration = Duration::from_millis(50);
/// After an accept that failed for want of something, say file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections there are, over all cores and addresses of one nameserver.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Room {
    /// A place for a connection of that client; given back when dropped.
    fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = taken.by_address.get(&client).copied().unwrap_or(0);
        if taken.total >= CONNECTIONS_MAX || of_client >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(client, of_client + 1);
        Some(Place { room: Arc::clone(self), client })
    }
}

#[derive(Debug)]
struct Place {
    room: Arc<Room>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(of_client) = taken.by_address.get_mut(&self.client) {
            *of_client = of_client.saturating_sub(1);
            if *of_client == 0 {
                taken.by_address.remove(&self.client);
            }
        }
    }
}

/// What the listeners of one nameserver share.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node_metrics: Arc<NodeMetrics>,
    pub(crate) room: Arc<Room>,
    /// Of the core.
    pub(crate) signatures: Signatures,
    pub(crate) drain: watch::Receiver<bool>,
}

/// Accepts and answers until `drain` turns true and the connections then open have been answered. Runs on one core.
pub(crate) async fn serve(listener: StdListener, door: Door) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a TCP listener cannot be watched"),
    };
    let mut connections = JoinSet::new();
    let mut drain = door.drain.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&mut connections, stream, peer, &door),
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
        admit(&mut connections, stream, peer, &door);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr, door: &Door) {
    let Some(place) = door.room.take(peer.ip()) else {
        door.shared.metrics.refused_connections.inc();
        door.node_metrics.connections.at_limit();
        return;
    };
    let door = door.clone();
    connections.spawn(async move {
        door.node_metrics.connections.opened();
        let memory = Memory { limiter: Limiter::unused(), signatures: door.signatures.clone() };
        let answerer = Answerer::new(Arc::clone(&door.shared), Transport::Tcp, memory);
        let connection =
            Connection { stream, peer, answerer, input: Vec::new(), replies: Vec::new(), reply: Vec::new() };
        if let Err(error) = connection.serve(door.drain).await {
            tracing::debug!(%peer, %error, "a TCP connection ended");
        }
        door.node_metrics.connections.closed();
        drop(place);
    });
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    answerer: Answerer,
    /// What has arrived and is not answered; less than one message after [`Connection::answer`].
    input: Vec<u8>,
    replies: Vec<u8>,
    reply: Vec<u8>,
}

impl Connection {
    async fn serve(mut self, mut drain: watch::Receiver<bool>) -> io::Result<()> {
        // One deadline for a whole query: a client that sends a byte now and then is as idle as one that sends none.
        let mut deadline = time::Instant::now() + IDLE_TIMEOUT;
        let mut is_draining = false;
        loop {
            let read = tokio::select! {
                read = time::timeout_at(deadline, read(&mut self.stream, &mut self.input)) => read,
                () = asked(&mut drain), if !is_draining => {
                    is_draining = true;
                    deadline = deadline.min(time::Instant::now() + LINGER);
                    continue;
                }
            };
            if is_draining && read.is_err() {
                return self.stream.shutdown().await;
            }
            if read.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
                return self.stream.shutdown().await;
            }
            loop {
                let Answered { messages, goes_on, is_more } = self.answer();
                if messages > 0 {
                    time::timeout(IDLE_TIMEOUT, self.stream.write_all(&self.replies))
                        .await
                        .map_err(|_| io::ErrorKind::TimedOut)??;
                    self.replies.clear();
                    if !is_draining {
                        deadline = time::Instant::now() + IDLE_TIMEOUT;
                    }
                }
                if !goes_on {
                    return self.stream.shutdown().await;
                }
                if !is_more {
                    break;
                }
            }
        }
    }

    /// Answers the whole messages of the input, until [`FLUSH_BYTES`] of replies are there.
    fn answer(&mut self) -> Answered {
        let mut answered = Answered { messages: 0, goes_on: true, is_more: false };
        let mut rest = self.input.as_slice();
        while let Some((message, after)) = frame(rest) {
            if self.replies.len() >= FLUSH_BYTES {
                answered.is_more = true;
                break;
            }
            rest = after;
            let is_reply = self.answerer.answer(self.peer, message, &mut self.reply);
            let length = u16::try_from(self.reply.len()).ok().filter(|_| is_reply);
            // What deserves no answer comes from no client of ours.
            let Some(length) = length else {
                answered.goes_on = false;
                break;
            };
            self.replies.extend(length.to_be_bytes());
            self.replies.extend(&self.reply);
            answered.messages += 1;
        }
        let used = self.input.len() - rest.len();
        self.input.drain(..used);
        answered
    }
}

struct Answered {
    messages: usize,
    goes_on: bool,
    is_more: bool,
}

/// Returns when a drain is asked for, or the nameserver is gone.
async fn asked(drain: &mut watch::Receiver<bool>) {
    drop(drain.wait_for(|drain| *drain).await);
}

/// The first whole message, and what follows it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// Reads some bytes behind those that are there. Cancel-safe: what is read is in `input`.
async fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<usize> {
    debug_assert!(input.len() < FRAME_BYTES_MAX, "whole messages are answered before more is read");
    input.reserve(READ_BYTES);
    stream.read_buf(input).await
}
