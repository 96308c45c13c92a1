//! Which PoPs answer a client: a chain of filters, each a plain function, over a document made ready once.
//!
//! 1. **Family**: PoPs of the site that have an address of the family asked for. An IPv4-only PoP is no candidate for
//!    AAAA; the nearest PoP that has IPv6 answers instead.
//! 2. **Fence**: of these, the PoPs that the client's autonomous system, country or continent may use. A fence holds
//!    whatever happens: rather no answer than one across it, and "all down" means all behind the fence.
//! 3. **Override**: the longest prefix that holds the client, else the one of its autonomous system. A place replaces the
//!    database's; a PoP comes first in the ranking, and the client counts as being where that PoP is. The country stays
//!    the database's.
//! 4. **Distance**: great-circle kilometres divided by the PoP's bias.
//! 5. **Weight**: PoPs at one place share its clients ([`ONE_PLACE_KM`]); those of weight 0 are a reserve for when no
//!    other is up.
//! 6. **Up**: in the order so found, a PoP that is down, or drained, is replaced by those of its fallbacks that are up; a
//!    PoP above its load mark sends a part of its clients on to the next. When all that are up shed a client, it goes
//!    where it would have gone. Drained PoPs come after the reserves. Are all down, the site's policy says what then.
//! 7. **First n** addresses: all living ones of the first PoP, then the next's. A PoP of several nodes begins with
//!    another node for another client prefix.
//!
//! PoPs down are left out after ranking rather than before, so that what a client prefers does not depend on who is up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use perigee_protocol::{
    id::{PopId, SiteId},
    model::{self, Document, OverrideTarget},
};
use smallvec::SmallVec;

mod client;
mod explain;
mod fence;
mod pick;
mod rank;
mod steered;
mod table;
#[cfg(test)]
mod tests;

pub use client::ClientPrefix;
pub use explain::{Dropped, ExplainedPop, Explanation, ScopeSource};
pub use rank::ONE_PLACE_KM;
pub use steered::{ADDRESSES_MAX, Addresses, Family, PlaceSource, SteerReason, Steered};
pub use table::{AnswerTable, Step, TableBuilder, TableFigures};

use crate::{
    asn::AsnDatabase,
    database::GeoDatabase,
    distance::Point,
    health::{Bar, HealthView},
    overrides::{Found, Overrides},
    place::{Country, Place},
};
use fence::{Fenced, Fences};
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
    /// Of the systems that overrides name; for whom no prefix holds. None: they name none.
    systems: Option<Overrides>,
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

/// Sites that differ in nothing but the id have one [`table`].
#[derive(Debug)]
struct Site {
    id: SiteId,
    pops: Vec<usize>,
    all_down: AllDown,
}

/// `site.all_down`, without the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AllDown {
    Nearest,
    LastKnown,
    NoData,
    Cname,
}

impl From<&model::AllDown> for AllDown {
    fn from(all_down: &model::AllDown) -> Self {
        match all_down {
            model::AllDown::Nearest => Self::Nearest,
            model::AllDown::LastKnown => Self::LastKnown,
            model::AllDown::NoData => Self::NoData,
            model::AllDown::Cname(_) => Self::Cname,
        }
    }
}

/// Of an override.
#[derive(Clone, Copy, Debug)]
enum Target {
    Pop(usize, Point),
    Point(Point),
}

/// Where a client is taken to be: all that a decision knows of it but for its share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Located {
    point: Point,
    source: PlaceSource,
    country: Option<Country>,
    /// First in the ranking, by an override.
    forced: Option<usize>,
    /// Which of the fences around autonomous systems it is under.
    system: Option<u32>,
    /// Bits of the address that decided what fences know it by.
    country_prefix: u8,
    /// Bits of the address that decided point and `forced`.
    point_prefix: u8,
}

impl Located {
    fn fenced(&self) -> Fenced {
        Fenced { country: self.country, system: self.system }
    }
}

impl Steering {
    /// Makes a document ready that names no autonomous systems. What its lists name exists: the document was validated.
    pub fn new(document: &Document) -> Self {
        Self::with_systems::<&[u8]>(document, None)
    }

