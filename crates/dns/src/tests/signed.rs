//! Signed answers: every set of them is checked by its signature, as a validator would.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, VerifyingKey};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::*;
use crate::Name;
use crate::dnssec::{Algorithm, KeyRing, Life, Role, ZoneKey};

const PRIVATE: [u8; 32] = [9; 32];
const NOW_S: u64 = NOW_MS / 1_000;

pub(super) fn signed() -> Snapshot<Vec<u8>> {
    let always = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };
    let key = ZoneKey::new(Algorithm::Ed25519, &PRIVATE, Role::Csk, always).unwrap();
    let mut text = format!("{DOCUMENT}{}", delegations());
    text += "[[zone.record]]\nname = \"sub\"\ntype = \"DS\"\nttl = \"1h\"\nvalues = [\"1 13 2 00ff\"]\n";
    snapshot_signed(&text, KeyRing::new(vec![key]).at(NOW_S).unwrap())
}

const DNSSEC_OK: u32 = 0x8000;
const COMPACT_OK: u32 = 0x4000;

fn said(ask: &Ask) -> (Message, String) {
    let (snapshot, mut out) = (signed(), Vec::new());
    let health = HealthView::default();
    let outcome = answer(&snapshot, GERMANY.parse().unwrap(), Transport::Tcp, &ask.bytes(), &health, &mut out);
    (Message::from_vec(&out).unwrap(), render(&out, &outcome))
}

/// A record's data with names uncompressed.
fn canonical(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    record.data.emit(&mut encoder).unwrap();
    bytes
}

/// The denial of a name, with the types that it has.
fn check_denial(message: &Message, name: &str, kinds: &[u16]) {
    let is_nsec = |record: &&Record| record.record_type().to_string() == "NSEC";
    let denials: Vec<&Record> = message.authorities.iter().filter(is_nsec).collect();
    assert_eq!(denials.len(), 1, "{name}");
    assert_eq!(denials[0].name.to_string(), format!("{name}."));
    let expected = crate::dnssec::nsec(Name::parse(name).unwrap().as_wire(), kinds.iter().copied());
    assert_eq!(canonical(denials[0]), expected, "{name} {kinds:?}");
}

/// The signatures of a section hold, and whatever is in `unsigned` has none. Returns how many sets there are.
pub(super) fn check_section(records: &[Record], unsigned: &[&str]) -> usize {
    let mut sets: BTreeMap<(String, String), Vec<&Record>> = BTreeMap::new();
    let (signatures, others): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record.record_type().to_string() == "RRSIG");
    for record in others {
        sets.entry((record.name.to_string(), record.record_type().to_string())).or_default().push(record);
    }
    let public = VerifyingKey::from(&ed25519_dalek::SigningKey::from_bytes(&PRIVATE));
    for ((name, kind), set) in &sets {
        let number = u16::from(set[0].record_type()).to_be_bytes();
        let of_set = signatures.iter().filter_map(|record| {
            let data = canonical(record);
            (record.name.to_string() == *name && data[..2] == number).then_some(data)
        });
        let of_set: Vec<Vec<u8>> = of_set.collect();
        assert_eq!(of_set.len(), usize::from(!unsigned.contains(&kind.as_str())), "{name} {kind}");
        for signature in of_set {
            let (head, signature) = signature.split_at(signature.len() - 64);
            let times: Vec<u64> =
                [8, 12].map(|at| u32::from_be_bytes(head[at..at + 4].try_into().unwrap()).into()).into();
            assert!(times[0] > NOW_S && times[1] < NOW_S, "{times:?}");
            let mut data = head.to_vec();
            let mut datas: Vec<Vec<u8>> = set.iter().map(|record| canonical(record)).collect();
            datas.sort();
            for rdata in datas {
                let owner = Name::parse(&name.to_ascii_lowercase()).unwrap();
                data.extend(owner.as_wire());
                data.extend(number);
                data.extend([0, 1]);
                data.extend(&head[4..8]);
                data.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
                data.extend(rdata);
            }
            let signature = Signature::from_slice(signature).unwrap();
            public.verify_strict(&data, &signature).unwrap_or_else(|error| panic!("{name} {kind}: {error}"));
        }
    }
    sets.len()
}

#[track_caller]
fn check_signed(name: &'static str, kind: u16, first_line: &str, answers: usize, authorities: usize) -> Message {
    let (message, text) = said(&ask(name, kind).opt(1232, DNSSEC_OK, &[]));
    assert_eq!(text.lines().next(), Some(first_line), "{text}");
    // RFC 4035 §3.1.4: a delegation's NS are not ours to sign.
    let unsigned: &[&str] = if first_line.contains("referral") { &["NS"] } else { &[] };
    let counts = (check_section(&message.answers, &[]), check_section(&message.authorities, unsigned));
    assert_eq!(counts, (answers, authorities), "{text}");
    message
}

