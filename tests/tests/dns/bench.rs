//! A nameserver as a process, with a document, a world and keys in a folder of its own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use perigee_geo::build;
use perigee_testkit::{ProcessUnderTest, client, free_port, wait_until};
use tempfile::TempDir;

/// Germany and Australia by telephone code.
const WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.49.0.0/16,DE,Berlin,52.52,13.40,
127.61.0.0/16,AU,Canberra,-35.28,149.13,
";
/// The other way round.
pub(crate) const SWAPPED_WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.61.0.0/16,DE,Berlin,52.52,13.40,
127.49.0.0/16,AU,Canberra,-35.28,149.13,
";
pub(crate) const GERMANY: &str = "127.49.0.1";
pub(crate) const AUSTRALIA: &str = "127.61.0.1";
pub(crate) const FRA: &str = "198.18.49.80";
pub(crate) const SYD: &str = "198.18.61.80";
pub(crate) const ZONE: &str = "cdn.example";

/// A zone with something of everything; nobody probes its edges before a test is over.
pub(crate) fn document(more_of_cdn: &str) -> String {
    let pop = |id: &str, country: &str, latitude: f64, longitude: f64, addresses: &str| {
        format!(
            "[[pop]]\nid = \"{id}\"\ncity = \"{id}\"\ncountry = \"{country}\"\nlatitude = {latitude}\nlongitude = {longitude}\n\
             addresses = [{addresses}]\nhealth = {{ path = \"/\", port = 1, interval = \"1h\", timeout = \"1s\" }}\n"
        )
    };
    let record = |name: &str, kind: &str, values: &str| {
        format!("[[zone.record]]\nname = \"{name}\"\ntype = \"{kind}\"\nttl = \"1h\"\nvalues = [{values}]\n")
    };
    let site = |id: &str, more: &str| {
        format!("[[site]]\nid = \"{id}\"\norigins = [{{ url = \"http://127.0.0.1:1\" }}]\n{more}")
    };
    let cdn = format!(
        "version = 1\n[cdn]\nname = \"test\"\nzone = \"{ZONE}\"\nnameservers = [\n\
         {{ host = \"ns1.{ZONE}\", addresses = [\"127.0.0.1\"] }},\n{{ host = \"ns2.{ZONE}\", addresses = [\"127.0.0.2\"] }} ]\n\
         ttl = \"5m\"\nnegative_ttl = \"1m\"\n{more_of_cdn}[geo]\ndatabase = \"world.mmdb\"\n[geo.steering]\nanswers = 1\n"
    );
    [
        cdn,
        pop("fra", "DE", 50.11, 8.68, &format!("\"{FRA}\", \"2001:db8:49::80\"")),
        pop("syd", "AU", -33.87, 151.21, &format!("\"{SYD}\", \"2001:db8:61::80\"")),
        site("www", ""),
        site("tls", "tls = { certificate = \"c\", key = \"k\" }\n"),
        record("mail", "MX", "\"10 mx.example.net.\""),
        record("@", "CAA", "'0 issue \"ca.example.net\"'"),
        record("_sip._tcp", "SRV", "\"0 5 5060 mail\""),
        record("a.deep.name", "A", "\"192.0.2.1\""),
        record("*.wild", "A", "\"192.0.2.2\""),
        record("alias", "CNAME", "\"assets\""),
        record("moved", "DNAME", "\"@\""),
        record("assets", "CNAME", "\"www\""),
        record("sub", "NS", "\"ns.sub.cdn.example.\""),
        record("ns.sub", "A", "\"192.0.2.53\""),
        record(
            "big",
            "TXT",
            &(0..8).map(|number| format!("\"{number}{}\"", "x".repeat(240))).collect::<Vec<_>>().join(", "),
        ),
    ]
    .concat()
}

pub(crate) const DNSSEC: &str = "[cdn.dnssec]\nkeys = \"keys\"\n";

