//! The controller alone, and among clients, caching resolvers and other PoPs.

use std::net::IpAddr;

use perigee_protocol::document;

use super::*;
use crate::{
    build::build,
    database::GeoDatabase,
    health::{HealthView, PopHealth},
    steer::{ClientPrefix, Family, Steering},
    world::{DemoBase, demo_world},
};

const SETTLE_MS: u64 = 1_000;

/// Hears each of the loads for `SETTLE_MS`, and tells what is kept after each, in thousandths.
fn check(marks: PopLoad, loads: &[f64], expected: &[u16]) {
    let mut shedder = Shedder::default();
    let kept: Vec<u16> = loads
        .iter()
        .zip(0_u64..)
        .map(|(load, n)| {
            let load = (*load >= 0.0).then_some(*load);
            for part in 0..4 {
                shedder.hear(n * SETTLE_MS + part * SETTLE_MS / 4, load, &marks, SETTLE_MS);
            }
            shedder.kept().thousandths()
        })
        .collect();
    assert_eq!(kept, expected, "{marks:?} {loads:?}");
}

#[test]
fn steps() {
    let marks = PopLoad::default();
    // At the marks nothing happens.
    check(marks, &[0.0, 0.7, 0.8, 0.8], &[1_000; 4]);
    // One step each time it could settle; two above the upper mark.
    check(marks, &[0.9, 0.9, 0.81], &[900, 800, 741]);
    check(marks, &[0.96, 0.95], &[800, 700]);
    // No further than to the middle.
    check(marks, &[0.801], &[936]);
    check(PopLoad { step: 0.5, ..marks }, &[0.9, 7.0, 70.0], &[833, 89, 10]);
    // Back by halves, when it was low for twice as long, and no further than to the middle.
    check(marks, &[0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], &[900, 900, 900, 950, 950, 1_000, 1_000]);
    check(marks, &[2.0, 0.69, 0.69, 0.69, 0.69], &[800, 800, 800, 850, 850]);
    check(marks, &[9.0, 0.69, 0.69, 0.69, 0.75], &[800, 800, 800, 850, 850]);
    // Not when it was low between only.
    check(marks, &[0.9, 0.5, 0.75, 0.5, 0.75, 0.5], &[900; 6]);
    // Who says nothing comes back in time.
    check(marks, &[0.9, -1.0, -1.0, -1.0, -1.0, -1.0], &[900, 900, 900, 950, 950, 1_000]);
    check(marks, &[f64::NAN, f64::INFINITY], &[1_000, 1_000]);
}

#[test]
fn what_is_regained_does_not_overload() {
    // Half a step is a lot of clients for a PoP that keeps little.
    let marks = PopLoad::default();
    let mut shedder = Shedder { kept: 0.02, ..Shedder::default() };
    for now_ms in (0..100 * SETTLE_MS).step_by(100) {
        let load = 0.65 / 0.02 * shedder.kept;
        assert!(load <= marks.target, "{now_ms} {load}");
        shedder.hear(now_ms, Some(load), &marks, SETTLE_MS);
    }
    assert!(shedder.kept > 0.02);
}

/// A fixed sequence for a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0.0 to 1.0.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Capacity of each PoP in clients.
const POPS: [(&str, f64, f64, f64); 5] = [
    ("fra", 50.11, 8.68, 180.0),
    ("lon", 51.51, -0.13, 160.0),
    ("nyc", 40.71, -74.01, 220.0),
    ("sin", 1.35, 103.82, 150.0),
    ("syd", -33.87, 151.21, 150.0),
];
/// Country codes of the demo's world, and how many /24s of clients are there.
const COUNTRIES: [(u8, usize); 4] = [(49, 120), (44, 90), (1, 110), (61, 80)];
const TTL_S: u64 = 30;
const NAMESERVERS: usize = 2;
const PROBE_EVERY_S: u64 = 2;
/// Seconds that a node's load is smoothed over.
const SMOOTHED_S: f64 = 5.0;

/// A resolver of clients of one /24, with what it keeps.
struct Resolver {
    client: ClientPrefix,
    is_german: bool,
    pop: usize,
    until_s: u64,
}

