//! The one door: a message in, a reply out.

mod resolve;

use std::net::IpAddr;

use perigee_geo::{
    health::HealthView,
    steer::{ClientPrefix, Family, SiteIndex, SteerReason},
};

use crate::{
    arrival::{Arrival, Transport},
    code::{Rcode, kind},
    cookie::CookieState,
    dnssec::{self, ActiveKeys, Signatures, Signed},
    explain::Explained,
    limit::{Admission, Limiter},
    name::{Name, QueryName},
    options::{self, Said},
    outcome::{Outcome, Reason, SteeredTo},
    query::{self, Edns, Query},
    rdata::{Rdata, octets, service_data, text},
    signed,
    snapshot::Snapshot,
    writer::{Full, Header, Owner, Section, TCP_BYTES_MAX, Writer},
    zone::{Node, Rrset},
};

/// The longest reply over UDP, whatever the client offers, and what we offer: it passes every path of IPv6's smallest
/// MTU unfragmented (RFC 9715 §3.1 recommends a maximum of 1400; 1232 = 1280 - 40 - 8).
pub const UDP_BYTES_MAX: u16 = 1_232;
/// What every client takes (RFC 1035 §2.3.4), and the least that an offer counts as (RFC 6891 §6.2.3).
const UDP_BYTES_MIN: u16 = 512;
/// OPT without options.
const OPT_BYTES: usize = 11;

/// Lines of an explanation: three and the first of the PoPs.
const WHY_LINES_MAX: usize = 32;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const EDNS_DNSSEC_OK: u32 = 0x8000;

/// What a core remembers from one answer to the next.
#[derive(Debug)]
pub struct Memory {
    limiter: Limiter,
    signatures: Signatures,
    /// Room for the name asked for.
    pub(crate) name: QueryName,
}

impl Memory {
    /// What networks got by UDP, and the signatures made.
    pub fn new(limiter: Limiter, signatures: Signatures) -> Self {
        Self { limiter, signatures, name: QueryName::new() }
    }
}

/// Answers one message. What `out` held is gone; afterwards it holds the reply, or nothing where none must be sent.
///
/// `memory`: the same for all messages of a socket.
pub fn answer<'s, S: AsRef<[u8]>>(
    snapshot: &'s Snapshot<S>,
    arrival: Arrival,
    message: &[u8],
    health: &HealthView,
    memory: &mut Memory,
    out: &mut Vec<u8>,
) -> Outcome<'s> {
    out.clear();
    let mut query = match query::read(message, &mut memory.name) {
        Ok(query) => query,
        Err(reason) => return dropped(reason),
    };
    match query.tsig_at {
        None => answer_query(snapshot, arrival, &mut query, health, memory, (0, out)),
        Some(at) => signed::answer(snapshot, arrival, (message, &mut query, at), health, memory, out),
    }
}

fn dropped<'s>(reason: Reason) -> Outcome<'s> {
    Outcome { rcode: None, reason, truncated: false, kind: None, steered: None }
}

