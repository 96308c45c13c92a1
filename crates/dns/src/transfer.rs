//! The whole zone for secondaries: AXFR (RFC 5936) and IXFR (RFC 1995) as a sequence of messages, and the NOTIFY that says
//! that there is a new version (RFC 1996).
//!
//! A secondary does not steer: it gets for a steered name what a client at the default location is answered while all edges
//! are up. IXFR is answered with the differences since the secondary's version where they are kept (`history`), with the
//! whole zone where they are not, and with the SOA alone where the secondary has this version already (RFC 1995 §4).

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use perigee_geo::{
    health::HealthView,
    steer::{ClientPrefix, Family, Steering},
};

use crate::{
    answer::UDP_BYTES_MAX,
    arrival::{Arrival, Transport},
    code::{CLASS_IN, kind},
    history::Difference,
    name::{Name, QueryName},
    query::{self, Query},
    rdata::{Rdata, service_data},
    snapshot::Snapshot,
    tsig::{Session, Shown, TsigKey},
    writer::{Full, Header, Owner, Section, TCP_BYTES_MAX, Writer},
    zone::{Node, Rrset, Zone},
};

/// What a message of a transfer may measure: names compress no further than so far into a message (RFC 1035 §4.1.4).
const MESSAGE_BYTES: usize = 16 * 1024;
/// OPT without options.
const OPT_BYTES: usize = 11;
const FLAGS: u16 = 0x8400;
const FLAGS_OF_NOTIFY: u16 = 0x2400;

/// Who may have the zone, and the keys that messages may be signed with. Default: nobody, none.
#[derive(Debug, Default)]
pub struct Secondaries {
    /// Every key of the document: a message that one of them signed gets a signed answer.
    pub keys: Vec<TsigKey>,
    /// Whose transfers are answered, when signed with `key`.
    pub allow: Vec<IpNet>,
    /// Which of `keys` it is, by its place; None: nobody has the zone.
    pub key: Option<usize>,
}

impl Secondaries {
    /// Whether a client there, who signed with this key, may have the zone.
    pub(crate) fn allows(&self, peer: IpAddr, key: &TsigKey) -> bool {
        let peer = peer.to_canonical();
        let wanted = self.key.and_then(|key| self.keys.get(key));
        wanted.is_some_and(|wanted| wanted.name() == key.name())
            && self.allow.iter().any(|network| network.contains(&peer))
    }
}

/// One transfer: the zone as it was at the beginning, message by message. It holds one name's records at a time, or those of
/// one difference.
#[derive(Debug)]
pub struct Transfer {
    zone: Arc<Zone>,
    steering: Arc<Steering>,
    id: [u8; 2],
    /// Of the first message; later ones need none (RFC 5936 §2.2.1).
    question: Option<Vec<u8>>,
    has_edns: bool,
    session: Session,
    source: Source,
    /// The version that differences begin with.
    since: Option<u32>,
    /// To be written next.
    pending: VecDeque<(Name, Rrset)>,
    /// Whether the SOA that ends it is among them or was written.
    is_ending: bool,
}

/// What is still to come: from `next` on.
#[derive(Debug)]
enum Source {
    Whole { names: Arc<[Name]>, next: usize },
    Differences { all: Arc<[Arc<Difference>]>, next: usize },
}

/// What a message asks for, where it is AXFR or IXFR over a stream by somebody who may have the zone; None where
/// [`crate::answer`] has the answer.
pub fn begin<S: AsRef<[u8]>>(snapshot: &Snapshot<S>, arrival: Arrival, message: &[u8]) -> Option<Transfer> {
    if !matches!(arrival.transport, Transport::Tcp | Transport::Tls) {
        return None;
    }
    let mut name = QueryName::new();
    let query = query::read(message, &mut name).ok()?;
    let shown = Shown::read(message, query.tsig_at?)?;
    let key = shown.verify(&snapshot.secondaries.keys, arrival.now_ms / 1_000)?.ok()?;
    let question = query.question.as_ref()?;
    let zone = &snapshot.zone;
    let is_ours = question.class == CLASS_IN && name.suffix(0) == zone.apex().as_wire();
    // Signatures are made as they are asked for: a copy would have none.
    if !is_ours || zone.keys.is_some() || !snapshot.secondaries.allows(arrival.peer, key) {
        return None;
    }
    let serial = match question.kind {
        kind::AXFR => None,
        kind::IXFR => Some(query::ixfr_serial(message)?),
        _ => return None,
    };
    // RFC 1995 §2: one whose version is as new, or newer, gets the SOA alone.
    let is_current = serial.is_some_and(|serial| !is_after(zone.serial, serial));
    let differences = serial.and_then(|serial| snapshot.history.since(serial));
    let whole = Source::Whole { names: Arc::clone(&snapshot.names), next: 0 };
    let source = match differences {
        Some((all, next)) if !is_current => Source::Differences { all, next },
        _ => whole,
    };
    let mut transfer = Transfer::new(snapshot, &query, Session::answering(key, &shown), source)?;
    transfer.is_ending = is_current;
    transfer.since = serial;
    Some(transfer)
}

