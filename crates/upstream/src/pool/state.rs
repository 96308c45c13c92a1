//! What a pool's lock guards: connections by cores, those that nobody uses, and who waits for one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hyper::client::conn::http1::SendRequest;
use tokio::{runtime, sync::oneshot, task::AbortHandle, time::Instant};

use super::Checkout;
use crate::{exchange::Exchange, metrics::Counted, multiplex::Core, share::Ledger, upload::Upload};

pub(super) struct State {
    /// By cores.
    pub(super) shards: HashMap<runtime::Id, Shard>,
    /// Connections that may yet be made.
    pub(super) free: usize,
    pub(super) ledger: Ledger<Waiter>,
    /// By the ids of their shares.
    pub(super) exchanges: HashMap<u64, Arc<Exchange>>,
    /// When somebody last looked in vain for an exchange that stands still, and how many its network held.
    pub(super) in_vain: Option<(Instant, usize)>,
    /// When a refusal was last logged, and how many came since.
    pub(super) said: (Option<Instant>, u64),
}

#[derive(Default)]
pub(super) struct Shard {
    /// HTTP/2.
    pub(super) shared: Arc<Core>,
    /// The last used is last.
    pub(super) idle: Vec<Idle>,
}

pub(super) struct Idle {
    pub(super) connection: Connection,
    pub(super) since: Instant,
    pub(super) _counted: Counted,
}

pub(super) struct Waiter {
    pub(super) core: runtime::Id,
    pub(super) idle_max: Duration,
    pub(super) grant: oneshot::Sender<Checkout>,
}

pub(crate) struct Connection {
    pub(super) id: u64,
    /// Where its driver runs.
    pub(super) core: runtime::Id,
    pub(crate) sender: SendRequest<Upload>,
    pub(super) driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What must be dropped without the pool's lock, since it may take the lock itself: made before it is taken.
#[derive(Default)]
pub(super) struct Debris {
    pub(super) idle: Vec<Idle>,
    pub(super) undeliverable: Vec<Checkout>,
}

impl State {
    /// With so many connections that may be made.
    pub(super) fn new(free: usize) -> Self {
        Self {
            shards: HashMap::new(),
            free,
            ledger: Ledger::default(),
            exchanges: HashMap::new(),
            in_vain: None,
            said: (None, 0),
        }
    }

    /// Connections that nobody uses.
    pub(super) fn left(&self) -> usize {
        self.free + self.shards.values().map(|shard| shard.idle.len()).sum::<usize>()
    }

    pub(super) fn shard(&mut self, core: runtime::Id) -> &mut Shard {
        self.shards.entry(core).or_default()
    }

    pub(super) fn take_oldest_idle(&mut self) -> Option<Idle> {
        let shards = self.shards.values_mut().filter(|shard| !shard.idle.is_empty());
        let oldest = shards.min_by_key(|shard| shard.idle.first().map(|idle| idle.since));
        oldest.map(|shard| shard.idle.remove(0))
    }
}

impl Shard {
    pub(super) fn take_idle(&mut self, idle_max: Duration, debris: &mut Debris) -> Option<Idle> {
        while let Some(idle) = self.idle.pop() {
            if idle.since.elapsed() >= idle_max {
                self.idle.push(idle);
                return None;
            }
            if !idle.connection.sender.is_closed() {
                return Some(idle);
            }
            debris.idle.push(idle);
        }
        None
    }
}

impl Connection {
    pub(crate) fn driver(&self) -> AbortHandle {
        self.driver.clone()
    }
}
