//! Purges, one test for each rule of the blueprint's that holds in one process: what is stored, what is on its way, and what
//! comes back from upstream after the purge was acknowledged.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use perigee_semantics::{
    purge::{Kind, Scope, Verdict},
    time::Timestamp,
};
use perigee_upstream::{FetchResponse, UpstreamBody};
use tokio::sync::oneshot;

use crate::{dialogue::play, world::World};

/// `hard url /a`, `soft tag red`, `hard prefix /img`, `hard site`, `hard everything`.
pub(crate) async fn purge(world: &World, text: &str) {
    let mut words = text.splitn(3, ' ');
    let kind = match words.next() {
        Some("hard") => Kind::Hard,
        Some("soft") => Kind::Soft,
        other => panic!("hard or soft, not {other:?}"),
    };
    let site = "www".parse().unwrap();
    let (what, name) = (words.next().unwrap(), words.next().unwrap_or_default().to_owned());
    let scope = match what {
        "url" => Scope::Url { site, authority: "www.example".into(), target: name },
        "prefix" => Scope::Prefix { site, authority: None, path: name },
        "tag" => Scope::Tag { site, tag: name },
        "site" => Scope::Site(site),
        "everything" => Scope::Everything,
        other => panic!("no scope: {other}"),
    };
    assert!(world.engine.store().purge(kind, &[scope], Timestamp::EPOCH).await.durable);
}

async fn edge(script: &str) {
    play(&World::edge().await, script).await;
}

#[tokio::test]
async fn rule_1_reuse_only_if_no_purge_that_matches_is_above_the_fence() {
    edge(
        "
        reply /img/a 200 ; cache-control: max-age=60 ; surrogate-key: red blue ; vary: accept-encoding | v1
        reply /b 200 ; cache-control: max-age=60 | b
        GET /b => 200 b
        GET /img/a ; accept-encoding: gzip => 200 v1
        GET /img/a ; accept-encoding: br => 200 v1
        fetches 3
        purge hard url /img/A
        purge hard url /img/a?x
        purge hard prefix /img/b
        purge hard tag green
        GET /img/a ; accept-encoding: gzip => 200 v1 ; cache-status: *hit*
        reply /img/a 200 ; cache-control: max-age=60 ; surrogate-key: red blue ; vary: accept-encoding | v2
        purge hard url /img/a
        GET /img/a ; accept-encoding: gzip => 200 v2 ; cache-status: *fwd=uri-miss*detail=purged-by-url
        GET /img/a ; accept-encoding: gzip => 200 v2 ; cache-status: *hit*
        GET /img/a ; accept-encoding: br => 200 v2 ; cache-status: *detail=purged-by-url
        GET /img/a ; accept-encoding: br => 200 v2 ; cache-status: *hit*
        fetches 5
        purge hard prefix /im
        GET /img/a ; accept-encoding: gzip => 200 v2 ; cache-status: *detail=purged-by-prefix
        GET /img/a ; accept-encoding: gzip => 200 v2 ; cache-status: *hit*
        purge hard tag blue
        GET /img/a ; accept-encoding: gzip => 200 v2 ; cache-status: *detail=purged-by-tag
        GET /b => 200 b ; cache-status: *hit*
        purge hard site
        GET /img/a ; accept-encoding: gzip => 200 v2 ; cache-status: *detail=purged-by-site
        GET /b => 200 b ; cache-status: *detail=purged-by-site
        purge hard everything
        GET /b => 200 b ; cache-status: *detail=purged-all
        HEAD /b => 200 ; cache-status: *hit*
        purge hard url /b
        GET /b ; cache-control: only-if-cached => 200 b ; cache-status: *detail=purged-by-url
    ",
    )
    .await;
}

/// Whoever asked upstream, and what for.
struct Asked {
    headers: HeaderMap,
    answer: oneshot::Sender<FetchResponse>,
}

/// An origin that answers when the test says so.
struct Gate {
    waiting: Arc<Mutex<VecDeque<Asked>>>,
}

