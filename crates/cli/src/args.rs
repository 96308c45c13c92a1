//! The command line of `perigee`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::demo::DemoArgs;

/// Perigee: a CDN that you own. This is the operator's command.
#[derive(Debug, Parser)]
#[command(
    name = "perigee",
    version,
    max_term_width = 110,
    after_help = "\
Exit status: 0 done; 1 it did not work or the answer is no (the reason is on stderr, mistakes in a document are on stdout); \
2 the command line itself is wrong; 130 interrupted twice.

Begin with `perigee demo`."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say every mistake in a CDN document, or `ok`
    #[command(after_help = "\
Prints `ok` and exits 0, or prints every mistake with its line, what must hold and what to do, and exits 1. No file that \
the document names is opened: starting a node does that.

Example:
  perigee check perigee.toml")]
    Check(CheckArgs),
    /// Build geo databases and look addresses up in them
    #[command(subcommand)]
    Geo(GeoCommand),
    /// Ask a node how it is
    #[command(after_help = "\
Asks GET /v1/status of the node's admin listener and prints what it says, a line for each fact. Exits 1 when nobody \
answers or the answer is a refusal.

Examples:
  perigee status --admin 127.0.0.1:9100
  perigee status --admin 127.81.0.80:9100 --json")]
    Status(StatusArgs),
    /// Run a whole CDN of eight regions on this machine
    Demo(DemoArgs),
    /// Run the demo's origin alone
    #[command(after_help = "\
A small site with pages, pictures and a 64 MiB file, and addresses that are slow, uncacheable, soon stale or of any size: \
see /lab.html. GET /.origin/stats tells as JSON what reached it, GET /healthz that it lives.

Examples:
  perigee origin --listen 127.0.0.1:8000
  perigee origin --listen 0.0.0.0:8000 --probe")]
    Origin(OriginArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The document, usually perigee.toml
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GeoCommand {
    /// Build a MaxMind database (MMDB) from a table
    #[command(after_help = "\
The CSV has a header line and the columns prefix, country, city, lat, lon, asn; all but prefix may be empty. The database is \
written beside its place and renamed into it, so that a nameserver that has it open never sees half of it. A table with \
mistakes builds nothing and says them all.

Example:
  perigee geo build world.csv world.mmdb

world.csv:
  prefix,country,city,lat,lon,asn
  127.49.0.0/16,DE,Frankfurt,50.11,8.68,64549")]
    Build(GeoBuildArgs),
    /// Say what a database knows of an address
    #[command(after_help = "\
Prints a line for each fact: prefix, country, city, latitude, longitude, asn. Exits 1 when the database does not know the address.

Examples:
  perigee geo lookup world.mmdb 127.49.0.1
  perigee geo lookup GeoLite2-City.mmdb 2001:4860:4860::8888 --json")]
    Lookup(GeoLookupArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GeoBuildArgs {
    /// The table to read
    #[arg(value_name = "CSV")]
    pub(crate) table: PathBuf,
    /// The database to write
    #[arg(value_name = "MMDB")]
    pub(crate) database: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct GeoLookupArgs {
    /// A database of MaxMind's City shape
    #[arg(value_name = "FILE")]
    pub(crate) database: PathBuf,
    /// An IPv4 or IPv6 address
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: std::net::IpAddr,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The node's admin listener
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_ADMIN", default_value = "127.0.0.1:9100")]
    pub(crate) admin: SocketAddr,
    /// Print the node's JSON as it came
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OriginArgs {
    /// Where to listen; may be given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PERIGEE_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:8000"
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Threads that serve
    #[arg(long, value_name = "N", env = "PERIGEE_THREADS", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Do not serve: ask the origin that listens there whether it lives, and exit 0 or 1
    #[arg(long)]
    pub(crate) probe: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
