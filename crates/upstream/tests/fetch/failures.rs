//! What is retried, where, and what is given up.

use perigee_testkit::{Reply, ScriptedOrigin, free_port};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::*;

fn nobody() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

#[tokio::test]
async fn a_refused_connection_moves_on_even_without_retries() {
    let server = ScriptedOrigin::answering(|seen| Reply::ok(seen.method.clone())).await;
    let setup = Setup::of(vec![origin(&nobody()), backup(&server.url())]);
    let world = setup.policy(|policy| policy.retries = 0).build();
    assert_eq!(world.read(get("/")).await, "GET");
    let posted = FetchRequest { body: Some("content".into()), ..request(Method::POST, "/") };
    assert_eq!(world.read(posted).await, "POST");
    assert_eq!(&server.seen()[1].body[..], b"content");
}

#[tokio::test]
async fn nobody_there_is_a_connect_error() {
    let world = Setup::of(vec![origin(&nobody())]).build();
    let error = world.fetch(get("/")).await.expect_err("nobody listens");
    assert_eq!((error.kind(), error.kind().status().as_u16()), (FetchErrorKind::Connect, 502));
    assert_eq!(world.metric("retries_total"), 2);
}

/// Hangs up on the first `times` requests.
async fn flaky(times: usize) -> ScriptedOrigin {
    let asked = AtomicUsize::new(0);
    ScriptedOrigin::answering(move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) < times { Reply::hang_up() } else { Reply::ok("at last") }
    })
    .await
}

#[tokio::test]
async fn a_close_before_any_byte_is_retried_as_often_as_allowed() {
    let server = flaky(2).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    assert_eq!(world.read(get("/")).await, "at last");
    assert_eq!(server.requests(), 3);

    let server = flaky(2).await;
    let world = Setup::of(vec![origin(&server.url())]).policy(|policy| policy.retries = 1).build();
    assert_eq!(world.fails(get("/")).await, FetchErrorKind::PrematureClose);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn only_what_may_be_repeated_is_retried() {
    let check = async |method: Method, body: Option<&'static str>, expected: usize| {
        let server = flaky(usize::MAX).await;
        let world = Setup::of(vec![origin(&server.url())]).build();
        let asked = FetchRequest { body: body.map(Into::into), ..request(method.clone(), "/") };
        assert_eq!(world.fails(asked).await, FetchErrorKind::PrematureClose);
        assert_eq!(server.requests(), expected, "{method} {body:?}");
    };
    check(Method::GET, None, 3).await;
    check(Method::HEAD, None, 3).await;
    check(Method::OPTIONS, None, 3).await;
    check(Method::PUT, None, 3).await;
    check(Method::DELETE, None, 3).await;
    check(Method::PUT, Some("spent"), 1).await;
    check(Method::POST, None, 1).await;
    check(Method::PATCH, None, 1).await;
    check("PURGE".parse().unwrap(), None, 1).await;
}

#[tokio::test]
async fn a_first_byte_time_out_goes_to_the_next_upstream_only() {
    let (slow, quick) =
        (ScriptedOrigin::answering(|_| Reply::hang()).await, ScriptedOrigin::answering(|_| Reply::ok("quick")).await);
    let short = |policy: &mut UpstreamPolicy| policy.first_byte_timeout = Duration::from_millis(500);
    let world = Setup::of(vec![origin(&slow.url())]).policy(short).build();
    let error = world.fetch(get("/")).await.expect_err("it hangs");
    assert_eq!(
        (error.kind(), error.kind().status().as_u16(), slow.requests()),
        (FetchErrorKind::FirstByteTimeout, 504, 1)
    );

    let long = Duration::from_secs(60);
    // The limit is the site's, for both: whether the quick one makes it may not depend on this machine, so ask again.
    let world = Setup::of(vec![origin(&slow.url()), backup(&quick.url())]).policy(short).build();
    let response = tokio::time::timeout(long, async {
        loop {
            if let Ok(response) = world.fetch(get("/")).await {
                return response;
            }
        }
    });
    assert_eq!(whole(response.await.unwrap().body).await.unwrap(), b"quick");
    assert_eq!(world.fails(request(Method::POST, "/")).await, FetchErrorKind::FirstByteTimeout);
}

