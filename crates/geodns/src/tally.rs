//! Counting without a lock and without a write to what other cores write: counted here, published a turn at a time.

use std::{collections::HashMap, hash::Hash};

use perigee_dns::{Outcome, Transport};
use perigee_protocol::id::PopId;
use prometheus_client::metrics::counter::Counter;

use crate::metrics::{DnsMetrics, Ending, Origin};

/// What one socket or connection has counted and not yet published.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    answered: u64,
    dropped: u64,
    endings: Tally<Ending>,
    pops: Tally<PopId>,
    origins: Tally<Origin>,
}

impl Tallies {
    /// Counts a message.
    pub(crate) fn count(&mut self, transport: Transport, outcome: &Outcome<'_>, metrics: &DnsMetrics) {
        *if outcome.rcode.is_some() { &mut self.answered } else { &mut self.dropped } += 1;
        let ending = (transport, outcome.rcode, outcome.reason);
        self.endings.add(&ending, || metrics.ending(ending));
        if let Some(steered) = &outcome.steered {
            let origin = Origin { source: steered.source, country: steered.country };
            self.origins.add(&origin, || metrics.origin(origin));
            if let Some(pop) = steered.pop {
                self.pops.add(pop, || metrics.steered_to(pop));
            }
        }
    }

    /// Adds what was counted to the metrics.
    pub(crate) fn publish(&mut self, metrics: &DnsMetrics) {
        metrics.count_totals(std::mem::take(&mut self.answered), std::mem::take(&mut self.dropped));
        self.endings.publish();
        self.pops.publish();
        self.origins.publish();
    }
}

/// Counters by key, each with what it has not been told yet.
#[derive(Debug)]
struct Tally<K> {
    places: HashMap<K, usize, foldhash::fast::FixedState>,
    slots: Vec<Slot<K>>,
    /// Those that have something to be told.
    touched: Vec<usize>,
    /// The one that was counted last: often the next is the same.
    last: usize,
}

#[derive(Debug)]
struct Slot<K> {
    key: K,
    counter: Counter,
    count: u64,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self { places: HashMap::default(), slots: Vec::new(), touched: Vec::new(), last: 0 }
    }
}

impl<K: Hash + Eq + Clone> Tally<K> {
    fn add(&mut self, key: &K, counter: impl FnOnce() -> Counter) {
        if self.slots.get(self.last).is_none_or(|slot| slot.key != *key) {
            self.last = self.find(key, counter);
        }
        if let Some(slot) = self.slots.get_mut(self.last) {
            if slot.count == 0 {
                self.touched.push(self.last);
            }
            slot.count += 1;
        }
    }

    fn find(&mut self, key: &K, counter: impl FnOnce() -> Counter) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let place = self.slots.len();
        self.slots.push(Slot { key: key.clone(), counter: counter(), count: 0 });
        self.places.insert(key.clone(), place);
        place
    }

    fn publish(&mut self) {
        for place in self.touched.drain(..) {
            if let Some(slot) = self.slots.get_mut(place) {
                slot.counter.inc_by(std::mem::take(&mut slot.count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_published_once() {
        let (a, b) = (Counter::default(), Counter::default());
        let mut tally: Tally<u8> = Tally::default();
        for key in [1, 1, 2] {
            tally.add(&key, || if key == 1 { a.clone() } else { b.clone() });
        }
        assert_eq!((a.get(), b.get()), (0, 0));
        tally.publish();
        tally.publish();
        assert_eq!((a.get(), b.get()), (2, 1));
        tally.add(&1, || panic!("it is known"));
        tally.publish();
        assert_eq!((a.get(), b.get()), (3, 1));
    }
}
