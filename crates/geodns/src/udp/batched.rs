//! `recvmmsg` and `sendmmsg`: up to [`BATCH_MESSAGES`] datagrams a system call.

use std::{
    array, io,
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg},
};

use super::{BATCH_MESSAGES, MESSAGE_BYTES_MAX, Wait};
use crate::{answerer::Answerer, metrics::DnsMetrics};

/// The buffers of one socket. One kind for each family, for the kernel writes into headers how long the last peer's
/// address was.
pub(super) enum Batches {
    V4(Batch<SockaddrIn>),
    V6(Batch<SockaddrIn6>),
}

impl Batches {
    /// `is_ipv4`: what the socket is.
    pub(super) fn new(is_ipv4: bool) -> Self {
        if is_ipv4 { Self::V4(Batch::new()) } else { Self::V6(Batch::new()) }
    }

    /// Reads a batch, answers and sends it; says how many datagrams were read. `WouldBlock` when there was none.
    pub(super) fn round(&mut self, socket: &UdpSocket, wait: Wait, answerer: &mut Answerer) -> io::Result<usize> {
        match self {
            Self::V4(batch) => batch.round(socket.as_raw_fd(), wait, answerer),
            Self::V6(batch) => batch.round(socket.as_raw_fd(), wait, answerer),
        }
    }
}

/// An address as the system has it.
pub(super) trait Peer: SockaddrLike + Copy {
    fn to_std(self) -> SocketAddr;
}

impl Peer for SockaddrIn {
    fn to_std(self) -> SocketAddr {
        SocketAddrV4::from(self).into()
    }
}

impl Peer for SockaddrIn6 {
    fn to_std(self) -> SocketAddr {
        SocketAddrV6::from(self).into()
    }
}

pub(super) struct Batch<P> {
    receive: MultiHeaders<P>,
    send: MultiHeaders<P>,
    messages: Box<[[u8; MESSAGE_BYTES_MAX]; BATCH_MESSAGES]>,
    /// Of each datagram read: who sent it, and how long it is.
    received: Vec<(Option<P>, usize)>,
    replies: [Vec<u8>; BATCH_MESSAGES],
    /// Whose `replies` are, from the first on.
    peers: Vec<Option<P>>,
}

impl<P: Peer> Batch<P> {
    fn new() -> Self {
        Self {
            receive: MultiHeaders::preallocate(BATCH_MESSAGES, None),
            send: MultiHeaders::preallocate(BATCH_MESSAGES, None),
            messages: Box::new([[0; MESSAGE_BYTES_MAX]; BATCH_MESSAGES]),
            received: Vec::with_capacity(BATCH_MESSAGES),
            replies: array::from_fn(|_| Vec::new()),
            peers: Vec::with_capacity(BATCH_MESSAGES),
        }
    }

    fn round(&mut self, descriptor: RawFd, wait: Wait, answerer: &mut Answerer) -> io::Result<usize> {
        self.receive(descriptor, wait)?;
        self.peers.clear();
        let mut turn = answerer.turn();
        for ((peer, length), message) in self.received.iter().zip(self.messages.iter()) {
            let (Some(peer), Some(message)) = (peer, message.get(..*length)) else { continue };
            let Some(reply) = self.replies.get_mut(self.peers.len()) else { break };
            if turn.answer(peer.to_std(), message, reply) {
                self.peers.push(Some(*peer));
            }
        }
        self.send(descriptor, turn.metrics());
        Ok(self.received.len())
    }

    fn receive(&mut self, descriptor: RawFd, wait: Wait) -> io::Result<()> {
        self.received.clear();
        let flags = match wait {
            Wait::First => MsgFlags::MSG_WAITFORONE,
            Wait::No => MsgFlags::MSG_DONTWAIT,
        };
        let mut slices = self.messages.each_mut().map(|message| [IoSliceMut::new(message)]);
        let results = recvmmsg(descriptor, &mut self.receive, slices.iter_mut(), flags, None)?;
        self.received.extend(results.map(|result| (result.address, result.bytes)));
        Ok(())
    }

    fn send(&mut self, descriptor: RawFd, metrics: &DnsMetrics) {
        let mut sent = 0;
        while sent < self.peers.len() {
            let slices: [[IoSlice<'_>; 1]; BATCH_MESSAGES] = self.replies.each_ref().map(|reply| [IoSlice::new(reply)]);
            let (slices, peers) = (slices.get(sent..).unwrap_or_default(), self.peers.get(sent..).unwrap_or_default());
            let no_control: [ControlMessage<'_>; 0] = [];
            match sendmmsg(descriptor, &mut self.send, slices, peers, no_control, MsgFlags::empty()) {
                Ok(results) => sent += results.count().max(1),
                Err(Errno::EINTR) => {}
                // There was no room for so long that whoever asked has stopped waiting, for these and for those who asked since.
                Err(error @ Errno::EAGAIN) => {
                    tracing::debug!(%error, "replies cannot be sent");
                    metrics.unsent.inc_by((self.peers.len() - sent) as u64);
                    return;
                }
                // The first of them cannot be sent, say because no route leads there: the others may.
                Err(error) => {
                    tracing::debug!(%error, "a reply cannot be sent");
                    metrics.unsent.inc();
                    sent += 1;
                }
            }
        }
    }
}
