//! Who is asked first, and who when that one is down.

use perigee_testkit::{Reply, ScriptedOrigin};
use perigee_upstream::Peer;

use crate::*;

async fn named(name: &'static str) -> ScriptedOrigin {
    ScriptedOrigin::answering(move |_| Reply::ok(name)).await
}

fn key(key_hash: u64) -> FetchRequest {
    FetchRequest { key_hash, ..get("/") }
}

#[tokio::test]
async fn a_key_stays_with_its_server_and_moves_only_when_that_is_down() {
    let servers = [named("a").await, named("b").await, named("c").await];
    let world = Setup::of(servers.iter().map(|server| origin(&server.url())).collect()).build();
    let mut before = Vec::new();
    for number in 0..60 {
        before.push(world.read(key(number)).await);
        assert_eq!(world.read(key(number)).await, before[number as usize], "{number}");
    }
    for name in ["a", "b", "c"] {
        assert!(before.iter().filter(|one| *one == name).count() > 5, "{name} of {before:?}");
    }
    let [a, _b, _c] = servers;
    a.stop().await;
    for (number, was) in before.iter().enumerate() {
        let now = world.read(key(number as u64)).await;
        assert!(if was == "a" { now != "a" } else { now == *was }, "{number}: {was}, then {now}");
    }
}

#[tokio::test]
async fn home_shields_then_others_then_origins_then_backups() {
    let servers = [named("home").await, named("other").await, named("origin").await, named("backup").await];
    let [home, other, first, last] = &servers;
    let world = Setup {
        origins: vec![backup(&last.url()), origin(&first.url())],
        shields: vec![shield("shield-ap", &other.url(), "syd"), shield("shield-eu", &home.url(), "fra")],
        ..Setup::default()
    }
    .build();
    let response = world.fetch(get("/")).await.unwrap();
    assert_eq!(response.peer, Peer::Shield("shield-eu".parse().unwrap()));
    let expected = Peer::Origin(first.url().into());
    let mut answers = Vec::new();
    for server in servers {
        answers.push(world.read(get("/")).await);
        if answers.last().is_some_and(|answer| answer == "origin") {
            assert_eq!(world.fetch(get("/")).await.unwrap().peer, expected);
        }
        server.stop().await;
    }
    assert_eq!(answers, ["home", "other", "origin", "backup"]);
    assert_eq!(world.fails(get("/")).await, FetchErrorKind::Connect);
}

#[tokio::test]
async fn a_shields_own_failure_is_passed_on() {
    let (tired, rested) = (ScriptedOrigin::answering(|_| Reply::new(504)).await, named("origin").await);
    let world = Setup {
        origins: vec![origin(&rested.url())],
        shields: vec![shield("shield-eu", &tired.url(), "fra")],
        ..Setup::default()
    }
    .build();
    assert_eq!(world.fetch(get("/")).await.unwrap().status, 504);
    assert_eq!(rested.requests(), 0);
}
