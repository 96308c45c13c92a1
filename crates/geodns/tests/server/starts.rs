//! What keeps a nameserver from starting, and what its command says.

use std::process::{Command, Output};

use perigee_geodns::start;
use perigee_node::runtimes::Runtimes;
use perigee_testkit::ProcessUnderTest;

use crate::bench::*;

async fn check_refused(change: impl FnOnce(&tempfile::TempDir), expected: &[&str]) {
    let folder = folder(&unprobed(), WORLD);
    change(&folder);
    let runtimes = Runtimes::start(1).unwrap();
    let error = format!("{:#}", start(options(&folder), runtimes.handles()).await.unwrap_err());
    for expected in expected {
        assert!(error.contains(expected), "{expected:?} in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_the_start() {
    let file = |folder: &tempfile::TempDir, name: &str| folder.path().join(name);
    let edit = |folder: &tempfile::TempDir, from: &str, to: &str| {
        std::fs::write(file(folder, "perigee.toml"), unprobed().replace(from, to)).unwrap();
    };
    check_refused(
        |folder| std::fs::remove_file(file(folder, "world.mmdb")).unwrap(),
        &["geo.database", "world.mmdb", "No such file"],
    )
    .await;
    check_refused(
        |folder| std::fs::write(file(folder, "world.mmdb"), "not a database").unwrap(),
        &["geo.database", "world.mmdb"],
    )
    .await;
    check_refused(
        |folder| std::fs::remove_file(file(folder, "perigee.toml")).unwrap(),
        &["perigee.toml", "cannot be read"],
    )
    .await;
    check_refused(|folder| edit(folder, "zone = \"cdn.example\"", "zone = \"no name\""), &["perigee.toml", "cdn.zone"])
        .await;
    let unsupported = "[control]\nengine = \"nats\"\nurl = \"nats://127.0.0.1:4222\"\n[geo]";
    check_refused(|folder| edit(folder, "[geo]", unsupported), &["control.engine"]).await;
    // A database of systems that is not there, and one that holds none.
    let systems = "[geo]\nasn_database = \"asn.mmdb\"";
    check_refused(|folder| edit(folder, "[geo]", systems), &["geo.asn_database", "asn.mmdb", "No such file"]).await;
    check_refused(
        |folder| {
            edit(folder, "[geo]", systems);
            let countries = perigee_geo::build::build(&b"prefix,country\n192.0.2.0/24,DE\n"[..]).unwrap();
            std::fs::write(file(folder, "asn.mmdb"), countries).unwrap();
        },
        &["geo.asn_database", "asn.mmdb", "holds an autonomous_system_number"],
    )
    .await;
    // Keys that are not there.
    let signed = "[cdn.dnssec]\nkeys = \"keys\"\nalgorithm = \"ed25519\"\n[geo]";
    check_refused(|folder| edit(folder, "[geo]", signed), &["keys", "No such file"]).await;
    check_refused(
        |folder| {
            edit(folder, "[geo]", signed);
            std::fs::create_dir(file(folder, "keys")).unwrap();
        },
        &["no CSK or KSK is active", "perigee dns keygen"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_has() {
    let bench = Bench::start().await;
    for (listen, admin) in [(Some(bench.address()), None), (None, bench.running.admin_addr())] {
        let mut taken = options(&bench.folder);
        taken.listen = listen.into_iter().chain(["127.0.0.54:0".parse().unwrap()]).collect();
        taken.admin = admin;
        let error = format!("{:#}", start(taken, bench.runtimes.handles()).await.unwrap_err());
        let address = listen.or(admin).unwrap().to_string();
        assert!(error.contains(&address) && error.contains("another process has that port"), "{error}");
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee-geodns"));
    command.env_remove("PERIGEE_DOCUMENT").args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_is_wrong() {
    let folder = folder(&unprobed(), WORLD);
    std::fs::remove_file(folder.path().join("world.mmdb")).unwrap();
    let path = folder.path().join("perigee.toml");
    let output = run(&["--document", path.to_str().unwrap(), "--listen", "127.0.0.53:0", "--admin", "off"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: geo.database: ") && said.contains("world.mmdb"), "{said}");
    assert_eq!(run(&[]).status.code(), Some(2));
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for flag in
        ["--document", "--listen", "--admin", "--threads", "--access-log", "--log", "--probe", "PERIGEE_DOCUMENT"]
    {
        assert!(help.contains(flag), "{flag} in {help}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_serves_probes_reloads_and_drains() {
    let folder = folder(&unprobed(), WORLD);
    let path = folder.path().join("perigee.toml");
    let admin = format!("127.0.0.1:{}", perigee_testkit::free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee-geodns"));
    command.args(["--listen", "127.0.0.53:0", "--threads", "1", "--admin", &admin, "--document"]).arg(&path);
    let mut process = ProcessUnderTest::spawn("perigee-geodns", command);
    process.wait_ready(admin.parse().unwrap()).await;
    let probe = run(&["--probe", "--admin", &admin]);
    assert_eq!(probe.status.code(), Some(0), "{}", String::from_utf8_lossy(&probe.stderr));
    process.signal(nix::sys::signal::Signal::SIGHUP);
    process.wait_for_line("generation=2").await;
    process.terminate();
    assert_eq!(process.wait_exit().await.code(), Some(0), "{}", process.stderr());
    assert_eq!(run(&["--probe", "--admin", &admin]).status.code(), Some(1));
}
