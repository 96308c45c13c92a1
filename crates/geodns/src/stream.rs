//! One connection of TCP or TLS: messages with a length in front, answered in the order in which they came (RFC 7766).
//!
//! Replies go out together with those of all queries that had arrived, and nothing is read before they are out, so that
//! a client that sends and never reads holds one buffer and, after [`IDLE_TIMEOUT`], nothing.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use perigee_node::door_metrics::Ended;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{self, Instant},
};

use crate::answerer::Answerer;

/// How long a client may take for its next whole query, and for taking replies (RFC 7766 §6.2.3: a few seconds).
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a drain looks for what has arrived but was not seen yet.
pub(crate) const LINGER: Duration = Duration::from_millis(50);
/// How long a client may take for the last of what it is told.
const LAST_WORD_BOUND: Duration = Duration::from_secs(1);
/// A length and what it can count.
const FRAME_BYTES_MAX: usize = 2 + 65_535;
/// Replies are sent at the latest when there are so many bytes of them.
const FLUSH_BYTES: usize = 64 * 1024;
/// What one read asks for.
const READ_BYTES: usize = 4_096;
/// Larger buffers are given back once they are empty: an idle connection is to be small.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    answerer: Answerer,
    /// What has arrived and is not answered; less than one message after [`Connection::answer`].
    input: Vec<u8>,
    replies: Vec<u8>,
    reply: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, answerer: Answerer) -> Self {
        Self { stream, peer, answerer, input: Vec::new(), replies: Vec::new(), reply: Vec::new() }
    }

    /// Answers until the client is done, too slow, or `drain` turns true and what had arrived is answered. Returns the
    /// limit that ended it, if one did.
    pub(crate) async fn serve(mut self, mut drain: watch::Receiver<bool>) -> Option<Ended> {
        let ended = self.run(&mut drain).await;
        if ended != Some(Ended::WriteTimeout) {
            // RFC 8446 §6.1, RFC 7766 §6.2.4: the client is told, so that it can tell an end from a loss.
            drop(time::timeout(LAST_WORD_BOUND, self.stream.shutdown()).await);
        }
        ended
    }

    async fn run(&mut self, drain: &mut watch::Receiver<bool>) -> Option<Ended> {
        // One deadline for a whole query: a client that sends a byte now and then is as idle as one that sends none.
        let mut deadline = Instant::now() + IDLE_TIMEOUT;
        let mut timer = pin!(time::sleep_until(deadline));
        let mut asked = pin!(asked(drain));
        let mut is_draining = false;
        loop {
            tokio::select! {
                biased;
                () = &mut asked, if !is_draining => {
                    is_draining = true;
                    deadline = deadline.min(Instant::now() + LINGER);
                    timer.as_mut().reset(deadline);
                    continue;
                }
                read = read(&mut self.stream, &mut self.input) => match read {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                },
                () = &mut timer => {
                    // The deadline moves with each query, the timer only when it rings.
                    if Instant::now() < deadline {
                        timer.as_mut().reset(deadline);
                        continue;
                    }
                    return (!is_draining).then_some(Ended::IdleTimeout);
                }
            }
            let messages = match self.answer_all().await {
                Ok(Some(messages)) => messages,
                Ok(None) => return None,
                Err(ended) => return ended,
            };
            let now = Instant::now();
            if is_draining && now >= deadline {
                // Who never stops asking is not waited for.
                return None;
            }
            if messages > 0 && !is_draining {
                deadline = now + IDLE_TIMEOUT;
            }
        }
    }

    /// Answers and sends; how many messages, or None where one of them was none.
    async fn answer_all(&mut self) -> Result<Option<usize>, Option<Ended>> {
        let mut total = 0;
        loop {
            let Answered { messages, goes_on, is_more } = self.answer();
            total += messages;
            if messages > 0 {
                let sent = async {
                    self.stream.write_all(&self.replies).await?;
                    // TLS keeps what it was given until then.
                    self.stream.flush().await
                };
                match time::timeout(IDLE_TIMEOUT, sent).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(None),
                    Err(_) => return Err(Some(Ended::WriteTimeout)),
                }
                self.replies.clear();
            }
            if !goes_on {
                return Ok(None);
            }
            if !is_more {
                self.give_back();
                return Ok(Some(total));
            }
        }
    }

    fn give_back(&mut self) {
        for buffer in [&mut self.input, &mut self.replies, &mut self.reply] {
            if buffer.capacity() > KEPT_BYTES_MAX {
                buffer.shrink_to(KEPT_BYTES_MAX);
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
pub(crate) async fn asked(drain: &mut watch::Receiver<bool>) {
    drop(drain.wait_for(|drain| *drain).await);
}

/// The first whole message, and what follows it.
pub(crate) fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// Reads some bytes behind those that are there. Cancel-safe: what is read is in `input`.
async fn read(stream: &mut (impl AsyncRead + Unpin), input: &mut Vec<u8>) -> io::Result<usize> {
    debug_assert!(input.len() < FRAME_BYTES_MAX, "whole messages are answered before more is read");
    input.reserve(READ_BYTES);
    stream.read_buf(input).await
}
