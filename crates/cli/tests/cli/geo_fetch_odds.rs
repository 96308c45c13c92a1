//! `perigee geo fetch` where something is odd: servers, archives, folders, disks, and processes that are killed.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    process::{Command, Stdio},
    sync::Mutex,
};

use perigee_geo::build;
use perigee_testkit::{Reply, ScriptedOrigin, Seen, noise, patiently, sha256, wait_until};

use crate::geo_fetch::{Bench, KEY, archive, city, names, run, service, systems, world};

fn stop(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// MaxMind leads downloads to a host for storage, which is not to see the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_nobody_but_whom_it_is_of() {
    let packed = city(&world(9));
    let digest = sha256(&packed);
    let storage = ScriptedOrigin::answering(move |_: &Seen| Reply::ok(packed.clone())).await;
    let to = format!("{}/stored?X-Signature=abc", storage.url());
    let server = ScriptedOrigin::answering(move |seen: &Seen| {
        assert!(seen.header("authorization").is_some());
        if seen.target.ends_with("sha256") {
            return Reply::ok(digest.clone());
        }
        Reply::new(302).header("Location", &to)
    })
    .await;
    let bench = Bench::new();
    let ran = run(bench.command(&server, &[])).await;
    assert_eq!((ran.code, fs::read(bench.path()).unwrap()), (Some(0), world(9)), "{}", ran.stderr);
    let seen = storage.seen();
    assert_eq!((seen.len(), seen[0].header("authorization"), seen[0].header("cookie")), (1, None, None));
    // What stands in a URL can be read by all on the machine, and would not be sent: it is refused, and not repeated.
    let bench = Bench::new();
    let url = server.url().replace("http://", &format!("http://me:{KEY}@"));
    bench.check_refused(&run(bench.bare(&["--url", &url])).await, &["a user or a password in a URL is not sent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_to_be_left_alone() {
    let server = ScriptedOrigin::answering(|seen: &Seen| match seen.path() {
        "/busy" => Reply::new(429).header("Retry-After", "7200"),
        "/down" => Reply::new(503).header("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),
        "/never" => Reply::new(429).header("Retry-After", "whenever"),
        _ => Reply::new(500),
    })
    .await;
    let url = |path: &str| format!("{}/{path}", server.url());
    let bench = Bench::new();
    for (path, said) in [
        ("busy", "429 Too Many Requests: too many downloads today; it wants to be left alone for 7200 s"),
        ("down", "503 Service Unavailable; it wants to be left alone for 0 s"),
        ("never", "come back later"),
        ("broken", "500"),
    ] {
        bench.check_refused(&run(bench.bare(&["--url", &url(path)])).await, &[said]);
    }
    // Again and again: as long as the server wishes; and at the first failure not for an hour.
    for (path, seconds) in [("busy", 7200), ("broken", 60)] {
        let mut command = bench.bare(&["--url", &url(path), "--every", "3d"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
            line
        });
        let line = patiently("it tells of the failure", line).await.unwrap();
        assert!(line.ends_with(&format!("trying again in {seconds} s\n")), "{line}");
        stop(child.id(), nix::sys::signal::Signal::SIGTERM);
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert_eq!(status.code(), Some(0), "to be ended is how it ends");
    }
    assert_eq!(names(bench.folder.path()), ["GeoLite2-City.mmdb", "key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_not_downloaded_again() {
    let new = world(9);
    let body = new.clone();
    let server = ScriptedOrigin::answering(move |seen: &Seen| match seen.header("if-none-match") {
        Some("\"v1\"") => Reply::new(304).header("ETag", "\"v1\""),
        _ => Reply::ok(body.clone()).header("ETag", "\"v1\""),
    })
    .await;
    let bench = Bench::new();
    let url = format!("{}/city.mmdb?key={KEY}", server.url());
    let fetch = async |more: &[&str]| run(bench.bare(&[&["--url", &*url], more].concat())).await;
    assert_eq!(fetch(&[]).await.code, Some(0));
    let note = bench.folder.path().join("GeoLite2-City.mmdb.origin");
    assert!(!fs::read_to_string(&note).unwrap().contains(KEY));
    let ran = fetch(&[]).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("is there already"), "{ran:?}");
    assert_eq!(server.seen()[1].header("if-none-match"), Some("\"v1\""));
    // Nobody asks so who insists, who asks elsewhere, or whose database is another by now.
    assert!(fetch(&["--force"]).await.stdout.contains("no checksum was named"));
    let elsewhere = format!("{url}&x=1");
    assert!(run(bench.bare(&["--url", &elsewhere])).await.stdout.contains("no checksum was named"));
    assert!(fetch(&[]).await.stdout.contains("no checksum was named"));
    let changed = |path: &std::path::Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).unwrap();
    wait_until("the clock of files goes on", || {
        fs::write(bench.path(), world(2)).unwrap();
        changed(&bench.path()) > changed(&note)
    })
    .await;
    let ran = fetch(&[]).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("no checksum was named"), "{ran:?}");
    assert_eq!(fs::read(bench.path()).unwrap(), new);
    assert_eq!(server.seen().last().unwrap().header("if-none-match"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_hold_something_else() {
    // Of another kind than what was asked for, though nothing is there that it could be held against.
    let packed = archive(&[("GeoLite2-City.mmdb", &systems())]);
    let server = service(packed.clone(), sha256(&packed)).await;
    let bench = Bench::new();
    fs::remove_file(bench.path()).unwrap();
    let ran = run(bench.command(&server, &[])).await;
    assert!(
        ran.code == Some(1) && ran.stderr.contains("downloaded as GeoLite2-City is a database of autonomous"),
        "{ran:?}"
    );
    assert_eq!(names(bench.folder.path()), ["key"]);
    // Damaged though its checksum is right: a byte in the tree, and one in the types of its data.
    let good = world(60);
    for at in [3, good.len() / 2, good.len() - 60] {
        let mut bad = good.clone();
        bad[at] ^= 0xFF;
        let packed = city(&bad);
        let server = service(packed.clone(), sha256(&packed)).await;
        let bench = Bench::new();
        let ran = run(bench.command(&server, &[])).await;
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        if ran.code != Some(0) {
            bench.check_refused(&ran, &["the old database stays"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_or_much_smaller_is_taken_and_said() {
    let row = |n: u32| format!("10.{n}.0.0/16,DE,Berlin,52.5,{n},\n");
    let table = |rows: u32| format!("prefix,country,city,lat,lon,asn\n{}", (0..rows).map(row).collect::<String>());
    let packed = city(&build::build_at(table(1).as_bytes(), 86_400).unwrap());
    let server = service(packed.clone(), sha256(&packed)).await;
    let bench = Bench::new();
    fs::write(bench.path(), build::build_at(table(170).as_bytes(), 2_000_000_000).unwrap()).unwrap();
    let ran = run(bench.command(&server, &[])).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("the new one is of 1970-01-02, the old one of 2033-05-18"), "{}", ran.stderr);
    assert!(ran.stderr.contains("less than half"), "{}", ran.stderr);
    // The other way round there is nothing to say.
    let packed = city(&build::build_at(table(170).as_bytes(), 2_000_000_000).unwrap());
    let server = service(packed.clone(), sha256(&packed)).await;
    let ran = run(bench.command(&server, &[])).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_modes_and_what_was_left_behind() {
    let new = world(9);
    let packed = city(&new);
    let server = service(packed.clone(), sha256(&packed)).await;
    let bench = Bench::new();
    let (folder, real) = (bench.folder.path(), bench.folder.path().join("data/real.mmdb"));
    fs::create_dir(folder.join("data")).unwrap();
    fs::rename(bench.path(), &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("data/real.mmdb", bench.path()).unwrap();
    let ran = run(bench.command(&server, &[])).await;
    assert_eq!((ran.code, fs::read(&real).unwrap() == new), (Some(0), true), "{}", ran.stderr);
    assert!(fs::symlink_metadata(bench.path()).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(names(&folder.join("data")), ["real.mmdb", "real.mmdb.sha256"]);
    // As a process leaves it that is killed.
    for kind in ["archive", "new", "note"] {
        fs::write(folder.join(format!("data/.real.mmdb.fetch-{kind}")), "half").unwrap();
    }
    let ran = run(bench.command(&server, &[])).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("is there already"), "{ran:?}");
    assert_eq!(names(&folder.join("data")), ["real.mmdb", "real.mmdb.sha256"]);
    fs::remove_file(&real).unwrap();
    let ran = run(bench.command(&server, &[])).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("a link that leads nowhere"), "{ran:?}");
}

/// Wherever it is killed, the old database or the new one is there, whole; and the next one takes away what was left.
#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere() {
    let (bench, new) = (Bench::new(), world(200));
    let packed = city(&new);
    let digest = sha256(&packed);
    let gates = std::sync::Arc::new(Mutex::new(Vec::new()));
    let server = ScriptedOrigin::answering({
        let (packed, gates) = (packed.clone(), std::sync::Arc::clone(&gates));
        move |seen: &Seen| {
            if seen.target.ends_with("sha256") {
                return Reply::ok(digest.clone());
            }
            let (reply, gate) = Reply::gated(Some(packed.len() as u64));
            gate.send(packed[..packed.len() / 2].to_vec());
            gates.lock().unwrap().push(gate);
            reply
        }
    })
    .await;
    for round in 0..12 {
        let before = gates.lock().unwrap().len();
        let mut command = bench.command(&server, &["--force"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("half of it is sent", || gates.lock().unwrap().len() > before).await;
        let cmdline = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
        assert!(!String::from_utf8_lossy(&cmdline).contains(KEY));
        if round > 0 {
            // The rest comes while it is killed: where that catches it, chance decides, and nothing depends on it.
            gates.lock().unwrap().last().unwrap().send(packed[packed.len() / 2..].to_vec());
            for _ in 0..round * 2_000 {
                std::hint::spin_loop();
            }
        }
        child.kill().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        let there = fs::read(bench.path()).unwrap();
        assert!(there == bench.old || there == new, "{} bytes", there.len());
    }
    drop(server);
    let server = service(packed.clone(), sha256(&packed)).await;
    let ran = run(bench.command(&server, &[])).await;
    assert_eq!((ran.code, fs::read(bench.path()).unwrap() == new), (Some(0), true), "{}", ran.stderr);
    assert_eq!(names(bench.folder.path()), ["GeoLite2-City.mmdb", "GeoLite2-City.mmdb.sha256", "key"]);
}

/// Says and counts that a test does not run, where `cargo xtask test` reads it.
fn skip(line: &str) {
    if let Some(list) = std::env::var_os("PERIGEE_SKIPS") {
        let mut list = fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        std::io::Write::write_all(&mut list, line.as_bytes()).unwrap();
    }
}

/// A disk of one MiB, and one that takes nothing, in a namespace of their own.
#[tokio::test(flavor = "multi_thread")]
async fn disks_that_are_full_or_read_only() {
    let own = ["--user", "--map-root-user", "--mount"];
    let tried = Command::new("unshare").args(own).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        skip(
            "SKIP: no file system can be mounted here: the test of geo fetch on full and read-only disks did not run\n",
        );
        return;
    }
    let fetch = async |packed: Vec<u8>, before: &str| {
        let bench = Bench::new();
        let server = service(packed.clone(), sha256(&packed)).await;
        let inner = bench.command(&server, &[]);
        let script = format!(
            "mkdir disk; mount -t tmpfs -o size=1m tmpfs disk; cp GeoLite2-City.mmdb key disk; cd disk; {before}
             \"$0\" \"$@\"; code=$?; ls -A | tr '\\n' ' '; cmp GeoLite2-City.mmdb ../GeoLite2-City.mmdb && exit $code"
        );
        let mut command = Command::new("unshare");
        command.current_dir(bench.folder.path()).args(own).args(["sh", "-c", &script]);
        command.arg(inner.get_program()).args(inner.get_args());
        let ran = run(command).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "GeoLite2-City.mmdb key "), "{}", ran.stderr);
        assert!(!ran.stderr.contains(KEY), "{}", ran.stderr);
        ran.stderr
    };
    let said = fetch(archive(&[("LICENSE.txt", &noise(1, 2 << 20))]), "").await;
    assert!(said.contains("GeoLite2-City.mmdb.fetch-archive: No space left on device"), "{said}");
    // What was downloaded has room, and what comes out of it has not.
    let said = fetch(city(&vec![0; 4 << 20]), "").await;
    assert!(said.contains("the database cannot be written") && said.contains("No space left"), "{said}");
    let said = fetch(city(&world(9)), "mount -o remount,ro \"$PWD\";").await;
    assert!(said.contains("cannot write") && said.contains("Read-only file system"), "{said}");
}
