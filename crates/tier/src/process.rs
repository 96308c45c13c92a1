//! The binaries' `main`, as a table of contents: flags, limits, log, runtimes, tier, signals, drain.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use perigee_node::{limits, log, probe, runtimes::Runtimes, signals::Signals};
use perigee_protocol::document;

use crate::{
    assemble::Role,
    flags::{EdgeFlags, ShieldFlags, TierFlags},
    options::{Options, Source},
    running::{DRAIN_BOUND, start},
};

const HTTP_PORT: u16 = 80;
const RUNTIMES_BOUND: Duration = Duration::from_secs(5);

/// `perigee-edge`
pub fn edge_main() -> ExitCode {
    let flags = EdgeFlags::parse();
    let tier = flags.tier.clone();
    run(&tier, move || {
        let source = match (flags.document, flags.pop) {
            (Some(path), Some(pop)) => Source::File { path, role: Role::Edge(pop) },
            _ => Source::Quick {
                origins: flags.origin,
                cache: document::policy_from_pairs(&flags.policy).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?,
            },
        };
        Ok((source, HTTP_PORT))
    })
}

/// `perigee-shield`
pub fn shield_main() -> ExitCode {
    let flags = ShieldFlags::parse();
    let tier = flags.tier.clone();
    run(&tier, move || {
        let path = flags.document.context("--document FILE is missing")?;
        let id = flags.shield.context("--shield ID is missing")?;
        let port = shield_port(&path, id.as_str())?;
        Ok((Source::File { path, role: Role::Shield(id) }, port))
    })
}

/// The port of the shield's own URL, which edges will ask.
fn shield_port(path: &Path, id: &str) -> anyhow::Result<u16> {
    let loaded = perigee_node::document::read(path)?;
    Ok(loaded.document.shield(id).map_or(HTTP_PORT, |shield| shield.url.port))
}

fn run(flags: &TierFlags, source: impl FnOnce() -> anyhow::Result<(Source, u16)>) -> ExitCode {
    if flags.server.probe {
        return match probe::run(flags.admin()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.into()),
        };
    }
    match serve_until_told(flags, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", perigee_node::report::line(error.as_ref()));
    ExitCode::FAILURE
}

fn serve_until_told(flags: &TierFlags, source: impl FnOnce() -> anyhow::Result<(Source, u16)>) -> anyhow::Result<()> {
    log::init(&flags.server.log, flags.server.log_format)?;
    let open_files = limits::raise_open_files();
    let (source, port) = source()?;
    let options = Options {
        name: flags.name.clone(),
        admin: flags.admin(),
        memory_bytes: flags.memory.0,
        disk: flags.disk.clone(),
        access_log: flags.server.access_log.clone(),
        connections_max: limits::connections_max(open_files),
        ..Options::new(source, flags.server.listen_addresses(port))
    };
    let runtimes = Runtimes::start(flags.server.threads()).context("the runtimes cannot be started")?;
    let handles = runtimes.handles().clone();
    let signals = Signals::install(&handles.control).context("signals cannot be received")?;
    let result = handles.control.block_on(async {
        let running = start(options, &handles).await?;
        let mut reloads = signals.reloads();
        let state = running.state().clone();
        loop {
            tokio::select! {
                () = signals.terminated() => break,
                () = state.drain_requested() => break,
                changed = reloads.changed() => match changed {
                    Ok(()) => running.reload(),
                    Err(_) => break,
                },
            }
        }
        tracing::info!("draining");
        running.drain(DRAIN_BOUND).await;
        tracing::info!("stopped");
        Ok(())
    });
    runtimes.shutdown(RUNTIMES_BOUND);
    result
}
