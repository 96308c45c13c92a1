//! What changed from one version of the zone to the next, for secondaries that have an earlier one (RFC 1995).
//!
//! Kept in memory only, and bounded: who has a version from before that gets the whole zone.

use std::{iter, sync::Arc};

use perigee_geo::steer::Steering;

use crate::{
    code::kind,
    name::Name,
    snapshot::Snapshot,
    transfer::{is_after, sets},
    zone::{Rrset, Zone},
};

/// Versions back that differences are kept of.
pub(crate) const DIFFERENCES_MAX: usize = 16;
/// Bytes of all of them in memory.
pub(crate) const BYTES_MAX: usize = 4 << 20;
/// What a record takes in memory beside its bytes on the wire, about.
const RECORD_BYTES: usize = 160;
/// Type, class, time to live and length of a record.
const RECORD_HEAD_BYTES: usize = 10;

/// From one version to the next.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) old_soa: Rrset,
    pub(crate) removed: Vec<(Name, Rrset)>,
    pub(crate) new_soa: Rrset,
    pub(crate) added: Vec<(Name, Rrset)>,
    from: u32,
    /// On the wire without compression.
    wire_bytes: usize,
    records: usize,
}

/// The differences that lead to a version, oldest first: each begins where the one before it ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    differences: Arc<[Arc<Difference>]>,
    /// Of the whole zone, on the wire without compression.
    zone_bytes: usize,
    /// A serial was taken twice, or went back: who has this one, or one before it, may have another content of it.
    doubtful_to: Option<u32>,
}

impl History {
    /// Of `now`, which follows `before`.
    pub(crate) fn following<S: AsRef<[u8]>>(before: &Snapshot<S>, now: &Snapshot<S>) -> Self {
        let is_copied = |snapshot: &Snapshot<S>| snapshot.secondaries.key.is_some() && snapshot.zone.keys.is_none();
        if !is_copied(before) || !is_copied(now) || before.zone.apex() != now.zone.apex() {
            return Self::default();
        }
        let (old_serial, new_serial) = (before.zone.serial, now.zone.serial);
        let mut comparison = Comparison::default();
        let is_small = comparison.compare(before, now);
        let difference = comparison.difference(before, now).filter(|_| is_small);
        let doubtful_to = before.history.doubtful_to;
        if !is_after(new_serial, old_serial) {
            let is_same = difference
                .is_some_and(|difference| difference.records == 0 && difference.old_soa == difference.new_soa);
            if old_serial == new_serial && is_same {
                return before.history.clone();
            }
            // Numbers that went back may come again.
            let doubtful_to = doubtful_to.filter(|to| is_after(*to, old_serial)).or(Some(old_serial));
            return Self { doubtful_to, ..Self::default() };
        }
        match difference.filter(|_| doubtful_to.is_none_or(|to| is_after(old_serial, to))) {
            Some(difference) => before.history.with(Arc::new(difference), comparison.zone_bytes),
            None => Self { doubtful_to: doubtful_to.filter(|to| !is_after(new_serial, *to)), ..Self::default() },
        }
    }

    fn with(&self, difference: Arc<Difference>, zone_bytes: usize) -> Self {
        let mut differences: Vec<_> = self.differences.iter().cloned().chain([difference]).collect();
        let bytes = |differences: &[Arc<Difference>]| -> usize {
            differences.iter().map(|difference| difference.wire_bytes + difference.records * RECORD_BYTES).sum()
        };
        while differences.len() > DIFFERENCES_MAX || bytes(&differences) > BYTES_MAX {
            differences.remove(0);
        }
        Self { differences: differences.into(), zone_bytes, doubtful_to: None }
    }

    /// What leads from that version to this one: all differences kept, and the first that counts. None: not known, or longer
    /// than the zone itself (RFC 1995 §4).
    pub(crate) fn since(&self, serial: u32) -> Option<(Arc<[Arc<Difference>]>, usize)> {
        let first = self.differences.iter().rposition(|difference| difference.from == serial)?;
        let bytes: usize = self.differences.iter().skip(first).map(|difference| difference.wire_bytes).sum();
        (bytes < self.zone_bytes).then(|| (Arc::clone(&self.differences), first))
    }
}

#[derive(Default)]
struct Comparison {
    removed: Vec<(Name, Rrset)>,
    added: Vec<(Name, Rrset)>,
    wire_bytes: usize,
    records: usize,
    zone_bytes: usize,
}

impl Comparison {
    /// Walks through the names of both, which are in order; false where the difference is too large to be kept.
    fn compare<S: AsRef<[u8]>>(&mut self, before: &Snapshot<S>, now: &Snapshot<S>) -> bool {
        let (mut old, mut new) = (before.names.iter().peekable(), now.names.iter().peekable());
        iter::from_fn(|| match (old.peek(), new.peek()) {
            (None, None) => None,
            (Some(_), None) => Some((old.next(), None)),
            (None, Some(_)) => Some((None, new.next())),
            (Some(first), Some(second)) => Some(match first.as_wire().cmp(second.as_wire()) {
                std::cmp::Ordering::Less => (old.next(), None),
                std::cmp::Ordering::Equal => (old.next(), new.next()),
                std::cmp::Ordering::Greater => (None, new.next()),
            }),
        })
        .all(|(old, new)| {
            let old = old.map(|name| (name, &*before.zone, &*before.steering));
            let new = new.map(|name| (name, &*now.zone, &*now.steering));
            self.compare_name(old, new);
            self.wire_bytes + self.records * RECORD_BYTES <= BYTES_MAX
        })
    }

