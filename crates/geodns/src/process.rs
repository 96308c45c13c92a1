//! The binary's `main`: from flags to options; `node::program` does the rest.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use perigee_node::{
    flags::ServerFlags,
    program::{self, Program},
};

use crate::{
    options::{DNS_PORT, DocumentSource, Options},
    running::{Running, start},
};

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
    program::main(&flags.server, async |runtimes, _| {
        let options = Options {
            listen: flags.server.listen_addresses(DNS_PORT),
            name: flags.name.clone(),
            document: DocumentSource::File(flags.document.clone().context("--document FILE is missing")?),
            admin: flags.server.admin.0,
            query_log: flags.server.access_log.clone(),
            probe_at: BTreeMap::new(),
        };
        Ok(start(options, runtimes).await?)
    })
}

impl Program for Running {
    fn reload(&self) {
        Self::reload(self);
    }

    async fn drain_requested(&self) {
        Self::drain_requested(self).await;
    }

    async fn drain(self) {
        Self::drain(self).await;
    }
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
