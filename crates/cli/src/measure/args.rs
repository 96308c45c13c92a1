//! The flags of `perigee measure`.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::PathBuf,
    str::FromStr,
};

use clap::Args;
use perigee_node::sizes::MemorySize;

/// The most places of one run.
const PLACES_MAX: usize = 64;

/// What is measured, from where, and how often.
#[derive(Clone, Debug, Args)]
pub(crate) struct MeasureArgs {
    /// The origin, asked without the CDN: http://203.0.113.80:8000/
    #[arg(long, value_name = "URL")]
    pub(crate) direct: String,
    /// The site's name at the CDN, or a URL where its scheme or port is another than usual
    #[arg(long, value_name = "NAME")]
    pub(crate) cdn: String,
    /// Host that the origin is asked for; default: the one of --direct
    #[arg(long, value_name = "NAME")]
    pub(crate) direct_host: Option<String>,
    /// Nameserver to ask for the CDN's name, tried in the order given; default: the system's
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = nameserver)]
    pub(crate) nameserver: Vec<SocketAddr>,
    /// A client's address, with a name for it if wanted: Tokyo=203.0.113.7. One that this machine does not have is told to the
    /// nameserver only, by EDNS Client Subnet
    #[arg(long, value_name = "[NAME=]ADDRESS", value_delimiter = ',')]
    pub(crate) from: Vec<From>,
    /// Fetch the paths in this file, one a line (- for stdin); default: the path of --direct alone
    #[arg(long, value_name = "FILE", conflicts_with = "crawl")]
    pub(crate) paths: Option<PathBuf>,
    /// Fetch what is found by following links and sources of pages from the path of --direct
    #[arg(long)]
    pub(crate) crawl: bool,
    /// The most assets that are measured
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) assets_max: u16,
    /// Larger assets are left out
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub(crate) size_max: MemorySize,
    /// How often each asset is fetched in each way, after the first time through the CDN
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) repeat: u16,
    /// How many places fetch at the same time; more than 1 is quicker, and they share this machine's line and processor
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) at_once: NonZero<u16>,
    /// Add a query parameter of this run to every URL, so that no cache has it yet
    #[arg(long)]
    pub(crate) cache_bust: bool,
    /// Edges that take longer than this to connect to are called far
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 50)]
    pub(crate) far_ms: u32,
    /// The longest that one fetch may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub(crate) timeout: u16,
    /// Trust the certificate authorities in this PEM file instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Offer HTTP/2 over TLS, as browsers do; without it HTTP/1.1 is spoken
    #[arg(long)]
    pub(crate) http2: bool,
    /// Write the plot as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Print one JSON object with every single fetch instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

/// A place to measure from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct From {
    /// For people; the address without a name of its own.
    pub(crate) name: String,
    pub(crate) address: IpAddr,
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, address) = text.split_once('=').unwrap_or((text, text));
        let parsed = address.trim().parse().map_err(|_| format!("{address:?} is no IP address"))?;
        let name = name.trim();
        if name.is_empty() || name.chars().count() > 24 || name.chars().any(char::is_control) {
            return Err(format!("{name:?} is no name; it takes 1 to 24 characters before the ="));
        }
        Ok(Self { name: name.to_owned(), address: parsed })
    }
}

/// An address, on port 53 where none is said.
fn nameserver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    with_port
        .map_err(|_| format!("{text:?} is no address; it takes 192.0.2.53, 192.0.2.53:5300 or [2001:db8::53]:5300"))
}

/// Whether a run of that size is meant.
pub(super) fn check_places(count: usize) -> anyhow::Result<()> {
    anyhow::ensure!(count <= PLACES_MAX, "--from is given {count} times; it takes at most {PLACES_MAX}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names_and_addresses() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(name, ip)| From { name: name.into(), address: ip.parse().unwrap() });
            assert_eq!(text.parse::<From>().ok(), expected, "{text}");
        };
        check("127.81.0.1", Some(("127.81.0.1", "127.81.0.1")));
        check("Tokyo=127.81.0.1", Some(("Tokyo", "127.81.0.1")));
        check("São Paulo=2001:db8::1", Some(("São Paulo", "2001:db8::1")));
        check("=127.0.0.1", None);
        check("Tokyo", None);
        check(&format!("{}=::1", "x".repeat(24)), Some((&"x".repeat(24), "::1")));
        check(&format!("{}=::1", "x".repeat(25)), None);
    }

    #[test]
    fn nameservers_have_port_53_unless_said() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(nameserver(text).ok(), expected.map(|it| it.parse().unwrap()), "{text}");
        };
        check("192.0.2.53", Some("192.0.2.53:53"));
        check("127.0.0.53:5300", Some("127.0.0.53:5300"));
        check("2001:db8::53", Some("[2001:db8::53]:53"));
        check("ns1.example", None);
    }

    #[test]
    fn places_have_a_limit() {
        assert!(check_places(PLACES_MAX).is_ok() && check_places(PLACES_MAX + 1).is_err());
    }
}