#[test]
fn every_set_is_signed() {
    check_signed("www.cdn.example", 1, "NOERROR aa (nearest)", 1, 0);
    check_signed("wWw.CDN.example", 28, "NOERROR aa (nearest)", 1, 0);
    check_signed("cdn.example", 6, "NOERROR aa (static)", 1, 0);
    check_signed("cdn.example", 2, "NOERROR aa (static)", 1, 0);
    check_signed("cdn.example", 48, "NOERROR aa (static)", 1, 0);
    check_signed("cdn.example", 59, "NOERROR aa (static)", 1, 0);
    check_signed("mail.cdn.example", 15, "NOERROR aa (static)", 1, 0);
    check_signed("long.cdn.example", 16, "NOERROR aa (static)", 1, 0);
    check_signed("assets.cdn.example", 1, "NOERROR aa (nearest)", 3, 0);
    check_signed("x.wild.cdn.example", 16, "NOERROR aa (static)", 1, 0);
    check_signed("*.wild.cdn.example", 16, "NOERROR aa (static)", 1, 0);
    check_signed("cdn.example", 255, "NOERROR aa (any)", 1, 0);
}

#[test]
fn what_is_not_there_is_denied() {
    let message = check_signed("nobody.cdn.example", 1, "NOERROR aa (nx-domain)", 0, 2);
    check_denial(&message, "nobody.cdn.example", &[128]);
    let message = check_signed("www.cdn.example", 16, "NOERROR aa (no-data)", 0, 2);
    check_denial(&message, "www.cdn.example", &[1, 28]);
    let message = check_signed("there.wild.cdn.example", 16, "NOERROR aa (no-data)", 0, 2);
    check_denial(&message, "there.wild.cdn.example", &[1]);
    check_signed("deep.name.cdn.example", 1, "NOERROR aa (no-data)", 0, 2);
    check_signed("dangles.cdn.example", 1, "NOERROR aa (nx-domain)", 1, 2);
    check_signed("www.cdn.example", 47, "NOERROR aa (static)", 1, 0);
    // RFC 9824 §5.1: who understands takes NXDOMAIN, and so does who wants no proof.
    let (_, text) = said(&ask("nobody.cdn.example", 1).opt(1232, DNSSEC_OK | COMPACT_OK, &[]));
    assert!(text.starts_with("NXDOMAIN aa (nx-domain)"), "{text}");
    let (message, text) = said(&ask("nobody.cdn.example", 1).opt(1232, 0, &[]));
    assert!(text.starts_with("NXDOMAIN aa (nx-domain)"), "{text}");
    assert_eq!(message.authorities.len(), 1);
}

#[test]
fn delegations_are_signed_or_said_not_to_be() {
    let message = check_signed("x.sub.cdn.example", 1, "NOERROR (referral)", 0, 2);
    assert!(message.authorities.iter().any(|record| record.record_type().to_string() == "DS"), "{message:?}");
    let message = check_signed("x.below.cdn.example", 1, "NOERROR (referral)", 0, 2);
    check_denial(&message, "below.cdn.example", &[2]);
    check_signed("sub.cdn.example", 43, "NOERROR aa (static)", 1, 0);
    check_signed("below.cdn.example", 43, "NOERROR aa (no-data)", 0, 2);
}

#[test]
fn who_does_not_ask_gets_no_signatures() {
    let (message, _) = said(&ask("www.cdn.example", 1).opt(1232, 0, &[]));
    assert_eq!(message.answers.len(), 2);
    let (message, _) = said(&ask("x.sub.cdn.example", 1));
    assert_eq!(message.authorities.len(), 2, "NS alone");
}

/// A signature is kept, but not for ever.
#[test]
fn signatures_are_renewed_before_they_end() {
    let (snapshot, mut memory) = (signed(), memory());
    let mut rrsig = |now_ms: u64| {
        let mut out = Vec::new();
        let arrival = Arrival { peer: GERMANY.parse().unwrap(), transport: Transport::Udp, now_ms };
        let message = ask("cdn.example", 6).opt(1232, DNSSEC_OK, &[]).bytes();
        let outcome = answer_with(&snapshot, arrival, &message, &HealthView::default(), &mut memory, &mut out);
        assert_eq!(outcome.rcode, Some(crate::Rcode::NoError));
        out
    };
    const DAY_MS: u64 = 86_400_000;
    let first = rrsig(NOW_MS);
    assert_eq!(rrsig(NOW_MS + 3 * DAY_MS), first);
    assert_ne!(rrsig(NOW_MS + 4 * DAY_MS), first);
}
