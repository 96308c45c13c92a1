//! The end of a connection whose client still sends: closing a socket with unread bytes resets it, and a reset may overtake
//! the response (RFC 9112 §9.6). So what comes is read and forgotten for a while, until the client has seen the end.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::{connections::Phase, http::Connection};

/// How long a client that has been answered is listened to.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(2);
/// And how much is read of what it says.
pub(crate) const LINGER_BYTES_MAX: u64 = 16 << 20;
const PIECE_BYTES: usize = 16 * 1024;

/// Reads until the client ends, within the bounds above and unless the server is cut short. Our side is closed already.
pub(crate) async fn linger(stream: impl AsyncRead + Unpin, connection: &Connection) {
    tokio::select! {
        biased;
        () = connection.control().reached(Phase::Aborted) => {}
        _late = timeout(LINGER_MAX, forget(stream)) => {}
    }
}

/// How much came.
async fn forget(mut stream: impl AsyncRead + Unpin) -> u64 {
    let (mut piece, mut total) = (vec![0; PIECE_BYTES], 0);
    while total < LINGER_BYTES_MAX {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => total += count as u64,
            Ok(0) | Err(_) => break,
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_that() {
        let check = async |sent: u64, read: u64| {
            assert_eq!(forget(tokio::io::repeat(1).take(sent)).await, read, "{sent}");
        };
        check(0, 0).await;
        check(LINGER_BYTES_MAX, LINGER_BYTES_MAX).await;
        check(LINGER_BYTES_MAX + 1, LINGER_BYTES_MAX).await;
    }
}