    fn compare_name(&mut self, old: Option<(&Name, &Zone, &Steering)>, new: Option<(&Name, &Zone, &Steering)>) {
        if let (Some(old), Some(rrsets)) = (plain(old), plain(new))
            && old == rrsets
        {
            let name = new.map(|(name, ..)| name);
            self.zone_bytes += name.map_or(0, |name| rrsets.iter().map(|set| wire_bytes(name, set)).sum());
            return;
        }
        let all = |of: Option<(&Name, &Zone, &Steering)>| {
            of.map_or_else(Vec::new, |(name, zone, steering)| sets(zone, steering, name))
        };
        let (old_sets, new_sets) = (all(old), all(new));
        let Some((name, ..)) = old.or(new) else { return };
        self.zone_bytes += new_sets.iter().map(|set| wire_bytes(name, set)).sum::<usize>();
        for (these, others, changed) in
            [(&old_sets, &new_sets, &mut self.removed), (&new_sets, &old_sets, &mut self.added)]
        {
            for set in these {
                let other = others.iter().find(|other| (other.kind, other.ttl_s) == (set.kind, set.ttl_s));
                let is_there = |rdata: &_| other.is_some_and(|other| other.records.contains(rdata));
                let records: Vec<_> = set.records.iter().filter(|rdata| !is_there(rdata)).cloned().collect();
                if !records.is_empty() {
                    let set = Rrset { records, ..*set };
                    self.records += set.records.len();
                    self.wire_bytes += wire_bytes(name, &set);
                    changed.push((name.clone(), set));
                }
            }
        }
    }

    fn difference<S: AsRef<[u8]>>(&mut self, before: &Snapshot<S>, now: &Snapshot<S>) -> Option<Difference> {
        let (old_soa, new_soa) = (soa(&before.zone)?.clone(), soa(&now.zone)?.clone());
        let apex = now.zone.apex();
        Some(Difference {
            wire_bytes: self.wire_bytes + wire_bytes(apex, &old_soa) + wire_bytes(apex, &new_soa),
            old_soa,
            removed: std::mem::take(&mut self.removed),
            new_soa,
            added: std::mem::take(&mut self.added),
            from: before.zone.serial,
            records: self.records,
        })
    }
}

fn soa(zone: &Zone) -> Option<&Rrset> {
    zone.glue(zone.apex())?.rrset(kind::SOA)
}

/// The sets of a name that is there and the same for whoever asks.
fn plain<'z>(of: Option<(&Name, &'z Zone, &Steering)>) -> Option<&'z [Rrset]> {
    let (name, zone, _) = of?;
    zone.glue(name).filter(|node| node.site.is_none()).map(|node| &*node.rrsets)
}

fn wire_bytes(owner: &Name, set: &Rrset) -> usize {
    let head = owner.as_wire().len() + RECORD_HEAD_BYTES;
    let names = |rdata: &crate::rdata::Rdata| rdata.names.iter().map(|name| name.as_wire().len()).sum::<usize>();
    set.records.iter().map(|rdata| head + rdata.head.len() + names(rdata) + rdata.tail.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(from: u32, wire_bytes: usize) -> Arc<Difference> {
        let soa = Rrset { kind: kind::SOA, ttl_s: 0, records: Vec::new() };
        let (removed, added) = (Vec::new(), Vec::new());
        Arc::new(Difference { old_soa: soa.clone(), removed, new_soa: soa, added, from, wire_bytes, records: 1 })
    }

    #[track_caller]
    fn check(sizes: &[usize], zone_bytes: usize, serial: u32, expected: Option<usize>) {
        let history = (0_u32..)
            .zip(sizes)
            .fold(History::default(), |history, (from, bytes)| history.with(difference(from, *bytes), zone_bytes));
        assert_eq!(history.since(serial).map(|(all, first)| all.len() - first), expected, "{} {serial}", sizes.len());
    }

    #[test]
    fn both_sides_of_what_is_kept() {
        check(&[10; DIFFERENCES_MAX], usize::MAX, 0, Some(DIFFERENCES_MAX));
        check(&[10; DIFFERENCES_MAX + 1], usize::MAX, 0, None);
        check(&[10; DIFFERENCES_MAX + 1], usize::MAX, 1, Some(DIFFERENCES_MAX));
        check(&[10; 3], usize::MAX, 3, None);
        let whole = BYTES_MAX - RECORD_BYTES;
        check(&[whole], usize::MAX, 0, Some(1));
        check(&[whole + 1], usize::MAX, 0, None);
        let half = BYTES_MAX / 2 - RECORD_BYTES;
        check(&[half, half], usize::MAX, 0, Some(2));
        check(&[half, half + 1], usize::MAX, 0, None);
        check(&[half, half + 1], usize::MAX, 1, Some(1));
        // RFC 1995 §4: what is as long as the zone is not sent.
        check(&[10; 3], 31, 0, Some(3));
        check(&[10; 3], 30, 0, None);
        check(&[10; 3], 30, 1, Some(2));
    }
}
