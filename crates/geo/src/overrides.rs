//! `[[geo.override]]`: prefix → target, longest prefix first; of two that name the same prefix, the document's first.
//!
//! Kept as a sorted list of disjoint ranges, neighbours of one target merged: a lookup is a binary search, and the range
//! found says at once how far its answer reaches, which is what a truthful ECS scope needs.

use std::net::IpAddr;

use ipnet::IpNet;

/// For one family of addresses: what holds from `start` to the next entry's start. Begins at 0.
#[derive(Debug)]
struct Ranges {
    /// Of one address: 32 or 128.
    width: u8,
    entries: Vec<(u128, Option<u32>)>,
}

/// All overrides of a document; targets are indices of the caller.
#[derive(Debug)]
pub(crate) struct Overrides {
    v4: Ranges,
    v6: Ranges,
}

/// What the overrides say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// None: no override holds it.
    pub(crate) target: Option<u32>,
    /// The shortest prefix of the address for all of which this is true.
    pub(crate) prefix_len: u8,
}

impl Overrides {
    /// Takes prefixes in the document's order.
    pub(crate) fn new(prefixes: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, target) in prefixes {
            let family = if net.addr().is_ipv4() { &mut v4 } else { &mut v6 };
            family.push((bits(net.network()), bits(net.broadcast()), net.prefix_len(), target));
        }
        Self { v4: Ranges::new(32, v4), v6: Ranges::new(128, v6) }
    }

    /// Looks an address up as it is: the caller makes IPv4-mapped ones IPv4.
    pub(crate) fn find(&self, address: IpAddr) -> Found {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }.find(bits(address))
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Ranges {
    /// Sweeps over the prefixes in order of address, the wider first, with the stack of those that are open.
    fn new(width: u8, mut prefixes: Vec<(u128, u128, u8, u32)>) -> Self {
        // The sort is stable: equal prefixes stay in the document's order.
        prefixes.sort_by_key(|(start, _, len, _)| (*start, *len));
        prefixes.dedup_by_key(|(start, _, len, _)| (*start, *len));
        let mut ranges = Self { width, entries: vec![(0, None)] };
        let mut open: Vec<(u128, u32)> = Vec::new();
        for (start, end, _, target) in prefixes {
            ranges.close(&mut open, Some(start));
            ranges.push(start, Some(target));
            open.push((end, target));
        }
        ranges.close(&mut open, None);
        ranges.entries.shrink_to_fit();
        ranges
    }

    /// Ends the open prefixes that end before `next`.
    fn close(&mut self, open: &mut Vec<(u128, u32)>, next: Option<u128>) {
        while let Some((end, _)) = open.pop_if(|(end, _)| next.is_none_or(|next| *end < next)) {
            if end < self.last_address() {
                self.push(end + 1, open.last().map(|(_, target)| *target));
            }
        }
    }

    fn push(&mut self, start: u128, target: Option<u32>) {
        self.entries.pop_if(|(last, _)| *last == start);
        if self.entries.last().is_none_or(|(_, last)| *last != target) {
            self.entries.push((start, target));
        }
    }

    fn last_address(&self) -> u128 {
        u128::MAX >> (128 - u32::from(self.width))
    }

    fn find(&self, address: u128) -> Found {
        let after = self.entries.partition_point(|(start, _)| *start <= address);
        let (start, target) = after.checked_sub(1).and_then(|at| self.entries.get(at)).copied().unwrap_or_default();
        let next = self.entries.get(after).map(|(start, _)| *start);
        // The addresses just outside on either side must not share the prefix.
        let outside = [start.checked_sub(1), next];
        let prefix_len = outside.into_iter().flatten().map(|other| self.common_prefix_len(address, other) + 1).max();
        Found { target, prefix_len: prefix_len.unwrap_or(0) }
    }

    fn common_prefix_len(&self, a: u128, b: u128) -> u8 {
        // At most 127 and, as both fit the width, at least the unused bits.
        (a ^ b).leading_zeros() as u8 - (128 - self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(prefixes: &[(&str, u32)], address: &str, target: Option<u32>, prefix_len: u8) {
        let overrides = Overrides::new(prefixes.iter().map(|(net, target)| (net.parse().unwrap(), *target)));
        assert_eq!(overrides.find(address.parse().unwrap()), Found { target, prefix_len }, "{prefixes:?} {address}");
    }

    #[test]
    fn table() {
        check(&[], "192.0.2.1", None, 0);
        check(&[("0.0.0.0/0", 1)], "192.0.2.1", Some(1), 0);
        check(&[("0.0.0.0/0", 1)], "2001:db8::1", None, 0);
        check(&[("203.0.113.0/24", 1)], "203.0.113.9", Some(1), 24);
        check(&[("203.0.113.0/24", 1)], "203.0.112.9", None, 24);
        check(&[("203.0.113.0/24", 1)], "1.2.3.4", None, 1);
        check(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2)], "10.1.2.3", Some(2), 16);
        check(&[("10.1.0.0/16", 2), ("10.0.0.0/8", 1)], "10.0.2.3", Some(1), 16);
        check(&[("10.1.0.0/16", 2), ("10.0.0.0/8", 1)], "10.200.2.3", Some(1), 9);
        check(&[("10.0.0.0/9", 1), ("10.128.0.0/9", 1)], "10.200.2.3", Some(1), 8);
        check(&[("10.0.0.0/8", 1), ("10.0.0.0/8", 2)], "10.200.2.3", Some(1), 8);
        check(&[("255.255.255.255/32", 1)], "255.255.255.255", Some(1), 32);
        check(&[("255.255.255.255/32", 1)], "255.255.255.254", None, 32);
        check(&[("0.0.0.0/32", 1)], "0.0.0.1", None, 32);
        check(&[("2001:db8:5::/48", 1)], "2001:db8:5::1", Some(1), 48);
        check(&[("::/0", 1), ("8000::/1", 2)], "::1", Some(1), 1);
    }

    fn net() -> impl Strategy<Value = IpNet> {
        // A narrow space, so that prefixes nest and touch.
        (0..=255_u8, 24..=32_u8)
            .prop_map(|(last, len)| IpNet::new(IpAddr::from([10, 0, 0, last]), len).unwrap().trunc())
    }

    proptest! {
        #[test]
        fn equals_brute_force(nets in prop::collection::vec((net(), 0..4_u32), 0..12), last in 0..=255_u8) {
            let overrides = Overrides::new(nets.iter().copied());
            let brute = |last: u8| {
                let holding = nets.iter().filter(|(net, _)| net.contains(&IpAddr::from([10, 0, 0, last])));
                // The last of equal maxima is taken, so the document's order is turned round.
                holding.rev().max_by_key(|(net, _)| net.prefix_len()).map(|(_, target)| *target)
            };
            let found = overrides.find(IpAddr::from([10, 0, 0, last]));
            prop_assert_eq!(found.target, brute(last));
            // The scope is true, and the next shorter one is not: it is minimal.
            let same = |len: u8| {
                let net = IpNet::new(IpAddr::from([10, 0, 0, last]), len).unwrap();
                (0..=255_u8).filter(|other| net.contains(&IpAddr::from([10, 0, 0, *other]))).all(|other| brute(other) == found.target)
            };
            if found.prefix_len >= 24 {
                prop_assert!(same(found.prefix_len));
                prop_assert!(found.prefix_len == 24 || !same(found.prefix_len - 1));
            } else {
                prop_assert!(same(24));
            }
        }
    }
}
