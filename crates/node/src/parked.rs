//! An idle HTTP/1 connection without hyper's state: a socket, and what ends the wait for its client.

use std::io;

use tokio::{
    io::AsyncRead,
    time::{Instant, sleep_until},
};

use crate::{connections::Phase, http::Connection, stream::Watched};

/// Why the wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The client speaks: what it said first is the next that is read.
    Bytes,
    /// The client closed, well or not.
    Closed,
    /// The server ends.
    Draining,
    /// Nothing came until the deadline.
    Late,
}

/// Waits for the client.
pub(crate) async fn wait<T: AsyncRead + Unpin>(
    stream: &mut Watched<T>,
    connection: &Connection,
    deadline: Instant,
) -> Woken {
    tokio::select! {
        biased;
        // Before the drain: a request that has come is answered.
        read = stream.readable() => woken(read),
        () = connection.control().reached(Phase::Draining) => Woken::Draining,
        () = sleep_until(deadline) => Woken::Late,
    }
}

fn woken(read: io::Result<bool>) -> Woken {
    if read.is_ok_and(|more| more) { Woken::Bytes } else { Woken::Closed }
}
