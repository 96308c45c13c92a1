//! `perigee measure`: what a CDN gains, by fetching the same assets straight from the origin and through it, as clients of
//! several places; and what stands in its way. It works on any site and any CDN: nothing but HTTP and DNS is spoken.
//!
//! Deliberately absent: load. One fetch at a time and place tells what a client waits for; a flood would tell what a server
//! can do.

mod args;
mod assets;
mod crawl;
mod fetch;
mod figures;
mod findings;
mod lookup;
mod report;
mod run;
mod served;
mod svg;
mod target;
mod text;

use std::{
    io::{self, IsTerminal as _, Write},
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

pub(crate) use self::args::MeasureArgs;
use self::{
    assets::Inventory,
    fetch::Client,
    report::{PlaceReport, Report},
    run::{Place, Run, Seen},
    target::Target,
};

/// The most fetches of one run: what is kept of each is some hundred bytes.
const FETCHES_MAX: usize = 200_000;
const PROGRESS: Duration = Duration::from_millis(250);

/// Measures and reports; false when a fetch failed, or when it was interrupted.
pub(crate) async fn measure(args: &MeasureArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    args::check_places(args.from.len())?;
    let direct = Target::direct(&args.direct, args.direct_host.as_deref())?;
    let cdn = Target::cdn(&args.cdn, &direct)?;
    let places = Place::all(&args.from)?;
    check_told(args, &cdn, &places)?;
    if let Some(file) = &args.svg {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let is_there = folder.is_none_or(|folder| folder.is_dir()) && !file.is_dir();
        ensure!(is_there, "cannot write {}: there is no such folder, or it is one", file.display());
    }
    let client =
        Client::new(args.ca.as_deref(), args.http2, Duration::from_secs(args.timeout.into()), args.size_max.0)?;
    let origin = assets::resolve(&direct).await.context("--direct leads nowhere")?;
    let taken = assets::take(args, &client, (&direct, &cdn), origin).await;
    paint("");
    let Inventory { assets, origin, left_out } = taken?;
    let bust = if args.cache_bust { Some(bust()?) } else { None };
    let (end, stop) = watch::channel(false);
    let run = Run { args, client, direct, origin, cdn, assets, bust, done: AtomicUsize::new(0), stop };
    let all = run.fetches_per_place() * places.len();
    ensure!(
        all <= FETCHES_MAX,
        "that would be {all} fetches; one run makes at most {FETCHES_MAX} (see --assets-max, --repeat, --from)"
    );
    let seen = fetch_all(&run, &places, all, &end).await;
    paint("");
    let report = Report::new(run, left_out, places, seen);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        text::print(&report, out)?;
    }
    // After what was measured is told: a disk that is full takes nothing of that away.
    if let Some(file) = &args.svg {
        let is_fair = report.places.iter().all(PlaceReport::has_fair_dns);
        let without = if is_fair { "" } else { ", without DNS" };
        let title = format!("Milliseconds of a fetch over a new connection{without}: {} beside its origin", report.cdn);
        let plot = svg::svg(&title, &report.places);
        std::fs::write(file, plot).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.failed == 0 && !report.interrupted)
}

/// A place whose address is not ours is a word to a nameserver: without one it would be no place at all.
fn check_told(args: &MeasureArgs, cdn: &Target, places: &[Place]) -> anyhow::Result<()> {
    let Some(address) = places.iter().find(|place| !place.is_ours).and_then(|place| place.address) else {
        return Ok(());
    };
    let is_name = cdn.host.parse::<IpAddr>().is_err();
    ensure!(
        is_name,
        "--from {address} is no address of this machine, and --cdn is no name that a nameserver could be asked for"
    );
    ensure!(
        !args.nameserver.is_empty(),
        "--from {address} is no address of this machine; add --nameserver, the CDN's own, which is told of it"
    );
    Ok(())
}

async fn fetch_all(run: &Run<'_>, places: &[Place], all: usize, end: &watch::Sender<bool>) -> Vec<Seen> {
    let at_once = usize::from(run.args.at_once.get());
    let fetches = async {
        let one = |(index, place)| async move {
            let seen = run.place(index, place).await;
            if is_watched() {
                tell(&format!("{} is done: {} fetches, {} failed", place.name, seen.samples.len(), seen.failed));
            }
            seen
        };
        stream::iter(places.iter().enumerate()).map(one).buffered(at_once).collect().await
    };
    tokio::select! {
        seen = fetches => seen,
        () = progress(&run.done, all) => Vec::new(),
        () = interrupted(end) => Vec::new(),
    }
}

/// The first signal ends the run with what there is, the second one the process; never ends.
async fn interrupted(end: &watch::Sender<bool>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        end.send_replace(true);
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
    std::future::pending().await
}

fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Paints how far it is where somebody watches; never ends.
async fn progress(done: &AtomicUsize, all: usize) {
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        ticks.tick().await;
        paint(&format!("{} of {all} fetches", done.load(Ordering::Relaxed)));
    }
}

/// A line that the next one replaces, where somebody watches.
fn paint(line: &str) {
    if is_watched() {
        // Whoever has gone does not miss it.
        write!(io::stderr(), "\r{line}\x1b[K\r").unwrap_or_default();
    }
}

fn tell(line: &str) {
    writeln!(io::stderr(), "{line}\x1b[K").unwrap_or_default();
}

fn bust() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness: {error}"))?;
    Ok(format!("perigee-measure={:016x}", u64::from_ne_bytes(bytes)))
}
