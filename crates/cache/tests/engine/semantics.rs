//! The rules of HTTP caching as a client sees them, section by section.

use perigee_protocol::model::{CachePolicy, ClientCacheControl, HeadPolicy, TargetedCacheControl};
use perigee_semantics::policy::Tier;

use crate::{
    dialogue::play,
    world::{Reply, World},
};

async fn edge(script: &str) {
    play(&World::edge().await, script).await;
}

async fn with(cache: CachePolicy, script: &str) {
    play(&World::new(Tier::Edge, cache, Vec::new()).await, script).await;
}

#[tokio::test]
async fn targeted_control_replaces_the_rest() {
    edge(
        "
        reply /p 200 ; perigee-cache-control: max-age=60 ; cdn-cache-control: no-store ; cache-control: no-store | v1
        GET /p => 200 v1 ; cache-status: *stored ; perigee-cache-control: - ; cdn-cache-control: -
        GET /p => 200 v1 ; cache-status: *hit; ttl=60
        reply /c 200 ; cdn-cache-control: max-age=9 ; cache-control: max-age=60 ; expires: 0 | v1
        GET /c => 200 v1
        GET /c => 200 v1 ; cache-status: *hit; ttl=9 ; cache-control: max-age=60
        reply /z 200 ; cdn-cache-control: max-age=0 ; cache-control: max-age=60 | v1
        GET /z => 200 v1
        GET /z => 200 v1 ; cache-status: *fwd=*
        reply /n 200 ; cdn-cache-control: private ; cache-control: max-age=60 | v1
        GET /n => 200 v1 ; cache-status: *detail=private*
        reply /r 200 ; cdn-cache-control: max-age=1, must-revalidate ; cache-control: max-age=60 | v1
        GET /r => 200 v1
        time +2s
        down
        GET /r => 502
        up
        reply /w 200 ; cdn-cache-control: max-age=\"60\" ; cache-control: no-store | wrong type: absent
        GET /w => 200 ; cache-status: *detail=no-store*
        reply /s 200 ; cdn-cache-control: max-age=60,, ; cache-control: no-store | no dictionary: absent
        GET /s => 200 ; cache-status: *detail=no-store*
    ",
    )
    .await;
}

#[tokio::test]
async fn targeted_control_reaches_clients_where_policy_says_so() {
    let cache = CachePolicy { targeted_cache_control: TargetedCacheControl::Pass, ..CachePolicy::default() };
    let script = "
        reply /a 200 ; cdn-cache-control: max-age=9 ; perigee-cache-control: max-age=8 ; surrogate-key: k | v1
        GET /a => 200 v1 ; cdn-cache-control: max-age=9 ; perigee-cache-control: max-age=8 ; surrogate-key: -
        GET /a => 200 v1 ; cache-status: *hit* ; cdn-cache-control: max-age=9
    ";
    with(cache, script).await;
}

#[tokio::test]
async fn a_shield_obeys_targeted_control_and_hands_it_on() {
    let shield = World::new(Tier::Shield, CachePolicy::default(), Vec::new()).await;
    let script = "
        reply /a 200 ; cdn-cache-control: max-age=9 ; cache-control: no-store | v1
        GET /a => 200 v1
        GET /a => 200 v1 ; cache-status: *hit; ttl=9 ; cdn-cache-control: max-age=9
    ";
    play(&shield, script).await;
}

#[tokio::test]
async fn a_head_fills_where_policy_says_so() {
    let cache = CachePolicy { head: HeadPolicy::Fill, ..CachePolicy::default() };
    let script = "
        reply /a 200 ; cache-control: max-age=60 | v1
        HEAD /a => 200 \"\" ; cache-status: *fwd=uri-miss*stored* ; content-length: 2
        fetches 1
        GET /a => 200 v1 ; cache-status: *hit*
        fetches 1
    ";
    with(cache, script).await;
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        HEAD /a => 200 \"\" ; content-length: 2
        GET /a => 200 v1 ; cache-status: *fwd=uri-miss*
    ",
    )
    .await;
}

#[tokio::test]
async fn a_head_updates_what_is_stored() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=1 ; x-a: old ; x-b: kept | v1
        GET /a => 200 v1
        time +2s
        reply /a 200 ; cache-control: max-age=60 ; x-a: new | v1
        HEAD /a => 200 \"\" ; x-a: new ; x-b: kept ; age: 0 ; cache-status: *fwd=stale; fwd-status=200; stored*
        GET /a => 200 v1 ; cache-status: *hit; ttl=60 ; x-a: new ; x-b: kept
        fetches 2
    ",
    )
    .await;
}

#[tokio::test]
async fn a_head_outdates_what_is_stored() {
    for new in [
        "200 ; cache-control: max-age=60 | longer",
        "200 ; cache-control: max-age=60 ; etag: \"2\" | v1",
        "410 ; x-a: 1 |",
    ] {
        edge(&format!(
            "
            reply /a 200 ; cache-control: max-age=1 | v1
            GET /a => 200 v1
            time +2s
            reply /a {new}
            HEAD /a => {}
            down
            GET /a => 502
        ",
            &new[..3]
        ))
        .await;
    }
    edge(
        "
        reply /a 200 ; cache-control: max-age=1 | v1
        GET /a => 200 v1
        time +2s
        reply /a 503 |
        HEAD /a => 200 \"\" ; content-length: 2 ; cache-status: *detail=stale-if-error
        down
        HEAD /a => 200 ; cache-status: *detail=stale-if-error
        GET /a => 200 v1 ; cache-status: *detail=stale-if-error
    ",
    )
    .await;
}

