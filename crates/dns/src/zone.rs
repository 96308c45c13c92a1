//! The zone that a document makes: nameservers, static records, and names that are steered.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use perigee_geo::steer::{SiteIndex, Steering};
use perigee_protocol::{
    model::{AllDown, DnsOffer, DnsTls, Document, StaticRecord},
    rdata::{InvalidData, RecordData},
    zone_file::{ZoneFiles, ZoneRecord},
};

use crate::{
    code::kind,
    dnssec::ActiveKeys,
    name::{InvalidName, Name, QueryName},
    rdata::Rdata,
};

/// TTL of SOA, NS and glue, in seconds: they change with the document only.
const INFRASTRUCTURE_TTL_S: u32 = 3_600;
/// SOA refresh, retry and expire, in seconds, where no zone file says them: a secondary looks once an hour, and answers for
/// a week without us.
const SOA_REFRESH_RETRY_EXPIRE_S: [u32; 3] = [3_600, 600, 604_800];
/// The longest time to live (RFC 2181 §8).
const TTL_MAX_S: u32 = i32::MAX as u32;

/// Why a document makes no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// A name of the document.
    #[error("{name} {source}")]
    Name {
        /// As the document has it.
        name: String,
        /// The law.
        source: InvalidName,
    },
    /// A record's data.
    #[error("the {kind} record of {name}, {value:?}, {source}")]
    Record {
        /// The owner.
        name: String,
        /// The mnemonic.
        kind: String,
        /// As the document has it.
        value: String,
        /// The law.
        source: InvalidData,
    },
    /// A record outside the zone.
    #[error("{name} is not in the zone {zone}")]
    OutOfZone {
        /// The owner.
        name: String,
        /// The apex.
        zone: String,
    },
    /// RFC 1034 §3.6.2.
    #[error("{name} has a CNAME beside other records, or two of them")]
    CnameAndOthers {
        /// The owner.
        name: Name,
    },
    /// RFC 6672 §2.4
    #[error("{name} has several DNAMEs, or names below the one that it has")]
    Dname {
        /// The owner.
        name: Name,
    },
    /// Addresses at a steered name.
    #[error("{name} is the name of a site, whose addresses are steered: it can have no {kind} record")]
    Steered {
        /// The owner.
        name: String,
        /// The mnemonic.
        kind: String,
    },
}

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rrset {
    pub(crate) kind: u16,
    pub(crate) ttl_s: u32,
    pub(crate) records: Vec<Rdata>,
}

/// A name of the zone. One without records and site exists because of names below it (an empty non-terminal).
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) rrsets: Vec<Rrset>,
    pub(crate) site: Option<SiteIndex>,
    /// Whether the site's edges speak TLS.
    pub(crate) is_secure: bool,
    /// The CNAME that stands here, instead of all else, while none of the site's PoPs is up.
    pub(crate) all_down: Option<Box<Rrset>>,
    /// Whether it lies below a delegation, where its records are glue.
    is_below_cut: bool,
    /// Whether a wildcard stands right below it.
    has_wildcard: bool,
    /// Whether it has a DNAME: names below it are looked for elsewhere.
    is_redirected: bool,
}

impl Node {
    pub(crate) fn rrset(&self, kind: u16) -> Option<&Rrset> {
        self.rrsets.iter().find(|rrset| rrset.kind == kind)
    }
}

/// A document's zone.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    apex_labels: usize,
    /// By a hash that is fast rather than hard to foresee: what is in here, the operator wrote.
    nodes: HashMap<Name, Node, foldhash::fast::FixedState>,
    /// Of the SOA.
    pub(crate) serial: u32,
    /// TTL of steered answers, in seconds.
    pub(crate) steered_ttl_s: u32,
    /// SOA with the TTL of negative answers (RFC 2308 §5: the lower of its own and its minimum).
    pub(crate) negative_soa: Rrset,
    pub(crate) minimal_any: Rrset,
    /// None: the zone is unsigned.
    pub(crate) keys: Option<ActiveKeys>,
}

