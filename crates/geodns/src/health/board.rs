//! What the probes found together, what operators say, and the loads of the edges: published as one view.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use perigee_geo::{
    health::{HealthView, Operator, Out, PopHealth},
    shed::{Shedder, settle_ms},
};
use perigee_node::clock;
use perigee_protocol::{
    id::{NodeId, PopId, SiteId},
    model::{AllDown, Document, PopLoad},
};
use serde_json::{Value, json};

use crate::answerer::Shared;

/// What one probe came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// Whether the edge answered as it should.
    pub(super) ok: bool,
    /// Whether it says that it is about to end.
    pub(super) is_draining: bool,
    /// What it says of its load; 1.0 is all that it can bear.
    pub(super) load: Option<f64>,
}

/// What is known of all that is probed.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) shared: Arc<Shared>,
    /// Tells the time between steps of shedding, whatever the wall clock does.
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    addresses: BTreeMap<IpAddr, Address>,
    pops: BTreeMap<PopId, Pop>,
    sites: BTreeMap<SiteId, Site>,
    /// For as long as the PoP is in the document or comes back to it.
    operators: BTreeMap<PopId, Operator>,
    /// How long a step of shedding takes to be seen.
    settle_ms: u64,
    is_isolated: bool,
}

#[derive(Debug)]
struct Address {
    pop: PopId,
    node: NodeId,
    /// Since when it is down, in milliseconds since the Unix epoch.
    down_since_ms: Option<u64>,
    /// What the last probe came to; None: it was not probed yet.
    last: Option<Heard>,
}

impl Address {
    fn is_draining(&self) -> bool {
        self.last.is_some_and(|last| last.is_draining)
    }
}

#[derive(Debug, Default)]
struct Pop {
    /// None: it never sheds.
    marks: Option<PopLoad>,
    shedder: Shedder,
    load: Option<f64>,
}

#[derive(Debug)]
struct Site {
    /// None: all.
    pops: Option<Vec<PopId>>,
    policy: &'static str,
    is_down: bool,
}

impl State {
    /// Takes one probe's result; says whether no address answers. Of a single one that says nothing.
    fn hear(&mut self, address: IpAddr, heard: Heard) -> bool {
        // A probe that was under way when its address left the document.
        if let Some(address) = self.addresses.get_mut(&address) {
            // Who said that it ends and then answers nothing has not taken it back.
            let is_draining = if heard.ok { heard.is_draining } else { address.is_draining() };
            address.last = Some(Heard { is_draining, ..heard });
        }
        self.addresses.len() > 1 && self.addresses.values().all(|address| address.last.is_some_and(|last| !last.ok))
    }

    /// Why an address is not answered.
    fn out(&self, address: &Address) -> Option<Out> {
        let operator = self.operators.get(&address.pop);
        match (operator, address.down_since_ms) {
            (Some(Operator::ForceUp), _) => None,
            (_, Some(since_ms)) => Some(Out::Down { since_ms }),
            (Some(Operator::Drain), None) => Some(Out::Drained),
            (None, None) => address.is_draining().then_some(Out::Draining),
        }
    }

    /// The mean of the PoP's nodes that say something of their loads: of each what its most loaded address says.
    fn load(&self, pop: &PopId) -> Option<f64> {
        let mut nodes: BTreeMap<&NodeId, f64> = BTreeMap::new();
        for address in self.addresses.values().filter(|address| address.pop == *pop) {
            if let Some(load) = address.last.and_then(|last| last.load) {
                let of_node = nodes.entry(&address.node).or_insert(load);
                *of_node = of_node.max(load);
            }
        }
        (!nodes.is_empty()).then(|| nodes.values().sum::<f64>() / nodes.len() as f64)
    }

    fn health(&self, id: &PopId) -> PopHealth {
        let pop = self.pops.get(id);
        let kept = pop.map(|pop| pop.shedder.kept()).unwrap_or_default();
        PopHealth { operator: self.operators.get(id).copied(), kept }
    }

