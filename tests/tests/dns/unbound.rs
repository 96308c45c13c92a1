//! A validating resolver in front.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use perigee_testkit::{ProcessUnderTest, free_port};
use tempfile::TempDir;

use crate::bench::{ZONE, listening, run};

/// How long a nameserver's answer is waited for before it is asked again: its own guess of 50 ms is short where others use the
/// machine, and tests count who is asked what.
const PATIENCE_MS: u32 = 5_000;

pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    process: ProcessUnderTest,
    _folder: TempDir,
}

/// What a client of the resolver reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) rcode: String,
    /// AD: the resolver has checked every signature.
    pub(crate) is_validated: bool,
    pub(crate) records: Vec<String>,
}

impl Resolver {
    /// Before these nameservers, trusting this anchor (a DS record; none: validates nothing), with more lines of configuration.
    pub(crate) async fn start(nameservers: &[SocketAddr], anchor: Option<&str>, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
        let anchor = anchor.map_or(String::new(), |anchor| format!("  trust-anchor: \"{anchor}\"\n"));
        let stubs: String = nameservers.iter().map(|at| format!("  stub-addr: {}@{}\n", at.ip(), at.port())).collect();
        let to: String = nameservers.iter().map(|at| format!("  send-client-subnet: {}\n", at.ip())).collect();
        let configuration = format!(
            "server:\n  interface: {}@{}\n  port: {}\n  do-daemonize: no\n  use-syslog: no\n  logfile: \"\"\n  verbosity: 1\n\
             \x20 username: \"\"\n  chroot: \"\"\n  directory: \"{}\"\n  pidfile: \"\"\n  do-not-query-localhost: no\n\
             \x20 do-ip6: no\n  num-threads: 1\n  infra-cache-min-rtt: {PATIENCE_MS}\n  outgoing-port-avoid: 0-32767\n  val-log-level: 2\n  access-control: 127.0.0.0/8 allow\n\
             \x20 module-config: \"subnetcache validator iterator\"\n  client-subnet-always-forward: yes\n{to}{anchor}{more}\
             remote-control:\n  control-enable: no\n\
             stub-zone:\n  name: \"{ZONE}\"\n  stub-prime: no\n{stubs}",
            address.ip(),
            address.port(),
            address.port(),
            folder.path().display(),
        );
        let file = folder.path().join("unbound.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = std::process::Command::new("unbound");
        command.arg("-d").arg("-c").arg(&file);
        // Debian has it where only root looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let process = ProcessUnderTest::spawn("unbound", command);
        listening(address).await;
        Self { address, process, _folder: folder }
    }

    /// What it complained of.
    pub(crate) fn said(&self) -> String {
        self.process.stderr()
    }

    /// Asked by a client at an address.
    pub(crate) fn ask(&self, from: &str, name: &str, kind: &str) -> Resolved {
        self.ask_with(from, name, kind, &[])
    }

    pub(crate) fn ask_with(&self, from: &str, name: &str, kind: &str, more: &[&str]) -> Resolved {
        let (at, port) = (format!("@{}", self.address.ip()), self.address.port().to_string());
        let mut arguments = vec![&*at, "-p", &port, "-b", from, "+timeout=5", "+tries=3", "+adflag"];
        arguments.extend(more);
        arguments.extend([name, kind]);
        let text = run("dig", &arguments);
        let rest = text.split_once("status: ").unwrap_or_else(|| panic!("{name} {kind}:\n{text}\n{}", self.said())).1;
        let rcode = rest.split(',').next().unwrap_or_default().to_owned();
        let flags = rest.split_once(";; flags: ").map_or("", |(_, flags)| flags.split(';').next().unwrap_or_default());
        let after = text.lines().skip_while(|line| !line.starts_with(";; ANSWER SECTION"));
        let lines = after.skip(1).take_while(|line| !line.is_empty() && !line.starts_with(';'));
        let record = |line: &str| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ");
        let records = lines.map(record).collect();
        Resolved { rcode, is_validated: flags.split(' ').any(|flag| flag == "ad"), records }
    }
}
