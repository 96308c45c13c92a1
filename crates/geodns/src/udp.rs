//! Datagrams: read in batches, answered in place, sent in batches. No task per datagram.

use std::{
    io,
    net::{SocketAddr, UdpSocket as StdSocket},
};

use tokio::{io::Interest, net::UdpSocket, sync::watch, task};

use crate::answerer::Answerer;

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
#[path = "udp/batched.rs"]
mod batch;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
#[path = "udp/single.rs"]
mod batch;
#[cfg(test)]
#[path = "udp/single.rs"]
mod single;

/// What the kernel keeps for us while we are busy: the default of some 200 KiB loses packets in stalls of 100 ms.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Longer datagrams are cut, and so are not well-formed: no query needs as much.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Messages per system call.
const BATCH_MESSAGES: usize = 32;
/// Batches in a row before other tasks of the core have their turn.
const BATCHES_PER_TURN: usize = 8;

/// What one round came to.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// How many datagrams were read.
    received: usize,
    /// Replies that found the send buffer full.
    unsent: Vec<(SocketAddr, Vec<u8>)>,
}

/// Answers a socket's datagrams until `drain` turns true, and then what is queued. Runs on one core.
pub(crate) async fn serve(socket: StdSocket, mut answerer: Answerer, mut drain: watch::Receiver<bool>) {
    let opened = socket.local_addr().and_then(|address| Ok((UdpSocket::from_std(socket)?, address.is_ipv4())));
    let (socket, is_ipv4) = match opened {
        Ok(opened) => opened,
        Err(error) => return tracing::error!(%error, "a UDP socket cannot be read"),
    };
    while !*drain.borrow_and_update() {
        let ready = tokio::select! {
            ready = socket.readable() => ready,
            // Both a change and a sender that is gone mean: look again.
            changed = drain.changed() => if changed.is_err() { return } else { continue },
        };
        if let Err(error) = ready {
            return tracing::error!(%error, "a UDP socket cannot be watched");
        }
        turn(&socket, is_ipv4, &mut answerer).await;
        task::yield_now().await;
    }
    // Past tokio's readiness, which knows nothing of what arrived since its last look.
    while settle(batch::round(&socket, is_ipv4, &mut answerer), &socket, &answerer).await {}
}

/// Answers up to [`BATCHES_PER_TURN`] batches.
async fn turn(socket: &UdpSocket, is_ipv4: bool, answerer: &mut Answerer) {
    for _ in 0..BATCHES_PER_TURN {
        let mut drained = None;
        let round = socket.try_io(Interest::READABLE, || {
            let round = batch::round(socket, is_ipv4, answerer)?;
            if round.received < BATCH_MESSAGES {
                // Nothing was left: said as tokio wants to hear it, which saves the call that would find out. What arrives from
                // now on wakes us.
                drained = Some(round);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(round)
        });
        let goes_on = drained.is_none();
        if !settle(drained.map_or(round, Ok), socket, answerer).await || !goes_on {
            break;
        }
    }
}

/// Sends what a round left; false when there was nothing to read.
async fn settle(round: io::Result<Round>, socket: &UdpSocket, answerer: &Answerer) -> bool {
    match round {
        Ok(round) => {
            for (peer, reply) in round.unsent {
                if socket.send_to(&reply, peer).await.is_err() {
                    answerer.metrics().unsent.inc();
                }
            }
            round.received > 0
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        // What the network told of an earlier reply; reading it took it away.
        Err(error) => {
            tracing::debug!(%error, "a UDP socket reports");
            true
        }
    }
}

#[cfg(test)]
mod tests;
