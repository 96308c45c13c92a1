//! Who gives way when a door is nearly full: connections on which no request is under way, as a pure choice.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

/// How long a connection has been without a request at the least: whoever has just come is about to ask, and whoever has
/// just been answered may ask again at once.
pub(crate) const SILENCE_MIN: Duration = Duration::from_secs(2);

/// Of how many places a client that holds more than one gives way before others: an eighth.
const LARGE_PART: usize = 8;

/// A connection without a request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) id: u64,
    pub(crate) client: IpAddr,
    /// When it was seen at work last, or began; any clock.
    pub(crate) since: Duration,
}

/// Which `count` of these connections go, of a door with so many `places`. `held` is how many connections each client has,
/// those at work included.
///
/// First those of clients with more than an eighth of the places, as long as they have more; then of all, each time the one
/// that was silent for longest. So one client's thousands go before anybody's one, and a translator with many people behind
/// it loses no more than anybody else until it has most of a door.
pub(crate) fn choose(
    mut silent: Vec<Silent>,
    held: &mut HashMap<IpAddr, usize>,
    places: usize,
    count: usize,
) -> Vec<u64> {
    // Ids grow with time: of two of one moment, the older.
    silent.sort_unstable_by_key(|one| (one.since, one.id));
    let mut chosen = BTreeMap::new();
    for (order, one) in silent.iter().enumerate() {
        if chosen.len() == count {
            break;
        }
        if let Some(held) = held.get_mut(&one.client)
            && *held > places / LARGE_PART
        {
            *held -= 1;
            chosen.insert(order, one.id);
        }
    }
    for (order, one) in silent.iter().enumerate() {
        if chosen.len() >= count {
            break;
        }
        chosen.entry(order).or_insert(one.id);
    }
    chosen.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with the last byte of its client's address and its silence's beginning; ids count from 0. `working` are more
    /// connections of client 1.
    fn check(silent: &[(u8, u64)], working: usize, places: usize, count: usize, expected: &[u64]) {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut held = HashMap::from([(address(1), working)]);
        let one = |(id, &(client, since)): (usize, &(u8, u64))| {
            *held.entry(address(client)).or_default() += 1;
            Silent { id: id as u64, client: address(client), since: Duration::from_secs(since) }
        };
        let silent: Vec<_> = silent.iter().enumerate().map(one).collect();
        assert_eq!(choose(silent.clone(), &mut held, places, count), expected, "{silent:?}, {count} of {places}");
    }

    #[test]
    fn the_longest_silent_and_those_of_who_has_too_many_first() {
        check(&[], 0, 16, 3, &[]);
        check(&[(1, 5)], 0, 16, 0, &[]);
        check(&[(1, 5), (2, 3), (3, 4)], 0, 16, 1, &[1]);
        check(&[(1, 5), (2, 3), (3, 4)], 0, 16, 2, &[1, 2]);
        check(&[(1, 5), (2, 3), (3, 4)], 0, 16, 9, &[1, 2, 0]);
        check(&[(1, 5), (2, 5)], 0, 16, 1, &[0]);
        // Two are an eighth, three are more.
        check(&[(2, 1), (1, 7), (1, 6)], 0, 16, 1, &[0]);
        check(&[(2, 1), (1, 7), (1, 6)], 1, 16, 1, &[2]);
        // No more of it than what is too many.
        check(&[(2, 1), (1, 7), (1, 6)], 1, 16, 2, &[0, 2]);
        check(&[(2, 1), (1, 7), (1, 6)], 2, 16, 2, &[2, 1]);
        // In a small room everybody has more than an eighth.
        check(&[(2, 9), (1, 7), (1, 8)], 0, 4, 1, &[1]);
    }
}
