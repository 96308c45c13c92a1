//! What every socket of a nameserver shares, and the way of one message through it.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use perigee_dns::{Arrival, Memory, Outcome, Rcode, Reason, Snapshot, Transport, asked, kind_name};
use perigee_geo::health::HealthView;
use perigee_node::{access_log::AccessLog, clock, mmap::MappedFile};
use perigee_protocol::id::PopId;
use serde::Serialize;

use crate::{
    dnstap::{Tap, Tapper},
    metrics::DnsMetrics,
    page::{DnsSamples, Sample},
    tally::Tallies,
    transfers::{Sending, Transfers},
};

/// One nameserver, as its sockets see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) snapshot: ArcSwap<Snapshot<MappedFile>>,
    pub(crate) health: ArcSwap<HealthView>,
    pub(crate) metrics: DnsMetrics,
    pub(crate) query_log: AccessLog,
    pub(crate) tap: Tap,
    pub(crate) samples: DnsSamples,
    pub(crate) transfers: Transfers,
}

/// Answers the messages of one socket or connection.
#[derive(Debug)]
pub(crate) struct Answerer {
    shared: Arc<Shared>,
    transport: Transport,
    memory: Memory,
    tallies: Tallies,
    was_steered: bool,
    /// The transfer that the last message began.
    transfer: Option<Sending>,
    tap: Option<Tapper>,
}

impl Answerer {
    /// `memory`: one of its own for each socket of datagrams.
    pub(crate) fn new(shared: Arc<Shared>, transport: Transport, memory: Memory) -> Self {
        let (tap, tallies) = (shared.tap.tapper(transport), Tallies::default());
        Self { shared, transport, memory, tallies, was_steered: false, transfer: None, tap }
    }

    /// Tells where it is asked, for those who are told of its messages. `local` is only asked where there are such.
    pub(crate) fn at(&mut self, local: impl FnOnce() -> Option<SocketAddr>) {
        if let Some(tap) = &mut self.tap {
            tap.set_local(local());
        }
    }

    /// Whether a transfer is under way, whose messages [`Self::go_on`] makes.
    pub(crate) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// Makes the next message of the transfer under way; false when there is none, or no more.
    pub(crate) fn go_on(&mut self, out: &mut Vec<u8>) -> bool {
        let goes_on = self.transfer.as_mut().is_some_and(|transfer| transfer.next(out));
        if !goes_on {
            self.transfer = None;
        } else if let Some(tap) = &mut self.tap {
            tap.follow(out);
        }
        goes_on
    }

    /// Whether the last answer was of a steered name.
    pub(crate) fn was_steered(&self) -> bool {
        self.was_steered
    }

    /// Answers one message into `out`; false when nothing must be sent.
    pub(crate) fn answer(&mut self, peer: SocketAddr, message: &[u8], out: &mut Vec<u8>) -> bool {
        self.turn().answer(peer, message, out)
    }

    /// Begins to answer what has arrived by now.
    pub(crate) fn turn(&mut self) -> Turn<'_> {
        let Self { shared, transport, memory, tallies, was_steered, transfer, tap } = self;
        let (snapshot, health) = (shared.snapshot.load(), shared.health.load());
        let (transport, now_ms) = (*transport, clock::now_ms());
        let tap = tap.as_mut().map(|tap| (tap, clock::now_ns()));
        Turn { shared, transport, snapshot, health, now_ms, memory, tallies, was_steered, transfer, tap }
    }
}

/// The messages of one moment: one look at the clock, at what is served and at who is up, for all of them. Short, since
/// what it answers from cannot go before it does.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    transport: Transport,
    snapshot: Guard<Arc<Snapshot<MappedFile>>>,
    health: Guard<Arc<HealthView>>,
    now_ms: u64,
    memory: &'a mut Memory,
    tallies: &'a mut Tallies,
    was_steered: &'a mut bool,
    transfer: &'a mut Option<Sending>,
    /// … and when the turn began.
    tap: Option<(&'a mut Tapper, u64)>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.tallies.publish(&self.shared.metrics);
    }
}

impl Turn<'_> {
    pub(crate) fn metrics(&self) -> &DnsMetrics {
        &self.shared.metrics
    }

    /// Answers one message into `out`; false when nothing must be sent.
    pub(crate) fn answer(&mut self, peer: SocketAddr, message: &[u8], out: &mut Vec<u8>) -> bool {
        let arrival = Arrival { peer: peer.ip().to_canonical(), transport: self.transport, now_ms: self.now_ms };
        let mut outcome = perigee_dns::answer(&self.snapshot, arrival, message, &self.health, self.memory, out);
        if outcome.reason == Reason::Transfer
            && let Some(mut transfer) = perigee_dns::begin_transfer(&self.snapshot, arrival, message)
                .and_then(|transfer| self.shared.transfers.start(peer, transfer))
            && transfer.next(out)
        {
            (outcome.rcode, outcome.reason) = (Some(Rcode::NoError), Reason::Transferred);
            *self.transfer = Some(transfer);
        }
        *self.was_steered = outcome.steered.is_some();
        self.tallies.count(self.transport, &outcome, &self.shared.metrics);
        if let Some(pop) = outcome.steered.as_ref().and_then(|steered| steered.pop) {
            self.shared.samples.offer(|| Sample {
                // RFC 7871 §7.1.2: where the query tells no network, it is the resolver that is sent somewhere.
                client: asked(message).and_then(|asked| asked.subnet).map_or(arrival.peer, |(address, _)| address),
                pop: pop.clone(),
            });
        }
        if self.shared.query_log.takes_next() {
            log(self.shared, &arrival, peer, message, out, &outcome);
        }
        let is_answered = outcome.rcode.is_some();
        if let Some((tap, asked_ns)) = &mut self.tap {
            tap.offer(peer, *asked_ns, message, is_answered.then_some(out), self.transfer.is_some());
        }
        is_answered
    }
}

fn log(shared: &Shared, arrival: &Arrival, peer: SocketAddr, message: &[u8], out: &[u8], outcome: &Outcome<'_>) {
    let asked = asked(message);
    let steered = outcome.steered.as_ref();
    let subnet = asked.as_ref().and_then(|asked| asked.subnet).map(|(address, prefix)| format!("{address}/{prefix}"));
    let kind = asked.as_ref().map(|asked| kind_name(asked.kind));
    shared.query_log.write(&Line {
        time_ms: arrival.now_ms,
        node: &shared.name,
        transport: arrival.transport.as_str(),
        client: peer,
        subnet,
        name: asked.as_ref().map(|asked| asked.name.as_str()),
        kind: kind.as_deref(),
        rcode: outcome.rcode.map_or("dropped", |rcode| rcode.as_str()),
        reason: outcome.reason.as_str(),
        pop: steered.and_then(|steered| steered.pop).map(PopId::as_str),
        country: steered.and_then(|steered| steered.country).map(|country| country.to_string()),
        scope: steered.map(|steered| steered.scope),
        truncated: outcome.truncated,
        bytes: out.len(),
    });
}

/// One line of the query log.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time_ms: u64,
    node: &'a str,
    transport: &'static str,
    client: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<String>,
    name: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    rcode: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pop: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    truncated: bool,
    bytes: usize,
}
