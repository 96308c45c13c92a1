//! What the nameserver writes as dnstap, taken by fstrm's collector and read by dnstap-ldns, both by those who made dnstap.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use perigee_testkit::{ProcessUnderTest, free_port, patiently, wait_until};
use perigee_tests::installed;

use crate::bench::{FRA, GERMANY, Nameserver, ZONE, document, run};

/// fstrm_capture at work.
struct Collector {
    process: ProcessUnderTest,
}

impl Collector {
    /// `at`: its flags for where it listens.
    fn start(at: &[String], file: &Path) -> Self {
        let mut command = Command::new("fstrm_capture");
        command.args(["-dddd", "-t", "protobuf:dnstap.Dnstap", "-w"]).arg(file).args(at);
        Self { process: ProcessUnderTest::spawn("fstrm_capture", command) }
    }

    /// Ends it, so that it writes what it has.
    async fn end(mut self) {
        self.process.terminate();
        self.process.wait_exit().await;
    }
}

/// Every message of a file, in dnstap-ldns' words.
fn read(file: &Path) -> Vec<String> {
    let text = run("dnstap-ldns", &["-y", "-r", &file.display().to_string()]);
    text.split("---\n").map(str::trim).filter(|message| !message.is_empty()).map(str::to_owned).collect()
}

/// One message of the file has all of these lines.
#[track_caller]
fn has(messages: &[String], lines: &[String]) {
    let found = messages.iter().any(|message| lines.iter().all(|line| message.contains(line.as_str())));
    assert!(found, "no message with {lines:#?} in\n{}", messages.join("\n---\n"));
}

/// The nameserver's own flag for where it writes; it has written all when this has ended.
async fn asked(dnstap: &str) {
    let mut nameserver =
        Nameserver::start_with(&document(""), &["--dnstap", dnstap, "--dnstap-identity", "ns-of-the-test"]).await;
    let (at, port) = (format!("@{}", nameserver.address.ip()), nameserver.address.port().to_string());
    let dig = |more: &[&str]| {
        let all = [&[&*at, "-p", &port, "-b", GERMANY, "+timeout=20", "+norecurse"], more].concat();
        run("dig", &all)
    };
    dig(&["+notcp", &format!("www.{ZONE}"), "A"]);
    dig(&["+tcp", &format!("mail.{ZONE}"), "MX"]);
    dig(&["+notcp", &format!("nowhere.{ZONE}"), "AAAA"]);
    patiently("six messages", async {
        while nameserver.metric("perigee_dnstap_messages_total", "").await < 6.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    nameserver.process.terminate();
    assert!(nameserver.process.wait_exit().await.success(), "{}", nameserver.process.stderr());
}

#[track_caller]
fn check(messages: &[String]) {
    for (kind, protocol, words) in [
        ("AUTH_QUERY", "UDP", ["QUERY", "www.cdn.example.", FRA]),
        ("AUTH_RESPONSE", "UDP", ["www.cdn.example.", "NOERROR", FRA]),
        ("AUTH_QUERY", "TCP", ["QUERY", "mail.cdn.example.", "MX"]),
        ("AUTH_RESPONSE", "TCP", ["NOERROR", "mail.cdn.example.", "10 mx.example.net."]),
        ("AUTH_QUERY", "UDP", ["QUERY", "nowhere.cdn.example.", "AAAA"]),
        ("AUTH_RESPONSE", "UDP", ["NXDOMAIN", "nowhere.cdn.example.", "SOA"]),
    ] {
        let mut lines = vec![format!("type: {kind}\n"), format!("socket_protocol: {protocol}\n")];
        for line in ["identity: \"ns-of-the-test\"", "version: \"perigee-geodns ", "socket_family: INET\n"] {
            lines.push(line.to_owned());
        }
        lines.push(format!("query_address: \"{GERMANY}\""));
        lines.push("response_address: \"127.0.0.1\"".to_owned());
        // A question has no answer in it.
        let words = words.into_iter().filter(|word| kind == "AUTH_RESPONSE" || *word != FRA);
        lines.extend(words.map(str::to_owned));
        has(messages, &lines);
    }
}

fn is_there(programs: &[&str]) -> bool {
    programs.iter().all(|program| installed(program))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_by_others() {
    if !is_there(&["dig", "dnstap-ldns"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tap");
    asked(&format!("file:{}", file.display())).await;
    check(&read(&file));
    // A second process goes on with it.
    let before = read(&file).len();
    asked(&format!("file:{}", file.display())).await;
    assert!(read(&file).len() >= before + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn collectors_take_it_over_both_kinds_of_sockets() {
    if !is_there(&["dig", "dnstap-ldns", "fstrm_capture"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (socket, port) = (folder.path().join("socket"), free_port());
    let unix = (format!("unix:{}", socket.display()), vec!["-u".to_owned(), socket.display().to_string()]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tcp = (format!("tcp:{address}"), ["-a", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec());
    for (number, (to, flags)) in [unix, tcp].into_iter().enumerate() {
        let file = folder.path().join(format!("taken-{number}"));
        let collector = Collector::start(&flags, &file);
        wait_until("a collector", || collector.process.stderr().contains("opened output file")).await;
        asked(&to).await;
        collector.end().await;
        check(&read(&file));
    }
}
