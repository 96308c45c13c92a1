//! Why a question is answered as it is: the decision itself, told step by step. What is told comes of the same
//! `Steering::decide` that answers, so that there is no second opinion.

use std::net::IpAddr;

use perigee_protocol::{id::PopId, model::Location};

use super::{
    AllDown, ClientPrefix, Decision, Family, SiteIndex, SteerReason, Steered, Steering, pick::Question, place,
};
use crate::{
    database::GeoDatabase,
    health::{Bar, HealthView, Operator, Out, PopHealth},
};

/// A decision with all that led to it.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What is answered.
    pub steered: Steered<'a>,
    /// The address that was looked up: of a prefix, its first; IPv4 for IPv4-mapped ones.
    pub address: IpAddr,
    /// Where the client is taken to be, in degrees (exact to their tenth decimal). None: there is no PoP.
    pub location: Option<Location>,
    /// Every PoP of the document: those in the ranking, best first, then those that a filter dropped before.
    pub pops: Vec<ExplainedPop<'a>>,
    /// What of the client's address decided, and by how many of its bits; the longest is the scope. Empty: the answer is
    /// the same for every client.
    pub scope: Vec<(ScopeSource, u8)>,
}

/// One PoP, as the client saw it.
#[derive(Clone, Debug)]
pub struct ExplainedPop<'a> {
    /// Which.
    pub pop: &'a PopId,
    /// Great-circle kilometres from the client; the ranking counts PoPs of one place as where the first of them is.
    pub km: Option<f64>,
    /// What the distance is divided by.
    pub bias: f64,
    /// What the ranking compares.
    pub effective_km: Option<f64>,
    /// Its part of the clients among PoPs of one place; 0: a reserve.
    pub weight: u32,
    /// Addresses of the family, and whether each is up, be it drained or not.
    pub addresses: Vec<(IpAddr, bool)>,
    /// Who answers for it when it is down.
    pub fallback: Vec<&'a PopId>,
    /// What an operator says of it, and what part of its clients its load lets it keep.
    pub health: PopHealth,
    /// An override puts it first.
    pub is_forced: bool,
    /// Its weight, or a share by weight, put it before or after another of its place.
    pub by_share: bool,
    /// Why it is not in the answer; None: it is.
    pub dropped: Option<Dropped>,
}

/// Which filter kept a PoP out of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// `site.pops` does not have it.
    Site,
    /// It has no address of that family.
    Family,
    /// `geo.steering.fence` keeps the client's country from it.
    Fence,
    /// None of its addresses is up.
    Down,
    /// An operator drains it, and others are up.
    Operator,
    /// It says itself that it is about to end, and others are up.
    Draining,
    /// It is above its load mark, and sends this client on.
    Load,
    /// Of weight 0, and others are up.
    Reserve,
    /// The answer was full before its turn.
    Answers,
}

impl Dropped {
    /// The word in what is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Family => "family",
            Self::Fence => "fence",
            Self::Down => "down",
            Self::Operator => "operator",
            Self::Draining => "draining",
            Self::Load => "load",
            Self::Reserve => "reserve",
            Self::Answers => "answers",
        }
    }
}

/// What of a client's address an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeSource {
    /// There are fences, which go by the database record's country.
    Country,
    /// The record, or an override, that says where the client is.
    Place,
    /// The client's share among PoPs or nodes of one place.
    Share,
}

impl ScopeSource {
    /// The word in what is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Place => "place",
            Self::Share => "share",
        }
    }
}

impl Steering {
    /// Decides as [`Steering::answer`] does, and tells how. It allocates: for people, not for servers under load.
    pub fn explain<S: AsRef<[u8]>>(
        &self,
        database: Option<&GeoDatabase<S>>,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Explanation<'_> {
        let decision = self.decide(place(database, client), client, site, health, family);
        let sources = [
            (ScopeSource::Country, decision.by_country),
            (ScopeSource::Place, decision.by_place),
            (ScopeSource::Share, decision.by_share),
        ];
        let scope = sources.into_iter().filter_map(|(source, bits)| Some((source, client.scope(bits?))));
        Explanation {
            steered: self.steered(&decision, client),
            address: client.address(),
            location: decision.located.map(|located| located.point.location()),
            pops: self
                .order(&decision, client, family)
                .filter_map(|pop| self.tell(pop, &decision, site, health, family, client))
                .collect(),
            scope: scope.collect(),
        }
    }

