//! The load: wrk where it can, threads of our own where it cannot.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use perigee_tests::client::Client;

use super::{LOAD_CORE, server::Server};
use crate::run::output;

/// One server's figures of one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    /// Requests a second.
    pub(super) rate: f64,
    /// Of all the server's processes, user and system, per request.
    pub(super) cpu_us: f64,
    /// The 99th percentile of what requests took, in microseconds.
    pub(super) p99_us: f64,
}

/// What wrk asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paths {
    /// One path.
    One(&'static str),
    /// `/b/SIZE/N` for N below the count, by Zipf's law with exponent 1.
    Zipf(u64, u64),
    /// `/b/SIZE/N` for N below the count, all alike.
    Even(u64, u64),
    /// `/b/SIZE/…`, never one twice.
    Unique(u64),
}

impl Paths {
    fn lua(self, unique: &str) -> Option<String> {
        Some(match self {
            Self::One(_) => return None,
            Self::Zipf(size, count) => table(size, count, &format!("math.floor({}^math.random())", count + 1)),
            Self::Even(size, count) => table(size, count, &format!("math.random({count})")),
            Self::Unique(size) => format!(
                "local n = 0\nlocal head, tail = 'GET /b/{size}/{unique}-', ' HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n'\n\
                 request = function() n = n + 1; return head .. n .. tail end\n"
            ),
        })
    }

    /// All of them, where they are known beforehand.
    pub(super) fn all(self) -> Vec<String> {
        match self {
            Self::One(path) => vec![path.to_owned()],
            Self::Zipf(size, count) | Self::Even(size, count) => {
                (1..=count).map(|n| format!("/b/{size}/{n}")).collect()
            }
            Self::Unique(_) => Vec::new(),
        }
    }
}

fn table(size: u64, count: u64, choose: &str) -> String {
    format!(
        "local all = {{}}\n\
         for n = 1, {count} do all[n] = 'GET /b/{size}/' .. n .. ' HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n' end\n\
         init = function() math.randomseed(os.time()) end\n\
         request = function() return all[{choose}] end\n"
    )
}

/// wrk for so long from the core of loads.
pub(super) fn wrk(server: &Server, paths: Paths, connections: u64, time: Duration, folder: &Path) -> Result<Figure> {
    static RUN: AtomicU64 = AtomicU64::new(0);
    server.truncate_log()?;
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", LOAD_CORE, "wrk", "--threads", "1", "--latency", "--timeout", "10s"]);
    command.args(["--connections", &connections.to_string(), "--duration", &format!("{}s", time.as_secs())]);
    if let Some(lua) = paths.lua(&run.to_string()) {
        let script = folder.join(format!("load-{run}.lua"));
        fs::write(&script, lua)?;
        command.arg("--script").arg(script);
    }
    let path = if let Paths::One(path) = paths { path } else { "/" };
    command.arg(server.url(path));
    let (cpu, from) = (server.cpu()?, Instant::now());
    let told = output(&mut command)?;
    let (cpu, took) = (server.cpu()?.saturating_sub(cpu), from.elapsed());
    for bad in ["Non-2xx", "Socket errors"] {
        ensure!(!told.contains(bad), "{}: wrk complains\n{told}", server.name);
    }
    let requests = requests(&told).with_context(|| format!("wrk prints no count\n{told}"))?;
    let p99_us = p99_us(&told).with_context(|| format!("wrk prints no latency\n{told}"))?;
    Ok(Figure { rate: requests / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / requests, p99_us })
}

/// Of `  171234 requests in 5.00s, 200.00MB read`.
fn requests(told: &str) -> Option<f64> {
    let line = told.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok().filter(|count| *count > 0.0)
}

/// Of `     99%    3.10ms`.
fn p99_us(told: &str) -> Option<f64> {
    let text = told.lines().find_map(|line| line.trim().strip_prefix("99%"))?.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(
        value
            * match unit {
                "us" => 1.0,
                "ms" => 1e3,
                "s" => 1e6,
                _ => return None,
            },
    )
}

