//! The nameserver's one door: whatever arrives, by any transport, at a signed zone or a plain one, from anywhere.

use std::{cell::RefCell, net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Message, MessageType},
    rr::{Record, RecordType},
    serialize::binary::DecodeError,
};
use perigee_dns::{
    Arrival, CookieSecret, LimitPolicy, Limiter, Memory, Outcome, Secondaries, Service, Snapshot, Transport, TsigKey,
    UDP_BYTES_MAX, answer,
    dnssec::{ActiveKeys, Algorithm, KeyRing, Life, Role, Signatures, ZoneKey},
};
use perigee_geo::{build, database::GeoDatabase, health::HealthView};
use perigee_protocol::{document, model::TsigAlgorithm};

/// A zone with something of everything.
pub(crate) const DOCUMENT: &str = include_str!("zone.toml");

const WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.49.0.0/16,DE,Berlin,52.52,13.40,
127.61.0.0/16,AU,Canberra,-35.28,149.13,
2001:db8:61::/48,AU,Canberra,-35.28,149.13,
";

const NOW_MS: u64 = 1_800_000_000_000;
/// RFC 1035 §2.3.4.
const UDP_BYTES_PLAIN: usize = 512;
const HEADER_BYTES: usize = 12;
const PEERS: [&str; 3] = ["127.49.0.1", "2001:db8:61::1", "198.51.100.7"];

/// What is asked: a snapshot with what a core remembers of it.
struct Server {
    snapshot: Snapshot<Vec<u8>>,
    memory: Memory,
    is_signed: bool,
}

struct Servers {
    plain: Server,
    signed: Server,
    /// Whose every client has used up what it may have.
    exhausted: Server,
}

thread_local! {
    static SERVERS: RefCell<Servers> = RefCell::new(Servers {
        plain: server(0, None),
        signed: server(0, Some(keys())),
        exhausted: server(1, None),
    });
}

fn keys() -> ActiveKeys {
    let always = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };
    let key = ZoneKey::new(Algorithm::Ed25519, &[9; 32], Role::Csk, always).unwrap_or_else(|error| panic!("{error}"));
    KeyRing::new(vec![key]).at(NOW_MS / 1_000).unwrap_or_else(|error| panic!("{error}"))
}

fn server(responses_per_second: u32, keys: Option<ActiveKeys>) -> Server {
    let document = document::load("zone.toml", DOCUMENT).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let world = build::build(WORLD.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let database = GeoDatabase::from_source(world).unwrap_or_else(|error| panic!("{error}"));
    let is_signed = keys.is_some();
    let service = service(responses_per_second);
    let snapshot = Snapshot::new(&document, 2_026, Some(Arc::new(database)), Arc::new(service), keys);
    Server {
        snapshot: snapshot.unwrap_or_else(|error| panic!("{error}")).for_secondaries(secondaries()),
        memory: Memory::new(Limiter::new([0; 16], 1), Signatures::new([0; 16])),
        is_signed,
    }
}

pub(crate) fn service(responses_per_second: u32) -> Service {
    Service {
        nsid: (*b"ns1").into(),
        cookies: CookieSecret::new([7; 16]),
        keepalive_ds: 100,
        limit: LimitPolicy { responses_per_second, slip: 1, exempt: Vec::new() },
        why: "127.49.0.0/16".parse().into_iter().collect(),
    }
}

/// Whoever has the key may have the zone. Nobody's guess is the key.
fn secondaries() -> Secondaries {
    let key = TsigKey::new("key.cdn.example", TsigAlgorithm::HmacSha256, &[5; 32]);
    let key = key.unwrap_or_else(|error| panic!("{error}"));
    Secondaries { keys: vec![key], allow: "0.0.0.0/0".parse().into_iter().collect(), key: Some(0) }
}

impl Server {
    fn ask(&mut self, arrival: Arrival, message: &[u8], out: &mut Vec<u8>) -> Outcome<'_> {
        answer(&self.snapshot, arrival, message, &HealthView::default(), &mut self.memory, out)
    }
}

/// Laws of every answer.
pub fn check(message: &[u8]) {
    SERVERS.with_borrow_mut(|servers| {
        for (index, peer) in PEERS.iter().enumerate() {
            let Ok(peer) = peer.parse::<IpAddr>() else { continue };
            // Not every pair: an input costs as much as it has answers.
            let transports = match index {
                0 => &[Transport::Udp, Transport::Tcp, Transport::Tls][..],
                1 => &[Transport::Udp, Transport::Https],
                _ => &[Transport::Quic],
            };
            for transport in transports {
                let arrival = Arrival { peer, transport: *transport, now_ms: NOW_MS };
                check_at(&mut servers.plain, arrival, message);
                check_at(&mut servers.signed, arrival, message);
            }
            check_exhausted(
                &mut servers.exhausted,
                Arrival { peer, transport: Transport::Udp, now_ms: NOW_MS },
                message,
            );
        }
    });
}

