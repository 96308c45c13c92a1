//! The binaries' `main`: from flags to options; `node::program` does the rest.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use perigee_node::{
    limits,
    program::{self, Program},
};
use perigee_protocol::document;

use crate::{
    assemble::Role,
    flags::{EdgeFlags, ShieldFlags, TierFlags},
    options::{Options, Source},
    running::{DRAIN_BOUND, Running, start},
};

const HTTP_PORT: u16 = 80;

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
    program::main(&flags.server, async |runtimes, open_files| {
        let (source, port) = source()?;
        let options = Options {
            name: flags.name.clone(),
            admin: flags.server.admin.0,
            memory_bytes: flags.memory.0,
            disk: flags.disk.clone(),
            access_log: flags.server.access_log.clone(),
            connections_max: limits::connections_max(open_files),
            ..Options::new(source, flags.server.listen_addresses(port))
        };
        Ok(start(options, runtimes).await?)
    })
}

impl Program for Running {
    fn reload(&self) {
        Self::reload(self);
    }

    async fn drain_requested(&self) {
        self.state().drain_requested().await;
    }

    async fn drain(self) {
        Self::drain(self, DRAIN_BOUND).await;
    }
}
