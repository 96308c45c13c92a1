//! What differs from one transport to the next, and what HTTP caches and SVCB are told.

use super::*;
use crate::freshness_s;

const ANSWER: &str = "NOERROR aa (static)\nns1.cdn.example. 3600 A 198.18.0.53";
const KEEPALIVE: [u8; 4] = [0, 11, 0, 0];
const PADDING: [u8; 4] = [0, 12, 0, 0];

fn plain() -> Ask {
    ask("ns1.cdn.example", 1)
}

fn reply_over(snapshot: &Snapshot<Vec<u8>>, ask: &Ask, transport: Transport) -> (Vec<u8>, String) {
    let mut out = Vec::new();
    let health = HealthView::default();
    let outcome = answer(snapshot, GERMANY.parse().unwrap(), transport, &ask.bytes(), &health, &mut out);
    let text = render(&out, &outcome);
    (out, text)
}

#[test]
fn keepalive_is_of_tcp_and_tls() {
    let (open, asks) = (snapshot(), plain().opt(1232, 0, &KEEPALIVE));
    let check = |snapshot: &_, transport, options: &str| {
        assert_eq!(
            reply_over(snapshot, &asks, transport).1,
            format!("{ANSWER}\nopt v0 1232{options}"),
            "{transport:?}"
        );
    };
    check(&open, Transport::Udp, "");
    check(&open, Transport::Tcp, " 11=[0, 100]");
    check(&open, Transport::Tls, " 11=[0, 100]");
    check(&open, Transport::Https, "");
    // RFC 7828 §3.2.2: 0 is a request to close.
    check(&open.ending(), Transport::Tls, " 11=[0, 0]");
}

#[test]
fn what_is_private_is_padded() {
    let snapshot = snapshot();
    for (transport, length) in [(Transport::Tcp, 60), (Transport::Tls, 468), (Transport::Https, 468)] {
        let (out, text) = reply_over(&snapshot, &plain().opt(1232, 0, &PADDING), transport);
        assert_eq!(out.len(), length, "{transport:?} {text}");
    }
}

#[test]
fn quic_has_rules_of_its_own() {
    let snapshot = snapshot();
    let check = |ask: Ask, id: u16, transport, expected: &str| {
        let mut message = ask.bytes();
        message[..2].copy_from_slice(&id.to_be_bytes());
        let (mut out, health) = (Vec::new(), HealthView::default());
        let outcome = answer(&snapshot, GERMANY.parse().unwrap(), transport, &message, &health, &mut out);
        let rcode = outcome.rcode.map_or("dropped", |rcode| rcode.as_str());
        assert_eq!(format!("{rcode} ({})", outcome.reason.as_str()), expected, "{ask:?} {id} {transport:?}");
        assert_eq!(outcome.rcode.is_none(), out.is_empty());
        out.len()
    };
    let asks = || plain().opt(1232, 0, &PADDING);
    assert_eq!(check(asks(), 0, Transport::Quic, "NOERROR (static)"), 468);
    // RFC 9250 §4.3.3
    check(asks(), 1, Transport::Quic, "dropped (quic-rules)");
    check(plain().opt(1232, 0, &KEEPALIVE), 0, Transport::Quic, "dropped (quic-rules)");
    check(plain().opt(1232, 0, &KEEPALIVE), 1, Transport::Tls, "NOERROR (static)");
    // RFC 8484 §4.1: an ID of 0 is a courtesy to caches, and any other is as good.
    check(plain().opt(1232, 0, &KEEPALIVE), 1, Transport::Https, "NOERROR (static)");
    // There is room for what is cut over UDP.
    check(ask("beside.cdn.example", 1), 0, Transport::Quic, "NOERROR (referral)");
}

#[test]
fn http_caches_keep_what_lasts() {
    let snapshot = snapshot();
    let check = |ask: Ask, expected: Option<u32>| {
        let (out, text) = reply_over(&snapshot, &ask, Transport::Https);
        assert_eq!(freshness_s(&out), expected, "{text}");
        // Whatever is missing of it, nothing is told and nobody panics.
        for length in 0..out.len() {
            assert!(freshness_s(&out[..length]).is_none_or(|ttl_s| Some(ttl_s) == expected), "{length} of {text}");
        }
    };
    check(plain(), Some(3_600));
    check(plain().opt(1232, 0, &PADDING), Some(3_600));
    check(ask("www.cdn.example", 1), Some(30));
    // The lowest of a chain.
    check(ask("assets.cdn.example", 1), Some(30));
    check(ask("assets.cdn.example", 5), Some(3_600));
    // Negative answers: what the SOA says; of an alias that dangles, the alias.
    check(ask("nobody.cdn.example", 1), Some(60));
    check(ask("mail.cdn.example", 1), Some(60));
    check(ask("dangles.cdn.example", 1), Some(3_600));
    check(ask("x.sub.cdn.example", 1), None);
    check(ask("other.example", 1), None);
    check(Ask { questions: 2, ..plain() }, None);
    let (truncated, text) = reply_over(&snapshot, &ask("long.cdn.example", 16), Transport::Udp);
    assert_eq!(freshness_s(&truncated), None, "{text}");
}

#[test]
fn what_nameservers_offer_is_said() {
    let said = |tls: &str, more: &str, name: &'static str| {
        let text = DOCUMENT.replace("apex_site = \"www\"", &format!("apex_site = \"www\"\n{tls}"));
        let snapshot = snapshot_of(&format!("{text}{more}"), |_| {});
        reply_over(&snapshot, &ask(name, 64), Transport::Tcp).1
    };
    let tls = |offers: &str| format!("dns_tls = {{ certificate = \"a\", key = \"b\"{offers} }}");
    let answer = |data: &str| format!("NOERROR aa (static)\n_dns.ns1.cdn.example. 3600 SVCB {data}");
    let ns1 = "_dns.ns1.cdn.example";
    assert_eq!(said(&tls(""), "", ns1), answer("1 ns1.cdn.example. alpn=dot,doq,"));
    let all = said(&tls(", offers = [\"doh\", \"dot\", \"doq\"]"), "", ns1);
    assert!(all.starts_with(&answer("1 ns1.cdn.example. alpn=dot,doq,h2,")), "{all}");
    assert!(said(&tls(", offers = []"), "", ns1).starts_with("NXDOMAIN"));
    assert!(said("", "", ns1).starts_with("NXDOMAIN"));
    // A nameserver of another zone is that zone's.
    assert!(said(&tls(""), "", "_dns.ns2.other.example").starts_with("REFUSED"));
    let own = "[[zone.record]]\nname = \"_dns.ns1\"\ntype = \"SVCB\"\nttl = \"1m\"\nvalues = [\"1 ns1 alpn=dot\"]\n";
    assert!(said(&tls(""), own, ns1).contains("60 SVCB 1 ns1.cdn.example. alpn=dot,"), "what is written counts");
}