fn check_at(server: &mut Server, arrival: Arrival, message: &[u8]) {
    let is_quic = arrival.transport == Transport::Quic;
    let mut with_zero = message.to_vec();
    if is_quic {
        // RFC 9250 §4.2.1: another id ends the connection.
        with_zero.iter_mut().take(2).for_each(|octet| *octet = 0);
    }
    let message = &*with_zero;
    let (mut out, mut again) = (b"left over".to_vec(), Vec::new());
    let outcome = server.ask(arrival, message, &mut out);
    let (rcode, truncated) = (outcome.rcode, outcome.truncated);
    if is_quic && outcome.reason.as_str() == "quic-rules" {
        // RFC 9250 §5.5.2: so does keepalive.
        assert!(rcode.is_none() && out.is_empty());
        return;
    }
    let is_query = message.len() >= HEADER_BYTES && message.get(2).is_some_and(|flags| flags & 0x80 == 0);
    assert_eq!(rcode.is_some(), is_query, "answered is what is a query");
    let Some(rcode) = rcode else {
        assert!(out.is_empty());
        return;
    };
    server.ask(arrival, message, &mut again);
    assert_eq!(out, again, "the same question has the same answer");
    check_header(message, &out, rcode.number(), truncated);
    let is_udp = arrival.transport == Transport::Udp;
    assert!(perigee_dns::begin_transfer(&server.snapshot, arrival, message).is_none(), "nobody has the key");
    // What caches of HTTP are told of an answer (RFC 8484 §5.1) is there for all.
    let _freshness = perigee_dns::freshness_s(&out);
    let longest = if is_udp { usize::from(UDP_BYTES_MAX) } else { usize::from(u16::MAX) };
    assert!(out.len() <= longest, "{} bytes", out.len());
    assert!(is_udp || !truncated || out.len() > 60_000, "only datagrams are too small");
    // An answer is nothing to be answered.
    server.ask(arrival, &out, &mut again);
    assert!(again.is_empty());
    // hickory refuses opcodes that it does not know, and reads UPDATE otherwise.
    if message.get(2).is_some_and(|flags| flags & 0x78 == 0) {
        let reply = parse(&out).unwrap_or_else(|error| panic!("{error}: {out:?}"));
        check_message(server.is_signed, message, &reply, out.len(), is_udp);
    }
}

/// As another library reads it. That one knows no client subnet without a family, which is what `dig +subnet=0` asks and has
/// back: to it that is one of IPv4.
fn parse(out: &[u8]) -> Result<Message, DecodeError> {
    const NO_FAMILY: [u8; 8] = [0, 8, 0, 4, 0, 0, 0, 0];
    let mut out = out.to_vec();
    // Names may hold the same octets; options come last.
    let after = HEADER_BYTES + question(&out).map_or(0, <[u8]>::len);
    let found = out.windows(NO_FAMILY.len()).rposition(|bytes| bytes == NO_FAMILY).filter(|at| *at >= after);
    if let Some(at) = found {
        out.iter_mut().skip(at + 5).take(1).for_each(|byte| *byte = 1);
    }
    Message::from_vec(&out)
}

/// Id, QR, opcode, RD and the code as asked; RA, Z, AD and CD are clear.
fn check_header(message: &[u8], out: &[u8], rcode: u16, truncated: bool) {
    let (Some([id1, id2, asked, ..]), Some([out1, out2, high, low, q1, q2, ..])) =
        (message.first_chunk::<HEADER_BYTES>(), out.first_chunk::<HEADER_BYTES>())
    else {
        panic!("no whole header");
    };
    assert_eq!([id1, id2], [out1, out2], "the id");
    assert_eq!(high & !0x06, 0x80 | asked & 0x79, "QR, opcode, RD");
    assert_eq!(high & 0x02 != 0, truncated, "TC");
    assert_eq!(u16::from(*low), rcode & 15, "RA, Z, AD, CD, and the code");
    // RFC 9619: never more than one question; what is there is the query's, byte for byte.
    let questions = u16::from_be_bytes([*q1, *q2]);
    assert!(questions <= 1, "{questions} questions");
    if questions == 1 {
        let question = question(out).unwrap_or_else(|| panic!("a question that ends too soon"));
        assert_eq!(message.get(HEADER_BYTES..HEADER_BYTES + question.len()), Some(question), "the question");
    }
}

/// A reply's question.
fn question(out: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*out.get(at)?);
        assert!(length < 64, "a pointer in a question");
        at += 1 + length;
        if length == 0 {
            return out.get(HEADER_BYTES..at + 4);
        }
    }
}

