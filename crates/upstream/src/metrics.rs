//! What is counted of fetches. One per node, passed in; servers take their series once, so that a fetch hashes nothing.

use http::StatusCode;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    site: String,
    peer: String,
    status: &'static str,
}

/// Classes of a status, by its first digit from 2 on; what is left goes with the last.
const STATUSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "other"];

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
    responses: Family<ResponseLabels, Counter>,
    bodies_failed: Family<OutcomeLabels, Counter>,
    retries: Family<ServerLabels, Counter>,
    gave_way: Family<ServerLabels, Counter>,
    connections_opened: Family<ServerLabels, Counter>,
    connections_open: Family<ServerLabels, Gauge>,
    connections_idle: Family<ServerLabels, Gauge>,
    first_byte: Family<ServerLabels, Histogram, FirstByteBuckets>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            fetches: Family::default(),
            responses: Family::default(),
            bodies_failed: Family::default(),
            retries: Family::default(),
            gave_way: Family::default(),
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
        let outcomes = [
            (
                "perigee_upstream_fetches",
                "Attempts at shields and origins, by whether a response's head came (ok, whatever its status) or why not",
                &ours.fetches,
            ),
            (
                "perigee_upstream_bodies_failed",
                "Response bodies of shields and origins that broke off, by why",
                &ours.bodies_failed,
            ),
        ];
        outcomes.into_iter().for_each(|(name, help, family)| registry.register(name, help, family.clone()));
        registry.register(
            "perigee_upstream_responses",
            "Responses of shields and origins, by the class of their status",
            ours.responses.clone(),
        );
        let servers = [
            (
                "perigee_upstream_retries",
                "Attempts after the first of a fetch, counted for who was asked again",
                &ours.retries,
            ),
            (
                "perigee_upstream_exchanges_cut",
                "Exchanges whose client neither took nor sent anything, cut while another network waited for a connection",
                &ours.gave_way,
            ),
            (
                "perigee_upstream_connections_opened",
                "Connections made to a shield or an origin",
                &ours.connections_opened,
            ),
        ];
        servers.into_iter().for_each(|(name, help, family)| registry.register(name, help, family.clone()));
        registry.register(
            "perigee_upstream_connections_open",
            "Connections to a shield or an origin that are open now, busy and idle",
            ours.connections_open.clone(),
        );
        registry.register(
            "perigee_upstream_connections_idle",
            "Connections to a shield or an origin that are kept open for the next fetch",
            ours.connections_idle.clone(),
        );
        registry.register_with_unit(
            "perigee_upstream_first_byte",
            "How long attempts took that went well, from their start to the response's head",
            Unit::Seconds,
            ours.first_byte.clone(),
        );
        ours
    }

    pub(crate) fn server(&self, site: &str, peer: &Peer) -> ServerMetrics {
        let labels = ServerLabels { site: site.into(), peer: peer.to_string() };
        ServerMetrics {
            ok: self.fetches.get_or_create_owned(&labels.outcome("ok")),
            responses: STATUSES.map(|status| self.responses.get_or_create_owned(&labels.status(status))),
            retries: self.retries.get_or_create_owned(&labels),
            gave_way: self.gave_way.get_or_create_owned(&labels),
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

    fn status(&self, status: &'static str) -> ResponseLabels {
        ResponseLabels { site: self.site.clone(), peer: self.peer.clone(), status }
    }
}

/// One server's series.
#[derive(Clone, Debug)]
pub(crate) struct ServerMetrics {
    pub(crate) ok: Counter,
    /// By [`STATUSES`].
    responses: [Counter; STATUSES.len()],
    pub(crate) retries: Counter,
    pub(crate) gave_way: Counter,
    pub(crate) opened: Counter,
    pub(crate) open: Gauge,
    pub(crate) idle: Gauge,
    pub(crate) first_byte: Histogram,
    families: Metrics,
    labels: ServerLabels,
}

impl ServerMetrics {
    /// Counts a response's head.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.ok.inc();
        let class = usize::from(status.as_u16() / 100).wrapping_sub(2).min(STATUSES.len() - 1);
        if let Some(class) = self.responses.get(class) {
            class.inc();
        }
    }

    /// For log lines.
    pub(crate) fn site(&self) -> &str {
        &self.labels.site
    }

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
        for status in [200, 206, 304, 404, 500, 599, 600, 999] {
            server.answered(StatusCode::from_u16(status).unwrap());
        }
        server.failed(FetchErrorKind::Connect);
        server.body_failed(FetchErrorKind::PrematureClose);
        server.first_byte.observe(0.2);
        let held = Counted::new(&server.open);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"perigee_upstream_fetches_total{site="www",peer="origin http://o",outcome="ok"} 8"#,
            r#"perigee_upstream_responses_total{site="www",peer="origin http://o",status="2xx"} 2"#,
            r#"perigee_upstream_responses_total{site="www",peer="origin http://o",status="3xx"} 1"#,
            r#"perigee_upstream_responses_total{site="www",peer="origin http://o",status="4xx"} 1"#,
            r#"perigee_upstream_responses_total{site="www",peer="origin http://o",status="5xx"} 2"#,
            r#"perigee_upstream_responses_total{site="www",peer="origin http://o",status="other"} 2"#,
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
