//! One datagram a system call, for systems without batches; the tests run it everywhere.

use std::{io, net::UdpSocket};

use super::{MESSAGE_BYTES_MAX, Wait};
use crate::answerer::Answerer;

/// The buffers of one socket.
pub(super) struct Batches {
    message: Box<[u8]>,
    reply: Vec<u8>,
}

impl Batches {
    pub(super) fn new(_is_ipv4: bool) -> Self {
        Self { message: vec![0; MESSAGE_BYTES_MAX].into(), reply: Vec::new() }
    }

    /// Reads a datagram, answers and sends it; says how many were read. `WouldBlock` when there was none.
    pub(super) fn round(&mut self, socket: &UdpSocket, wait: Wait, answerer: &mut Answerer) -> io::Result<usize> {
        socket.set_nonblocking(wait == Wait::No)?;
        let (length, peer) = socket.recv_from(&mut self.message)?;
        let mut turn = answerer.turn();
        if turn.answer(peer, self.message.get(..length).unwrap_or_default(), &mut self.reply)
            && let Err(error) = socket.send_to(&self.reply, peer)
        {
            tracing::debug!(%error, "a reply cannot be sent");
            turn.metrics().unsent.inc();
        }
        Ok(1)
    }
}