    /// Every PoP once: the ranking, the reserves that it did not reach, and the rest in the document's order.
    fn order(&self, decision: &Decision, client: &ClientPrefix, family: Family) -> impl Iterator<Item = usize> + use<> {
        let mut order: Vec<usize> = decision.picked.ranking.iter().map(|choice| choice.pop).collect();
        if let Some(located) = &decision.located {
            let rest: Vec<usize> = decision.allowed.iter().copied().filter(|pop| !order.contains(pop)).collect();
            let question = Question { candidates: &rest, located, client, family, all_down: AllDown::Nearest };
            order.extend(self.ranking(&rest, &question).iter().map(|choice| choice.pop));
        }
        let others: Vec<usize> = (0..self.pops.len()).filter(|pop| !order.contains(pop)).collect();
        order.into_iter().chain(others)
    }

    /// Why none of a PoP's addresses is for new clients; None: one is.
    fn out(&self, pop: usize, family: Family, health: &HealthView) -> Option<Dropped> {
        if self.passes(pop, family, health, Bar::Wanted) {
            return None;
        }
        let is_alive = self.passes(pop, family, health, Bar::Alive);
        let operator = self.pops.get(pop).and_then(|pop| health.pop(&pop.id).operator);
        Some(match operator {
            _ if !is_alive => Dropped::Down,
            Some(Operator::Drain) => Dropped::Operator,
            _ => Dropped::Draining,
        })
    }

    fn is_shed(
        &self,
        pop: usize,
        decision: &Decision,
        client: &ClientPrefix,
        family: Family,
        health: &HealthView,
    ) -> bool {
        let (Some(located), true) = (&decision.located, decision.picked.is_shed) else { return false };
        let question = Question { candidates: &[], located, client, family, all_down: AllDown::Nearest };
        self.sheds(pop, &question, health).unwrap_or(false)
    }

    fn tell<'a>(
        &'a self,
        index: usize,
        decision: &Decision,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
        client: &ClientPrefix,
    ) -> Option<ExplainedPop<'a>> {
        let (pop, ranked) = (self.pops.get(index)?, self.ranked.get(index)?);
        let is_of_site = self.sites.get(site.0).is_some_and(|site| site.pops.contains(&index));
        let choice = decision.picked.ranking.iter().find(|choice| choice.pop == index);
        let dropped = if decision.picked.taken.contains(&index) {
            None
        } else if !is_of_site {
            Some(Dropped::Site)
        } else if !decision.candidates.contains(&index) {
            Some(Dropped::Family)
        } else if !decision.allowed.contains(&index) {
            Some(Dropped::Fence)
        } else if let Some(out) =
            self.out(index, family, health).filter(|_| decision.picked.reason != SteerReason::AllDown)
        {
            Some(out)
        } else if self.is_shed(index, decision, client, family, health) {
            Some(Dropped::Load)
        } else if choice.is_none() {
            Some(Dropped::Reserve)
        } else {
            Some(Dropped::Answers)
        };
        let km = decision.located.map(|located| located.point.km(pop.point));
        Some(ExplainedPop {
            pop: &pop.id,
            km,
            bias: ranked.bias,
            effective_km: choice.map(|choice| choice.effective_km).or(km.map(|km| km / ranked.bias)),
            weight: ranked.weight,
            addresses: pop
                .addresses(family)
                .iter()
                .map(|address| (*address, !matches!(health.out(*address), Some(Out::Down { .. }))))
                .collect(),
            fallback: pop.fallback.iter().filter_map(|pop| self.pops.get(*pop)).map(|pop| &pop.id).collect(),
            health: health.pop(&pop.id),
            is_forced: decision.located.is_some_and(|located| located.forced == Some(index)),
            by_share: choice.is_some_and(|choice| choice.by_share),
            dropped,
        })
    }
}
