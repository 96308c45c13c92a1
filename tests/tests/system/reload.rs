//! A changed document is swapped in without dropping a request; a bad one is refused.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use perigee_testkit::{PATIENCE, Reply, ScriptedOrigin, client};

use crate::fleet::{Fleet, SITE};

const RULE: &str =
    "[[site.rule]]\nmatch = { path = \"/*\" }\ncache = { ttl = \"1h\" }\nheaders = { set = { \"X-Rule\" = \"on\" } }\n";

#[tokio::test]
async fn documents_are_reloaded_under_load() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x").header("Cache-Control", "max-age=600")).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let edge = fleet.edges[0].address;

    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let load = {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        tokio::spawn(async move {
            let mut connection = client::Connection::open(edge).await;
            while !stop.load(Ordering::Relaxed) {
                let response = connection.send(http::Method::GET, SITE, "/a", &[]).await;
                assert_eq!(response.status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    assert_eq!(client::get(edge, SITE, "/a").await.header("x-rule"), "");

    fleet.rewrite(&origin, RULE);
    wait_for(&fleet, "the new rule", |status| status.contains("\"generation\":2")).await;
    assert_eq!(client::get(edge, SITE, "/a").await.header("x-rule"), "on");

    fleet.rewrite(&origin, "colour = \"red\"\n");
    fleet.edges[0].process.wait_for_line("colour").await;
    assert_eq!(client::get(edge, SITE, "/a").await.header("x-rule"), "on", "the old generation goes on");
    let metrics = client::get(fleet.edges[0].admin, "admin", "/metrics").await.text();
    let refused =
        metrics.lines().find(|line| line.contains("perigee_reloads_total") && line.contains("refused")).unwrap();
    assert!(!refused.ends_with(" 0"), "{refused}");

    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    println!("{} requests during two reloads, none dropped", served.load(Ordering::Relaxed));
    assert!(served.load(Ordering::Relaxed) > 0);
}

async fn wait_for(fleet: &Fleet, what: &str, state: impl Fn(&str) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = client::get(fleet.edges[0].admin, "admin", "/v1/status").await.text();
        if state(&status.replace(' ', "")) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: {status}");
        tokio::task::yield_now().await;
    }
}
