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
    patience: Duration,
    /// Whether more may be on its way from a client that is to be left.
    is_talking: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, answerer: Answerer) -> Self {
        let (input, replies, reply) = (Vec::new(), Vec::new(), Vec::new());
        Self { stream, peer, answerer, input, replies, reply, patience: IDLE_TIMEOUT, is_talking: false }
    }

    /// Answers until the client is done, too slow, or `drain` turns true and what had arrived is answered. Returns the
    /// limit that ended it, if one did.
    pub(crate) async fn serve(mut self, mut drain: watch::Receiver<bool>) -> Option<Ended> {
        let ended = self.run(&mut drain).await;
        if ended != Some(Ended::WriteTimeout) {
            let told = async {
                // RFC 8446 §6.1, RFC 7766 §6.2.4: the client is told, so that it can tell an end from a loss.
                self.stream.shutdown().await?;
                // RFC 9293 §3.6.1: closing with something unread resets, and a reset overtakes answers.
                self.input.clear();
                while self.is_talking && read(&mut self.stream, &mut self.input).await? > 0 {
                    self.input.clear();
                }
                io::Result::Ok(())
            };
            drop(time::timeout(LAST_WORD_BOUND, told).await);
        }
        ended
    }

    async fn run(&mut self, drain: &mut watch::Receiver<bool>) -> Option<Ended> {
        // One deadline for a whole query: a client that sends a byte now and then is as idle as one that sends none.
        let mut deadline = Instant::now() + self.patience;
        let mut timer = pin!(time::sleep_until(deadline));
        let mut asked = pin!(asked(drain));
        let mut is_draining = false;
        // When a drain is over though the client never stops to ask.
        let mut end = deadline;
        loop {
            tokio::select! {
                biased;
                () = &mut asked, if !is_draining => {
                    is_draining = true;
                    let now = Instant::now();
                    (deadline, end) = (deadline.min(now + LINGER), now + LAST_WORD_BOUND);
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
                Ok(None) => {
                    self.is_talking = true;
                    return None;
                }
                Err(ended) => return ended,
            };
            let now = Instant::now();
            self.is_talking = is_draining;
            // What had arrived is read as long as there is some, however busy the machine is.
            if is_draining && now >= end {
                return None;
            }
            if messages > 0 && !is_draining {
                deadline = now + self.patience;
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
                match time::timeout(self.patience, sent).await {
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
        // RFC 5936 §2.2: the messages of a transfer follow each other.
        if !self.go_on(&mut answered) {
            return answered;
        }
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
            if self.answerer.is_transferring() {
                // What follows the question waits until the transfer is out.
                answered.is_more = true;
                break;
            }
        }
        let used = self.input.len() - rest.len();
        self.input.drain(..used);
        answered
    }

    /// Adds messages of the transfer under way; true when there is none any more.
    fn go_on(&mut self, answered: &mut Answered) -> bool {
        while self.answerer.is_transferring() {
            if self.replies.len() >= FLUSH_BYTES {
                answered.is_more = true;
                return false;
            }
            if self.answerer.go_on(&mut self.reply)
                && let Ok(length) = u16::try_from(self.reply.len())
            {
                self.replies.extend(length.to_be_bytes());
                self.replies.extend(&self.reply);
                answered.messages += 1;
            }
        }
        true
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perigee_dns::{Limiter, Memory, Transport, dnssec::Signatures};
    use perigee_testkit::patiently;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const QUERY: &[u8] = b"\0\x21\0\x07\0\0\0\x01\0\0\0\0\0\0\x03www\x03cdn\x07example\0\0\x01\0\x01";
    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3_600);

    /// A client whose socket holds `room` bytes each way, and what becomes of its connection.
    fn connect(
        room: usize,
        patience: Duration,
        drain: &watch::Sender<bool>,
    ) -> (DuplexStream, tokio::task::JoinHandle<Option<Ended>>) {
        let (client, server) = duplex(room);
        let memory = Memory::new(Limiter::unused(), Signatures::new([0; 16]));
        let answerer = Answerer::new(Arc::new(crate::udp::tests::shared()), Transport::Tcp, memory);
        let mut connection = Connection::new(server, ([127, 0, 0, 1], 5300).into(), answerer);
        connection.patience = patience;
        (client, tokio::spawn(connection.serve(drain.subscribe())))
    }

    async fn read_reply(client: &mut DuplexStream) -> Vec<u8> {
        let length = patiently("a length", client.read_u16()).await.unwrap();
        let mut reply = vec![0; length.into()];
        patiently("a reply", client.read_exact(&mut reply)).await.unwrap();
        reply
    }

    async fn end_of(task: tokio::task::JoinHandle<Option<Ended>>) -> Option<Ended> {
        patiently("the end", task).await.unwrap()
    }

    #[tokio::test]
    async fn who_says_nothing_more_is_let_go() {
        let (drain, _) = watch::channel(false);
        let (mut client, task) = connect(4_096, SHORT, &drain);
        client.write_all(QUERY).await.unwrap();
        assert_eq!(read_reply(&mut client).await[..2], QUERY[2..4]);
        assert_eq!(end_of(task).await, Some(Ended::IdleTimeout));
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn bytes_now_and_then_are_no_query() {
        let (drain, _) = watch::channel(false);
        let (mut client, task) = connect(4_096, SHORT, &drain);
        let drips = tokio::spawn(async move {
            // Each within the time, the whole never.
            client.write_all(&[0xff, 0xff]).await?;
            loop {
                client.write_all(&[0]).await?;
                time::sleep(Duration::from_millis(1)).await;
            }
            #[expect(unreachable_code, reason = "tells the type")]
            io::Result::Ok(())
        });
        assert_eq!(end_of(task).await, Some(Ended::IdleTimeout));
        assert!(patiently("the client", drips).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn who_never_reads_is_cut() {
        let (drain, _) = watch::channel(false);
        let (mut client, task) = connect(512, SHORT, &drain);
        let asks = tokio::spawn(async move { while client.write_all(QUERY).await.is_ok() {} });
        assert_eq!(end_of(task).await, Some(Ended::WriteTimeout));
        patiently("the client", asks).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_done_is_answered_first() {
        let (drain, _) = watch::channel(false);
        let (mut client, task) = connect(4_096, LONG, &drain);
        client.write_all(&[QUERY, QUERY, &QUERY[..5]].concat()).await.unwrap();
        client.shutdown().await.unwrap();
        for _ in 0..2 {
            read_reply(&mut client).await;
        }
        assert_eq!(end_of(task).await, None);
    }

    #[tokio::test]
    async fn a_drain_answers_what_is_there_and_outlasts_who_never_stops() {
        let (drain, _) = watch::channel(false);
        let (mut client, task) = connect(4_096, LONG, &drain);
        client.write_all(&[QUERY, &QUERY[..5]].concat()).await.unwrap();
        drain.send_replace(true);
        read_reply(&mut client).await;
        assert_eq!(end_of(task).await, None, "half a query is not waited for");
        let (client, task) = connect(1 << 20, LONG, &drain);
        let (mut reader, mut writer) = tokio::io::split(client);
        let (ended, mut seen) = watch::channel(false);
        let asks = tokio::spawn(async move {
            while !*seen.borrow_and_update() {
                writer.write_all(QUERY).await.unwrap();
            }
            // What it says after the end was told is still taken: a reset would overtake answers.
            writer.write_all(QUERY).await.unwrap();
        });
        let read = patiently("the end", tokio::io::copy(&mut reader, &mut tokio::io::sink())).await.unwrap();
        assert!(read > 0);
        ended.send_replace(true);
        patiently("the client", asks).await.unwrap();
        drop(reader);
        assert_eq!(end_of(task).await, None);
    }
}