/// What the zone has for a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'z> {
    /// Not in the zone.
    Outside,
    /// The name itself, or the wildcard that stands for it (RFC 4592).
    Node { node: &'z Node },
    /// The name is at or below a delegation: its owner, and how many labels of the name come before that.
    Cut { node: &'z Node, skipped: usize },
    /// The name is below a DNAME (RFC 6672): its owner, and how many labels of the name come before that.
    Redirected { node: &'z Node, skipped: usize },
    /// Not there.
    Nothing,
}

impl Zone {
    /// Makes the zone. `serial` is the SOA's: nameservers of one fleet should give the same for the same document.
    ///
    /// `files` is what [`perigee_protocol::zone_file::load`] made of the document's zone files. With `keys` the zone is signed.
    pub fn new(
        document: &Document,
        files: &ZoneFiles,
        steering: &Steering,
        serial: u32,
        keys: Option<ActiveKeys>,
    ) -> Result<Self, ZoneError> {
        let apex = name(&document.cdn.zone)?;
        let of_files = files.records.iter().find_map(|record| match &record.data {
            RecordData::Ns(host) if record.name == document.cdn.zone => Some(host),
            _ => None,
        });
        let told = document.cdn.nameservers.first().map(|server| &server.host);
        let primary = told.or(of_files).map_or(Ok(apex.clone()), |host| name(host))?;
        let negative_ttl_s = seconds(document.cdn.negative_ttl);
        let times = files.soa.as_ref().map(|soa| [soa.refresh_s, soa.retry_s, soa.expire_s]);
        let [refresh, retry, expire] = times.unwrap_or(SOA_REFRESH_RETRY_EXPIRE_S);
        let soa =
            Rdata::soa(primary, contact(&document.cdn.contact)?, [serial, refresh, retry, expire, negative_ttl_s]);
        let rrset = |kind, ttl_s, rdata: &Rdata| Rrset { kind, ttl_s, records: vec![rdata.clone()] };
        let mut zone = Self {
            apex_labels: QueryName::of(&apex).map_or(0, |name| name.count()),
            nodes: HashMap::default(),
            serial,
            steered_ttl_s: seconds(document.cdn.ttl),
            negative_soa: rrset(kind::SOA, negative_ttl_s.min(INFRASTRUCTURE_TTL_S), &soa),
            minimal_any: rrset(kind::HINFO, INFRASTRUCTURE_TTL_S, &Rdata::minimal_any()),
            apex: apex.clone(),
            keys: None,
        };
        zone.add(&apex, kind::SOA, INFRASTRUCTURE_TTL_S, soa);
        zone.add_nameservers(document, of_files.is_some())?;
        zone.add_keys(keys);
        zone.add_sites(document, steering)?;
        for record in &document.records {
            zone.add_static(record)?;
        }
        for record in &files.records {
            zone.add_of_file(record)?;
        }
        zone.add_offers(document)?;
        zone.check()?;
        zone.add_empty_non_terminals();
        zone.mark();
        Ok(zone)
    }

    fn add_nameservers(&mut self, document: &Document, are_in_files: bool) -> Result<(), ZoneError> {
        let apex = self.apex.clone();
        if document.cdn.nameservers.is_empty() && !are_in_files {
            self.add(&apex, kind::NS, INFRASTRUCTURE_TTL_S, Rdata::name(apex.clone()));
        }
        for server in &document.cdn.nameservers {
            let host = name(&server.host)?;
            self.add(&apex, kind::NS, INFRASTRUCTURE_TTL_S, Rdata::name(host.clone()));
            let in_zone = self.contains(&host);
            for address in server.addresses.iter().filter(|_| in_zone) {
                self.add(&host, address_kind(*address), INFRASTRUCTURE_TTL_S, Rdata::address(*address));
            }
        }
        Ok(())
    }

    /// How nameservers are reached in private (RFC 9461 §3), unless the document says so itself.
    fn add_offers(&mut self, document: &Document) -> Result<(), ZoneError> {
        let Some(data) = document.cdn.dns_tls.as_ref().and_then(offers) else { return Ok(()) };
        for server in &document.cdn.nameservers {
            let (host, owner) = (name(&server.host)?, name(&format!("_dns.{}", server.host))?);
            let is_said = self.nodes.get(&owner).is_some_and(|node| node.rrset(kind::SVCB).is_some());
            if self.contains(&host) && !is_said {
                // RFC 9461 §3: the target is the nameserver, whose addresses are known.
                let data = [&[0, 1], host.as_wire(), &data].concat();
                self.add(&owner, kind::SVCB, INFRASTRUCTURE_TTL_S, Rdata::bytes(data));
            }
        }
        Ok(())
    }

    /// The set of keys, and what the parent is to publish of it (RFC 7344 §3).
    fn add_keys(&mut self, keys: Option<ActiveKeys>) {
        let apex = self.apex.clone();
        for key in keys.iter().flat_map(|keys| &keys.published) {
            self.add(&apex, kind::DNSKEY, INFRASTRUCTURE_TTL_S, Rdata::bytes(key.dnskey.clone()));
        }
        for key in keys.iter().flat_map(|keys| &keys.key_signers) {
            self.add(&apex, kind::CDS, INFRASTRUCTURE_TTL_S, Rdata::bytes(key.ds(&apex)));
            self.add(&apex, kind::CDNSKEY, INFRASTRUCTURE_TTL_S, Rdata::bytes(key.dnskey.clone()));
        }
        self.keys = keys;
    }

    fn add_sites(&mut self, document: &Document, steering: &Steering) -> Result<(), ZoneError> {
        for site in &document.sites {
            let index = steering.site(site.id.as_str());
            let steered = name(&document.site_name(site))?;
            let all_down = match &site.all_down {
                AllDown::Cname(target) => {
                    let records = vec![Rdata::name(name(target)?)];
                    Some(Box::new(Rrset { kind: kind::CNAME, ttl_s: self.steered_ttl_s, records }))
                }
                AllDown::Nearest | AllDown::LastKnown | AllDown::NoData => None,
            };
            let apex = (document.cdn.apex_site.as_ref() == Some(&site.id)).then(|| self.apex.clone());
            for owner in [steered].into_iter().chain(apex) {
                let node = self.nodes.entry(owner.clone()).or_default();
                node.site = index;
                node.is_secure = site.tls.is_some();
                node.all_down.clone_from(&all_down);
                if node.rrset(kind::A).is_some() || node.rrset(kind::AAAA).is_some() {
                    return Err(ZoneError::Steered { name: owner.to_string(), kind: "A or AAAA".into() });
                }
            }
        }
        Ok(())
    }

    fn add_static(&mut self, record: &StaticRecord) -> Result<(), ZoneError> {
        let zone = self.apex.to_string();
        for value in &record.values {
            let data = RecordData::parse(&record.kind, value, &zone).map_err(|source| ZoneError::Record {
                name: record.name.clone(),
                kind: record.kind.clone(),
                value: value.clone(),
                source,
            })?;
            self.add_data(&record.name, seconds(record.ttl), &data)?;
        }
        Ok(())
    }

    fn add_of_file(&mut self, record: &ZoneRecord) -> Result<(), ZoneError> {
        self.add_data(&record.name, record.ttl_s, &record.data)
    }

    fn add_data(&mut self, told_owner: &str, ttl_s: u32, data: &RecordData) -> Result<(), ZoneError> {
        let owner = name(told_owner)?;
        if !self.contains(&owner) {
            return Err(ZoneError::OutOfZone { name: told_owner.to_owned(), zone: self.apex.to_string() });
        }
        let (kind, rdata) = Rdata::of(data).map_err(|source| ZoneError::Name { name: data.to_string(), source })?;
        let is_steered = self.nodes.get(&owner).is_some_and(|node| node.site.is_some());
        if is_steered && matches!(kind, kind::A | kind::AAAA | kind::CNAME) {
            return Err(ZoneError::Steered { name: told_owner.to_owned(), kind: data.kind().into_owned() });
        }
        self.add(&owner, kind, ttl_s, rdata);
        Ok(())
    }

    /// Adds a record; the first one's TTL is the set's (RFC 2181 §5.2 wants one), and what is there is not added twice.
    fn add(&mut self, owner: &Name, kind: u16, ttl_s: u32, rdata: Rdata) {
        let node = self.nodes.entry(owner.clone()).or_default();
        match node.rrsets.iter_mut().find(|rrset| rrset.kind == kind) {
            Some(rrset) if rrset.records.contains(&rdata) => {}
            Some(rrset) => rrset.records.push(rdata),
            None => node.rrsets.push(Rrset { kind, ttl_s, records: vec![rdata] }),
        }
    }

    fn check(&self) -> Result<(), ZoneError> {
        for (owner, node) in &self.nodes {
            let is_lonely = node.rrsets.len() == 1 && node.site.is_none();
            let is_shared = node.all_down.is_some() && !node.rrsets.is_empty();
            if is_shared || node.rrset(kind::CNAME).is_some_and(|cname| !is_lonely || cname.records.len() > 1) {
                return Err(ZoneError::CnameAndOthers { name: owner.clone() });
            }
        }
        self.check_redirections()
    }

    /// RFC 6672 §2.4: a name has one DNAME, and nothing below it.
    fn check_redirections(&self) -> Result<(), ZoneError> {
        let dname = |node: &Node| node.rrset(kind::DNAME).map(|dname| dname.records.len());
        if !self.nodes.values().any(|node| dname(node).is_some()) {
            return Ok(());
        }
        for (owner, node) in &self.nodes {
            if dname(node).is_some_and(|count| count > 1) {
                return Err(ZoneError::Dname { name: owner.clone() });
            }
            let Some(name) = QueryName::of(owner) else { continue };
            for skipped in 1..=name.count().saturating_sub(self.apex_labels) {
                let above = self.nodes.get_key_value(name.suffix(skipped));
                if let Some((above, _)) = above.filter(|(_, node)| dname(node).is_some()) {
                    return Err(ZoneError::Dname { name: above.clone() });
                }
            }
        }
        Ok(())
    }

    fn add_empty_non_terminals(&mut self) {
        let owners: Vec<QueryName> = self.nodes.keys().filter_map(QueryName::of).collect();
        for owner in owners {
            for skipped in 1..owner.count().saturating_sub(self.apex_labels) {
                if let Ok(above) = Name::from_labels(crate::name::labels(owner.suffix(skipped))) {
                    self.nodes.entry(above).or_default();
                }
            }
        }
    }

    /// Notes at each name what a look-up would have to search for above and below it.
    fn mark(&mut self) {
        let owners: Vec<QueryName> = self.nodes.keys().filter_map(QueryName::of).collect();
        for owner in owners {
            let above = owner.count().saturating_sub(self.apex_labels);
            let is_cut =
                |skipped| self.nodes.get(owner.suffix(skipped)).is_some_and(|node| node.rrset(kind::NS).is_some());
            let is_below_cut = (1..above).any(is_cut);
            let has_wildcard = self.wildcard(owner.suffix(0)).is_some();
            if let Some(node) = self.nodes.get_mut(owner.suffix(0)) {
                (node.is_below_cut, node.has_wildcard) = (is_below_cut, has_wildcard);
                node.is_redirected = node.rrset(kind::DNAME).is_some();
            }
        }
    }

    pub(crate) fn apex(&self) -> &Name {
        &self.apex
    }

    /// All names of the zone, the apex included, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.nodes.keys()
    }

    fn contains(&self, name: &Name) -> bool {
        QueryName::of(name).is_some_and(|name| self.labels_above_apex(&name).is_some())
    }

    /// How many labels a name of the zone has more than the apex.
    fn labels_above_apex(&self, name: &QueryName) -> Option<usize> {
        let above = name.count().checked_sub(self.apex_labels)?;
        (name.suffix(above) == self.apex.as_wire()).then_some(above)
    }

    /// Looks a name up (RFC 1034 §4.3.2).
    pub(crate) fn find(&self, name: &QueryName, asked: u16) -> Found<'_> {
        let Some(above) = self.labels_above_apex(name) else { return Found::Outside };
        // RFC 4035 §3.1.4.1: the DS of a delegation belongs to this side of it.
        let is_cut = |node: &Node, skipped: usize| {
            skipped < above && !(skipped == 0 && asked == kind::DS) && node.rrset(kind::NS).is_some()
        };
        let whole = self.nodes.get(name.suffix(0));
        if let Some(node) = whole.filter(|node| !node.is_below_cut) {
            return if is_cut(node, 0) { Found::Cut { node, skipped: 0 } } else { Found::Node { node } };
        }
        // From the apex down, so that delegations and the closest encloser are met on the way, and a name of a hundred labels
        // costs no more than the zone is deep.
        let mut encloser = None;
        for skipped in (1..=above).rev() {
            let Some(node) = self.nodes.get(name.suffix(skipped)) else { break };
            if is_cut(node, skipped) {
                return Found::Cut { node, skipped };
            }
            encloser = Some((node, skipped));
        }
        if let Some((node, skipped)) = encloser.filter(|(node, _)| node.is_redirected) {
            return Found::Redirected { node, skipped };
        }
        let wildcard = encloser.filter(|(node, _)| node.has_wildcard);
        match wildcard.and_then(|(_, skipped)| self.wildcard(name.suffix(skipped))) {
            Some(node) => Found::Node { node },
            None => Found::Nothing,
        }
    }

    /// What stands for the names missing right below `encloser` (RFC 4592 §3.3.1).
    fn wildcard(&self, encloser: &[u8]) -> Option<&Node> {
        let mut owner = [0; crate::name::NAME_BYTES_MAX];
        let len = encloser.len() + 2;
        if let Some((label, rest)) = owner.get_mut(..len).and_then(|owner| owner.split_at_mut_checked(2)) {
            label.copy_from_slice(b"\x01*");
            rest.copy_from_slice(encloser);
        }
        // Where it does not fit it is not found.
        owner.get(..len).and_then(|owner| self.nodes.get(owner))
    }

    /// A name's own records, without wildcards and delegations: glue.
    pub(crate) fn glue(&self, host: &Name) -> Option<&Node> {
        self.nodes.get(host)
    }
}

