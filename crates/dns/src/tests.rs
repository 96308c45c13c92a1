//! What is answered, through the one door: tables by rule, and properties over arbitrary bytes.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Message, MessageType},
    rr::{
        Record,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use perigee_geo::{build, database::GeoDatabase, health::HealthView};
use perigee_protocol::{document, model::Document};

use crate::{
    Arrival, CookieSecret, LimitPolicy, Limiter, Memory, Outcome, Service, Snapshot, Transport, answer as answer_with,
    dnssec::{ActiveKeys, Signatures},
};

mod all_down;
mod conformance;
mod edns;
mod explain;
mod properties;
mod rules;
mod secondaries;
mod signed;
mod steering;
mod transports;

const DOCUMENT: &str = r#"
version = 1
[cdn]
name = "test"
zone = "cdn.example"
nameservers = [
  { host = "ns1.cdn.example", addresses = ["198.18.0.53", "2001:db8::53"] },
  { host = "ns2.other.example", addresses = ["198.18.0.54"] },
]
contact = "host.master@cdn.example"
ttl = "30s"
negative_ttl = "60s"
apex_site = "www"
[geo.steering]
answers = 2
fence = { "CN" = ["syd"], "KP" = ["gru"] }
[[geo.override]]
prefixes = ["203.0.113.0/24"]
pop = "syd"
[[pop]]
id = "fra"
city = "Frankfurt"
country = "DE"
latitude = 50.11
longitude = 8.68
addresses = ["198.18.49.10", "2001:db8:49::10"]
fallback = ["syd"]
[[pop]]
id = "syd"
city = "Sydney"
country = "AU"
latitude = -33.87
longitude = 151.21
addresses = ["198.18.61.10"]
[[pop]]
id = "gru"
city = "Sao Paulo"
country = "BR"
latitude = -23.5
longitude = -46.6
addresses = ["198.18.55.10"]
[[site]]
id = "www"
origins = [{ url = "http://198.18.0.90:8000" }]
pops = ["fra", "syd"]
[[site]]
id = "img"
origins = [{ url = "http://198.18.0.90:8000" }]
pops = ["fra", "syd", "gru"]
[[zone.record]]
name = "@"
type = "TXT"
ttl = "5m"
values = ["v=spf1 -all"]
[[zone.record]]
name = "mail"
type = "MX"
ttl = "1h"
values = ["10 mx.cdn.example.", "20 mx.other.example."]
[[zone.record]]
name = "a.deep.name"
type = "A"
ttl = "1h"
values = ["192.0.2.1"]
[[zone.record]]
name = "*.wild"
type = "TXT"
ttl = "1h"
values = ["from the wildcard"]
[[zone.record]]
name = "there.wild"
type = "A"
ttl = "1h"
values = ["192.0.2.2"]
[[zone.record]]
name = "assets"
type = "CNAME"
ttl = "1h"
values = ["alias"]
[[zone.record]]
name = "alias"
type = "CNAME"
ttl = "1h"
values = ["www"]
[[zone.record]]
name = "leaves"
type = "CNAME"
ttl = "1h"
values = ["elsewhere.example."]
[[zone.record]]
name = "dangles"
type = "CNAME"
ttl = "1h"
values = ["nobody"]
[[zone.record]]
name = "circle"
type = "CNAME"
ttl = "1h"
values = ["circle2"]
[[zone.record]]
name = "circle2"
type = "CNAME"
ttl = "1h"
values = ["circle"]
[[zone.record]]
name = "sub"
type = "NS"
ttl = "1h"
values = ["ns.sub.cdn.example.", "ns.elsewhere.example."]
[[zone.record]]
name = "ns.sub"
type = "A"
ttl = "1h"
values = ["192.0.2.53"]
[[zone.record]]
name = "into-sub"
type = "CNAME"
ttl = "1h"
values = ["x.sub.cdn.example."]
[[zone.record]]
name = "_sip._tcp"
type = "SRV"
ttl = "1h"
values = ["0 5 5060 mail"]
[[zone.record]]
name = "long"
type = "TXT"
ttl = "1h"
values = ["_AAAA", "_BBBB", "_CCCC"]
"#;

const WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.49.0.0/16,DE,Berlin,52.52,13.40,
127.61.0.0/16,AU,Canberra,-35.28,149.13,
127.55.0.0/16,BR,Brasilia,-15.79,-47.88,
127.86.0.0/16,CN,Beijing,39.90,116.40,
127.85.0.0/16,KP,Pyongyang,39.03,125.75,
2001:db8:61::/48,AU,Canberra,-35.28,149.13,
";

const SERIAL: u32 = 2026;

/// Delegations of many hosts: below the cut, and beside it.
fn delegations() -> String {
    let mut text = String::new();
    let mut record = |name: &str, kind: &str, values: &str| {
        text += &format!("[[zone.record]]\nname = \"{name}\"\ntype = \"{kind}\"\nttl = \"1h\"\nvalues = [{values}]\n");
    };
    for (cut, hosts) in [("below", "below"), ("beside", "else")] {
        let names: Vec<String> = (0..13).map(|host| format!("\"n{host}.{hosts}.cdn.example.\"")).collect();
        record(cut, "NS", &names.join(", "));
        for host in 0..13 {
            record(&format!("n{host}.{hosts}"), "AAAA", &format!("\"2001:db8::{host}\""));
        }
    }
    text
}

fn service(responses_per_second: u32) -> Arc<Service> {
    let limit = LimitPolicy { responses_per_second, slip: 2, exempt: Vec::new() };
    let cookies = CookieSecret::new([7; 16]);
    Arc::new(Service {
        nsid: (*b"ns1").into(),
        cookies,
        keepalive_ds: 100,
        limit,
        why: vec!["127.49.0.0/16".parse().unwrap()],
    })
}

fn memory() -> Memory {
    Memory::new(Limiter::new([0; 16], 1), Signatures::new([0; 16]))
}

const NOW_MS: u64 = 1_800_000_000_000;

/// Without a limit.
fn answer<'s>(
    snapshot: &'s Snapshot<Vec<u8>>,
    peer: IpAddr,
    transport: Transport,
    message: &[u8],
    health: &HealthView,
    out: &mut Vec<u8>,
) -> Outcome<'s> {
    answer_with(snapshot, Arrival { peer, transport, now_ms: NOW_MS }, message, health, &mut memory(), out)
}

