//! Edge, shield and origin together.

use std::time::{Duration, Instant};

use perigee_testkit::{Reply, ScriptedOrigin, client, noise, patiently, sha256};

use crate::{
    fleet::{Fleet, SITE, quick_edge},
    memory::disk_was_slow,
};

#[tokio::test]
async fn both_tiers_cache_and_say_so() {
    let body = noise(1, 700_000);
    let hash = sha256(&body);
    let origin =
        ScriptedOrigin::answering(move |_| Reply::ok(body.clone()).header("Cache-Control", "max-age=600")).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let (fra, syd) = (fleet.edges[0].address, fleet.edges[1].address);

    let first = client::get(fra, SITE, "/a").await;
    assert_eq!(first.sha256(), hash);
    let members =
        first.headers.get_all("cache-status").iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(", ");
    assert!(
        members.starts_with("shield-eu; fwd=uri-miss") && members.contains("fra; fwd=uri-miss"),
        "one member a tier, the origin's side first: {members}"
    );
    let second = client::get(fra, SITE, "/a").await;
    assert_eq!(second.sha256(), hash);
    assert!(second.header("cache-status").starts_with("fra; hit; ttl="), "{}", second.header("cache-status"));

    // Another edge's miss is the shield's hit.
    let other = client::get(syd, SITE, "/a").await;
    assert_eq!(other.sha256(), hash);
    assert!(other.header("cache-status").starts_with("shield-eu; hit"), "{}", other.header("cache-status"));
    assert_eq!(origin.requests_to("/a"), 1);

    let seen = &origin.seen()[0];
    assert_eq!(seen.header("host"), Some(SITE));
    for absent in ["perigee-proof", "perigee-site", "perigee-key-authority"] {
        assert_eq!(seen.header(absent), None, "{absent} reached the origin");
    }
}

#[tokio::test]
async fn five_hundred_clients_at_once_are_one_fetch_at_each_tier() {
    let body = noise(2, 100_000);
    let hash = sha256(&body);
    let origin = ScriptedOrigin::answering(move |_| {
        Reply::ok(body.clone()).header("Cache-Control", "max-age=600").after(Duration::from_secs(1))
    })
    .await;
    // Nobody is to find that the one fetch takes long, whatever this machine does beside.
    let fleet = Fleet::over(&origin.url(), &[], "[site.upstream]\nfirst_byte_timeout = \"1h\"").await;
    let edge = fleet.edges[0].address;
    let began = Instant::now();
    let clients: Vec<_> = (0..500).map(|_| tokio::spawn(client::get(edge, SITE, "/cold"))).collect();
    for task in clients {
        let response = patiently("a response", task).await.unwrap();
        assert_eq!((response.status.as_u16(), response.sha256()), (200, hash.clone()));
    }
    println!("500 clients of one cold object that takes a second: the last had it all after {:?}", began.elapsed());
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn the_first_byte_passes_both_tiers_before_the_last_is_sent() {
    let (reply, gate) = Reply::gated(Some(10));
    let reply = std::sync::Mutex::new(Some(reply.header("Cache-Control", "max-age=600")));
    let origin =
        ScriptedOrigin::answering(move |_| reply.lock().unwrap().take().unwrap_or_else(|| Reply::new(500))).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let mut connection = client::Connection::open(fleet.edges[0].address).await;
    gate.send("first");
    let mut exchange = patiently("the head", connection.begin_get(SITE, "/slow")).await;
    let piece = patiently("the first piece", exchange.next()).await;
    assert_eq!(piece.unwrap().unwrap(), "first");
    gate.send("after");
    assert_eq!(patiently("the rest", exchange.finish()).await.text(), "after");
}

#[tokio::test]
async fn a_dead_shield_is_gone_round() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x").header("Cache-Control", "max-age=600")).await;
    let mut fleet = Fleet::start(&origin, &[]).await;
    fleet.shield.process.kill();
    let response = client::get(fleet.edges[0].address, SITE, "/a").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("via"), "1.1 fra", "straight from the origin");
}

