//! Health of the edges by this nameserver's own probes: an HTTP GET of each address, with rise and fall.
//!
//! An address is up until `fall` probes in a row have failed, also at the start: a nameserver that was just started
//! answers as if all were well rather than send everybody to whoever was probed first. A reload of the document keeps
//! what is known of the addresses that stay.
//!
//! When not one of several addresses answers its last probe, then it is the nameserver that is cut off, or nothing is left
//! to choose from: no address is taken for down any more until one answers, so that the last known view stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perigee_geo::health::HealthView;
use perigee_protocol::{
    id::PopId,
    model::{Document, Health},
};
use tokio::{runtime::Handle, task::AbortHandle, time};

use crate::answerer::Shared;

/// Probes come this much earlier or later, as a share of their interval, so that those of many nameservers and edges
/// do not fall together.
const JITTER: f64 = 0.1;

/// The probes of one nameserver; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Prober {
    control: Handle,
    client: reqwest::Client,
    board: Arc<Board>,
    elsewhere: BTreeMap<IpAddr, SocketAddr>,
    targets: Mutex<BTreeMap<IpAddr, Target>>,
}

#[derive(Debug)]
struct Target {
    pop: PopId,
    health: Health,
    task: AbortHandle,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// `elsewhere`: see [`crate::Options::probe_at`].
    pub(crate) fn new(
        control: Handle,
        shared: Arc<Shared>,
        elsewhere: BTreeMap<IpAddr, SocketAddr>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent("perigee-geodns")
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Each probe connects: a kept connection says nothing of whether new ones are accepted.
            .pool_max_idle_per_host(0)
            .build()?;
        let board = Arc::new(Board { shared, state: Mutex::default() });
        Ok(Self { control, client, board, elsewhere, targets: Mutex::default() })
    }

    /// Probes the addresses of `document` from now on, and no others.
    pub(crate) fn follow(&self, document: &Document) {
        let mut wanted: BTreeMap<IpAddr, (&PopId, &Health)> = BTreeMap::new();
        for pop in &document.pops {
            wanted.extend(pop.addresses().map(|address| (address, (&pop.id, &pop.health))));
        }
        let mut targets = lock(&self.targets);
        targets.retain(|address, target| {
            let stays =
                wanted.get(address).is_some_and(|(pop, health)| **pop == target.pop && **health == target.health);
            if !stays {
                self.board.shared.metrics.forget(&target.pop, *address);
            }
            stays
        });
        self.board.keep_only(|address| wanted.contains_key(address));
        self.board.expect(wanted.keys().copied());
        for (address, (pop, health)) in wanted {
            targets.entry(address).or_insert_with(|| self.start(address, pop, health));
        }
    }

    fn start(&self, address: IpAddr, pop: &PopId, health: &Health) -> Target {
        let is_up = self.board.is_up(address);
        self.board.shared.metrics.set_up(pop, address, is_up);
        let server = self.elsewhere.get(&address).copied().unwrap_or(SocketAddr::new(address, health.port));
        let probe = Probe {
            url: format!("http://{server}{}", health.path),
            judge: Judge { is_up, rise: health.rise, fall: health.fall, streak: 0 },
            client: self.client.clone(),
            board: Arc::clone(&self.board),
            health: health.clone(),
            pop: pop.clone(),
            address,
        };
        Target { pop: pop.clone(), health: health.clone(), task: self.control.spawn(probe.run()).abort_handle() }
    }

    /// The addresses that are down.
    pub(crate) fn down(&self) -> Vec<IpAddr> {
        lock(&self.board.state).down.iter().copied().collect()
    }

    /// Whether no address answers, so that the last known view stays.
    pub(crate) fn is_isolated(&self) -> bool {
        lock(&self.board.state).is_isolated
    }
}

/// What the probes found together, published as one view.
#[derive(Debug)]
struct Board {
    shared: Arc<Shared>,
    state: Mutex<BoardState>,
}

#[derive(Debug, Default)]
struct BoardState {
    generation: u64,
    down: BTreeSet<IpAddr>,
    /// What the last probe of each address came to; None: it was not probed yet.
    last: BTreeMap<IpAddr, Option<bool>>,
    is_isolated: bool,
}

impl BoardState {
    /// Takes one probe's result; says whether no address answers. Of a single one that says nothing.
    fn hear(&mut self, address: IpAddr, ok: bool) -> bool {
        // A probe that was under way when its address left the document.
        if let Some(last) = self.last.get_mut(&address) {
            *last = Some(ok);
        }
        self.last.len() > 1 && self.last.values().all(|last| *last == Some(false))
    }
}

impl Board {
    /// Counts these addresses, and no others, to all that are probed.
    fn expect(&self, addresses: impl Iterator<Item = IpAddr>) {
        let mut state = lock(&self.state);
        let last = addresses.map(|address| (address, state.last.get(&address).copied().flatten())).collect();
        state.last = last;
    }

    /// Whether a result counts against its address: not while no address answers.
    fn counts(&self, address: IpAddr, ok: bool) -> bool {
        let mut state = lock(&self.state);
        let is_isolated = state.hear(address, ok);
        if is_isolated != state.is_isolated {
            state.is_isolated = is_isolated;
            self.shared.metrics.set_isolated(is_isolated);
            let (node, addresses) = (&self.shared.name, state.last.len());
            if is_isolated {
                tracing::error!(
                    node,
                    addresses,
                    "no edge answers its probe: this nameserver is cut off, or all of them are; the last known view of them stays"
                );
            } else {
                tracing::info!(node, addresses, "edges answer their probes again");
            }
        }
        ok || !is_isolated
    }

