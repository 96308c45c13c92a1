//! `cargo xtask bench`: our edge and nginx on the same hit, one core for the server and one for the load, in turns.
//!
//! A machine's speed drifts; a ratio of two that ran one after the other drifts less, and CPU time per request less than
//! requests per second. So rounds alternate, each gives a ratio, and the median is the figure.

mod report;
mod server;

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use self::{report::Report, server::Server};
use crate::{images, run::output};

/// 1 KiB, cacheable for long.
const PATH: &str = "/big/1KiB";
const CONNECTIONS: &str = "64";
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const WARM_UP: Duration = Duration::from_secs(1);
const NEEDS: [(&str, &str); 4] =
    [("nginx", "nginx-light"), ("wrk", "wrk"), ("taskset", "util-linux"), ("curl", "curl")];

struct Flags {
    rounds: usize,
    seconds: u64,
    json: bool,
    build: bool,
    profile: String,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let flags = flags(arguments)?;
    for (program, package) in NEEDS {
        images::find(program, package)?;
    }
    let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    ensure!(cores >= 2, "needs two cores: one for the server, one for the load");
    let binaries =
        if flags.build { images::static_binaries(&flags.profile)? } else { images::binaries_folder(&flags.profile)? };
    let folder = Folder::new()?;
    let origin = Server::origin(&binaries)?;
    let edge = Server::edge(&binaries, &origin, &folder.0)?;
    // As people write it, and with its files kept open, which they rarely do and which is nginx at its best.
    let nginx = Server::nginx("nginx", "", &origin, &folder.0)?;
    let tuned = Server::nginx("nginx-open", "open_file_cache max=1000;", &origin, &folder.0)?;
    let servers = [edge, nginx, tuned];
    let before = warm(&servers, &origin)?;
    let mut rounds = Vec::new();
    for round in 1..=flags.rounds {
        let mut figures = Vec::new();
        for server in &servers {
            let figure = load(server, Duration::from_secs(flags.seconds))?;
            if !flags.json {
                let Figure { rate, cpu_us } = figure;
                println!("round {round}  {:10} {rate:8.0} requests/s  {cpu_us:6.2} µs of CPU a request", server.name);
            }
            figures.push(figure);
        }
        rounds.push(figures);
    }
    ensure!(origin.served(PATH)? == before, "some of it was no hit: the origin was asked while it was measured");
    Report::new(servers.iter().map(|server| server.name).collect(), rounds).print(flags.json)
}

fn flags(arguments: &[String]) -> Result<Flags> {
    let mut flags = Flags { rounds: 5, seconds: 5, json: false, build: true, profile: "release".into() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{argument} takes a value"));
        match argument.as_str() {
            "--no-build" => flags.build = false,
            "--json" => flags.json = true,
            "--rounds" => flags.rounds = value()?.parse().context("--rounds takes a number")?,
            "--seconds" => flags.seconds = value()?.parse().context("--seconds takes a number")?,
            "--profile" => flags.profile.clone_from(value()?),
            other => bail!("takes --rounds N, --seconds N, --json, --no-build, --profile NAME; not {other:?}"),
        }
    }
    ensure!(flags.rounds > 0 && flags.seconds > 0, "at least one round of a second");
    Ok(flags)
}

/// On tmpfs where there is one, so that no disk is measured; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("perigee-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// Makes it a hit at each server and holds each to the origin's bytes. Gives how often the origin was asked.
fn warm(servers: &[Server], origin: &Server) -> Result<u64> {
    let right = origin.body_hash(PATH)?;
    for server in servers {
        for _ in 0..2 {
            let got = server.body_hash(PATH)?;
            ensure!(got == right, "{} answers other bytes than the origin", server.name);
        }
        load(server, WARM_UP)?;
    }
    origin.served(PATH)
}

/// One server's figures of one round.
#[derive(Clone, Copy, Debug)]
struct Figure {
    /// Requests a second.
    rate: f64,
    /// Of all the server's processes, user and system, per request.
    cpu_us: f64,
}

fn load(server: &Server, time: Duration) -> Result<Figure> {
    server.truncate_log()?;
    let duration = format!("{}s", time.as_secs());
    let url = server.url(PATH);
    let wrk =
        ["--cpu-list", LOAD_CORE, "wrk", "--threads", "1", "--connections", CONNECTIONS, "--duration", &duration, &url];
    let (cpu, from) = (server.cpu()?, Instant::now());
    let told = output(Command::new("taskset").args(wrk))?;
    let (cpu, took) = (server.cpu()?.saturating_sub(cpu), from.elapsed());
    for bad in ["Non-2xx", "Socket errors"] {
        ensure!(!told.contains(bad), "{}: wrk complains\n{told}", server.name);
    }
    let requests = requests(&told).with_context(|| format!("wrk prints no count\n{told}"))?;
    Ok(Figure { rate: requests / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / requests })
}

/// Of `  171234 requests in 5.00s, 200.00MB read`.
fn requests(told: &str) -> Option<f64> {
    let line = told.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok().filter(|count| *count > 0.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_wrk_tells() {
        let told = "Running 5s test\n  1 threads and 64 connections\n  171234 requests in 5.00s, 200.00MB read\nRequests/sec:  34";
        assert_eq!(super::requests(told), Some(171_234.0));
        assert_eq!(super::requests("  0 requests in 5.00s, 0.00B read"), None);
        assert_eq!(super::requests("unable to connect"), None);
    }
}