/// A nameserver and what it reads.
pub(crate) struct Nameserver {
    pub(crate) process: ProcessUnderTest,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Nameserver {
    pub(crate) async fn start(document: &str) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), document, None).await
    }

    /// With a key that `perigee dns keygen` made.
    pub(crate) async fn start_keyed(more_of_cdn: &str) -> Self {
        Self::start_keyed_by(more_of_cdn, &["csk"]).await
    }

    /// With keys of these roles.
    pub(crate) async fn start_keyed_by(more_of_cdn: &str, roles: &[&str]) -> Self {
        let folder = folder(&document(more_of_cdn));
        for role in roles {
            perigee(&folder, &["dns", "keygen", "--role", role]);
        }
        Self::of(Ipv4Addr::LOCALHOST.into(), folder, None).await
    }

    /// With other files beside the document.
    pub(crate) async fn start_beside(document: &str, files: &[(&str, &str)]) -> Self {
        let folder = folder(document);
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self::of(Ipv4Addr::LOCALHOST.into(), folder, None).await
    }

    /// With more flags.
    pub(crate) async fn start_with(document: &str, flags: &[&str]) -> Self {
        Self::told(Ipv4Addr::LOCALHOST.into(), folder(document), None, flags).await
    }

    pub(crate) async fn at(address: IpAddr, document: &str, port: Option<u16>) -> Self {
        Self::of(address, folder(document), port).await
    }

    async fn of(address: IpAddr, folder: TempDir, port: Option<u16>) -> Self {
        Self::told(address, folder, port, &[]).await
    }

    async fn told(address: IpAddr, folder: TempDir, port: Option<u16>, flags: &[&str]) -> Self {
        let address = SocketAddr::new(address, port.unwrap_or_else(free_port));
        let admin: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
        let mut process = ProcessUnderTest::start(
            "perigee-geodns",
            [
                "--document".into(),
                folder.path().join("perigee.toml").display().to_string(),
                format!("--listen={address}"),
                format!("--admin={admin}"),
                format!("--access-log={}", folder.path().join("queries.log").display()),
            ]
            .into_iter()
            .chain(flags.iter().map(|flag| (*flag).to_owned())),
        );
        process.wait_ready(admin).await;
        Self { process, address, admin, folder }
    }

    /// Replaces a file of the folder as operators must: by renaming another over it.
    pub(crate) fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let next = self.folder.path().join("next");
        fs::write(&next, content).unwrap();
        fs::rename(&next, self.folder.path().join(name)).unwrap();
    }

    pub(crate) fn replace_world(&self, world: &str) {
        self.replace("world.mmdb", build::build(world.as_bytes()).unwrap());
    }

    /// What the admin API says of a number, summed over its labels that contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = client::get(self.admin, "admin", "/metrics").await.text();
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name) && line.contains(labels);
        text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// How often a name was asked for a type so far, by the query log.
    pub(crate) async fn times_asked(&self, name: &str, kind: &str) -> usize {
        // The log is written behind the answers: when the last one's line is there, so are all others.
        let last = format!("last-{}.{ZONE}", free_port());
        let (at, port) = (format!("@{}", self.address.ip()), self.address.port().to_string());
        run("dig", &[&at, "-p", &port, "+norecurse", &last, "A"]);
        let count = |name: &str, kind: &str| {
            let text = fs::read_to_string(self.folder.path().join("queries.log")).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.filter(|line| line["name"] == name && line["type"] == kind).count()
        };
        wait_until("the query log", || count(&last, "A") > 0).await;
        count(name, kind)
    }
}

/// A folder with a document and its database.
fn folder(document: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("perigee.toml"), document).unwrap();
    fs::write(folder.path().join("world.mmdb"), build::build(WORLD.as_bytes()).unwrap()).unwrap();
    folder
}

/// Runs the operator's command on a folder's document; what it prints.
pub(crate) fn perigee(folder: &TempDir, arguments: &[&str]) -> String {
    let document = folder.path().join("perigee.toml").display().to_string();
    let mut all = arguments.to_vec();
    all.extend(["--document", &document]);
    run(&binary("perigee"), &all)
}

/// The workspace's binary of that name, beside the running test's folder.
fn binary(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let found: Option<PathBuf> =
        test.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run: cargo build --workspace --bins")).display().to_string()
}

/// What a program prints to standard output; whatever its exit status is.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || !output.stdout.is_empty(), "{program} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A port of UDP and TCP for a resolver of the test.
pub(crate) async fn listening(address: SocketAddr) {
    wait_until("a resolver listens", || std::net::TcpStream::connect(address).is_ok()).await;
}
