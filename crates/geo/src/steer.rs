//! Which PoPs answer a client: a chain of filters, each a plain function, over a document made ready once.
//!
//! 1. **Family**: PoPs of the site that have an address of the family asked for. An IPv4-only PoP is no candidate for
//!    AAAA; the nearest PoP that has IPv6 answers instead.
//! 2. **Fence**: of these, the PoPs that the client's country may use. A fence holds whatever happens: rather no answer
//!    than one across it, and "all down" means all behind the fence.
//! 3. **Override**: the longest prefix that holds the client. A place replaces the database's; a PoP comes first in the
//!    ranking, and the client counts as being where that PoP is. The country stays the database's.
//! 4. **Distance**: great-circle kilometres divided by the PoP's bias.
//! 5. **Weight**: PoPs at one place share its clients ([`ONE_PLACE_KM`]); those of weight 0 are a reserve for when no
//!    other is up.
//! 6. **Up**: in the order so found, a PoP that is down is replaced by those of its fallbacks that are up. Are all down,
//!    then the order stands as if all were up.
//! 7. **First n** addresses: all living ones of the first PoP, then the next's. A PoP of several nodes begins with
//!    another node for another client prefix.
//!
//! PoPs down are left out after ranking rather than before, so that what a client prefers does not depend on who is up.

use std::net::IpAddr;

use perigee_protocol::{
    id::{PopId, SiteId},
    model::{Document, OverrideTarget},
};
use smallvec::SmallVec;

mod client;
mod explain;
mod fence;
mod pick;
mod rank;
mod steered;
#[cfg(test)]
mod tests;

pub use client::ClientPrefix;
pub use explain::{Dropped, ExplainedPop, Explanation, ScopeSource};
pub use rank::ONE_PLACE_KM;
pub use steered::{ADDRESSES_MAX, Addresses, Family, PlaceSource, SteerReason, Steered};

use crate::{
    database::GeoDatabase,
    distance::Point,
    health::HealthView,
    overrides::Overrides,
    place::{Country, Place},
};
use fence::Fences;
use pick::{Picked, Question};
use rank::{Choice, Ranked};

/// In line for fleets of the usual size, so that a decision allocates nothing.
type Few<T> = SmallVec<[T; 16]>;

/// A site in one [`Steering`]; of no meaning in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteIndex(usize);

/// A document's geography, ready to answer from.
#[derive(Debug)]
pub struct Steering {
    /// In the document's order, as are all indices of PoPs.
    pops: Vec<Pop>,
    ranked: Vec<Ranked>,
    sites: Vec<Site>,
    overrides: Overrides,
    targets: Vec<Target>,
    fences: Fences,
    default_point: Option<Point>,
    answers: usize,
}

#[derive(Debug)]
struct Pop {
    index: usize,
    id: PopId,
    point: Point,
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    fallback: Vec<usize>,
}

impl Pop {
    fn addresses(&self, family: Family) -> &[IpAddr] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

#[derive(Debug)]
struct Site {
    id: SiteId,
    pops: Vec<usize>,
}

/// Of an override.
#[derive(Clone, Copy, Debug)]
enum Target {
    Pop(usize, Point),
    Point(Point),
}

/// Where a client is taken to be.
#[derive(Clone, Copy, Debug)]
struct Located {
    point: Point,
    source: PlaceSource,
    country: Option<Country>,
    /// First in the ranking, by an override.
    forced: Option<usize>,
    /// Bits of the address that decided the country.
    country_prefix: u8,
    /// Bits of the address that decided point and `forced`.
    point_prefix: u8,
}

impl Steering {
    /// Makes a document ready. What its lists name exists: the document was validated.
    pub fn new(document: &Document) -> Self {
        let pop_index = |id: &PopId| document.pops.iter().position(|pop| pop.id == *id);
        let pop = |(index, pop): (usize, &perigee_protocol::model::Pop)| {
            let (v4, v6) = pop.addresses().partition(IpAddr::is_ipv4);
            let fallback = pop.fallback.iter().filter_map(pop_index).collect();
            Pop { index, id: pop.id.clone(), point: pop.location.into(), v4, v6, fallback }
        };
        let site = |site: &perigee_protocol::model::Site| {
            let served = |pop: &PopId| site.pops.as_ref().is_none_or(|pops| pops.contains(pop));
            let pops = document.pops.iter().enumerate().filter(|(_, pop)| served(&pop.id)).map(|(index, _)| index);
            Site { id: site.id.clone(), pops: pops.collect() }
        };
        let (mut targets, mut prefixes) = (Vec::new(), Vec::new());
        for entry in &document.geo.overrides {
            let target = match &entry.target {
                OverrideTarget::Location(location) => Some(Target::Point((*location).into())),
                OverrideTarget::Pop(id) => {
                    let found = document.pops.iter().enumerate().find(|(_, pop)| pop.id == *id);
                    found.map(|(index, pop)| Target::Pop(index, pop.location.into()))
                }
            };
            if let (Some(target), Ok(index)) = (target, u32::try_from(targets.len())) {
                targets.push(target);
                prefixes.extend(entry.prefixes.iter().map(|prefix| (*prefix, index)));
            }
        }
        let first_pop = document.pops.first().map(|pop| pop.location);
        Self {
            pops: document.pops.iter().enumerate().map(pop).collect(),
            ranked: rank::prepare(&document.pops, &document.geo.steering),
            sites: document.sites.iter().map(site).collect(),
            overrides: Overrides::new(prefixes),
            targets,
            fences: Fences::new(&document.geo.steering, pop_index),
            default_point: document.geo.default_location.or(first_pop).map(Point::from),
            answers: document.geo.steering.answers.min(ADDRESSES_MAX),
        }
    }

