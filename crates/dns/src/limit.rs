//! Response rate limiting: what a network may have answered per second by UDP without proving that it asks.
//!
//! Forged queries make a nameserver send answers to a victim. So each network of clients has a bucket of answers; beyond it
//! most queries are dropped, and every so many-th is answered with nothing but TC, by which an honest client in the same
//! network comes over TCP, which cannot be forged, or with a cookie. The table has a fixed size: a network that finds its place
//! taken by a quiet one takes it over.

use std::{hash::Hasher, net::IpAddr};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

/// Networks that are counted at once.
const BUCKETS: usize = 16_384;
/// Of IPv4 and IPv6 clients: what one network gets is usually one place.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 56;

/// What networks may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Answers per second and network; 0: no limit.
    pub responses_per_second: u32,
    /// Every so many-th that is over the limit is answered with TC; 0: none is.
    pub slip: u32,
    /// Networks without limit.
    pub exempt: Vec<IpNet>,
}

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Answer,
    /// With TC and nothing else.
    Slip,
    Drop,
}

/// The buckets of one core.
#[derive(Debug)]
pub struct Limiter {
    buckets: Box<[Bucket]>,
    key: [u8; 16],
    slipped: u32,
    /// The cores that share the load: each counts its own part.
    cores: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    network: u64,
    /// Thousandths of answers.
    tokens: u64,
    filled_ms: u64,
}

impl Limiter {
    /// `key`: so that nobody can choose networks that share a place. `cores`: how many limiters see a part of the queries.
    pub fn new(key: [u8; 16], cores: usize) -> Self {
        let cores = u32::try_from(cores).unwrap_or(1).max(1);
        Self { buckets: vec![Bucket::default(); BUCKETS].into(), key, slipped: 0, cores }
    }

    /// For connections, of which nothing is counted.
    pub fn unused() -> Self {
        Self { buckets: Box::default(), key: [0; 16], slipped: 0, cores: 1 }
    }

    /// Takes an answer out of the bucket of `peer`'s network.
    pub(crate) fn admit(&mut self, policy: &LimitPolicy, peer: IpAddr, now_ms: u64) -> Admission {
        if policy.responses_per_second == 0 || policy.exempt.iter().any(|network| network.contains(&peer)) {
            return Admission::Answer;
        }
        let network = self.network(peer);
        // One token is a thousandth of an answer; a bucket holds a second's worth.
        let per_ms = u64::from(policy.responses_per_second.div_ceil(self.cores));
        let full = per_ms * 1_000;
        let Some(bucket) = self.buckets.get_mut(network as usize & (BUCKETS - 1)) else { return Admission::Answer };
        let earned = now_ms.saturating_sub(bucket.filled_ms).saturating_mul(per_ms);
        let tokens = bucket.tokens.saturating_add(earned).min(full);
        // A full bucket is a quiet network's.
        if bucket.network != network && tokens >= full {
            *bucket = Bucket { network, tokens: full, filled_ms: now_ms };
        } else {
            *bucket = Bucket { network: bucket.network, tokens, filled_ms: now_ms.max(bucket.filled_ms) };
        }
        if let Some(left) = bucket.tokens.checked_sub(1_000) {
            bucket.tokens = left;
            return Admission::Answer;
        }
        self.slipped = self.slipped.wrapping_add(1);
        if policy.slip > 0 && self.slipped.is_multiple_of(policy.slip) { Admission::Slip } else { Admission::Drop }
    }

    fn network(&self, peer: IpAddr) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        match peer {
            IpAddr::V4(peer) => hasher.write_u32(u32::from(peer) >> (32 - PREFIX_V4)),
            IpAddr::V6(peer) => hasher.write_u128(u128::from(peer) >> (128 - PREFIX_V6)),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(responses_per_second: u32, slip: u32) -> LimitPolicy {
        LimitPolicy { responses_per_second, slip, exempt: vec!["127.0.0.0/8".parse().unwrap()] }
    }

    fn admitted(limiter: &mut Limiter, policy: &LimitPolicy, peer: &str, now_ms: u64, queries: u32) -> [u32; 3] {
        let mut counts = [0; 3];
        for _ in 0..queries {
            match limiter.admit(policy, peer.parse().unwrap(), now_ms) {
                Admission::Answer => counts[0] += 1,
                Admission::Slip => counts[1] += 1,
                Admission::Drop => counts[2] += 1,
            }
        }
        counts
    }

    #[test]
    fn a_network_has_so_many_answers_a_second() {
        let (mut limiter, policy) = (Limiter::new([1; 16], 1), policy(10, 2));
        let mut check = |peer: &str, now_ms: u64, expected: [u32; 3]| {
            assert_eq!(admitted(&mut limiter, &policy, peer, now_ms, 30), expected, "{peer} at {now_ms}");
        };
        check("192.0.2.1", 5_000, [10, 10, 10]);
        // The same network, another address.
        check("192.0.2.200", 5_000, [0, 15, 15]);
        check("192.0.3.1", 5_000, [10, 10, 10]);
        check("2001:db8:0:1::1", 5_000, [10, 10, 10]);
        check("2001:db8:0:ff::1", 5_000, [0, 15, 15]);
        check("2001:db8:0:100::1", 5_000, [10, 10, 10]);
        check("192.0.2.1", 5_500, [5, 12, 13]);
        check("127.0.0.1", 5_500, [30, 0, 0]);
        // A clock that goes back gives nothing away and takes nothing.
        check("192.0.2.1", 4_000, [0, 15, 15]);
        check("192.0.2.1", 6_500, [10, 10, 10]);
    }

    #[test]
    fn cores_share_a_limit_and_zero_is_none() {
        let mut limiter = Limiter::new([1; 16], 4);
        assert_eq!(admitted(&mut limiter, &policy(10, 0), "192.0.2.1", 9_000, 30), [3, 0, 27]);
        assert_eq!(admitted(&mut limiter, &policy(0, 0), "192.0.2.1", 9_000, 30), [30, 0, 0]);
    }

    /// However many networks come, the quiet ones make way and a busy one keeps its place.
    #[test]
    fn the_table_is_shared_by_all_networks() {
        let (mut limiter, policy) = (Limiter::new([1; 16], 1), policy(1, 0));
        assert_eq!(admitted(&mut limiter, &policy, "10.0.0.1", 5_000, 2), [1, 0, 1]);
        for third in 0..250 {
            for second in 0..200 {
                let _counts = admitted(&mut limiter, &policy, &format!("172.{second}.{third}.1"), 5_000, 1);
            }
        }
        assert_eq!(admitted(&mut limiter, &policy, "10.0.0.1", 5_000, 1), [0, 0, 1]);
    }
}
