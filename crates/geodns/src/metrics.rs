//! What a nameserver counts.

use std::{net::IpAddr, sync::atomic::AtomicU64};

use perigee_dns::{Outcome, Rcode, Reason, Transport};
use perigee_protocol::id::PopId;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    transport: &'static str,
    rcode: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PopLabels {
    pop: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabels {
    pop: String,
    address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    pop: String,
    address: String,
    result: &'static str,
}

/// `perigee_dns_*`
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsMetrics {
    queries: Family<QueryLabels, Counter>,
    steered: Family<PopLabels, Counter>,
    up: Family<AddressLabels, Gauge>,
    probes: Family<ProbeLabels, Counter>,
    isolated: Gauge,
    /// Replies that the system did not take.
    pub(crate) unsent: Counter,
    /// TCP connections closed unanswered for want of room.
    pub(crate) refused_connections: Counter,
    database_built: Gauge<u64, AtomicU64>,
    answered: Counter,
    dropped: Counter,
}

impl DnsMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "perigee_dns_queries",
            "Messages received, by how they ended and why",
            metrics.queries.clone(),
        );
        registry.register("perigee_dns_steered", "Steered answers by the PoP that came first", metrics.steered.clone());
        registry.register(
            "perigee_dns_health_up",
            "Whether an edge's address is up by this nameserver's probes",
            metrics.up.clone(),
        );
        registry.register("perigee_dns_probes", "Health probes", metrics.probes.clone());
        registry.register(
            "perigee_dns_isolated",
            "Whether no edge answers this nameserver's probes, so that its last known view of them stays",
            metrics.isolated.clone(),
        );
        registry.register("perigee_dns_unsent", "Replies that the system did not take", metrics.unsent.clone());
        registry.register(
            "perigee_dns_tcp_refused",
            "TCP connections closed unanswered for want of room",
            metrics.refused_connections.clone(),
        );
        registry.register(
            "perigee_dns_database_built_seconds",
            "When the geo database was built, since the Unix epoch; 0 without one",
            metrics.database_built.clone(),
        );
        metrics
    }

    /// The counter of an ending; callers keep it.
    pub(crate) fn ending(&self, ending: Ending) -> Counter {
        let (transport, rcode, reason) = ending;
        let rcode = rcode.map_or("dropped", Rcode::as_str);
        let labels = QueryLabels { transport: transport.as_str(), rcode, reason: reason.as_str() };
        self.queries.get_or_create_owned(&labels)
    }

    /// The counter of a PoP's answers; callers keep it.
    pub(crate) fn steered_to(&self, pop: &PopId) -> Counter {
        self.steered.get_or_create_owned(&PopLabels { pop: pop.as_str().to_owned() })
    }

    pub(crate) fn count_total(&self, outcome: &Outcome<'_>) {
        let total = if outcome.rcode.is_some() { &self.answered } else { &self.dropped };
        total.inc();
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.get()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    pub(crate) fn set_isolated(&self, isolated: bool) {
        self.isolated.set(i64::from(isolated));
    }

    pub(crate) fn set_up(&self, pop: &PopId, address: IpAddr, up: bool) {
        self.up.get_or_create(&address_labels(pop, address)).set(i64::from(up));
    }

    pub(crate) fn forget(&self, pop: &PopId, address: IpAddr) {
        self.up.remove(&address_labels(pop, address));
        for result in ["ok", "failed"] {
            let AddressLabels { pop, address } = address_labels(pop, address);
            self.probes.remove(&ProbeLabels { pop, address, result });
        }
    }

    pub(crate) fn probed(&self, pop: &PopId, address: IpAddr, ok: bool) {
        let AddressLabels { pop, address } = address_labels(pop, address);
        self.probes.get_or_create(&ProbeLabels { pop, address, result: if ok { "ok" } else { "failed" } }).inc();
    }

    pub(crate) fn set_database_built(&self, built_at_s: u64) {
        self.database_built.set(built_at_s);
    }
}

/// How a message ended; together the labels of `perigee_dns_queries`.
pub(crate) type Ending = (Transport, Option<Rcode>, Reason);

fn address_labels(pop: &PopId, address: IpAddr) -> AddressLabels {
    AddressLabels { pop: pop.as_str().to_owned(), address: address.to_string() }
}
