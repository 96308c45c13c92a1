//! How a table is made: step by step, so that whoever runs it can rest in between, or give up.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    AnswerTable, BYTES_MAX, Decided, TableFigures, View,
    runs::{Class, Runs, UNMADE},
};
use crate::{
    database::GeoDatabase,
    health::{HealthView, Out},
    steer::{Addresses, AllDown, ClientPrefix, Family, Located, SiteIndex, SteerReason, Steering, place},
};

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    More,
    /// [`TableBuilder::finish`] it.
    Done,
}

/// Kinds of sites and families in one table; the rest is left out.
const KINDS_MAX: usize = 32;
/// GeoLite2-City has some 3,500,000 stretches; a tree that leads to the same node on many ways may seem to have no end.
const BLOCKS_MAX: u64 = 1 << 25;
/// Different decisions of one kind; some [`Class`]es are left for those of the last step.
const CLASSES_MAX: usize = 60_000;
/// What an IPv6 table knows of an address.
const NETWORK_BITS_V6: u8 = 64;
/// Of decisions remembered by where the client is; a power of two.
const MEMO_SLOTS: usize = 1 << 15;

/// IPv6 addresses of which no answers are made, in order: first and last. `::/64` holds the IPv4-mapped ones, whose
/// answers are those of IPv4; databases lead the other two, Teredo (RFC 4380) and 6to4 (RFC 3056), into IPv4 too, so that
/// all of it would be walked again.
const SKIPPED_V6: [(u128, u128); 3] =
    [(0, u64::MAX as u128), (0x2001_0000 << 96, (0x2001_0001 << 96) - 1), (0x2002 << 112, (0x2003 << 112) - 1)];

/// A table under way.
pub struct TableBuilder<'a> {
    steering: &'a Steering,
    health: HealthView,
    by_site: Vec<[Option<usize>; 2]>,
    kinds: Vec<Kind>,
    left_out: usize,
    memo: Memo,
    walk: Walk,
    blocks: u64,
}

impl fmt::Debug for TableBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableBuilder").field("walk", &self.walk).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// The next address to be asked for.
#[derive(Clone, Copy, Debug)]
enum Walk {
    V4(u32),
    V6(u128),
    Done,
}

/// A view under way.
struct Kind {
    site: SiteIndex,
    family: Family,
    /// Whether the other family's answers are from the same PoPs everywhere.
    is_both: bool,
    /// None: it had no room.
    made: Option<Made>,
}

struct Made {
    view: View,
    classes: HashMap<Decided, Class>,
    /// Of addresses, or of a CNAME in their place.
    answers: HashMap<(Addresses, bool), usize>,
}

/// Decisions by place: most neighbours in the space of addresses are neighbours on the globe.
struct Memo {
    /// The prefixes of each place are 0.
    places: Vec<Option<Located>>,
    /// Of each slot, one class for each kind.
    classes: Vec<Class>,
}

impl Steering {
    /// Begins a table for this view of health.
    pub fn table(&self, health: &HealthView) -> TableBuilder<'_> {
        let mut builder = TableBuilder {
            steering: self,
            health: health.clone(),
            by_site: Vec::new(),
            kinds: Vec::new(),
            left_out: 0,
            memo: Memo { places: vec![None; MEMO_SLOTS], classes: Vec::new() },
            walk: Walk::Done,
            blocks: 0,
        };
        for site in (0..self.sites.len()).map(SiteIndex) {
            let kinds = [Family::V4, Family::V6].map(|family| builder.kind_of(site, family));
            builder.by_site.push(kinds);
        }
        if !builder.kinds.is_empty() {
            builder.walk = Walk::V4(0);
            builder.memo.classes = vec![UNMADE; MEMO_SLOTS * builder.kinds.len()];
        }
        builder
    }

    /// Whether A and AAAA of a site are answered from the same PoPs for every client: each has as many addresses in one
    /// family as in the other, of which the same are out.
    fn is_dual(&self, site: SiteIndex, health: &HealthView) -> bool {
        let Some(site) = self.sites.get(site.0) else { return false };
        let state = |address: &IpAddr| match health.out(*address) {
            // When they went matters to that policy only.
            Some(Out::Down { .. }) if site.all_down != AllDown::LastKnown => Some(Out::Down { since_ms: 0 }),
            out => out,
        };
        let mut pops = site.pops.iter().filter_map(|pop| self.pops.get(*pop));
        pops.all(|pop| pop.v4.iter().map(state).eq(pop.v6.iter().map(state)))
    }

    /// Whether two sites are steered alike.
    fn is_alike(&self, a: SiteIndex, b: SiteIndex) -> bool {
        let [a, b] = [a, b].map(|site| self.sites.get(site.0).map(|site| (&site.pops, site.all_down)));
        a == b
    }
}

