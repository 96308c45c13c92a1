//! One zone, four clients: all of them read the same in our answers.

use std::{collections::BTreeSet, net::SocketAddr};

use perigee_tests::installed;

use crate::bench::{AUSTRALIA, FRA, GERMANY, Nameserver, SYD, document, run};

/// A code, and the records of the answer section as `TYPE data`.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    rcode: String,
    records: BTreeSet<String>,
}

type Ask = fn(SocketAddr, &str, &str, &str, bool) -> Read;

/// By the name of its program.
const CLIENTS: [(&str, Ask); 4] = [("dig", dig), ("kdig", kdig), ("drill", drill), ("python3", dnspython)];

fn dig(server: SocketAddr, from: &str, name: &str, kind: &str, tcp: bool) -> Read {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let tcp = if tcp { "+tcp" } else { "+notcp" };
    let text = run("dig", &[&at, "-p", &port, "-b", from, tcp, "+norecurse", "+timeout=20", "+noedns", name, kind]);
    Read { rcode: after(&text, "status: "), records: answers(&text) }
}

fn kdig(server: SocketAddr, from: &str, name: &str, kind: &str, tcp: bool) -> Read {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    // +notcp would be never, not even after TC.
    let tcp = if tcp { "+tcp" } else { "+edns" };
    let text = run("kdig", &[&at, "-p", &port, "-b", from, tcp, "+norec", "+timeout=20", name, kind]);
    Read { rcode: after(&text, "status: "), records: answers(&text) }
}

fn drill(server: SocketAddr, from: &str, name: &str, kind: &str, tcp: bool) -> Read {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let tcp = if tcp { "-t" } else { "-u" };
    // -a: over TCP after TC.
    let text = run("drill", &["-a", "-p", &port, "-I", from, tcp, "-o", "rd", name, &at, kind]);
    Read { rcode: after(&text, "rcode: "), records: answers(&text) }
}

/// Debian's dnspython, whatever other Python is there.
const PYTHON: &str = "/usr/bin/python3";

fn dnspython(server: SocketAddr, from: &str, name: &str, kind: &str, tcp: bool) -> Read {
    const SCRIPT: &str = "\
import sys, dns.message, dns.query, dns.rcode, dns.flags
server, port, source, name, kind, tcp = sys.argv[1:]
query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
if tcp == 'tcp':
    reply = dns.query.tcp(query, server, timeout=20, port=int(port), source=source)
else:
    reply, _ = dns.query.udp_with_fallback(query, server, timeout=20, port=int(port), source=source)
print(';; status: ' + dns.rcode.to_text(reply.rcode()) + ',')
print(';; ANSWER SECTION:')
for rrset in reply.answer:
    print(rrset.to_text())
";
    let (at, port) = (server.ip().to_string(), server.port().to_string());
    let tcp = if tcp { "tcp" } else { "udp" };
    let text = run(PYTHON, &["-c", SCRIPT, &at, &port, from, name, kind, tcp]);
    Read { rcode: after(&text, "status: "), records: answers(&text) }
}

/// The word behind a phrase.
fn after(text: &str, phrase: &str) -> String {
    let rest = text.split_once(phrase).unwrap_or_else(|| panic!("no {phrase:?} in:\n{text}")).1;
    rest.split([',', ';', '\n']).next().unwrap_or_default().trim().to_owned()
}

/// What stands in the answer section, without owners, TTLs and classes.
fn answers(text: &str) -> BTreeSet<String> {
    let after = text.lines().skip_while(|line| !line.starts_with(";; ANSWER SECTION"));
    let lines = after.skip(1).take_while(|line| !line.is_empty() && !line.starts_with(';'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().skip(3).collect();
            words.join(" ")
        })
        .collect()
}

/// Whether the client is there, dnspython with its Python.
fn is_there(program: &str) -> bool {
    if program != "python3" {
        return installed(program);
    }
    let found = std::process::Command::new(PYTHON).args(["-c", "import dns.query"]).output();
    found.is_ok_and(|output| output.status.success()) || perigee_tests::skip("python3-dnspython is not installed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_clients_read_the_same() {
    let nameserver = Nameserver::start(&document("")).await;
    let (fra, syd) = (format!("A {FRA}"), format!("A {SYD}"));
    let chain = ["CNAME assets.cdn.example.", "CNAME www.cdn.example.", &fra];
    let texts: Vec<String> = (0..8).map(|number| format!("TXT \"{number}{}\"", "x".repeat(240))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let rows: Vec<(&str, &str, &str, &str, &[&str])> = vec![
        (GERMANY, "www.cdn.example", "A", "NOERROR", std::slice::from_ref(&chain[2])),
        (GERMANY, "wWw.CDN.example", "A", "NOERROR", std::slice::from_ref(&chain[2])),
        (AUSTRALIA, "www.cdn.example", "AAAA", "NOERROR", &["AAAA 2001:db8:61::80"]),
        (GERMANY, "alias.cdn.example", "A", "NOERROR", &chain),
        (GERMANY, "ns1.cdn.example", "A", "NOERROR", &["A 127.0.0.1"]),
        (GERMANY, "cdn.example", "NS", "NOERROR", &["NS ns1.cdn.example.", "NS ns2.cdn.example."]),
        (GERMANY, "mail.cdn.example", "MX", "NOERROR", &["MX 10 mx.example.net."]),
        (GERMANY, "cdn.example", "CAA", "NOERROR", &["CAA 0 issue \"ca.example.net\""]),
        (GERMANY, "_sip._tcp.cdn.example", "SRV", "NOERROR", &["SRV 0 5 5060 mail.cdn.example."]),
        (GERMANY, "x.y.wild.cdn.example", "A", "NOERROR", &["A 192.0.2.2"]),
        (GERMANY, "deep.name.cdn.example", "A", "NOERROR", &[]),
        (GERMANY, "mail.cdn.example", "A", "NOERROR", &[]),
        (GERMANY, "nobody.cdn.example", "A", "NXDOMAIN", &[]),
        (GERMANY, "x.sub.cdn.example", "A", "NOERROR", &[]),
        (GERMANY, "example.org", "A", "REFUSED", &[]),
        // Larger than a datagram: by way of TC.
        (GERMANY, "big.cdn.example", "TXT", "NOERROR", &texts),
    ];
    for (program, ask) in CLIENTS {
        if !is_there(program) {
            continue;
        }
        for tcp in [false, true] {
            for (from, name, kind, rcode, records) in &rows {
                let expected = Read {
                    rcode: (*rcode).into(),
                    records: records.iter().map(|record| (*record).to_owned()).collect(),
                };
                assert_eq!(
                    ask(nameserver.address, from, name, kind, tcp),
                    expected,
                    "{program}: {name} {kind} tcp={tcp}"
                );
            }
            assert_eq!(ask(nameserver.address, AUSTRALIA, "www.cdn.example", "A", tcp).records, [syd.clone()].into());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_records_are_read() {
    let nameserver = Nameserver::start(&document("")).await;
    let expected = format!("HTTPS 1 . alpn=h2 ipv4hint={FRA} ipv6hint=2001:db8:49::80");
    for (program, ask) in CLIENTS {
        // Debian's drill does not know the type.
        if program != "drill" && is_there(program) {
            let read = ask(nameserver.address, GERMANY, "tls.cdn.example", "HTTPS", false);
            // Some quote what others do not.
            let records: Vec<String> = read.records.iter().map(|record| record.replace('"', "")).collect();
            assert_eq!(records, std::slice::from_ref(&expected), "{program}");
        }
    }
}
