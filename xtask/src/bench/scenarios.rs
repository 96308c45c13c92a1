//! What is measured, and what is to be reached: the table of `docs/benchmarks.md`.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use perigee_tests::origin::Origin;

use super::{
    Folder, binaries,
    load::{self, Figure, Paths},
    number,
    peers::{self, PEERS, Peer},
    prepare,
    report::{Bar, Report, Table},
    server::{Server, Setup},
};

const WARM_UP: Duration = Duration::from_secs(1);
const CONNECTIONS: u64 = 64;
const GIB: u64 = 1 << 30;

struct Scenario {
    name: &'static str,
    what: &'static str,
    memory_mib: u64,
    disk_mib: u64,
    /// Whether files lie on a disk, not in tmpfs.
    on_disk: bool,
    /// Peers that cannot do it.
    without: &'static [&'static str],
    /// CPU of a peer's request over ours, at least.
    bars: &'static [(&'static str, f64)],
    kind: Kind,
}

enum Kind {
    /// wrk, after everything was fetched once.
    Hits(Paths),
    /// wrk, nothing twice.
    Misses(u64),
    Burst,
    Idle,
    Gibibyte,
}

const HOT: &str = "/b/1024/hot";

const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "hot-1k",
        what: "hit of 1 KiB, keep-alive, 64 connections",
        memory_mib: 512,
        disk_mib: 0,
        on_disk: false,
        without: &[],
        bars: &[("haproxy", 1.0), ("nginx", 1.7), ("varnish", 2.0), ("ats", 2.0)],
        kind: Kind::Hits(Paths::One(HOT)),
    },
    Scenario {
        name: "zipf",
        what: "hits of 1 KiB among 50,000 objects by Zipf's law",
        memory_mib: 512,
        disk_mib: 0,
        on_disk: false,
        without: &[],
        bars: &[("haproxy", 1.0), ("nginx", 1.3), ("varnish", 1.7), ("ats", 1.7)],
        kind: Kind::Hits(Paths::Zipf(1024, 50_000)),
    },
    Scenario {
        name: "hot-100k",
        what: "hit of 100 KiB",
        memory_mib: 512,
        disk_mib: 0,
        on_disk: false,
        without: &[],
        bars: &[("haproxy", 1.0), ("varnish", 1.0), ("ats", 1.0), ("nginx", 1.0 / 1.3)],
        kind: Kind::Hits(Paths::One("/b/102400/hot")),
    },
    Scenario {
        name: "hot-1m",
        what: "hit of 1 MiB",
        memory_mib: 512,
        disk_mib: 0,
        on_disk: false,
        without: &[],
        bars: &[("haproxy", 1.0), ("varnish", 1.0), ("ats", 1.0), ("nginx", 0.5)],
        kind: Kind::Hits(Paths::One("/b/1048576/hot")),
    },
    Scenario {
        name: "miss",
        what: "miss of 1 KiB, never one twice, stored on tmpfs as a disk (HAProxy and Varnish: in memory)",
        memory_mib: 256,
        disk_mib: 2048,
        on_disk: false,
        without: &[],
        bars: &[("nginx", 1.5)],
        kind: Kind::Misses(1024),
    },
    Scenario {
        name: "disk",
        what: "hits among 12,800 objects of 64 KiB (0.8 GB) with 320 MiB of memory",
        memory_mib: 320,
        disk_mib: 2048,
        on_disk: true,
        without: &["haproxy"],
        bars: &[("nginx", 1.2), ("varnish", 1.2), ("ats", 1.2)],
        kind: Kind::Hits(Paths::Even(65_536, 12_800)),
    },
    Scenario {
        name: "burst",
        what: "500 at once on one cold object that takes 1 s",
        memory_mib: 512,
        disk_mib: 0,
        on_disk: false,
        without: &[],
        bars: &[],
        kind: Kind::Burst,
    },
    Scenario {
        name: "idle",
        what: "5,000 idle connections",
        memory_mib: 512,
        disk_mib: 0,
        on_disk: false,
        without: &[],
        bars: &[],
        kind: Kind::Idle,
    },
    Scenario {
        name: "gibibyte",
        what: "one hot object of 1 GiB, with 512 MiB of memory (Varnish: 3 GiB)",
        memory_mib: 512,
        disk_mib: 4096,
        on_disk: false,
        without: &["haproxy", "nginx-open"],
        bars: &[],
        kind: Kind::Gibibyte,
    },
];

struct Flags {
    scenarios: Vec<String>,
    peers: Vec<String>,
    rounds: u64,
    seconds: u64,
    json: bool,
    build: bool,
}

