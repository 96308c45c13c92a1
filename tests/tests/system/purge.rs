//! Purges of real nodes, through the command and the admin API, and what a kill leaves of them.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use perigee_testkit::{ProcessUnderTest, Reply, ScriptedOrigin, client, free_port, patiently};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fleet::{Fleet, Node, loopback};

const SITE: &str = "www.example.com";
const TOKEN: &str = "a token of the tests alone";

/// An origin whose answers say how often its content changed.
async fn origin(version: &Arc<AtomicUsize>) -> ScriptedOrigin {
    let version = Arc::clone(version);
    ScriptedOrigin::answering(move |seen| {
        let version = version.load(Ordering::SeqCst);
        Reply::ok(format!("{} v{version}", seen.target))
            .header("Cache-Control", "max-age=600")
            .header("Surrogate-Key", "all")
    })
    .await
}

fn admin_lines() -> String {
    let hash = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!(
        "[admin]\ntokens = [{{ name = \"ops\", sha256 = \"{hash}\", scopes = [\"purge\", \"read\"] }}, \
         {{ name = \"eyes\", sha256 = \"{}\", scopes = [\"read\"] }}]\n",
        Sha256::digest("another").iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    )
}

async fn text_of(address: SocketAddr, path: &str) -> String {
    client::get(address, SITE, path).await.text()
}

/// Runs `perigee purge`: its exit code, standard output, standard error.
async fn purge(token: &Path, nodes: &[SocketAddr], what: &[&str]) -> (Option<i32>, String, String) {
    let nodes = nodes.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let rest = ["--node", &nodes, "--token-file", token.to_str().unwrap()];
    let mut process = ProcessUnderTest::start("perigee", ["purge"].iter().chain(what).chain(&rest));
    let status = patiently("the purge", process.wait_exit()).await;
    (status.code(), process.stdout(), process.stderr())
}

fn token_file(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    path
}

#[tokio::test]
async fn a_purge_of_shield_and_edges_brings_what_the_origin_has_now() {
    let version = Arc::new(AtomicUsize::new(1));
    let origin = origin(&version).await;
    let fleet = Fleet::over(&origin.url(), &[], &admin_lines()).await;
    let folder = tempfile::tempdir().unwrap();
    let token = token_file(&folder);
    let nodes = [fleet.shield.admin, fleet.edges[0].admin, fleet.edges[1].admin];
    let url = format!("http://{SITE}/a");
    for what in [
        &[url.as_str()][..],
        &["--site", "www", "--prefix", "/a"],
        &["--site", "www", "--tag", "all"],
        &["--site", "www"],
        &["--everything", "--yes"],
        &["--site", "www", "--soft"],
    ] {
        for edge in &fleet.edges {
            text_of(edge.address, "/a").await;
        }
        let now = version.fetch_add(1, Ordering::SeqCst) + 1;
        let (code, out, err) = purge(&token, &nodes, what).await;
        assert_eq!(code, Some(0), "{what:?}: {out}{err}");
        assert_eq!(out.lines().count(), 3, "{out}");
        for edge in &fleet.edges {
            assert_eq!(text_of(edge.address, "/a").await, format!("/a v{now}"), "{what:?}");
            let again = client::get(edge.address, SITE, "/a").await;
            assert!(again.header("cache-status").contains("hit"), "{what:?}: {}", again.header("cache-status"));
        }
    }
}

