//! Whose a response is, how old it is, which variant, and what ends it: as a client sees it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use perigee_protocol::model::{CachePolicy, ClientCacheControl, SetCookie};
use perigee_semantics::policy::Tier;
use perigee_upstream::{FetchResponse, UpstreamBody};

use crate::{
    dialogue::play,
    world::{Replies, Reply, World},
};

async fn edge(script: &str) {
    play(&World::edge().await, script).await;
}

async fn with(cache: CachePolicy, script: &str) {
    play(&World::new(Tier::Edge, cache, Vec::new()).await, script).await;
}

#[tokio::test]
async fn cookies_by_policy() {
    let reply = "reply /c 200 ; cache-control: max-age=60 ; set-cookie: a=b | v1";
    for (policy, first, second) in [
        (
            SetCookie::Pass,
            "set-cookie: a=b ; cache-status: *detail=set-cookie",
            "set-cookie: a=b ; cache-status: *fwd=*",
        ),
        (SetCookie::Strip, "set-cookie: - ; cache-status: *stored", "set-cookie: - ; cache-status: *hit*"),
        (SetCookie::Store, "set-cookie: a=b ; cache-status: *stored", "set-cookie: a=b ; cache-status: *hit*"),
    ] {
        let script = format!("{reply}\nGET /c => 200 v1 ; {first}\nGET /c => 200 v1 ; {second}");
        with(CachePolicy { set_cookie: policy, ..CachePolicy::default() }, &script).await;
    }
}

#[tokio::test]
async fn fields_that_are_private_or_to_be_validated_are_of_one_response() {
    edge(
        "
        reply /f 200 ; cache-control: max-age=60, private=\"x-a\", no-cache=\"x-b, x-c\" ; x-a: 1 ; x-b: 2 ; x-d: 3 | v1
        GET /f => 200 v1 ; x-a: 1 ; x-b: 2 ; x-d: 3 ; cache-status: *stored
        GET /f => 200 v1 ; cache-status: *hit* ; x-a: - ; x-b: - ; x-d: 3
        reply /g 301 ; cache-control: max-age=60, private=\"set-cookie, connection\" ; set-cookie: a=b | moved
        GET /g => 301 moved ; set-cookie: a=b ; cache-status: *detail=set-cookie
    ",
    )
    .await;
    let reply =
        "reply /g 301 ; cache-control: max-age=60, private=\"set-cookie, connection\" ; set-cookie: a=b | moved";
    let (first, then) = ("GET /g => 301 moved", "GET /g => 301 moved ; set-cookie: - ; cache-status: *hit*");
    for (policy, own) in [(SetCookie::Store, "a=b"), (SetCookie::Strip, "-")] {
        let script = format!("{reply}\n{first} ; set-cookie: {own}\n{then}");
        with(CachePolicy { set_cookie: policy, ..CachePolicy::default() }, &script).await;
    }
}

#[tokio::test]
async fn credentials_have_three_exceptions() {
    for (directives, shared) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("max-age=60, must-revalidate", true),
        ("s-maxage=60", true),
        ("max-age=60, proxy-revalidate", false),
    ] {
        let then = if shared { "*hit*" } else { "*fwd=uri-miss*" };
        edge(&format!(
            "
            reply /a 200 ; cache-control: {directives} | v1
            GET /a ; authorization: x => 200 v1
            GET /a => 200 v1 ; cache-status: {then}
        "
        ))
        .await;
    }
}

#[tokio::test]
async fn what_one_request_forbids_changes_nothing_for_others() {
    let cache = CachePolicy { client_cache_control: ClientCacheControl::Honour, ..CachePolicy::default() };
    for forbidding in ["authorization: x", "cache-control: no-store"] {
        let script = format!(
            "
            reply /a 200 ; cache-control: max-age=1 ; etag: \"1\" | v1
            GET /a => 200 v1
            time +2s
            GET /a ; {forbidding} => 200 v1 ; cache-status: *fwd=stale; fwd-status=304*
            down
            GET /a => 200 v1 ; cache-status: *detail=stale-if-error
            up
            reply /a 200 ; cache-control: max-age=1 ; etag: \"2\" | v2
            GET /a ; {forbidding} => 200 v2
            GET /a => 200 v2 ; cache-status: *stored
        "
        );
        with(cache.clone(), &script).await;
    }
}