fn flags(arguments: &[String]) -> Result<Flags> {
    let mut flags = Flags { scenarios: Vec::new(), peers: Vec::new(), rounds: 5, seconds: 5, json: false, build: true };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--scenario" => flags.scenarios.push(rest.next().context("--scenario takes a name")?.clone()),
            "--peers" => flags.peers.extend(rest.next().context("--peers takes names")?.split(',').map(str::to_owned)),
            "--rounds" => flags.rounds = number("--rounds", &mut rest)?,
            "--seconds" => flags.seconds = number("--seconds", &mut rest)?,
            "--quick" => (flags.rounds, flags.seconds) = (2, 2),
            "--json" => flags.json = true,
            "--no-build" => flags.build = false,
            other => bail!("there is no flag {other:?}\n\n{}", super::HELP),
        }
    }
    ensure!(flags.rounds > 0 && flags.seconds > 0, "at least one round of a second");
    for name in &flags.scenarios {
        let all: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        ensure!(all.contains(&name.as_str()), "there is no scenario {name:?}; there are {}", all.join(", "));
    }
    for name in &flags.peers {
        ensure!(PEERS.iter().any(|peer| peer.name == name), "there is no peer {name:?}");
    }
    Ok(flags)
}

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let flags = flags(arguments)?;
    prepare()?;
    for program in ["wrk", "taskset"] {
        ensure!(peers::present(program), "{program} is not installed (Debian: wrk, util-linux)");
    }
    let mut skipped = Vec::new();
    let wanted = |peer: &&Peer| flags.peers.is_empty() || flags.peers.iter().any(|name| name == peer.name);
    let mut present: Vec<&Peer> = Vec::new();
    for peer in PEERS.iter().filter(wanted) {
        match peer.make_present() {
            Ok(()) => present.push(peer),
            Err(reason) => skipped.push(format!("{}: {reason:#}", peer.name)),
        }
    }
    let binaries = binaries(flags.build)?;
    let mut report = Report::default();
    for scenario in &SCENARIOS {
        if !flags.scenarios.is_empty() && !flags.scenarios.iter().any(|name| name == scenario.name) {
            continue;
        }
        let table = one(scenario, &binaries, &present, &flags, &mut skipped)?;
        if !flags.json {
            table.print();
        }
        report.tables.push(table);
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        println!("\nskipped: {}", skipped.len());
        skipped.iter().for_each(|reason| println!("  {reason}"));
    }
    Ok(())
}

fn one(
    scenario: &Scenario,
    binaries: &Path,
    peers: &[&Peer],
    flags: &Flags,
    skipped: &mut Vec<String>,
) -> Result<Table> {
    let folder = if scenario.on_disk { Folder::on_disk()? } else { Folder::in_memory()? };
    let origin = Origin::start(Box::new(|_, _| None))?;
    let Scenario { memory_mib, disk_mib, .. } = *scenario;
    let mut setup = Setup { origin: origin.address(), folder: folder.0.clone(), memory_mib, disk_mib };
    let mut servers = vec![Server::edge(binaries, &setup)?];
    for peer in peers.iter().filter(|peer| !scenario.without.contains(&peer.name)) {
        // Those that must hold it all in memory.
        setup.memory_mib = if matches!(scenario.kind, Kind::Gibibyte | Kind::Misses(_)) { 3072 } else { memory_mib };
        setup.disk_mib = if peer.name == "varnish" && !scenario.on_disk { 0 } else { disk_mib };
        let answers = |server: Server| load::warm(&server, &["/b/16/probe".to_owned()]).map(|()| server);
        match peer.start(&setup).and_then(answers) {
            Ok(server) => servers.push(server),
            Err(reason) => skipped.push(format!("{} in {}: {reason:#}", peer.name, scenario.name)),
        }
    }
    let bench = Bench { scenario, servers, origin, folder: &folder.0, flags };
    match scenario.kind {
        Kind::Hits(paths) => bench.rates(paths),
        Kind::Misses(size) => bench.rates(Paths::Unique(size)),
        Kind::Burst => bench.burst(),
        Kind::Idle => bench.idle(),
        Kind::Gibibyte => bench.gibibyte(),
    }
}

struct Bench<'a> {
    scenario: &'a Scenario,
    servers: Vec<Server>,
    origin: Origin,
    folder: &'a Path,
    flags: &'a Flags,
}