#[tokio::test]
async fn nodes_that_do_not_acknowledge_are_named() {
    let version = Arc::new(AtomicUsize::new(1));
    let origin = origin(&version).await;
    let mut fleet = Fleet::over(&origin.url(), &[], &admin_lines()).await;
    let folder = tempfile::tempdir().unwrap();
    let token = token_file(&folder);
    let [alive, dead] = [fleet.edges[0].admin, fleet.edges[1].admin];
    fleet.edges[1].process.kill();
    patiently("its end", fleet.edges[1].process.wait_exit()).await;
    let (code, out, err) = purge(&token, &[alive, dead], &["--site", "www"]).await;
    assert_eq!(code, Some(1));
    assert!(out.contains("fra: purged hard, number 1: site www"), "{out}");
    assert!(err.contains("1 of 2 nodes acknowledged") && err.contains(&dead.to_string()), "{err}");

    // Refusals say why.
    let (code, _, err) = purge(&token, &[alive], &["--site", "nobody"]).await;
    assert!(code == Some(1) && err.contains("it has: www"), "{err}");
    let (code, _, err) = purge(&token, &[alive], &["--everything"]).await;
    assert!(code == Some(1) && err.contains("--yes"), "{err}");
    std::fs::write(&token, "another").unwrap();
    let (code, _, err) = purge(&token, &[alive], &["--site", "www"]).await;
    assert!(code == Some(1) && err.contains("lacks the scope purge"), "{err}");
    std::fs::write(&token, "a third").unwrap();
    let (code, _, err) = purge(&token, &[alive], &["--site", "www"]).await;
    assert!(code == Some(1) && err.contains("401"), "{err}");
    let metrics = client::get(alive, &alive.to_string(), "/metrics").await.text();
    let counted = |name: &str, more: &str| {
        metrics.lines().any(|line| line.starts_with(name) && line.contains(more) && line.ends_with(" 1"))
    };
    assert!(counted("perigee_purges_total{", "scope=\"site\",kind=\"hard\""), "{metrics}");
    assert!(counted("perigee_purge_ledger_seq{", ""), "{metrics}");
}

/// An edge with a disk, which can be killed and started again in its folder.
struct Durable {
    folder: TempDir,
    address: SocketAddr,
    admin: SocketAddr,
    process: ProcessUnderTest,
}

impl Durable {
    async fn start(origin: &ScriptedOrigin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let document = format!(
            "version = 1\n[cdn]\nname = \"t\"\nzone = \"t.example\"\n[[pop]]\nid = \"fra\"\nlatitude = 50\nlongitude = 8\n\
             addresses = [\"127.49.0.80\"]\n[[site]]\nid = \"www\"\nhosts = [\"{SITE}\"]\n\
             origins = [{{ url = \"{}\" }}]\n{}",
            origin.url(),
            admin_lines()
        );
        std::fs::write(folder.path().join("cdn.toml"), document).unwrap();
        let (address, admin) = (loopback(free_port()), loopback(free_port()));
        let process = Self::run(&folder, address, admin).await;
        Self { folder, address, admin, process }
    }

    async fn run(folder: &TempDir, address: SocketAddr, admin: SocketAddr) -> ProcessUnderTest {
        let disk = format!("{}:128MiB", folder.path().join("cache").display());
        let document = folder.path().join("cdn.toml");
        let (address, listening) = (address.to_string(), admin.to_string());
        let arguments = [
            "--document",
            document.to_str().unwrap(),
            "--pop",
            "fra",
            "--listen",
            &address,
            "--admin",
            &listening,
            "--memory",
            "256MiB",
            "--disk",
            &disk,
        ];
        let mut process = ProcessUnderTest::start("perigee-edge", arguments);
        process.wait_ready(admin).await;
        process
    }

    /// SIGKILL, at once, and another process in its place.
    async fn kill(&mut self) {
        self.process.kill();
        patiently("its end", self.process.wait_exit()).await;
        self.process = Self::run(&self.folder, self.address, self.admin).await;
    }

    async fn get(&self, path: &str) -> (String, String) {
        let response = client::get(self.address, SITE, path).await;
        (response.text(), response.header("cache-status").to_owned())
    }

