//! Health of the edges by this nameserver's own probes: an HTTP GET of each address, with rise and fall.
//!
//! An address is up until `fall` probes in a row have failed, also at the start: a nameserver that was just started
//! answers as if all were well rather than send everybody to whoever was probed first. A reload of the document keeps
//! what is known of the addresses that stay.
//!
//! A probe's answer may tell of the edge (`perigee-load`, `perigee-draining`): it is believed of the address that was probed
//! and nothing else, so who is not probed cannot say anything. What operators say goes before what probes find.
//!
//! When not one of several addresses answers its last probe, then it is the nameserver that is cut off, or nothing is left
//! to choose from: no address is taken for down any more until one answers, so that the last known view stays.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use perigee_geo::health::Operator;
use perigee_protocol::{
    headers,
    id::PopId,
    model::{Document, Health},
};
use serde_json::Value;
use tokio::{runtime::Handle, task::AbortHandle, time};

use crate::answerer::Shared;

mod board;

use board::{Board, Heard};

/// Probes come this much earlier or later, as a share of their interval, so that those of many nameservers and edges
/// do not fall together.
const JITTER: f64 = 0.1;

/// The highest load that is believed, in times of all that an edge can bear.
const LOAD_MAX: f64 = 1_000.0;

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
        let board = Arc::new(Board::new(shared));
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
        self.board.follow(document);
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
        self.board.down()
    }

    /// What operators say of PoPs from now on, and nothing else.
    pub(crate) fn obey(&self, operators: BTreeMap<PopId, Operator>) {
        self.board.obey(operators);
    }

    /// What is known of each PoP, by its id: `state`, `kept`, `load`, `addresses`.
    pub(crate) fn pops(&self) -> Value {
        self.board.pops()
    }

    /// Whether no address answers, so that the last known view stays.
    pub(crate) fn is_isolated(&self) -> bool {
        self.board.is_isolated()
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
            let heard = result.as_ref().map_or(Heard::default(), |heard| *heard);
            let counts = self.board.hear(self.address, heard);
            if let Some(is_up) = counts.then(|| self.judge.hear(result.is_ok())).flatten() {
                self.board.set(self.address, is_up);
                self.board.shared.metrics.set_up(&self.pop, self.address, is_up);
                self.tell(is_up, result.err());
            }
            time::sleep(jittered(self.health.interval, random_share())).await;
        }
    }

    async fn ask(&self) -> Result<Heard, String> {
        let asked = self.client.get(&self.url).header("connection", "close").timeout(self.health.timeout).send();
        match asked.await {
            Ok(response) if response.status().is_success() => Ok(told(response.headers())),
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

/// What an edge's answer says of it. What cannot be read was not said.
fn told(said: &HeaderMap) -> Heard {
    let load = said.get(headers::LOAD).and_then(|load| load.to_str().ok()?.parse::<f64>().ok());
    Heard {
        ok: true,
        is_draining: said.get(headers::DRAINING).is_some_and(|value| value == "1"),
        load: load.filter(|load| load.is_finite() && (0.0..=LOAD_MAX).contains(load)),
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
    fn what_an_edge_says_of_itself() {
        let check = |fields: &[(&'static str, &'static str)], is_draining: bool, load: Option<f64>| {
            let said = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(told(&said), Heard { ok: true, is_draining, load }, "{fields:?}");
        };
        check(&[], false, None);
        check(&[("perigee-load", "0.73")], false, Some(0.73));
        check(&[("perigee-load", "0"), ("perigee-draining", "1")], true, Some(0.0));
        check(&[("perigee-load", "1000")], false, Some(1_000.0));
        for bad in ["1000.1", "-0.1", "NaN", "inf", "", "a", "0,7"] {
            check(&[("perigee-load", bad), ("perigee-draining", "0")], false, None);
        }
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