impl Gate {
    fn of(world: &World) -> Self {
        let waiting: Arc<Mutex<VecDeque<Asked>>> = Arc::default();
        let asked = Arc::clone(&waiting);
        world.origin.set(Box::new(move |request| {
            let (answer, answered) = oneshot::channel();
            asked.lock().unwrap().push_back(Asked { headers: request.headers, answer });
            Box::pin(async move { Ok(answered.await.expect("the test answers")) })
        }));
        Self { waiting }
    }

    /// The next fetch, once it is made.
    async fn next(&self) -> Asked {
        loop {
            if let Some(asked) = self.waiting.lock().unwrap().pop_front() {
                return asked;
            }
            tokio::task::yield_now().await;
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.lock().unwrap().is_empty()
    }
}

impl Asked {
    fn answer(self, status: StatusCode, fields: &[(&'static str, &str)], body: &'static str) {
        let headers =
            fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        let body = UpstreamBody::full(Bytes::from_static(body.as_bytes()));
        drop(self.answer.send(FetchResponse::scripted(status, headers, body)));
    }

    fn ok(self, body: &'static str) {
        self.answer(
            StatusCode::OK,
            &[("cache-control", "max-age=60"), ("surrogate-key", "red"), ("etag", "\"e\"")],
            body,
        );
    }
}

/// A client that has asked and waits.
fn client(world: &Arc<World>, path: &'static str) -> tokio::task::JoinHandle<(String, String)> {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        let (response, body) = world.ask("GET", path, &[]).await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        (String::from_utf8(body.expect("not cut").to_vec()).unwrap(), status)
    })
}

/// Lets every client come as far as it can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn body(client: tokio::task::JoinHandle<(String, String)>) -> String {
    client.await.unwrap().0
}

#[tokio::test]
async fn rule_3_join_a_flight_only_if_no_purge_since_it_began_may_match() {
    // What is purged while the head is unknown, whether who asks afterwards may join, and what is kept when the older answer
    // comes last.
    for (purged, joins, kept) in [
        ("hard url /a", false, "v2"),
        ("soft url /a", false, "v2"),
        ("hard prefix /", false, "v2"),
        ("hard site", false, "v2"),
        ("hard everything", false, "v2"),
        // Its own keys turn out to be others.
        ("hard tag whichever", false, "v1"),
        ("hard url /b", true, "v1"),
        ("hard prefix /b", true, "v1"),
    ] {
        let world = Arc::new(World::edge().await);
        let origin = Gate::of(&world);
        let before = client(&world, "/a");
        let first = origin.next().await;
        purge(&world, purged).await;
        let after = client(&world, "/a");
        settle().await;
        assert_eq!(origin.is_idle(), joins, "{purged}");
        if joins {
            first.ok("v1");
            assert_eq!(body(after).await, "v1");
        } else {
            origin.next().await.ok("v2");
            assert_eq!(body(after).await, "v2", "{purged}");
            first.ok("v1");
        }
        assert_eq!(body(before).await, "v1", "{purged}: who asked before the purge is answered");
        // The older flight is nobody's to join, so it is not counted any more.
        settle().await;
        let (text, status) = client(&world, "/a").await.unwrap();
        assert_eq!(text, kept, "{purged}");
        assert!(status.contains("hit"), "{purged}: {status}");
    }
}

#[tokio::test]
async fn rule_3_when_the_head_arrives_every_follower_checks_again() {
    for (purged, shared) in [("hard tag red", false), ("soft tag red", false), ("hard tag green", true)] {
        let world = Arc::new(World::edge().await);
        let origin = Gate::of(&world);
        let leader = client(&world, "/a");
        let first = origin.next().await;
        let followers = [client(&world, "/a"), client(&world, "/a")];
        settle().await;
        assert!(origin.is_idle(), "they joined");
        purge(&world, purged).await;
        first.ok("v1");
        assert_eq!(body(leader).await, "v1");
        if !shared {
            // One fetch for both.
            origin.next().await.ok("v2");
        }
        for follower in followers {
            assert_eq!(body(follower).await, if shared { "v1" } else { "v2" }, "{purged}");
        }
        assert!(origin.is_idle(), "{purged}");
    }
}