#[tokio::test]
async fn junk_is_a_protocol_error() {
    let check = async |bytes: &'static str| {
        let server = ScriptedOrigin::answering(move |_| Reply::raw(bytes)).await;
        let world = Setup::of(vec![origin(&server.url())]).build();
        assert_eq!(world.fails(get("/")).await, FetchErrorKind::Protocol, "{bytes}");
        assert_eq!(server.requests(), 1, "{bytes}");
    };
    check("SSH-2.0-OpenSSH_9.2\r\n").await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").await;
    check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab").await;
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").await;
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").await;
}

#[tokio::test]
async fn both_sides_of_the_head_limits() {
    let check = async |fields: usize, padding: usize, passes: bool| {
        let field = format!("x: {}\r\n", "a".repeat(padding));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nok", field.repeat(fields - 1));
        let server = ScriptedOrigin::answering(move |_| Reply::raw(head.clone())).await;
        let world = Setup::of(vec![origin(&server.url())]).build();
        assert_eq!(world.fetch(get("/")).await.is_ok(), passes, "{fields} fields of {padding}");
    };
    check(128, 1, true).await;
    check(129, 1, false).await;
    check(2, 60_000, true).await;
    check(2, 70_000, false).await;
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone_for_a_while() {
    let port = free_port();
    let world =
        Setup::of(vec![origin(&format!("http://127.0.0.1:{port}"))]).policy(|policy| policy.retries = 0).build();
    for _ in 0..5 {
        assert_eq!(world.fails(get("/")).await, FetchErrorKind::Connect);
    }
    assert_eq!(world.fails(get("/")).await, FetchErrorKind::NoUpstream);
    let server = ScriptedOrigin::answering_at(([127, 0, 0, 1], port).into(), |_| Reply::ok("back")).await;
    assert_eq!(world.fails(get("/")).await, FetchErrorKind::NoUpstream);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.read(get("/")).await, "back");
    assert_eq!(world.read(get("/")).await, "back");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn answers_of_500_are_answers() {
    let server = ScriptedOrigin::answering(|_| Reply::new(503).body("sorry")).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    for _ in 0..10 {
        let response = world.fetch(get("/")).await.unwrap();
        assert_eq!((response.status.as_u16(), whole(response.body).await.unwrap().as_slice()), (503, &b"sorry"[..]));
    }
    assert_eq!(server.requests(), 10);
}

#[tokio::test]
async fn retries_cannot_multiply_the_load() {
    let server =
        ScriptedOrigin::answering(|seen| if seen.path() == "/bad" { Reply::hang_up() } else { Reply::new(204) }).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    for _ in 0..30 {
        assert_eq!(world.fails(get("/bad")).await, FetchErrorKind::PrematureClose);
        // So that health does not hide what the budget does.
        drop(world.fetch(get("/good")).await.unwrap());
    }
    // 60 retries were allowed by the policy. The budget: 20 saved, and a fifth of 60 fetches.
    let retries = world.metric("retries_total");
    assert!((20..=32).contains(&retries), "{retries}");
}

#[tokio::test]
async fn a_url_that_kills_its_handler_does_not_take_the_site_down() {
    let server =
        ScriptedOrigin::answering(|seen| if seen.path() == "/bad" { Reply::hang_up() } else { Reply::new(204) }).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    for _ in 0..3 {
        assert_eq!(world.fails(get("/bad")).await, FetchErrorKind::PrematureClose);
    }
    assert_eq!(world.fetch(get("/good")).await.unwrap().status.as_u16(), 204);
}
