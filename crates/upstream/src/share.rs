//! Whose connections they are: what each client network holds of one server's, who waits for one, and whose turn it is.
//! Pure.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// A network that holds some takes another while it holds fewer than so many times those that are left, and never the last.
/// So one alone has seven eighths of a pool, two that want all of it seven fifteenths each, and so on; and whoever holds none
/// finds one.
const LEFT_TIMES: usize = 7;

/// A network that fetches are made for: an IPv4 address, or an IPv6 /64, which is what one subscriber is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address; an IPv4 address within IPv6 is the IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(six) => Self(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into()),
            four => Self(four),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(four) => four.fmt(f),
            IpAddr::V6(six) => write!(f, "{six}/64"),
        }
    }
}

/// What networks hold and wait for. Fetches of nobody's (`None`) share an account that has no limit.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    /// Of those who hold something or wait.
    accounts: HashMap<Option<Network>, Account<T>>,
    /// Those who wait, each once; the first is next.
    turns: VecDeque<Option<Network>>,
    tickets: u64,
}

#[derive(Debug)]
struct Account<T> {
    held: usize,
    /// With their tickets, in the order in which they came.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { accounts: HashMap::new(), turns: VecDeque::new(), tickets: 0 }
    }
}

impl<T> Ledger<T> {
    /// How many a network holds.
    pub(crate) fn held(&self, network: Option<Network>) -> usize {
        self.accounts.get(&network).map_or(0, |account| account.held)
    }

    /// Whether it may have one of those that are left.
    pub(crate) fn admits(&self, network: Option<Network>, left: usize) -> bool {
        let held = if network.is_some() { self.held(network) } else { 0 };
        left > 0 && (held == 0 || left > 1 && held < left.saturating_mul(LEFT_TIMES))
    }

    /// Whether it is its own share that it waits for, where not all are in use, or most are its own.
    pub(crate) fn has_its_share(&self, network: Option<Network>, left: usize, all: usize) -> bool {
        let held = self.held(network);
        network.is_some() && (held.saturating_mul(2) >= all || left > 0 && held >= left.saturating_mul(LEFT_TIMES))
    }

    /// It has one more.
    pub(crate) fn take(&mut self, network: Option<Network>) {
        self.account(network).held += 1;
    }

    /// It has one less.
    pub(crate) fn give_back(&mut self, network: Option<Network>) {
        let account = self.account(network);
        account.held = account.held.saturating_sub(1);
        self.tidy(network);
    }

