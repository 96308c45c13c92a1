//! What the nameserver writes as dnstap, taken by fstrm's collector and read by dnstap-ldns, both by those who made dnstap.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use perigee_testkit::{ProcessUnderTest, free_port, wait_until};
use perigee_tests::installed;
use tokio::net::{TcpStream, UnixStream};

use crate::bench::{GERMANY, Nameserver, SYD, ZONE, document, run};

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
fn has(messages: &[String], lines: &[&str]) {
    let found = messages.iter().any(|message| lines.iter().all(|line| message.contains(line)));
    assert!(found, "no message with {lines:#?} in\n{}", messages.join("\n---\n"));
}
