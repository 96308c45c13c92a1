//! Which addresses may be answered, as data: whoever probes makes a view and swaps it in; steering only reads.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use perigee_protocol::id::PopId;

/// Of two addresses, that which went down so much earlier than the other was not up with it at the last; in milliseconds.
/// Long enough for one outage to take all its victims, whose probes do not fail in the same instant.
pub const LAST_KNOWN_WINDOW_MS: u64 = 60_000;

/// Why an address is not answered while others are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// Nobody answers there.
    Down {
        /// Since when, in milliseconds since the Unix epoch.
        since_ms: u64,
    },
    /// It is up, and an operator keeps new clients from it.
    Drained,
    /// It is up, and says itself that it is about to end.
    Draining,
}

/// What an operator says of a PoP, whatever the probes find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// New clients go elsewhere while there is an elsewhere.
    Drain,
    /// It counts as up.
    ForceUp,
}

impl Operator {
    /// The word in what is told and in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::ForceUp => "force_up",
        }
    }
}

/// The part of its clients that a PoP keeps, in thousandths; the others go to the next of their rankings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept(u16);

impl Kept {
    /// Of all.
    pub const ALL: Self = Self(1_000);

    /// Of 0.0 to 1.0; what is beyond counts as the nearest of these.
    pub fn of(part: f64) -> Self {
        Self((part.clamp(0.0, 1.0) * 1_000.0).round() as u16)
    }

    /// In thousandths, 0..=1000.
    pub fn thousandths(self) -> u16 {
        self.0
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::ALL
    }
}

/// What is known of a PoP as a whole; [`Default`]: nothing out of the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PopHealth {
    /// Of an operator.
    pub operator: Option<Operator>,
    /// By its load.
    pub kept: Kept,
}

/// Which addresses may be answered at one moment, and what part of its clients each PoP keeps. Cheap to clone.
/// Everything that it does not name is up, so that a nameserver that has not probed yet answers as if all were well.
#[derive(Clone, Debug, Default)]
pub struct HealthView {
    generation: u64,
    facts: Arc<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    out: HashMap<IpAddr, Out>,
    pops: BTreeMap<PopId, PopHealth>,
    /// Whether any PoP keeps less than all.
    sheds: bool,
}

/// Which addresses a pick may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bar {
    /// Those that new clients may be sent to.
    Wanted,
    /// Drained and draining ones too.
    Alive,
    /// Those too that went down at this moment or later, in milliseconds since the Unix epoch.
    DownSince(u64),
    /// All.
    Any,
}

impl HealthView {
    /// The view in which these addresses are down. `generation` grows with every change; answers that depend on health
    /// may be kept as long as it stays.
    pub fn new(generation: u64, down: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::of(generation, down.into_iter().map(|address| (address, Out::Down { since_ms: 0 })), [])
    }

    /// The view in which these addresses are out, and these PoPs are other than ordinary.
    pub fn of(
        generation: u64,
        out: impl IntoIterator<Item = (IpAddr, Out)>,
        pops: impl IntoIterator<Item = (PopId, PopHealth)>,
    ) -> Self {
        let pops: BTreeMap<PopId, PopHealth> = pops.into_iter().collect();
        let sheds = pops.values().any(|pop| pop.kept < Kept::ALL);
        Self { generation, facts: Arc::new(Facts { out: out.into_iter().collect(), pops, sheds }) }
    }

    /// Counts the changes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether nothing is out.
    pub(crate) fn is_calm(&self) -> bool {
        self.facts.out.is_empty()
    }

    /// Whether new clients may be sent to an address.
    pub fn is_up(&self, address: IpAddr) -> bool {
        self.facts.out.is_empty() || !self.facts.out.contains_key(&address)
    }

    /// Why an address is not answered; None: it may be.
    pub fn out(&self, address: IpAddr) -> Option<Out> {
        self.facts.out.get(&address).copied()
    }

    /// The addresses that are down, in no order.
    pub fn down(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.facts.out.iter().filter(|(_, out)| matches!(out, Out::Down { .. })).map(|(address, _)| *address)
    }

    /// What is known of a PoP.
    pub fn pop(&self, pop: &PopId) -> PopHealth {
        self.facts.pops.get(pop).copied().unwrap_or_default()
    }

    /// What part of its clients a PoP keeps.
    pub(crate) fn kept(&self, pop: &PopId) -> Kept {
        if self.facts.sheds { self.pop(pop).kept } else { Kept::ALL }
    }

    /// Whether some address is up that new clients are not sent to.
    pub(crate) fn spares(&self) -> bool {
        self.facts.out.values().any(|out| !matches!(out, Out::Down { .. }))
    }

    pub(crate) fn passes(&self, address: IpAddr, bar: Bar) -> bool {
        match bar {
            Bar::Wanted => self.is_up(address),
            Bar::Any => true,
            Bar::Alive => !matches!(self.out(address), Some(Out::Down { .. })),
            Bar::DownSince(at_ms) => !matches!(self.out(address), Some(Out::Down { since_ms }) if since_ms < at_ms),
        }
    }

    /// The bar that lets through those which were up shortly before the last of `addresses` went down.
    pub(crate) fn last_known(&self, addresses: impl Iterator<Item = IpAddr>) -> Bar {
        let went = addresses.filter_map(|address| match self.out(address) {
            Some(Out::Down { since_ms }) => Some(since_ms),
            _ => None,
        });
        Bar::DownSince(went.max().unwrap_or(0).saturating_sub(LAST_KNOWN_WINDOW_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn up_unless_named() {
        assert!(HealthView::default().is_up(A));
        let view = HealthView::new(3, [A]);
        assert!(!view.is_up(A) && view.is_up(B));
        assert_eq!((view.generation(), view.down().collect::<Vec<_>>()), (3, vec![A]));
    }

    #[test]
    fn bars() {
        let check = |out: Option<Out>, bar: Bar, expected: bool| {
            let view = HealthView::of(1, out.map(|out| (A, out)), []);
            assert_eq!(view.passes(A, bar), expected, "{out:?} {bar:?}");
            assert!(view.passes(B, bar));
        };
        let down = Some(Out::Down { since_ms: 7 });
        for (bar, of_drained) in [(Bar::Wanted, false), (Bar::Alive, true), (Bar::Any, true)] {
            check(None, bar, true);
            check(Some(Out::Drained), bar, of_drained);
            check(Some(Out::Draining), bar, of_drained);
            check(down, bar, bar == Bar::Any);
        }
        check(down, Bar::DownSince(7), true);
        check(down, Bar::DownSince(8), false);
    }

    #[test]
    fn the_last_known_are_those_of_the_last_minute() {
        let at = |since_ms| Out::Down { since_ms };
        let view = HealthView::of(1, [(A, at(100_000)), (B, at(100_000 + LAST_KNOWN_WINDOW_MS))], []);
        assert_eq!(view.last_known([A, B].into_iter()), Bar::DownSince(100_000));
        assert_eq!(view.last_known([A].into_iter()), Bar::DownSince(100_000 - LAST_KNOWN_WINDOW_MS));
        assert_eq!(view.last_known([].into_iter()), Bar::DownSince(0));
    }

    #[test]
    fn a_part_is_of_thousandths() {
        for (part, thousandths) in [(-1.0, 0), (0.0, 0), (0.7304, 730), (1.0, 1_000), (7.0, 1_000), (f64::NAN, 0)] {
            assert_eq!(Kept::of(part).thousandths(), thousandths, "{part}");
        }
    }
}
