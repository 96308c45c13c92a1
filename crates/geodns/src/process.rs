//! The binary's `main`: from flags to options; `node::program` does the rest.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode, str::FromStr};

use anyhow::{Context, bail};
use clap::{CommandFactory as _, Parser};
use perigee_node::{
    flags::ServerFlags,
    program::{self, Program},
};

use crate::{
    dnstap::TapFlags,
    options::{DNS_PORT, DocumentSource, EncryptedListen, KEYS_LOOK, ListenAt, Options},
    running::{Running, start},
};

/// Authoritative DNS that answers with the nearest healthy edge.
///
///     perigee-geodns --document cdn.toml
///     perigee-geodns --document cdn.toml --listen 127.0.0.53:5300 --listen [::1]:5300
///
/// Answers over UDP and TCP, and over TLS, QUIC and HTTPS where the document has [cdn.dns_tls]. Without --listen:
/// port 53 of every address that an interface has at the start, each bound by itself, so that every reply comes from
/// the address asked. --access-log is the query log, and --dnstap the one that
/// has the messages byte for byte.
#[derive(Clone, Debug, Parser)]
#[command(name = "perigee-geodns", version, verbatim_doc_comment)]
struct Flags {
    /// The CDN document
    #[arg(long, value_name = "FILE", env = "PERIGEE_DOCUMENT", required_unless_present = "probe")]
    document: Option<PathBuf>,

    /// What this node is called in logs, metrics and status [default: the nameserver of the document that has one of its addresses]
    #[arg(long, value_name = "NAME", env = "PERIGEE_NAME")]
    name: Option<String>,

    /// Address and port of DNS over TLS, or off; repeat it for several [default: port 853 of the addresses of --listen, if the document offers dot]
    #[arg(long, value_name = "ADDRESS|off", env = "PERIGEE_LISTEN_TLS", value_delimiter = ',')]
    listen_tls: Vec<Address>,

    /// Address and port of DNS over HTTPS, or off; repeat it for several [default: port 443 of them, if it offers doh]
    #[arg(long, value_name = "ADDRESS|off", env = "PERIGEE_LISTEN_HTTPS", value_delimiter = ',')]
    listen_https: Vec<Address>,

    /// Address and port of DNS over QUIC (UDP), or off; repeat it for several [default: port 853 of them, if it offers doq]
    #[arg(long, value_name = "ADDRESS|off", env = "PERIGEE_LISTEN_QUIC", value_delimiter = ',')]
    listen_quic: Vec<Address>,

    /// Folder that keeps what operators say of PoPs (perigee pop) over restarts; made if it is not there [default: they hold until the node ends]
    #[arg(long, value_name = "FOLDER", env = "PERIGEE_STATE")]
    state: Option<PathBuf>,

    #[command(flatten)]
    tap: TapFlags,

    #[command(flatten)]
    server: ServerFlags,
}

/// None is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address(Option<SocketAddr>);

impl FromStr for Address {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| "an address with a port, say 0.0.0.0:853, or off")
    }
}

fn listen_at(flag: &str, said: &[Address]) -> anyhow::Result<ListenAt> {
    let addresses: Vec<_> = said.iter().filter_map(|address| address.0).collect();
    match (said.len(), addresses.len()) {
        (0, _) => Ok(ListenAt::Offered),
        (_, 0) => Ok(ListenAt::Off),
        (said, given) if said == given => Ok(ListenAt::At(addresses)),
        _ => bail!("{flag} is given addresses and off; one of them must go"),
    }
}

/// The command line of `perigee-geodns`, for its manual page and for shells.
pub fn command() -> clap::Command {
    Flags::command()
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
            encrypted: EncryptedListen {
                tls: listen_at("--listen-tls", &flags.listen_tls)?,
                https: listen_at("--listen-https", &flags.listen_https)?,
                quic: listen_at("--listen-quic", &flags.listen_quic)?,
            },
            admin: flags.server.admin.0,
            page: flags.server.page(),
            query_log: flags.server.access_log.clone(),
            query_log_one_in: flags.server.access_log_one_in,
            dnstap: flags.tap.options(),
            probe_at: BTreeMap::new(),
            state: flags.state.clone(),
            keys_look: KEYS_LOOK,
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
    fn where_encrypted_transports_listen() {
        let check = |line: &str, expected: Result<ListenAt, &str>| {
            let words = ["perigee-geodns", "--document", "a.toml"].into_iter().chain(line.split_whitespace());
            let flags = Flags::try_parse_from(words).unwrap();
            let found = listen_at("--listen-tls", &flags.listen_tls).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{line}");
        };
        let at = |list: &[&str]| Ok(ListenAt::At(list.iter().map(|text| text.parse().unwrap()).collect()));
        check("", Ok(ListenAt::Offered));
        check("--listen-tls off", Ok(ListenAt::Off));
        check("--listen-tls 127.0.0.1:1,[::1]:2", at(&["127.0.0.1:1", "[::1]:2"]));
        let both = "--listen-tls 127.0.0.1:1 --listen-tls off";
        check(both, Err("--listen-tls is given addresses and off; one of them must go"));
        for bad in ["--listen-tls 853", "--listen-https on", "--listen-quic=127.0.0.1"] {
            let words = ["perigee-geodns", "--document", "a.toml"].into_iter().chain(bad.split_whitespace());
            assert!(Flags::try_parse_from(words).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_is_needed_but_for_a_probe() {
        assert!(Flags::try_parse_from(["perigee-geodns"]).is_err());
        assert!(Flags::try_parse_from(["perigee-geodns", "--probe"]).is_ok());
        assert!(Flags::try_parse_from(["perigee-geodns", "--document", "a.toml"]).is_ok());
    }
}