/// Answers what was read, and leaves so many bytes of the reply to a signature.
pub(crate) fn answer_query<'s, S: AsRef<[u8]>>(
    snapshot: &'s Snapshot<S>,
    arrival: Arrival,
    query: &mut Query<'_>,
    health: &HealthView,
    memory: &mut Memory,
    (left_bytes, out): (usize, &mut Vec<u8>),
) -> Outcome<'s> {
    let Arrival { peer, transport, now_ms } = arrival;
    let Memory { limiter, signatures, name } = memory;
    let service = &*snapshot.service;
    let cookie =
        query.edns.and_then(|edns| edns.cookie).map(|shown| service.cookies.judge(&shown, peer, now_ms / 1_000));
    // RFC 9250 §4.2.1, §5.5.2: neither is to be seen over QUIC, and either ends the connection.
    if transport == Transport::Quic && (query.id != [0, 0] || query.edns.is_some_and(|edns| edns.keepalive)) {
        return dropped(Reason::QuicRules);
    }
    let is_proven = transport.is_connected() || matches!(cookie, Some((CookieState::Proven, _)));
    let mut slips = false;
    if !is_proven {
        match limiter.admit(&service.limit, peer, now_ms) {
            Admission::Answer => {}
            Admission::Slip => {
                // RFC 7873 §5.2.3: who sent a client's part learns the server's and comes again with both.
                let rcode = if cookie.is_some() { Rcode::BadCookie } else { Rcode::NoError };
                slips = cookie.is_none();
                query.fault = Some((rcode, Reason::RateLimit));
            }
            Admission::Drop => return dropped(Reason::RateLimit),
        }
    }
    let limit = limit(transport, query.edns).saturating_sub(left_bytes);
    let reserved = query.edns.map_or(0, |edns| OPT_BYTES + options::bytes_max(&edns, transport, service));
    let raw_question = query.question.as_ref().map(|question| question.raw);
    let mut reply = Reply {
        snapshot,
        health,
        peer,
        client: client(peer, query.edns),
        writer: Writer::new(out, raw_question, limit, reserved),
        verdict: (Rcode::FormErr, Reason::Malformed),
        authoritative: false,
        is_all_down: false,
        scope: 0,
        steered: None,
        transport,
        cookie: cookie.map(|(_, server)| server),
        limit,
        question: name,
        signer: match (&snapshot.zone.keys, query.edns) {
            (Some(keys), Some(edns)) if edns.dnssec_ok => {
                let now_s = now_ms / 1_000;
                Some(Signer { keys, signatures, now_s, compact_ok: edns.compact_ok })
            }
            _ => None,
        },
    };
    let full = match (query.fault, &query.question) {
        (Some(fault), _) => {
            reply.verdict = fault;
            Ok(())
        }
        (None, Some(question)) => reply.resolve(question),
        (None, None) => Ok(()),
    };
    if full.is_err() {
        // RFC 2181 §9: a record set that does not fit is left out, and TC says so.
        reply.writer.clear_records();
    }
    reply.finish(query, full.is_err() || slips)
}

pub(crate) fn limit(transport: Transport, edns: Option<Edns>) -> usize {
    match (transport, edns) {
        (Transport::Tcp | Transport::Tls | Transport::Https | Transport::Quic, _) => TCP_BYTES_MAX,
        (Transport::Udp, None) => UDP_BYTES_MIN.into(),
        (Transport::Udp, Some(edns)) => edns.payload_bytes.clamp(UDP_BYTES_MIN, UDP_BYTES_MAX).into(),
    }
}

fn client(peer: IpAddr, edns: Option<Edns>) -> ClientPrefix {
    match edns.and_then(|edns| edns.subnet).and_then(|subnet| subnet.network()) {
        Some((address, prefix)) => ClientPrefix::new(address, prefix),
        None => ClientPrefix::host(peer),
    }
}

struct Reply<'a, 's, 'o, S: AsRef<[u8]>> {
    snapshot: &'s Snapshot<S>,
    health: &'a HealthView,
    peer: IpAddr,
    client: ClientPrefix,
    writer: Writer<'o>,
    verdict: (Rcode, Reason),
    authoritative: bool,
    /// A CNAME was followed that stands for a site without a living PoP.
    is_all_down: bool,
    scope: u8,
    steered: Option<SteeredTo<'s>>,
    transport: Transport,
    /// The server's part of a cookie, to be sent.
    cookie: Option<[u8; 16]>,
    limit: usize,
    /// The name asked for.
    question: &'a QueryName,
    /// None: nobody wants signatures, or there are none.
    signer: Option<Signer<'a>>,
}

/// What signs the sets of an answer.
#[derive(Clone, Copy)]
struct Signer<'a> {
    keys: &'a ActiveKeys,
    signatures: &'a Signatures,
    now_s: u64,
    compact_ok: bool,
}

/// A name that is denied something.
#[derive(Clone, Copy)]
struct Denied<'a, 's> {
    name: &'a [u8],
    /// None: there is no such name.
    node: Option<&'s Node>,
    /// What was asked for.
    kind: u16,
}

impl<'a, 's: 'a, S: AsRef<[u8]>> Reply<'a, 's, '_, S> {
    /// Whether a name that is a CNAME when all of its site's PoPs are down is it now, for this client.
    fn is_all_down(&mut self, node: &Node) -> bool {
        let Some(site) = node.site else { return false };
        let (snapshot, client) = (self.snapshot, &self.client);
        let (is_down, scope) = snapshot.steering.is_all_down(snapshot.database.as_deref(), client, site, self.health);
        // What stands at the target may depend on more of the client's address.
        self.scope = self.scope.max(scope);
        if is_down {
            self.verdict = (Rcode::NoError, Reason::Steered(SteerReason::AllDownCname));
            self.is_all_down = true;
        }
        is_down
    }

