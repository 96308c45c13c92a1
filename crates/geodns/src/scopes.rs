//! When answers are made ahead ([`perigee_geo::steer::AnswerTable`]), so that the scopes told are the shortest that are
//! true: in the background, one table at a time, and given up when what it is made of is replaced meanwhile.
//!
//! Until a table is there the decision's own prefixes are told, which are true as well, and longer.

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use perigee_dns::Snapshot;
use perigee_geo::{
    health::HealthView,
    steer::{AnswerTable, Step},
};
use perigee_node::mmap::MappedFile;
use tokio::{runtime::Handle, time};

use crate::answerer::Shared;

/// How often it is looked whether the table is still of what serves. What has just changed is waited for so long, since
/// changes come in groups: a PoP's addresses go one after the other.
const LOOK: Duration = Duration::from_millis(500);
/// The rest after a table, however often health changes; doubled each time that one was given up.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A few milliseconds' work, after which the thread rests as long: half a core at most.
const STEP_BLOCKS: usize = 4_096;

/// Keeps the table of a nameserver, as long as there is one.
pub(crate) fn keep(shared: &Arc<Shared>, control: &Handle) {
    let (shared, control) = (Arc::downgrade(shared), control.clone());
    control.clone().spawn(async move {
        let (mut seen, mut pause): (Option<Ground>, _) = (None, PAUSE);
        loop {
            time::sleep(LOOK).await;
            let Some(ground) = Ground::of(&shared) else { return };
            if ground.has_table() {
                continue;
            }
            let is_still = seen.as_ref().is_some_and(|seen| seen.is_same(&ground));
            seen = Some(ground.clone());
            if !is_still {
                continue;
            }
            let shared = Weak::clone(&shared);
            let made = control.spawn_blocking(move || make(&shared, &ground));
            match made.await {
                Ok(Made::Published) => pause = PAUSE,
                Ok(Made::GivenUp) => pause = (pause * 2).min(PAUSE_MAX),
                Err(error) => return tracing::error!(%error, "answers are not made ahead any more"),
            }
            seen = None;
            time::sleep(pause).await;
        }
    });
}

/// What a table is made of.
#[derive(Clone)]
struct Ground {
    snapshot: Arc<Snapshot<MappedFile>>,
    health: Arc<HealthView>,
}

impl Ground {
    /// What serves now. None: the nameserver has ended.
    fn of(shared: &Weak<Shared>) -> Option<Self> {
        let shared = shared.upgrade()?;
        Some(Self { snapshot: shared.snapshot.load_full(), health: shared.health.load_full() })
    }

    fn has_table(&self) -> bool {
        self.snapshot.table().is_some_and(|table| table.is_of(&self.health))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.snapshot.has_geography_of(&other.snapshot) && self.health.generation() == other.health.generation()
    }
}

enum Made {
    Published,
    /// What it was made of serves no more.
    GivenUp,
}

fn make(shared: &Weak<Shared>, ground: &Ground) -> Made {
    let began = Instant::now();
    // Two at once would be twice the memory.
    publish(shared, ground, None, Duration::ZERO);
    let mut builder = ground.snapshot.begin_table(&ground.health);
    loop {
        let step_began = Instant::now();
        if ground.snapshot.step(&mut builder, STEP_BLOCKS) == Step::Done {
            break;
        }
        if !Ground::of(shared).is_some_and(|now| now.is_same(ground)) {
            return Made::GivenUp;
        }
        thread::sleep(step_began.elapsed());
    }
    publish(shared, ground, Some(Arc::new(builder.finish())), began.elapsed());
    Made::Published
}

fn publish(shared: &Weak<Shared>, ground: &Ground, table: Option<Arc<AnswerTable>>, took: Duration) {
    let Some(shared) = shared.upgrade() else { return };
    // What was stored meanwhile stays: a table is of one geography only.
    shared.snapshot.rcu(|now| match now.has_geography_of(&ground.snapshot) {
        true => Arc::new(now.with_table(table.clone())),
        false => Arc::clone(now),
    });
    let figures = table.map(|table| table.figures());
    shared.metrics.set_table(figures, took);
    if let Some(figures) = figures {
        let (node, generation) = (&shared.name, ground.health.generation());
        tracing::debug!(node, health_generation = generation, ?took, ?figures, "answers are made ahead");
        if figures.left_out > 0 {
            tracing::warn!(
                node,
                ?figures,
                "answers of some sites take too much memory to be made ahead; their scopes stay those of the database"
            );
        }
    }
}
