//! Figures of the edge alone, for `docs/benchmarks.md`: misses, fills to disk, restart, and what an object costs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use perigee_tests::{client::Client, origin::Origin};

use super::{
    Folder, binaries,
    load::{self, Paths},
    prepare,
    server::{Server, Setup},
};

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let (mut quick, mut build) = (false, true);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => quick = true,
            "--no-build" => build = false,
            other => bail!("there is no flag {other:?}\n\n{}", super::HELP),
        }
    }
    prepare()?;
    let binaries = binaries(build)?;
    let folder = Folder::on_disk()?;
    let origin = Origin::start(Box::new(|_, _| None))?;
    let setup = Setup { origin: origin.address(), folder: folder.0.clone(), memory_mib: 512, disk_mib: 4096 };
    let time = Duration::from_secs(if quick { 2 } else { 10 });

    let edge = Server::edge(&binaries, &setup)?;
    let figure = load::wrk(&edge, Paths::Unique(1024), 64, time, &folder.0)?;
    println!("misses of 1 KiB, stored to disk   {:.0} a second, {:.1} µs of CPU each", figure.rate, figure.cpu_us);

    let large: Vec<String> = (0..if quick { 64 } else { 1024 }).map(|n| format!("/b/1048576/fill-{n}")).collect();
    let from = Instant::now();
    load::warm(&edge, &large)?;
    let rate = large.len() as f64 / from.elapsed().as_secs_f64();
    println!("fills of 1 MiB, stored to disk    {rate:.0} MiB a second");

    // A crash, not a drain: what is on the disk is what was written by itself.
    let path = large.last().context("there are some")?;
    thread::sleep(Duration::from_secs(2));
    edge.kill()?;
    let from = Instant::now();
    let edge = Server::edge(&binaries, &setup)?;
    let listening = from.elapsed();
    let mut client = Client::new(edge.address, "bench");
    let answer = client.ask("GET", path, "", "").map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    let members = answer.field("cache-status").unwrap_or_default().to_owned();
    println!(
        "killed, started                   listens after {} ms, first answer after {} ms: {members}",
        listening.as_millis(),
        from.elapsed().as_millis()
    );
    ensure!(members.contains("; hit"), "what was on disk is not served after a crash");
    drop(edge);

    for count in if quick { vec![20_000] } else { vec![100_000, 1_000_000] } {
        objects(&binaries, &setup, count)?;
    }
    Ok(())
}

/// Resident memory for so many objects of 1 KiB, in memory alone.
fn objects(binaries: &std::path::Path, setup: &Setup, count: u64) -> Result<()> {
    const BODY_BYTES: u64 = 1024;
    let memory_mib = ((count * 4096) >> 20).max(256);
    let edge = Server::edge(binaries, &Setup { memory_mib, disk_mib: 0, ..setup.clone() })?;
    load::warm(&edge, &Paths::Even(BODY_BYTES, 100).all())?;
    let (empty, _) = edge.resident();
    let all = Paths::Even(BODY_BYTES, count).all();
    load::warm(&edge, &all)?;
    let (full, peak) = edge.resident();
    // All of them are hits: else fewer are there than are counted.
    let mut client = Client::new(edge.address, "bench");
    let mut hits = 0;
    for path in all.iter().step_by(997) {
        let answer = client.ask("GET", path, "", "").map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
        hits += u64::from(answer.field("cache-status").unwrap_or_default().contains("; hit"));
    }
    let asked = all.len().div_ceil(997) as u64;
    let each = (full.saturating_sub(empty)) as f64 / count as f64;
    println!(
        "{count} objects of 1 KiB          {} MiB resident (peak {}), {each:.0} bytes an object, {:.0} of them beside the body; {hits} of {asked} are hits",
        full >> 20,
        peak >> 20,
        each - BODY_BYTES as f64
    );
    Ok(())
}
