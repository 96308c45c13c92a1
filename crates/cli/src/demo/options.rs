//! The flags of `perigee demo`.

use std::path::PathBuf;

use clap::{Args, builder::ArgPredicate};
use perigee_node::sizes::MemorySize;

/// What the demo is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Starts an origin, 2 shields, 8 edges in 8 cities and 2 nameservers in this process, on addresses of 127.0.0.0/8. A client's \
address tells its country by telephone code: 127.49.0.0/16 is Germany, 127.81.0.0/16 Japan, 127.1.0.0/16 the USA. \
Everybody else is in Frankfurt. Every node reads FOLDER/perigee.toml and follows it when it is edited.

What clients and nodes send each other takes as long as light in fibre: 200 km a millisecond over the great circle, half as far \
again, and half a millisecond for every way. Origin and shield-west are in Frankfurt, shield-east in Singapore; \
nameservers are in all eight cities, as with anycast. Health probes, admin listeners and the page are near.

Examples:
  perigee demo
  perigee demo --edge-port 8888 --dns-port 5353
  perigee demo --one-address        # where only 127.0.0.1 exists, as on macOS
  perigee demo --folder /tmp/cdn --disk 1GiB --memory 256MiB")]
pub(crate) struct DemoArgs {
    /// The CDN's DNS zone; its site is www.ZONE
    #[arg(long, value_name = "NAME", default_value = "cdn.example")]
    pub(crate) zone: String,
    /// HTTP port of the edges (with --one-address: of the first; the others take the next seven)
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) edge_port: u16,
    /// Port of the shields (with --one-address: of the first)
    #[arg(long, value_name = "PORT", default_value_t = 8180, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) shield_port: u16,
    /// Port of the origin
    #[arg(long, value_name = "PORT", default_value_t = 8000, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) origin_port: u16,
    /// Port of the nameservers (with --one-address: of the first)
    #[arg(long, value_name = "PORT", default_value_t = 5300, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) dns_port: u16,
    /// Port of every node's admin listener, on the node's address (with --one-address: of the first)
    #[arg(long, value_name = "PORT", default_value_t = 9100, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) admin_port: u16,
    /// Port of the page to watch all of it, on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 9000, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) page_port: u16,
    /// Address of a nameserver, instead of 127.0.0.53 and 127.0.0.54; may be given several times
    #[arg(long, value_name = "IP")]
    pub(crate) nameserver: Vec<std::net::IpAddr>,
    /// The most memory of each of the ten caches, taken as they fill, with --disk 256MiB by default; an object may be nearly half of it
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "160MiB",
        default_value_if("disk", ArgPredicate::IsPresent, "256MiB")
    )]
    pub(crate) memory: MemorySize,
    /// Disk cache of each edge and shield, in FOLDER; default: memory only
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<MemorySize>,
    /// Where the document, the geo database, logs and caches go; default: a temporary folder, removed at the end, or by
    /// the next demo when this one is killed
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Send traces of all requests to the collector at this URL, over OTLP/HTTP, say http://127.0.0.1:4318
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<perigee_tier::Endpoint>,
    /// Threads that serve; default: the cores
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Put no distance between clients and nodes
    #[arg(long)]
    pub(crate) no_distance: bool,
    /// As without it; there when it was not the default
    #[arg(long, hide = true, conflicts_with_all = ["no_distance", "one_address"])]
    pub(crate) distance: bool,
    /// Put everything on 127.0.0.1, each node with a port of its own; without distance, since all clients have one address
    #[arg(long)]
    pub(crate) one_address: bool,
    /// Print lines instead of the live table, as without a terminal
    #[arg(long)]
    pub(crate) no_table: bool,
    /// Which log lines to keep; beside the table they go to FOLDER/demo.log
    #[arg(long, value_name = "FILTER", env = "PERIGEE_LOG", default_value = "warn")]
    pub(crate) log: String,
}

impl DemoArgs {
    /// Whether relays hold back what passes.
    pub(crate) fn has_distance(&self) -> bool {
        !self.no_distance && !self.one_address
    }
}