fn check_message(is_signed: bool, message: &[u8], reply: &Message, length: usize, is_udp: bool) {
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    let asked = Message::from_vec(message).ok();
    let Some(edns) = &reply.edns else {
        // RFC 6891 §7: none for those who sent none; and hence no more than every client takes.
        assert!(!is_udp || length <= UDP_BYTES_PLAIN, "{length} bytes");
        return;
    };
    assert_eq!(edns.version(), 0);
    if let Some(asked) = &asked {
        let offered = asked.edns.as_ref().map_or(0, |edns| usize::from(edns.max_payload()));
        assert!(!is_udp || length <= offered.max(UDP_BYTES_PLAIN), "{length} bytes for {offered}");
    }
    let is_refused = reply.metadata.response_code != hickory_proto::op::ResponseCode::NoError;
    if !is_signed || is_refused || !edns.flags().dnssec_ok || reply.metadata.truncation {
        return;
    }
    // RFC 4035 §3.1: every set of an answer with its signature; the NS of a delegation are the child's to sign.
    check_signed(&reply.answers, false);
    check_signed(&reply.authorities, !reply.metadata.authoritative || is_referral(reply));
}

fn is_referral(reply: &Message) -> bool {
    !reply.authorities.iter().any(|record| record.record_type() == RecordType::SOA)
}

fn check_signed(records: &[Record], may_delegate: bool) {
    for record in records {
        let kind = record.record_type();
        if kind == RecordType::RRSIG || (may_delegate && kind == RecordType::NS) {
            continue;
        }
        let number = u16::from(kind).to_be_bytes();
        let signed = records.iter().any(|signature| {
            let data = hickory_proto::serialize::binary::BinEncodable::to_bytes(&signature.data).unwrap_or_default();
            signature.record_type() == RecordType::RRSIG && signature.name == record.name && data.starts_with(&number)
        });
        assert!(signed, "{} {kind} has no signature", record.name);
    }
}

/// Who has had enough gets nothing, or a hint to come by TCP, which is no way to flood somebody else.
fn check_exhausted(server: &mut Server, arrival: Arrival, message: &[u8]) {
    let mut out = Vec::new();
    const ANY_QUERY: [u8; 17] = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    server.ask(arrival, &ANY_QUERY, &mut out);
    let proven = server.ask(arrival, message, &mut out).reason.as_str() != "rate-limit";
    if !out.is_empty() && !proven {
        assert!(out.len() <= 3 * message.len(), "{} bytes for {}", out.len(), message.len());
    }
}

/// Queries of every kind: as a resolver makes them, and as those do who look for trouble.
pub fn seeds() -> Vec<Vec<u8>> {
    const NAMES: [&str; 18] = [
        "",
        "cdn.example",
        "www.cdn.example",
        "wWw.Cdn.ExamplE",
        "img.cdn.example",
        "_why.www.cdn.example",
        "assets.cdn.example",
        "circle.cdn.example",
        "leaves.cdn.example",
        "sub.cdn.example",
        "x.sub.cdn.example",
        "into-sub.cdn.example",
        "x.wild.cdn.example",
        "nobody.cdn.example",
        "long.cdn.example",
        "deep.name.cdn.example",
        "ns1.cdn.example",
        "other.example",
    ];
    const KINDS: [u16; 18] = [1, 28, 2, 5, 6, 15, 16, 33, 43, 46, 47, 48, 59, 65, 252, 255, 128, 41];
    const OPTIONS: [&[u8]; 9] = [
        b"",
        b"\x00\x08\x00\x07\x00\x01\x18\x00\x7f\x3d\x09",
        b"\x00\x08\x00\x0a\x00\x02\x30\x00\x20\x01\x0d\xb8\x00\x61",
        b"\x00\x08\x00\x04\x00\x01\x00\x00",
        b"\x00\x0a\x00\x08\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\x00\x0a\x00\x18\x01\x02\x03\x04\x05\x06\x07\x08\x01\x00\x00\x00\x6b\x49\xd2\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x03\x00\x00\x00\x0c\x00\x04\x00\x00\x00\x00",
        b"\x00\x0b\x00\x00\xff\xf0\x00\x01\x07",
        b"\x00\x0b\x00\x02\x00\x00",
    ];
    let mut seeds = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        seeds.extend(KINDS.iter().map(|kind| query(name, *kind, None)));
        let kind = KINDS.get(index).copied().unwrap_or(1);
        seeds.extend(OPTIONS.iter().map(|options| query(name, kind, Some((0x8000, options)))));
    }
    seeds.push(query("www.cdn.example", 1, Some((0x0001_8000, b""))));
    seeds.push(query("nobody.cdn.example", 1, Some((0xc000, b""))));
    seeds
}

fn query(name: &str, kind: u16, edns: Option<(u32, &[u8])>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if let Some((flags, options)) = edns {
        message.extend([0, 0, 41, 0x10, 0]);
        message.extend(flags.to_be_bytes());
        message.extend(u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
        message.extend(options);
    }
    message
}