    fn view(&self) -> HealthView {
        let out = self.addresses.iter().filter_map(|(ip, address)| Some((*ip, self.out(address)?)));
        let pops = self.pops.keys().map(|id| (id.clone(), self.health(id)));
        HealthView::of(self.generation, out, pops.filter(|(_, health)| *health != PopHealth::default()))
    }
}

impl Board {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, began: Instant::now(), state: Mutex::default() }
    }

    /// How long it has been there, in milliseconds.
    fn age_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Knows of the addresses, PoPs and sites of a document, and of no others; what is known of those that stay, stays.
    pub(super) fn follow(&self, document: &Document) {
        let mut state = self.lock();
        let mut known = std::mem::take(&mut state.addresses);
        let mut pops = std::mem::take(&mut state.pops);
        for pop in &document.pops {
            for (node, ip) in pop.nodes.iter().flat_map(|node| node.addresses.iter().map(move |ip| (node, *ip))) {
                let before = known.remove(&ip);
                let (down_since_ms, last) = before.map_or((None, None), |before| (before.down_since_ms, before.last));
                let address = Address { pop: pop.id.clone(), node: node.id.clone(), down_since_ms, last };
                state.addresses.insert(ip, address);
            }
            let before = pops.remove(&pop.id).unwrap_or_default();
            let shedder = if pop.load.is_some() { before.shedder } else { Shedder::default() };
            state.pops.insert(pop.id.clone(), Pop { marks: pop.load, shedder, load: before.load });
        }
        for gone in pops.keys() {
            self.shared.metrics.forget_pop(gone);
        }
        let mut sites = std::mem::take(&mut state.sites);
        for site in &document.sites {
            let is_down = sites.remove(&site.id).is_some_and(|before| before.is_down);
            let policy = policy(&site.all_down);
            state.sites.insert(site.id.clone(), Site { pops: site.pops.clone(), policy, is_down });
        }
        for gone in sites.keys() {
            self.shared.metrics.forget_site(gone);
        }
        state.settle_ms = settle_ms(u64::try_from(document.cdn.ttl.as_millis()).unwrap_or(u64::MAX));
        self.publish(&mut state);
    }

    /// Takes what a probe came to; says whether it counts against its address: a failure does not while nobody answers.
    pub(super) fn hear(&self, ip: IpAddr, heard: Heard) -> bool {
        let now_ms = self.age_ms();
        let mut state = self.lock();
        let before = state.addresses.get(&ip).and_then(|address| state.out(address));
        let is_isolated = state.hear(ip, heard);
        self.isolated(&mut state, is_isolated);
        let Some(address) = state.addresses.get(&ip) else { return false };
        let (pop, after) = (address.pop.clone(), state.out(address));
        let changed = before != after;
        if changed && after != Some(Out::Drained) && before != Some(Out::Drained) {
            self.tell_draining(&pop, ip, after == Some(Out::Draining));
        }
        // Without reports nothing is known of loads: what is kept stays.
        let sheds = heard.ok && self.weigh(&mut state, &pop, now_ms);
        if changed || sheds {
            self.publish(&mut state);
        }
        heard.ok || !is_isolated
    }

    /// Takes a PoP's load, and lets it shed or regain; says whether what it keeps changed.
    fn weigh(&self, state: &mut State, id: &PopId, now_ms: u64) -> bool {
        let (load, settle_ms) = (state.load(id), state.settle_ms);
        let Some(pop) = state.pops.get_mut(id) else { return false };
        pop.load = load;
        self.shared.metrics.set_load(id, load);
        let Some(marks) = &pop.marks else { return false };
        let before = pop.shedder.kept();
        if !pop.shedder.hear(now_ms, load, marks, settle_ms) {
            return false;
        }
        let (node, kept) = (&self.shared.name, pop.shedder.kept().thousandths());
        let (pop, load) = (id, load.map(|load| format!("{load:.2}")).unwrap_or_else(|| "unknown".into()));
        if kept < before.thousandths() {
            tracing::warn!(node, %pop, load, kept_thousandths = kept, "a PoP is above its load mark: more of its clients go to the next");
        } else {
            tracing::info!(node, %pop, load, kept_thousandths = kept, "a PoP regains clients");
        }
        true
    }

    fn isolated(&self, state: &mut State, is_isolated: bool) {
        if is_isolated == state.is_isolated {
            return;
        }
        state.is_isolated = is_isolated;
        self.shared.metrics.set_isolated(is_isolated);
        let (node, addresses) = (&self.shared.name, state.addresses.len());
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

    fn tell_draining(&self, pop: &PopId, address: IpAddr, is_draining: bool) {
        let node = &self.shared.name;
        if is_draining {
            tracing::info!(node, %pop, %address, "an edge says that it is about to end: it leaves the answers");
        } else {
            tracing::info!(node, %pop, %address, "an edge does not say any more that it is about to end");
        }
    }

    pub(super) fn is_up(&self, ip: IpAddr) -> bool {
        self.lock().addresses.get(&ip).is_none_or(|address| address.down_since_ms.is_none())
    }

    /// What rise and fall came to.
    pub(super) fn set(&self, ip: IpAddr, is_up: bool) {
        let mut state = self.lock();
        let Some(address) = state.addresses.get_mut(&ip) else { return };
        if is_up != address.down_since_ms.is_none() {
            address.down_since_ms = (!is_up).then(clock::now_ms);
            self.publish(&mut state);
        }
    }

    /// What operators say from now on, and nothing else.
    pub(super) fn obey(&self, operators: BTreeMap<PopId, Operator>) {
        let mut state = self.lock();
        state.operators = operators;
        self.publish(&mut state);
    }

    /// Swaps the view in, and tells of sites that have nobody left. Under the lock, so that an older view never replaces a
    /// newer one.
    fn publish(&self, state: &mut State) {
        state.generation += 1;
        self.shared.health.store(Arc::new(state.view()));
        for id in state.pops.keys() {
            self.shared.metrics.set_pop(id, &state.health(id));
        }
        let alive: BTreeSet<&PopId> = state
            .addresses
            .values()
            .filter(|address| !matches!(state.out(address), Some(Out::Down { .. })))
            .map(|address| &address.pop)
            .collect();
        let node = &self.shared.name;
        for (site, of) in &mut state.sites {
            let lives = match &of.pops {
                Some(pops) => pops.iter().any(|pop| alive.contains(pop)),
                None => !alive.is_empty(),
            };
            self.shared.metrics.set_all_down(site, !lives);
            if of.is_down == lives {
                of.is_down = !lives;
                if lives {
                    tracing::info!(node, %site, "a PoP of the site is up again");
                } else {
                    tracing::error!(node, %site, all_down = of.policy, "all PoPs of a site are down: its policy answers");
                }
            }
        }
    }

    /// The addresses that are down.
    pub(super) fn down(&self) -> Vec<IpAddr> {
        let state = self.lock();
        let down = state.addresses.iter().filter(|(_, address)| matches!(state.out(address), Some(Out::Down { .. })));
        down.map(|(ip, _)| *ip).collect()
    }

    pub(super) fn is_isolated(&self) -> bool {
        self.lock().is_isolated
    }

    /// What is known of each PoP, for people.
    pub(super) fn pops(&self) -> Value {
        let state = self.lock();
        let pops = state.pops.keys().map(|id| {
            let health = state.health(id);
            let of_pop = state.addresses.iter().filter(|(_, address)| address.pop == *id);
            let addresses = of_pop.map(|(ip, address)| {
                let out = match state.out(address) {
                    None => "up",
                    Some(Out::Down { .. }) => "down",
                    Some(Out::Drained) => "drained",
                    Some(Out::Draining) => "draining",
                };
                (ip.to_string(), json!(out))
            });
            let told = json!({
                "state": health.operator.map_or("auto", Operator::as_str),
                "kept": f64::from(health.kept.thousandths()) / 1_000.0,
                "load": state.pops.get(id).and_then(|pop| pop.load),
                "addresses": addresses.collect::<serde_json::Map<_, _>>(),
            });
            (id.to_string(), told)
        });
        Value::Object(pops.collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn policy(all_down: &AllDown) -> &'static str {
    match all_down {
        AllDown::Nearest => "nearest",
        AllDown::LastKnown => "last_known",
        AllDown::NoData => "nodata",
        AllDown::Cname(_) => "cname",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Heard = Heard { ok: true, is_draining: false, load: None };
    const FAILED: Heard = Heard { ok: false, is_draining: false, load: None };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn state(addresses: &[(u8, &str, &str)]) -> State {
        let address = |(last, pop, node): &(u8, &str, &str)| {
            let address =
                Address { pop: pop.parse().unwrap(), node: node.parse().unwrap(), down_since_ms: None, last: None };
            (ip(*last), address)
        };
        State { addresses: addresses.iter().map(address).collect(), ..State::default() }
    }

    #[test]
    fn isolated_when_all_of_several_fail() {
        let check = |expected: &[u8], probes: &[(u8, Heard)], isolated: bool| {
            let addresses: Vec<_> = expected.iter().map(|last| (*last, "fra", "fra")).collect();
            let mut state = state(&addresses);
            let heard = probes.iter().map(|(last, heard)| state.hear(ip(*last), *heard)).last();
            assert_eq!(heard, Some(isolated), "{expected:?} {probes:?}");
        };
        check(&[1, 2], &[(1, FAILED)], false);
        check(&[1, 2], &[(1, FAILED), (2, FAILED)], true);
        check(&[1, 2], &[(1, FAILED), (2, FAILED), (1, OK)], false);
        check(&[1, 2], &[(1, OK), (2, FAILED), (1, FAILED)], true);
        check(&[1], &[(1, FAILED)], false);
        // One that is not of the document any more.
        check(&[1, 2], &[(1, FAILED), (2, FAILED), (3, OK)], true);
    }

    #[test]
    fn why_an_address_is_out() {
        let check = |operator: Option<Operator>, down: bool, draining: bool, expected: Option<Out>| {
            let mut state = state(&[(1, "fra", "fra")]);
            state.operators = operator.into_iter().map(|operator| ("fra".parse().unwrap(), operator)).collect();
            state.hear(ip(1), Heard { is_draining: draining, ..OK });
            state.addresses.get_mut(&ip(1)).unwrap().down_since_ms = down.then_some(7);
            let out = state.addresses.values().map(|address| state.out(address)).collect::<Vec<_>>();
            assert_eq!(out, [expected], "{operator:?} {down} {draining}");
        };
        let down = Some(Out::Down { since_ms: 7 });
        check(None, false, false, None);
        check(None, true, false, down);
        check(None, false, true, Some(Out::Draining));
        check(None, true, true, down);
        let mut state = state(&[(1, "fra", "fra")]);
        for (heard, is_draining) in
            [(Heard { is_draining: true, ..OK }, true), (FAILED, true), (FAILED, true), (OK, false), (FAILED, false)]
        {
            state.hear(ip(1), heard);
            assert_eq!(state.addresses[&ip(1)].is_draining(), is_draining, "{heard:?}");
        }
        check(Some(Operator::Drain), false, false, Some(Out::Drained));
        check(Some(Operator::Drain), false, true, Some(Out::Drained));
        check(Some(Operator::Drain), true, false, down);
        check(Some(Operator::ForceUp), true, true, None);
    }

    #[test]
    fn a_pops_load_is_the_mean_of_its_nodes() {
        let check = |loads: &[Option<f64>], expected: Option<f64>| {
            let mut state = state(&[(1, "fra", "a"), (2, "fra", "a"), (3, "fra", "b"), (4, "lon", "c")]);
            for (last, load) in (1..).zip(loads) {
                state.hear(ip(last), Heard { load: *load, ..OK });
            }
            assert_eq!(state.load(&"fra".parse().unwrap()), expected, "{loads:?}");
        };
        check(&[None, None, None, Some(0.9)], None);
        check(&[Some(0.5), None, None, None], Some(0.5));
        check(&[Some(0.5), Some(0.7), None, None], Some(0.7));
        check(&[Some(0.5), Some(0.25), Some(1.0), None], Some(0.75));
    }
}