#[tokio::test]
async fn groups_are_invalidated_by_their_own_origin_alone() {
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 ; cache-groups: \"news\", \"all\" | v1
        reply /b 200 ; cache-control: max-age=60 ; cache-groups: \"News\" | v1
        reply /c 200 ; cache-control: max-age=60 | v1
        GET /a => 200 v1 ; cache-groups: *news*
        GET /b => 200 v1
        GET /c => 200 v1
        reply /edit 200 ; cache-group-invalidation: \"news\" |
        GET /edit => 200
        GET /a => 200 v1 ; cache-status: *hit*
        reply /edit 500 ; cache-group-invalidation: \"news\" |
        POST /edit => 500
        GET /a => 200 v1 ; cache-status: *hit*
        reply /edit 200 ; cache-group-invalidation: news |
        POST /edit => 200
        GET /a => 200 v1 ; cache-status: *hit*
        reply /edit 204 ; cache-group-invalidation: \"other\", \"news\";x=1 |
        POST /edit => 204
        GET /a => 200 v1 ; cache-status: *fwd=uri-miss*
        GET /b => 200 v1 ; cache-status: *hit*
        GET /c => 200 v1 ; cache-status: *hit*
    ",
    )
    .await;
}

#[tokio::test]
async fn errors_are_kept_for_a_reason() {
    edge(
        "
        reply /a 404 | no
        GET /a => 404 no ; cache-status: *detail=no-freshness
        reply /b 404 ; cache-control: max-age=9 | no
        GET /b => 404 no ; cache-status: *stored
        GET /b => 404 no ; cache-status: *hit; ttl=9
        reply /c 404 ; last-modified: Sun, 06 Nov 1994 08:00:00 GMT | no
        GET /c => 404 no ; cache-status: *stored
        reply /d 403 ; last-modified: Sun, 06 Nov 1994 08:00:00 GMT | no
        GET /d => 403 no ; cache-status: *detail=no-freshness
        reply /e 503 ; cache-control: max-age=9 | no
        GET /e => 503 no ; cache-status: *stored
        GET /e => 503 no ; cache-status: *hit*
    ",
    )
    .await;
    let negative_ttl = BTreeMap::from([(404, Duration::from_secs(5)), (503, Duration::from_secs(1))]);
    let script = "
        reply /a 404 | no
        GET /a => 404 no ; cache-status: *stored
        time +4s
        GET /a => 404 no ; cache-status: *hit; ttl=1
        time +1s
        GET /a => 404 no ; cache-status: *fwd=stale*
        reply /b 404 ; cache-control: max-age=60 | no
        GET /b => 404 no
        GET /b => 404 no ; cache-status: *hit; ttl=60
        reply /c 404 ; cache-control: no-store | no
        GET /c => 404 no ; cache-status: *detail=no-store
    ";
    with(CachePolicy { negative_ttl, ..CachePolicy::default() }, script).await;
}

#[tokio::test]
async fn ages_are_read_as_they_should_be_and_written_right() {
    for (age, seconds) in [("30", 30), ("30, 0", 30), ("-1", 0), ("abc", 0), ("1.5", 0), ("30x", 0), ("", 0)] {
        edge(&format!(
            "
            reply /a 200 ; cache-control: max-age=60 ; age: {age} | v1
            GET /a => 200 v1 ; age: {seconds}
            time +7s
            GET /a => 200 v1 ; age: {} ; cache-status: *hit; ttl={}
        ",
            seconds + 7,
            60 - seconds - 7
        ))
        .await;
    }
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 ; age: 99999999999999999999 ; etag: \"1\" | v1
        GET /a => 200 v1 ; age: 2147483648
        GET /a => 200 v1 ; cache-status: *fwd=stale*
        reply /b 200 ; cache-control: max-age=60 ; date: Sun, 06 Nov 1994 08:49:07 GMT | v1
        GET /b => 200 v1 ; age: 29
        reply /c 200 ; cache-control: max-age=60 ; date: Sun, 06 Nov 1994 09:49:37 GMT | from the future
        GET /c => 200 ; age: 0
    ",
    )
    .await;
}

#[tokio::test]
async fn the_fetchs_own_delay_is_age() {
    let world = World::edge().await;
    let clock = world.clock();
    world.origin.set(Box::new(move |_| {
        clock(3_400);
        let fields = [("cache-control", "max-age=60"), ("age", "10")]
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let response =
            FetchResponse::scripted(http::StatusCode::OK, fields.into_iter().collect(), UpstreamBody::full("v1"));
        Box::pin(std::future::ready(Ok(response)))
    }));
    assert_eq!(world.ask("GET", "/a", &[]).await.0.headers()["age"], "13");
    world.pass(600);
    assert_eq!(world.ask("GET", "/a", &[]).await.0.headers()["age"], "14", "milliseconds add up");
}

