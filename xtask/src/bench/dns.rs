//! `cargo xtask bench dns`: our nameserver and others on one zone, one core for the server and one for the load, in turns.
//!
//! Every server steers `www.cdn.example` by the same GeoLite2-City: ours and gdnsd by distance, Knot by country, which is
//! what it can. BIND, which cannot, stands for what DNS over TLS and HTTPS costs elsewhere.

mod load;
mod peers;
mod reload;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use self::{
    load::{Queries, Window},
    peers::{PEERS, Peer, Setup},
};
use super::{
    Folder,
    load::Figure,
    number, prepare,
    report::{Bar, Report, Table},
    server::Server,
};
use crate::run::{cargo, root, succeed};

const WARM_UP: Duration = Duration::from_millis(500);
/// The name that is steered, in the zone `cdn.example`.
const SITE: &str = "www.cdn.example";
const ZONE: &str = "cdn.example";
/// Queries a second at which answers' delays are compared.
const PACED_RATE: u32 = 20_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Datagrams by our own load, as many as the server takes.
    Udp(Queries),
    /// Datagrams at [`PACED_RATE`].
    Paced,
    /// By dnsperf, over streams: the transport, and how many queries are under way on 20 connections.
    Stream(&'static str, u32),
    /// By h2load: so many streams of each of 20 connections.
    Https(u32),
    /// Our own nameserver with signatures, against itself without.
    Signed,
    /// From the start of the process to its first answer, and what it holds then.
    Start,
    /// Document and database replaced while queries arrive.
    Reload,
}

struct Scenario {
    name: &'static str,
    what: &'static str,
    peers: &'static [&'static str],
    /// CPU of a peer's answer over ours, at least.
    bars: &'static [(&'static str, f64)],
    kind: Kind,
}

const GEO_PEERS: &[&str] = &["gdnsd", "knot"];

const SCENARIOS: [Scenario; 11] = [
    Scenario {
        name: "one",
        what: "UDP, one steered name, 200 queries under way",
        peers: GEO_PEERS,
        bars: &[("gdnsd", 1.0), ("knot", 1.0)],
        kind: Kind::Udp(Queries::One),
    },
    Scenario {
        name: "ecs",
        what: "UDP, one steered name, each query of a random /24 by client subnet",
        peers: GEO_PEERS,
        bars: &[("gdnsd", 1.0)],
        kind: Kind::Udp(Queries::Subnets),
    },
    Scenario {
        name: "nxdomain",
        what: "UDP, random labels that are not there",
        peers: GEO_PEERS,
        bars: &[("gdnsd", 1.0)],
        kind: Kind::Udp(Queries::Random),
    },
    Scenario {
        name: "tcp",
        what: "TCP, one steered name, 20 connections, 200 queries under way, by dnsperf",
        peers: GEO_PEERS,
        bars: &[("gdnsd", 1.0)],
        kind: Kind::Stream("tcp", 200),
    },
    Scenario {
        name: "signed",
        what: "UDP, one steered name with DO, signed; against ourselves unsigned",
        peers: &[],
        bars: &[("unsigned", 1.0 / 1.3)],
        kind: Kind::Signed,
    },
    Scenario {
        name: "dot",
        what: "DNS over TLS, one name, 20 kept connections, 100 queries under way, by dnsperf",
        peers: &["bind"],
        bars: &[("bind", 2.0)],
        kind: Kind::Stream("dot", 100),
    },
    Scenario {
        name: "dot-1",
        what: "DNS over TLS, one name, 20 kept connections, one query of each under way, by dnsperf",
        peers: &["bind"],
        bars: &[("bind", 2.0)],
        kind: Kind::Stream("dot", 20),
    },
    Scenario {
        name: "doh",
        what: "DNS over HTTPS (HTTP/2, POST), one name, 20 kept connections, 5 streams each, by h2load",
        peers: &["bind"],
        bars: &[("bind", 2.0)],
        kind: Kind::Https(5),
    },
    Scenario {
        name: "delay",
        what: "UDP, 20,000 queries a second, each of a random /24",
        peers: GEO_PEERS,
        bars: &[],
        kind: Kind::Paced,
    },
    Scenario {
        name: "start",
        what: "from the start of the process to its first answer, with the City file",
        peers: GEO_PEERS,
        bars: &[],
        kind: Kind::Start,
    },
    Scenario {
        name: "reload",
        what: "document and database replaced four times, 10,000 queries a second",
        peers: &[],
        bars: &[],
        kind: Kind::Reload,
    },
];

