//! Datagrams: read in batches, answered in place, sent in batches, by a thread for each socket.
//!
//! A thread that blocks, and not a task of the runtime: a socket that epoll watches wakes its watcher for every datagram
//! that leaves, which costs more than our part of the answer; one whose reader is at work has nobody to wake.

use std::{io, net::UdpSocket, thread, time::Duration};

use perigee_node::pulse::Pulse;
use tokio::sync::{oneshot, watch};

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
/// Longer datagrams are cut, and so are not well-formed: no query needs as much. One cache line more than a page, so that the
/// beginnings of a batch do not all want the same few places of the processor's cache.
const MESSAGE_BYTES_MAX: usize = 4_096 + 64;
/// Messages per system call.
const BATCH_MESSAGES: usize = 32;
/// How often a quiet socket's thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long a reply waits for room in the send buffer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// After an error that says nothing of a datagram, so that one that stays costs little.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Whether to wait for a first datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Up to the socket's read time-out.
    First,
    No,
}

/// Serves a socket by a thread of its own; the future ends with it.
pub(crate) fn start(
    socket: UdpSocket,
    answerer: Answerer,
    drain: watch::Receiver<bool>,
    pulse: Pulse,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (ends, ended) = oneshot::channel::<()>();
    thread::Builder::new().name("dns-udp".into()).spawn(move || {
        // Gone also when the thread panics.
        let _ends = ends;
        serve(&socket, answerer, &drain, &pulse);
    })?;
    Ok(async move { drop(ended.await) })
}

/// Answers a socket's datagrams until `drain` turns true, and then what is queued. Blocks.
fn serve(socket: &UdpSocket, mut answerer: Answerer, drain: &watch::Receiver<bool>, pulse: &Pulse) {
    let prepared = socket.local_addr().and_then(|address| {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(batch::Batches::new(address.is_ipv4()))
    });
    let mut batches = match prepared {
        Ok(batches) => batches,
        Err(error) => return tracing::error!(%error, "a UDP socket cannot be read"),
    };
    while !*drain.borrow() {
        pulse.beat();
        match batches.round(socket, Wait::First, &mut answerer) {
            Ok(_) => {}
            Err(error) if is_nothing(&error) => {
                if drain.has_changed().is_err() {
                    // The nameserver is gone without a word.
                    return;
                }
            }
            Err(error) => {
                // What the network told of an earlier reply; reading it took it away.
                tracing::debug!(%error, "a UDP socket reports");
                thread::sleep(ERROR_PAUSE);
            }
        }
    }
    while batches.round(socket, Wait::No, &mut answerer).is_ok() {
        pulse.beat();
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
pub(crate) mod tests;
