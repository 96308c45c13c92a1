//! The servers under load, and what they cost.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::SERVER_CORE;
use crate::run::output;

const START_BOUND: Duration = Duration::from_secs(30);

/// What a scenario wants of a cache.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// What is proxied.
    pub(super) origin: SocketAddr,
    /// Where files go: tmpfs, or a disk.
    pub(super) folder: PathBuf,
    /// For objects, in MiB.
    pub(super) memory_mib: u64,
    /// For objects on disk, in MiB; 0 is none, where that can be said.
    pub(super) disk_mib: u64,
}

/// A process that listens on loopback until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    /// Of other transports, on the same address.
    pub(super) ports: Vec<(&'static str, u16)>,
    child: Child,
    access_log: Option<PathBuf>,
}

impl Server {
    /// Our edge, with everything on that a node has on: access log and metrics.
    pub(super) fn edge(binaries: &Path, setup: &Setup) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let log = setup.folder.join("edge.log");
        let mut command = pinned(&binaries.join("perigee-edge"));
        command.args(["--listen", &address.to_string(), "--origin", &format!("http://{}", setup.origin)]);
        command.args(["--admin", &admin.to_string(), "--threads", "1"]);
        command.args(["--memory", &format!("{}MiB", setup.memory_mib)]);
        command.arg("--access-log").arg(&log);
        if setup.disk_mib > 0 {
            let disk = setup.folder.join("edge");
            command.arg("--disk").arg(format!("{}:{}MiB", disk.display(), setup.disk_mib));
        }
        let mut server = Self::start("edge", address, command)?;
        server.access_log = Some(log);
        server.admin = Some(admin);
        Ok(server)
    }

    /// Runs the command until it listens.
    pub(super) fn start(name: &'static str, address: SocketAddr, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { name, address, admin: None, ports: Vec::new(), child, access_log: None };
        let from = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                let mut told = String::new();
                if let Some(mut stderr) = server.child.stderr.take() {
                    stderr.read_to_string(&mut told)?;
                }
                bail!("{name} does not start: {status}\n{told}");
            }
            ensure!(from.elapsed() < START_BOUND, "{name} does not listen on {address}");
            thread::sleep(Duration::from_millis(2));
        }
        // Read to its end by nobody, a pipe that fills would stop the server.
        if let Some(mut stderr) = server.child.stderr.take() {
            thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        }
        Ok(server)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// So that a log on tmpfs does not fill it.
    pub(super) fn truncate_log(&self) -> Result<()> {
        let Some(log) = &self.access_log else { return Ok(()) };
        let file = fs::OpenOptions::new().write(true).truncate(true).open(log);
        file.map(drop).with_context(|| format!("{} has no access log at {}", self.name, log.display()))
    }

    /// User and system time of the process and its children (nginx's workers) until now.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let ticks_per_second: u64 = output(Command::new("getconf").arg("CLK_TCK"))?.trim().parse()?;
        let ticks: u64 = self.family().iter().map(|(_, spent)| spent).sum();
        Ok(Duration::from_micros(ticks * 1_000_000 / ticks_per_second.max(1)))
    }

    /// Where it speaks that.
    pub(super) fn port_of(&self, transport: &str) -> u16 {
        let found = self.ports.iter().find(|(name, _)| *name == transport);
        found.map_or(self.address.port(), |(_, port)| *port)
    }

    /// Resident bytes of all its processes: now, and at their peak.
    pub(super) fn resident(&self) -> (u64, u64) {
        (self.status("VmRSS:"), self.status("VmHWM:"))
    }

    /// Resident bytes of all its processes that are no pages of files.
    pub(super) fn anonymous(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, field: &str) -> u64 {
        let of = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix("kB")?.trim();
            line.parse::<u64>().ok()
        };
        self.family().iter().filter_map(|(pid, _)| of(*pid)).sum::<u64>() * 1024
    }

    /// Its processes with the ticks that each has spent.
    fn family(&self) -> Vec<(u32, u64)> {
        let own = self.child.id();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        // Processes come and go while we look.
        let stats = entries.filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?));
        stats.filter(|(pid, parent, _)| *pid == own || *parent == own).map(|(pid, _, spent)| (pid, spent)).collect()
    }

    /// Ends it the hard way, as a crash would.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill")?;
        self.child.wait().map(drop).context("cannot wait")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // TERM, not KILL: nginx takes its workers with it.
        let told = Command::new("kill").arg(self.child.id().to_string()).status();
        let ended = told.and_then(|_| self.child.wait());
        if let Err(error) = ended {
            eprintln!("{} may run on as process {}: {error}", self.name, self.child.id());
        }
    }
}

/// Process, parent, and ticks of user and system time of a line of `/proc/PID/stat`.
fn parse_stat(stat: &str) -> Option<(u32, u32, u64)> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    // The name is in parentheses and may hold anything, parentheses too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((pid, u32::try_from(number(1)?).ok()?, number(11)? + number(12)?))
}

/// A command on the core of servers.
pub(super) fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", SERVER_CORE]).arg(program);
    command
}

pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn process_lines() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194304 100 0 0 0 250 50 1 2 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(line), Some((42, 7, 300)));
        assert_eq!(parse_stat("42"), None);
    }
}