fn snapshot() -> Snapshot<Vec<u8>> {
    snapshot_of(&format!("{DOCUMENT}{}", delegations()), |_| {})
}

/// With so many answers a second for each network.
fn snapshot_with(responses_per_second: u32) -> Snapshot<Vec<u8>> {
    Snapshot { service: service(responses_per_second), ..snapshot() }
}

fn snapshot_signed(text: &str, keys: ActiveKeys) -> Snapshot<Vec<u8>> {
    snapshot_with_keys(text, |_| {}, Some(keys))
}

fn snapshot_of(text: &str, change: impl FnOnce(&mut Document)) -> Snapshot<Vec<u8>> {
    snapshot_with_keys(text, change, None)
}

fn snapshot_with_keys(text: &str, change: impl FnOnce(&mut Document), keys: Option<ActiveKeys>) -> Snapshot<Vec<u8>> {
    let long = "x".repeat(249);
    let text = ["_AAAA", "_BBBB", "_CCCC"]
        .iter()
        .fold(text.to_owned(), |text, word| text.replace(word, &format!("{word}{long}")));
    let mut document = document::load("test.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    change(&mut document);
    let database = GeoDatabase::from_source(build::build(WORLD.as_bytes()).unwrap()).unwrap();
    Snapshot::new(&document, SERIAL, Some(Arc::new(database)), service(0), keys).unwrap()
}

/// A query, by its bytes.
#[derive(Clone, Debug)]
struct Ask {
    name: &'static str,
    kind: u16,
    class: u16,
    flags: u16,
    questions: u16,
    /// Payload size, extended flags (version included), options.
    opts: Vec<(u16, u32, Vec<u8>)>,
    trailer: Vec<u8>,
}

const ID: u16 = 0x1234;

fn ask(name: &'static str, kind: u16) -> Ask {
    Ask { name, kind, class: 1, flags: 0, questions: 1, opts: Vec::new(), trailer: Vec::new() }
}

impl Ask {
    fn opt(mut self, payload: u16, flags: u32, options: &[u8]) -> Self {
        self.opts.push((payload, flags, options.to_vec()));
        self
    }

    /// With ECS: its data, and an unknown option before it.
    fn subnet(self, data: &[u8]) -> Self {
        let length = u8::try_from(data.len()).unwrap();
        self.opt(1232, 0, &[&[0xff, 0xf0, 0, 1, 7, 0, 8, 0, length], data].concat())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let additionals = u16::try_from(self.opts.len()).unwrap();
        for number in [ID, self.flags, self.questions, 0, 0, additionals] {
            bytes.extend(number.to_be_bytes());
        }
        for _ in 0..self.questions {
            for label in self.name.split('.').filter(|label| !label.is_empty()) {
                bytes.push(u8::try_from(label.len()).unwrap());
                bytes.extend(label.as_bytes());
            }
            bytes.push(0);
            bytes.extend(self.kind.to_be_bytes());
            bytes.extend(self.class.to_be_bytes());
        }
        for (payload, flags, options) in &self.opts {
            bytes.extend([0, 0, 41]);
            bytes.extend(payload.to_be_bytes());
            bytes.extend(flags.to_be_bytes());
            bytes.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
            bytes.extend(options);
        }
        bytes.extend(&self.trailer);
        bytes
    }
}

const GERMANY: &str = "127.49.0.1";

fn reply_to(message: &[u8], from: &str, transport: Transport, health: &HealthView) -> (Vec<u8>, String) {
    let snapshot = snapshot();
    let mut out = b"left over".to_vec();
    let outcome = answer(&snapshot, from.parse::<IpAddr>().unwrap(), transport, message, health, &mut out);
    let text = render(&out, &outcome);
    (out, text)
}

/// Asks from Germany over UDP while everything is up.
#[track_caller]
fn check(ask: Ask, expected: &str) {
    let (out, text) = reply_to(&ask.bytes(), GERMANY, Transport::Udp, &HealthView::default());
    assert_eq!(text, expected, "{ask:?}\n{out:?}");
}

/// `RCODE [flags] (reason) / answers / authorities / additionals / opt`, sections left out where they are empty.
fn render(out: &[u8], outcome: &Outcome<'_>) -> String {
    if outcome.rcode.is_none() {
        assert!(out.is_empty());
        return format!("dropped ({})", outcome.reason.as_str());
    }
    let message = Message::from_vec(out).unwrap_or_else(|error| panic!("{error}: {out:?}"));
    let meta = &message.metadata;
    assert_eq!((meta.id, meta.message_type), (ID, MessageType::Response));
    assert!(!meta.recursion_available && !meta.authentic_data && !meta.checking_disabled);
    assert_eq!(meta.truncation, outcome.truncated);
    let mut text = outcome.rcode.map(|rcode| rcode.to_string()).unwrap_or_default();
    assert_eq!(Some(u16::from(meta.response_code)), outcome.rcode.map(|rcode| rcode.number()));
    for (flag, is_set) in [("aa", meta.authoritative), ("tc", meta.truncation), ("rd", meta.recursion_desired)] {
        if is_set {
            text += &format!(" {flag}");
        }
    }
    text += &format!(" ({})", outcome.reason.as_str());
    for (section, records) in
        [("", &message.answers), ("authority ", &message.authorities), ("additional ", &message.additionals)]
    {
        for record in records {
            text += &format!("\n{section}{}", line(record));
        }
    }
    if let Some(edns) = &message.edns {
        text += &format!("\nopt v{} {}", edns.version(), edns.max_payload());
        if edns.flags().dnssec_ok {
            text += " do";
        }
        if let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) {
            text += &format!(" {}/{}/{}", subnet.addr(), subnet.source_prefix(), subnet.scope_prefix());
        }
        for (_, option) in edns.options().as_ref() {
            match option {
                EdnsOption::NSID(nsid) => text += &format!(" nsid={}", String::from_utf8_lossy(nsid.as_ref())),
                EdnsOption::Unknown(15, code) => text += &format!(" ede={}", u16::from_be_bytes([code[0], code[1]])),
                EdnsOption::Unknown(12, zeros) => text += &format!(" padding={}", zeros.len()),
                EdnsOption::Unknown(code, data) => text += &format!(" {code}={data:?}"),
                _ => {}
            }
        }
    }
    text
}

fn line(record: &Record) -> String {
    format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data)
}