#[tokio::test]
async fn rule_3_a_response_in_flight_when_a_purge_is_acknowledged_is_not_reused() {
    for purged in ["hard url /a", "hard tag red", "hard site", "soft url /a"] {
        let world = Arc::new(World::edge().await);
        let origin = Gate::of(&world);
        let before = client(&world, "/a");
        let first = origin.next().await;
        purge(&world, purged).await;
        first.ok("v1");
        assert_eq!(body(before).await, "v1");
        world.settle().await;
        let after = client(&world, "/a");
        let second = origin.next().await;
        let validates = second.headers.contains_key("if-none-match");
        assert_eq!(validates, purged.starts_with("soft"), "{purged}: what is gone is no validator");
        second.ok("v2");
        assert_eq!(body(after).await, "v2", "{purged}");
    }
}

#[tokio::test]
async fn rule_4_a_304_gives_the_fence_under_which_its_request_left() {
    let world = World::edge().await;
    play(
        &world,
        "
        reply /a 200 ; cache-control: max-age=60 ; etag: \"e\" | v1
        GET /a => 200 v1
        purge soft url /a
        GET /a => 200 v1 ; cache-status: *fwd=stale*fwd-status=304*detail=soft-purged-by-url
        GET /a => 200 v1 ; cache-status: *hit*
        fetches 2
        purge hard url /a
        GET /a => 200 v1 ; cache-status: *fwd=uri-miss*fwd-status=200*detail=purged-by-url
        fetches 3
    ",
    )
    .await;
    assert!(!world.origin.last().contains_key("if-none-match"), "what was purged is no validator");
}

#[tokio::test]
async fn rule_4_a_304_for_what_was_purged_meanwhile_is_not_used() {
    for (purged, used) in [("hard url /a", false), ("soft url /a", true)] {
        let world = Arc::new(World::edge().await);
        let origin = Gate::of(&world);
        let first = client(&world, "/a");
        origin.next().await.ok("v1");
        assert_eq!(body(first).await, "v1");
        world.settle().await;
        world.pass(61_000);
        let stale = client(&world, "/a");
        let validation = origin.next().await;
        assert_eq!(validation.headers["if-none-match"], "\"e\"");
        purge(&world, purged).await;
        validation.answer(StatusCode::NOT_MODIFIED, &[("etag", "\"e\""), ("cache-control", "max-age=60")], "");
        if !used {
            let again = origin.next().await;
            assert!(!again.headers.contains_key("if-none-match"));
            again.ok("v2");
        }
        assert_eq!(body(stale).await, if used { "v1" } else { "v2" });
        world.settle().await;
        // It left before the soft purge, so it has not answered it.
        let after = client(&world, "/a");
        if used {
            origin.next().await.answer(StatusCode::NOT_MODIFIED, &[("etag", "\"e\"")], "");
        }
        let (text, status) = after.await.unwrap();
        assert_eq!(text, if used { "v1" } else { "v2" });
        assert_eq!(status.contains("detail=soft-purged-by-url"), used, "{status}");
    }
}

#[tokio::test]
async fn rule_5_what_was_purged_is_never_stale_and_what_was_softly_purged_only_for_want_of_better() {
    let cc = "cache-control: max-age=60, stale-while-revalidate=600, stale-if-error=600";
    edge(&format!(
        "
        reply /soft 200 ; {cc} | soft
        reply /hard 200 ; {cc} | hard
        GET /soft => 200 soft
        GET /hard => 200 hard
        purge soft url /soft
        purge hard url /hard
        down
        GET /soft => 200 soft ; cache-status: *hit*detail=stale-if-error
        GET /hard => 502
        time +90s
        GET /soft => 200 soft ; cache-status: *hit*detail=stale-if-error
        GET /hard => 502
        up
        reply /soft 500 ; cache-control: no-store | broken
        reply /hard 500 ; cache-control: no-store | broken
        GET /soft => 200 soft ; cache-status: *hit*detail=stale-if-error
        GET /hard => 500 broken
        reply /soft 200 ; {cc} | new
        GET /soft => 200 new ; cache-status: *fwd=stale*detail=soft-purged-by-url
        GET /soft => 200 new ; cache-status: *hit*
        "
    ))
    .await;
    // A hard purge while upstream is being asked leaves nothing to fall back to.
    let world = Arc::new(World::edge().await);
    let origin = Gate::of(&world);
    let first = client(&world, "/a");
    origin.next().await.answer(StatusCode::OK, &[("cache-control", "max-age=1, stale-if-error=600")], "v1");
    assert_eq!(body(first).await, "v1");
    world.settle().await;
    world.pass(90_000);
    let stale = client(&world, "/a");
    let failing = origin.next().await;
    purge(&world, "hard url /a").await;
    failing.answer(StatusCode::BAD_GATEWAY, &[], "broken");
    assert_eq!(body(stale).await, "broken");
}