impl Bench<'_> {
    fn table(&self) -> Table {
        Table::new(self.scenario.name, self.scenario.what, self.servers.iter().map(|server| server.name).collect())
    }

    fn load(&self, server: &Server, paths: Paths, time: Duration) -> Result<Figure> {
        load::wrk(server, paths, CONNECTIONS, time, self.folder)
    }

    fn told(&self, server: &Server, round: u64, text: &str) {
        if !self.flags.json {
            println!("{} round {round}  {:10} {text}", self.scenario.name, server.name);
        }
    }

    /// CPU a request of every server, in turns.
    fn rates(&self, paths: Paths) -> Result<Table> {
        for server in &self.servers {
            load::warm(server, &paths.all()).with_context(|| format!("{} does not warm up", server.name))?;
            // Twice: what is admitted at the second hit only is there then.
            load::warm(server, &paths.all()).with_context(|| format!("{} does not warm up again", server.name))?;
            self.load(server, paths, WARM_UP)?;
        }
        let before = self.origin.requests();
        let mut table = self.table();
        for round in 1..=self.flags.rounds {
            let mut figures = Vec::new();
            for server in &self.servers {
                let figure = self.load(server, paths, Duration::from_secs(self.flags.seconds))?;
                let Figure { rate, cpu_us, p99_us } = figure;
                let text = format!("{rate:8.0} requests/s  {cpu_us:7.2} µs of CPU a request  p99 {p99_us:6.0} µs");
                self.told(server, round, &text);
                figures.push(figure);
            }
            table.rounds.push(figures);
        }
        if matches!(self.scenario.kind, Kind::Hits(_)) {
            let asked = self.origin.requests() - before;
            table.notes.push(format!("the origin was asked {asked} times meanwhile"));
        }
        table.bars = self.scenario.bars.iter().map(|(peer, ratio)| Bar::Cpu { peer, ratio: *ratio }).collect();
        Ok(table)
    }

    fn burst(&self) -> Result<Table> {
        let mut table = self.table();
        for round in 1..=self.flags.rounds {
            for server in &self.servers {
                let path = format!("/slow/1000/102400/{}-{round}", server.name);
                let took = load::burst(server, &path, 500)?;
                let fetches = self.origin.requests_to(&path);
                self.told(
                    server,
                    round,
                    &format!("the last had it after {:.3} s, {fetches} fetches", took.as_secs_f64()),
                );
                table.values.push((server.name, "last byte, s", took.as_secs_f64()));
                table.values.push((server.name, "fetches", fetches as f64));
            }
        }
        table.bars = vec![Bar::AtMost("last byte, s", 1.05), Bar::AtMost("fetches", 1.0)];
        Ok(table)
    }

    fn idle(&self) -> Result<Table> {
        const COUNT: usize = 5000;
        let time = Duration::from_secs(self.flags.seconds);
        let mut table = self.table();
        for server in &self.servers {
            let paths = Paths::One(HOT);
            self.load(server, paths, WARM_UP)?;
            let before = self.load(server, paths, time)?;
            let (resident, _) = server.resident();
            let open = load::idle(server, HOT, COUNT)?;
            // What a server lets go of while a connection rests is gone by then.
            thread::sleep(WARM_UP * 3);
            let grown = server.resident().0.saturating_sub(resident);
            let beside = self.load(server, paths, time)?;
            drop(open);
            thread::sleep(WARM_UP);
            let after = self.load(server, paths, time)?;
            let each = grown as f64 / COUNT as f64 / 1024.0;
            // Between before and after, so that a drift of the machine does not count.
            let slower = beside.cpu_us / f64::midpoint(before.cpu_us, after.cpu_us);
            self.told(server, 1, &format!("{each:.1} KiB each, CPU of a hit beside them × {slower:.3}"));
            table.values.push((server.name, "KiB each", each));
            table.values.push((server.name, "CPU of a hit, ×", slower));
        }
        table.bars = vec![Bar::AtMost("KiB each", 12.0), Bar::AtMost("CPU of a hit, ×", 1.05)];
        Ok(table)
    }

    fn gibibyte(&self) -> Result<Table> {
        let path = format!("/b/{GIB}/big");
        let mut table = self.table();
        for server in &self.servers {
            load::download(server, &path, GIB)?;
            // What is stored behind the client's back is stored by then.
            thread::sleep(WARM_UP);
        }
        let asked = self.origin.requests();
        for round in 1..=self.flags.rounds {
            for server in &self.servers {
                let (cpu, from) = (server.cpu()?, Instant::now());
                let took = load::download(server, &path, GIB)?;
                let (cpu, all) = (server.cpu()?.saturating_sub(cpu), from.elapsed());
                ensure!(took <= all, "time runs forward");
                let rate = 1.0 / took.as_secs_f64();
                let peak = server.resident().1 >> 20;
                self.told(
                    server,
                    round,
                    &format!("{rate:.2} GiB/s, {:.3} s of CPU, peak {peak} MiB", cpu.as_secs_f64()),
                );
                table.values.push((server.name, "GiB/s", rate));
                table.values.push((server.name, "CPU s", cpu.as_secs_f64()));
                table.values.push((server.name, "peak RSS, MiB", peak as f64));
            }
        }
        table.notes.push(format!("the origin was asked {} times meanwhile", self.origin.requests() - asked));
        table.bars =
            vec![Bar::AsPeer("GiB/s", "varnish"), Bar::AtMost("peak RSS, MiB", self.scenario.memory_mib as f64 + 64.0)];
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_name_peers() {
        for scenario in &SCENARIOS {
            for (peer, _) in scenario.bars {
                assert!(PEERS.iter().any(|known| known.name == *peer), "{}: {peer}", scenario.name);
                assert!(!scenario.without.contains(peer), "{}: {peer}", scenario.name);
            }
        }
        assert!(flags(&["--scenario".to_owned(), "none".to_owned()]).is_err());
        assert!(flags(&["--rounds".to_owned(), "0".to_owned()]).is_err());
        assert_eq!(flags(&["--quick".to_owned()]).unwrap().rounds, 2);
    }
}
