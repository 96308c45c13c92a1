//! The records of zone files beside each other and beside the document.

use std::collections::{HashMap, HashSet};

use super::{
    ZoneFiles, ZoneRecord, mistake,
    read::{MISTAKES_GATHERED_MAX, is_at_or_below},
};
use crate::{
    document::Mistake,
    model::{AllDown, Document},
    rdata::{RecordData, kind_number},
};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const DNAME: u16 = 39;
/// What a set may take of a message: data, and for each record a pointer to its name, type, class, time to live, length.
const RRSET_BYTES_MAX: usize = 60_000;
const RECORD_HEAD_BYTES: usize = 12;

/// What is known of a name and type before the next record of it.
struct Set<'a> {
    /// Seconds; None where the document's other sections make it.
    ttl_s: Option<u32>,
    /// As [`super::Place`] says it.
    place: String,
    bytes: usize,
    /// What the document says itself, in canonical form.
    told: &'a [String],
    seen: HashSet<&'a RecordData>,
}

struct Zone<'a> {
    document: &'a Document,
    apex: &'a str,
    /// Names with steered addresses → the site's id, and whether it is a CNAME when all its PoPs are down.
    steered: HashMap<String, (&'a str, bool)>,
    /// Name → type → what is there.
    sets: HashMap<&'a str, HashMap<u16, Set<'a>>>,
    /// Names with a DNAME that have names of the document below them → one of these.
    redirected: HashMap<String, String>,
}

/// Adds whatever contradicts something to `mistakes`.
pub(super) fn check(document: &Document, files: &ZoneFiles, mistakes: &mut Vec<Mistake>) {
    let mut zone = Zone::new(document);
    for record in &files.records {
        if let Some((law, remedy)) = zone.add(record) {
            mistakes.push(of(record, law, remedy));
            if mistakes.len() >= MISTAKES_GATHERED_MAX {
                return;
            }
        }
    }
    zone.find_redirected();
    for record in &files.records {
        if let Some((law, remedy)) = zone.judge(record) {
            mistakes.push(of(record, law, remedy));
            if mistakes.len() >= MISTAKES_GATHERED_MAX {
                break;
            }
        }
    }
    mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
}

fn of(record: &ZoneRecord, law: String, remedy: &'static str) -> Mistake {
    mistake(&record.place, record.to_string(), law, remedy)
}

impl<'a> Zone<'a> {
    fn new(document: &'a Document) -> Self {
        let apex = document.cdn.zone.as_str();
        let mut steered = HashMap::new();
        for site in &document.sites {
            let of_site = (site.id.as_str(), matches!(site.all_down, AllDown::Cname(_)));
            steered.insert(document.site_name(site), of_site);
            if document.cdn.apex_site.as_ref() == Some(&site.id) {
                steered.insert(apex.to_owned(), of_site);
            }
        }
        let mut sets: HashMap<&str, HashMap<u16, Set<'a>>> = HashMap::new();
        for record in &document.records {
            let place = "the document's zone.record".to_owned();
            let ttl_s = u32::try_from(record.ttl.as_secs()).ok();
            let bytes = record.values.len() * RECORD_HEAD_BYTES + record.values.iter().map(String::len).sum::<usize>();
            let set = Set { ttl_s, place, bytes, told: &record.values, seen: HashSet::new() };
            sets.entry(&record.name).or_default().insert(kind_number(&record.kind).unwrap_or(0), set);
        }
        Self { document, apex, steered, sets, redirected: HashMap::new() }
    }

    /// Notes which DNAMEs have names below them that the document makes: those of sites and of nameservers, and its records.
    fn find_redirected(&mut self) {
        let servers = self.document.cdn.nameservers.iter().map(|server| server.host.clone());
        let offers = self.document.cdn.nameservers.iter().map(|server| format!("_dns.{}", server.host));
        let offers = offers.filter(|_| self.document.cdn.dns_tls.is_some());
        let records = self.document.records.iter().map(|record| record.name.clone());
        let mut names: Vec<String> = self.steered.keys().cloned().chain(servers).chain(offers).chain(records).collect();
        // So that it is the same one each time that is told.
        names.sort();
        for name in names {
            // What has a DNAME at the apex is told at the DNAME alone.
            let is_below_apex = name != self.apex && is_at_or_below(&name, self.apex);
            let apex = Some(self.apex).filter(|apex| is_below_apex && self.kinds(apex).any(|kind| kind == DNAME));
            for dname in [self.above(&name, DNAME), apex].into_iter().flatten().map(str::to_owned) {
                self.redirected.entry(dname).or_insert_with(|| name.clone());
            }
        }
    }

    fn kinds(&self, name: &str) -> impl Iterator<Item = u16> {
        self.sets.get(name).into_iter().flat_map(|kinds| kinds.keys().copied())
    }

    /// Puts a record to its set; says what is wrong with it there.
    fn add(&mut self, record: &'a ZoneRecord) -> Option<(String, &'static str)> {
        let kinds = self.sets.entry(&record.name).or_default();
        let bytes = RECORD_HEAD_BYTES + record.data.wire_bytes();
        let set = kinds.entry(record.data.number()).or_insert_with(|| Set {
            ttl_s: Some(record.ttl_s),
            place: record.place.to_string(),
            bytes: 0,
            told: &[],
            seen: HashSet::new(),
        });
        let in_document = !set.told.is_empty() && set.told.contains(&record.data.to_string());
        if !set.seen.insert(&record.data) || in_document {
            return Some((format!("is there already, at {}", set.place), "remove one of them"));
        }
        if set.ttl_s.is_some_and(|ttl_s| ttl_s != record.ttl_s) {
            // RFC 2181 §5.2
            let other = set.ttl_s.unwrap_or_default();
            let law = format!("has another time to live than the {other} of its set at {}", set.place);
            return Some((law, "give all records of one name and type the same"));
        }
        let before = set.bytes;
        set.bytes += bytes;
        (before <= RRSET_BYTES_MAX && set.bytes > RRSET_BYTES_MAX).then(|| {
            let law = format!("makes the set that begins at {} longer than {RRSET_BYTES_MAX} bytes", set.place);
            (law, "no message holds it: remove some of its records")
        })
    }

