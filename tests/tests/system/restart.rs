//! What a killed edge finds again on its disk, and what an edge does whose disk goes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use http::Method;
use perigee_testkit::{PATIENCE, Reply, ScriptedOrigin, client, noise, sha256};

use crate::{
    fleet::{Node, SITE, quick_edge},
    memory::disk_was_slow,
};

async fn origin() -> ScriptedOrigin {
    ScriptedOrigin::answering(|seen| {
        let length: usize = seen.path().trim_start_matches("/bytes/").split('/').next().unwrap().parse().unwrap_or(10);
        Reply::ok(noise(length as u64, length)).header("Cache-Control", "max-age=86400").header("ETag", "\"1\"")
    })
    .await
}

async fn edge(origin: &ScriptedOrigin, folder: &Path, more: &[&str]) -> Node {
    let disk = format!("{}:256MiB", folder.display());
    let mut arguments = vec!["--memory", "256MiB", "--disk", &disk];
    arguments.extend(more);
    quick_edge(origin, &arguments).await
}

/// Waits until a metric of an edge's has this value; which node's it is stands between the two.
async fn metric(edge: &Node, name: &str, value: u32) {
    let (start, value) = (Instant::now(), format!("}} {value}"));
    loop {
        let text = client::get(edge.admin, "admin", "/metrics").await.text();
        if text.lines().any(|line| line.starts_with(&format!("{name}{{")) && line.ends_with(&value)) {
            return;
        }
        let store: Vec<_> = text.lines().filter(|line| line.starts_with("perigee_store_")).collect();
        assert!(start.elapsed() < PATIENCE, "{name} never was {value} in\n{}", store.join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_killed_edge_serves_at_once_what_was_on_disk() {
    let origin = origin().await;
    let folder = tempfile::tempdir().unwrap();
    let mut first = edge(&origin, folder.path(), &[]).await;
    let lengths = [0_usize, 1, 1_000, 32 * 1024, 32 * 1024 + 1, 256 * 1024, 1_000_000, 20_000_000];
    for length in lengths {
        let response = client::get(first.address, SITE, &format!("/bytes/{length}")).await;
        assert_eq!(response.sha256(), sha256(noise(length as u64, length)));
    }
    let fetched = origin.requests();
    metric(&first, "perigee_store_disk_outstanding_bytes", 0).await;
    if disk_was_slow(&first).await {
        return;
    }
    // SIGKILL: nothing is flushed, closed or said.
    first.process.kill();
    first.process.wait_exit().await;

    let start = Instant::now();
    let second = edge(&origin, folder.path(), &[]).await;
    let ready = start.elapsed();
    for length in lengths {
        let response = client::get(second.address, SITE, &format!("/bytes/{length}")).await;
        let status = response.header("cache-status").to_owned();
        assert!(status.contains("; hit"), "{length} bytes: {status}");
        assert_eq!(response.sha256(), sha256(noise(length as u64, length)), "{length} bytes");
        if length == 0 {
            println!("restart to ready {ready:?}, to first hit {:?}", start.elapsed());
        }
    }
    assert_eq!(origin.requests(), fetched, "nothing was asked for again");
}

#[tokio::test]
async fn an_edge_serves_on_without_its_disk_and_takes_it_back() {
    let origin = origin().await;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("cache");
    let edge = edge(&origin, &folder, &[]).await;
    metric(&edge, "perigee_store_disk_up", 1).await;
    let before = client::get(edge.address, SITE, "/bytes/1000").await;
    assert_eq!(before.status, 200);
    // Gone, and something in its place that keeps it away.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    metric(&edge, "perigee_store_disk_up", 0).await;
    for path in ["/bytes/1000", "/bytes/2000", "/bytes/3000000"] {
        let length: usize = path.trim_start_matches("/bytes/").parse().unwrap();
        for turn in 0..2 {
            let response = client::get(edge.address, SITE, path).await;
            assert_eq!(response.sha256(), sha256(noise(length as u64, length)), "{path}, turn {turn}");
            let is_hit = response.header("cache-status").contains("; hit");
            assert!(is_hit || turn == 0, "memory serves: {}", response.header("cache-status"));
        }
    }
    std::fs::remove_file(&folder).unwrap();
    metric(&edge, "perigee_store_disk_up", 1).await;
    metric(&edge, "perigee_store_disk_reopened_total", 1).await;
    let said = edge.process.stderr() + &edge.process.stdout();
    for line in ["the disk cache failed", "the disk cache is back"] {
        assert!(said.contains(line), "{line:?} is not in the log:\n{said}");
    }
    // What is fetched from here on survives.
    client::get(edge.address, SITE, "/bytes/4000").await;
    metric(&edge, "perigee_store_disk_outstanding_bytes", 0).await;
    let fetched = origin.requests();
    drop(edge);
    let again = self::edge(&origin, &folder, &[]).await;
    let response = client::get(again.address, SITE, "/bytes/4000").await;
    assert!(response.header("cache-status").contains("; hit"), "{}", response.header("cache-status"));
    assert_eq!(origin.requests(), fetched);
}

#[tokio::test]
async fn a_second_fetch_survives_a_restart_and_a_first_does_not() {
    let origin = origin().await;
    let folder = tempfile::tempdir().unwrap();
    let policy = ["--policy", "admission=second-fetch"];
    let mut first = edge(&origin, folder.path(), &policy).await;
    for path in ["/bytes/1000/once", "/bytes/900000/once", "/bytes/1000/twice", "/bytes/900000/twice"] {
        client::get(first.address, SITE, path).await;
        if path.ends_with("twice") {
            // What a POST changed is fetched again.
            let mut connection = client::Connection::open(first.address).await;
            assert_eq!(connection.send(Method::POST, SITE, path, &[]).await.status, 200);
            client::get(first.address, SITE, path).await;
        }
        let response = client::get(first.address, SITE, path).await;
        assert!(response.header("cache-status").contains("; hit"), "memory takes all: {path}");
    }
    metric(&first, "perigee_store_disk_outstanding_bytes", 0).await;
    first.process.kill();
    first.process.wait_exit().await;
    let second = edge(&origin, folder.path(), &policy).await;
    for (path, kept) in [
        ("/bytes/1000/once", false),
        ("/bytes/900000/once", false),
        ("/bytes/1000/twice", true),
        ("/bytes/900000/twice", true),
    ] {
        let response = client::get(second.address, SITE, path).await;
        let status = response.header("cache-status");
        assert_eq!(status.contains("; hit"), kept, "{path}: {status}");
    }
}