/// The parameters `alpn` (RFC 9460 §7.1.1), whose members have standard ports, and `dohpath` (RFC 9461 §5); None where
/// nothing is offered.
fn offers(tls: &DnsTls) -> Option<Vec<u8>> {
    const ALPN: u16 = 1;
    const DOH_PATH: u16 = 7;
    const TEMPLATE: &[u8] = b"/dns-query{?dns}";
    let alpn = |offer: &DnsOffer| match offer {
        DnsOffer::Dot => &b"\x03dot"[..],
        DnsOffer::Doq => b"\x03doq",
        DnsOffer::Doh => b"\x02h2",
    };
    let protocols: Vec<u8> = tls.offers.iter().flat_map(alpn).copied().collect();
    let parameter = |key: u16, value: &[u8]| {
        // Some bytes at most.
        let length = u16::try_from(value.len()).unwrap_or(0);
        [&key.to_be_bytes(), &length.to_be_bytes(), value].concat()
    };
    let path = tls.offers.contains(&DnsOffer::Doh).then(|| parameter(DOH_PATH, TEMPLATE));
    (!protocols.is_empty()).then(|| [parameter(ALPN, &protocols), path.unwrap_or_default()].concat())
}

fn address_kind(address: IpAddr) -> u16 {
    if address.is_ipv4() { kind::A } else { kind::AAAA }
}

fn name(text: &str) -> Result<Name, ZoneError> {
    Name::parse(text).map_err(|source| ZoneError::Name { name: text.to_owned(), source })
}

/// A mail address as a name (RFC 1035 §8): the local part is one label, dots included.
fn contact(address: &str) -> Result<Name, ZoneError> {
    let invalid = |source| ZoneError::Name { name: address.to_owned(), source };
    let (local, domain) = address.rsplit_once('@').ok_or(invalid(InvalidName))?;
    Name::from_labels([local.as_bytes()].into_iter().chain(domain.trim_end_matches('.').split('.').map(str::as_bytes)))
        .map_err(invalid)
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(TTL_MAX_S).min(TTL_MAX_S)
}