#[tokio::test]
async fn stale_is_served_on_every_kind_of_failure() {
    for kind in ["connect", "connect-timeout", "first-byte-timeout", "premature-close", "protocol", "no-upstream"] {
        edge(
            &format!(
                "
            reply /a 200 ; cache-control: max-age=1 | v1
            GET /a => 200 v1
            time +2s
            down {kind}
            GET /a => 200 v1 ; cache-status: fra; hit; ttl=-1; detail=stale-if-error ; age: 2
            time +86400s
            GET /a => 50* ; cache-status: *
        "
            )
            .replace(
                "50*",
                if kind.ends_with("timeout") {
                    "504"
                } else if kind == "no-upstream" {
                    "503"
                } else {
                    "502"
                },
            ),
        )
        .await;
    }
    for status in ["500", "502", "503", "504", "599"] {
        edge(&format!(
            "
            reply /a 200 ; cache-control: max-age=1 | v1
            GET /a => 200 v1
            time +2s
            reply /a {status} | broken
            GET /a => 200 v1 ; cache-status: *detail=stale-if-error
            reply /b {status} | broken
            GET /b => {status} broken
        "
        ))
        .await;
    }
}

#[tokio::test]
async fn what_forbids_stale_forbids_it_always() {
    for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=1", "no-cache", "stale-if-error=0"] {
        edge(&format!(
            "
            reply /a 200 ; cache-control: max-age=1, {directive}, stale-while-revalidate=9 ; etag: \"1\" | v1
            GET /a => 200 v1
            time +20s
            down
            GET /a => 502
            up
            reply /a 503 | broken
            GET /a => 503 broken
        "
        ))
        .await;
    }
}

#[tokio::test]
async fn one_refresh_at_a_time_and_nobody_waits_for_it() {
    let world = World::edge().await;
    let (gate, opened) = tokio::sync::watch::channel(true);
    let reply = Reply {
        status: 200,
        headers: vec![("cache-control".into(), "max-age=1, stale-while-revalidate=60".into())],
        body: "v1".into(),
    };
    world.origin.set(Box::new(move |request| {
        let (mut opened, reply) = (opened.clone(), reply.clone());
        Box::pin(async move {
            opened.wait_for(|open| *open).await.unwrap();
            Ok(reply.response(&request))
        })
    }));
    world.ask("GET", "/a", &[]).await;
    gate.send(false).unwrap();
    world.pass(2_000);
    for _ in 0..50 {
        let (response, body) = world.ask("GET", "/a", &[]).await;
        assert_eq!(body.unwrap(), "v1");
        assert!(response.headers()["cache-status"].to_str().unwrap().ends_with("detail=stale-while-revalidate"));
    }
    gate.send(true).unwrap();
    world.settle().await;
    assert_eq!(world.origin.fetches(), 2, "the fill, and one refresh for fifty");
    let (response, _) = world.ask("GET", "/a", &[]).await;
    assert_eq!(response.headers()["cache-status"], "fra; hit; ttl=1");
}

#[tokio::test]
async fn clients_drive_nothing_unless_they_are_honoured() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a ; cache-control: no-store => 200 v1 ; cache-status: *stored
        time +10s
        GET /a ; cache-control: no-cache ; pragma: no-cache => 200 v1 ; cache-status: *hit*
        GET /a ; cache-control: max-age=0 => 200 v1 ; cache-status: *hit*
        GET /b ; cache-control: only-if-cached => 502
    ",
    )
    .await;
    let cache = CachePolicy { client_cache_control: ClientCacheControl::Honour, ..CachePolicy::default() };
    let script = "
        reply /a 200 ; cache-control: max-age=60 ; etag: \"1\" | v1
        GET /a ; cache-control: no-store => 200 v1 ; cache-status: *detail=request-no-store
        GET /a ; cache-control: only-if-cached => 504 ; cache-status: fra; detail=only-if-cached
        GET /a => 200 v1 ; cache-status: *stored
        GET /a ; pragma: no-cache => 200 v1 ; cache-status: *hit*
        GET /a ; cache-control: no-cache => 200 v1 ; cache-status: *fwd=request; fwd-status=304*
        time +10s
        GET /a ; cache-control: max-age=9 => 200 v1 ; cache-status: *fwd=request*
        time +10s
        GET /a ; cache-control: max-age=10 => 200 v1 ; cache-status: *hit*
        GET /a ; cache-control: min-fresh=51 => 200 v1 ; cache-status: *fwd=request*
        time +10s
        GET /a ; cache-control: min-fresh=50 => 200 v1 ; cache-status: *hit*
        GET /a ; cache-control: max-age=5, max-stale=4 => 200 v1 ; cache-status: *fwd=request*
        time +70s
        GET /a ; cache-control: max-stale=10 => 200 v1 ; cache-status: *hit; ttl=-10; detail=max-stale
        GET /a ; cache-control: max-stale=9 => 200 v1 ; cache-status: *fwd=stale; fwd-status=304*
    ";
    with(cache, script).await;
}

#[tokio::test]
async fn what_is_immutable_is_not_validated_for_a_reload() {
    let cache = CachePolicy { client_cache_control: ClientCacheControl::Honour, ..CachePolicy::default() };
    let script = "
        reply /a 200 ; cache-control: max-age=60, immutable | v1
        GET /a => 200 v1
        time +9s
        GET /a ; cache-control: max-age=0 => 200 v1 ; cache-status: *hit*
        GET /a ; cache-control: no-cache => 200 v1 ; cache-status: *fwd=request*
        time +60s
        GET /a ; cache-control: max-age=0 => 200 v1 ; cache-status: *fwd=*
    ";
    with(cache, script).await;
}