#[tokio::test]
async fn an_answer_for_another_variant_is_asked_again_without_conditions() {
    let world = World::edge().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, tag) = (Arc::clone(&asked), Arc::new(Mutex::new("\"1\"")));
    let current = Arc::clone(&tag);
    world.origin.set(Box::new(move |request| {
        log.lock().unwrap().push(request.headers.get("if-none-match").map(|tag| tag.to_str().unwrap().to_owned()));
        let tag = *current.lock().unwrap();
        // An origin that answers any condition with 304, and says what it thinks is current.
        let status = if request.headers.contains_key("if-none-match") { 304 } else { 200 };
        let headers = vec![("cache-control".into(), "max-age=1".into()), ("etag".into(), tag.to_owned())];
        let body = if status == 304 { "" } else { tag };
        let mut replies = Replies::default();
        replies.0.insert("/a".into(), Reply { status, headers, body: body.to_owned().into() });
        let reply = FetchResponse::scripted(
            status.try_into().unwrap(),
            replies.0["/a"]
                .headers
                .iter()
                .map(|(name, value)| (http::HeaderName::try_from(name).unwrap(), value.parse().unwrap()))
                .collect(),
            UpstreamBody::full(replies.0["/a"].body.clone()),
        );
        Box::pin(std::future::ready(Ok(reply)))
    }));
    assert_eq!(world.ask("GET", "/a", &[]).await.1.unwrap(), "\"1\"");
    *tag.lock().unwrap() = "\"2\"";
    world.pass(2_000);
    assert_eq!(world.ask("GET", "/a", &[]).await.1.unwrap(), "\"2\"", "a body under another's tag");
    assert_eq!(*asked.lock().unwrap(), [None, Some("\"1\"".to_owned()), None]);
}

#[tokio::test]
async fn at_the_limit_the_oldest_variant_goes_and_is_counted() {
    let world = World::new(Tier::Edge, CachePolicy { vary_limit: 2, ..CachePolicy::default() }, Vec::new()).await;
    let script = "
        reply /v 200 ; cache-control: max-age=60 ; vary: x-a | v
        GET /v ; x-a: 1 => 200 v
        GET /v ; x-a: 2 => 200 v
        GET /v ; x-a: 1 => 200 v ; cache-status: *hit*
        GET /v ; x-a: 3 => 200 v
        GET /v ; x-a: 2 => 200 v ; cache-status: *hit*
        GET /v ; x-a: 3 => 200 v ; cache-status: *hit*
        GET /v ; x-a: 1 => 200 v ; cache-status: *fwd=vary-miss*
        fetches 4
    ";
    play(&world, script).await;
    assert!(world.metrics().contains("\nperigee_variants_dropped_total 2\n"), "{}", world.metrics());
}

#[tokio::test]
async fn what_is_keyed_of_accept_fields_is_what_is_sent() {
    let world = World::edge().await;
    let script = "
        reply /v 200 ; cache-control: max-age=60 ; vary: Accept-Encoding, ACCEPT-LANGUAGE | v
        GET /v ; accept-encoding: GZip , br;q=0.80 ; accept-language: EN;q=0.5,de => 200 v
        GET /v ; accept-encoding: br; q=0.8,gzip ; accept-language: de, en;q=0.500 => 200 v ; cache-status: *hit*
        fetches 1
    ";
    play(&world, script).await;
    assert_eq!(world.origin.last()["accept-encoding"], "gzip,br;q=0.800");
    assert_eq!(world.origin.last()["accept-language"], "de,en;q=0.500");
}

#[tokio::test]
async fn a_star_in_vary_matches_nothing() {
    for vary in ["*", "x-a, *", "* , x-a", "*,*"] {
        edge(&format!(
            "
            reply /v 200 ; cache-control: max-age=60 ; vary: {vary} | v
            GET /v => 200 v ; cache-status: *detail=vary-star
            GET /v => 200 v ; cache-status: *fwd=uri-miss*
        "
        ))
        .await;
    }
}

#[tokio::test]
async fn only_what_succeeds_invalidates_whatever_it_is_called() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        edge(&format!(
            "
            reply /a 200 ; cache-control: max-age=60 | v1
            reply /b 200 ; cache-control: max-age=60 | v1
            reply /c 200 ; cache-control: max-age=60 | v1
            GET /a => 200 v1
            GET /b => 200 v1
            GET /c => 200 v1
            reply /a 500 ; location: /b | no
            {method} /a => 500
            reply /a 404 ; location: /b | no
            {method} /a => 404
            GET /a => 200 v1 ; cache-status: *hit*
            GET /b => 200 v1 ; cache-status: *hit*
            reply /a 201 ; location: /b ; content-location: http://elsewhere.example/c | done
            {method} /a => 201
            GET /b => 200 v1 ; cache-status: *fwd=uri-miss*
            GET /c => 200 v1 ; cache-status: *hit*
            reply /a 200 ; cache-control: max-age=60 | v2
            GET /a => 200 v2 ; cache-status: *fwd=uri-miss*
        "
        ))
        .await;
    }
    edge(
        "
        reply /a 200 ; cache-control: max-age=60 | v1
        GET /a => 200 v1
        OPTIONS /a => 200 v1
        GET /a => 200 v1 ; cache-status: *hit*
    ",
    )
    .await;
}

