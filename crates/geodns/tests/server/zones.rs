//! Zone files that change while they serve, and secondaries of other makers: `dig`, `kdig` and `knotd`, each skipped with a
//! word where it is not installed.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use hickory_proto::{op::Message, rr::RData};
use perigee_testkit::patiently;
use tokio::time::sleep;

use super::bench::{A, Bench, Client, GERMANY, TXT, addresses, folder, options, query, unprobed};

const SECRET: &str = "c2l4dGVlbiBieXRlcyBvciBtb3JlIG9mIGl0";
const SOA: u16 = 6;
const FIRST: &str = "$TTL 1h\nhost A 192.0.2.1\n$INCLUDE more.zone sub\n";

/// A document with a zone file, and secondaries on this machine of which those of `notify` are told of changes.
fn document(notify: &str) -> String {
    format!(
        "{}[[zone.file]]\npath = \"main.zone\"\n[[zone.key]]\nname = \"transfer.cdn.example\"\nsecret_file = \"transfer.key\"\n\
         [zone.transfer]\nallow = [\"127.0.0.0/8\"]\nkey = \"transfer.cdn.example\"\nnotify = [{notify}]\n",
        unprobed()
    )
}

async fn start(notify: &str, main: &str) -> Bench {
    let folder = folder(&document(notify), super::bench::WORLD);
    std::fs::write(folder.path().join("main.zone"), main).unwrap();
    std::fs::write(folder.path().join("more.zone"), "@ NS ns\nns A 192.0.2.53\n").unwrap();
    std::fs::write(folder.path().join("transfer.key"), format!("{SECRET}\n")).unwrap();
    let runtimes = perigee_node::runtimes::Runtimes::start(2).unwrap();
    let running = perigee_geodns::start(options(&folder), runtimes.handles()).await.unwrap();
    Bench { folder, runtimes, running }
}

async fn ask(bench: &Bench, name: &str, kind: u16) -> Message {
    Client::at(GERMANY).await.ask(bench.address(), &query(1, name, kind)).await
}