impl TableBuilder<'_> {
    /// Takes the next `blocks` stretches of addresses. The database is the same in every step.
    pub fn step<S: AsRef<[u8]>>(&mut self, database: Option<&GeoDatabase<S>>, blocks: usize) -> Step {
        for _ in 0..blocks {
            match self.walk {
                Walk::V4(first) => self.step_v4(database, first),
                Walk::V6(first) => self.step_v6(database, first),
                Walk::Done => return Step::Done,
            }
        }
        self.bound();
        Step::More
    }

    fn step_v4<S: AsRef<[u8]>>(&mut self, database: Option<&GeoDatabase<S>>, first: u32) {
        let client = ClientPrefix::host(Ipv4Addr::from_bits(first).into());
        let Some((located, bits)) = self.locate(database, &client) else { return self.walk = Walk::Done };
        self.push(Some((&located, &client)), |view, class| view.v4.push(first, class));
        let last = first | u32::MAX.checked_shr(bits.into()).unwrap_or(0);
        self.walk = last.checked_add(1).map_or(Walk::V6(0), Walk::V4);
    }

    fn step_v6<S: AsRef<[u8]>>(&mut self, database: Option<&GeoDatabase<S>>, first: u128) {
        let client = ClientPrefix::host(Ipv6Addr::from_bits(first).into());
        let skipped = SKIPPED_V6.iter().find(|(_, last)| first <= *last);
        let (told, last) = match skipped {
            Some((begin, last)) if first >= *begin => (None, *last),
            skipped => {
                let Some((located, bits)) = self.locate(database, &client) else { return self.walk = Walk::Done };
                // Where more bits matter than a table knows of, the decision's own prefix is told.
                let told = (bits <= NETWORK_BITS_V6).then_some(located);
                let last = first | u128::MAX.checked_shr(bits.min(NETWORK_BITS_V6).into()).unwrap_or(0);
                (told, skipped.map_or(last, |(begin, _)| last.min(begin - 1)))
            }
        };
        let network = (first >> NETWORK_BITS_V6) as u64;
        self.push(told.as_ref().map(|located| (located, &client)), |view, class| view.v6.push(network, class));
        self.walk = last.checked_add(1).map_or(Walk::Done, Walk::V6);
    }

    /// Where a client is, and how many bits of its address say so. None: there is no PoP.
    fn locate<S: AsRef<[u8]>>(
        &mut self,
        database: Option<&GeoDatabase<S>>,
        client: &ClientPrefix,
    ) -> Option<(Located, u8)> {
        self.blocks += 1;
        let located = self.steering.locate(place(database, client), client)?;
        Some((located, located.country_prefix.max(located.point_prefix)))
    }

    /// Tells every kind what holds from an address on; None: nothing that is the same for all.
    fn push(&mut self, told: Option<(&Located, &ClientPrefix)>, push: impl Fn(&mut View, Class)) {
        let Some((located, client)) = told else {
            let made = self.kinds.iter_mut().filter_map(|kind| kind.made.as_mut());
            return made.for_each(|made| push(&mut made.view, UNMADE));
        };
        let located = Located { country_prefix: 0, point_prefix: 0, ..*located };
        let slot = self.memo.slot(&located);
        let kinds = self.kinds.len();
        let Some(classes) = self.memo.classes.get_mut(slot * kinds..(slot + 1) * kinds) else { return };
        let Some(known) = self.memo.places.get_mut(slot) else { return };
        if *known != Some(located) {
            *known = Some(located);
            for (class, kind) in classes.iter_mut().zip(&mut self.kinds) {
                *class = kind.decide(self.steering, located, client, &self.health);
            }
        }
        for (class, kind) in classes.iter().zip(&mut self.kinds) {
            if let Some(made) = &mut kind.made {
                push(&mut made.view, *class);
            }
        }
    }

    /// Gives up what has outgrown its part of the memory, and everything when there is no end to it.
    fn bound(&mut self) {
        let part = BYTES_MAX / self.kinds.len().max(1);
        let is_endless = self.blocks > BLOCKS_MAX;
        for kind in &mut self.kinds {
            let is_over = |made: &Made| made.view.runs_bytes() > part || made.view.decided.len() >= CLASSES_MAX;
            if is_endless || kind.made.as_ref().is_some_and(is_over) {
                kind.made = None;
            }
        }
        if self.kinds.iter().all(|kind| kind.made.is_none()) {
            self.walk = Walk::Done;
        }
    }

    /// The table, of what has been made; to be called after [`Step::Done`].
    pub fn finish(self) -> AnswerTable {
        let kinds = self.kinds.len();
        let finish = |made: Made| {
            let mut view = made.view;
            let answer = |class: Class| view.decided.get(usize::from(class)).map(|decided| decided.answer);
            view.v4.finish(answer);
            view.v6.finish(answer);
            view.decided.shrink_to_fit();
            view.answers.shrink_to_fit();
            view
        };
        let views: Vec<Option<View>> = self.kinds.into_iter().map(|kind| kind.made.map(finish)).collect();
        let made = || views.iter().flatten();
        let figures = TableFigures {
            regions: made().map(|view| view.v4.regions() + view.v6.regions()).sum(),
            blocks: self.blocks,
            bytes: made().map(View::bytes).sum(),
            kinds: made().count(),
            left_out: self.left_out + kinds - made().count(),
        };
        AnswerTable { health_generation: self.health.generation(), by_site: self.by_site, views, figures }
    }

    /// The index of the kind that a site and a family are of, which is made when it is the first. None: it has no
    /// candidates, so that its answer is the same for everybody, or there is no room.
    fn kind_of(&mut self, site: SiteIndex, family: Family) -> Option<usize> {
        if self.steering.candidates(site, family).is_empty() {
            return None;
        }
        let is_same = |kind: &Kind| (kind.is_both || kind.family == family) && self.steering.is_alike(kind.site, site);
        let known = self.kinds.iter().position(is_same);
        if known.is_some() || self.kinds.len() >= KINDS_MAX {
            self.left_out += usize::from(known.is_none());
            return known;
        }
        let view = View { v4: Runs::new(), v6: Runs::new(), decided: Vec::new(), answers: Vec::new() };
        let made = Some(Made { view, classes: HashMap::new(), answers: HashMap::new() });
        self.kinds.push(Kind { site, family, is_both: self.steering.is_dual(site, &self.health), made });
        Some(self.kinds.len() - 1)
    }
}

