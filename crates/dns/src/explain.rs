//! Why a steered name is answered as it is, for people: by `_why.NAME`, by the admin API and by the command.

use std::fmt::Write as _;

use perigee_geo::{
    asn::System,
    health::{HealthView, Kept, Operator},
    steer::{ClientPrefix, ExplainedPop, Explanation, Family, SiteIndex, SteerReason},
};

use crate::{
    code::kind,
    name::{InvalidName, Name, QueryName, labels},
    snapshot::Snapshot,
    zone::{Found, Zone},
};

/// The first label of a question for the explanation of A.
const WHY: &[u8] = b"_why";
/// Of AAAA.
const WHY_V6: &[u8] = b"_why6";
/// CNAMEs followed.
const ALIASES_MAX: usize = 8;

/// A steered answer with all that led to it.
#[derive(Clone, Debug)]
pub struct Explained<'s> {
    /// The name that is steered, after the CNAMEs of the zone.
    pub name: Name,
    /// A or AAAA.
    pub family: Family,
    /// Of the answer, in seconds.
    pub ttl_s: u32,
    /// Where the name leads while none of its site's PoPs is up; None: that is not so now, or it leads nowhere.
    pub alias: Option<Name>,
    /// Whether the scope is the shortest that is true: neighbours of the same answer were merged.
    pub is_merged: bool,
    /// The network that the client's address is in, where there is a database of autonomous systems.
    pub system: Option<System>,
    /// How it was decided.
    pub steering: Explanation<'s>,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExplainError {
    /// Not a name.
    #[error("{name:?} is no domain name")]
    Name {
        /// As given.
        name: String,
        /// The law.
        source: InvalidName,
    },
    /// Of another zone, or below a delegation.
    #[error(
        "{name} is not in the zone {zone}; ask for a site's name there, or for the name that a CNAME of it leads to"
    )]
    OutOfZone {
        /// As given.
        name: String,
        /// The apex.
        zone: String,
    },
    /// NXDOMAIN.
    #[error("{name} is not there (NXDOMAIN)")]
    NoName {
        /// The last name.
        name: String,
    },
    /// Its answer is the same for everybody.
    #[error("{name} is not steered: its answer is the same for everybody")]
    NotSteered {
        /// The last name.
        name: String,
    },
}

impl<S: AsRef<[u8]>> Snapshot<S> {
    /// Explains the answer to `name`, with or without a trailing dot, for a client.
    ///
    /// The client of a source prefix of 0 is to be that of the query's sender (RFC 7871 §7.1.2), as in an answer.
    pub fn explain(
        &self,
        name: &str,
        client: &ClientPrefix,
        health: &HealthView,
        family: Family,
    ) -> Result<Explained<'_>, ExplainError> {
        let parsed = Name::parse(name).map_err(|source| ExplainError::Name { name: name.to_owned(), source })?;
        let (name, site) = self.zone.steered(&parsed)?;
        Ok(self.explain_site(name, site, client, health, family))
    }

    fn explain_site(
        &self,
        name: Name,
        site: SiteIndex,
        client: &ClientPrefix,
        health: &HealthView,
        family: Family,
    ) -> Explained<'_> {
        let mut steering = self.steering.explain(self.database.as_deref(), client, site, health, family);
        let merged = self.table.as_ref().and_then(|table| table.scope(client, site, health, family));
        steering.steered.scope_prefix = merged.unwrap_or(steering.steered.scope_prefix);
        let all_down = self.zone.glue(&name).and_then(|node| node.all_down.as_deref());
        let alias = all_down.and_then(|alias| alias.records.first()?.names.first()).cloned();
        let alias = alias.filter(|_| steering.steered.reason == SteerReason::AllDownCname);
        let system = self.systems.as_ref().and_then(|systems| systems.describe(client.address()));
        let ttl_s = self.zone.steered_ttl_s;
        Explained { name, family, ttl_s, alias, is_merged: merged.is_some(), system, steering }
    }

    /// What `_why.NAME` says. None: it is no such question, or NAME is not steered.
    pub(crate) fn why(&self, name: &QueryName, client: &ClientPrefix, health: &HealthView) -> Option<Explained<'_>> {
        let (name, family) = split(name)?;
        let (name, site) = self.zone.steered(&name).ok()?;
        Some(self.explain_site(name, site, client, health, family))
    }
}

/// NAME of `_why.NAME`.
fn split(name: &QueryName) -> Option<(Name, Family)> {
    let family = match labels(name.suffix(0)).next()? {
        WHY => Family::V4,
        WHY_V6 => Family::V6,
        _ => return None,
    };
    Some((Name::from_labels(labels(name.suffix(1))).ok()?, family))
}

