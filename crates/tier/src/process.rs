//! The binaries' `main`: from flags to options; `node::program` does the rest.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use perigee_node::{
    limits,
    program::{self, Program},
};
use perigee_protocol::{document, model::Scheme};

use crate::{
    assemble::Role,
    budget,
    doors::HTTPS_PORT,
    flags::{EdgeFlags, ShieldFlags, TierFlags},
    options::{Options, Source},
    running::{DRAIN_BOUND, Running, start},
};

const HTTP_PORT: u16 = 80;

/// Where a tier listens when nobody said.
struct Ports {
    http: u16,
    https: u16,
}

const PORTS: Ports = Ports { http: HTTP_PORT, https: HTTPS_PORT };

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
        Ok((source, PORTS))
    })
}

/// `perigee-shield`
pub fn shield_main() -> ExitCode {
    let flags = ShieldFlags::parse();
    let tier = flags.tier.clone();
    run(&tier, move || {
        let path = flags.document.context("--document FILE is missing")?;
        let id = flags.shield.context("--shield ID is missing")?;
        let ports = shield_ports(&path, id.as_str())?;
        Ok((Source::File { path, role: Role::Shield(id) }, ports))
    })
}

/// With the port of the shield's own URL, which edges will ask.
fn shield_ports(path: &Path, id: &str) -> anyhow::Result<Ports> {
    let loaded = perigee_node::document::read(path)?;
    Ok(match loaded.document.shield(id).map(|shield| &shield.url) {
        Some(url) if url.scheme == Scheme::Https => Ports { https: url.port, ..PORTS },
        Some(url) => Ports { http: url.port, ..PORTS },
        None => PORTS,
    })
}

fn run(flags: &TierFlags, source: impl FnOnce() -> anyhow::Result<(Source, Ports)>) -> ExitCode {
    program::main(&flags.server, async |runtimes, open_files| {
        let (source, ports) = source()?;
        let options = Options {
            name: flags.name.clone(),
            admin: flags.server.admin.0,
            page: flags.server.page(),
            memory_bytes: flags.memory.0,
            disk: flags.disk.clone(),
            access_log: flags.server.access_log.clone(),
            access_log_one_in: flags.server.access_log_one_in,
            connections_max: limits::connections_max(open_files).min(budget::connections_max(flags.memory.0)),
            drain_notice: flags.drain_notice,
            traces: flags.trace.options(|name| std::env::var(name).ok())?,
            doors: flags.doors.options(ports.https)?,
            ..Options::new(source, flags.server.listen_addresses(ports.http))
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
