//! A node's metrics: its registry, and what every node counts. Engines register theirs through
//! [`NodeMetrics::register`]; nothing here is process-global, so that the nodes of a `demo` keep their own.

mod plain;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::Registry,
};

use crate::{
    process::ProcessCollector,
    state::{NodeState, VERSION, tier},
};

/// The media type of [`NodeMetrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of [`NodeMetrics::encode_plain`].
pub const CONTENT_TYPE_PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A node's registry, and the metrics that every node has. Every sample carries `node` and `tier` labels.
#[derive(Debug)]
pub struct NodeMetrics {
    registry: Mutex<Registry>,
    /// Of the data listeners.
    pub connections: ConnectionMetrics,
    /// Of the document and the databases.
    pub reloads: ReloadMetrics,
}

impl NodeMetrics {
    /// The registry of that node, with `perigee_build_info`, the process's figures, connections and reloads in it.
    pub fn new(state: &Arc<NodeState>) -> Self {
        let labels = [("node", state.id().to_owned()), ("tier", tier(state.kind()).to_owned())];
        let mut registry = Registry::with_labels(labels.into_iter().map(|(name, value)| (name.into(), value.into())));
        registry.register("perigee_build", "The version that is running", Info::new(vec![("version", VERSION)]));
        registry.register_collector(Box::new(Readiness(Arc::clone(state))));
        registry.register_collector(Box::new(ProcessCollector));
        let connections = ConnectionMetrics::register(&mut registry);
        let reloads = ReloadMetrics::register(&mut registry);
        Self { registry: Mutex::new(registry), connections, reloads }
    }

    /// Lets an engine register its metrics: `metrics.register(StoreMetrics::register)`.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.lock())
    }

    /// Lets something that opens over several awaits register its metrics. A scrape meanwhile sees none: open before serving.
    pub async fn register_while<T>(&self, open: impl AsyncFnOnce(&mut Registry) -> T) -> T {
        let mut registry = std::mem::take(&mut *self.lock());
        let opened = open(&mut registry).await;
        *self.lock() = registry;
        opened
    }

    /// As [`NodeMetrics::encode`], in the older text for who does not ask for OpenMetrics.
    pub fn encode_plain(&self) -> Result<String, fmt::Error> {
        self.encode().map(|text| plain::of_open_metrics(&text))
    }

    /// All metrics in the text that Prometheus asks for: OpenMetrics.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.lock())?;
        Ok(text)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `/readyz` says, read when somebody scrapes.
#[derive(Debug)]
struct Readiness(Arc<NodeState>);

impl Collector for Readiness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: bool| {
            let gauge = ConstGauge::new(i64::from(value));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        let help = "Whether new clients may be sent to the node, as /readyz tells: 1 or 0; not while it drains.";
        gauge("perigee_ready", help, self.0.is_ready())?;
        gauge("perigee_draining", "Whether the node was told to end and drains: 1 or 0.", self.0.is_draining())?;
        // Prometheus knows when it asked: the difference is how far this clock is off.
        let help = "What the node takes the time to be, in seconds since the Unix epoch.";
        let clock = ConstGauge::new(crate::clock::now_ms() as f64 / 1e3);
        clock.encode(encoder.encode_descriptor("perigee_clock_seconds", help, None, MetricType::Gauge)?)
    }
}

/// Client connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    open: Gauge,
    total: Counter,
    at_limit: Counter,
    accept_errors: Counter,
}

impl ConnectionMetrics {
    /// Registers `perigee_connections_*`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("perigee_connections_open", "Client connections that are open now", metrics.open.clone());
        registry.register("perigee_connections", "Client connections accepted since the start", metrics.total.clone());
        registry.register(
            "perigee_connections_at_limit",
            "Client connections that waited for room, since as many as may be were open",
            metrics.at_limit.clone(),
        );
        registry.register(
            "perigee_accept_errors",
            "Times that the system refused to hand over a connection, say for want of file descriptors",
            metrics.accept_errors.clone(),
        );
        metrics
    }

    /// Connections open now.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    /// A connection was accepted. For listeners of the caller's own.
    pub fn opened(&self) {
        self.open.inc();
        self.total.inc();
    }

    /// A connection ended.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// A client had to wait for room.
    pub fn at_limit(&self) {
        self.at_limit.inc();
    }

    /// The system refused an accept.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }
}