    /// Makes a document ready. `systems` tells which addresses the autonomous systems have that it names; without, none.
    ///
    /// Walks all of `systems` where the document names any.
    pub fn with_systems<S: AsRef<[u8]>>(document: &Document, systems: Option<&AsnDatabase<S>>) -> Self {
        let wanted = systems_named(document);
        let systems = systems.filter(|_| !wanted.is_empty()).map(|systems| systems.prefixes_of(&wanted));
        let systems = systems.unwrap_or_default();
        let pop_index = |id: &PopId| document.pops.iter().position(|pop| pop.id == *id);
        let pop = |(index, pop): (usize, &perigee_protocol::model::Pop)| {
            let (v4, v6) = pop.addresses().partition(IpAddr::is_ipv4);
            let fallback = pop.fallback.iter().filter_map(pop_index).collect();
            Pop { index, id: pop.id.clone(), point: pop.location.into(), v4, v6, fallback }
        };
        let site = |site: &perigee_protocol::model::Site| {
            let served = |pop: &PopId| site.pops.as_ref().is_none_or(|pops| pops.contains(pop));
            let pops = document.pops.iter().enumerate().filter(|(_, pop)| served(&pop.id)).map(|(index, _)| index);
            Site { id: site.id.clone(), pops: pops.collect(), all_down: (&site.all_down).into() }
        };
        let (mut targets, mut prefixes, mut by_system) = (Vec::new(), Vec::new(), BTreeMap::new());
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
                by_system.extend(entry.asns.iter().map(|asn| (*asn, index)));
            }
        }
        let of_systems = systems.iter().filter_map(|(prefix, asn)| Some((*prefix, *by_system.get(asn)?)));
        let first_pop = document.pops.first().map(|pop| pop.location);
        Self {
            pops: document.pops.iter().enumerate().map(pop).collect(),
            ranked: rank::prepare(&document.pops, &document.geo.steering),
            sites: document.sites.iter().map(site).collect(),
            overrides: Overrides::new(prefixes),
            systems: (!by_system.is_empty()).then(|| Overrides::new(of_systems)),
            targets,
            fences: Fences::new(&document.geo.steering, pop_index, &systems),
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

    /// Whether a site that is a CNAME when all is down (`all_down`) is it for a client, and by how many leading bits of the
    /// client's address that was decided.
    ///
    /// A CNAME stands alone at its name (RFC 1034 §3.6.2), so both families must be without a living address.
    pub fn is_all_down<S: AsRef<[u8]>>(
        &self,
        database: Option<&GeoDatabase<S>>,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
    ) -> (bool, u8) {
        let is_cname = self.sites.get(site.0).is_some_and(|site| site.all_down == AllDown::Cname);
        if !is_cname || health.is_calm() {
            return (false, 0);
        }
        let place = if self.fences.know_countries() { place(database, client) } else { Place::default() };
        let Some(located) = self.locate(place, client) else { return (false, 0) };
        let scope = if self.fences.part_clients() { client.scope(located.country_prefix) } else { 0 };
        let allowed = self.sites.get(site.0).map_or(&[][..], |site| &site.pops).iter();
        // Behind a fence without PoPs nobody is down.
        let is_fenced = !allowed.clone().any(|pop| self.fences.allow(located.fenced(), *pop));
        let is_out = |family| self.is_family_out(site, located.fenced(), health, family);
        (!is_fenced && is_out(Family::V4) && is_out(Family::V6), scope)
    }

    fn decide(
        &self,
        place: Place,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Decision {
        self.decide_at(self.locate(place, client), client, site, health, family)
    }

    /// What is decided follows from where the client is, its share, and nothing else of it: see [`table`].
    fn decide_at(
        &self,
        located: Option<Located>,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Decision {
        let mut decision = Decision {
            located,
            country: located.and_then(|located| located.country),
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
            decision.candidates.iter().copied().filter(|pop| self.fences.allow(located.fenced(), *pop)).collect();
        decision.by_country = self.fences.part_clients().then_some(located.country_prefix);
        if decision.allowed.is_empty() {
            decision.picked.reason = SteerReason::Fenced;
            return decision;
        }
        decision.by_place = (decision.allowed.len() > 1).then_some(located.point_prefix);
        let all_down = self.sites.get(site.0).map_or(AllDown::Nearest, |site| site.all_down);
        let question = Question { candidates: &decision.allowed, located: &located, client, family, all_down };
        decision.picked = self.pick(&question, health);
        let is_nodata = decision.picked.reason == SteerReason::AllDownNoData && all_down == AllDown::Cname;
        if is_nodata && self.is_family_out(site, located.fenced(), health, family.other()) {
            decision.picked.reason = SteerReason::AllDownCname;
        }
        decision.by_share = decision.picked.by_share.then(|| client.spread_prefix());
        decision
    }

    /// Whether of what clients of that kind may use nothing is up in a family. A CNAME stands alone at its name
    /// (RFC 1034 §3.6.2), so it may be there only when neither family has addresses.
    fn is_family_out(&self, site: SiteIndex, client: Fenced, health: &HealthView, family: Family) -> bool {
        let allowed = self.candidates(site, family).into_iter().filter(|pop| self.fences.allow(client, *pop));
        !allowed.into_iter().any(|pop| self.passes(pop, family, health, Bar::Alive))
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
        let mut found = self.overrides.find(client.address());
        if let (None, Some(systems)) = (found.target, &self.systems) {
            let of_system = systems.find(client.address());
            found = Found { target: of_system.target, prefix_len: found.prefix_len.max(of_system.prefix_len) };
        }
        let fence = self.fences.find(client.address());
        let target = found.target.and_then(|target| self.targets.get(usize::try_from(target).ok()?)).copied();
        let (point, source, forced) = match (target, place.location) {
            (Some(Target::Pop(pop, point)), _) => (point, PlaceSource::Override, Some(pop)),
            (Some(Target::Point(point)), _) => (point, PlaceSource::Override, None),
            (None, Some(location)) if place.is_centre => (location.into(), PlaceSource::Country, None),
            (None, Some(location)) => (location.into(), PlaceSource::Database, None),
            (None, None) => (self.default_point?, PlaceSource::Default, None),
        };
        let database_prefix = if target.is_some() { 0 } else { place.prefix_len };
        Some(Located {
            point,
            source,
            country: place.country,
            forced,
            system: fence.target,
            country_prefix: place.prefix_len.max(fence.prefix_len),
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

/// Of overrides and fences.
fn systems_named(document: &Document) -> BTreeSet<u32> {
    let overrides = document.geo.overrides.iter().flat_map(|entry| entry.asns.iter().copied());
    overrides.chain(document.geo.steering.fence.keys().filter_map(|clients| fence::asn(clients))).collect()
}

fn place<S: AsRef<[u8]>>(database: Option<&GeoDatabase<S>>, client: &ClientPrefix) -> Place {
    database.map(|database| database.lookup(client.address())).unwrap_or_default()
}