#[tokio::test]
async fn requests_with_bodies_stream_through_both_tiers() {
    let origin =
        ScriptedOrigin::answering(|seen| Reply::ok(seen.body_sha256.clone()).header("Cache-Control", "no-store")).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let body = noise(3, 3_000_000);
    let mut connection = client::Connection::open(fleet.edges[0].address).await;
    let response = connection.send_body(http::Method::POST, SITE, "/upload", &[], body.clone()).await;
    assert_eq!(response.text(), sha256(&body));
    assert!(response.header("cache-status").contains("fwd=method"));
}

#[tokio::test]
async fn internal_fields_of_clients_are_not_believed() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x").header("Cache-Control", "max-age=600")).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let shield = fleet.shield.address;
    let forged = [("Perigee-Site", "www"), ("Perigee-Key-Authority", "evil.example"), ("Perigee-Proof", "v1;1;00")];
    let response = client::get_with(shield, "unknown.example", "/a", &forged).await;
    assert_eq!(response.status, 421, "a forged site led somewhere");
    let response = client::get_with(shield, SITE, "/a", &forged).await;
    assert_eq!(response.header("perigee-proof"), "");
    assert_eq!(response.header("perigee-age-ms"), "");
}

#[tokio::test]
async fn an_edge_without_a_document_takes_policies() {
    let origin =
        ScriptedOrigin::answering(|_| Reply::ok("x").header("Set-Cookie", "a=b").header("Cache-Control", "max-age=60"))
            .await;
    let edge = quick_edge(&origin, &["--policy", "set_cookie=store"]).await;
    for (host, state) in [("a.example", "uri-miss"), ("a.example", "hit"), ("b.example", "uri-miss")] {
        let response = client::get(edge.address, host, "/").await;
        assert!(response.header("cache-status").contains(state), "{host}: {}", response.header("cache-status"));
        assert_eq!(response.header("set-cookie"), "a=b");
    }
}

#[tokio::test]
async fn hits_come_from_disk_when_memory_has_let_go() {
    let origin = ScriptedOrigin::answering(|seen| {
        let seed = seen.target.trim_start_matches('/').parse().unwrap();
        Reply::ok(noise(seed, 1 << 20)).header("Cache-Control", "max-age=600")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("{}:1GiB", folder.path().join("cache").display());
    let edge = quick_edge(&origin, &["--memory", "192MiB", "--disk", &disk]).await;
    const OBJECTS: u64 = 300;
    let mut connection = client::Connection::open(edge.address).await;
    for seed in 0..OBJECTS {
        connection.send(http::Method::GET, "a", &format!("/{seed}"), &[]).await;
    }
    let mut refetched = 0;
    for seed in 0..OBJECTS {
        let response = connection.send(http::Method::GET, "a", &format!("/{seed}"), &[]).await;
        assert_eq!(response.sha256(), sha256(noise(seed, 1 << 20)), "object {seed}");
        refetched += usize::from(!response.header("cache-status").contains("hit"));
    }
    let metrics = client::get(edge.admin, "admin", "/metrics").await.text();
    let from_disk: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("perigee_store_lookups_total") && line.contains("found=\"disk\""))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    println!("{OBJECTS} objects of 1 MiB in 192 MiB of memory: {from_disk} reads from disk, {refetched} fetched again");
    assert!(from_disk > 0.0, "nothing came from disk");
    assert!(refetched == 0 || disk_was_slow(&edge).await, "{refetched} were fetched again");
}

#[tokio::test]
async fn what_an_edge_accepts_the_shield_accepts() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x").header("Cache-Control", "max-age=60")).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let edge = fleet.edges[0].address;
    // Host and what the client adds itself are among the hundred.
    for (fields, status) in [(90, 200), (98, 200), (120, 431)] {
        let names: Vec<String> = (0..fields).map(|number| format!("x-{number}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let response = client::get_with(edge, SITE, &format!("/{fields}"), &headers).await;
        assert_eq!(response.status, status, "{fields} fields");
    }
}
