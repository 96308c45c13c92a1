//! The servers under load, and what they cost.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::SERVER_CORE;
use crate::run::output;

const START_BOUND: Duration = Duration::from_secs(10);

/// A process that listens on loopback until it is dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    port: u16,
    child: Child,
    access_log: Option<PathBuf>,
}

impl Server {
    /// What both fetch from. It is not pinned: hits do not reach it.
    pub(super) fn origin(binaries: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(binaries.join("perigee"));
        command.args(["origin", "--listen", &address(port)]);
        Self::start("origin", port, command, None)
    }

    /// Ours, with everything on that a node has on: access log and metrics.
    pub(super) fn edge(binaries: &Path, origin: &Self, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let log = folder.join("edge.log");
        let mut command = pinned(&binaries.join("perigee-edge"));
        command.args(["--listen", &address(port), "--origin", &format!("http://{}", address(origin.port))]);
        command.args(["--admin", &address(free_port()?), "--threads", "1", "--memory", "256MiB"]);
        command.arg("--access-log").arg(&log);
        Self::start("edge", port, command, Some(log))
    }

    /// Debian's, with one worker and no log.
    pub(super) fn nginx(name: &'static str, extra: &str, origin: &Self, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let folder = &folder.join(name);
        fs::create_dir_all(folder)?;
        let file = folder.join("nginx.conf");
        fs::write(&file, nginx_conf(port, origin.port, folder, extra)?)?;
        let mut command = pinned(Path::new("nginx"));
        command.arg("-e").arg(folder.join("nginx.err")).arg("-c").arg(&file).arg("-p").arg(folder);
        Self::start(name, port, command, None)
    }

    fn start(name: &'static str, port: u16, mut command: Command, access_log: Option<PathBuf>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { name, port, child, access_log };
        let from = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                let mut told = String::new();
                if let Some(mut stderr) = server.child.stderr.take() {
                    std::io::Read::read_to_string(&mut stderr, &mut told)?;
                }
                bail!("{name} does not start: {status}\n{told}");
            }
            ensure!(from.elapsed() < START_BOUND, "{name} does not listen on port {port}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", address(self.port))
    }

    /// SHA-256 of what it answers.
    pub(super) fn body_hash(&self, path: &str) -> Result<String> {
        output(Command::new("sh").args(["-c", &format!("curl -sSf {} | sha256sum", self.url(path))]))
    }

    /// How often the origin was asked for a path.
    pub(super) fn served(&self, path: &str) -> Result<u64> {
        let told = output(Command::new("curl").args(["-sSf", &self.url("/.origin/stats")]))?;
        let stats: serde_json::Value = serde_json::from_str(&told)?;
        stats["paths"][path].as_u64().with_context(|| format!("the origin does not count {path}"))
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
        let own = self.child.id();
        let mut ticks = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            // Processes come and go while we look.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some((pid, parent, spent)) = parse_stat(&stat)
                && (pid == own || parent == own)
            {
                ticks += spent;
            }
        }
        Ok(Duration::from_micros(ticks * 1_000_000 / ticks_per_second.max(1)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
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

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", SERVER_CORE]).arg(program);
    command
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn nginx_conf(port: u16, origin: u16, folder: &Path, extra: &str) -> Result<String> {
    // Its workers are nobody otherwise, who may not write here. Said by anyone else than root it is only warned of.
    let user = if output(Command::new("id").arg("-u"))?.trim() == "0" { "user root;" } else { "" };
    let folder = folder.display();
    Ok(format!(
        "daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 1000000000;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:16m inactive=1h; proxy_temp_path {folder}/proxy;
  client_body_temp_path {folder}/body; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {extra}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache bench; proxy_cache_valid 200 1h; }}
  }}
}}
"
    ))
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
