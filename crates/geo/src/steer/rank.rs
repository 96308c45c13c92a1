//! PoPs in order of preference, whatever their health: distance with bias, then weight among those at one place.

use perigee_protocol::model;

use super::{Few, client::ClientPrefix};
use crate::distance::Point;

/// PoPs of one bias that are no farther than this from the first of them are at one place and share its clients by weight.
pub const ONE_PLACE_KM: f64 = 1.0;

/// What ranking knows of a PoP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    /// Its place: where the first PoP of that place is, and that PoP's index.
    point: Point,
    place: usize,
    pub(super) bias: f64,
    /// 0: a reserve.
    pub(super) weight: u32,
    /// The same in every process for the same id.
    tag: u64,
}

impl Ranked {
    /// Tells the clients that the PoP sheds: another share than that which puts it before others of its place.
    pub(super) fn shed_tag(&self) -> u64 {
        self.tag ^ 0x5EED_5EED_5EED_5EED
    }
}

/// In the document's order.
pub(super) fn prepare(pops: &[model::Pop], steering: &model::Steering) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = Vec::with_capacity(pops.len());
    for (index, pop) in pops.iter().enumerate() {
        let (own, bias) = (Point::from(pop.location), steering.bias.get(&pop.id).copied().unwrap_or(1.0));
        let same_place = |first: &&Ranked| first.bias == bias && first.point.km(own) <= ONE_PLACE_KM;
        let (point, place) = ranked.iter().find(same_place).map_or((own, index), |first| (first.point, first.place));
        ranked.push(Ranked { point, place, bias, weight: pop.weight, tag: tag(pop.id.as_str()) });
    }
    ranked
}

/// FNV-1a: no more is asked of it than to tell ids apart; the client's share is mixed well.
fn tag(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// One PoP in a ranking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) pop: usize,
    /// Weights put it where it is among those of its place: true for the client's /24 or /48 only.
    pub(super) by_share: bool,
    place: usize,
    /// From the client to the PoP's place.
    km: f64,
    /// Divided by the bias.
    pub(super) effective_km: f64,
    score: f64,
}

/// The ranking of some PoPs for a client at `from`, best first.
///
/// Order: biased distance; distance; place by its first PoP's position in the document; weighted share; the document.
pub(super) fn rank(all: &[Ranked], pops: &[usize], from: Point, client: &ClientPrefix) -> Few<Choice> {
    let choice = |pop: usize| {
        let ranked = all.get(pop)?;
        let km = from.km(ranked.point);
        let (place, effective_km) = (ranked.place, km / ranked.bias);
        Some(Choice { pop, by_share: false, place, km, effective_km, score: 0.0 })
    };
    let mut ranking: Few<Choice> = pops.iter().filter_map(|pop| choice(*pop)).collect();
    // Positions in the document part equals, so that the order is total. An unstable sort takes no memory.
    ranking.sort_unstable_by(|a, b| {
        let by_distance = a.effective_km.total_cmp(&b.effective_km).then(a.km.total_cmp(&b.km));
        by_distance.then((a.place, a.pop).cmp(&(b.place, b.pop)))
    });
    for place in ranking.chunk_by_mut(|a, b| a.place == b.place).filter(|place| place.len() > 1) {
        for choice in place.iter_mut() {
            choice.by_share = true;
            choice.score = all.get(choice.pop).map_or(0.0, |ranked| score(ranked, client));
        }
        place.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.pop.cmp(&b.pop)));
    }
    ranking
}

/// Weighted rendezvous hashing: each client prefers the PoP of the highest score, PoPs get shares in proportion to their
/// weights, and when one goes only its own clients move.
///
/// Reserves have no weight to tell them apart: they share evenly.
fn score(ranked: &Ranked, client: &ClientPrefix) -> f64 {
    // 53 bits make a fraction strictly between 0 and 1, whose logarithm is finite and below 0.
    let fraction = ((client.share(ranked.tag) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(ranked.weight.max(1)) / -fraction.ln()
}