struct Flags {
    scenarios: Vec<String>,
    peers: Option<Vec<String>>,
    rounds: u64,
    seconds: u64,
    json: bool,
    build: bool,
}

impl Flags {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut flags = Self { scenarios: Vec::new(), peers: None, rounds: 5, seconds: 4, json: false, build: true };
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            match flag.as_str() {
                "--scenario" => flags.scenarios.push(rest.next().context("--scenario takes a name")?.clone()),
                "--peers" => {
                    let names = rest.next().context("--peers takes names")?;
                    flags.peers = Some(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect());
                }
                "--rounds" => flags.rounds = number(flag, &mut rest)?.max(1),
                "--seconds" => flags.seconds = number(flag, &mut rest)?.max(1),
                "--quick" => (flags.rounds, flags.seconds) = (1, 1),
                "--json" => flags.json = true,
                "--no-build" => flags.build = false,
                other => bail!("there is no {other:?}\n\n{}", super::HELP),
            }
        }
        let known = SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        if let Some(unknown) = flags.scenarios.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("there is no scenario {unknown:?}; there are {}", known.join(", "));
        }
        Ok(flags)
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario.name)
    }

    fn wants_peer(&self, peer: &Peer) -> bool {
        self.peers.as_ref().is_none_or(|names| names.iter().any(|name| name == peer.name))
    }
}

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let flags = Flags::parse(arguments)?;
    prepare()?;
    let binaries = binaries(flags.build)?;
    let database = root().join(".geo/GeoLite2-City.mmdb");
    ensure!(database.is_file(), "{} is not there: run `cargo xtask geo`", database.display());
    let folder = Folder::in_memory()?;
    let setup = Setup::new(folder.0.clone(), database, &binaries)?;
    let mut present = Vec::new();
    for peer in PEERS.iter().filter(|peer| flags.wants_peer(peer)) {
        match peer.make_present() {
            Ok(()) => present.push(peer),
            Err(error) => println!("without {}: {error:#}", peer.name),
        }
    }
    let mut report = Report::default();
    for scenario in SCENARIOS.iter().filter(|scenario| flags.wants(scenario)) {
        let peers: Vec<&Peer> = present.iter().copied().filter(|peer| scenario.peers.contains(&peer.name)).collect();
        let table = measure(scenario, &flags, &setup, &peers).with_context(|| format!("scenario {}", scenario.name))?;
        table.print();
        report.tables.push(table);
    }
    if flags.json {
        println!("{}", report.json());
    }
    Ok(())
}

fn binaries(build: bool) -> Result<PathBuf> {
    if build {
        eprintln!("build   perigee-geodns and perigee, profile release (the first time takes minutes)");
        succeed(cargo().args(["build", "--release", "--package", "perigee-geodns", "--package", "perigee-cli"]))?;
    }
    super::binaries(false)
}