    /// Waits behind those of the same network; the ticket is for [`leave`](Self::leave).
    pub(crate) fn wait(&mut self, network: Option<Network>, waiter: T) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let account = self.account(network);
        account.waiting.push_back((ticket, waiter));
        if account.waiting.len() == 1 {
            self.turns.push_back(network);
        }
        ticket
    }

    /// No longer waits, if it still did.
    pub(crate) fn leave(&mut self, network: Option<Network>, ticket: u64) {
        let account = self.account(network);
        // All wait about equally long: who leaves is mostly the first.
        if let Some(at) = account.waiting.iter().position(|(theirs, _)| *theirs == ticket) {
            account.waiting.remove(at);
            if account.waiting.is_empty() {
                self.turns.retain(|other| *other != network);
            }
        }
        self.tidy(network);
    }

    /// Whose turn it is of those who may have one of those that are left, and who waits there longest.
    pub(crate) fn next(&mut self, left: usize) -> Option<(Option<Network>, &T)> {
        // Who is passed over holds some: they are no more than there are connections.
        let at = self.turns.iter().position(|network| self.admits(*network, left))?;
        self.turns.rotate_left(at);
        let network = *self.turns.front()?;
        Some((network, &self.accounts.get(&network)?.waiting.front()?.1))
    }

    /// Takes the one out of the queue that [`next`](Self::next) named; its network's next turn comes after all others'.
    pub(crate) fn call(&mut self) -> Option<T> {
        let network = self.turns.pop_front()?;
        let account = self.account(network);
        let called = account.waiting.pop_front();
        if !account.waiting.is_empty() {
            self.turns.push_back(network);
        }
        self.tidy(network);
        called.map(|(_, waiter)| waiter)
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.accounts.values().map(|account| account.waiting.len()).sum()
    }

    fn account(&mut self, network: Option<Network>) -> &mut Account<T> {
        self.accounts.entry(network).or_insert_with(|| Account { held: 0, waiting: VecDeque::new() })
    }

    fn tidy(&mut self, network: Option<Network>) {
        if let Entry::Occupied(entry) = self.accounts.entry(network)
            && entry.get().held == 0
            && entry.get().waiting.is_empty()
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> Option<Network> {
        Some(Network::of([192, 0, 2, number].into()))
    }

    #[test]
    fn an_address_or_a_sixty_four() {
        let check = |address: &str, text: &str| {
            assert_eq!(Network::of(address.parse().unwrap()).to_string(), text, "{address}");
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64");
        check("2001:db8:1:2:ffff::", "2001:db8:1:2::/64");
    }

    /// What each of several networks has of `pool` when all of them want all of it, one after the other.
    fn divided(pool: usize, networks: u8) -> Vec<usize> {
        let (mut ledger, mut left) = (Ledger::<()>::default(), pool);
        loop {
            let before = left;
            for number in 0..networks {
                if ledger.admits(network(number), left) {
                    ledger.take(network(number));
                    left -= 1;
                }
            }
            if left == before {
                return (0..networks).map(|number| ledger.held(network(number))).collect();
            }
        }
    }

    #[test]
    fn shares() {
        let check = |pool: usize, networks: u8, expected: &[usize]| {
            assert_eq!(divided(pool, networks), expected, "{networks} of {pool}");
        };
        check(1, 1, &[1]);
        check(2, 1, &[1]);
        check(8, 1, &[7]);
        check(16, 1, &[14]);
        check(256, 1, &[224]);
        check(256, 2, &[120, 119]);
        check(3, 3, &[1, 1, 1]);
    }

    #[test]
    fn nobody_has_no_limit_and_whoever_has_none_gets_one() {
        let mut ledger = Ledger::<()>::default();
        (0..224).for_each(|_| ledger.take(network(1)));
        for (who, left, expected) in
            [(network(1), 32, false), (network(1), 33, true), (network(2), 1, true), (network(2), 0, false)]
        {
            assert_eq!(ledger.admits(who, left), expected, "{who:?} {left}");
        }
        (0..1000).for_each(|_| ledger.take(None));
        assert!(ledger.admits(None, 1) && !ledger.admits(None, 0));
        for (who, left, expected) in [
            (network(1), 32, true),
            (network(1), 33, true),
            (network(1), 0, true),
            (network(2), 0, false),
            (None, 1, false),
        ] {
            assert_eq!(ledger.has_its_share(who, left, 256), expected, "{who:?} {left}");
        }
        (0..7).for_each(|_| ledger.take(network(3)));
        assert!(ledger.has_its_share(network(3), 1, 256) && !ledger.has_its_share(network(3), 2, 256));
        assert!(!ledger.has_its_share(network(3), 0, 256), "others have the rest");
        // The last is for who has none.
        ledger.take(network(2));
        assert!(ledger.admits(network(2), 2) && !ledger.admits(network(2), 1));
    }

    #[test]
    fn networks_take_turns_and_those_with_enough_are_passed_over() {
        let mut ledger = Ledger::default();
        (0..7).for_each(|_| ledger.take(network(9)));
        for (who, waiter) in [(9, "x"), (1, "a"), (1, "b"), (2, "c"), (1, "d"), (9, "y")] {
            ledger.wait(network(who), waiter);
        }
        let ticket = ledger.wait(network(3), "gone");
        ledger.leave(network(3), ticket);
        let mut called = Vec::new();
        while ledger.next(1).is_some() {
            called.extend(ledger.call());
        }
        assert_eq!((called, ledger.waiting()), (vec!["a", "c", "b", "d"], 2));
        (0..7).for_each(|_| ledger.give_back(network(9)));
        assert_eq!(ledger.next(1).map(|(who, waiter)| (who, *waiter)), Some((network(9), "x")));
        called = std::iter::from_fn(|| ledger.call()).collect();
        assert_eq!(called, ["x", "y"]);
        assert!(ledger.accounts.is_empty() && ledger.turns.is_empty(), "{ledger:?}");
    }
}