    /// Says what a record contradicts, when all sets are known.
    fn judge(&self, record: &ZoneRecord) -> Option<(String, &'static str)> {
        let (name, kind) = (record.name.as_str(), record.data.number());
        let steers = matches!(kind, A | AAAA | CNAME | NS);
        if let Some(wrong) = self.judge_redirection(name, kind) {
            return Some(wrong);
        }
        if kind == NS && name == self.apex {
            return self.judge_nameserver(&record.data);
        }
        if kind == NS && name.starts_with("*.") {
            // RFC 4592 §4.2
            return Some(("delegates a wildcard, which cannot be".to_owned(), "name the delegated zone"));
        }
        if let Some((site, is_aliased)) = self.steered.get(name) {
            if steers {
                let law =
                    format!("stands at the steered name of site {site}, whose addresses are chosen for each client");
                return Some((law, "remove it, or rename one of them"));
            }
            if *is_aliased {
                let law = format!("stands beside the CNAME that site {site} is when all its PoPs are down (all_down)");
                return Some((law, "remove it, or give the site another all_down"));
            }
        }
        let server = self.document.cdn.nameservers.iter().find(|server| server.host == name);
        if let Some(server) = server.filter(|_| steers) {
            let is_said = match record.data {
                RecordData::A(address) => server.addresses.contains(&address.into()),
                RecordData::Aaaa(address) => server.addresses.contains(&address.into()),
                _ => false,
            };
            let law = "stands at a nameserver, whose addresses are those in cdn.nameservers";
            return (!is_said).then(|| (law.to_owned(), "remove it, or correct one of them"));
        }
        // RFC 1034 §3.6.2
        let aliases = self.sets.get(name).and_then(|kinds| kinds.get(&CNAME));
        if let Some(aliases) = aliases {
            let is_lonely = self.kinds(name).count() == 1 && aliases.seen.len() + aliases.told.len() == 1;
            if name == self.apex || !is_lonely {
                let law = "has a name that is a CNAME, and a CNAME stands alone";
                return Some((law.to_owned(), "remove it or the others"));
            }
        }
        self.judge_cut(record)
    }

    /// RFC 6672 §2.3, §2.4: a DNAME is one, and nothing is below it.
    fn judge_redirection(&self, name: &str, kind: u16) -> Option<(String, &'static str)> {
        if let Some(dname) = self.above(name, DNAME) {
            let law = format!("is below {dname}., which is a DNAME: names there are looked for elsewhere");
            return Some((law, "remove it, or the DNAME record above it"));
        }
        if kind != DNAME {
            return None;
        }
        let set = self.sets.get(name).and_then(|kinds| kinds.get(&DNAME));
        if set.is_some_and(|set| set.seen.len() + set.told.len() > 1) {
            return Some(("is one of several DNAMEs of its name, which has one".to_owned(), "remove the others"));
        }
        if name.starts_with("*.") {
            // §3.3
            return Some(("is a DNAME of a wildcard, which means no one thing".to_owned(), "name what is redirected"));
        }
        if name != self.apex && self.kinds(name).any(|kind| kind == NS) {
            let law = "stands at a delegation, where a DNAME is the child's to have";
            return Some((law.to_owned(), "remove it, or the NS records"));
        }
        let below = self.redirected.get(name)?;
        let law = format!("has {below}. below it, and nothing is below a DNAME");
        Some((law, "give the DNAME a name of its own"))
    }

    /// NS at the apex: the zone's own nameservers.
    fn judge_nameserver(&self, data: &RecordData) -> Option<(String, &'static str)> {
        let RecordData::Ns(host) = data else { return None };
        let told = &self.document.cdn.nameservers;
        let is_said = told.is_empty() || told.iter().any(|server| server.host == *host);
        let law = "names a nameserver of the zone that is not in cdn.nameservers";
        (!is_said).then(|| (law.to_owned(), "add it there, or remove this line"))
    }

    /// RFC 1034 §4.2.1: below a delegation there is only glue, and where it is needed it is there.
    fn judge_cut(&self, record: &ZoneRecord) -> Option<(String, &'static str)> {
        let kind = record.data.number();
        if let Some(cut) = self.above(&record.name, NS).filter(|_| !matches!(kind, A | AAAA)) {
            let law = format!("is below {cut}., which is delegated: only glue (A, AAAA) may lie there");
            return Some((law, "remove it, or the NS records above it"));
        }
        if let RecordData::Ns(host) = &record.data
            && is_at_or_below(host, &record.name)
            && !self.kinds(host).any(|kind| matches!(kind, A | AAAA))
        {
            let law = format!("leads nowhere: {host}. is below the delegation, and nothing says its address");
            return Some((law, "add its A or AAAA record (glue)"));
        }
        None
    }

    /// The name above `name` and below the apex that has records of this type.
    fn above<'n>(&self, name: &'n str, kind: u16) -> Option<&'n str> {
        let mut rest = name;
        while let Some((_, above)) = split_label(rest).filter(|(_, above)| *above != self.apex) {
            if !is_at_or_below(above, self.apex) {
                return None;
            }
            if self.kinds(above).any(|there| there == kind) {
                return Some(above);
            }
            rest = above;
        }
        None
    }
}

/// The first label, and the rest behind its dot.
fn split_label(name: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'.' => return Some((name.get(..at)?, name.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}
