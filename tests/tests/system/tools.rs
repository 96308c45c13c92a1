//! The clients that people use: curl, wget, ab, wrk. Each is skipped, saying so, where it is not installed.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use perigee_testkit::{ProcessUnderTest, ScriptedOrigin, client, free_port, sha256};
use perigee_tests::installed;

use crate::fleet::{Node, loopback};

/// The demo's origin and a quick edge before it.
async fn demo_site() -> (ProcessUnderTest, std::net::SocketAddr, Node) {
    let origin = loopback(free_port());
    let process = ProcessUnderTest::start("perigee", ["origin", "--listen", &origin.to_string()]);
    wait_listening(origin).await;
    let edge = edge_before(&format!("http://{origin}")).await;
    (process, origin, edge)
}

async fn edge_before(url: &str) -> Node {
    let (address, admin) = (loopback(free_port()), loopback(free_port()));
    let arguments = ["--origin", url, "--listen", &address.to_string(), "--admin", &admin.to_string()];
    let mut process = ProcessUnderTest::start("perigee-edge", arguments);
    process.wait_ready(admin).await;
    Node { process, address, admin }
}

async fn wait_listening(address: std::net::SocketAddr) {
    perigee_testkit::wait_until("the origin listens", || std::net::TcpStream::connect(address).is_ok()).await;
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_what_the_origin_has() {
    if !installed("curl") {
        return;
    }
    let (_origin, origin, edge) = demo_site().await;
    let (from, through) = (format!("http://{origin}"), format!("http://{}", edge.address));
    for path in ["/", "/files/64MiB.bin", "/uncacheable", "/fresh-1s", "/nothing-here"] {
        let get_as = |base: &str, target: &str, more: &[&str]| {
            let url = format!("{base}{target}");
            let mut arguments = vec!["-s", "--max-time", "60"];
            arguments.extend(more);
            arguments.push(&url);
            run("curl", &arguments)
        };
        // One text changes every ten seconds: what is compared with it has been asked for between two that were the same, and
        // otherwise anew, by another key.
        for turn in 0.. {
            let target = format!("{path}?{turn}");
            let get = |base: &str, more: &[&str]| get_as(base, &target, more);
            if path == "/uncacheable" {
                break;
            }
            let (original, part) = (sha256(get(&from, &[])), get(&from, &["-r", "5-90"]));
            let got = [&[][..], &[], &["--http1.0"]].map(|more| sha256(get(&through, more)));
            let got_part = get(&through, &["-r", "5-90"]);
            if sha256(get(&from, &[])) == original {
                for (what, got) in ["cold", "warm", "HTTP/1.0"].iter().zip(got) {
                    assert_eq!(got, original, "{path}, {what}");
                }
                assert_eq!(got_part, part, "{path}, a range");
                break;
            }
            assert_eq!(path, "/fresh-1s", "the others stay as they are");
        }
        let status = |base: &str| {
            let head = String::from_utf8(get_as(base, path, &["-I"])).unwrap();
            head.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(status(&through), status(&from), "{path}, HEAD");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wget_mirrors_the_site_equal_to_the_last_byte() {
    if !installed("wget") {
        return;
    }
    let (_origin, origin, edge) = demo_site().await;
    let folder = tempfile::tempdir().unwrap();
    let mirror = |name: &str, address: &str| {
        let target = folder.path().join(name);
        let url = format!("http://{address}/");
        let target_text = target.to_str().unwrap().to_owned();
        // 8: some link answered with an error status, as the site's own examples of errors do.
        let status = Command::new("wget")
            .args([
                "-q",
                "-r",
                "-l",
                "3",
                "-nH",
                "--reject-regex",
                "uncacheable|slow|stats|status|GiB|fresh-1s",
                "-P",
                &target_text,
                &url,
            ])
            .status()
            .unwrap();
        assert!(matches!(status.code(), Some(0 | 8)), "{status}");
        listing(&target)
    };
    let direct = mirror("direct", &origin.to_string());
    let through = mirror("through", &edge.address.to_string());
    assert!(direct.lines().count() >= 5, "a site of several files:\n{direct}");
    assert_eq!(through, direct);
}

/// Every file below a folder with its hash, in order.
fn listing(folder: &Path) -> String {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files.iter().fold(String::new(), |mut list, file| {
        writeln!(list, "{} {}", sha256(fs::read(file).unwrap()), file.strip_prefix(folder).unwrap().display()).unwrap();
        list
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ab_and_wrk_see_no_failure() {
    let origin = ScriptedOrigin::answering(|_| {
        perigee_testkit::Reply::ok("x".repeat(1024)).header("Cache-Control", "max-age=600")
    })
    .await;
    let edge = edge_before(&origin.url()).await;
    let url = format!("http://{}/", edge.address);
    assert_eq!(client::get(edge.address, "a", "/").await.status, 200);
    if installed("ab") {
        let said = String::from_utf8(run("ab", &["-q", "-k", "-n", "2000", "-c", "20", &url])).unwrap();
        assert!(said.contains("Failed requests:        0"), "{said}");
        assert!(!said.contains("Non-2xx"), "{said}");
    }
    if installed("wrk") {
        let said = String::from_utf8(run("wrk", &["-t1", "-c20", "-d1s", &url])).unwrap();
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    }
}
