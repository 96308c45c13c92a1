//! What clients see, one behaviour a test.

use perigee_protocol::model::{CachePolicy, HeaderRules, PathPattern, Rule, RuleCache, RuleMatch};
use perigee_semantics::policy::Tier;

use crate::{dialogue::play, world::World};

async fn edge(script: &str) {
    play(&World::edge().await, script).await;
}

#[tokio::test]
async fn a_fresh_object_is_served_from_the_store() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a => 200 v1 ; cache-status: fra; fwd=uri-miss; fwd-status=200; stored ; via: 1.1 fra
        reply /a 200 ; cache-control: max-age=60 | v2
        time +59s
        GET /a => 200 v1 ; cache-status: fra; hit; ttl=1 ; age: 59
        HEAD /a => 200 \"\" ; content-length: 2 ; cache-status: *hit*
        fetches 1
        time +1s
        GET /a => 200 v2 ; cache-status: fra; fwd=stale*
        fetches 2
    ",
    )
    .await;
}

#[tokio::test]
async fn validation_keeps_the_body_and_renews_the_head() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=1 ; etag: \"1\" | v1
        GET /a => 200 v1
        time +2s
        GET /a => 200 v1 ; cache-status: fra; fwd=stale; fwd-status=304* ; age: 0
        GET /a => 200 v1 ; cache-status: *hit*
        fetches 2
    ",
    )
    .await;
}

#[tokio::test]
async fn stale_is_better_than_an_error_unless_forbidden() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=1 | v1
        reply /b 200 ; cache-control: max-age=1, must-revalidate | v1
        GET /a => 200 v1
        GET /b => 200 v1
        down
        time +2s
        GET /a => 200 v1 ; cache-status: *hit*; detail=stale-if-error*
        GET /b => 502
        up
        reply /a 503 | broken
        GET /a => 200 v1 ; cache-status: *stale-if-error*
    ",
    )
    .await;
}

#[tokio::test]
async fn stale_while_revalidate_refreshes_behind() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=1, stale-while-revalidate=30 | v1
        GET /a => 200 v1
        reply /a 200 ; cache-control: max-age=1, stale-while-revalidate=30 | v2
        time +2s
        GET /a => 200 v1 ; cache-status: *hit*stale-while-revalidate*
        fetches 2
        GET /a => 200 v2 ; cache-status: *hit*
    ",
    )
    .await;
}

#[tokio::test]
async fn shields_do_not_serve_stale_while_revalidating() {
    let world = World::new(Tier::Shield, CachePolicy::default(), Vec::new()).await;
    let script = "
        reply /a 200 ; cache-control: max-age=1, stale-while-revalidate=30 | v1
        GET /a => 200 v1
        reply /a 200 ; cache-control: max-age=1, stale-while-revalidate=30 | v2
        time +2s
        GET /a => 200 v2
    ";
    play(&world, script).await;
}

#[tokio::test]
async fn uncacheable_responses_are_not_kept() {
    edge(
        "
        reply /n 200 ; cache-control: no-store | a
        reply /p 200 ; cache-control: private, max-age=60 | a
        reply /c 200 ; cache-control: max-age=60 ; set-cookie: a=b | a
        GET /n => 200 a ; cache-status: *fwd=uri-miss*detail=no-store*
        GET /p => 200 a
        GET /c => 200 a ; set-cookie: a=b
        GET /n => 200 a
        GET /p => 200 a
        GET /c => 200 a
        fetches 6
    ",
    )
    .await;
}

#[tokio::test]
async fn every_variant_is_kept() {
    edge(
        "
        reply /v 200 ; cache-control: max-age=60 ; vary: x-a | one
        GET /v ; x-a: 1 => 200 one
        reply /v 200 ; cache-control: max-age=60 ; vary: x-a | two
        GET /v ; x-a: 2 => 200 two ; cache-status: *fwd=vary-miss*
        GET /v => 200 two ; cache-status: *fwd=vary-miss*
        GET /v ; x-a: 1 => 200 one ; cache-status: *hit*
        GET /v ; x-a: 2 => 200 two ; cache-status: *hit*
        GET /v => 200 two ; cache-status: *hit*
        fetches 3
    ",
    )
    .await;
}

#[tokio::test]
async fn conditions_are_answered_from_the_store() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 ; etag: \"1\" ; last-modified: Sun, 06 Nov 1994 08:00:00 GMT | v1
        GET /a ; if-none-match: \"1\" => 304 ; etag: \"1\"
        GET /a ; if-none-match: \"2\", W/\"1\" => 304
        GET /a ; if-none-match: \"2\" => 200 v1
        GET /a ; if-modified-since: Sun, 06 Nov 1994 08:00:00 GMT => 304
        GET /a ; if-match: \"2\" => 412
        fetches 1
    ",
    )
    .await;
}