    fn is_up(&self, address: IpAddr) -> bool {
        !lock(&self.state).down.contains(&address)
    }

    fn set(&self, address: IpAddr, is_up: bool) {
        self.change(|down| if is_up { down.remove(&address) } else { down.insert(address) });
    }

    fn keep_only(&self, stays: impl Fn(&IpAddr) -> bool) {
        self.change(|down| {
            let before = down.len();
            down.retain(stays);
            down.len() != before
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<IpAddr>) -> bool) {
        let mut state = lock(&self.state);
        if change(&mut state.down) {
            state.generation += 1;
            // Under the lock, so that an older view never replaces a newer one.
            self.shared.health.store(Arc::new(HealthView::new(state.generation, state.down.iter().copied())));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The probes of one address.
struct Probe {
    url: String,
    judge: Judge,
    client: reqwest::Client,
    board: Arc<Board>,
    health: Health,
    pop: PopId,
    address: IpAddr,
}

impl Probe {
    async fn run(mut self) {
        time::sleep(self.health.interval.mul_f64(JITTER * random_share())).await;
        loop {
            let result = self.ask().await;
            self.board.shared.metrics.probed(&self.pop, self.address, result.is_ok());
            let counts = self.board.counts(self.address, result.is_ok());
            if let Some(is_up) = counts.then(|| self.judge.hear(result.is_ok())).flatten() {
                self.board.set(self.address, is_up);
                self.board.shared.metrics.set_up(&self.pop, self.address, is_up);
                self.tell(is_up, result.err());
            }
            time::sleep(jittered(self.health.interval, random_share())).await;
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let asked = self.client.get(&self.url).header("connection", "close").timeout(self.health.timeout).send();
        match asked.await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("it answers {}", response.status())),
            Err(error) if error.is_timeout() => Err(format!("no answer within {:?}", self.health.timeout)),
            Err(error) => Err(root_cause(&error)),
        }
    }

    fn tell(&self, is_up: bool, reason: Option<String>) {
        let (node, pop, address, url) = (&self.board.shared.name, &self.pop, self.address, &self.url);
        if is_up {
            tracing::info!(node, %pop, %address, url, probes = self.judge.rise, "an edge is up again");
        } else {
            let reason = reason.unwrap_or_default();
            tracing::warn!(node, %pop, %address, url, probes = self.judge.fall, reason, "an edge is down: it leaves the answers");
        }
    }
}

/// The deepest cause: what the system said.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Rise and fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judge {
    is_up: bool,
    rise: u32,
    fall: u32,
    /// How many probes in a row spoke against `is_up`.
    streak: u32,
}

impl Judge {
    /// Takes one probe's result; says the new state when it changes.
    fn hear(&mut self, ok: bool) -> Option<bool> {
        if ok == self.is_up {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        let needed = if self.is_up { self.fall } else { self.rise };
        if self.streak < needed {
            return None;
        }
        (self.is_up, self.streak) = (ok, 0);
        Some(ok)
    }
}

/// `share` is 0.0 to 1.0.
fn jittered(interval: Duration, share: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * share)
}

/// Evenly from 0.0 to 1.0: each hasher of the standard library is seeded anew.
fn random_share() -> f64 {
    f64::from(RandomState::new().hash_one(0_u8) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rise_and_fall() {
        let check = |rise, fall, probes: &str, expected: &str| {
            let mut judge = Judge { is_up: true, rise, fall, streak: 0 };
            let states = probes.chars().map(|probe| {
                let before = judge.is_up;
                let changed = judge.hear(probe == '+');
                assert_eq!(changed.is_some(), before != judge.is_up);
                if judge.is_up { 'U' } else { 'd' }
            });
            assert_eq!(states.collect::<String>(), expected, "rise {rise} fall {fall} {probes}");
        };
        check(2, 3, "+--+---++", "UUUUUUddU");
        check(2, 3, "---+-+-++", "UUddddddU");
        check(1, 1, "-+-+", "dUdU");
        check(3, 1, "-++-+++", "ddddddU");
    }

    #[test]
    fn isolated_when_all_of_several_fail() {
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let check = |expected: &[u8], probes: &[(u8, bool)], isolated: bool| {
            let last = expected.iter().map(|last| (address(*last), None)).collect();
            let mut state = BoardState { last, ..BoardState::default() };
            let heard = probes.iter().map(|(last, ok)| state.hear(address(*last), *ok)).last();
            assert_eq!(heard, Some(isolated), "{expected:?} {probes:?}");
        };
        check(&[1, 2], &[(1, false)], false);
        check(&[1, 2], &[(1, false), (2, false)], true);
        check(&[1, 2], &[(1, false), (2, false), (1, true)], false);
        check(&[1, 2], &[(1, true), (2, false), (1, false)], true);
        check(&[1], &[(1, false)], false);
        // One that is not of the document any more.
        check(&[1, 2], &[(1, false), (2, false), (3, true)], true);
    }

    #[test]
    fn jitter_is_a_tenth() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0.0), Duration::from_millis(900));
        assert_eq!(jittered(second, 1.0), Duration::from_millis(1100));
        let shares: Vec<f64> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.5) && shares.iter().any(|share| *share > 0.5));
    }
}
