//! What is counted of fetches. One per node, passed in; servers take their series once, so that a fetch hashes nothing.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{FetchErrorKind, Peer};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    site: String,
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    site: String,
    peer: String,
    outcome: &'static str,
}

/// 1 ms to 16 s and above.
#[derive(Clone, Debug)]
struct FirstByteBuckets;

impl MetricConstructor<Histogram> for FirstByteBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 15))
    }
}

/// The families, shared by all fleets of a node. [`Default`] is registered nowhere, for tests.
#[derive(Clone, Debug)]
pub struct Metrics {
    fetches: Family<OutcomeLabels, Counter>,
    bodies_failed: Family<OutcomeLabels, Counter>,
    retries: Family<ServerLabels, Counter>,
    connections_opened: Family<ServerLabels, Counter>,
    connections_open: Family<ServerLabels, Gauge>,
    connections_idle: Family<ServerLabels, Gauge>,
    first_byte: Family<ServerLabels, Histogram, FirstByteBuckets>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            fetches: Family::default(),
            bodies_failed: Family::default(),
            retries: Family::default(),
            connections_opened: Family::default(),
            connections_open: Family::default(),
            connections_idle: Family::default(),
            first_byte: Family::new_with_constructor(FirstByteBuckets),
        }
    }
}

impl Metrics {
    /// Makes them and registers them under `perigee_upstream_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let ours = Self::default();
        let registry = registry.sub_registry_with_prefix("perigee_upstream");
        let mut add = |name: &str, help: &str, family: &Family<OutcomeLabels, Counter>| {
            registry.register(name, help, family.clone());
        };
        add("fetches", "Attempts at upstreams, by how the response's head came", &ours.fetches);
        add("bodies_failed", "Response bodies that broke off", &ours.bodies_failed);
        registry.register("retries", "Attempts after the first of a fetch", ours.retries.clone());
        registry.register("connections_opened", "Connections made", ours.connections_opened.clone());
        registry.register("connections_open", "Connections, busy and idle", ours.connections_open.clone());
        registry.register("connections_idle", "Connections kept for reuse", ours.connections_idle.clone());
        let help = "From the start of an attempt to the response's head";
        registry.register_with_unit("first_byte", help, Unit::Seconds, ours.first_byte.clone());
        ours
    }

    pub(crate) fn server(&self, site: &str, peer: &Peer) -> ServerMetrics {
        let labels = ServerLabels { site: site.into(), peer: peer.to_string() };
        ServerMetrics {
            ok: self.fetches.get_or_create_owned(&labels.outcome("ok")),
            retries: self.retries.get_or_create_owned(&labels),
            opened: self.connections_opened.get_or_create_owned(&labels),
            open: self.connections_open.get_or_create_owned(&labels),
            idle: self.connections_idle.get_or_create_owned(&labels),
            first_byte: self.first_byte.get_or_create_owned(&labels),
            families: self.clone(),
            labels,
        }
    }
}

impl ServerLabels {
    fn outcome(&self, outcome: &'static str) -> OutcomeLabels {
        OutcomeLabels { site: self.site.clone(), peer: self.peer.clone(), outcome }
    }
}

/// One server's series.
#[derive(Clone, Debug)]
pub(crate) struct ServerMetrics {
    pub(crate) ok: Counter,
    pub(crate) retries: Counter,
    pub(crate) opened: Counter,
    pub(crate) open: Gauge,
    pub(crate) idle: Gauge,
    pub(crate) first_byte: Histogram,
    families: Metrics,
    labels: ServerLabels,
}

impl ServerMetrics {
    pub(crate) fn failed(&self, kind: FetchErrorKind) {
        self.families.fetches.get_or_create(&self.labels.outcome(kind.as_str())).inc();
    }

    pub(crate) fn body_failed(&self, kind: FetchErrorKind) {
        self.families.bodies_failed.get_or_create(&self.labels.outcome(kind.as_str())).inc();
    }
}

/// Counts in a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_names_every_family() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let server = metrics.server("www", &Peer::Origin("http://o".into()));
        server.ok.inc();
        server.failed(FetchErrorKind::Connect);
        server.body_failed(FetchErrorKind::PrematureClose);
        server.first_byte.observe(0.2);
        let held = Counted::new(&server.open);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"perigee_upstream_fetches_total{site="www",peer="origin http://o",outcome="ok"} 1"#,
            r#"perigee_upstream_fetches_total{site="www",peer="origin http://o",outcome="connect"} 1"#,
            r#"perigee_upstream_bodies_failed_total{site="www",peer="origin http://o",outcome="premature-close"} 1"#,
            r#"perigee_upstream_connections_open{site="www",peer="origin http://o"} 1"#,
            r#"perigee_upstream_connections_idle{site="www",peer="origin http://o"} 0"#,
            r#"perigee_upstream_first_byte_seconds_count{site="www",peer="origin http://o"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        drop(held);
        assert_eq!(server.open.get(), 0);
    }
}