struct Sim {
    chance: Chance,
    steering: Steering,
    database: GeoDatabase<Vec<u8>>,
    addresses: Vec<IpAddr>,
    resolvers: Vec<Resolver>,
    shedders: [[Shedder; POPS.len()]; NAMESERVERS],
    views: [HealthView; NAMESERVERS],
    /// As the nodes report it.
    loads: [f64; POPS.len()],
    /// `kept` of every nameserver and PoP, whenever it changed: seconds, thousandths.
    changes: Vec<(usize, usize, u64, u16)>,
    marks: PopLoad,
}

impl Sim {
    fn new(seed: u64, marks: PopLoad) -> Self {
        let mut text = "[cdn]\nzone = \"cdn.example\"\n[geo.steering]\nanswers = 1\n".to_owned();
        for (n, (id, latitude, longitude, _)) in POPS.iter().enumerate() {
            text += &format!(
                "[[pop]]\nid = \"{id}\"\nlatitude = {latitude}\nlongitude = {longitude}\naddresses = [\"10.0.0.{n}\"]\n"
            );
        }
        text += "[[site]]\nid = \"www\"\norigins = [{ url = \"http://10.0.1.1\" }]\n";
        let document = document::load("sim.toml", &text).unwrap();
        let mut chance = Chance(seed);
        let mut resolvers = Vec::new();
        for (code, count) in COUNTRIES {
            for n in 0..count {
                let client = ClientPrefix::new(IpAddr::from([127, code, n as u8, 0]), 24);
                let until_s = chance.next() % TTL_S;
                resolvers.push(Resolver { client, is_german: code == 49, pop: 0, until_s });
            }
        }
        let mut sim = Self {
            chance,
            steering: Steering::new(&document),
            database: GeoDatabase::from_source(build(demo_world(DemoBase::Loopback).as_bytes()).unwrap()).unwrap(),
            addresses: document.pops.iter().flat_map(|pop| pop.addresses()).collect(),
            resolvers,
            shedders: Default::default(),
            views: Default::default(),
            loads: [0.0; POPS.len()],
            changes: Vec::new(),
            marks,
        };
        for index in 0..sim.resolvers.len() {
            sim.resolvers[index].pop = sim.ask(0, &sim.resolvers[index].client);
        }
        sim
    }

    fn ask(&self, nameserver: usize, client: &ClientPrefix) -> usize {
        let site = self.steering.site("www").unwrap();
        let steered = self.steering.answer(Some(&self.database), client, site, &self.views[nameserver], Family::V4);
        self.addresses.iter().position(|address| *address == steered.addresses[0]).unwrap()
    }

    /// One second, in which each German /24 makes `surge` times the load of any other.
    fn second(&mut self, now_s: u64, surge: f64) {
        for index in 0..self.resolvers.len() {
            if now_s >= self.resolvers[index].until_s {
                let nameserver = (self.chance.next() % NAMESERVERS as u64) as usize;
                let pop = self.ask(nameserver, &self.resolvers[index].client);
                // Clients come when they come, and some resolvers keep what they have for longer than they may.
                let until_s = now_s + TTL_S + self.chance.next() % (TTL_S / 3);
                let resolver = &mut self.resolvers[index];
                (resolver.pop, resolver.until_s) = (pop, until_s);
            }
        }
        let mut clients = [0.0; POPS.len()];
        for resolver in &self.resolvers {
            // Load wavers by a tenth.
            let weight = if resolver.is_german { surge } else { 1.0 };
            clients[resolver.pop] += weight * (0.95 + 0.1 * self.chance.share());
        }
        for (n, load) in self.loads.iter_mut().enumerate() {
            *load += (clients[n] / POPS[n].3 - *load) / SMOOTHED_S;
        }
        for nameserver in 0..NAMESERVERS {
            if (now_s + nameserver as u64).is_multiple_of(PROBE_EVERY_S) {
                self.probe(nameserver, now_s);
            }
        }
    }