#[tokio::test]
async fn ranges_of_stored_and_of_arriving_objects() {
    edge("
        reply /r 200 ; cache-control: max-age=60 ; etag: \"1\" ; content-type: text/plain | 0123456789
        GET /r ; range: bytes=2-4 => 206 234 ; content-range: bytes 2-4/10 ; content-length: 3 ; cache-status: *uri-miss*
        GET /r ; range: bytes=-2 => 206 89 ; cache-status: *hit*
        GET /r ; range: bytes=7- => 206 789
        GET /r ; range: bytes=10- => 416 ; content-range: bytes */10
        GET /r ; range: bytes=0-1 ; if-range: \"2\" => 200 0123456789
        GET /r ; range: bytes=0-0,9-9 => 206 ; content-type: multipart/byteranges*
        HEAD /r ; range: bytes=0-1 => 200
        fetches 1
    ")
    .await;
}

#[tokio::test]
async fn unsafe_methods_pass_and_invalidate() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a => 200 v1
        reply /a 200 ; cache-control: max-age=60 | v2
        POST /a => 200 v2 ; cache-status: *fwd=method*
        GET /a => 200 v2 ; cache-status: *fwd=uri-miss*
        reply /a 500 | no
        POST /a => 500
        GET /a => 200 v2 ; cache-status: *hit*
    ",
    )
    .await;
}

#[tokio::test]
async fn loops_unknown_hosts_and_bad_requests_are_refused() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a ; cdn-loop: other, fra.test => 508
        GET /a ; cdn-loop: other => 200
        GET /a ; host: elsewhere.example => 421
        GET /a ; host: WWW.example. => 200
        GET /a ; host: a b => 400
        GET /.perigee/healthz => 200
        GET /.perigee/else => 502
    ",
    )
    .await;
}

#[tokio::test]
async fn internal_fields_of_clients_and_hop_by_hop_fields_go_no_further() {
    let world = World::edge().await;
    let script = "
        reply /a 200 ; cache-control: no-store ; connection: x-hop ; x-hop: 1 ; keep-alive: 5 | v1
        GET /a ; perigee-site: other ; perigee-proof: v1 ; connection: close, x-gone ; x-gone: 1 ; x-stays: 1 => 200 v1
    ";
    play(&world, script).await;
    let sent = world.origin.last();
    for absent in ["perigee-site", "perigee-proof", "connection", "x-gone"] {
        assert!(!sent.contains_key(absent), "{absent}: {sent:?}");
    }
    assert_eq!(sent["x-stays"], "1");
    assert_eq!(sent["via"], "1.1 fra");
    assert_eq!(sent["cdn-loop"], "fra.test");
    assert_eq!(sent["x-forwarded-for"], "192.0.2.1");
    assert!(sent["forwarded"].to_str().unwrap().contains("for=192.0.2.1"), "{sent:?}");
}

#[tokio::test]
async fn what_would_mislead_an_origin_goes_no_further() {
    let world = World::edge().await;
    let misleading =
        "x-original-url: /admin ; x-http-method-override: DELETE ; x-forwarded-port: 1 ; forwarded: host=evil";
    let script = format!(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a ; {misleading} ; x-stays: 1 => 200 v1
    "
    );
    play(&world, &script).await;
    let sent = world.origin.last();
    for absent in ["x-original-url", "x-http-method-override", "x-forwarded-port"] {
        assert!(!sent.contains_key(absent), "{absent}: {sent:?}");
    }
    assert!(!sent["forwarded"].to_str().unwrap().contains("evil"), "{sent:?}");
    assert_eq!(sent["x-stays"], "1");
    let script = format!("reply /b 200 ; cache-control: no-store | v2\nPOST /b ; {misleading} => 200 v2");
    play(&world, &script).await;
    assert_eq!(world.origin.last()["x-http-method-override"], "DELETE", "a form may need it");
    let script = format!(
        "
        reply /c 200 ; cache-control: max-age=60 ; content-location: /c | theirs
        POST /c ; {misleading} => 200 theirs ; cache-status: fra; fwd=method; fwd-status=200
        reply /c 200 ; cache-control: max-age=60 ; content-location: /c | v3
        GET /c => 200 v3 ; cache-status: *fwd=uri-miss*
        POST /c => 200 v3 ; cache-status: *stored*
    "
    );
    play(&world, &script).await;
}

