//! The soak, as processes: an edge with little memory and a small disk behind a shield with the same.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use perigee_tests::{
    client::Client,
    soak::{self, Purge, Soak},
};

use super::{
    Folder, binaries, number, prepare,
    server::{Server, free_address},
};

const START_BOUND: Duration = Duration::from_secs(10);
const HOST: &str = "www.cdn.example";
const MEMORY_MIB: u64 = 192;
const DISK_MIB: u64 = 512;
/// Beyond `--memory`, whatever the load.
const MARGIN_MIB: u64 = 64;
/// Of the admin API's token `soak`.
const TOKEN_SHA256: &str = "c06f543b3ea6c597516e643d22c38675a9a676ca3231e87e26276418ccb13c33";

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let (mut time, mut objects, mut build) = (Duration::from_secs(600), 100_000, true);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => time = Duration::from_secs(60 * number("--minutes", &mut rest)?),
            "--seconds" => time = Duration::from_secs(number("--seconds", &mut rest)?),
            "--objects" => objects = number("--objects", &mut rest)?,
            "--no-build" => build = false,
            other => bail!("there is no flag {other:?}\n\n{}", super::HELP),
        }
    }
    prepare()?;
    let binaries = binaries(build)?;
    let folder = Folder::on_disk()?;
    let (origin, versions) = soak::origin(objects, true)?;
    let (edge_address, shield_address) = (free_address()?, free_address()?);
    fs::write(folder.0.join("fleet.secret"), "a secret of the soak alone\n")?;
    let document = folder.0.join("cdn.toml");
    fs::write(&document, text(&format!("http://{}", origin.address()), shield_address))?;
    let node = |name: &'static str, address: SocketAddr, place: [&str; 2]| {
        let admin = free_address()?;
        let mut command = Command::new(binaries.join(name));
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.arg("--document").arg(&document).args(place);
        command.args(["--memory", &format!("{MEMORY_MIB}MiB")]);
        command.arg("--disk").arg(format!("{}:{DISK_MIB}MiB", folder.0.join(name).display()));
        command.arg("--access-log").arg(folder.0.join(format!("{name}.log")));
        Server::start(name, address, command).map(|server| (server, admin))
    };
    let (shield, shield_admin) = node("perigee-shield", shield_address, ["--shield", "shield-eu"])?;
    let (edge, edge_admin) = node("perigee-edge", edge_address, ["--pop", "fra"])?;
    let purge = Purge {
        admins: vec![shield_admin, edge_admin],
        fields: "Authorization: Bearer soak\r\nContent-Type: application/json\r\n".to_owned(),
        content: format!(r#"{{"url":"http://{HOST}PATH"}}"#),
    };
    // A node without that part of the admin API is soaked by unsafe methods alone, and that is said.
    let purges = takes_purges(shield_admin)? && takes_purges(edge_admin)?;
    println!("soak    {}", if purges { "purges and unsafe methods" } else { "unsafe methods; no node takes purges" });
    let soak = Soak { edge: edge_address, host: HOST.to_owned(), purge: purges.then_some(purge), time, clients: 16 };
    println!(
        "soak    {} s, {objects} objects, {MEMORY_MIB} MiB of memory and {DISK_MIB} MiB of disk a node",
        time.as_secs()
    );
    let from = Instant::now();
    let report = soak::run(&soak, &versions)?;
    println!("{report}\nin {:.0} s; the origin was asked {} times", from.elapsed().as_secs_f64(), origin.requests());
    for (name, server) in [("edge", &edge), ("shield", &shield)] {
        let peak = server.resident().1 >> 20;
        println!("{name} peaked at {peak} MiB");
        ensure!(peak <= MEMORY_MIB + MARGIN_MIB, "{name} took more than {} MiB", MEMORY_MIB + MARGIN_MIB);
    }
    keep_logs(&folder.0, report.wrong > 0);
    ensure!(report.wrong == 0, "{} answers were wrong", report.wrong);
    Ok(())
}

/// Asked until the admin API listens, which begins after the data listener.
fn takes_purges(admin: SocketAddr) -> Result<bool> {
    let from = Instant::now();
    loop {
        match Client::new(admin, "admin").ask("POST", "/v1/purge", "", "{}") {
            Ok(answer) => return Ok(answer.status != 404),
            Err(failure) => ensure!(from.elapsed() < START_BOUND, "{admin} does not answer: {failure:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a failure is looked into with.
fn keep_logs(folder: &Path, failed: bool) {
    for name in ["perigee-edge", "perigee-shield"] {
        let (from, to) = (folder.join(format!("{name}.log")), std::env::temp_dir().join(format!("soak-{name}.log")));
        if failed && fs::copy(from, &to).is_ok() {
            println!("access log kept: {}", to.display());
        }
    }
}

fn text(origin: &str, shield: SocketAddr) -> String {
    format!(
        r#"version = 1

[cdn]
name = "soak"
zone = "cdn.example"
secret_file = "fleet.secret"

[admin]
tokens = [{{ name = "soak", sha256 = "{TOKEN_SHA256}", scopes = ["purge"] }}]

[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["127.49.0.80"]

[[shield]]
id = "shield-eu"
url = "http://{shield}"
pops = ["fra"]

[[site]]
id = "www"
hosts = ["{HOST}"]
origins = [{{ url = "{origin}" }}]
"#
    )
}