    fn probe(&mut self, nameserver: usize, now_s: u64) {
        let settle_ms = settle_ms(TTL_S * 1_000);
        for pop in 0..POPS.len() {
            let shedder = &mut self.shedders[nameserver][pop];
            if shedder.hear(now_s * 1_000, Some(self.loads[pop]), &self.marks, settle_ms) {
                self.changes.push((nameserver, pop, now_s, shedder.kept().thousandths()));
            }
        }
        let pops = self.shedders[nameserver].iter().zip(POPS).map(|(shedder, (id, ..))| {
            (id.parse().unwrap(), PopHealth { kept: shedder.kept(), ..PopHealth::default() })
        });
        self.views[nameserver] = HealthView::of(now_s, [], pops);
    }

    /// How often what a PoP keeps turned round between two moments, over all nameservers and PoPs the most.
    fn turns(&self, between_s: std::ops::Range<u64>) -> usize {
        let of = |nameserver: usize, pop: usize| {
            let mut kept = vec![1_000];
            for change in self.changes.iter().filter(|change| (change.0, change.1) == (nameserver, pop)) {
                match change.2 {
                    at_s if at_s < between_s.start => kept = vec![change.3],
                    at_s if at_s < between_s.end => kept.push(change.3),
                    _ => break,
                }
            }
            let ways: Vec<bool> = kept.windows(2).map(|pair| pair[1] > pair[0]).collect();
            ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
        };
        (0..NAMESERVERS).flat_map(|n| (0..POPS.len()).map(move |pop| of(n, pop))).max().unwrap()
    }
}

const SEEDS: std::ops::Range<u64> = 1..6;
const CALM_S: u64 = 200;
const SURGE_END_S: u64 = 2_600;
const END_S: u64 = 7_000;

#[test]
fn a_surge_is_carried_by_the_neighbours_and_nothing_swings() {
    for seed in SEEDS {
        let marks = PopLoad::default();
        let mut sim = Sim::new(seed, marks);
        let mut worst: f64 = 0.0;
        for now_s in 0..END_S {
            // 120 /24s of Germany as heavy as 300; Frankfurt bears 180, and all together 860 for 580.
            let surge = if (CALM_S..SURGE_END_S).contains(&now_s) { 2.5 } else { 1.0 };
            sim.second(now_s, surge);
            if now_s == CALM_S - 1 {
                assert!(sim.changes.is_empty(), "{seed} sheds without need: {:?}", sim.changes);
            }
            if now_s == CALM_S + 30 {
                assert!(sim.loads[0] > 1.3, "{seed}: Frankfurt is overrun at first: {:?}", sim.loads);
            }
            // Half an hour in, capacity holds: with as much as there is, and some noise.
            if (SURGE_END_S - 600..SURGE_END_S).contains(&now_s) {
                worst = sim.loads.iter().copied().fold(worst, f64::max);
            }
        }
        let changes = &sim.changes;
        assert!(worst < marks.max, "{seed}: {worst}");
        // On the way down a PoP may find that it went too far since its neighbour did too: not again and again.
        assert!(sim.turns(0..SURGE_END_S) <= 2, "{seed}: {changes:?}");
        let late = changes.iter().filter(|change| (SURGE_END_S - 900..SURGE_END_S).contains(&change.2)).count();
        assert!(late <= 2, "{seed}: still moving after 25 minutes: {changes:?}");
        // Afterwards all come back, and stay.
        assert!(sim.turns(SURGE_END_S..END_S) <= 1, "{seed}: {changes:?}");
        let kept: Vec<u16> = sim.shedders.iter().flatten().map(|shedder| shedder.kept().thousandths()).collect();
        assert_eq!(kept, [1_000; NAMESERVERS * POPS.len()], "{seed}");
    }
}

#[test]
fn where_nobody_has_room_nobody_is_left_without_an_answer() {
    let mut sim = Sim::new(7, PopLoad::default());
    for now_s in 0..3_000 {
        sim.second(now_s, 12.0);
    }
    let turns = sim.turns(0..3_000);
    assert!(turns <= 4, "{turns}: {:?}", sim.changes);
    assert!(sim.loads.iter().all(|load| *load > 0.5), "{:?}", sim.loads);
}
