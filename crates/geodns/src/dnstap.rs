//! dnstap (dnstap.info): what was asked and what was answered, byte for byte, to a collector or into a file.
//!
//! A message is written out where it is answered, into a buffer of its socket's own, and a thread of the nameserver brings
//! the buffers on. Nothing waits for it: a buffer that is full drops the message and counts it.
//!
//! Deliberately absent: TLS to the collector (neither Frame Streams nor collectors have it), and rules about what is logged but
//! chance: whoever reads the messages can choose better.

mod file;
mod flags;
mod frames;
mod message;
mod queue;
mod writer;

use std::{net::SocketAddr, sync::Arc, thread};

use anyhow::Context;
use perigee_dns::Transport;
use perigee_node::access_log::chance;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use self::{
    message::{Kind, Message},
    queue::Queue,
    writer::Writer,
};

pub(crate) use self::flags::TapFlags;
pub use self::flags::{TapOptions, TapTarget};

/// What it counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct TapMetrics {
    written: Counter,
    dropped: Counter,
    errors: Counter,
    connected: Gauge,
}

impl TapMetrics {
    /// Registers `perigee_dnstap_*`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("perigee_dnstap_messages", "Messages of dnstap written", metrics.written.clone());
        registry.register(
            "perigee_dnstap_dropped",
            "Messages of dnstap lost to a full buffer, because the collector is away or too slow",
            metrics.dropped.clone(),
        );
        registry.register(
            "perigee_dnstap_errors",
            "Times that the collector or the file of dnstap failed",
            metrics.errors.clone(),
        );
        registry.register(
            "perigee_dnstap_connected",
            "Whether a collector or a file takes messages of dnstap",
            metrics.connected.clone(),
        );
        metrics
    }
}

/// Where the messages of one nameserver go. Cheap to clone; its thread ends, after the last messages, when the last clone is
/// dropped, those of [`Tapper`]s too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tap(Option<Arc<Handle>>);

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    options: TapOptions,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.order(|orders| orders.stop = true);
    }
}

impl Tap {
    /// Starts its thread. A collector may be away; a file must be one that can be written to.
    pub(crate) fn start(options: &TapOptions, name: &str, metrics: TapMetrics) -> anyhow::Result<Self> {
        if options.target == TapTarget::Off {
            return Ok(Self::default());
        }
        if let TapTarget::File(path) = &options.target {
            file::check(path).with_context(|| {
                format!(
                    "{} cannot be written; --dnstap takes a new file, or one of dnstap, to go on with",
                    path.display()
                )
            })?;
        }
        let identity = options.identity.as_deref().unwrap_or(name);
        let prefix = message::prefix(identity, concat!("perigee-geodns ", env!("CARGO_PKG_VERSION")));
        let queue = Arc::new(Queue::new(prefix, metrics));
        let writer = Writer::new(Arc::clone(&queue), options.target.clone());
        thread::Builder::new()
            .name("dnstap".to_owned())
            .spawn(|| writer.run())
            .context("the thread of dnstap cannot be started")?;
        Ok(Self(Some(Arc::new(Handle { queue, options: options.clone() }))))
    }

    /// For one socket or connection; None: nobody wants its messages.
    pub(crate) fn tapper(&self, transport: Transport) -> Option<Tapper> {
        let handle = Arc::clone(self.0.as_ref()?);
        let shard = handle.queue.next_shard();
        Some(Tapper { handle, shard, transport, local: None, following: None })
    }

    /// Opens the file anew, say after it was renamed; of a collector, dials again.
    pub(crate) fn reopen(&self) {
        if let Some(handle) = &self.0 {
            handle.queue.order(|orders| orders.reopen = true);
        }
    }

    /// Returns when every message of before has been written or lost, and the collector was told that this was all. One that
    /// hangs can hold it for some seconds: give it a bound.
    pub(crate) async fn close(&self) {
        // It ends by an error: nobody is left to say more.
        if let Some(ended) = self.0.as_ref().and_then(|handle| handle.queue.stop()) {
            ended.await.unwrap_or_default();
        }
    }
}

/// Hands on the messages of one socket or connection.
#[derive(Debug)]
pub(crate) struct Tapper {
    handle: Arc<Handle>,
    shard: usize,
    transport: Transport,
    local: Option<SocketAddr>,
    /// Of the transfer under way, if its question was taken: who asked, and when (ns).
    following: Option<(SocketAddr, u64)>,
}

impl Tapper {
    /// Where clients reach it.
    pub(crate) fn set_local(&mut self, local: Option<SocketAddr>) {
        self.local = local;
    }

    /// Hands on a question, when it came (ns since the epoch) and its answer, if chance would have it. `begins`: the answer is
    /// the first message of a transfer.
    pub(crate) fn offer(&mut self, peer: SocketAddr, asked_ns: u64, query: &[u8], reply: Option<&[u8]>, begins: bool) {
        let one_in = u64::from(self.handle.options.one_in.get());
        self.following = None;
        if one_in > 1 && !chance().is_multiple_of(one_in) {
            return;
        }
        if begins {
            self.following = Some((peer, asked_ns));
        }
        let query = self.message(Kind::Query, peer, asked_ns, query);
        let reply = reply.map(|reply| self.answer(peer, asked_ns, reply));
        self.handle.queue.add(self.shard, [Some(query), reply].into_iter().flatten());
    }

    /// Hands on a further message of the transfer that the last question began.
    pub(crate) fn follow(&mut self, reply: &[u8]) {
        if let Some((peer, asked_ns)) = self.following {
            self.handle.queue.add(self.shard, [self.answer(peer, asked_ns, reply)]);
        }
    }

    fn answer<'a>(&self, peer: SocketAddr, asked_ns: u64, reply: &'a [u8]) -> Message<'a> {
        let answered_ns = perigee_node::clock::now_ns();
        self.message(Kind::Response { answered_ns }, peer, asked_ns, reply)
    }

    fn message<'a>(&self, kind: Kind, peer: SocketAddr, asked_ns: u64, bytes: &'a [u8]) -> Message<'a> {
        Message { kind, transport: self.transport, peer, local: self.local, asked_ns, bytes }
    }
}

#[cfg(test)]
mod tests;
