//! Reuse, its limits, and the cap.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use perigee_testkit::{Reply, ScriptedOrigin, wait_until};
use perigee_upstream::RequestBody;
use tokio::sync::{Barrier, Semaphore, mpsc};

use crate::*;

#[tokio::test]
async fn one_connection_serves_one_after_the_other() {
    let server = ScriptedOrigin::answering(|seen| match seen.path() {
        "/chunked" => Reply::ok("abc").chunked(),
        "/none" => Reply::new(204),
        "/not-modified" => Reply::new(304),
        _ => Reply::ok(seen.target.clone()),
    })
    .await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    let mut reused = Vec::new();
    for path in ["/a", "/chunked", "/none", "/not-modified", "/b?c=%7E'{}", "/a"] {
        let response = world.fetch(get(path)).await.unwrap();
        reused.push(response.connect_reused);
        whole(response.body).await.unwrap();
    }
    whole(world.fetch(request(Method::HEAD, "/head")).await.unwrap().body).await.unwrap();
    assert_eq!(reused, [false, true, true, true, true, true]);
    assert_eq!((server.connections(), server.requests()), (1, 7));
    assert_eq!(server.seen()[4].target, "/b?c=%7E'{}");
    assert_eq!((world.metric("connections_open"), world.metric("connections_idle")), (1, 1));
}

#[tokio::test]
async fn a_body_that_is_dropped_closes_its_connection() {
    let server = ScriptedOrigin::answering(|_| Reply::repeat(vec![0; 65536], 1 << 14)).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    let response = world.fetch(get("/")).await.unwrap();
    server.wait_for_connections_open(1).await;
    drop(response);
    server.wait_for_connections_open(0).await;
    wait_until("the connection being forgotten", || world.metric("connections_open") == 0).await;
}

#[tokio::test]
async fn a_fetch_that_is_dropped_closes_its_connection() {
    let server = ScriptedOrigin::answering(|_| Reply::hang()).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    let fleet = Arc::clone(&world.fleet);
    let fetching = tokio::spawn(async move { fleet.fetch(get("/")).await.map(drop) });
    server.wait_for_requests(1).await;
    fetching.abort();
    server.wait_for_connections_open(0).await;
}

/// Closes each connection that served once, as soon as a second request arrives on it.
async fn forgetful() -> ScriptedOrigin {
    let served = AtomicUsize::new(usize::MAX);
    ScriptedOrigin::answering(move |seen| {
        if served.swap(seen.connection, Ordering::SeqCst) == seen.connection {
            Reply::hang_up()
        } else {
            Reply::ok("fresh")
        }
    })
    .await
}

#[tokio::test]
async fn a_stale_kept_connection_is_replaced_without_a_retry() {
    let server = forgetful().await;
    let world = Setup::of(vec![origin(&server.url())]).policy(|policy| policy.retries = 0).build();
    for _ in 0..3 {
        assert_eq!(world.read(get("/")).await, "fresh");
    }
    assert_eq!((server.connections(), server.requests(), world.metric("retries_total")), (3, 5, 0));
}

#[tokio::test]
async fn after_one_stale_connection_the_next_is_new() {
    let (all_here, served) = (Arc::new(Barrier::new(3)), Arc::new(Mutex::new(HashSet::new())));
    let server = ScriptedOrigin::start(move |seen| {
        let (all_here, again) = (Arc::clone(&all_here), !served.lock().unwrap().insert(seen.connection));
        async move {
            if again {
                return Reply::hang_up();
            }
            if seen.path() == "/together" {
                all_here.wait().await;
            }
            Reply::ok("fresh")
        }
    })
    .await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    tokio::join!(world.read(get("/together")), world.read(get("/together")), world.read(get("/together")));
    assert_eq!(world.metric("connections_idle"), 3);
    assert_eq!(world.read(get("/alone")).await, "fresh");
    assert_eq!((server.requests(), server.connections()), (5, 4));
}

#[tokio::test]
async fn a_reader_that_stops_at_the_last_byte_has_read_it_all() {
    let server = ScriptedOrigin::answering(|_| Reply::ok("abc")).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    let mut body = world.fetch(get("/")).await.unwrap().body;
    while !http_body::Body::is_end_stream(&body) {
        patiently("a piece", body.frame()).await.unwrap().unwrap();
    }
    drop(body);
    assert!(world.fetch(get("/")).await.unwrap().connect_reused);
}

#[tokio::test]
async fn what_must_not_be_repeated_takes_no_old_connection() {
    let check = async |method: Method, body: Option<RequestBody>, reused: bool| {
        let server = ScriptedOrigin::answering(|_| Reply::ok("a")).await;
        let world = Setup::of(vec![origin(&server.url())]).build();
        world.read(get("/")).await;
        // The one sleep that is a state: the connection has now been idle for more than a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let asked = FetchRequest { body, ..request(method.clone(), "/") };
        assert_eq!(world.fetch(asked).await.unwrap().connect_reused, reused, "{method}");
    };
    tokio::join!(
        check(Method::GET, None, true),
        check(Method::PUT, None, true),
        check(Method::POST, None, false),
        check(Method::PUT, Some("spent".into()), false),
    );
}

