//! The binary, as a table of contents: flags, limits, log, runtimes, nameserver, signals, drain.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use perigee_node::{flags::ServerFlags, limits, log, probe, runtimes::Runtimes, signals::Signals};

use crate::{
    options::{DNS_PORT, DocumentSource, Options},
    running::start,
};

const RUNTIMES_BOUND: Duration = Duration::from_secs(5);

/// Authoritative DNS that answers with the nearest healthy edge.
///
///     perigee-geodns --document cdn.toml
///     perigee-geodns --document cdn.toml --listen 127.0.0.53:5300 --listen [::1]:5300
///
/// Answers over UDP and TCP. Without --listen: port 53 of every address that an interface has at the start, each bound
/// by itself, so that every reply comes from the address asked. --access-log is the query log.
#[derive(Clone, Debug, Parser)]
#[command(name = "perigee-geodns", version, verbatim_doc_comment)]
struct Flags {
    /// The CDN document
    #[arg(long, value_name = "FILE", env = "PERIGEE_DOCUMENT", required_unless_present = "probe")]
    document: Option<PathBuf>,

    /// What this node is called in logs, metrics and status [default: the nameserver of the document that has one of its addresses]
    #[arg(long, value_name = "NAME", env = "PERIGEE_NAME")]
    name: Option<String>,

    #[command(flatten)]
    server: ServerFlags,
}

/// `perigee-geodns`: runs until a signal or the admin API ends it. Exit status 0 after a drain, 1 on an error, 2 on a
/// wrong command line.
pub fn main() -> ExitCode {
    let flags = Flags::parse();
    let result =
        if flags.server.probe { probe::run(flags.server.admin.0).map_err(Into::into) } else { serve_until_told(flags) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", perigee_node::report::line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn serve_until_told(flags: Flags) -> anyhow::Result<()> {
    log::init(&flags.server.log, flags.server.log_format)?;
    limits::raise_open_files();
    let options = Options {
        listen: flags.server.listen_addresses(DNS_PORT),
        name: flags.name,
        document: DocumentSource::File(flags.document.context("--document FILE is missing")?),
        admin: flags.server.admin.0,
        query_log: flags.server.access_log.clone(),
        probe_at: BTreeMap::new(),
    };
    let runtimes = Runtimes::start(flags.server.threads()).context("the runtimes cannot be started")?;
    let handles = runtimes.handles().clone();
    let signals = Signals::install(&handles.control).context("signals cannot be received")?;
    let result = handles.control.block_on(async {
        let running = start(options, &handles).await?;
        let mut reloads = signals.reloads();
        loop {
            tokio::select! {
                () = signals.terminated() => break,
                () = running.drain_requested() => break,
                changed = reloads.changed() => match changed {
                    Ok(()) => running.reload(),
                    Err(_) => break,
                },
            }
        }
        tracing::info!("draining");
        running.drain().await;
        tracing::info!("stopped");
        Ok(())
    });
    runtimes.shutdown(RUNTIMES_BOUND);
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_well_formed_and_every_flag_has_a_variable() {
        let command = Flags::command();
        command.clone().debug_assert();
        for argument in
            command.get_arguments().filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        {
            let long = argument.get_long().unwrap();
            let expected = format!("PERIGEE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            assert!(argument.get_help().is_some(), "{long}");
        }
    }

    #[test]
    fn a_document_is_needed_but_for_a_probe() {
        assert!(Flags::try_parse_from(["perigee-geodns"]).is_err());
        assert!(Flags::try_parse_from(["perigee-geodns", "--probe"]).is_ok());
        assert!(Flags::try_parse_from(["perigee-geodns", "--document", "a.toml"]).is_ok());
    }
}
