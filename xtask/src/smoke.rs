//! `cargo xtask smoke`: the world of `deploy/compose.yaml` shown to work, region by region, and taken down again.

mod fetch;
mod page;
mod world;

use std::{
    fmt::Display,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use self::{
    fetch::{Fetched, fetch, fetch_all, origin_counts, origin_hash},
    world::{Region, World},
};
use crate::{
    docker, images,
    run::{output, succeed},
    up,
};

/// The same bytes for everybody, whoever asks.
const PICTURE: &str = "/pictures/map.svg";
/// What a container takes from `docker start` until it can answer, on a busy machine.
const START_BOUND: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(250);

struct Flags {
    keep: bool,
    skip_if_absent: bool,
    images: bool,
    distance: bool,
    profile: String,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let flags = flags(arguments)?;
    if let Err(absent) = docker::require() {
        let continuous = std::env::var("CI").is_ok_and(|value| value == "true");
        if flags.skip_if_absent && !continuous {
            println!("SKIP: smoke: {absent:#}");
            return Ok(());
        }
        return Err(absent);
    }
    let world = World::read()?;
    if flags.images {
        images::build(&flags.profile)?;
    }
    // What an earlier run left would be hits where misses must be.
    up::stop(true)?;
    let result = up::start(flags.distance).and_then(|()| show(&world, flags.distance));
    if flags.keep {
        println!("kept: see deploy/; cargo xtask down --volumes ends it");
        return result;
    }
    let stopped = up::stop(true);
    result.and(stopped)
}

fn flags(arguments: &[String]) -> Result<Flags> {
    let keep = std::env::var("KEEP").is_ok_and(|value| !value.is_empty() && value != "0");
    let mut flags = Flags {
        keep,
        skip_if_absent: false,
        images: true,
        distance: up::distance_by_environment(),
        profile: "release".into(),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--keep" => flags.keep = true,
            "--skip-if-absent" => flags.skip_if_absent = true,
            "--no-images" => flags.images = false,
            up::NO_DISTANCE => flags.distance = false,
            "--profile" => flags.profile = rest.next().context("--profile takes a name")?.clone(),
            other => bail!("takes --keep, --skip-if-absent, --no-images, --no-distance, --profile NAME; not {other:?}"),
        }
    }
    Ok(flags)
}

/// What was found; each failure is printed as it is found, and all are counted.
#[derive(Default)]
struct Findings {
    failed: usize,
}

impl Findings {
    fn check(&mut self, good: bool, what: impl Display) {
        println!("{} {what}", if good { "  ok    " } else { "  FAILED" });
        self.failed += usize::from(!good);
    }
}

fn show(world: &World, distance: bool) -> Result<()> {
    let mut findings = Findings::default();
    names(world, &mut findings)?;
    once_per_shield(world, &mut findings)?;
    let hash = miss_then_hit(world, &mut findings)?;
    from_outside(world, &hash, &mut findings)?;
    page::show(world, &mut findings)?;
    how_far(world, distance, &mut findings)?;
    fail_over(world, &hash, &mut findings)?;
    ensure!(findings.failed == 0, "{} checks failed", findings.failed);
    println!("\nsmoke: every check passed");
    Ok(())
}

fn names(world: &World, findings: &mut Findings) -> Result<()> {
    println!("\nnames: each region's client asks each nameserver, by UDP and TCP, from its own address");
    let from = Instant::now();
    for region in &world.regions {
        // Healthy is not yet probed: on a busy machine an edge may still have to rise.
        let bound = region.interval * (region.rise + region.fall) + world.ttl;
        let (good, answers) = loop {
            let mut answers = Vec::new();
            for server in &region.nameservers {
                answers.push(dig(world, region, server, "+notcp")?);
                answers.push(dig(world, region, server, "+tcp")?);
            }
            let good = answers.iter().all(|answer| *answer == region.edge);
            if good || from.elapsed() > bound {
                break (good, answers);
            }
            thread::sleep(POLL);
        };
        findings.check(good, format_args!("{:4} {:14} {}", region.pop, region.edge, answers.join(" ")));
    }
    Ok(())
}

fn dig(world: &World, region: &Region, server: &str, transport: &str) -> Result<String> {
    let line = format!("dig +short +tries=2 +time=2 {transport} @{server} {}", world.site);
    // A nameserver that does not answer is a finding, not the end: dig says so on its standard output.
    Ok(docker::shell(&region.client, &format!("{line} || true"))?.split_whitespace().collect::<Vec<_>>().join(","))
}

