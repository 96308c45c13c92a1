//! The flags of `perigee geo`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use perigee_protocol::document::parse_duration;

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
Prints a line for each fact: prefix, country, city, latitude, longitude, asn, and whether it is known by its place or by its \
country alone, whose clients are taken to be where most people of it live; of a database of autonomous systems prefix, asn, \
organization. Exits 1 when the database does not know the address.

Examples:
  perigee geo lookup world.mmdb 127.49.0.1
  perigee geo lookup GeoLite2-City.mmdb 2001:4860:4860::8888 --json
  perigee geo lookup GeoLite2-ASN.mmdb 192.0.2.1")]
    Lookup(GeoLookupArgs),
    /// Download a database, check it, and put it in its place
    #[command(after_help = "\
Without --url, the edition comes from MaxMind's download service, which wants an account id and a licence key: the key in a \
file, or in the variable PERIGEE_MAXMIND_LICENSE_KEY. What is downloaded is held against the published SHA-256, unpacked, \
opened and checked, and only then renamed into its place, where nameservers notice it; whatever fails leaves the old database \
as it is. Several editions are fetched each by itself: what one of them fails by keeps no other. The checksum is kept beside it (FILE.sha256), and an edition that is there already is not downloaded again. With --every \
failures are told and tried again after 1 minute, then 2, 4, up to an hour, or when the server says.

With --url it comes from there: an .mmdb as it is, in gzip, or in a tar in gzip. %Y and %m stand for the year and the month, as \
DB-IP's names have them; --checksum-url names a file that begins with the SHA-256. Without that, ETag and Last-Modified are kept \
(FILE.origin) and asked by.

Examples:
  perigee geo fetch GeoLite2-City.mmdb --account-id 123456 --license-key-file maxmind.key
  perigee geo fetch /var/lib/perigee --edition GeoLite2-City,GeoLite2-ASN --account-id 123456 --license-key-file maxmind.key --every 3d
  perigee geo fetch city.mmdb --url 'https://download.db-ip.com/free/dbip-city-lite-%Y-%m.mmdb.gz'")]
    Fetch(GeoFetchArgs),
    /// Say which clients another database would move to another PoP
    #[command(after_help = "\
Steers every IPv4 address and every IPv6 /48 of 2000::/3 by the document, once with each database and with everything up, and \
counts those whose first PoP changes: from where to where, and of which countries. Takes some seconds, and says so.

Example:
  perigee geo diff GeoLite2-City.mmdb next.mmdb --document perigee.toml")]
    Diff(GeoDiffArgs),
    /// Say what a database holds
    #[command(after_help = "\
Records, networks, countries or autonomous systems, when it was built, and how much of the address space it knows how well.

Example:
  perigee geo stats GeoLite2-City.mmdb")]
    Stats(GeoStatsArgs),
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
    /// A database of places or of autonomous systems
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
pub(crate) struct GeoFetchArgs {
    /// Where the database belongs; or, with --edition, the folder for EDITION.mmdb
    #[arg(value_name = "FILE", env = "PERIGEE_GEO_DATABASE")]
    pub(crate) database: PathBuf,
    /// MaxMind's name for it; without one, the file's: GeoLite2-City.mmdb. Several, with commas or the flag repeated, go into
    /// a folder
    #[arg(long, value_name = "NAME", env = "PERIGEE_GEO_EDITION", value_delimiter = ',', conflicts_with = "url")]
    pub(crate) edition: Vec<String>,
    /// Of MaxMind
    #[arg(long, value_name = "ID", env = "PERIGEE_MAXMIND_ACCOUNT_ID")]
    pub(crate) account_id: Option<String>,
    /// A file with the licence key; without one, the variable PERIGEE_MAXMIND_LICENSE_KEY holds the key itself, or systemd's
    /// credential maxmind.key does
    #[arg(long, value_name = "FILE", env = "PERIGEE_MAXMIND_LICENSE_KEY_FILE")]
    pub(crate) license_key_file: Option<PathBuf>,
    /// MaxMind's download service, or a mirror that speaks its protocol
    #[arg(
        long,
        value_name = "URL",
        env = "PERIGEE_GEO_SERVER",
        default_value = "https://download.maxmind.com",
        conflicts_with = "url"
    )]
    pub(crate) server: String,
    /// Take it from there instead
    #[arg(long, value_name = "URL", env = "PERIGEE_GEO_URL")]
    pub(crate) url: Option<String>,
    /// Where the SHA-256 of what --url names is
    #[arg(long, value_name = "URL", env = "PERIGEE_GEO_CHECKSUM_URL", requires = "url")]
    pub(crate) checksum_url: Option<String>,
    /// Trust the authorities of this PEM file instead of the public ones, for a mirror of one's own
    #[arg(long, value_name = "FILE", env = "PERIGEE_GEO_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// Go on, and look again after so long: 3d, 12h; at least 1m
    #[arg(long, value_name = "DURATION", env = "PERIGEE_GEO_EVERY", value_parser = interval)]
    pub(crate) every: Option<Duration>,
    /// Download it though it is there already
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GeoDiffArgs {
    /// The database in use
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The one that may replace it
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// The document, usually perigee.toml
    #[arg(long, value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) document: PathBuf,
    /// Of which site; without one, the first of the document
    #[arg(long, value_name = "ID")]
    pub(crate) site: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GeoStatsArgs {
    /// A database of places or of autonomous systems
    #[arg(value_name = "FILE")]
    pub(crate) database: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let long_enough = parse_duration(text).filter(|every| *every >= Duration::from_secs(60));
    long_enough.ok_or_else(|| "must be a duration with a unit (m, h, d) of at least 1m".to_owned())
}