impl Kind {
    fn decide(&mut self, steering: &Steering, at: Located, client: &ClientPrefix, health: &HealthView) -> Class {
        let Some(made) = &mut self.made else { return UNMADE };
        let (site, family) = (self.site, self.family);
        let decision = steering.decide_at(Some(at), client, site, health, family);
        if decision.by_share.is_some() {
            // Another client of the same place may get another answer.
            return UNMADE;
        }
        let Made { view, classes, answers } = made;
        let addresses = decision.picked.addresses;
        // A CNAME is an answer without addresses; all others without are alike.
        let is_cname = decision.picked.reason == SteerReason::AllDownCname;
        let answer = *answers.entry((addresses, is_cname)).or_insert_with(|| {
            let others = if self.is_both {
                steering.decide_at(Some(at), client, site, health, family.other()).picked.addresses
            } else {
                Addresses::new()
            };
            view.answers.push(if family == Family::V4 { [addresses, others] } else { [others, addresses] });
            view.answers.len() - 1
        });
        let decided = Decided {
            answer,
            pop: decision.picked.first,
            reason: decision.picked.reason,
            source: at.source,
            country: decision.country,
        };
        *classes.entry(decided).or_insert_with(|| {
            view.decided.push(decided);
            // Fewer than CLASSES_MAX and what one step adds.
            Class::try_from(view.decided.len() - 1).unwrap_or(UNMADE)
        })
    }
}

impl Memo {
    fn slot(&self, located: &Located) -> usize {
        let country = located.country.map_or(0, |country| u64::from(u16::from_be_bytes(country.bytes())));
        let spread = (located.point.bits() ^ country).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (spread >> (64 - MEMO_SLOTS.trailing_zeros())) as usize
    }
}