#[tokio::test]
async fn rule_10_a_local_invalidation_counts_from_the_start_of_a_fill() {
    let world = Arc::new(World::edge().await);
    let origin = Gate::of(&world);
    let before = client(&world, "/a");
    let first = origin.next().await;
    let changing = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.ask("POST", "/a", &[]).await.0.status() })
    };
    origin.next().await.answer(StatusCode::OK, &[], "done");
    assert_eq!(changing.await.unwrap(), 200);
    let after = client(&world, "/a");
    origin.next().await.ok("v2");
    assert_eq!(body(after).await, "v2", "it does not join what began before");
    first.ok("v1");
    assert_eq!(body(before).await, "v1", "who asked before is answered");
    world.settle().await;
    let (text, status) = client(&world, "/a").await.unwrap();
    assert_eq!(text, "v2", "what began before is not kept");
    assert!(status.contains("hit"), "{status}");
}

#[tokio::test]
async fn rule_10_groups_that_an_unsafe_method_invalidates_are_purged() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 ; cache-groups: \"x\", \"y\" | v1
        reply /b 200 ; cache-control: max-age=60 ; cache-groups: \"y\" | v1
        GET /a => 200 v1
        GET /b => 200 v1
        reply /form 200 ; cache-group-invalidation: \"x\" | done
        GET /form => 200 done
        GET /a => 200 v1 ; cache-status: *hit*
        POST /form => 200 done
        GET /a => 200 v1 ; cache-status: *detail=purged-by-tag
        GET /b => 200 v1 ; cache-status: *hit*
        reply /form 404 ; cache-group-invalidation: \"y\" | failed
        POST /form => 404 failed
        GET /b => 200 v1 ; cache-status: *hit*
    ",
    )
    .await;
}

/// Every core asks the same ledger: who asks after the acknowledgement is told, on whichever core.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rule_11_the_ledger_is_read_live_on_every_core() {
    let world = Arc::new(World::edge().await);
    world.origin.set(Box::new(|_| {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", "max-age=60".parse().unwrap());
        let body = UpstreamBody::full(Bytes::from_static(b"v"));
        Box::pin(std::future::ready(Ok(FetchResponse::scripted(StatusCode::OK, headers, body))))
    }));
    for round in 0..20 {
        let stored = world.ask("GET", "/a", &[]).await;
        assert_eq!(stored.0.status(), 200);
        world.settle().await;
        let fence = world.engine.store().fence();
        purge(&world, if round % 2 == 0 { "hard url /a" } else { "soft site" }).await;
        let asks = (0..4).map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let site = "www".parse().unwrap();
                let cache = perigee_protocol::model::CachePolicy::default();
                let policy = perigee_semantics::policy::Policy {
                    cache: &cache,
                    rule: None,
                    tier: perigee_semantics::policy::Tier::Edge,
                };
                let scheme = perigee_protocol::model::Scheme::Http;
                let key = perigee_semantics::key::CacheKey::new(&site, scheme, "www.example", "/a", None, &policy);
                world.engine.store().verdict(&key, &[], fence)
            })
        });
        for ask in asks.collect::<Vec<_>>() {
            assert_ne!(ask.await.unwrap(), Verdict::Clean, "{round}");
        }
        let (response, _) = world.ask("GET", "/a", &[]).await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        assert!(status.contains("fwd"), "{round}: {status}");
    }
}
