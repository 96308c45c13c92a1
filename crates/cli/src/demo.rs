//! `perigee demo`: the whole CDN in one process on loopback: an origin, shields, edges and nameservers, on one set of
//! runtimes, from one document that lies in a folder and can be edited.
//!
//! Deliberately absent: anything that a fleet of separate processes would not have. The nodes are started by the same
//! calls as the servers' own `main`, know each other by the document only, and talk over sockets.

mod fleet;
mod folder;
mod guide;
mod layout;
mod options;
mod page;
mod refusal;
mod table;
mod temporary;

use std::{
    io::{self, IsTerminal as _, Write as _},
    num::NonZero,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use perigee_node::{
    limits,
    log::{self, LogFormat},
    runtimes::Runtimes,
    signals::Signals,
};

pub(crate) use self::options::DemoArgs;
use self::{
    fleet::{Fleet, View},
    folder::Folder,
    layout::Layout,
    page::Page,
    table::{Painter, changes, size, table},
};

const REFRESH: Duration = Duration::from_secs(1);
/// How long the runtimes may take to stop after everything has drained.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(2);

/// Runs until a signal.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let with_table = !args.no_table && io::stdout().is_terminal();
    let layout = Layout::new(args);
    let folder = Folder::make(args.folder.as_deref(), &layout)?;
    if with_table {
        log::init_to(&args.log, LogFormat::Text, Arc::new(folder.log_file()?))?;
    } else {
        log::init(&args.log, LogFormat::Text)?;
    }
    limits::raise_open_files();
    let threads = args.threads.or_else(|| thread::available_parallelism().ok().map(NonZero::get)).unwrap_or(1);
    let running = Runtimes::start(threads).context("cannot start threads")?;
    let runtimes = running.handles().clone();
    let done = runtimes.control.block_on(async {
        let signals = Signals::install(&runtimes.control).context("cannot take over signals")?;
        let fleet = Fleet::start(&layout, folder.path(), args, &runtimes).await?;
        // Before anybody is told to begin, so that the first thing to happen is a change.
        let at_start = fleet.view();
        let page = Page::start(&layout, fleet.feeds(), fleet.origin_counter(), &runtimes)?;
        greet(&layout, &folder, started)?;
        let shown = show(&fleet, at_start, &signals, with_table).await;
        page.end().await;
        fleet.drain().await;
        shown?;
        writeln!(io::stdout(), "drained").context("cannot write to stdout")
    });
    running.shutdown(SHUTDOWN_BOUND);
    done
}

fn greet(layout: &Layout, folder: &Folder, started: Instant) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", guide::guide(layout, &folder.path().display().to_string()))?;
    let (edges, shields, nameservers) = (layout.edges.len(), layout.shields.len(), layout.nameservers.len());
    let took = started.elapsed().as_secs_f64();
    writeln!(
        out,
        "ready: {edges} edges, {shields} shields, {nameservers} nameservers, 1 origin in {took:.1} s; Ctrl-C ends it"
    )?;
    out.flush()
}

/// Shows figures each second until a signal comes; `before` are those that the first change is measured against.
async fn show(fleet: &Fleet, mut before: View, signals: &Signals, with_table: bool) -> io::Result<()> {
    let mut ticks = tokio::time::interval(REFRESH);
    let mut painter = Painter::default();
    loop {
        tokio::select! {
            () = signals.terminated() => return Ok(()),
            _ = ticks.tick() => {}
        }
        fleet.end_drained().await;
        let now = fleet.view();
        let mut out = io::stdout().lock();
        if with_table {
            let size = size();
            painter.paint(&table(&now, size), size, &mut out)?;
        } else {
            for line in changes(&before, &now) {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
        }
        before = now;
    }
}