#[tokio::test]
async fn rules_pass_set_ttl_ignore_queries_and_change_headers() {
    let rule = |path: &str, cache: RuleCache, headers: HeaderRules| {
        let when = RuleMatch { path: vec![PathPattern(path.into())], ..RuleMatch::default() };
        Rule { when, cache, headers, ..Rule::default() }
    };
    let rules = vec![
        rule("/api/*", RuleCache { pass: true, ..RuleCache::default() }, HeaderRules::default()),
        rule(
            "/static/*",
            RuleCache { ttl: Some(std::time::Duration::from_secs(3600)), ignore_query: true, ..RuleCache::default() },
            HeaderRules {
                set: vec![(http::header::X_FRAME_OPTIONS, http::HeaderValue::from_static("DENY"))],
                remove: vec![http::header::SERVER],
                ..HeaderRules::default()
            },
        ),
    ];
    let world = World::new(Tier::Edge, CachePolicy::default(), rules).await;
    let script = "
        reply /api/x 200 ; cache-control: max-age=60 | v1
        GET /api/x => 200 v1 ; cache-status: *fwd=bypass*
        GET /api/x => 200 v1 ; cache-status: *fwd=bypass*
        reply /static/x 200 ; server: origin | v1
        GET /static/x?1 => 200 v1 ; server: - ; x-frame-options: DENY
        time +3599s
        GET /static/x?2 => 200 v1 ; cache-status: *hit* ; server: - ; x-frame-options: DENY
        fetches 3
    ";
    play(&world, script).await;
}

#[tokio::test]
async fn what_addresses_caches_ends_at_the_edge() {
    let reply = "reply /a 200 ; cache-control: max-age=60 ; cdn-cache-control: max-age=9 ; surrogate-key: k1 | v1";
    edge(&format!("{reply}\nGET /a => 200 v1 ; cdn-cache-control: - ; surrogate-key: - ; cache-control: max-age=60"))
        .await;
    let shield = World::new(Tier::Shield, CachePolicy::default(), Vec::new()).await;
    play(&shield, &format!("{reply}\nGET /a => 200 v1 ; cdn-cache-control: max-age=9 ; surrogate-key: k1")).await;
}

#[tokio::test]
async fn what_is_not_keyed_does_not_reach_the_origin() {
    let query = perigee_protocol::model::QueryPolicy { drop: vec!["utm_*".into()], sort: true, ..Default::default() };
    let world = World::new(Tier::Edge, CachePolicy { query, ..CachePolicy::default() }, Vec::new()).await;
    let script = "
        reply /q?a=1&b=2 200 ; cache-control: max-age=60 ; vary: accept-language | v1
        GET /q?utm_x=9&b=2&a=1 ; accept-language: DE, en;q=0.5 => 200 v1
        GET /q?b=2&a=1 ; accept-language: de,en;q=0.5 => 200 v1 ; cache-status: *hit*
        fetches 1
    ";
    play(&world, script).await;
}

#[tokio::test]
async fn responses_that_demand_validation_are_not_shared_unvalidated() {
    edge(
        "
        reply /n 200 ; cache-control: no-cache ; etag: \"1\" | v1
        GET /n => 200 v1
        GET /n => 200 v1 ; cache-status: fra; fwd=stale; fwd-status=304*
        fetches 2
    ",
    )
    .await;
}

#[tokio::test]
async fn what_a_204_must_not_say_and_a_405_must() {
    edge(
        "
        reply /none 204 ; cache-control: max-age=60 |
        GET /none => 204 ; content-length: -
        GET /none => 204 ; content-length: - ; cache-status: *hit*
        reply /reset 205 ; cache-control: max-age=60 |
        GET /reset => 205 ; content-length: 0
        TRACE /none => 405 ; allow: *GET*
        POST /.perigee/healthz => 405 ; allow: GET, HEAD
    ",
    )
    .await;
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_answer() {
    edge(
        "
        reply /a 304 ; etag: \"1\" |
        GET /a => 502 ; cache-status: *protocol*
        GET /a ; if-none-match: \"2\" => 502
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a => 200 v1
    ",
    )
    .await;
}

#[tokio::test]
async fn an_error_that_one_request_brought_on_itself_is_not_the_urls() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=1 ; etag: \"1\" | v1
        GET /a => 200 v1
        time +2s
        reply /a 431 | too much
        GET /a ; x-odd: 1 => 431
        down
        GET /a => 200 v1 ; cache-status: *stale-if-error*
        up
        reply /b 400 | what
        GET /b ; x-odd: 1 => 400
        reply /b 200 ; cache-control: max-age=60 | v1
        GET /b => 200 v1 ; cache-status: *stored*
        reply /c 403 | no
        GET /c => 403
        GET /c => 403 ; cache-status: *known-private*
    ",
    )
    .await;
}