impl Zone {
    /// The site of a name, and the name at the end of its CNAMEs and DNAMEs.
    fn steered(&self, name: &Name) -> Result<(Name, SiteIndex), ExplainError> {
        let outside = || ExplainError::OutOfZone { name: name.to_string(), zone: self.apex().to_string() };
        let mut last = name.clone();
        for _ in 0..=ALIASES_MAX {
            let Some(name) = QueryName::of(&last) else { return Err(outside()) };
            let node = match self.find(&name, kind::A) {
                Found::Node { node } => node,
                Found::Redirected { node, skipped } => {
                    let target = node.rrset(kind::DNAME).and_then(|dname| dname.records.first());
                    let next = target.and_then(|target| name.redirected(skipped, &target.head));
                    let next = next.and_then(|next| Name::from_labels(labels(next.suffix(0))).ok());
                    last = next.ok_or_else(|| ExplainError::NoName { name: last.to_string() })?;
                    continue;
                }
                Found::Nothing => return Err(ExplainError::NoName { name: last.to_string() }),
                Found::Outside | Found::Cut { .. } => return Err(outside()),
            };
            let alias = node.rrset(kind::CNAME).and_then(|alias| alias.records.first()?.names.first());
            match (node.site, alias) {
                (Some(site), _) => return Ok((last, site)),
                (None, Some(alias)) => last = alias.clone(),
                (None, None) => break,
            }
        }
        Err(ExplainError::NotSteered { name: last.to_string() })
    }
}

impl Explained<'_> {
    /// `A` or `AAAA`.
    pub fn kind(&self) -> &'static str {
        match self.family {
            Family::V4 => "A",
            Family::V6 => "AAAA",
        }
    }

    /// The explanation in words: the answer, the client, the scope, then a line of each PoP, best first.
    pub fn lines(&self) -> Vec<String> {
        let told = &self.steering;
        let steered = &told.steered;
        let addresses: Vec<String> = steered.addresses.iter().map(ToString::to_string).collect();
        let addresses = match (&self.alias, addresses.is_empty()) {
            (Some(alias), _) => format!("CNAME {alias}"),
            (None, true) => "no address".to_owned(),
            (None, false) => addresses.join(" "),
        };
        let pop = steered.pop.map_or(String::new(), |pop| format!(" from {pop}"));
        let place = told.location.map_or("nowhere".to_owned(), |at| format!("{:.4} {:.4}", at.latitude, at.longitude));
        let country = steered.country.map_or("country unknown".to_owned(), |country| format!("country {country}"));
        let system = self.system.as_ref().map_or(String::new(), |system| format!(", AS{}", system.asn));
        let sources: Vec<String> = told.scope.iter().map(|(by, bits)| format!("{} /{bits}", by.as_str())).collect();
        let sources = if sources.is_empty() {
            "the same for every client".to_owned()
        } else {
            format!("by {}", sources.join(", "))
        };
        let mut lines = vec![
            format!("answer: {} {} {addresses}, TTL {}s, {}{pop}", self.name, self.kind(), self.ttl_s, steered.reason),
            format!("client: {} at {place} by {}, {country}{system}", told.address, steered.source),
            format!(
                "scope: /{}{} {sources}",
                steered.scope_prefix,
                if self.is_merged { " merged, decided" } else { "" }
            ),
        ];
        lines.extend(told.pops.iter().enumerate().map(|(index, pop)| line(index + 1, pop)));
        lines
    }
}

fn line(number: usize, pop: &ExplainedPop<'_>) -> String {
    let mut line = format!("{number}. {}:", pop.pop);
    // Writing to a String cannot fail.
    if let Some(km) = pop.km {
        _ = write!(line, " {km:.0} km");
    }
    if let Some(effective_km) = pop.effective_km.filter(|_| pop.bias != 1.0) {
        _ = write!(line, " / bias {} = {effective_km:.0} km", pop.bias);
    }
    _ = write!(line, ", weight {}", pop.weight);
    if pop.is_forced {
        line += ", first by override";
    }
    if pop.by_share {
        line += ", shares its place";
    }
    if pop.health.kept < Kept::ALL {
        let kept = pop.health.kept.thousandths();
        _ = write!(line, ", keeps {}.{} % of its clients", kept / 10, kept % 10);
    }
    match pop.health.operator {
        Some(Operator::Drain) => line += ", drained by operator",
        Some(Operator::ForceUp) => line += ", forced up by operator",
        None => {}
    }
    for (address, is_up) in &pop.addresses {
        _ = write!(line, ", {address} {}", if *is_up { "up" } else { "down" });
    }
    match pop.dropped {
        None => line += ": answered",
        Some(dropped) => _ = write!(line, ": dropped by {}", dropped.as_str()),
    }
    line
}
