//! `perigee origin`: the demo's origin alone.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Context;
use perigee_node::{limits, log, probe, runtimes::Runtimes, signals::Signals};

use super::Origin;
use crate::args::OriginArgs;

/// How long requests in flight may take after a signal.
const DRAIN_BOUND: Duration = Duration::from_secs(10);

/// Serves until a signal, or asks whether somebody does.
pub(crate) fn run(args: &OriginArgs) -> anyhow::Result<()> {
    if args.probe {
        return Ok(probe::run(args.listen.first().copied())?);
    }
    log::init("info", log::LogFormat::Text)?;
    limits::raise_open_files();
    let running = Runtimes::start(args.threads).context("cannot start threads")?;
    let runtimes = running.handles().clone();
    let done = runtimes.control.block_on(async {
        let signals = Signals::install(&runtimes.control).context("cannot take over signals")?;
        let origin = Origin::start(&args.listen, &runtimes).context("cannot listen (see --listen)")?;
        for address in origin.local_addrs() {
            writeln!(io::stdout(), "ready: http://{address}/")?;
        }
        signals.terminated().await;
        origin.drain(DRAIN_BOUND).await;
        Ok(())
    });
    running.shutdown(DRAIN_BOUND);
    done
}
