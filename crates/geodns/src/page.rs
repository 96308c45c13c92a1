//! What the page shows of a nameserver: its counters over the last hour, who is up, and from where clients are sent where.

use std::{net::IpAddr, sync::Arc};

use perigee_node::{
    metrics::NodeMetrics,
    page::{Count, History, Samples, Sketch, Source, of_node, world},
    state::NodeState,
};
use perigee_protocol::id::PopId;
use serde_json::{Value, json};

use crate::{answerer::Shared, operator, world::World};

/// Ways from a place to a PoP that are told apart.
const ARCS_MAX: usize = 512;
/// … of which so many are told.
const ARCS_TOLD_MAX: usize = 64;
/// What was answered so long ago counts half.
const HALF_LIFE_MS: u64 = 60 * 1000;

/// One steered answer in many.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) client: IpAddr,
    pub(crate) pop: PopId,
}

/// From a place, in whole degrees, to a PoP: what is told is no client's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Way {
    latitude: i16,
    longitude: i16,
    country: Option<String>,
    pop: PopId,
}

/// The page's view of a nameserver.
pub(crate) struct DnsPage {
    shared: Arc<Shared>,
    world: Arc<World>,
    state: Arc<NodeState>,
    metrics: Arc<NodeMetrics>,
    history: History,
    arcs: Sketch<Way, ()>,
    halved_ms: u64,
}

/// What sockets hand to the page.
pub(crate) type DnsSamples = Samples<Sample>;

impl DnsPage {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        world: &Arc<World>,
        state: &Arc<NodeState>,
        metrics: &Arc<NodeMetrics>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            world: Arc::clone(world),
            state: Arc::clone(state),
            metrics: Arc::clone(metrics),
            history: History::default(),
            arcs: Sketch::new(ARCS_MAX),
            halved_ms: 0,
        }
    }

    fn place(&mut self) {
        let samples = self.shared.samples.take();
        if samples.is_empty() {
            return;
        }
        let snapshot = self.shared.snapshot.load();
        let nowhere = self.world.document().geo.default_location;
        for Sample { client, pop } in samples {
            let place = snapshot.database().map(|database| database.lookup(client)).unwrap_or_default();
            let Some(location) = place.location.or(nowhere) else { continue };
            let (latitude, longitude) = (location.latitude.round() as i16, location.longitude.round() as i16);
            let country = place.country.map(|country| country.to_string());
            self.arcs.count(Way { latitude, longitude, country, pop });
        }
    }

    fn arcs(&self) -> Value {
        let told = self.arcs.top(ARCS_TOLD_MAX).into_iter().map(|(arc, count, ())| {
            json!({
                "latitude": arc.latitude,
                "longitude": arc.longitude,
                "country": arc.country,
                "pop": arc.pop.as_str(),
                "answers": count,
            })
        });
        told.collect()
    }
}

impl Source for DnsPage {
    fn tick(&mut self, now_ms: u64) {
        let queries = self.shared.metrics.answered();
        self.history.note(now_ms, Count { requests: queries, ..Count::default() });
        if now_ms.saturating_sub(self.halved_ms) >= HALF_LIFE_MS {
            self.halved_ms = now_ms;
            self.arcs.halve(|()| ());
        }
        self.place();
    }

    fn tell(&mut self, _now_ms: u64) -> String {
        let document = self.world.document();
        let metrics = &self.shared.metrics;
        let answers = document.pops.iter().map(|pop| (pop.id.to_string(), json!(metrics.steered_to(&pop.id).get())));
        let told = json!({
            "world": world(&document),
            "total": { "requests": metrics.answered(), "dropped": metrics.dropped() },
            "traffic": self.history.told(),
            "answers_by_pop": answers.collect::<serde_json::Map<_, _>>(),
            "addresses_down": self.world.prober().down(),
            "pops": operator::pops(&self.world),
            "isolated": self.world.prober().is_isolated(),
            "arcs": self.arcs(),
        });
        of_node(&self.state, self.metrics.reloads.generation(), told).to_string()
    }
}
