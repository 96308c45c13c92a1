//! Zone files of any text: every mistake with its place, or records that read back and are answered.

use std::{cell::RefCell, path::Path};

use hickory_proto::op::{Message, ResponseCode};
use perigee_dns::{Arrival, Limiter, Memory, Snapshot, Transport, answer, dnssec::Signatures, kind_name};
use perigee_geo::health::HealthView;
use perigee_protocol::{
    document,
    model::Document,
    rdata::RecordData,
    zone_file::{self, ZoneFiles, ZoneRecord},
};

const DOCUMENT: &str = "version = 1
[cdn]
name = \"test\"
zone = \"cdn.example\"
nameservers = [{ host = \"ns1.cdn.example\", addresses = [\"198.18.0.53\"] }]
[[pop]]
id = \"fra\"
city = \"Frankfurt\"
country = \"DE\"
latitude = 50.11
longitude = 8.68
addresses = [\"198.18.49.10\"]
[[site]]
id = \"www\"
origins = [{ url = \"http://198.18.0.90:8000\" }]
[[zone.file]]
path = \"fuzz.zone\"
";
const INCLUDED: &str = "included 300 IN TXT \"from a file that is included\"\n";

thread_local! {
    static MODEL: Document = document::load("fuzz.toml", DOCUMENT).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    static MEMORY: RefCell<Memory> =
        RefCell::new(Memory::new(Limiter::new([0; 16], 1), Signatures::new([0; 16])));
}

fn read(document: &Document, text: &[u8]) -> Option<ZoneFiles> {
    let mut loader = |path: &Path| match path.to_str() {
        Some("fuzz.zone") => Ok(text.to_vec()),
        Some("included.zone") => Ok(INCLUDED.as_bytes().to_vec()),
        _ => Err("is not there".to_owned()),
    };
    match zone_file::load(document, &mut loader) {
        Ok(files) => Some(files),
        Err(mistakes) => {
            assert!(mistakes.count() > 0 && !mistakes.to_string().is_empty(), "refused without a reason");
            None
        }
    }
}

/// Laws of zone files.
pub fn check(text: &[u8]) {
    MODEL.with(|document| {
        let Some(files) = read(document, text) else { return };
        // What was read can be written, and reads the same.
        let written: String = files.records.iter().map(|record| format!("{record}\n")).collect();
        let Some(again) = read(document, written.as_bytes()) else { panic!("does not read back:\n{written}") };
        let told = |files: &ZoneFiles| {
            let records = files.records.iter();
            records.map(|record| (record.name.clone(), record.ttl_s, record.data.clone())).collect::<Vec<_>>()
        };
        assert_eq!(told(&again), told(&files), "{written}");
        let service = crate::answer::service(0).into();
        let snapshot = Snapshot::<Vec<u8>>::with_files(document, &files, 1, None, service, None);
        let snapshot = snapshot.unwrap_or_else(|error| panic!("was read and makes no zone: {error}\n{written}"));
        MEMORY.with_borrow_mut(|memory| {
            let is_read = |record: &&ZoneRecord| match &record.data {
                // hickory reads no record without data, which an unknown type may have (RFC 3597 §5) …
                RecordData::Other { data, .. } if data.is_empty() => false,
                // … and of NAPTR no flags but letters and digits (RFC 3403 §4.1), which nobody else looks at.
                RecordData::Other { number: NAPTR, data } => naptr_flags(data).iter().all(u8::is_ascii_alphanumeric),
                _ => true,
            };
            for record in files.records.iter().filter(is_read).take(8) {
                ask(&snapshot, memory, &record.name, &record.data.kind());
            }
        });
    });
}

/// RFC 3403 §4
const NAPTR: u16 = 35;

/// The string behind order and preference.
fn naptr_flags(data: &[u8]) -> &[u8] {
    let Some(([_, _, _, _, length], rest)) = data.split_first_chunk() else { return &[] };
    rest.get(..usize::from(*length)).unwrap_or(rest)
}

/// A record that was read is answered: with records, or by a referral.
fn ask(snapshot: &Snapshot<Vec<u8>>, memory: &mut Memory, name: &str, kind: &str) {
    let number = (1..=u16::MAX).find(|number| kind_name(*number) == kind);
    let (Some(number), Some(message)) = (number, number.and_then(|number| query(name, number))) else { return };
    let arrival = Arrival { peer: [192, 0, 2, 1].into(), transport: Transport::Tcp, now_ms: 1_800_000_000_000 };
    let mut out = Vec::new();
    answer(snapshot, arrival, &message, &HealthView::default(), memory, &mut out);
    let reply = Message::from_vec(&out).unwrap_or_else(|error| panic!("{name} {kind}: {error}: {out:?}"));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name} {kind} ({number})");
    let is_told = !reply.answers.is_empty() || !reply.metadata.authoritative;
    assert!(is_told, "{name} {kind}: {reply:?}");
}

/// A question for a name as records have it: escaped, without the final dot.
fn query(name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let (mut label, mut octets) = (Vec::new(), name.bytes());
    loop {
        let next = match octets.next() {
            Some(b'\\') => Some(escaped(&mut octets)?),
            Some(b'.') | None => None,
            plain => plain,
        };
        if let Some(octet) = next {
            label.push(octet);
            continue;
        }
        message.push(u8::try_from(label.len()).ok()?);
        message.append(&mut label);
        if octets.len() == 0 {
            break;
        }
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    Some(message)
}

/// RFC 1035 §5.1: three digits are an octet's number, anything else is itself.
fn escaped(octets: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = octets.next()?;
    let Some(hundreds) = char::from(first).to_digit(10) else { return Some(first) };
    let mut digit = || octets.next().and_then(|digit| char::from(digit).to_digit(10));
    u8::try_from(hundreds * 100 + digit()? * 10 + digit()?).ok()
}

/// A file with something of everything, and its lines one by one.
pub fn seeds() -> Vec<Vec<u8>> {
    const WHOLE: &str = r#"$ORIGIN cdn.example.
$TTL 1h
@ IN SOA ns1 host.master ( 2026112301 ; serial
    1h 10m 1w 1m )
mail 300 IN MX 10 mx.example.net.
     IN A 192.0.2.1
     AAAA 2001:db8::1
text TXT "one" two "th\"ree" \065\066
caa CAA 0 issue "ca.example.net"
_sip._tcp SRV 0 5 5060 mail
tls._tcp TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ssh SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
naptr NAPTR 100 10 "S" "SIP+D2U" "" _sip._tcp
host HINFO "PDP-11" "UNIX"
uri URI 10 1 "https://example.net/"
svc SVCB 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 key65280="x"
web HTTPS 0 www.example.net.
who RP admin.example.net. text
unknown TYPE65280 \# 4 0a000001
known TYPE1 \# 4 c0000201
sub NS ns.sub
ns.sub A 192.0.2.53
sub DS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
*.wild 60 IN TXT "x"
alias CNAME mail
1.2.0.192.in-addr PTR mail
$ORIGIN deep.cdn.example.
a 1w2d3h4m5s IN A 192.0.2.2
$INCLUDE included.zone other.cdn.example.
a\.b A 192.0.2.3
"#;
    let alone = WHOLE.lines().map(|line| format!("$ORIGIN cdn.example.\n$TTL 60\n{}\n", line.trim_start()));
    [WHOLE.to_owned()].into_iter().chain(alone).map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_seeds_is_read() {
        MODEL.with(|document| {
            let whole = seeds().swap_remove(0);
            let files = read(document, &whole).expect("is read");
            assert_eq!((files.records.len(), files.soa.is_some()), (25, true));
        });
    }
}
