//! What a nameserver counts.

use std::{net::IpAddr, sync::atomic::AtomicU64, time::Duration};

use perigee_dns::{Rcode, Reason, Transport};
use perigee_geo::health::{Operator, PopHealth};
use perigee_geo::{
    place::Country,
    steer::{PlaceSource, TableFigures},
};
use perigee_protocol::id::{PopId, SiteId};
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
struct OperatorLabels {
    pop: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabels {
    site: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    country: String,
    source: &'static str,
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
    origins: Family<OriginLabels, Counter>,
    up: Family<AddressLabels, Gauge>,
    probes: Family<ProbeLabels, Counter>,
    isolated: Gauge,
    operator: Family<OperatorLabels, Gauge>,
    kept: Family<PopLabels, Gauge<f64, AtomicU64>>,
    load: Family<PopLabels, Gauge<f64, AtomicU64>>,
    all_down: Family<SiteLabels, Gauge>,
    state_damaged: Gauge,
    /// Replies that the system did not take.
    pub(crate) unsent: Counter,
    /// TCP connections closed unanswered for want of room.
    pub(crate) refused_connections: Counter,
    database_built: Gauge<u64, AtomicU64>,
    systems_built: Gauge<u64, AtomicU64>,
    scope_regions: Gauge,
    scope_left_out: Gauge,
    scope_seconds: Gauge<f64, AtomicU64>,
    answered: Counter,
    dropped: Counter,
}

impl DnsMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "perigee_dns_queries",
            "DNS messages received, by transport, the rcode answered (dropped: none) and why",
            metrics.queries.clone(),
        );
        registry.register(
            "perigee_dns_steered",
            "Answers to steered names, by the PoP whose addresses came first",
            metrics.steered.clone(),
        );
        registry.register(
            "perigee_dns_clients",
            "Answers to steered names, by the client's country (none: not known) and what told its place",
            metrics.origins.clone(),
        );
        registry.register(
            "perigee_dns_health_up",
            "Whether an edge's address is up by this nameserver's probes",
            metrics.up.clone(),
        );
        registry.register(
            "perigee_dns_probes",
            "Health probes of the edges' addresses, by how they went",
            metrics.probes.clone(),
        );
        registry.register(
            "perigee_dns_isolated",
            "Whether no edge answers this nameserver's probes, so that its last known view of them stays",
            metrics.isolated.clone(),
        );
        registry.register(
            "perigee_dns_pop_operator",
            "Whether an operator drains a PoP or forces it up, whatever the probes find",
            metrics.operator.clone(),
        );
        registry.register(
            "perigee_dns_pop_kept",
            "The part of its clients that a PoP keeps by its load, of 1",
            metrics.kept.clone(),
        );
        registry.register(
            "perigee_dns_pop_load",
            "What a PoP's nodes say of their load, 1: full",
            metrics.load.clone(),
        );
        registry.register(
            "perigee_dns_state_damaged",
            "Whether what operators said of PoPs could not be read at the start, and is not in force",
            metrics.state_damaged.clone(),
        );
        registry.register(
            "perigee_dns_site_all_down",
            "Whether none of a site's PoPs is up, so that its all_down answers",
            metrics.all_down.clone(),
        );
        registry.register(
            "perigee_dns_scope_regions",
            "Stretches of client addresses of one answer, told as ECS scopes; 0: they are being made, and the database's prefixes are told",
            metrics.scope_regions.clone(),
        );
        registry.register(
            "perigee_dns_scope_left_out",
            "Kinds of sites and address families whose answers would take too much memory to be made ahead",
            metrics.scope_left_out.clone(),
        );
        registry.register(
            "perigee_dns_scope_merge_seconds",
            "How long it took to make answers ahead the last time",
            metrics.scope_seconds.clone(),
        );
        registry.register(
            "perigee_dns_unsent",
            "Replies that the operating system did not take",
            metrics.unsent.clone(),
        );
        registry.register(
            "perigee_dns_tcp_refused",
            "TCP, TLS and QUIC connections closed unanswered for want of room, of all or of one client",
            metrics.refused_connections.clone(),
        );
        registry.register(
            "perigee_dns_database_built_seconds",
            "When the geo database was built, since the Unix epoch; 0 without one",
            metrics.database_built.clone(),
        );
        registry.register(
            "perigee_dns_asn_database_built_seconds",
            "When the database of autonomous systems was built, since the Unix epoch; 0 without one",
            metrics.systems_built.clone(),
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

    /// The counter of where clients are; callers keep it.
    pub(crate) fn origin(&self, origin: Origin) -> Counter {
        let country = origin.country.map_or("none".into(), |country| country.to_string());
        self.origins.get_or_create_owned(&OriginLabels { country, source: origin.source.as_str() })
    }

    pub(crate) fn count_totals(&self, answered: u64, dropped: u64) {
        for (total, count) in [(&self.answered, answered), (&self.dropped, dropped)] {
            if count > 0 {
                total.inc_by(count);
            }
        }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.get()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// None: a table is being made.
    pub(crate) fn set_table(&self, figures: Option<TableFigures>, took: Duration) {
        self.scope_regions.set(figures.map_or(0, |figures| i64::try_from(figures.regions).unwrap_or(i64::MAX)));
        if let Some(figures) = figures {
            self.scope_left_out.set(i64::try_from(figures.left_out).unwrap_or(i64::MAX));
            self.scope_seconds.set(took.as_secs_f64());
        }
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

    pub(crate) fn set_pop(&self, pop: &PopId, health: &PopHealth) {
        for operator in [Operator::Drain, Operator::ForceUp] {
            let labels = OperatorLabels { pop: pop.as_str().to_owned(), state: operator.as_str() };
            self.operator.get_or_create(&labels).set(i64::from(health.operator == Some(operator)));
        }
        self.kept.get_or_create(&pop_labels(pop)).set(f64::from(health.kept.thousandths()) / 1_000.0);
    }

    /// None: it says nothing.
    pub(crate) fn set_load(&self, pop: &PopId, load: Option<f64>) {
        match load {
            Some(load) => {
                self.load.get_or_create(&pop_labels(pop)).set(load);
            }
            None => {
                self.load.remove(&pop_labels(pop));
            }
        }
    }

    pub(crate) fn forget_pop(&self, pop: &PopId) {
        self.kept.remove(&pop_labels(pop));
        self.load.remove(&pop_labels(pop));
        for operator in [Operator::Drain, Operator::ForceUp] {
            self.operator.remove(&OperatorLabels { pop: pop.as_str().to_owned(), state: operator.as_str() });
        }
    }

    pub(crate) fn set_state_damaged(&self, is_damaged: bool) {
        self.state_damaged.set(i64::from(is_damaged));
    }

    pub(crate) fn set_all_down(&self, site: &SiteId, is_down: bool) {
        self.all_down.get_or_create(&SiteLabels { site: site.as_str().to_owned() }).set(i64::from(is_down));
    }

    pub(crate) fn forget_site(&self, site: &SiteId) {
        self.all_down.remove(&SiteLabels { site: site.as_str().to_owned() });
    }

    pub(crate) fn probed(&self, pop: &PopId, address: IpAddr, ok: bool) {
        let AddressLabels { pop, address } = address_labels(pop, address);
        self.probes.get_or_create(&ProbeLabels { pop, address, result: if ok { "ok" } else { "failed" } }).inc();
    }

    pub(crate) fn set_database_built(&self, built_at_s: u64) {
        self.database_built.set(built_at_s);
    }

    pub(crate) fn set_systems_built(&self, built_at_s: u64) {
        self.systems_built.set(built_at_s);
    }
}

/// How a message ended; together the labels of `perigee_dns_queries`.
pub(crate) type Ending = (Transport, Option<Rcode>, Reason);

fn pop_labels(pop: &PopId) -> PopLabels {
    PopLabels { pop: pop.as_str().to_owned() }
}

/// Where a client is, and who says so; together the labels of `perigee_dns_clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) country: Option<Country>,
    pub(crate) source: PlaceSource,
}

fn address_labels(pop: &PopId, address: IpAddr) -> AddressLabels {
    AddressLabels { pop: pop.as_str().to_owned(), address: address.to_string() }
}