/// All regions at once for an object that takes the origin a second: what misses at eight edges is two requests there.
fn once_per_shield(world: &World, findings: &mut Findings) -> Result<()> {
    let path = "/slow/smoke";
    println!("\ncoalescing: every region asks at once for {path}, cold everywhere");
    let fetched = fetch_all(world, path)?;
    table(world, &fetched, findings, |fetched| fetched.status == 200 && !fetched.edge_hit());
    for shield in &world.shields {
        let asked = fetched.iter().filter(|fetched| fetched.asked_upstream(shield)).count();
        findings.check(asked == 1, format_args!("{shield} asked the origin for {asked} of its edges' misses"));
    }
    let counts = origin_counts(world)?;
    let count = counts.get(path).copied().unwrap_or_default();
    let good = count == world.shields.len() as u64;
    findings.check(good, format_args!("the origin was asked {count} times by {} shields", world.shields.len()));
    same(&fetched, findings);
    Ok(())
}

/// The hash of the origin's own bytes.
fn miss_then_hit(world: &World, findings: &mut Findings) -> Result<String> {
    println!("\ncaching: every region asks for {PICTURE} twice");
    let before = origin_counts(world)?.get(PICTURE).copied().unwrap_or_default();
    let first = fetch_all(world, PICTURE)?;
    table(world, &first, findings, |fetched| fetched.status == 200 && !fetched.edge_hit());
    let second = fetch_all(world, PICTURE)?;
    table(world, &second, findings, |fetched| fetched.status == 200 && fetched.edge_hit());
    let count = origin_counts(world)?.get(PICTURE).copied().unwrap_or_default() - before;
    let good = count == world.shields.len() as u64;
    findings.check(good, format_args!("the origin was asked {count} times by {} shields", world.shields.len()));
    let hash = origin_hash(world, PICTURE)?;
    same(first.iter().chain(&second).collect::<Vec<_>>().as_slice(), findings);
    let equal = first.iter().all(|fetched| fetched.hash == hash);
    findings.check(equal, format_args!("they are the origin's own: sha256 {hash}"));
    Ok(hash)
}

fn table(world: &World, fetched: &[Fetched], findings: &mut Findings, good: impl Fn(&Fetched) -> bool) {
    for (region, fetched) in world.regions.iter().zip(fetched) {
        let verdict = if fetched.edge_hit() { "HIT " } else { "MISS" };
        let right = good(fetched) && fetched.edge() == region.pop;
        findings.check(
            right,
            format_args!("{:4} {verdict} {}  {}", region.pop, fetched.status, fetched.cache_status.join(", ")),
        );
    }
}

fn same<T: std::borrow::Borrow<Fetched>>(fetched: &[T], findings: &mut Findings) {
    let mut hashes: Vec<&str> = fetched.iter().map(|fetched| fetched.borrow().hash.as_str()).collect();
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    findings.check(hashes.len() == 1, format_args!("{count} bodies, hashes: {}", hashes.len()));
}

/// Through the ports published on this machine.
fn from_outside(world: &World, hash: &str, findings: &mut Findings) -> Result<()> {
    println!("\nfrom outside: the ports published on 127.0.0.1");
    let answer = |extra: &[&str]| {
        let basic = ["+short", "+tries=2", "+time=2", "@127.0.0.1", "-p", "5300", &world.site];
        output(Command::new("dig").args(basic).args(extra)).map(|answer| answer.trim().to_owned())
    };
    for region in &world.regions {
        let subnet = format!("+subnet={}0/24", region.prefix);
        let got = answer(&[&subnet])?;
        findings.check(got == region.edge, format_args!("dig {subnet:24} {got}"));
    }
    let tcp = answer(&["+tcp"])?;
    findings.check(world.regions.iter().any(|region| region.edge == tcp), format_args!("dig +tcp {tcp}"));
    let host = format!("Host: {}", world.site);
    let url = format!("http://127.0.0.1:8080{PICTURE}");
    let line = format!("curl -sSf -H '{host}' {url} | sha256sum");
    let got = output(Command::new("sh").args(["-c", &line]))?;
    findings.check(got.split_whitespace().next() == Some(hash), format_args!("curl {url}"));
    Ok(())
}