#[tokio::test]
async fn a_request_that_must_not_be_repeated_is_not() {
    let server = forgetful().await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    assert_eq!(world.read(get("/")).await, "fresh");
    assert_eq!(world.fails(request(Method::POST, "/")).await, FetchErrorKind::PrematureClose);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_not_used() {
    let server = ScriptedOrigin::answering(|_| Reply::ok("a")).await;
    let at = server.address();
    let world = Setup::of(vec![origin(&server.url())]).build();
    assert_eq!(world.read(get("/")).await, "a");
    server.stop().await;
    wait_until("the close being noticed", || world.metric("connections_open") == 0).await;
    assert_eq!(world.metric("connections_idle"), 0);
    let _again = ScriptedOrigin::answering_at(at, |_| Reply::ok("b")).await;
    assert_eq!(world.read(request(Method::POST, "/")).await, "b");
}

#[tokio::test]
async fn connections_end_with_their_fleet() {
    let server = ScriptedOrigin::answering(|_| Reply::ok("a")).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    world.read(get("/")).await;
    assert_eq!(server.connections_open(), 1);
    drop(world.fleet);
    server.wait_for_connections_open(0).await;
}

#[tokio::test]
async fn never_more_than_connections_max() {
    let (permits, busy, most) =
        (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate, now, peak) = (Arc::clone(&permits), Arc::clone(&busy), Arc::clone(&most));
    let server = ScriptedOrigin::start(move |_| {
        let (gate, now, peak) = (Arc::clone(&gate), Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            Reply::ok("done")
        }
    })
    .await;
    let world = Setup::of(vec![origin(&server.url())]).policy(|policy| policy.connections_max = 3).build();
    let fetches: Vec<_> = (0..20)
        .map(|_| {
            let fleet = Arc::clone(&world.fleet);
            tokio::spawn(async move { whole(fleet.fetch(get("/")).await?.body).await })
        })
        .collect();
    server.wait_for_requests(3).await;
    permits.add_permits(20);
    for fetch in fetches {
        assert_eq!(patiently("a queued fetch", fetch).await.unwrap().unwrap(), b"done");
    }
    assert_eq!((most.load(Ordering::SeqCst), server.connections()), (3, 3));
}

#[tokio::test]
async fn a_full_pool_is_an_error_of_its_own() {
    let server = ScriptedOrigin::answering(|_| Reply::hang()).await;
    let setup = Setup::of(vec![origin(&server.url())]);
    let world =
        setup.policy(|policy| (policy.connections_max, policy.connect_timeout) = (1, Duration::from_secs(1))).build();
    let fleet = Arc::clone(&world.fleet);
    let _holding = tokio::spawn(async move { fleet.fetch(get("/")).await.map(drop) });
    server.wait_for_requests(1).await;
    assert_eq!(world.fails(get("/")).await, FetchErrorKind::TooManyConnections);
    assert_eq!(server.connections(), 1);
}

/// Runs fetches on a thread and runtime of its own, one per message; answers with what came and whether it was reused.
fn core(fleet: &Arc<Fleet>) -> (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<bool>) {
    let fleet = Arc::clone(fleet);
    let (ask, mut asked) = mpsc::unbounded_channel();
    let (answer, answers) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            while asked.recv().await.is_some() {
                let response = fleet.fetch(get("/")).await.unwrap();
                let reused = response.connect_reused;
                whole(response.body).await.unwrap();
                if answer.send(reused).is_err() {
                    return;
                }
            }
        });
    });
    (ask, answers)
}

#[tokio::test]
async fn cores_keep_their_own_connections_and_share_the_cap() {
    let server = ScriptedOrigin::answering(|_| Reply::ok("a")).await;
    let world = Setup::of(vec![origin(&server.url())]).policy(|policy| {
        policy.connections_max = 1;
        // Shorter than an idle connection lives: waiting for its end must not do.
        policy.connect_timeout = Duration::from_secs(15);
    });
    let world = world.build();
    let (ask_a, mut answers_a) = core(&world.fleet);
    let (ask_b, mut answers_b) = core(&world.fleet);
    let mut fetch = async |first: bool| {
        let (ask, answers) = if first { (&ask_a, &mut answers_a) } else { (&ask_b, &mut answers_b) };
        ask.send(()).unwrap();
        patiently("a core's fetch", answers.recv()).await.unwrap()
    };
    assert!(!fetch(true).await);
    assert!(fetch(true).await);
    // The other core cannot use it, and may not have a second: the idle one is closed for it.
    assert!(!fetch(false).await);
    assert!(fetch(false).await);
    assert!(!fetch(true).await);
    assert_eq!(server.connections(), 3);
    server.wait_for_connections_open(1).await;
}

#[tokio::test]
async fn an_answer_before_the_upload_ends_does_not_keep_the_connection() {
    // The origin answers when the head is there: it must be raw, since the scripted one reads content first.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(socket.read(&mut head).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest).await);
    });
    let world = Setup::of(vec![origin(&format!("http://{at}"))]).build();
    let endless = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>();
    let body = perigee_upstream::RequestBody::new(http_body_util::StreamBody::new(endless));
    let response = world.fetch(FetchRequest { body: Some(body), ..request(Method::POST, "/") }).await.unwrap();
    assert_eq!(response.status, 403);
    assert_eq!(whole(response.body).await.unwrap(), b"no");
    patiently("the connection closing", server).await.unwrap();
    assert_eq!(world.metric("connections_idle"), 0);
}
