//! One zone file, two nameservers: what Knot answers from it, we answer.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use hickory_proto::{op::Message, rr::Record};
use perigee_testkit::{PATIENCE, ProcessUnderTest, free_port};
use perigee_tests::installed;

use crate::{
    bench::{Nameserver, document, listening},
    load::query,
};

/// What both read; Knot reads the steered name and the zone's own records beside it.
const RECORDS: &str = r#"
@ 3600 MX 10 mailer
text TXT "a" "b"
mailer A 192.0.2.5
a.b.c.ent A 192.0.2.6
*.star A 192.0.2.7
*.star TXT "w"
there.star MX 5 mailer
x.there2.star A 192.0.2.9
*.cstar CNAME mailer
alias1 CNAME mailer
alias2 CNAME alias1
out CNAME www.elsewhere.example.
dangles CNAME nobody
dangles2 CNAME zz.star
dangles3 CNAME c.ent
self CNAME self
loop1 CNAME loop2
loop2 CNAME loop1
intocut CNAME x.cut
cut NS ns.cut
cut NS ns1
ns.cut A 192.0.2.53
cut2 NS ns.elsewhere.example.
cut3 NS ns.elsewhere.example.
cut3 DS 1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
_x._tcp SRV 0 5 5060 mailer
svc SVCB 1 . alpn=h2
web HTTPS 0 mailer
tlsa TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
unknown TYPE65280 \# 2 0a0b
pointer PTR mailer
old DNAME new
old TXT "beside it"
x.new A 192.0.2.11
*.w.new TXT "made"
gone DNAME elsewhere.example.
intodname CNAME x.old
"#;

const NAMES: [&str; 62] = [
    "",
    "ns1",
    "mailer",
    "MaiLER",
    "nobody",
    "x.nobody",
    "a.b.c.ent",
    "b.c.ent",
    "c.ent",
    "ent",
    "x.ent",
    "y.c.ent",
    "star",
    "q.star",
    "q.r.star",
    "there.star",
    "x.there.star",
    "x.there2.star",
    "there2.star",
    "y.there2.star",
    "*.star",
    "x.*.star",
    "cstar",
    "q.cstar",
    "*.cstar",
    "alias1",
    "alias2",
    "out",
    "dangles",
    "dangles2",
    "dangles3",
    "self",
    "loop1",
    "loop2",
    "intocut",
    "cut",
    "x.cut",
    "ns.cut",
    "y.ns.cut",
    "cut2",
    "q.cut2",
    "cut3",
    "q.cut3",
    "_x._tcp",
    "_tcp",
    "svc",
    "web",
    "tlsa",
    "unknown",
    "pointer",
    "text",
    "old",
    "x.old",
    "X.oLd",
    "nobody.old",
    "q.w.old",
    "new",
    "x.gone",
    "intodname",
    "x.new",
    "y.x.old",
    "\u{e4}",
];
/// All but ANY and transfers, which each answers after its own taste.
const KINDS: [u16; 21] = [39, 1, 28, 2, 6, 15, 16, 5, 12, 33, 43, 48, 47, 46, 257, 52, 64, 65, 13, 65_280, 1_000];

/// Code, AA, TC, and the records of the answer and authority sections; those of the additional one in referrals alone: the rest
/// is a courtesy.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    rcode: String,
    flags: [bool; 2],
    sections: [Vec<String>; 3],
}

fn ask(server: SocketAddr, name: &str, kind: u16) -> Told {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut message = query(7, name, kind);
    // With EDNS, so that no answer is too long.
    message[11] = 1;
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    socket.send(&message).unwrap();
    let mut reply = [0; 4_096];
    let length = socket.recv(&mut reply).unwrap();
    let reply = Message::from_vec(&reply[..length]).unwrap();
    let is_referral = reply.authorities.iter().any(|record| record.record_type().to_string() == "NS");
    let additionals = if is_referral { lines(&reply.additionals) } else { Vec::new() };
    Told {
        rcode: reply.metadata.response_code.to_string(),
        flags: [reply.metadata.authoritative, reply.metadata.truncation],
        sections: [lines(&reply.answers), lines(&reply.authorities), additionals],
    }
}

/// In any order; of a SOA that it is there, and how long that holds.
fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let (name, kind) = (record.name.to_lowercase(), record.record_type());
        let data = if kind.to_string() == "SOA" { String::new() } else { record.data.to_string().to_lowercase() };
        format!("{name} {} {kind} {data}", record.ttl)
    };
    let mut lines: Vec<String> = records.iter().map(line).collect();
    lines.sort();
    lines
}

/// Knot on a file of the whole zone.
async fn knot(zone: &str) -> (SocketAddr, ProcessUnderTest, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
    let path = folder.path().display();
    let configuration = format!(
        "server:\n    listen: {}@{}\n    rundir: {path}\ndatabase:\n    storage: {path}\nlog:\n  - target: stderr\n    any: warning\n\
         template:\n  - id: default\n    storage: {path}\nzone:\n  - domain: cdn.example\n    file: whole.zone\n",
        address.ip(),
        address.port(),
    );
    fs::write(folder.path().join("whole.zone"), zone).unwrap();
    fs::write(folder.path().join("knot.conf"), configuration).unwrap();
    let mut command = std::process::Command::new("knotd");
    let paths = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{paths}:/usr/sbin:/sbin")).arg("-c").arg(folder.path().join("knot.conf"));
    let process = ProcessUnderTest::spawn("knotd", command);
    listening(address).await;
    (address, process, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knot_answers_the_same_from_the_same_file() {
    if !installed("knotd") {
        return;
    }
    let whole = document("contact = \"host@cdn.example\"\n");
    let without_records = whole.split("[[zone.record]]").next().unwrap();
    let text = format!("{without_records}[[zone.file]]\npath = \"records.zone\"\n");
    let file = format!("$ORIGIN cdn.example.\n$TTL 3600\n{RECORDS}");
    let ours = Nameserver::start_beside(&text, &[("records.zone", &file)]).await;
    let apex = "@ SOA ns1 host 1 3600 600 604800 60\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\n";
    let (knot, _process, _folder) = knot(&format!("{file}{apex}")).await;
    let mut compared = 0;
    for name in NAMES {
        let name = if name.is_empty() { "cdn.example".to_owned() } else { format!("{name}.cdn.example") };
        for kind in KINDS {
            assert_eq!(ask(ours.address, &name, kind), ask(knot, &name, kind), "{name} {kind}");
            compared += 1;
        }
    }
    println!("{compared} answers are Knot's");
}