/// Fetches each path once, from a few threads.
pub(super) fn warm(server: &Server, paths: &[String]) -> Result<()> {
    const THREADS: usize = 8;
    thread::scope(|scope| {
        let share = paths.len().div_ceil(THREADS).max(1);
        let threads: Vec<_> =
            paths.chunks(share).map(|part| scope.spawn(move || fetch_all(server.address, part))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })
}

fn fetch_all(address: SocketAddr, paths: &[String]) -> Result<()> {
    let mut client = Client::new(address, "bench");
    for path in paths {
        match client.ask("GET", path, "", "") {
            Ok(answer) if answer.status == 200 => {}
            other => bail!("{path}: {:?}", other.map(|answer| answer.status)),
        }
    }
    Ok(())
}

/// So many clients at once ask for one path; how long until the last has it all.
pub(super) fn burst(server: &Server, path: &str, clients: usize) -> Result<Duration> {
    let start = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let one = |start: &Barrier| -> Result<()> {
            // Connected before the start: the cache is measured, not the kernel's backlog.
            let mut stream = TcpStream::connect(server.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            start.wait();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
            // On the stack, and forgotten: 500 bodies that grow in memory would take longer than the cache needs to send them.
            let mut piece = [0; 32 * 1024];
            let mut got = stream.read(&mut piece)?;
            let first = piece.get(..got).unwrap_or_default();
            ensure!(first.starts_with(b"HTTP/1.1 200"), "not a 200");
            let head = first.windows(4).position(|four| four == b"\r\n\r\n").context("a head in pieces")? + 4;
            loop {
                match stream.read(&mut piece)? {
                    0 => break,
                    more => got += more,
                }
            }
            let (body, length) = (got - head, path.split('/').nth(3).unwrap_or_default().parse::<usize>()?);
            ensure!(body == length, "{body} bytes instead of {length}");
            Ok(())
        };
        let mut threads = Vec::new();
        for _ in 0..clients {
            let start = &start;
            threads.push(thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, move || one(start))?);
        }
        start.wait();
        let from = Instant::now();
        for thread in threads {
            thread.join().unwrap_or_else(|_| bail!("a thread panicked"))?;
        }
        Ok(from.elapsed())
    })
}

/// Connections that asked once and stay.
pub(super) fn idle(server: &Server, path: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(count);
    let mut piece = [0; 16 * 1024];
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let got = stream.read(&mut piece)?;
        ensure!(piece.get(..got).is_some_and(|piece| piece.starts_with(b"HTTP/1.1 200")), "not a 200");
        open.push(stream);
    }
    Ok(open)
}

/// Downloads a path and forgets it; how long that took.
pub(super) fn download(server: &Server, path: &str, length: u64) -> Result<Duration> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let from = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut piece = vec![0; 1 << 20];
    let (mut got, mut head) = (0, None);
    loop {
        let count = stream.read(&mut piece)?;
        if head.is_none() {
            head = piece.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end as u64 + 4);
        }
        got += count as u64;
        if count == 0 {
            let got = got - head.unwrap_or(0);
            ensure!(got == length, "{got} bytes instead of {length}");
            return Ok(from.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_tells() {
        let told = "Running 5s test\n  1 threads and 64 connections\n     99%    3.10ms\n  171234 requests in 5.00s, 200.00MB read\nRequests/sec:  34";
        assert_eq!(requests(told), Some(171_234.0));
        assert_eq!(requests("  0 requests in 5.00s, 0.00B read"), None);
        assert_eq!(requests("unable to connect"), None);
        assert_eq!(p99_us(told), Some(3100.0));
        assert_eq!(p99_us("  99%  812.00us"), Some(812.0));
        assert_eq!(p99_us("  99%  many"), None);
    }
}
