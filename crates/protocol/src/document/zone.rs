//! `[zone]`: `[[zone.record]]` here, the rest in `transfer`; and that no name of the zone says two things.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    fleet::ttl,
    limits::{RECORD_VALUES_MAX, RECORDS_MAX},
    names,
    read::Table,
    transfer,
    value::{Seen, Value},
};
use crate::{
    model::{StaticRecord, ZoneSettings},
    rdata::{KINDS, RecordData, is_kind},
};

/// The names of the zone that the document's other sections make; as far as they can be read, whatever else is wrong there.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) zone: String,
    pub(crate) apex_site: Option<&'a str>,
    /// The steered names' labels, that is, the sites' ids.
    pub(crate) sites: BTreeSet<&'a str>,
    nameservers: BTreeSet<String>,
    /// Whether nameservers have a record below them that says how they are reached in private.
    has_offers: bool,
    /// Those of `sites` that are a CNAME while all of their PoPs are down.
    aliased: BTreeSet<&'a str>,
}

impl<'a> Taken<'a> {
    /// None where there is no zone to speak of.
    pub(crate) fn new(cdn: &Value<'a>, sites: &[Value<'a>]) -> Option<Self> {
        let nameservers = cdn.peek("nameservers").map_or_else(Vec::new, |list| list.peek_all());
        Some(Self {
            zone: cdn.peek("zone")?.text().and_then(names::domain_name)?,
            apex_site: cdn.peek("apex_site").and_then(|value| value.text()),
            sites: sites.iter().filter_map(Value::raw_id).collect(),
            nameservers: nameservers
                .iter()
                .filter_map(|value| names::domain_name(value.peek("host")?.text()?))
                .collect(),
            has_offers: cdn.peek("dns_tls").is_some(),
            aliased: sites
                .iter()
                .filter(|site| site.peek("all_down").is_some_and(|all_down| all_down.is_table()))
                .filter_map(Value::raw_id)
                .collect(),
        })
    }

    /// The site whose steered addresses `name` has.
    pub(crate) fn steered(&self, name: &str) -> Option<&'a str> {
        if name == self.zone {
            return self.apex_site;
        }
        let label = name.strip_suffix(&*self.zone)?.strip_suffix('.')?;
        self.sites.get(label).copied()
    }

    /// Whether `name` has the glue of a nameserver.
    fn is_nameserver(&self, name: &str) -> bool {
        self.nameservers.contains(name) && names::is_in_zone(name, &self.zone)
    }
}

/// `[zone]`. `is_signed`: whether the document has keys for DNSSEC.
pub(crate) fn zone(
    zone: &Value<'_>,
    taken: Option<&Taken<'_>>,
    is_signed: bool,
) -> Option<(Vec<StaticRecord>, ZoneSettings)> {
    let mut table = zone.table()?;
    let settings = transfer::settings(&mut table, taken, is_signed);
    Some((records(&mut table, taken)?, settings?))
}

fn records(table: &mut Table<'_>, taken: Option<&Taken<'_>>) -> Option<Vec<StaticRecord>> {
    let mut seen = Seen::default();
    let elements = table.tables("record", 0..=RECORDS_MAX);
    let read: Vec<_> = elements.iter().map(|value| record(value, taken, &mut seen)).collect();
    if let Some(taken) = taken {
        let good =
            elements.iter().zip(&read).filter_map(|(value, record)| record.as_ref().map(|record| (value, record)));
        check_names(&good.collect::<Vec<_>>(), taken);
    }
    read.into_iter().collect()
}

fn record(value: &Value<'_>, taken: Option<&Taken<'_>>, seen: &mut Seen<(String, String)>) -> Option<StaticRecord> {
    let mut table = value.table()?;
    // Without a zone there is nothing that a name could be right or wrong in.
    let name = table.must("name", "\"@\"", |value| owner(value, &taken?.zone));
    let kind = table.must("type", "\"TXT\"", |value| {
        let law = format!("must be one of {}, or TYPE and a number (RFC 3597)", KINDS.join(", "));
        value.parse(&law, |text| is_kind(text).then_some(text))
    });
    let ttl = table.must("ttl", "\"5m\"", ttl);
    let values = table.must("values", "[\"198.18.0.1\"]", |list| {
        values(list, kind?, taken.map_or("zone.invalid", |taken| &taken.zone))
    });
    let (name, kind) = (name?, kind?);
    if !seen.is_new((name.clone(), kind.to_owned()), value) {
        return None;
    }
    Some(StaticRecord { name, kind: kind.to_owned(), ttl: ttl?, values: values? })
}

/// `@`, labels below the zone, or a full name inside the zone with its final dot.
fn owner(value: &Value<'_>, zone: &str) -> Option<String> {
    let text = value.string()?;
    if names::is_in_zone(&text.to_ascii_lowercase(), zone) {
        value.wrong(
            "is below the zone already without it: names are relative",
            format!("write \"{}.\" for the full name, with its final dot", text),
        );
        return None;
    }
    let name = match text.strip_suffix('.') {
        Some(full) => names::owner_name(full).filter(|name| names::is_in_zone(name, zone)),
        None if text == "@" => Some(zone.to_owned()),
        None => names::owner_name(&format!("{text}.{zone}")),
    };
    if name.is_none() {
        value.refuse("must be @, a name below the zone, or a full name inside the zone that ends with a dot");
    }
    name
}