/// Answers IXFR by a datagram with the differences, where all of them fit (RFC 1995 §2); false, and nothing in `out`, where
/// they do not, or are not known. `limit`: what the client takes.
pub(crate) fn datagram<S: AsRef<[u8]>>(
    snapshot: &Snapshot<S>,
    (message, query, limit): (&[u8], &Query<'_>, usize),
    session: Session,
    now_ms: u64,
    out: &mut Vec<u8>,
) -> bool {
    let serial = query::ixfr_serial(message).filter(|serial| is_after(snapshot.zone.serial, *serial));
    serial
        .and_then(|serial| snapshot.history.since(serial))
        .map(|(all, next)| Source::Differences { all, next })
        .and_then(|source| Transfer::new(snapshot, query, session, source))
        .is_some_and(|transfer| transfer.fits(limit, now_ms, out))
}

/// RFC 1982 §3.2
pub(crate) fn is_after(serial: u32, other: u32) -> bool {
    (serial.wrapping_sub(other) as i32) > 0
}

impl Transfer {
    fn new<S: AsRef<[u8]>>(
        snapshot: &Snapshot<S>,
        query: &Query<'_>,
        session: Session,
        source: Source,
    ) -> Option<Self> {
        let mut transfer = Self {
            zone: Arc::clone(&snapshot.zone),
            steering: Arc::clone(&snapshot.steering),
            id: query.id,
            question: Some(query.question.as_ref()?.raw.to_vec()),
            has_edns: query.edns.is_some(),
            session,
            source,
            since: None,
            pending: VecDeque::new(),
            is_ending: false,
        };
        // RFC 5936 §2.2, RFC 1995 §4: the SOA comes first and last.
        transfer.push_soa();
        Some(transfer)
    }

    /// All of it as one message of so many bytes; false, and nothing in `out`, where it is longer.
    fn fits(mut self, limit: usize, now_ms: u64, out: &mut Vec<u8>) -> bool {
        let question = self.question.take();
        let reserved = self.session.bytes_max() + if self.has_edns { OPT_BYTES } else { 0 };
        let mut writer = Writer::new(out, question.as_deref(), limit, reserved);
        self.write(&mut writer);
        if !self.pending.is_empty() {
            out.clear();
            return false;
        }
        let opt = self.has_edns.then_some((UDP_BYTES_MAX, 0));
        writer.finish(Header { id: self.id, flags: FLAGS }, opt, |_| {});
        self.session.sign(now_ms / 1_000, out);
        true
    }

    /// Makes the next message; false, and nothing in `out`, after the last.
    pub fn next(&mut self, now_ms: u64, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.refill();
        if self.pending.is_empty() {
            return false;
        }
        let question = self.question.take();
        let reserved = self.session.bytes_max() + if self.has_edns { OPT_BYTES } else { 0 };
        // One record may be longer than that.
        for limit in [MESSAGE_BYTES, TCP_BYTES_MAX] {
            let mut writer = Writer::new(out, question.as_deref(), limit, reserved);
            let written_n = self.write(&mut writer);
            if written_n == 0 && limit == MESSAGE_BYTES {
                continue;
            }
            if written_n == 0 {
                // No record is so long; were there one, the transfer would end here, unfinished.
                self.pending.clear();
                self.is_ending = true;
                out.clear();
                return false;
            }
            let opt = self.has_edns.then_some((UDP_BYTES_MAX, 0));
            writer.finish(Header { id: self.id, flags: FLAGS }, opt, |_| {});
            break;
        }
        self.session.sign(now_ms / 1_000, out);
        true
    }

    /// Of the zone that is transferred.
    pub fn serial(&self) -> u32 {
        self.zone.serial
    }

    /// The version that its differences begin with; None: it is the whole zone, or the SOA alone.
    pub fn since(&self) -> Option<u32> {
        self.since.filter(|_| matches!(self.source, Source::Differences { .. }))
    }

    /// Writes records while they fit; how many.
    fn write(&mut self, writer: &mut Writer<'_>) -> usize {
        let mut written_n = 0;
        loop {
            self.refill();
            let Some((owner, set)) = self.pending.front_mut() else { return written_n };
            let Some(rdata) = set.records.last() else {
                self.pending.pop_front();
                continue;
            };
            match writer.record(Section::Answer, Owner::from(&*owner), set.kind, set.ttl_s, rdata) {
                Ok(()) => {}
                Err(Full) => return written_n,
            }
            set.records.pop();
            written_n += 1;
        }
    }

    /// Fetches what comes next, where nothing is there to be written.
    fn refill(&mut self) {
        while self.pending.is_empty() && !self.is_ending {
            let is_more = match &mut self.source {
                Source::Whole { names, next } => names.get(*next).is_some_and(|owner| {
                    *next += 1;
                    let sets = sets(&self.zone, &self.steering, owner);
                    self.pending.extend(sets.into_iter().map(|set| (owner.clone(), set)));
                    true
                }),
                Source::Differences { all, next } => all.get(*next).is_some_and(|difference| {
                    *next += 1;
                    // RFC 1995 §4: the old SOA, what is gone, the new SOA, what is new.
                    let soa = |soa: &Rrset| (self.zone.apex().clone(), soa.clone());
                    self.pending.push_back(soa(&difference.old_soa));
                    self.pending.extend(difference.removed.iter().cloned());
                    self.pending.push_back(soa(&difference.new_soa));
                    self.pending.extend(difference.added.iter().cloned());
                    true
                }),
            };
            if !is_more {
                self.is_ending = true;
                return self.push_soa();
            }
        }
    }

    fn push_soa(&mut self) {
        let apex = self.zone.apex();
        if let Some(soa) = self.zone.glue(apex).and_then(|node| node.rrset(kind::SOA)) {
            self.pending.push_back((apex.clone(), soa.clone()));
        }
    }
}

/// What a copy has of a name, but for the zone's SOA.
pub(crate) fn sets(zone: &Zone, steering: &Steering, owner: &Name) -> Vec<Rrset> {
    let Some(node) = zone.glue(owner) else { return Vec::new() };
    let is_apex = owner == zone.apex();
    let sets = node.rrsets.iter().filter(|set| !(is_apex && set.kind == kind::SOA)).cloned();
    sets.chain(steered(zone, steering, node)).collect()
}

/// What a client gets whom neither overrides nor a database know, while all is up.
fn steered(zone: &Zone, steering: &Steering, node: &Node) -> Vec<Rrset> {
    let Some(site) = node.site else { return Vec::new() };
    let (nobody, health) = (ClientPrefix::new(Ipv4Addr::UNSPECIFIED.into(), 0), HealthView::default());
    let [v4, v6] = [Family::V4, Family::V6]
        .map(|family| steering.answer::<Vec<u8>>(None, &nobody, site, &health, family).addresses);
    let ttl_s = zone.steered_ttl_s;
    let set = |kind, records: Vec<Rdata>| (!records.is_empty()).then_some(Rrset { kind, ttl_s, records });
    let addresses = |of: &[IpAddr]| of.iter().map(|address| Rdata::address(*address)).collect();
    let has_service = node.is_secure && node.rrset(kind::HTTPS).is_none() && !(v4.is_empty() && v6.is_empty());
    let service = has_service.then(|| Rdata::bytes(service_data([&v4, &v6])));
    [set(kind::A, addresses(&v4)), set(kind::AAAA, addresses(&v6)), set(kind::HTTPS, service.into_iter().collect())]
        .into_iter()
        .flatten()
        .collect()
}

/// The message that tells a secondary of the zone's version (RFC 1996 §3.7), signed with the key of transfers; None where
/// there are none.
pub fn notify<S: AsRef<[u8]>>(snapshot: &Snapshot<S>, id: u16, now_ms: u64) -> Option<Vec<u8>> {
    let (zone, secondaries) = (&snapshot.zone, &snapshot.secondaries);
    let key = secondaries.key.and_then(|key| secondaries.keys.get(key))?;
    let apex = zone.apex();
    let question = [apex.as_wire(), &kind::SOA.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat();
    let mut session = Session::asking(key);
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Some(&question), UDP_BYTES_MAX.into(), session.bytes_max());
    let soa = zone.glue(apex)?.rrset(kind::SOA)?;
    for rdata in &soa.records {
        writer.record(Section::Answer, Owner::from(apex), soa.kind, soa.ttl_s, rdata).ok()?;
    }
    writer.finish(Header { id: id.to_be_bytes(), flags: FLAGS_OF_NOTIFY }, None, |_| {});
    session.sign(now_ms / 1_000, &mut out);
    Some(out)
}
