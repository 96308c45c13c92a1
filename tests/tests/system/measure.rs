//! `perigee measure` before caches that are not ours: what each of them says of who answered is read as it means it.

use std::{fs, process::Command};

use perigee_testkit::{ProcessUnderTest, Reply, ScriptedOrigin, Seen, client, free_port, wait_until};
use perigee_tests::installed;
use serde_json::{Value, json};

use crate::fleet::loopback;

async fn origin() -> ScriptedOrigin {
    ScriptedOrigin::answering(|seen: &Seen| match seen.path() {
        "/private" => Reply::ok("x".repeat(100)).header("Cache-Control", "private"),
        _ => Reply::ok("x".repeat(100)).header("Cache-Control", "max-age=600"),
    })
    .await
}

/// Waits until the cache answers what the origin has.
async fn ready(cache: std::net::SocketAddr) {
    wait_until("the cache listens", || std::net::TcpStream::connect(cache).is_ok()).await;
    assert_eq!(client::get(cache, "cache", "/ready").await.status, 200);
}

/// A page that may be kept and one that may not, each once and then four times more: 4 of 10 from the cache, and the origin
/// counts the others.
async fn check(origin: &ScriptedOrigin, cache: std::net::SocketAddr, field: &str) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("paths");
    fs::write(&list, "/kept\n/private\n").unwrap();
    let before = origin.requests();
    let (direct, cdn) = (origin.url(), format!("http://{cache}"));
    let arguments =
        ["measure", "--direct", &direct, "--cdn", &cdn, "--paths", list.to_str().unwrap(), "--repeat", "2", "--json"];
    let mut measure = ProcessUnderTest::start("perigee", arguments);
    let status = measure.wait_exit().await;
    assert!(status.success(), "{}", measure.stderr());
    let told: Value = serde_json::from_str(&measure.stdout()).unwrap();
    let spared = &told["spared"];
    assert_eq!((&spared["by_tier"], &spared["by_origin"]), (&json!([4]), &6.into()), "{told}");
    assert_eq!((&spared["bytes"], &spared["bytes_known"]), (&400.into(), &1000.into()), "{spared}");
    let names = told["samples"].as_array().unwrap().iter().filter_map(|sample| sample["served"]["name"].as_str());
    assert!(names.into_iter().all(|name| name == field), "{told}");
    // Each once to be looked at, and 8 straight from the origin.
    assert_eq!(origin.requests() - before, 2 + 8 + 6, "{spared}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_says_x_cache_status() {
    if !installed("nginx") {
        return;
    }
    let (origin, cache, folder) = (origin().await, loopback(free_port()), tempfile::tempdir().unwrap());
    let home = folder.path().display();
    let temporary: String = ["proxy", "client_body", "fastcgi", "uwsgi", "scgi"]
        .map(|one| format!("{one}_temp_path {home}/{one};\n"))
        .concat();
    let config = format!(
        "daemon off; master_process off; pid {home}/pid; error_log {home}/errors; events {{}}
         http {{ access_log off; {temporary} proxy_cache_path {home}/cache keys_zone=all:1m;
           server {{ listen {cache};
             location / {{ proxy_pass {}; proxy_cache all; add_header X-Cache-Status $upstream_cache_status; }} }} }}",
        origin.url()
    );
    fs::write(folder.path().join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.env("PATH", path()).args(["-e", "stderr", "-c"]).arg(folder.path().join("nginx.conf"));
    let _nginx = ProcessUnderTest::spawn("nginx", command);
    ready(cache).await;
    check(&origin, cache, "x-cache-status").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn varnish_says_x_varnish() {
    // It compiles its configuration.
    if !installed("varnishd") || !installed("cc") {
        return;
    }
    let (origin, cache, folder) = (origin().await, loopback(free_port()), tempfile::tempdir().unwrap());
    let mut command = Command::new("varnishd");
    command.env("PATH", path()).args(["-j", "none", "-F", "-n"]).arg(folder.path());
    command.args(["-s", "malloc,32m", "-T", "none", "-a", &cache.to_string(), "-b", &origin.address().to_string()]);
    let _varnish = ProcessUnderTest::spawn("varnishd", command);
    ready(cache).await;
    check(&origin, cache, "x-varnish").await;
}

/// With the administrator's folders.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap())
}