fn values(list: &Value<'_>, kind: &str, zone: &str) -> Option<Vec<String>> {
    let values = list.set(1..=RECORD_VALUES_MAX, |value| match RecordData::parse(kind, value.string()?, zone) {
        Ok(data) => Some(data.to_string()),
        Err(error) => {
            value.wrong(error.to_string(), "correct it");
            None
        }
    })?;
    if matches!(kind, "CNAME" | "DNAME") && values.len() > 1 {
        // RFC 2181 §10.1, RFC 6672 §2.4
        list.wrong(format!("must be one name: a {kind} has one target"), "remove the others");
        return None;
    }
    Some(values)
}

fn check_names(records: &[(&Value<'_>, &StaticRecord)], taken: &Taken<'_>) {
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, record) in records {
        kinds.entry(&record.name).or_default().insert(&record.kind);
    }
    let above = |name: &str, kind: &str| -> Option<String> {
        let mut above = name.split_once('.').map(|(_, rest)| rest);
        while let Some(name) = above.filter(|name| names::is_in_zone(name, &taken.zone) && *name != taken.zone) {
            if kinds.get(name).is_some_and(|kinds| kinds.contains(kind)) {
                return Some(name.to_owned());
            }
            above = name.split_once('.').map(|(_, rest)| rest);
        }
        None
    };
    for (value, record) in records {
        let (name, kind) = (record.name.as_str(), record.kind.as_str());
        let others = kinds.get(name).map_or(0, BTreeSet::len) > 1;
        let has_cut = kinds.get(name).is_some_and(|kinds| kinds.contains("NS")) && name != taken.zone;
        if let Some((law, remedy)) = collision(name, kind, others, taken) {
            value.wrong(law, remedy);
        } else if let Some((law, remedy)) = redirected(name, kind, has_cut, taken) {
            value.wrong(law, remedy);
        } else if let Some(dname) = above(name, "DNAME") {
            // RFC 6672 §2.4
            value.wrong(
                format!("{name} is below {dname}, which is a DNAME: names there are looked for elsewhere"),
                "remove it, or the DNAME record above it",
            );
        } else if above(name, "NS").is_some() && !matches!(kind, "A" | "AAAA") {
            // RFC 1034 §4.2.1: below a cut there is only glue.
            value.wrong(
                format!("{name} is delegated to other nameservers, and only glue (A, AAAA) may lie there"),
                "remove it, or the NS record above it",
            );
        }
    }
}

/// Why a DNAME cannot stand at its name, and what to do.
fn redirected(name: &str, kind: &str, has_cut: bool, taken: &Taken<'_>) -> Option<(String, &'static str)> {
    if kind != "DNAME" {
        return None;
    }
    if name.starts_with("*.") {
        // RFC 6672 §3.3
        return Some(("a wildcard with a DNAME means no one thing".to_owned(), "name what is looked for elsewhere"));
    }
    if has_cut {
        // RFC 6672 §2.3
        return Some((
            format!("{name} is delegated, and a DNAME is the child's to have"),
            "remove it or the NS record",
        ));
    }
    let sites = taken.sites.iter().map(|site| format!("{site}.{}", taken.zone));
    let nameservers = taken.nameservers.iter().cloned();
    let offers = taken.nameservers.iter().filter(|_| taken.has_offers).map(|host| format!("_dns.{host}"));
    let below = sites.chain(nameservers).chain(offers).find(|below| below != name && names::is_in_zone(below, name))?;
    // RFC 6672 §2.4
    Some((
        format!("{below} is below {name}, and nothing is below a DNAME: names there are looked for elsewhere"),
        "give the DNAME a name of its own",
    ))
}

/// Why a record cannot stand at its name, and what to do.
fn collision(name: &str, kind: &str, beside_others: bool, taken: &Taken<'_>) -> Option<(String, &'static str)> {
    let steers = matches!(kind, "A" | "AAAA" | "CNAME" | "NS");
    if kind == "NS" && name == taken.zone {
        return Some(("the zone's own nameservers stand in cdn.nameservers".to_owned(), "move them there"));
    }
    if kind == "NS" && name.starts_with("*.") {
        // RFC 4592 §4.2
        return Some(("a wildcard cannot be delegated".to_owned(), "name the delegated zone"));
    }
    if steers && let Some(site) = taken.steered(name) {
        return Some((
            format!("{name} is the steered name of site {site}: its addresses are chosen for each client"),
            "remove it, or rename one of them",
        ));
    }
    if let Some(site) = taken.steered(name).filter(|site| taken.aliased.contains(site)) {
        // RFC 1034 §3.6.2
        return Some((
            format!("{name} is a CNAME while all PoPs of site {site} are down (all_down), and a CNAME stands alone"),
            "remove it, or give the site another all_down",
        ));
    }
    if steers && taken.is_nameserver(name) {
        return Some((format!("{name} is a nameserver: its addresses stand in cdn.nameservers"), "remove it"));
    }
    if kind == "CNAME" && (name == taken.zone || beside_others) {
        // RFC 1034 §3.6.2
        let what = if name == taken.zone { "the zone's apex has SOA and NS" } else { "there are other records" };
        return Some((format!("a CNAME stands alone at its name, and at {name} {what}"), "remove it or the others"));
    }
    None
}
