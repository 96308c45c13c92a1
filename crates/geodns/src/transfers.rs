//! Transfers under way: how many there may be, and what is told of them. The messages are `perigee_dns`'s.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use perigee_dns::Transfer;
use perigee_node::clock;

/// Transfers of one nameserver at once. Each holds the names of the zone and the snapshot that it began with; who comes
/// beyond is refused and tries again later (RFC 1035 §4.3.5: after its retry interval).
const TRANSFERS_MAX: usize = 8;

/// How many transfers there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfers(Arc<AtomicUsize>);

impl Transfers {
    /// Begins to send, while there is room.
    pub(crate) fn start(&self, peer: SocketAddr, transfer: Transfer) -> Option<Sending> {
        let Some(place) = self.take() else {
            tracing::warn!(%peer, at_once = TRANSFERS_MAX, "a transfer is refused: there are others enough");
            return None;
        };
        Some(Sending { transfer, peer, messages: 0, bytes: 0, is_told: false, _place: place })
    }

    fn take(&self) -> Option<Place> {
        // Counts itself off when it is dropped.
        let place = Place(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < TRANSFERS_MAX).then_some(place)
    }
}

#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A transfer on its way over one connection.
#[derive(Debug)]
pub(crate) struct Sending {
    transfer: Transfer,
    peer: SocketAddr,
    messages: u64,
    bytes: u64,
    is_told: bool,
    _place: Place,
}

impl Sending {
    /// Makes the next message; false after the last.
    pub(crate) fn next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.transfer.next(clock::now_ms(), out) {
            self.messages += 1;
            self.bytes += out.len() as u64;
            return true;
        }
        let (peer, messages, bytes) = (self.peer, self.messages, self.bytes);
        let (serial, since) = (self.transfer.serial(), self.transfer.since());
        tracing::info!(%peer, serial, since, messages, bytes, "the zone was transferred");
        self.is_told = true;
        false
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_told {
            tracing::warn!(peer = %self.peer, messages = self.messages, "a transfer was cut off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_limit() {
        let transfers = Transfers::default();
        let mut places: Vec<_> = (0..TRANSFERS_MAX).map(|_| transfers.take().unwrap()).collect();
        assert!(transfers.take().is_none());
        assert!(transfers.take().is_none(), "a refusal takes no place");
        places.pop();
        assert!(transfers.take().is_some());
    }
}
