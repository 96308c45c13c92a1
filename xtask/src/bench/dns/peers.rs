//! The nameservers, each with one worker of a kind, set up as well as we know.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use perigee_tests::client::Client;

use super::{
    super::{
        peers::present,
        server::{Server, free_address, pinned},
    },
    SITE,
};
use crate::run::{output, succeed};

/// Name, latitude, longitude, address, and the country that Knot takes for it.
type Pop = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Where the site is.
const POPS: [Pop; 4] = [
    ("fra", "50.11", "8.68", "127.18.49.10", "*"),
    ("syd", "-33.87", "151.21", "127.18.61.10", "AU"),
    ("gru", "-23.55", "-46.63", "127.18.55.10", "BR"),
    ("iad", "39.04", "-77.49", "127.18.1.10", "US"),
];

/// For the answers made ahead.
const TABLE_BOUND: Duration = Duration::from_secs(60);

/// What all servers are started with.
pub(super) struct Setup {
    pub(super) folder: PathBuf,
    pub(super) database: PathBuf,
    /// For dnsperf: the one name.
    pub(super) names: PathBuf,
    geodns: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Setup {
    /// Writes the files that servers share, and a document signed by keys of its own.
    pub(super) fn new(folder: PathBuf, database: PathBuf, binaries: &Path) -> Result<Self> {
        let names = folder.join("names.txt");
        fs::write(&names, format!("{SITE} A\n"))?;
        let (certificate, key) = certificate(&folder)?;
        let setup = Self { folder, database, names, geodns: binaries.join("perigee-geodns"), certificate, key };
        fs::write(setup.document(false), setup.text(false))?;
        fs::write(setup.document(true), setup.text(true))?;
        let made = output(
            Command::new(binaries.join("perigee")).args(["dns", "keygen", "--document"]).arg(setup.document(true)),
        );
        made.context("the zone gets no keys")?;
        Ok(setup)
    }

    pub(super) fn document(&self, signed: bool) -> PathBuf {
        self.folder.join(if signed { "signed.toml" } else { "plain.toml" })
    }

    pub(super) fn text(&self, signed: bool) -> String {
        let pops: String = POPS
            .iter()
            .map(|(id, latitude, longitude, address, _)| {
                // Nobody is probed: what is measured is answers.
                format!(
                    "[[pop]]\nid = \"{id}\"\nlatitude = {latitude}\nlongitude = {longitude}\naddresses = [\"{address}\"]\n\
                     health = {{ interval = \"1h\" }}\n"
                )
            })
            .collect();
        let keys = if signed { "dnssec = { keys = \"keys\" }\n" } else { "" };
        format!(
            "version = 1\n[cdn]\nname = \"bench\"\nzone = \"cdn.example\"\nttl = \"30s\"\n\
             nameservers = [{{ host = \"ns1.cdn.example\", addresses = [\"127.0.0.1\"] }}]\n{keys}\
             rate_limit = {{ responses_per_second = 0 }}\n\
             [cdn.dns_tls]\ncertificate = \"{}\"\nkey = \"{}\"\noffers = [\"dot\", \"doh\"]\n\
             {pops}[[site]]\nid = \"www\"\norigins = [{{ url = \"http://127.0.0.1:1\" }}]\n[geo]\ndatabase = \"{}\"\n",
            self.certificate.display(),
            self.key.display(),
            self.database.display()
        )
    }

    /// Ours, when it has made its answers ahead: what is measured is not its first seconds.
    pub(super) fn ours(&self, signed: bool) -> Result<Server> {
        let server = self.ours_at_once(signed)?;
        let (admin, from) = (server.admin.context("no admin API")?, Instant::now());
        loop {
            // The admin API comes after the sockets.
            let asked = Client::new(admin, "bench").ask("GET", "/metrics", "", "").ok();
            let text = asked.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default();
            let regions = text.lines().find_map(|line| line.strip_prefix("perigee_dns_scope_regions"));
            if regions.is_some_and(|line| !line.ends_with(" 0")) {
                return Ok(server);
            }
            ensure!(from.elapsed() < TABLE_BOUND, "no table of answers is made");
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn ours_at_once(&self, signed: bool) -> Result<Server> {
        let [address, tls, https, admin] = free_addresses()?;
        let mut command = pinned(&self.geodns);
        command.arg("--document").arg(self.document(signed)).args(["--threads", "1"]);
        for (flag, address) in
            [("--listen", address), ("--listen-tls", tls), ("--listen-https", https), ("--admin", admin)]
        {
            command.args([flag, &address.to_string()]);
        }
        command.args(["--listen-quic", "off"]);
        let mut server = Server::start("perigee", address, command)?;
        server.ports = vec![("dot", tls.port()), ("doh", https.port())];
        server.admin = Some(admin);
        Ok(server)
    }

    fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.folder.join(name);
        fs::create_dir_all(&place)?;
        Ok(place)
    }
}

fn free_addresses<const N: usize>() -> Result<[std::net::SocketAddr; N]> {
    let found = (0..N).map(|_| free_address()).collect::<Result<Vec<_>>>()?;
    found.try_into().map_err(|_| anyhow::anyhow!("no free ports"))
}

/// One that clients of the load take as it is.
fn certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    make_present("openssl", &["openssl"], &["openssl"])?;
    let (certificate, key) = (folder.join("ns.pem"), folder.join("ns.key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    command.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    output(&mut command).context("no certificate can be made")?;
    Ok((certificate, key))
}

/// A nameserver to compare with.
pub(super) struct Peer {
    pub(super) name: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
    start: fn(&Setup) -> Result<Server>,
}

pub(super) const PEERS: [Peer; 3] = [
    Peer { name: "gdnsd", programs: &["gdnsd", "dnsperf"], packages: &["gdnsd", "dnsperf"], start: gdnsd },
    Peer { name: "knot", programs: &["knotd"], packages: &["knot", "knot-module-geoip"], start: knot },
    Peer { name: "bind", programs: &["named", "h2load"], packages: &["bind9", "nghttp2-client"], start: bind },
];

impl Peer {
    pub(super) fn start(&self, setup: &Setup) -> Result<Server> {
        (self.start)(setup).with_context(|| format!("{} does not run", self.name))
    }

    /// Installs it where that can be done; why not, else.
    pub(super) fn make_present(&self) -> Result<()> {
        make_present(self.name, self.programs, self.packages)
    }
}

fn make_present(name: &str, programs: &[&str], packages: &[&str]) -> Result<()> {
    let is_there = || programs.iter().all(|program| present(program)) && has_modules(packages);
    if is_there() {
        return Ok(());
    }
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("{name} is not installed: apt-get install {}", packages.join(" "));
    }
    println!("installing {} by apt-get", packages.join(" "));
    let told = Command::new("apt-get")
        .args(["install", "--quiet", "--yes", "--no-install-recommends"])
        .args(packages)
        // A service that the package would start would take port 53.
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")])
        .output()?;
    if is_there() {
        return Ok(());
    }
    bail!("{name} cannot be installed: {}", String::from_utf8_lossy(&told.stderr).trim())
}

/// Modules are no programs: the package's own list tells.
fn has_modules(packages: &[&str]) -> bool {
    let Ok(listed) = output(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Status}\n"])) else {
        return true;
    };
    let is_installed = |package: &str| listed.lines().any(|line| line == format!("{package} install ok installed"));
    packages.iter().filter(|package| package.contains("module")).all(|package| is_installed(package))
}

const ZONE_FILE: &str = "\
$ORIGIN cdn.example.
@ 3600 SOA ns1 hostmaster 1 3600 600 604800 60
@ 3600 NS ns1
ns1 3600 A 127.0.0.1
";

fn gdnsd(setup: &Setup) -> Result<Server> {
    let (address, place) = (free_address()?, setup.place("gdnsd")?);
    fs::create_dir_all(place.join("etc/zones"))?;
    let ids: Vec<&str> = POPS.iter().map(|pop| pop.0).collect();
    let list = |entry: &dyn Fn(&Pop) -> String| POPS.iter().map(entry).collect::<Vec<_>>().join(", ");
    let (at, to) =
        (list(&|pop| format!("{} => [{}, {}]", pop.0, pop.1, pop.2)), list(&|pop| format!("{} => {}", pop.0, pop.3)));
    fs::write(
        place.join("etc/config"),
        format!(
            "options => {{ listen => [ {address} ], udp_threads => 1, tcp_threads => 1, run_dir => {0}/run, state_dir => {0}/state, edns_client_subnet => true }}\n\
             plugins => {{ geoip => {{ maps => {{ m => {{ geoip2_db => {1}, datacenters => [{2}], auto_dc_coords => {{ {at} }} }} }},\n\
             resources => {{ www => {{ map => m, dcmap => {{ {to} }} }} }} }} }}\n",
            place.display(),
            setup.database.display(),
            ids.join(", "),
        ),
    )?;
    let zone = ZONE_FILE.replace("$ORIGIN cdn.example.\n", "") + "www 30 DYNA geoip!www\n";
    fs::write(place.join("etc/zones/cdn.example"), zone)?;
    let mut command = pinned(Path::new("gdnsd"));
    command.arg("-c").arg(place.join("etc")).arg("start");
    Server::start("gdnsd", address, command)
}

fn knot(setup: &Setup) -> Result<Server> {
    let (address, place) = (free_address()?, setup.place("knot")?);
    fs::write(place.join("cdn.example.zone"), format!("{ZONE_FILE}www 30 A 127.18.49.10\n"))?;
    let countries: String = POPS.iter().map(|pop| format!("  - geo: \"{}\"\n    A: {}\n", pop.4, pop.3)).collect();
    fs::write(place.join("geo.conf"), format!("{SITE}:\n{countries}"))?;
    let user = output(Command::new("id").arg("-un"))?;
    fs::write(
        place.join("knot.conf"),
        format!(
            "server:\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  rundir: {2}\n  user: {3}\n\
             \x20 edns-client-subnet: on\ndatabase:\n  storage: {2}\n\
             mod-geoip:\n  - id: world\n    config-file: {2}/geo.conf\n    ttl: 30\n    mode: geodb\n    geodb-file: {4}\n    geodb-key: [ country/iso_code ]\n\
             zone:\n  - domain: cdn.example\n    storage: {2}\n    file: cdn.example.zone\n    module: mod-geoip/world\n",
            address.ip(),
            address.port(),
            place.display(),
            user.trim(),
            setup.database.display()
        ),
    )?;
    let mut command = pinned(Path::new("knotd"));
    command.arg("-c").arg(place.join("knot.conf"));
    Server::start("knot", address, command)
}

/// A plain zone: it knows no places.
fn bind(setup: &Setup) -> Result<Server> {
    let ([address, tls, https], place) = (free_addresses()?, setup.place("bind")?);
    fs::write(place.join("zone"), format!("{ZONE_FILE}www 30 A 127.18.49.10\n"))?;
    fs::write(
        place.join("named.conf"),
        format!(
            "options {{ directory \"{0}\"; pid-file none; session-keyfile none; recursion no; listen-on-v6 {{ none; }};\n\
             \x20 listen-on port {1} {{ 127.0.0.1; }}; listen-on port {2} tls ours {{ 127.0.0.1; }};\n\
             \x20 listen-on port {3} tls ours http default {{ 127.0.0.1; }}; minimal-responses yes; tcp-clients 1000; }};\n\
             tls ours {{ cert-file \"{4}\"; key-file \"{5}\"; }};\ncontrols {{ }};\n\
             zone \"cdn.example\" {{ type primary; file \"zone\"; }};\n",
            place.display(),
            address.port(),
            tls.port(),
            https.port(),
            setup.certificate.display(),
            setup.key.display()
        ),
    )?;
    succeed(Command::new("chmod").arg("-R").arg("a+rX").arg(&setup.folder))?;
    let mut command = pinned(Path::new("named"));
    command.args(["-f", "-n", "1"]).arg("-c").arg(place.join("named.conf"));
    let mut server = Server::start("bind", address, command)?;
    server.ports = vec![("dot", tls.port()), ("doh", https.port())];
    Ok(server)
}