async fn becomes(bench: &Bench, name: &str, expected: &str) {
    patiently("another record", async {
        while addresses(&ask(bench, name, A).await).first().map(ToString::to_string).as_deref() != Some(expected) {
            sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn serial(bench: &Bench) -> u32 {
    match &ask(bench, "cdn.example", SOA).await.answers[0].data {
        RData::SOA(soa) => soa.serial,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn records_of_files_change_with_the_files() {
    let bench = start("", FIRST).await;
    becomes(&bench, "host.cdn.example", "192.0.2.1").await;
    // A delegation of an included file, with its glue.
    let referral = ask(&bench, "x.sub.cdn.example", TXT).await;
    assert!(referral.answers.is_empty() && !referral.metadata.authoritative);
    assert_eq!((referral.authorities.len(), referral.additionals.len()), (1, 1), "{referral:?}");
    // Steered names stay what they are.
    assert_eq!(bench.www(GERMANY).await.to_string(), super::bench::FRA);

    let before = serial(&bench).await;
    bench.replace("main.zone", FIRST.replace("192.0.2.1", "192.0.2.2"));
    becomes(&bench, "host.cdn.example", "192.0.2.2").await;
    let after = serial(&bench).await;
    assert!(after.wrapping_sub(before) as i32 > 0, "{before} {after}: secondaries see that it is newer");

    // An included file is watched like the others.
    bench.replace("more.zone", "host A 192.0.2.3\n");
    becomes(&bench, "host.sub.cdn.example", "192.0.2.3").await;

    // A bad one changes nothing, and is told with its line.
    bench.replace("main.zone", "$TTL 1h\nhost A 192.0.2.4\nwww A 192.0.2.4\n");
    patiently("a refusal", async {
        while !bench.admin("/v1/status").await.contains("main.zone:3") {
            sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    becomes(&bench, "host.cdn.example", "192.0.2.2").await;
    let metrics = bench.admin("/metrics").await;
    assert!(metrics.contains("what=\"zone-files\",result=\"refused\""), "{metrics}");
    bench.replace("main.zone", FIRST.replace("192.0.2.1", "192.0.2.5"));
    becomes(&bench, "host.cdn.example", "192.0.2.5").await;
    assert!(bench.admin("/v1/status").await.contains("\"zone_refusal\":null"));
}

#[tokio::test]
async fn what_is_refused_is_told_until_it_is_not() {
    let bench = start("", FIRST).await;
    let is_failing = |what: &str, failing: u8| {
        let line = format!("perigee_reload_failing{{node=\"ns1\",tier=\"geodns\",what=\"{what}\"}} {failing}\n");
        let bench = &bench;
        async move { bench.admin_becomes("/metrics", &line).await }
    };
    const BAD: &str = "$TTL 1h\nwww A 192.0.2.4\n";
    bench.replace("main.zone", BAD);
    is_failing("zone-files", 1).await;
    // What serves lies there again: nothing is applied, and nothing is wrong any more.
    bench.replace("main.zone", FIRST);
    is_failing("zone-files", 0).await;

    // A document that names neither the bad file nor the bad database.
    bench.replace("main.zone", BAD);
    bench.replace("world.mmdb", "no database");
    is_failing("zone-files", 1).await;
    is_failing("geo-database", 1).await;
    std::fs::write(bench.path("other.mmdb"), perigee_geo::build::build(super::bench::WORLD.as_bytes()).unwrap())
        .unwrap();
    bench.replace("perigee.toml", unprobed().replace("world.mmdb", "other.mmdb"));
    is_failing("zone-files", 0).await;
    is_failing("geo-database", 0).await;
    is_failing("document", 0).await;
}

#[tokio::test]
async fn a_bad_file_is_no_start() {
    for (main, expected) in [
        (Some("host A 192.0.2.1\n"), "main.zone:1"),
        (Some("$TTL 1\nwww A 192.0.2.1\n"), "steered name of site www"),
        (None, "main.zone cannot be read"),
    ] {
        let folder = folder(&document(""), super::bench::WORLD);
        std::fs::write(folder.path().join("transfer.key"), SECRET).unwrap();
        if let Some(main) = main {
            std::fs::write(folder.path().join("main.zone"), main).unwrap();
        }
        let runtimes = perigee_node::runtimes::Runtimes::start(1).unwrap();
        let error = perigee_geodns::start(options(&folder), runtimes.handles()).await.unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

#[tokio::test]
async fn a_bad_key_is_no_start() {
    for (secret, expected) in [("c2hvcnQ=", "at least 16"), ("not base 64", "is not base 64")] {
        let folder = folder(&document(""), super::bench::WORLD);
        std::fs::write(folder.path().join("main.zone"), "; nothing\n").unwrap();
        std::fs::write(folder.path().join("transfer.key"), secret).unwrap();
        let runtimes = perigee_node::runtimes::Runtimes::start(1).unwrap();
        let error = perigee_geodns::start(options(&folder), runtimes.handles()).await.unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

fn is_installed(program: &str) -> bool {
    let is_there = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        eprintln!("skipped: {program} is not installed");
    }
    is_there
}

/// What a client of the command line prints for a question to the nameserver.
async fn run(program: &str, server: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "+norecurse"]);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn clients_have_the_zone_and_its_signatures_hold() {
    let hosts: String = (0..5_000).map(|number| format!("h{number} A 192.0.2.1\n")).collect();
    let bench = start("", &format!("{FIRST}$ORIGIN cdn.example.\n{hosts}")).await;
    let key = format!("hmac-sha256:transfer.cdn.example:{SECRET}");
    for program in ["dig", "kdig"] {
        if !is_installed(program) {
            continue;
        }
        let whole = run(program, bench.address(), &["-y", &key, "cdn.example", "AXFR"]).await;
        let lines: Vec<&str> =
            whole.lines().filter(|line| line.starts_with('h') && line.contains("192.0.2.1")).collect();
        assert_eq!(lines.len(), 5_001, "{program}: {}", &whole[..whole.len().min(2_000)]);
        assert_eq!(whole.matches("SOA\t").count() + whole.matches("SOA ").count(), 2, "{program}");
        assert!(whole.contains(super::bench::FRA) || whole.contains(super::bench::SYD), "steered: {program}");
        for bad in ["couldn't verify", "invalid TSIG", "WARNING", "Transfer failed", "BADSIG"] {
            assert!(!whole.contains(bad), "{program}: {bad}");
        }
        // A signed question that is none for the zone.
        let soa = run(program, bench.address(), &["-y", &key, "cdn.example", "SOA"]).await;
        assert!(
            soa.contains("NOERROR") && !soa.contains("couldn't verify") && !soa.contains("WARNING"),
            "{program}: {soa}"
        );
        // Without the key, or with another, there is nothing.
        let wrong = "hmac-sha256:transfer.cdn.example:YW5vdGhlciBzZWNyZXQgb2YgdGhpcyBuYW1l";
        for arguments in [&["cdn.example", "AXFR"][..], &["-y", wrong, "cdn.example", "AXFR"]] {
            let nothing = run(program, bench.address(), arguments).await;
            assert!(!nothing.contains("192.0.2.1"), "{program} {arguments:?}: {nothing}");
        }
        let current = format!("IXFR={}", serial(&bench).await);
        let soa = run(program, bench.address(), &["-y", &key, "+tcp", "cdn.example", &current]).await;
        assert!(soa.contains("SOA") && !soa.contains("192.0.2.1"), "{program}: {soa}");
    }
}

/// Ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn knotd(folder: &Path, listen: SocketAddr, primary: SocketAddr) -> Program {
    let at = folder.display();
    let configuration = format!(
        "server:\n    rundir: \"{at}\"\n    pidfile: \"{at}/knot.pid\"\n    listen: {}@{}\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n    storage: \"{at}\"\n\
         key:\n  - id: transfer.cdn.example\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         remote:\n  - id: primary\n    address: {}@{}\n    key: transfer.cdn.example\n\
         acl:\n  - id: told\n    key: transfer.cdn.example\n    action: notify\n\
         zone:\n  - domain: cdn.example\n    storage: \"{at}\"\n    master: primary\n    acl: told\n",
        listen.ip(),
        listen.port(),
        primary.ip(),
        primary.port(),
    );
    let path = folder.join("knot.conf");
    std::fs::write(&path, configuration).unwrap();
    let log = std::fs::File::create(folder.join("knot.log")).unwrap();
    let mut command = Command::new("knotd");
    command.arg("-c").arg(path).stdout(log.try_clone().unwrap()).stderr(log);
    Program(command.spawn().unwrap())
}

#[tokio::test]
async fn a_secondary_has_the_zone_and_learns_of_changes() {
    if !is_installed("knotd") {
        return;
    }
    let listen = SocketAddr::from(([127, 0, 0, 1], perigee_testkit::free_port()));
    // So large that no change of some records is longer.
    let fillers: String = (0..100).map(|number| format!("h{number} A 192.0.2.1\n")).collect();
    let main = |address: &str| format!("{}$ORIGIN cdn.example.\n{fillers}", FIRST.replace("192.0.2.1", address));
    let bench = start(&format!("\"{listen}\""), &main("192.0.2.1")).await;
    let folder = tempfile::tempdir().unwrap();
    let _knotd = knotd(folder.path(), listen, bench.address());
    let answer = async |name: &str, kind: u16| {
        let client = Client::at("127.0.0.1").await;
        client.0.send_to(&query(1, name, kind), listen).await.ok()?;
        let mut reply = [0; 1_500];
        let received =
            tokio::time::timeout(std::time::Duration::from_millis(500), client.0.recv_from(&mut reply)).await;
        let (length, _) = received.ok()?.ok()?;
        Message::from_vec(&reply[..length]).ok()
    };
    let becomes = async |expected: &str| {
        patiently("the secondary's answer", async {
            loop {
                let found = answer("host.cdn.example", A).await.map(|reply| addresses(&reply));
                if found.and_then(|found| found.first().map(ToString::to_string)).as_deref() == Some(expected) {
                    return;
                }
                sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
    };
    becomes("192.0.2.1").await;
    let steered = addresses(&answer("www.cdn.example", A).await.unwrap());
    assert_eq!(steered.len(), 1, "a copy does not steer");
    // The SOA says that it looks once an hour: it is told, and has what changed alone (RFC 1995).
    let has = async |name: &str, count: usize| {
        patiently("the secondary's records", async {
            while answer(name, A).await.is_none_or(|reply| reply.answers.len() != count) {
                sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
    };
    bench.replace("main.zone", format!("{}new A 192.0.2.7\nold DNAME elsewhere.example.\n", main("192.0.2.2")));
    becomes("192.0.2.2").await;
    has("new.cdn.example", 1).await;
    has("x.old.cdn.example", 2).await;
    bench.replace("main.zone", main("192.0.2.3"));
    becomes("192.0.2.3").await;
    has("new.cdn.example", 0).await;
    let log = std::fs::read_to_string(folder.path().join("knot.log")).unwrap();
    assert!(log.contains("IXFR, incoming") && !log.contains("AXFR-style") && !log.contains("fallback"), "{log}");
}

/// A secondary that is told, and told again until it answers.
#[tokio::test]
async fn whoever_does_not_answer_is_told_again() {
    let secondary = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let _bench = start(&format!("\"{}\"", secondary.local_addr().unwrap()), FIRST).await;
    let mut told = [[0; 512]; 2];
    for message in &mut told {
        let (length, from) = patiently("a notification", secondary.recv_from(message)).await.unwrap();
        assert!(length > 100, "signed");
        // NOTIFY, authoritative; one question, the SOA, one additional record.
        assert_eq!(message[2..12], [0x24, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        let reply = [&message[..2], &[0xa4, 5, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        // Refused: by one that is not ready yet.
        secondary.send_to(&reply, from).await.unwrap();
    }
    assert_ne!(told[0][..2], told[1][..2], "a number of its own");
}
