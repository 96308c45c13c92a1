//! Which server first: rendezvous hashing within tiers. Pure.
//!
//! Every node that knows the same servers orders them alike for one key, so that a key lives on one shield; and a server
//! that comes or goes moves only the keys that are or become its own.

use xxhash_rust::xxh3::xxh3_64;

/// A lower tier is asked before a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// A shield that lists this PoP.
    HomeShield,
    /// Any other shield.
    Shield,
    /// An origin.
    Origin,
    /// An origin for when the others are down.
    Backup,
}

/// What the order depends on.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) tier: Tier,
    id_hash: u64,
    weight: f64,
}

impl Candidate {
    /// `id` is what all nodes call the server; `weight` its share within the tier.
    pub(crate) fn new(tier: Tier, id: &str, weight: u32) -> Self {
        Self { tier, id_hash: xxh3_64(id.as_bytes()), weight: f64::from(weight.max(1)) }
    }

    // Weighted rendezvous: -weight / ln(u) of a uniform u in (0, 1), the highest wins; each wins in proportion to weight.
    fn score(&self, key_hash: u64) -> f64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&key_hash.to_le_bytes());
        bytes[8..].copy_from_slice(&self.id_hash.to_le_bytes());
        let uniform = ((xxh3_64(&bytes) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -self.weight / uniform.ln()
    }
}

/// All candidates' indexes in the order to ask them for this key.
pub(crate) fn order(candidates: &[Candidate], key_hash: u64) -> Vec<usize> {
    let mut scored: Vec<(usize, Tier, f64)> =
        candidates.iter().enumerate().map(|(index, one)| (index, one.tier, one.score(key_hash))).collect();
    // Stable, so that even equal scores come in the document's order.
    scored.sort_by(|a, b| a.1.cmp(&b.1).then(b.2.total_cmp(&a.2)));
    scored.into_iter().map(|(index, _, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(weights: &[(&str, u32)]) -> Vec<Candidate> {
        weights.iter().map(|(id, weight)| Candidate::new(Tier::Origin, id, *weight)).collect()
    }

    fn first(candidates: &[Candidate], key: u64) -> usize {
        order(candidates, key)[0]
    }

    #[test]
    fn tiers_come_in_order() {
        let tiers = [Tier::Backup, Tier::Origin, Tier::Shield, Tier::HomeShield];
        let all: Vec<Candidate> = tiers.into_iter().map(|tier| Candidate::new(tier, "same", 1)).collect();
        for key in 0..1000 {
            assert_eq!(order(&all, key), [3, 2, 1, 0]);
        }
    }

    #[test]
    fn shares_follow_weights() {
        let all = origins(&[("a", 1), ("b", 3)]);
        let to_b = (0..10_000).filter(|key| first(&all, *key) == 1).count();
        assert!((7300..7700).contains(&to_b), "{to_b}");
    }

    #[test]
    fn a_server_that_leaves_moves_only_its_own_keys() {
        let four = origins(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        for key in 0..10_000 {
            let before = order(&four, key);
            let after = first(&four[..3], key);
            let survivor = before.into_iter().find(|index| *index != 3);
            assert_eq!(Some(after), survivor, "{key}");
        }
    }

    #[test]
    fn the_order_does_not_depend_on_the_list() {
        let (ab, ba) = (origins(&[("a", 2), ("b", 1)]), origins(&[("b", 1), ("a", 2)]));
        for key in 0..1000 {
            assert_ne!(first(&ab, key), first(&ba, key));
        }
    }
}