    fn may_ask_why(&self) -> bool {
        let peer = self.peer.to_canonical();
        self.snapshot.service.why.iter().any(|network| network.contains(&peer))
    }

    /// An explanation as text, a line a record; nobody is to keep it.
    fn explain(&mut self, explained: &Explained<'_>) -> Result<(), Full> {
        self.verdict = (Rcode::NoError, Reason::Why);
        self.authoritative = true;
        self.scope = explained.steering.steered.scope_prefix;
        let data: Vec<_> = explained.lines().iter().take(WHY_LINES_MAX).map(|line| text(line)).collect();
        for rdata in &data {
            self.writer.bytes_record(Section::Answer, Owner::Question, kind::TXT, 0, rdata)?;
        }
        self.sign(Section::Answer, Owner::Question, kind::TXT, 0, data)
    }

    /// What a name has of the type asked.
    fn records(&mut self, node: &'s Node, owner: Owner<'_>, denied: Denied<'_, 's>) -> Result<(), Full> {
        let asked = denied.kind;
        match (asked, node.site) {
            (kind::A, Some(site)) => return self.steer(site, owner, Family::V4, denied),
            (kind::AAAA, Some(site)) => return self.steer(site, owner, Family::V6, denied),
            // What the document says itself counts for more.
            (kind::HTTPS, Some(site)) if node.is_secure && node.rrset(kind::HTTPS).is_none() => {
                return self.service(site, owner, denied);
            }
            (kind::ANY, _) if node.rrset(kind::CNAME).is_none() => {
                // RFC 8482 §4.2
                if node.rrsets.is_empty() && node.site.is_none() {
                    return self.negative(Rcode::NoError, Reason::NoData, denied);
                }
                self.verdict = (Rcode::NoError, Reason::Any);
                return self.rrset(Section::Answer, owner, &self.snapshot.zone.minimal_any);
            }
            // RFC 4035 §3.1: as any other set, where it is asked for by name.
            (kind::NSEC, _) if self.snapshot.zone.keys.is_some() => {
                self.verdict = (Rcode::NoError, Reason::Static);
                return self.nsec(Section::Answer, denied);
            }
            // RFC 8482 §4.1: of many signatures one, for the name has some whatever it has else.
            (kind::RRSIG, _) if self.signer.is_some() => {
                self.verdict = (Rcode::NoError, Reason::Any);
                let ttl_s = self.snapshot.zone.negative_soa.ttl_s;
                return self.sign(Section::Answer, owner, kind::NSEC, ttl_s, vec![nsec_data(denied)]);
            }
            _ => {}
        }
        let asked = if asked == kind::ANY { kind::CNAME } else { asked };
        let Some(found) = node.rrset(asked) else {
            return self.negative(Rcode::NoError, Reason::NoData, denied);
        };
        self.verdict = (Rcode::NoError, Reason::Static);
        self.rrset(Section::Answer, owner, found)?;
        if asked == kind::NS {
            for host in hosts(found) {
                // A courtesy: who misses it asks.
                if self.glue(host).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn steer(&mut self, site: SiteIndex, owner: Owner<'_>, family: Family, denied: Denied<'_, 's>) -> Result<(), Full> {
        let snapshot = self.snapshot;
        let steered = snapshot.steer(&self.client, site, self.health, family);
        self.scope = self.scope.max(steered.scope_prefix);
        self.steered =
            Some(SteeredTo { pop: steered.pop, country: steered.country, source: steered.source, scope: self.scope });
        let reason = Reason::Steered(steered.reason);
        if steered.addresses.is_empty() {
            return self.negative(Rcode::NoError, reason, denied);
        }
        self.verdict = (Rcode::NoError, reason);
        let ttl_s = snapshot.zone.steered_ttl_s;
        let mut written_n = 0;
        for (index, address) in steered.addresses.iter().enumerate() {
            let written = match address {
                IpAddr::V4(address) => {
                    self.writer.bytes_record(Section::Answer, owner, kind::A, ttl_s, &address.octets())
                }
                IpAddr::V6(address) => {
                    self.writer.bytes_record(Section::Answer, owner, kind::AAAA, ttl_s, &address.octets())
                }
            };
            match written {
                // How many there are is ours to choose: the nearest that fit are a whole answer.
                Err(Full) if index > 0 => break,
                written => written?,
            }
            written_n += 1;
        }
        if self.signer.is_some() {
            let kind = match family {
                Family::V4 => kind::A,
                Family::V6 => kind::AAAA,
            };
            let data = steered.addresses.iter().take(written_n).map(octets).collect();
            self.sign(Section::Answer, owner, kind, ttl_s, data)?;
        }
        Ok(())
    }

    /// How to reach a site over TLS (RFC 9460): at its own name, with the protocols that its edges speak and the addresses
    /// that A and AAAA would say.
    fn service(&mut self, site: SiteIndex, owner: Owner<'_>, denied: Denied<'_, 's>) -> Result<(), Full> {
        let snapshot = self.snapshot;
        let mut said = [Family::V4, Family::V6].map(|family| snapshot.steer(&self.client, site, self.health, family));
        self.scope = said.iter().map(|steered| steered.scope_prefix).fold(self.scope, u8::max);
        if let Some(first) = said.iter_mut().find(|steered| !steered.addresses.is_empty()) {
            self.steered =
                Some(SteeredTo { pop: first.pop, country: first.country, source: first.source, scope: self.scope });
            self.verdict = (Rcode::NoError, Reason::Steered(first.reason));
        } else {
            let [v4, _] = said;
            return self.negative(Rcode::NoError, Reason::Steered(v4.reason), denied);
        }
        let [v4, v6] = &said;
        let hints: [&[IpAddr]; 2] = [&v4.addresses, &v6.addresses];
        let rdata = service_data(hints);
        let ttl_s = snapshot.zone.steered_ttl_s;
        self.writer.bytes_record(Section::Answer, owner, kind::HTTPS, ttl_s, &rdata)?;
        self.sign(Section::Answer, owner, kind::HTTPS, ttl_s, vec![rdata])
    }

    /// NODATA or NXDOMAIN: RFC 2308 §3.
    fn negative(&mut self, rcode: Rcode, reason: Reason, denied: Denied<'_, 's>) -> Result<(), Full> {
        // RFC 9824 §5: the denial says that the name exists but for NXNAME, and the code agrees with it, for validators that
        // do not know better.
        let is_compact = self.signer.is_some_and(|signer| !signer.compact_ok);
        self.verdict = (if is_compact { Rcode::NoError } else { rcode }, reason);
        self.authoritative = true;
        let zone = &*self.snapshot.zone;
        self.rrset(Section::Authority, zone.apex().into(), &zone.negative_soa)?;
        self.deny(Section::Authority, denied)
    }

    /// NSEC of a name, which proves that it lacks what was asked (RFC 9824 §3).
    fn deny(&mut self, section: Section, denied: Denied<'_, 's>) -> Result<(), Full> {
        if self.signer.is_some() { self.nsec(section, denied) } else { Ok(()) }
    }

    fn nsec(&mut self, section: Section, denied: Denied<'_, 's>) -> Result<(), Full> {
        let rdata = nsec_data(denied);
        // RFC 9077 §3: no longer than the negative answer itself.
        let ttl_s = self.snapshot.zone.negative_soa.ttl_s;
        let owner = Owner::Wire(denied.name);
        self.writer.bytes_record(section, owner, kind::NSEC, ttl_s, &rdata)?;
        self.sign(section, owner, kind::NSEC, ttl_s, vec![rdata])
    }

    /// Adds the signatures of a set that was written.
    fn sign(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        ttl_s: u32,
        mut data: Vec<Vec<u8>>,
    ) -> Result<(), Full> {
        let Some(signer) = self.signer else { return Ok(()) };
        data.sort();
        let name = match owner {
            Owner::Question => self.question.suffix(0),
            Owner::Wire(wire) => wire,
        };
        let set = Signed { owner: name, kind, ttl_s, data: &data };
        let signatures = signer.signatures.of(signer.keys, self.snapshot.zone.apex(), set, signer.now_s);
        signatures.iter().try_for_each(|rdata| self.writer.bytes_record(section, owner, kind::RRSIG, ttl_s, rdata))
    }

    /// Below a delegation: RFC 1034 §4.3.2 step 3b.
    fn refer(&mut self, cut: &'s Node, owner: &[u8], after_alias: bool) -> Result<(), Full> {
        self.verdict = (Rcode::NoError, Reason::Referral);
        self.authoritative = after_alias;
        let Some(nameservers) = cut.rrset(kind::NS) else { return Ok(()) };
        // RFC 4035 §3.1.4: the delegation's NS are the child's to sign; that it is signed, or is not, is ours.
        self.unsigned(Section::Authority, Owner::Wire(owner), nameservers)?;
        match cut.rrset(kind::DS) {
            Some(ds) if self.signer.is_some() => self.rrset(Section::Authority, Owner::Wire(owner), ds)?,
            _ => {
                let denied = Denied { name: owner, node: Some(cut), kind: kind::DS };
                self.deny(Section::Authority, denied)?;
            }
        }
        for host in hosts(nameservers) {
            let glued = self.glue(host);
            // RFC 9471 §3: without the addresses of nameservers below the cut the referral leads nowhere.
            if host.is_at_or_below(owner) {
                glued?;
            }
        }
        Ok(())
    }

    fn glue(&mut self, host: &'s Name) -> Result<(), Full> {
        let Some(node) = self.snapshot.zone.glue(host) else { return Ok(()) };
        for kind in [kind::A, kind::AAAA] {
            if let Some(rrset) = node.rrset(kind) {
                self.unsigned(Section::Additional, host.into(), rrset)?;
            }
        }
        Ok(())
    }

    /// A set with its signatures, where they are wanted.
    fn rrset(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset) -> Result<(), Full> {
        self.unsigned(section, owner, rrset)?;
        if self.signer.is_none() {
            return Ok(());
        }
        let data = rrset.records.iter().map(Rdata::canonical).collect();
        self.sign(section, owner, rrset.kind, rrset.ttl_s, data)
    }

    fn unsigned(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset) -> Result<(), Full> {
        rrset.records.iter().try_for_each(|rdata| self.writer.record(section, owner, rrset.kind, rrset.ttl_s, rdata))
    }

    fn finish(self, query: &Query<'_>, truncated: bool) -> Outcome<'s> {
        let (rcode, reason) = self.verdict;
        // Whatever stands at the end of the CNAME, that there is one counts.
        let reason = if self.is_all_down { Reason::Steered(SteerReason::AllDownCname) } else { reason };
        let [low, high] = [rcode.number() & 15, rcode.number() >> 4];
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        // AD and CD are clear: RFC 4035 §3.1.6.
        let flags = FLAG_RESPONSE
            | u16::from(query.opcode) << 11
            | flag(self.authoritative, FLAG_AUTHORITATIVE)
            | flag(truncated, FLAG_TRUNCATED)
            | flag(query.recursion_desired, FLAG_RECURSION_DESIRED)
            | low;
        let opt = query.edns.map(|edns| {
            let dnssec_ok = if edns.dnssec_ok { EDNS_DNSSEC_OK } else { 0 };
            (UDP_BYTES_MAX, u32::from(high) << 24 | dnssec_ok)
        });
        let said = Said { scope: self.scope, cookie: self.cookie, extended_error: reason.extended_error() };
        let (transport, service, limit) = (self.transport, &*self.snapshot.service, self.limit);
        self.writer.finish(Header { id: query.id, flags }, opt, |out| {
            if let Some(edns) = &query.edns {
                options::write(edns, transport, service, said, limit, out);
            }
        });
        let kind = query.question.as_ref().map(|question| question.kind);
        Outcome { rcode: Some(rcode), reason, truncated, kind, steered: self.steered }
    }
}

/// What a name has, but for what was asked of it in vain.
fn nsec_data(denied: Denied<'_, '_>) -> Vec<u8> {
    let mut kinds: Vec<u16> = Vec::new();
    match denied.node {
        None => kinds.push(kind::NXNAME),
        Some(node) => {
            kinds.extend(node.rrsets.iter().map(|rrset| rrset.kind));
            if node.site.is_some() {
                kinds.extend([kind::A, kind::AAAA]);
                kinds.extend(node.is_secure.then_some(kind::HTTPS));
            }
            kinds.retain(|kind| *kind != denied.kind);
        }
    }
    dnssec::nsec(denied.name, kinds)
}

/// The hosts that an NS record set names.
fn hosts(rrset: &Rrset) -> impl Iterator<Item = &Name> {
    rrset.records.iter().flat_map(|record| record.names.iter())
}
