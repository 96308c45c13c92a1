//! How much of what it can bear a node bears: what the health path tells nameservers, which send clients elsewhere by it.
//!
//! It is the highest of three parts: of their time, what the cores of the data path are busy; of the connections that may be
//! open, those that are; of the memory for bodies under way, what is held. Cores that several nodes of a process share
//! count for each of them.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use perigee_cache::{Engine, Report};
use perigee_node::{metrics::NodeMetrics, runtimes::Runtimes, state::NodeState};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::runtime::Handle;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Over how many looks it is smoothed: one burst is no load.
const LOOKS_SMOOTHED: f64 = 5.0;

/// A node's load. 1.0: all that it can bear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load(Gauge<f64, AtomicU64>);

impl Load {
    fn register(registry: &mut Registry) -> Self {
        let load = Self::default();
        registry.register(
            "perigee_load",
            "How much of what it can bear the node bears, 1: all; the highest of time of cores, connections, and memory of bodies under way",
            load.0.clone(),
        );
        load
    }

    /// At the last look.
    pub(crate) fn get(&self) -> f64 {
        self.0.get()
    }

    fn hear(&self, parts: [f64; 3]) {
        let highest = parts.into_iter().fold(0.0, f64::max);
        let before = self.get();
        self.0.set(before + (highest - before) / LOOKS_SMOOTHED);
    }
}

/// Looks at a node's load for as long as there is an engine, and lets the health path tell of it.
pub(crate) fn watch(
    runtimes: &Runtimes,
    engine: &Arc<Engine>,
    state: &Arc<NodeState>,
    metrics: &NodeMetrics,
    connections_max: usize,
) -> Load {
    let load = metrics.register(Load::register);
    metrics.register(|registry| registry.register("perigee_connections_max", MAX_HELP, max(connections_max)));
    let (told, node) = (load.clone(), Arc::clone(state));
    engine.report_by(move || Report { load: Some(told.get()), is_draining: node.is_draining() });
    let (engine, connections, heard) = (Arc::downgrade(engine), metrics.connections.clone(), load.clone());
    let mut busy = Busy::new(Arc::clone(&runtimes.cores));
    runtimes.control.spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(engine) = engine.upgrade() else { return };
            let open = connections.open() as f64 / connections_max.max(1) as f64;
            heard.hear([busy.share(), open, engine.inflight_share()]);
        }
    });
    load
}

const MAX_HELP: &str = "Client connections that may be open at a time";

fn max(connections: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(connections).unwrap_or(i64::MAX));
    gauge
}

/// How busy cores are.
struct Busy {
    cores: Arc<[Handle]>,
    at: Instant,
    total: Duration,
}

impl Busy {
    fn new(cores: Arc<[Handle]>) -> Self {
        let total = total(&cores);
        Self { cores, at: Instant::now(), total }
    }

    /// Since the last time: of all cores' time, the part that they worked.
    fn share(&mut self) -> f64 {
        let (at, total) = (Instant::now(), total(&self.cores));
        let worked = total.saturating_sub(self.total).as_secs_f64();
        let had = at.saturating_duration_since(self.at).as_secs_f64() * self.cores.len() as f64;
        (self.at, self.total) = (at, total);
        if had > 0.0 { (worked / had).min(1.0) } else { 0.0 }
    }
}

fn total(cores: &[Handle]) -> Duration {
    // A core is a current-thread runtime: one worker.
    cores.iter().map(|core| core.metrics().worker_total_busy_duration(0)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn the_highest_part_counts_and_bursts_are_smoothed() {
        let load = Load::default();
        load.hear([0.1, 0.5, 0.2]);
        assert!((load.get() - 0.1).abs() < 1e-9);
        for _ in 0..100 {
            load.hear([0.9, 0.0, 0.0]);
        }
        assert!((load.get() - 0.9).abs() < 1e-6, "{load:?}");
        load.hear([0.0; 3]);
        assert!((load.get() - 0.72).abs() < 1e-6, "{load:?}");
    }

    #[test]
    fn busy_cores_are_seen() {
        let running = Runtimes::start(2).unwrap();
        let mut busy = Busy::new(Arc::clone(&running.handles().cores));
        // One of two works from one look to the next, and lets its runtime count now and then.
        let core = running.handles().cores[0].clone();
        let (stop, stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (until, works) = (Arc::clone(&stop), Arc::clone(&stopped));
        core.spawn(async move {
            while until.load(Ordering::SeqCst) == 0 {
                std::hint::black_box((0..20_000_u64).sum::<u64>());
                works.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let mut highest: f64 = 0.0;
        let began = Instant::now();
        while highest < 0.1 && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
            highest = highest.max(busy.share());
        }
        stop.store(1, Ordering::SeqCst);
        assert!(highest >= 0.1, "{highest} after {stopped:?} rounds");
        running.shutdown(Duration::from_secs(5));
    }
}