/// What is reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reloaded {
    /// The CDN document.
    Document,
    /// The geo database.
    GeoDatabase,
    /// The database of autonomous systems.
    AsnDatabase,
    /// A certificate and its key.
    Certificate,
    /// The zone files of a nameserver.
    ZoneFiles,
    /// The folder of a nameserver's DNSSEC keys; refused at each look while it is.
    Keys,
}

/// How a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadResult {
    /// The new generation serves.
    Applied,
    /// The old generation goes on.
    Refused,
}

macro_rules! label_value {
    ($name:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $name {
            /// The word in labels and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}
label_value!(Reloaded {
    Document => "document",
    GeoDatabase => "geo-database",
    AsnDatabase => "asn-database",
    Certificate => "certificate",
    ZoneFiles => "zone-files",
    Keys => "keys",
});
label_value!(ReloadResult { Applied => "applied", Refused => "refused" });

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailingLabels {
    what: Reloaded,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    what: Reloaded,
    result: ReloadResult,
}

/// Reloads of the document and the databases.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    generation: Gauge<u64, AtomicU64>,
    total: Family<ReloadLabels, Counter>,
    failing: Family<FailingLabels, Gauge>,
    document_refusal: Arc<Mutex<Option<String>>>,
}

impl ReloadMetrics {
    /// Registers `perigee_document_generation`, `perigee_reloads_total` and `perigee_reload_failing`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "perigee_document_generation",
            "Generation of the document that serves; 1 at the start, 0 without a document",
            metrics.generation.clone(),
        );
        registry.register(
            "perigee_reloads",
            "Files that were read again after they had changed, by what they are and how it went",
            metrics.total.clone(),
        );
        registry.register(
            "perigee_reload_failing",
            "Whether a file as it is now is refused, so that what was read before goes on: 1 or 0",
            metrics.failing.clone(),
        );
        metrics.set_failing(Reloaded::Document, false);
        // From the start both outcomes exist, so that an alert can look at the rate of the rare one.
        for result in [ReloadResult::Applied, ReloadResult::Refused] {
            drop(metrics.total.get_or_create(&ReloadLabels { what: Reloaded::Document, result }));
        }
        metrics
    }

    /// Which generation of the document serves.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// A generation of the document serves from now on.
    pub fn set_generation(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// Why the document's file as it is now does not serve; None when it does. For `/v1/status`.
    pub fn document_refusal(&self) -> Option<String> {
        self.document_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why the document's file as it is now does not serve, cut after 4,096 bytes, or that it does.
    pub fn set_document_refusal(&self, refusal: Option<&str>) {
        const BYTES_MAX: usize = 4_096;
        let told = refusal.map(|reason| {
            reason
                .chars()
                .scan(0, |bytes, c| {
                    *bytes += c.len_utf8();
                    (*bytes <= BYTES_MAX).then_some(c)
                })
                .collect()
        });
        *self.document_refusal.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// Says whether what lies in the files now is refused; [`ReloadMetrics::count`] says it too.
    pub fn set_failing(&self, what: Reloaded, is_failing: bool) {
        self.failing.get_or_create(&FailingLabels { what }).set(i64::from(is_failing));
    }

    /// Whether what lies in the files now is refused.
    pub fn is_failing(&self, what: Reloaded) -> bool {
        self.failing.get_or_create(&FailingLabels { what }).get() == 1
    }

    /// Counts a reload.
    pub fn count(&self, what: Reloaded, result: ReloadResult) {
        self.set_failing(what, result == ReloadResult::Refused);
        self.total.get_or_create(&ReloadLabels { what, result }).inc();
    }

    /// How many reloads went so.
    pub fn total(&self, what: Reloaded, result: ReloadResult) -> u64 {
        self.total.get_or_create(&ReloadLabels { what, result }).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NodeKind;

    #[test]
    fn the_text_holds_what_every_node_has() {
        let metrics = NodeMetrics::new(&NodeState::new(NodeKind::Edge, "fra"));
        metrics.connections.opened();
        metrics.reloads.set_generation(7);
        metrics.reloads.count(Reloaded::Document, ReloadResult::Refused);
        let extra: Counter = metrics.register(|registry| {
            let extra = Counter::default();
            registry.register("perigee_extra", "Of an engine", extra.clone());
            extra
        });
        extra.inc();
        let text = metrics.encode().unwrap();
        for line in [
            r#"perigee_build_info{node="fra",tier="edge",version="0.1.0"} 1"#,
            r#"perigee_connections_open{node="fra",tier="edge"} 1"#,
            r#"perigee_connections_total{node="fra",tier="edge"} 1"#,
            r#"perigee_document_generation{node="fra",tier="edge"} 7"#,
            r#"perigee_reloads_total{what="document",result="refused",node="fra",tier="edge"} 1"#,
            r#"perigee_reloads_total{what="document",result="applied",node="fra",tier="edge"} 0"#,
            r#"perigee_reload_failing{what="document",node="fra",tier="edge"} 1"#,
            r#"perigee_ready{node="fra",tier="edge"} 1"#,
            r#"perigee_draining{node="fra",tier="edge"} 0"#,
            r#"perigee_extra_total{node="fra",tier="edge"} 1"#,
        ] {
            assert!(text.lines().any(|l| same_sample(l, line)), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    /// Equal but for the order of labels.
    fn same_sample(a: &str, b: &str) -> bool {
        let parts = |line: &str| {
            let (name, rest) = line.split_once('{')?;
            let (labels, value) = rest.split_once("} ")?;
            let mut labels: Vec<String> = labels.split(',').map(str::to_owned).collect();
            labels.sort();
            Some((name.to_owned(), labels, value.to_owned()))
        };
        parts(a).is_some() && parts(a) == parts(b)
    }

    #[test]
    fn readiness_is_told_as_it_is() {
        let state = NodeState::new(NodeKind::Shield, "eu");
        let metrics = NodeMetrics::new(&state);
        let check = |ready: u8, draining: u8| {
            let text = metrics.encode().unwrap();
            for (name, value) in [("perigee_ready", ready), ("perigee_draining", draining)] {
                let line = format!("{name}{{node=\"eu\",tier=\"shield\"}} {value}");
                assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
            }
        };
        check(1, 0);
        state.set_not_ready("geo", "no database");
        check(0, 0);
        state.set_ready("geo");
        check(1, 0);
        state.request_drain();
        check(0, 1);
    }

    #[test]
    fn a_reload_fails_until_another_does_not() {
        let metrics = ReloadMetrics::default();
        metrics.count(Reloaded::Keys, ReloadResult::Refused);
        metrics.count(Reloaded::ZoneFiles, ReloadResult::Applied);
        assert_eq!([Reloaded::Keys, Reloaded::ZoneFiles].map(|what| metrics.is_failing(what)), [true, false]);
        metrics.count(Reloaded::Keys, ReloadResult::Applied);
        assert!(!metrics.is_failing(Reloaded::Keys));
        // What serves lies there again, and is not read anew.
        metrics.count(Reloaded::Document, ReloadResult::Refused);
        metrics.set_failing(Reloaded::Document, false);
        assert!(!metrics.is_failing(Reloaded::Document));
    }

    #[test]
    fn two_nodes_share_nothing() {
        let (a, b) = (NodeState::new(NodeKind::Edge, "a"), NodeState::new(NodeKind::Edge, "b"));
        let (a, b) = (NodeMetrics::new(&a), NodeMetrics::new(&b));
        a.connections.opened();
        assert_eq!((a.connections.open(), b.connections.open()), (1, 0));
    }
}
