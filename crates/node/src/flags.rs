//! The flags that all servers share, each an environment variable `PERIGEE_…` too.

use std::{fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr};

use clap::Args;

use crate::{listen, log::LogFormat, page::PageOptions};

/// The flags that all servers share; flatten it into a binary's own.
#[derive(Args, Clone, Debug)]
pub struct ServerFlags {
    /// Address and port to listen on; repeat it for several [default: every address of this machine, the tier's port]
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,

    /// Address and port of the admin API (/metrics, /healthz, /readyz, /v1/…), or off
    #[arg(long, value_name = "ADDRESS|off", env = "PERIGEE_ADMIN", default_value = "127.0.0.1:9100")]
    pub admin: AdminAddress,

    /// Admin listener of another node that this node's page shows beside its own; repeat it for several
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_PAGE_NODE", value_delimiter = ',')]
    pub page_node: Vec<SocketAddr>,

    /// A name with dots by which browsers may reach the admin API, say that of a proxy before it; repeat it for several
    #[arg(long, value_name = "NAME", env = "PERIGEE_ADMIN_NAME", value_delimiter = ',')]
    pub admin_name: Vec<String>,

    /// Threads that serve clients [default: the cores of this machine]
    #[arg(long, value_name = "N", env = "PERIGEE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Where one JSON line of each request goes: a file (reopened on SIGHUP), stdout or off
    #[arg(long, value_name = "PATH|stdout|off", env = "PERIGEE_ACCESS_LOG", default_value = "off")]
    pub access_log: AccessLogTarget,

    /// Of how many requests one gets its line, chosen by chance: 100 logs about 1 %
    #[arg(long, value_name = "N", env = "PERIGEE_ACCESS_LOG_ONE_IN", default_value = "1")]
    pub access_log_one_in: NonZeroU32,

    /// What is logged to stderr: a level (error, warn, info, debug, trace) or target=level pairs with commas
    #[arg(long, value_name = "FILTER", env = "PERIGEE_LOG", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, env = "PERIGEE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Ask the node that runs on this machine (at --admin) whether it is alive, and exit with 0 or 1
    #[arg(long, env = "PERIGEE_PROBE")]
    pub probe: bool,
}

impl ServerFlags {
    /// `--listen`, or `port` on every address of this machine.
    pub fn listen_addresses(&self, port: u16) -> Vec<SocketAddr> {
        if self.listen.is_empty() { listen::default_addresses(port) } else { self.listen.clone() }
    }

    /// `--page-node` and `--admin-name`
    pub fn page(&self) -> PageOptions {
        PageOptions { nodes: self.page_node.clone(), names: self.admin_name.clone() }
    }

    /// `--threads`, or the cores that this process may use.
    pub fn threads(&self) -> usize {
        self.threads
            .map_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get), usize::from)
    }
}

/// `--admin`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminAddress(pub Option<SocketAddr>);

impl FromStr for AdminAddress {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| "an address with a port, say 127.0.0.1:9100, or off")
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// `--access-log`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// No access log.
    Off,
    /// The standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

impl FromStr for AccessLogTarget {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("a file, stdout or off"),
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for AccessLogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        server: ServerFlags,
    }

    fn parse(arguments: &[&str]) -> Result<ServerFlags, clap::Error> {
        let all = ["node"].iter().chain(arguments);
        Command::try_parse_from(all).map(|command| command.server)
    }

    #[test]
    fn the_command_is_well_formed_and_every_flag_has_a_variable() {
        let command = Command::command();
        command.clone().debug_assert();
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().unwrap();
            let expected = format!("PERIGEE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            assert!(argument.get_help().is_some(), "{long}");
        }
    }

    #[test]
    fn defaults() {
        let flags = parse(&[]).unwrap();
        assert_eq!(flags.admin, AdminAddress(Some(SocketAddr::from(([127, 0, 0, 1], 9100)))));
        assert_eq!((flags.access_log.clone(), flags.access_log_one_in.get()), (AccessLogTarget::Off, 1));
        assert_eq!((flags.log.as_str(), flags.log_format, flags.probe), ("info", LogFormat::Text, false));
        assert!(flags.threads() >= 1);
        assert_eq!(flags.listen_addresses(80)[0], SocketAddr::from(([0, 0, 0, 0], 80)));
    }

    #[test]
    fn values() {
        let all = "--listen 127.0.0.1:1 --listen [::1]:2 --admin off --threads 3 --access-log /a --access-log-one-in 100 \
                   --log-format json --probe --page-node 127.0.0.1:3,[::1]:4 --admin-name admin.example.com";
        let flags = parse(&all.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(flags.listen_addresses(80), ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!((flags.admin, flags.threads()), (AdminAddress(None), 3));
        assert_eq!(
            (flags.access_log.clone(), flags.access_log_one_in.get()),
            (AccessLogTarget::File("/a".into()), 100)
        );
        let page = flags.page();
        assert_eq!(page.nodes, ["127.0.0.1:3".parse().unwrap(), "[::1]:4".parse().unwrap()]);
        assert_eq!(page.names, ["admin.example.com"]);
        assert!(flags.probe && flags.log_format == LogFormat::Json);
        for bad in
            ["--listen 80", "--admin on", "--threads 0", "--threads 1025", "--access-log=", "--access-log-one-in 0"]
        {
            assert!(parse(&bad.split(' ').collect::<Vec<_>>()).is_err(), "{bad}");
        }
    }
}