    /// The site of that id.
    pub fn site(&self, id: &str) -> Option<SiteIndex> {
        self.sites.iter().position(|site| site.id.as_str() == id).map(SiteIndex)
    }

    /// Steers one question. Without a database, only overrides and the default location tell where a client is.
    pub fn answer<S: AsRef<[u8]>>(
        &self,
        database: Option<&GeoDatabase<S>>,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Steered<'_> {
        let decision = self.decide(place(database, client), client, site, health, family);
        self.steered(&decision, client)
    }

    fn decide(
        &self,
        place: Place,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Decision {
        let mut decision = Decision {
            located: self.locate(place, client),
            country: place.country,
            candidates: self.candidates(site, family),
            allowed: Few::new(),
            // So it is for every client.
            picked: Picked::nothing(SteerReason::NoAddress),
            by_country: None,
            by_place: None,
            by_share: None,
        };
        let Some(located) = decision.located.filter(|_| !decision.candidates.is_empty()) else { return decision };
        decision.allowed =
            decision.candidates.iter().copied().filter(|pop| self.fences.allow(located.country, *pop)).collect();
        decision.by_country = self.fences.know_countries().then_some(located.country_prefix);
        if decision.allowed.is_empty() {
            decision.picked.reason = SteerReason::Fenced;
            return decision;
        }
        decision.by_place = (decision.allowed.len() > 1).then_some(located.point_prefix);
        let question = Question { candidates: &decision.allowed, located: &located, client, family };
        decision.picked = self.pick(&question, health);
        decision.by_share = decision.picked.by_share.then(|| client.spread_prefix());
        decision
    }

    fn steered(&self, decision: &Decision, client: &ClientPrefix) -> Steered<'_> {
        let Decision { located, picked, .. } = decision;
        let first = picked.first.and_then(|pop| self.pops.get(pop));
        // Without candidates, where the client is does not matter.
        let located = located.as_ref().filter(|_| picked.reason != SteerReason::NoAddress);
        Steered {
            addresses: picked.addresses,
            pop: first.map(|pop| &pop.id),
            scope_prefix: decision.deciding_prefix().map_or(0, |prefix| client.scope(prefix)),
            reason: picked.reason,
            source: located.map_or(PlaceSource::Default, |located| located.source),
            country: decision.country,
            km: first.and_then(|pop| Some(located?.point.km(pop.point))),
        }
    }

    /// Where the client is: override, else database, else default. None: there is no PoP at all.
    fn locate(&self, place: Place, client: &ClientPrefix) -> Option<Located> {
        let found = self.overrides.find(client.address());
        let target = found.target.and_then(|target| self.targets.get(usize::try_from(target).ok()?)).copied();
        let (point, source, forced) = match (target, place.location) {
            (Some(Target::Pop(pop, point)), _) => (point, PlaceSource::Override, Some(pop)),
            (Some(Target::Point(point)), _) => (point, PlaceSource::Override, None),
            (None, Some(location)) => (location.into(), PlaceSource::Database, None),
            (None, None) => (self.default_point?, PlaceSource::Default, None),
        };
        let database_prefix = if target.is_some() { 0 } else { place.prefix_len };
        Some(Located {
            point,
            source,
            country: place.country,
            forced,
            country_prefix: place.prefix_len,
            // An override inside the record's prefix makes the scope longer, and so does a record inside the gap
            // between two overrides.
            point_prefix: found.prefix_len.max(database_prefix),
        })
    }

    fn candidates(&self, site: SiteIndex, family: Family) -> Few<usize> {
        let Some(site) = self.sites.get(site.0) else { return Few::new() };
        let has_address = |pop: &usize| self.pops.get(*pop).is_some_and(|pop| !pop.addresses(family).is_empty());
        site.pops.iter().copied().filter(has_address).collect()
    }
}

/// How a question was decided, step by step: what is answered and what is explained.
struct Decision {
    /// None: there is no PoP at all.
    located: Option<Located>,
    country: Option<Country>,
    /// PoPs of the site with an address of the family.
    candidates: Few<usize>,
    /// Of these, those on the client's side of the fence.
    allowed: Few<usize>,
    picked: Picked,
    /// Bits of the client's address that decided, by what.
    by_country: Option<u8>,
    by_place: Option<u8>,
    by_share: Option<u8>,
}

impl Decision {
    /// None: the answer is the same for every client.
    fn deciding_prefix(&self) -> Option<u8> {
        // A decision that looked at an address has a scope, be it of no bits.
        [self.by_country, self.by_place, self.by_share].into_iter().flatten().max().or_else(|| {
            let looked_at = self.picked.reason != SteerReason::NoAddress;
            looked_at.then_some(0)
        })
    }
}

fn place<S: AsRef<[u8]>>(database: Option<&GeoDatabase<S>>, client: &ClientPrefix) -> Place {
    database.map(|database| database.lookup(client.address())).unwrap_or_default()
}