fn measure(scenario: &Scenario, flags: &Flags, setup: &Setup, peers: &[&Peer]) -> Result<Table> {
    let mut servers = vec!["perigee"];
    servers.extend(peers.iter().map(|peer| peer.name));
    if scenario.kind == Kind::Signed {
        servers.push("unsigned");
    }
    let mut table = Table::new(scenario.name, scenario.what, servers);
    table.bars = scenario.bars.iter().map(|(peer, ratio)| Bar::Cpu { peer, ratio: *ratio }).collect();
    if matches!(scenario.kind, Kind::Stream(..) | Kind::Https(_)) {
        table.delay = "mean";
    }
    let time = Duration::from_secs(flags.seconds);
    for round in 1..=flags.rounds {
        eprintln!("{} {round} of {}", scenario.name, flags.rounds);
        match scenario.kind {
            Kind::Start => start(setup, peers, &mut table)?,
            Kind::Paced => paced(setup, peers, time, &mut table)?,
            Kind::Reload => reload::measure(setup, time, &mut table)?,
            Kind::Signed => {
                let signed = figure(&setup.ours(true)?, Kind::Udp(Queries::Signed), time, setup)?;
                let unsigned = figure(&setup.ours(false)?, Kind::Udp(Queries::Signed), time, setup)?;
                table.rounds.push(vec![signed, unsigned]);
            }
            kind => {
                let mut figures = vec![figure(&setup.ours(false)?, kind, time, setup)?];
                for peer in peers {
                    figures.push(figure(&peer.start(setup)?, kind, time, setup)?);
                }
                table.rounds.push(figures);
            }
        }
    }
    match scenario.kind {
        Kind::Start => {
            table.bars.extend([Bar::AtMost("seconds to the first answer", 0.3), Bar::AtMost("MB anonymous", 20.0)]);
        }
        Kind::Paced => table.bars.push(Bar::AtMostPeer("p99, µs", "gdnsd")),
        Kind::Reload => table.bars.extend([Bar::AtMost("queries lost", 0.0), Bar::AtMost("longest gap, ms", 50.0)]),
        _ => {}
    }
    Ok(table)
}

fn figure(server: &Server, kind: Kind, time: Duration, setup: &Setup) -> Result<Figure> {
    match kind {
        Kind::Stream(mode, queries) => load::dnsperf(server, (mode, queries), time, setup),
        Kind::Https(streams) => load::h2load(server, streams, time, setup),
        Kind::Udp(queries) => {
            let mut window = Window::new(server.address, queries)?;
            window.run(WARM_UP)?;
            let cpu = server.cpu()?;
            let ran = window.run(time)?;
            let cpu = server.cpu()?.saturating_sub(cpu);
            ensure!(ran.answers > 0, "{} answers nothing", server.name);
            Ok(Figure {
                rate: ran.answers as f64 / ran.took.as_secs_f64(),
                cpu_us: cpu.as_secs_f64() * 1e6 / ran.answers as f64,
                p99_us: ran.p99_us,
            })
        }
        _ => bail!("is no rate"),
    }
}

fn paced(setup: &Setup, peers: &[&Peer], time: Duration, table: &mut Table) -> Result<()> {
    let mut one = |server: &Server| -> Result<()> {
        load::paced(server.address, PACED_RATE, WARM_UP, || Ok(()))?;
        let ran = load::paced(server.address, PACED_RATE, time, || Ok(()))?;
        table.values.push((server.name, "p50, µs", ran.p50_us));
        table.values.push((server.name, "p99, µs", ran.p99_us));
        table.values.push((server.name, "queries lost", ran.lost as f64));
        Ok(())
    };
    one(&setup.ours(false)?)?;
    peers.iter().try_for_each(|peer| one(&peer.start(setup)?))
}

fn start(setup: &Setup, peers: &[&Peer], table: &mut Table) -> Result<()> {
    let mut one = |begin: &dyn Fn() -> Result<Server>| -> Result<()> {
        let from = std::time::Instant::now();
        let server = begin()?;
        load::first_answer(server.address)?;
        table.values.push((server.name, "seconds to the first answer", from.elapsed().as_secs_f64()));
        // After some work, since what is read as it is needed, or made ahead, is not there at first.
        Window::new(server.address, Queries::Subnets)?.run(Duration::from_secs(12))?;
        table.values.push((server.name, "MB anonymous", server.anonymous() as f64 / 1e6));
        Ok(())
    };
    one(&|| setup.ours_at_once(false))?;
    peers.iter().try_for_each(|peer| one(&|| peer.start(setup)))
}