    /// Waits until the disk has all that was handed to it.
    async fn written(&self) {
        patiently("the disk", async {
            loop {
                let metrics = client::get(self.admin, "admin", "/metrics").await.text();
                let outstanding =
                    metrics.lines().find(|line| line.starts_with("perigee_store_disk_outstanding_bytes{"));
                if outstanding.is_some_and(|line| line.ends_with(" 0")) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_that_was_purged_comes_back_after_a_kill() {
    let version = Arc::new(AtomicUsize::new(1));
    let origin = origin(&version).await;
    let mut edge = Durable::start(&origin).await;
    let token = token_file(&edge.folder);
    let paths = ["/url", "/prefix/a", "/kept"];
    for path in paths {
        assert_eq!(edge.get(path).await.0, format!("{path} v1"));
    }
    edge.written().await;
    edge.kill().await;
    for path in paths {
        let (text, status) = edge.get(path).await;
        assert!(text.ends_with("v1") && status.contains("hit"), "from disk: {text} {status}");
    }
    version.store(2, Ordering::SeqCst);
    let url = format!("http://{SITE}/url");
    for what in [&[url.as_str()][..], &["--site", "www", "--prefix", "/prefix/"]] {
        let (code, out, err) = purge(&token, &[edge.admin], what).await;
        assert_eq!(code, Some(0), "{out}{err}");
    }
    edge.kill().await;
    assert_eq!(edge.get("/url").await.0, "/url v2");
    assert_eq!(edge.get("/prefix/a").await.0, "/prefix/a v2");
    let (text, status) = edge.get("/kept").await;
    assert!(text == "/kept v1" && status.contains("hit"), "{text} {status}");

    // For ever: the next process and the one after it, whatever was fetched in between.
    edge.written().await;
    version.store(3, Ordering::SeqCst);
    edge.kill().await;
    edge.kill().await;
    let (text, status) = edge.get("/url").await;
    assert!(text == "/url v2" && status.contains("hit"), "{text} {status}");

    // A ledger that is damaged has forgotten what was purged: then all of it was.
    edge.process.kill();
    patiently("its end", edge.process.wait_exit()).await;
    let ledger = edge.folder.path().join("cache/LEDGER");
    let mut bytes = std::fs::read(&ledger).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&ledger, bytes).unwrap();
    edge.process = Durable::run(&edge.folder, edge.address, edge.admin).await;
    for path in paths {
        let (text, status) = edge.get(path).await;
        assert!(text.ends_with("v3") && status.contains("purged-by-floor"), "{text} {status}");
    }
    assert!(edge.process.stderr().contains("all that is stored counts as purged"));
    assert!(edge.folder.path().join("cache/LEDGER.damaged").exists());
}

#[tokio::test]
async fn what_an_unsafe_method_invalidated_does_not_come_back_after_a_kill() {
    let version = Arc::new(AtomicUsize::new(1));
    let origin = origin(&version).await;
    let mut edge = Durable::start(&origin).await;
    for round in 1..4 {
        version.store(round, Ordering::SeqCst);
        assert_eq!(edge.get("/a").await.0, format!("/a v{round}"));
        edge.written().await;
        version.store(round + 1, Ordering::SeqCst);
        let mut connection = client::Connection::open(edge.address).await;
        let changed = connection.send_body(http::Method::POST, SITE, "/a", &[], bytes::Bytes::from_static(b"x")).await;
        assert_eq!(changed.status, 200);
        edge.kill().await;
        assert_eq!(edge.get("/a").await.0, format!("/a v{}", round + 1), "round {round}");
        edge.written().await;
        // The next round begins with the content of this one's end.
    }
}

#[tokio::test]
async fn the_recent_purges_are_listed_for_who_may_read() {
    let version = Arc::new(AtomicUsize::new(1));
    let origin = origin(&version).await;
    let fleet = Fleet::over(&origin.url(), &[], &admin_lines()).await;
    let folder = tempfile::tempdir().unwrap();
    let token = token_file(&folder);
    let Node { admin, .. } = &fleet.edges[0];
    purge(&token, &[*admin], &["--site", "www", "--tag", "a", "--tag", "b", "--soft"]).await;
    let host = admin.to_string();
    let refused = client::get(*admin, &host, "/v1/purges").await;
    assert_eq!(refused.status, 401);
    let listed = client::get_with(*admin, &host, "/v1/purges", &[("Authorization", "Bearer another")]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.text()).unwrap();
    assert_eq!(listed["entries"], 2);
    assert_eq!(listed["recent"][0]["purged"], "tag a of www, tag b of www");
    assert_eq!(listed["recent"][0]["kind"], "soft");
}