#[tokio::test]
async fn a_location_by_either_name_of_the_origin_is_its_own() {
    for (location, then) in [
        ("http://www.example/b", "*fwd=uri-miss*"),
        ("http://internal.example:8080/b", "*fwd=uri-miss*"),
        ("//www.example/b", "*fwd=uri-miss*"),
        ("http://other.example/b", "*hit*"),
        ("http://internal.example/b", "*hit*"),
    ] {
        let world = World::behind("internal.example:8080").await;
        let script = format!(
            "
            reply /b 200 ; cache-control: max-age=60 | v1
            GET /b => 200 v1
            reply /a 201 ; location: {location} |
            POST /a => 201
            GET /b => 200 v1 ; cache-status: {then}
        "
        );
        play(&world, &script).await;
    }
}

#[tokio::test]
async fn any_final_status_may_be_kept_that_says_how_long() {
    for status in [203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 403, 404, 410, 451, 499, 500, 503, 599] {
        edge(&format!(
            "
            reply /s {status} ; cache-control: max-age=60 | x
            GET /s => {status} ; cache-status: *stored
            GET /s => {status} ; cache-status: *hit*
        "
        ))
        .await;
    }
    edge(
        "
        reply /known 200 ; cache-control: max-age=60, no-store, must-understand | v1
        GET /known => 200 v1 ; cache-status: *stored
        reply /unknown 599 ; cache-control: max-age=60, must-understand | v1
        GET /unknown => 599 v1 ; cache-status: *detail=status
    ",
    )
    .await;
}

#[tokio::test]
async fn the_key_is_for_those_who_may_read_it() {
    let world = World::edge().await;
    world.engine.show_keys_to(|token| token == b"secret");
    let script = "
        reply /a?q=1 200 ; cache-control: max-age=60 | v1
        GET /a?q=1 ; perigee-debug: secret => 200 ; cache-status: *stored; key=\"www http://www.example/a?q=1\"
        GET /a?q=1 ; perigee-debug: secret => 200 ; cache-status: fra; hit; ttl=60; key=\"www http://www.example/a?q=1\"
        GET /a?q=1 ; perigee-debug: Secret => 200 ; cache-status: fra; hit; ttl=60
        GET /a?q=1 => 200 ; cache-status: fra; hit; ttl=60
        reply /n 200 ; cache-control: no-store | v1
        GET /n ; perigee-debug: secret => 200 ; cache-status: *key=*detail=no-store
    ";
    play(&world, script).await;
    assert!(!world.origin.last().contains_key("perigee-debug"), "a token goes no further");
}

#[tokio::test]
async fn trailers_are_not_stored() {
    let world = World::edge().await;
    world.origin.set(Box::new(|_| {
        let field = |name, value| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
        let fields = [field("cache-control", "max-age=60"), field("trailer", "x-sum")].into_iter().collect();
        let trailers = [field("x-sum", "1"), field("set-cookie", "a=b")].into_iter().collect();
        let frames = [Frame::data(Bytes::from_static(b"v1")), Frame::trailers(trailers)].map(Ok);
        let body = UpstreamBody::from_body(StreamBody::new(futures_util::stream::iter(frames)));
        Box::pin(std::future::ready(Ok(FetchResponse::scripted(http::StatusCode::OK, fields, body))))
    }));
    for status in ["fra; fwd=uri-miss; fwd-status=200; stored", "fra; hit; ttl=60"] {
        let (parts, body) = world.send("GET", "/a", &[]).await.into_parts();
        assert_eq!(parts.headers["cache-status"], status);
        for absent in ["trailer", "x-sum", "set-cookie"] {
            assert!(!parts.headers.contains_key(absent), "{absent}");
        }
        let collected = body.collect().await.unwrap();
        assert!(
            collected.trailers().is_none(),
            "RFC 9110 §6.5.1 lets a cache drop them, and nothing says they hold later"
        );
        assert_eq!(collected.to_bytes(), "v1");
        world.settle().await;
    }
}
