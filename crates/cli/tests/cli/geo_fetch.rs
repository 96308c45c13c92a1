//! `perigee geo fetch` against a server on loopback that speaks MaxMind's protocol, well and badly.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use perigee_geo::build;
use perigee_testkit::{Reply, ScriptedOrigin, Seen, certificates::Authority, patiently, sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Ran;

pub(crate) const KEY: &str = "s3cr3t_key";
/// `123456:s3cr3t_key`
pub(crate) const AUTHORIZATION: &str = "Basic MTIzNDU2OnMzY3IzdF9rZXk=";
const EDITION: &str = "/geoip/databases/GeoLite2-City/download";

pub(crate) fn world(rows: usize) -> Vec<u8> {
    let mut csv = "prefix,country,city,lat,lon,asn\n".to_owned();
    for row in 0..rows {
        csv += &format!("10.{row}.0.0/16,DE,Berlin,52.5,{},\n", row % 180);
    }
    build::build(csv.as_bytes()).unwrap()
}

pub(crate) fn systems() -> Vec<u8> {
    build::build(&b"prefix,asn\n192.0.2.0/24,64500\n"[..]).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As MaxMind's: a folder with a licence and the database.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("GeoLite2-City_20261120/{name}"), *bytes).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

pub(crate) fn city(database: &[u8]) -> Vec<u8> {
    archive(&[("LICENSE.txt", b"..."), ("GeoLite2-City.mmdb", database)])
}

/// A folder with an old database, and the command run in it.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) old: Vec<u8>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (folder, old) = (tempfile::tempdir().unwrap(), world(1));
        fs::write(folder.path().join("GeoLite2-City.mmdb"), &old).unwrap();
        fs::write(folder.path().join("key"), format!("{KEY}\n")).unwrap();
        Self { folder, old }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("GeoLite2-City.mmdb")
    }

    pub(crate) fn command(&self, server: &ScriptedOrigin, more: &[&str]) -> Command {
        let mut command = self.bare(more);
        command.args(["--account-id", "123456", "--license-key-file", "key", "--server", &server.url()]);
        command
    }

    pub(crate) fn bare(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perigee"));
        command.current_dir(self.folder.path()).args(["geo", "fetch", "GeoLite2-City.mmdb"]).args(more);
        for name in ["ACCOUNT_ID", "LICENSE_KEY", "LICENSE_KEY_FILE"] {
            command.env_remove(format!("PERIGEE_MAXMIND_{name}"));
        }
        command.env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    /// Nothing has changed, nothing is left beside, and the reason is said without the key.
    pub(crate) fn check_refused(&self, ran: &Ran, said: &[&str]) {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        for said in said {
            assert!(ran.stderr.contains(said), "{:?} does not say {said:?}", ran.stderr);
        }
        assert!(!ran.stderr.contains(KEY), "{}", ran.stderr);
        assert_eq!(fs::read(self.path()).unwrap(), self.old);
        assert_eq!(names(self.folder.path()), ["GeoLite2-City.mmdb", "key"], "{}", ran.stderr);
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Serves these bytes, and that checksum, to whoever has the key.
pub(crate) async fn service(archive: Vec<u8>, checksum: String) -> ScriptedOrigin {
    ScriptedOrigin::answering(move |seen: &Seen| {
        if seen.header("authorization") != Some(AUTHORIZATION) {
            return Reply::new(401).body("Invalid license key");
        }
        match seen.target.strip_prefix(EDITION) {
            Some("?suffix=tar.gz") => Reply::ok(archive.clone()),
            Some("?suffix=tar.gz.sha256") => Reply::ok(format!("{checksum}  GeoLite2-City_20261120.tar.gz\n")),
            _ => Reply::new(404),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_comes_into_its_place() {
    let (bench, new) = (Bench::new(), world(9));
    let packed = city(&new);
    let server = service(packed.clone(), sha256(&packed)).await;
    let ran = run(bench.command(&server, &[])).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = format!("Perigee-City of 1970-01-01 (places), {} bytes, checksum verified\n", new.len());
    assert!(ran.stdout.ends_with(&expected), "{}", ran.stdout);
    assert_eq!(fs::read(bench.path()).unwrap(), new);
    assert_eq!(names(bench.folder.path()), ["GeoLite2-City.mmdb", "GeoLite2-City.mmdb.sha256", "key"]);
    // It is there already: the checksum alone is asked for, unless one insists.
    let before = server.requests();
    let ran = run(bench.command(&server, &[])).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("is there already"), "{ran:?}");
    assert_eq!(server.requests(), before + 1);
    let ran = run(bench.command(&server, &["--force"])).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("verified"), "{ran:?}");
    // The first time, too.
    fs::remove_file(bench.path()).unwrap();
    let ran = run(bench.command(&server, &["--edition", "GeoLite2-City"])).await;
    assert_eq!((ran.code, fs::read(bench.path()).unwrap()), (Some(0), new));
    // The key may come by the environment alone.
    let mut command = bench.bare(&["--server", &server.url(), "--force"]);
    command.env("PERIGEE_MAXMIND_ACCOUNT_ID", "123456").env("PERIGEE_MAXMIND_LICENSE_KEY", KEY);
    assert_eq!(run(command).await.code, Some(0));
}

/// As the unit perigee-geo has it: no flag at all, and the key where systemd puts it.
#[tokio::test(flavor = "multi_thread")]
async fn variables_and_a_credential_do() {
    let (bench, packed) = (Bench::new(), city(&world(9)));
    let server = service(packed.clone(), sha256(&packed)).await;
    let credentials = tempfile::tempdir().unwrap();
    let unit = |more: [&str; 2]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perigee"));
        command.current_dir(bench.folder.path()).args(["geo", "fetch"]).env_remove("PERIGEE_MAXMIND_LICENSE_KEY_FILE");
        command.env_remove("PERIGEE_MAXMIND_LICENSE_KEY").env("CREDENTIALS_DIRECTORY", credentials.path());
        command.env("PERIGEE_GEO_DATABASE", "GeoLite2-City.mmdb").env("PERIGEE_GEO_SERVER", server.url());
        command.env("PERIGEE_MAXMIND_ACCOUNT_ID", "123456").env(more[0], more[1]);
        command
    };
    let edition = ["PERIGEE_GEO_EDITION", "GeoLite2-City"];
    // No credential, and an empty one, are none.
    bench.check_refused(&run(unit(edition)).await, &["a licence key is wanted"]);
    fs::write(credentials.path().join("maxmind.key"), "\n").unwrap();
    bench.check_refused(&run(unit(edition)).await, &["a licence key is wanted"]);
    fs::write(credentials.path().join("maxmind.key"), "another").unwrap();
    bench.check_refused(&run(unit(edition)).await, &["401"]);
    // The variable goes before it.
    assert_eq!(run(unit(["PERIGEE_MAXMIND_LICENSE_KEY", KEY])).await.code, Some(0));
    fs::remove_file(bench.path()).unwrap();
    fs::write(credentials.path().join("maxmind.key"), format!("{KEY}\n")).unwrap();
    let ran = run(unit(edition)).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("verified"), "{ran:?}");
    let ran = run(unit(["PERIGEE_GEO_EVERY", "soon"])).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("must be a duration"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_leaves_the_old_database() {
    let new = world(9);
    let good = city(&new);
    let check = async |archive: Vec<u8>, checksum: String, said: &[&str]| {
        let (bench, server) = (Bench::new(), service(archive, checksum).await);
        bench.check_refused(&run(bench.command(&server, &[])).await, said);
    };
    let sound = async |archive: Vec<u8>, said: &[&str]| check(archive.clone(), sha256(&archive), said).await;
    check(good.clone(), sha256("another"), &["not what was published", "the old database stays", &sha256(&good)]).await;
    check(good.clone(), "no digest".into(), &["does not begin with a SHA-256"]).await;
    sound(city(&new[..new.len() / 2]), &["does not serve", "the old database stays"]).await;
    sound(city(b"<html>"), &["does not serve", "no metadata"]).await;
    sound(archive(&[("README", b"x")]), &["without any .mmdb"]).await;
    sound(good[..good.len() / 2].to_vec(), &["cannot be unpacked"]).await;
    sound(gzip(b""), &["does not serve"]).await;
    sound(city(&systems()), &["a database of autonomous systems", "one of places"]).await;

    let (bench, server) = (Bench::new(), service(good.clone(), sha256(&good)).await);
    fs::write(bench.folder.path().join("key"), "wrong").unwrap();
    bench.check_refused(&run(bench.command(&server, &[])).await, &["401", "licence key is wrong"]);
    let bench = Bench::new();
    bench
        .check_refused(&run(bench.command(&server, &["--edition", "GeoIP2-City"])).await, &["404", "no such database"]);
    bench.check_refused(&run(bench.bare(&["--account-id", "1"])).await, &["a licence key is wanted"]);
    bench.check_refused(&run(bench.bare(&[])).await, &["an account id is wanted"]);
    let bad = ["--server", "http://192.0.2.1", "--account-id", "1", "--license-key-file", "key"];
    bench.check_refused(&run(bench.bare(&bad)).await, &["use https"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off() {
    let packed = city(&world(9));
    let (digest, half) = (sha256(&packed), packed[..packed.len() / 2].to_vec());
    let promised = packed.len() as u64;
    let server = ScriptedOrigin::answering(move |seen: &Seen| {
        if seen.target.ends_with("sha256") {
            return Reply::ok(digest.clone());
        }
        Reply::ok(half.clone()).promise(promised).close()
    })
    .await;
    let bench = Bench::new();
    bench.check_refused(&run(bench.command(&server, &[])).await, &["broke off"]);
}

/// A limit on the size of files stands for a disk without room; the signal that comes with it is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full() {
    let new = world(200);
    let packed = city(&new);
    let server = service(packed.clone(), sha256(&packed)).await;
    // In blocks of 512 bytes, or of 1,024 where the shell counts so.
    let unpacked_blocks = packed.len() / 512 + 1;
    assert!(unpacked_blocks * 1024 < new.len(), "{} bytes, and {} of them packed", new.len(), packed.len());
    for (blocks, said) in [(0, "cannot write"), (unpacked_blocks, "the database cannot be written")] {
        let bench = Bench::new();
        let inner = bench.command(&server, &[]);
        let mut command = Command::new("/bin/sh");
        command.current_dir(bench.folder.path());
        command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        command.arg(inner.get_program()).args(inner.get_args());
        bench.check_refused(&run(command).await, &[said, "File too large"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_anywhere() {
    let new = world(9);
    let (plain, packed, tar) = (new.clone(), gzip(&new), city(&new));
    let digest = sha256(&packed);
    let server = ScriptedOrigin::answering(move |seen: &Seen| {
        assert_eq!(seen.header("authorization"), None);
        match seen.path() {
            "/plain" => Reply::ok(plain.clone()),
            "/packed" => Reply::ok(packed.clone()).chunked(),
            "/tar" => Reply::ok(tar.clone()).until_close(),
            "/moved" => Reply::new(302).header("Location", "/packed"),
            "/round" => Reply::new(302).header("Location", "/round"),
            "/sum" => Reply::ok(digest.clone()),
            path if path.starts_with("/20") => Reply::ok(plain.clone()),
            _ => Reply::new(500),
        }
    })
    .await;
    for path in ["plain", "packed", "tar", "moved", "%Y-%m"] {
        let bench = Bench::new();
        let ran = run(bench.bare(&["--url", &format!("{}/{path}", server.url())])).await;
        assert_eq!((ran.code, fs::read(bench.path()).unwrap() == new), (Some(0), true), "{path} {}", ran.stderr);
        assert!(ran.stdout.contains("no checksum was named"), "{}", ran.stdout);
        assert_eq!(names(bench.folder.path()), ["GeoLite2-City.mmdb", "key"]);
    }
    let url = |path: &str| format!("{}/{path}", server.url());
    let bench = Bench::new();
    bench.check_refused(&run(bench.bare(&["--url", &url("round")])).await, &["redirects more than 5 times"]);
    bench.check_refused(&run(bench.bare(&["--url", &url("x?license_key=s3cr3t_key")])).await, &["500"]);
    bench.check_refused(
        &run(bench.bare(&["--url", &url("plain"), "--checksum-url", &url("sum")])).await,
        &["not what was published"],
    );
    let ran = run(bench.bare(&["--url", &url("packed"), "--checksum-url", &url("sum")])).await;
    assert!(ran.stdout.contains("checksum verified"), "{ran:?}");
}

/// Told to end, it leaves nothing half done; and nobody fetches into one place twice at a time.
#[tokio::test(flavor = "multi_thread")]
async fn every_so_often_until_told_to_end() {
    let packed = city(&world(9));
    let digest = sha256(&packed);
    let server = ScriptedOrigin::answering(move |seen: &Seen| {
        if seen.target.ends_with("sha256") {
            Reply::ok(digest.clone())
        } else {
            Reply::ok(packed[..9].to_vec()).promise(99).then_hang()
        }
    })
    .await;
    let bench = Bench::new();
    let mut command = bench.command(&server, &["--every", "1h"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let half = bench.folder.path().join(".GeoLite2-City.mmdb.fetch-archive");
    patiently("the download is under way", async {
        while fs::metadata(&half).map_or(0, |half| half.len()) < 9 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let second = run(bench.command(&server, &[])).await;
    assert!(second.code == Some(1) && second.stderr.contains("another process fetches"), "{second:?}");
    assert!(half.exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(names(bench.folder.path()), ["GeoLite2-City.mmdb", "key"]);
    assert_eq!(fs::read(bench.path()).unwrap(), bench.old);
}

/// An HTTPS server of one answer, given to whoever asks.
async fn tls_server(authority: &Authority, names: &[&str], answer: Vec<u8>) -> u16 {
    let config = authority.server_config(&authority.issue(names), &[]);
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // Whoever does not trust the certificate hangs up here.
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let (authority, bench) = (Authority::default(), Bench::new());
    let new = world(9);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", new.len());
    let answer = [head.as_bytes(), &new].concat();
    let port = tls_server(&authority, &["localhost"], answer.clone()).await;
    let url = format!("https://localhost:{port}/city.mmdb");
    let trusted = tempfile::NamedTempFile::new().unwrap();
    fs::write(trusted.path(), authority.root_pem()).unwrap();
    let ca = trusted.path().to_str().unwrap();
    // By the public authorities it is nobody.
    bench.check_refused(&run(bench.bare(&["--url", &url])).await, &["localhost", "UnknownIssuer"]);
    let other = tls_server(&authority, &["mirror.example"], answer).await;
    let other = format!("https://localhost:{other}/city.mmdb");
    bench.check_refused(&run(bench.bare(&["--url", &other, "--ca", ca])).await, &["not valid for name \"localhost\""]);
    bench.check_refused(&run(bench.bare(&["--url", &url, "--ca", "key"])).await, &["cannot use key", "no certificate"]);
    // From TLS back to plain text nobody is led.
    let moved = b"HTTP/1.1 302 Found\r\nlocation: http://localhost:1/x\r\ncontent-length: 0\r\n\r\n".to_vec();
    let moved = tls_server(&authority, &["localhost"], moved).await;
    let moved = format!("https://localhost:{moved}/x");
    bench.check_refused(
        &run(bench.bare(&["--url", &moved, "--ca", ca])).await,
        &["redirects from https to http://localhost:1/x"],
    );
    let ran = run(bench.bare(&["--url", &url, "--ca", ca])).await;
    assert_eq!((ran.code, fs::read(bench.path()).unwrap() == new), (Some(0), true), "{}", ran.stderr);
}
