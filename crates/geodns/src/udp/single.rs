//! One datagram a system call, for systems without batches; the tests run it everywhere.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto},
};
use tokio::net::UdpSocket;

use super::{BATCH_MESSAGES, MESSAGE_BYTES_MAX, Round};
use crate::answerer::Answerer;

thread_local! {
    // Buffers, used only within one call.
    static BUFFERS: RefCell<(Box<[u8]>, Vec<u8>)> = RefCell::new((vec![0; MESSAGE_BYTES_MAX].into(), Vec::new()));
}

/// Reads, answers and sends up to [`BATCH_MESSAGES`] datagrams. `WouldBlock` when there is none.
pub(super) fn round(socket: &UdpSocket, _is_ipv4: bool, answerer: &mut Answerer) -> io::Result<Round> {
    BUFFERS.with_borrow_mut(|(message, reply)| {
        let mut round = Round::default();
        while round.received < BATCH_MESSAGES {
            let (length, peer) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), message) {
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                Err(_) if round.received > 0 => break,
                Err(error) => return Err(error.into()),
            };
            round.received += 1;
            let (Some(peer), Some(message)) = (peer, message.get(..length)) else { continue };
            let Some(to) = to_std(&peer) else { continue };
            if !answerer.answer(to, message, reply) {
                continue;
            }
            match sendto(socket.as_raw_fd(), reply, &peer, MsgFlags::empty()) {
                Ok(_) => {}
                Err(Errno::EAGAIN) => round.unsent.push((to, reply.clone())),
                Err(error) => {
                    tracing::debug!(%error, "a reply cannot be sent");
                    answerer.metrics().unsent.inc();
                }
            }
        }
        Ok(round)
    })
}

fn to_std(peer: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = peer.as_sockaddr_in().map(|peer| SocketAddrV4::from(*peer).into());
    v4.or_else(|| peer.as_sockaddr_in6().map(|peer| SocketAddrV6::from(*peer).into()))
}
