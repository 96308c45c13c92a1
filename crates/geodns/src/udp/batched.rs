//! `recvmmsg` and `sendmmsg`: up to [`BATCH_MESSAGES`] datagrams a system call.

use std::{
    array,
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg},
};
use tokio::net::UdpSocket;

use super::{BATCH_MESSAGES, MESSAGE_BYTES_MAX, Round};
use crate::answerer::Answerer;

thread_local! {
    // Buffers, used only within one call; a batch cannot live in a task, for its headers hold pointers and are not Send.
    // One for each family, for the kernel writes into headers how long the last peer's address was.
    static V4: RefCell<Batch<SockaddrIn>> = RefCell::new(Batch::new());
    static V6: RefCell<Batch<SockaddrIn6>> = RefCell::new(Batch::new());
}

/// Reads a batch, answers and sends it. `WouldBlock` when there is none. `is_ipv4`: what the socket is.
pub(super) fn round(socket: &UdpSocket, is_ipv4: bool, answerer: &mut Answerer) -> io::Result<Round> {
    let descriptor = socket.as_raw_fd();
    if is_ipv4 {
        V4.with_borrow_mut(|batch| batch.round(descriptor, answerer))
    } else {
        V6.with_borrow_mut(|batch| batch.round(descriptor, answerer))
    }
}

/// An address as the system has it.
trait Peer: SockaddrLike + Copy {
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

struct Batch<P> {
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

    fn round(&mut self, descriptor: RawFd, answerer: &mut Answerer) -> io::Result<Round> {
        self.receive(descriptor)?;
        self.peers.clear();
        for ((peer, length), message) in self.received.iter().zip(self.messages.iter()) {
            let (Some(peer), Some(message)) = (peer, message.get(..*length)) else { continue };
            let Some(reply) = self.replies.get_mut(self.peers.len()) else { break };
            if answerer.answer(peer.to_std(), message, reply) {
                self.peers.push(Some(*peer));
            }
        }
        let unsent = self.send(descriptor, answerer);
        Ok(Round { received: self.received.len(), unsent })
    }

    fn receive(&mut self, descriptor: RawFd) -> io::Result<()> {
        self.received.clear();
        let mut slices = self.messages.each_mut().map(|message| [IoSliceMut::new(message)]);
        let results = recvmmsg(descriptor, &mut self.receive, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        self.received.extend(results.map(|result| (result.address, result.bytes)));
        Ok(())
    }

    /// Sends the replies; gives back those that found the send buffer full.
    fn send(&mut self, descriptor: RawFd, answerer: &Answerer) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sent = 0;
        while sent < self.peers.len() {
            let slices: [[IoSlice<'_>; 1]; BATCH_MESSAGES] = self.replies.each_ref().map(|reply| [IoSlice::new(reply)]);
            let (slices, peers) = (slices.get(sent..).unwrap_or_default(), self.peers.get(sent..).unwrap_or_default());
            let no_control: [ControlMessage<'_>; 0] = [];
            match sendmmsg(descriptor, &mut self.send, slices, peers, no_control, MsgFlags::MSG_DONTWAIT) {
                Ok(results) => sent += results.count().max(1),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return self.rest(sent),
                // The first of them cannot be sent, say because no route leads there: the others may.
                Err(error) => {
                    tracing::debug!(%error, "a reply cannot be sent");
                    answerer.metrics().unsent.inc();
                    sent += 1;
                }
            }
        }
        Vec::new()
    }

    fn rest(&self, sent: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let rest = self.peers.iter().zip(&self.replies).skip(sent);
        rest.filter_map(|(peer, reply)| Some(((*peer)?.to_std(), reply.clone()))).collect()
    }
}
