//! Answers made ahead: the space of addresses as runs of one answer each, so that a question costs a search in some
//! megabytes instead of a walk down the database and a ranking, and so that the scope told is the shortest that is true.
//!
//! A [`TableBuilder`] asks the steering itself, once for each stretch of addresses in which nothing that decides can
//! differ, and joins neighbours of one answer. Nothing is known here of how a decision comes about, and so no rule of
//! steering stands here a second time. A table is of one steering, one database and one [`HealthView`]; until there is
//! one, and for clients whose share decides (weights, nodes of one PoP, load), the decision's own prefixes are told.
//!
//! Deliberately absent: when a table is made, and on which thread.

use std::net::IpAddr;

use super::{Addresses, ClientPrefix, Country, Family, PlaceSource, SiteIndex, SteerReason, Steered, Steering};
use crate::{database::GeoDatabase, health::HealthView};

mod build;
mod runs;

pub use build::{Step, TableBuilder};
use runs::Runs;

/// Answers of one steering under one view of health. Bounded: see [`TableFigures::bytes`].
#[derive(Debug)]
pub struct AnswerTable {
    health_generation: u64,
    /// By [`SiteIndex`]: of A and of AAAA.
    by_site: Vec<[Option<usize>; 2]>,
    views: Vec<Option<View>>,
    figures: TableFigures,
}

/// What a table came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableFigures {
    /// Stretches of addresses of one answer, of all kinds of sites and families.
    pub regions: usize,
    /// Stretches that were asked for.
    pub blocks: u64,
    /// Of memory: at most 14 MiB, the indices (256 KiB for each kind and family of clients) and the answers themselves.
    pub bytes: usize,
    /// Kinds of sites whose answers are made. Sites of the same PoPs and policy are one kind; A and AAAA are two where not
    /// every PoP is the same in both.
    pub kinds: usize,
    /// Kinds that had no room: there the decision's own prefixes are told.
    pub left_out: usize,
}

/// Of all regions and runs of a table; what does not fit is left out.
const BYTES_MAX: usize = 14 * 1024 * 1024;

/// The answers of sites of the same PoPs and policy, in one family or in both.
#[derive(Debug)]
struct View {
    v4: Runs<u32>,
    /// By the first 64 bits: where more of them matter, no answer is made.
    v6: Runs<u64>,
    decided: Vec<Decided>,
    /// Of A and of AAAA; of a view of one family, the other's are without meaning.
    answers: Vec<[Addresses; 2]>,
}

impl View {
    fn runs_bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }

    fn bytes(&self) -> usize {
        self.runs_bytes() + self.decided.len() * size_of::<Decided>() + self.answers.len() * size_of::<[Addresses; 2]>()
    }
}

/// A decision, without what is told to people only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Decided {
    /// An index of [`View::answers`].
    answer: usize,
    pop: Option<usize>,
    reason: SteerReason,
    source: PlaceSource,
    country: Option<Country>,
}

/// What a table says of a client.
struct Found<'t> {
    decided: &'t Decided,
    addresses: &'t Addresses,
    /// Leading bits of [`ClientPrefix::address`] of which it is true.
    bits: u8,
}

impl AnswerTable {
    /// What it came to.
    pub fn figures(&self) -> TableFigures {
        self.figures
    }

    /// Whether it is of this view.
    pub fn is_of(&self, health: &HealthView) -> bool {
        self.health_generation == health.generation()
    }

    /// The scope that is told to a client instead of the decision's own. None: no answer was made for it.
    pub fn scope(&self, client: &ClientPrefix, site: SiteIndex, health: &HealthView, family: Family) -> Option<u8> {
        Some(client.scope(self.find(client, site, health, family)?.bits))
    }

    fn find(&self, client: &ClientPrefix, site: SiteIndex, health: &HealthView, family: Family) -> Option<Found<'_>> {
        if !self.is_of(health) {
            return None;
        }
        let kind = (*self.by_site.get(site.0)?.get(family.index())?)?;
        let view = self.views.get(kind)?.as_ref()?;
        let run = match client.address() {
            IpAddr::V4(v4) => view.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => view.v6.find((v6.to_bits() >> 64) as u64),
        }?;
        let decided = view.decided.get(usize::from(run.class))?;
        Some(Found { decided, addresses: view.answers.get(decided.answer)?.get(family.index())?, bits: run.bits })
    }
}

impl Steering {
    /// As [`Steering::answer`], by what `table` holds for the client, with the shortest scope that is true; distances are
    /// then not told. The table is of this steering and this database.
    pub fn answer_by<S: AsRef<[u8]>>(
        &self,
        table: Option<&AnswerTable>,
        database: Option<&GeoDatabase<S>>,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Steered<'_> {
        let Some(found) = table.and_then(|table| table.find(client, site, health, family)) else {
            return self.answer(database, client, site, health, family);
        };
        let decided = found.decided;
        Steered {
            addresses: *found.addresses,
            pop: decided.pop.and_then(|pop| self.pops.get(pop)).map(|pop| &pop.id),
            scope_prefix: client.scope(found.bits),
            reason: decided.reason,
            source: decided.source,
            country: decided.country,
            km: None,
        }
    }
}
