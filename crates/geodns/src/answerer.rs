//! What every socket of a nameserver shares, and the way of one message through it.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use perigee_dns::{Arrival, Memory, Outcome, Snapshot, Transport, asked, kind_name};
use perigee_geo::health::HealthView;
use perigee_node::{access_log::AccessLog, clock, mmap::MappedFile};
use perigee_protocol::id::PopId;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::metrics::{DnsMetrics, Ending};

/// One nameserver, as its sockets see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) snapshot: ArcSwap<Snapshot<MappedFile>>,
    pub(crate) health: ArcSwap<HealthView>,
    pub(crate) metrics: DnsMetrics,
    pub(crate) query_log: AccessLog,
}

/// Answers the messages of one socket or connection. Keeps the counters that it has met, so that counting takes no lock.
#[derive(Debug)]
pub(crate) struct Answerer {
    shared: Arc<Shared>,
    transport: Transport,
    memory: Memory,
    /// Few, and nearly always one of the first.
    endings: Vec<(Ending, Counter)>,
    pops: HashMap<PopId, Counter>,
    was_steered: bool,
}

impl Answerer {
    /// `memory`: one of its own for each socket of datagrams.
    pub(crate) fn new(shared: Arc<Shared>, transport: Transport, memory: Memory) -> Self {
        Self { shared, transport, memory, endings: Vec::new(), pops: HashMap::new(), was_steered: false }
    }

    pub(crate) fn metrics(&self) -> &DnsMetrics {
        &self.shared.metrics
    }

    /// Whether the last answer was of a steered name.
    pub(crate) fn was_steered(&self) -> bool {
        self.was_steered
    }

    /// Answers one message into `out`; false when nothing must be sent.
    pub(crate) fn answer(&mut self, peer: SocketAddr, message: &[u8], out: &mut Vec<u8>) -> bool {
        let snapshot = self.shared.snapshot.load();
        let health = self.shared.health.load();
        let arrival = Arrival { peer: peer.ip().to_canonical(), transport: self.transport, now_ms: clock::now_ms() };
        let outcome = perigee_dns::answer(&snapshot, arrival, message, &health, &mut self.memory, out);
        let metrics = &self.shared.metrics;
        metrics.count_total(&outcome);
        let ending = (self.transport, outcome.rcode, outcome.reason);
        match self.endings.iter().find(|(known, _)| *known == ending) {
            Some((_, counter)) => {
                counter.inc();
            }
            None => {
                let counter = metrics.ending(ending);
                counter.inc();
                self.endings.push((ending, counter));
            }
        }
        self.was_steered = outcome.steered.is_some();
        if let Some(pop) = outcome.steered.and_then(|steered| steered.pop) {
            match self.pops.get(pop) {
                Some(counter) => counter.inc(),
                None => self.pops.entry(pop.clone()).or_insert_with(|| metrics.steered_to(pop)).inc(),
            };
        }
        if self.shared.query_log.is_on() {
            self.log(peer, message, out, &outcome);
        }
        outcome.rcode.is_some()
    }

    fn log(&self, peer: SocketAddr, message: &[u8], out: &[u8], outcome: &Outcome<'_>) {
        let asked = asked(message);
        let steered = outcome.steered.as_ref();
        let subnet =
            asked.as_ref().and_then(|asked| asked.subnet).map(|(address, prefix)| format!("{address}/{prefix}"));
        let kind = asked.as_ref().map(|asked| kind_name(asked.kind));
        self.shared.query_log.write(&Line {
            time_ms: clock::now_ms(),
            node: &self.shared.name,
            transport: self.transport.as_str(),
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
