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
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use futures_util::{StreamExt as _, stream};

pub(crate) use self::args::MeasureArgs;
use self::{
    assets::Inventory,
    fetch::Client,
    report::Report,
    run::{Place, Run, Seen},
    target::Target,
};

/// The most fetches of one run: what is kept of each is some hundred bytes.
const FETCHES_MAX: usize = 200_000;
const PROGRESS: Duration = Duration::from_millis(250);

/// Measures and reports; false when a fetch failed.
pub(crate) async fn measure(args: &MeasureArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    args::check_places(args.from.len())?;
    let direct = Target::direct(&args.direct, args.direct_host.as_deref())?;
    let cdn = Target::cdn(&args.cdn, &direct)?;
    let places = Place::all(&args.from)?;
    let client = Client::new(args.ca.as_deref(), Duration::from_secs(args.timeout.into()), args.size_max.0)?;
    let origin = assets::resolve(&direct).await.context("--direct leads nowhere")?;
    let origin = *origin.first().with_context(|| format!("{} has no address", direct.host))?;
    let Inventory { assets, left_out } = assets::take(args, &client, &direct, origin).await?;
    let bust = if args.cache_bust { Some(bust()?) } else { None };
    let run = Run { args, client, direct, origin, cdn, assets, bust, done: AtomicUsize::new(0) };
    let all = run.fetches_per_place() * places.len();
    ensure!(
        all <= FETCHES_MAX,
        "that would be {all} fetches; one run makes at most {FETCHES_MAX} (see --assets-max, --repeat, --from)"
    );
    let seen = fetch_all(&run, &places, all).await;
    let report = Report::new(run, left_out, places, seen);
    if let Some(file) = &args.svg {
        let title = format!("Milliseconds of a fetch over a new connection: {} beside its origin", report.cdn);
        let plot = svg::svg(&title, &report.places);
        std::fs::write(file, plot).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        text::print(&report, out)?;
    }
    Ok(report.failed == 0)
}

async fn fetch_all(run: &Run<'_>, places: &[Place], all: usize) -> Vec<Seen> {
    let at_once = usize::from(run.args.at_once.get());
    let fetches = async {
        let one = |(index, place)| async move {
            let seen = run.place(index, place).await;
            tell(&format!("{} is done: {} fetches, {} failed", place.name, seen.samples.len(), seen.failed));
            seen
        };
        stream::iter(places.iter().enumerate()).map(one).buffered(at_once).collect().await
    };
    tokio::select! {
        seen = fetches => seen,
        () = progress(&run.done, all) => Vec::new(),
    }
}

/// Paints how far it is where somebody watches; never ends.
async fn progress(done: &AtomicUsize, all: usize) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        ticks.tick().await;
        let done = done.load(Ordering::Relaxed);
        // Whoever has gone does not miss it.
        write!(io::stderr(), "\r{done} of {all} fetches\x1b[K\r").unwrap_or_default();
    }
}

fn tell(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

fn bust() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness: {error}"))?;
    Ok(format!("perigee-measure={:016x}", u64::from_ne_bytes(bytes)))
}