/// From the last region to the first one's edge, which is told who asks, and takes as long as light does.
fn how_far(world: &World, distance: bool, findings: &mut Findings) -> Result<()> {
    let (Some(near), Some(far)) = (world.regions.first(), world.regions.last()) else { return Ok(()) };
    println!("\ndistance: {} asks {}'s edge over a new connection", far.client, near.pop);
    let url = format!("http://{}{PICTURE}?from={}", near.edge, far.pop);
    let line = format!("curl -sSf -o /dev/null -w '%{{time_total}}' -H 'Host: {}' '{url}'", world.site);
    let took: f64 = docker::shell(&far.client, &line)?.trim().parse().context("curl's time")?;
    if distance {
        // The handshake and the request, 16,500 km away.
        findings.check(took >= 0.49, format_args!("it took {took:.3} s; light in fibre takes 0.495 s"));
    } else {
        println!("        it took {took:.3} s");
    }
    how_far_is_dns(world, distance, findings)?;
    let edge = docker::id(&format!("edge-{}", near.pop))?;
    let (client, from) = (format!("\"{}20\"", far.prefix), Instant::now());
    let told = loop {
        // Lines are written within half a second.
        let logs = output(Command::new("docker").args(["logs", "--tail", "50", &edge]))?;
        let told = logs.lines().any(|line| line.contains(&format!("?from={}", far.pop)) && line.contains(&client));
        if told || from.elapsed() > START_BOUND {
            break told;
        }
        thread::sleep(POLL);
    };
    findings.check(told, format_args!("its access log names the client: {client}"));
    Ok(())
}

/// Nameservers are as near as the nearest city: 424 km for the clients of Germany, who are in Berlin.
fn how_far_is_dns(world: &World, distance: bool, findings: &mut Findings) -> Result<()> {
    let Some(region) = world.regions.iter().find(|region| region.pop == "fra") else { return Ok(()) };
    for server in &region.nameservers {
        let line = format!("dig -u +tries=2 +time=2 +noall +stats @{server} {}", world.site);
        let said = docker::shell(&region.client, &line)?;
        let took = said.lines().find_map(|line| line.strip_prefix(";; Query time: ")?.strip_suffix(" usec"));
        let took: u64 = took.with_context(|| format!("dig tells no time: {said:?}"))?.parse().context("dig's time")?;
        if distance {
            let what = format!("{} asks {server}: {took} µs; light in fibre takes 7,360 µs", region.client);
            findings.check(took >= 7_300, what);
        } else {
            println!("        {} asks {server}: {took} µs", region.client);
        }
    }
    Ok(())
}

/// Stops the last region's edge, watches its clients move, and brings it back.
fn fail_over(world: &World, hash: &str, findings: &mut Findings) -> Result<()> {
    let region = world.regions.last().context("the document has no PoP")?;
    let edge = docker::id(&format!("edge-{}", region.pop))?;
    println!("\nfail-over: docker stop edge-{}", region.pop);
    succeed(Command::new("docker").args(["stop", &edge]).stdout(std::process::Stdio::null()))?;
    let probing = region.interval * (region.fall + 1) + region.timeout;
    moves(world, region, &region.next_edge, probing, "moved to", findings)?;
    let fetched = fetch(world, region, PICTURE)?;
    let good = fetched.status == 200 && fetched.hash == hash && fetched.edge() == region.next_pop;
    findings.check(good, format_args!("{}'s client fetches from {}: {}", region.pop, fetched.edge(), fetched.status));
    if let Some(other) = world.regions.first() {
        let answer = dig(world, other, &other.nameservers[0], "+notcp")?;
        findings.check(answer == other.edge, format_args!("{}'s clients stay at {answer}", other.pop));
    }
    println!("\nand back: docker start edge-{}", region.pop);
    succeed(Command::new("docker").args(["start", &edge]).stdout(std::process::Stdio::null()))?;
    let probing = START_BOUND + region.interval * (region.rise + 1) + region.timeout;
    moves(world, region, &region.edge, probing, "back at", findings)?;
    let fetched = fetch(world, region, PICTURE)?;
    let good = fetched.status == 200 && fetched.hash == hash && fetched.edge() == region.pop;
    findings.check(good, format_args!("{}'s client fetches from {}: {}", region.pop, fetched.edge(), fetched.status));
    Ok(())
}

/// Waits until every nameserver answers `edge` to the region's client; probing and TTL are the bound.
fn moves(
    world: &World,
    region: &Region,
    edge: &str,
    probing: Duration,
    verb: &str,
    findings: &mut Findings,
) -> Result<()> {
    let bound = probing + world.ttl;
    let from = Instant::now();
    loop {
        let answers: Vec<String> =
            region.nameservers.iter().map(|server| dig(world, region, server, "+notcp")).collect::<Result<_>>()?;
        let took = from.elapsed();
        if answers.iter().all(|answer| answer == edge) {
            let text = format!("{}'s clients {verb} {edge} after {took:.1?} (probes and TTL: {bound:.1?})", region.pop);
            findings.check(took <= bound, text);
            return Ok(());
        }
        if took > bound * 3 {
            findings.check(false, format_args!("{} is not {verb} {edge} after {took:.1?}: {answers:?}", region.pop));
            return Ok(());
        }
        thread::sleep(POLL);
    }
}
