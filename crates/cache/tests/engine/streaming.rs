//! Coalescing and streaming: one fetch, first byte before the last, bounded windows, cuts that show.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use perigee_upstream::{FetchError, FetchErrorKind, FetchResponse, UpstreamBody};
use tokio::sync::{Mutex, mpsc};

use crate::world::{World, read};

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// An origin whose body comes as the test sends it.
fn steered(world: &World, fields: HeaderMap) -> mpsc::Sender<Result<Bytes, FetchError>> {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, FetchError>>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    world.origin.set(Box::new(move |_| {
        let (receiver, fields) = (Arc::clone(&receiver), fields.clone());
        Box::pin(async move {
            let mut receiver = receiver.lock().await.take().expect("asked once");
            let pieces = stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(|piece| piece.map(Frame::data));
            Ok(FetchResponse::scripted(http::StatusCode::OK, fields, UpstreamBody::from_body(StreamBody::new(pieces))))
        })
    }));
    sender
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn five_hundred_clients_of_one_cold_object_make_one_fetch() {
    let world = World::edge().await;
    let body = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let clients = join_all((0..500).map(|_| world.ask("GET", "/cold", &[])));
    let origin = async {
        while world.origin.fetches() == 0 {
            tokio::task::yield_now().await;
        }
        for piece in [&b"one "[..], b"two ", b"three"] {
            body.send(Ok(Bytes::from_static(piece))).await.unwrap();
        }
        drop(body);
    };
    let (answers, ()) = tokio::join!(clients, origin);
    assert_eq!(world.origin.fetches(), 1);
    let mut collapsed = 0;
    for (response, body) in answers {
        assert_eq!(response.status(), 200);
        assert_eq!(body.as_deref(), Some(&b"one two three"[..]));
        collapsed += usize::from(response.headers()["cache-status"].to_str().unwrap().contains("collapsed"));
    }
    assert_eq!(collapsed, 499);
}

#[tokio::test]
async fn the_first_byte_arrives_before_the_last_is_sent() {
    let world = World::edge().await;
    let origin = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let mut response = world.send("GET", "/a", &[]).await.into_body();
    origin.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    // Whoever comes now gets what was, and what comes.
    let mut late = world.send("GET", "/a", &[]).await.into_body();
    assert_eq!(late.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    origin.send(Ok(Bytes::from_static(b"second"))).await.unwrap();
    assert_eq!(late.frame().await.unwrap().unwrap().into_data().unwrap(), "second");
    drop(origin);
    assert!(late.frame().await.is_none());
    assert_eq!(response.collect().await.unwrap().to_bytes(), "second");
}

#[tokio::test]
async fn a_cut_upstream_cuts_the_client_and_is_not_stored() {
    let world = World::edge().await;
    let origin = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let response = world.send("GET", "/a", &[]).await;
    origin.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
    origin.send(Err(FetchError::new(FetchErrorKind::PrematureClose))).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    world.settle().await;
    world.origin.set(Box::new(|_| Box::pin(std::future::ready(Err(FetchError::new(FetchErrorKind::Connect))))));
    assert_eq!(world.ask("GET", "/a", &[]).await.0.status(), 502);
}

#[tokio::test]
async fn a_fill_outlives_its_client() {
    let world = World::edge().await;
    let origin = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let response = world.send("GET", "/a", &[]).await;
    drop(response);
    origin.send(Ok(Bytes::from_static(b"whole"))).await.unwrap();
    drop(origin);
    world.settle().await;
    let (response, body) = world.ask("GET", "/a", &[]).await;
    assert!(response.headers()["cache-status"].to_str().unwrap().contains("hit"));
    assert_eq!(body.unwrap(), "whole");
}

#[tokio::test]
async fn an_idle_client_holds_the_upstream_back() {
    let world = World::edge().await;
    let origin = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let response = world.send("GET", "/a", &[]).await;
    let piece = Bytes::from(vec![7_u8; 64 * 1024]);
    let mut taken = 0;
    // The client reads nothing: the leader takes a window's worth and no more.
    while tokio::time::timeout(Duration::from_millis(200), origin.send(Ok(piece.clone()))).await.is_ok() {
        taken += piece.len();
        assert!(taken < 4 << 20, "{taken} bytes were taken from upstream for a client that reads nothing");
    }
    let reading = tokio::spawn(response.into_body().collect());
    origin.send(Ok(piece.clone())).await.unwrap();
    drop(origin);
    assert_eq!(reading.await.unwrap().unwrap().to_bytes().len(), taken + piece.len());
}

#[tokio::test]
async fn a_slow_follower_reads_the_store_and_large_bodies_reassemble() {
    let world = World::edge().await;
    let whole = pattern(5 << 20);
    let origin = steered(&world, headers(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]));
    let fast = world.send("GET", "/big", &[]).await.into_body();
    let slow = world.send("GET", "/big", &[]).await.into_body();
    let reading = tokio::spawn(read(fast));
    for piece in whole.chunks(50_000) {
        origin.send(Ok(Bytes::copy_from_slice(piece))).await.unwrap();
    }
    drop(origin);
    assert!(reading.await.unwrap().unwrap() == whole);
    // The window has moved on long ago.
    assert!(read(slow).await.unwrap() == whole);
    world.settle().await;
    let (_, body) = world.ask("GET", "/big", &[]).await;
    assert!(body.unwrap() == whole);
    let (response, part) = world.ask("GET", "/big", &[("range", "bytes=262100-524400")]).await;
    assert_eq!(response.status(), 206);
    assert!(part.unwrap() == whole.slice(262_100..524_401));
    assert_eq!(world.origin.fetches(), 1);
}

#[tokio::test]
async fn followers_of_a_private_response_fetch_for_themselves() {
    let world = World::edge().await;
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&turn);
    world.origin.set(Box::new(move |_| {
        let number = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let fields = headers(&[("cache-control", "private")]);
            Ok(FetchResponse::scripted(http::StatusCode::OK, fields, UpstreamBody::full(number.to_string())))
        })
    }));
    let answers = join_all((0..10).map(|_| world.ask("GET", "/me", &[]))).await;
    let mut bodies: Vec<Bytes> = answers.into_iter().map(|(_, body)| body.unwrap()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 10, "two clients saw one private response: {bodies:?}");
}

#[tokio::test]
async fn what_is_too_large_to_store_streams_at_the_slowest_readers_pace() {
    let policy = perigee_protocol::model::CachePolicy { object_bytes_max: 1 << 20, ..Default::default() };
    let world = World::new(perigee_semantics::policy::Tier::Edge, policy, Vec::new()).await;
    let whole = pattern(6 << 20);
    let body = whole.clone();
    world.origin.set(Box::new(move |_| {
        let pieces: Vec<_> = body.chunks(60_000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let body = UpstreamBody::from_body(StreamBody::new(stream::iter(pieces)));
        let fields = headers(&[("cache-control", "max-age=60")]);
        Box::pin(std::future::ready(Ok(FetchResponse::scripted(http::StatusCode::OK, fields, body))))
    }));
    let first = world.send("GET", "/big", &[]).await.into_body();
    let second = world.send("GET", "/big", &[]).await.into_body();
    let (first, second) = tokio::join!(read(first), read(second));
    assert!(first.unwrap() == whole && second.unwrap() == whole);
    world.settle().await;
    assert_eq!(world.origin.fetches(), 1);
    let (response, _) = world.ask("GET", "/big", &[]).await;
    assert!(response.headers()["cache-status"].to_str().unwrap().contains("fwd=uri-miss"));
}

#[tokio::test]
async fn what_turns_out_too_small_is_not_stored() {
    let policy = perigee_protocol::model::CachePolicy { object_bytes_min: 1000, ..Default::default() };
    let world = World::new(perigee_semantics::policy::Tier::Edge, policy, Vec::new()).await;
    for (length, fetches) in [(999, 2), (1000, 1)] {
        let whole = pattern(length);
        let body = whole.clone();
        world.origin.set(Box::new(move |_| {
            let piece = stream::iter([Ok(Frame::data(body.clone()))]);
            let body = UpstreamBody::from_body(StreamBody::new(piece));
            let fields = headers(&[("cache-control", "max-age=60")]);
            Box::pin(std::future::ready(Ok(FetchResponse::scripted(http::StatusCode::OK, fields, body))))
        }));
        let before = world.origin.fetches();
        for _ in 0..2 {
            assert!(world.ask("GET", &format!("/{length}"), &[]).await.1.unwrap() == whole);
            world.settle().await;
        }
        assert_eq!(world.origin.fetches() - before, fetches, "{length}");
    }
}

/// An origin that serves one body everywhere, with these fields beside its freshness, and ranges of it.
fn serving(world: &World, whole: &Bytes, more: &'static [(&'static str, &'static str)]) {
    let whole = whole.clone();
    world.origin.set(Box::new(move |request| {
        let mut fields = headers(&[("cache-control", "max-age=60")]);
        fields.extend(headers(more));
        let range = request.headers.get("range").and_then(|range| range.to_str().unwrap().strip_prefix("bytes="));
        let range = range.and_then(|range| range.split_once('-')).filter(|_| fields.contains_key("accept-ranges"));
        let (status, body) = match range {
            Some((first, last)) if request.headers.get("if-range") == fields.get("etag") => {
                fields.insert("content-range", format!("bytes {first}-{last}/{}", whole.len()).parse().unwrap());
                (
                    http::StatusCode::PARTIAL_CONTENT,
                    whole.slice(first.parse::<usize>().unwrap()..=last.parse().unwrap()),
                )
            }
            _ => (http::StatusCode::OK, whole.clone()),
        };
        let pieces: Vec<_> = body.chunks(60_000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let body = UpstreamBody::from_body(StreamBody::new(stream::iter(pieces)));
        Box::pin(std::future::ready(Ok(FetchResponse::scripted(status, fields, body))))
    }));
}

/// Stores `/a` and lets the store lose all of it but its beginning, which readers keep in memory.
async fn lose_the_rest(world: &World, whole: &Bytes) {
    world.ask("GET", "/a", &[]).await;
    for other in 0..8 {
        world.ask("GET", &format!("/{other}"), &[]).await;
        let (response, part) = world.ask("GET", "/a", &[("range", "bytes=0-9")]).await;
        assert!(response.headers()["cache-status"].to_str().unwrap().contains("hit"), "what is left is served");
        assert!(part.unwrap() == whole.slice(0..10));
    }
    world.settle().await;
}

#[tokio::test]
async fn what_lost_a_part_for_good_is_fetched_anew() {
    for fields in [&[][..], &[("etag", "W/\"1\""), ("accept-ranges", "bytes")], &[("etag", "\"1\"")]] {
        let world = World::edge().await;
        let whole = pattern(8 << 20);
        serving(&world, &whole, fields);
        lose_the_rest(&world, &whole).await;
        let fetches = world.origin.fetches();
        let (response, body) = world.ask("GET", "/a", &[]).await;
        assert!(body.is_some_and(|body| body == whole), "{fields:?}: cut");
        assert!(response.headers()["cache-status"].to_str().unwrap().contains("fwd=uri-miss"), "{fields:?}");
        assert_eq!(world.origin.fetches(), fetches + 1);
    }
}

#[tokio::test]
async fn lost_segments_are_filled_in_from_an_origin_that_serves_ranges() {
    let world = World::edge().await;
    let whole = pattern(8 << 20);
    let fields = &[("etag", "\"1\""), ("accept-ranges", "bytes")];
    serving(&world, &whole, fields);
    lose_the_rest(&world, &whole).await;
    let fetches = world.origin.fetches();
    let (response, body) = world.ask("GET", "/a", &[]).await;
    assert!(body.unwrap() == whole);
    assert!(response.headers()["cache-status"].to_str().unwrap().contains("fwd=partial"));
    assert!(world.origin.fetches() > fetches);
}

#[tokio::test]
async fn who_comes_when_the_beginning_is_gone_does_not_join() {
    let world = World::edge().await;
    let whole = pattern(8 << 20);
    serving(&world, &whole, &[]);
    // A full memory lets go what is new first.
    for other in 0..8 {
        world.ask("GET", &format!("/{other}"), &[]).await;
    }
    let origin = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let early = tokio::spawn(read(world.send("GET", "/a", &[]).await.into_body()));
    for piece in whole.chunks(50_000) {
        origin.send(Ok(Bytes::copy_from_slice(piece))).await.unwrap();
    }
    serving(&world, &whole, &[]);
    // And in the end what nobody asks for.
    for other in 8..24 {
        world.ask("GET", &format!("/{other}"), &[]).await;
    }
    let late = tokio::time::timeout(Duration::from_secs(60), world.ask("GET", "/a", &[])).await.expect("its own fetch");
    assert!(late.1.expect("cut") == whole);
    drop(origin);
    assert!(early.await.unwrap().unwrap() == whole);
}

#[tokio::test]
async fn what_changed_since_a_part_was_lost_is_cut_once_and_then_fetched_anew() {
    let world = World::edge().await;
    let whole = pattern(8 << 20);
    serving(&world, &whole, &[("etag", "\"1\""), ("accept-ranges", "bytes")]);
    lose_the_rest(&world, &whole).await;
    serving(&world, &whole.slice(1..), &[("etag", "\"2\""), ("accept-ranges", "bytes")]);
    assert!(world.ask("GET", "/a", &[]).await.1.is_none(), "parts of two representations were joined");
    assert!(world.ask("GET", "/a", &[]).await.1.unwrap() == whole.slice(1..));
}

#[tokio::test]
async fn what_is_asked_after_an_invalidation_does_not_join_a_fetch_from_before() {
    let world = World::edge().await;
    let old = steered(&world, headers(&[("cache-control", "max-age=60")]));
    let early = world.send("GET", "/a", &[]).await;
    old.send(Ok(Bytes::from_static(b"old"))).await.unwrap();
    serving(&world, &Bytes::from_static(b"new"), &[]);
    assert_eq!(world.ask("POST", "/a", &[]).await.0.status(), 200);
    let late = tokio::time::timeout(Duration::from_secs(60), world.ask("GET", "/a", &[])).await;
    assert_eq!(late.expect("it waits for the old fetch").1.unwrap(), "new");
    drop(old);
    assert_eq!(early.into_body().collect().await.unwrap().to_bytes(), "old");
    world.settle().await;
    let (response, body) = world.ask("GET", "/a", &[]).await;
    assert_eq!(body.unwrap(), "new");
    assert!(response.headers()["cache-status"].to_str().unwrap().contains("hit"));
}

#[tokio::test]
async fn clients_of_two_cold_variants_make_one_fetch_for_each() {
    let world = World::edge().await;
    world.origin.set(Box::new(|request| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let language = Bytes::copy_from_slice(request.headers["x-a"].as_bytes());
            let fields = headers(&[("cache-control", "max-age=60"), ("vary", "x-a")]);
            Ok(FetchResponse::scripted(http::StatusCode::OK, fields, UpstreamBody::full(language)))
        })
    }));
    let names = ["0", "1", "2"];
    let client = async |i: usize| world.ask("GET", "/v", &[("x-a", names[i % 3])]).await;
    for (i, (response, body)) in join_all((0..60).map(client)).await.into_iter().enumerate() {
        assert_eq!((response.status().as_u16(), body.unwrap()), (200, Bytes::from(names[i % 3])));
    }
    world.settle().await;
    assert_eq!(world.origin.fetches(), 3);
}

#[tokio::test]
async fn a_client_that_stopped_reading_does_not_stop_others_for_ever() {
    let policy = perigee_protocol::model::CachePolicy { object_bytes_max: 1 << 20, ..Default::default() };
    let world = World::new(perigee_semantics::policy::Tier::Edge, policy, Vec::new()).await;
    let whole = pattern(6 << 20);
    serving(&world, &whole, &[]);
    let stuck = world.send("GET", "/big", &[]).await.into_body();
    let reading = world.send("GET", "/big", &[]).await.into_body();
    let read = tokio::time::timeout(Duration::from_secs(60), read(reading)).await.expect("it waits for the other");
    assert!(read.unwrap() == whole);
    assert_eq!(world.origin.fetches(), 1);
    assert!(stuck.collect().await.is_err(), "what it missed is gone, and nothing says that it could be had again");
}

/// As over HTTP/2: no content, and the length that was told.
struct OnlyItsLength;

impl http_body::Body for OnlyItsLength {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(5)
    }
}

#[tokio::test]
async fn a_length_that_is_only_told_is_not_awaited() {
    let world = World::edge().await;
    for status in [http::StatusCode::NO_CONTENT, http::StatusCode::NOT_MODIFIED] {
        world.origin.set(Box::new(move |_| {
            let body = UpstreamBody::from_body(OnlyItsLength);
            let response = FetchResponse::scripted(status, headers(&[("etag", "\"e\"")]), body);
            Box::pin(async move { Ok(response) })
        }));
        let response = world.send("PUT", "/a", &[]).await;
        assert_eq!(response.status(), status);
        let body = response.into_body();
        assert_eq!((http_body::Body::size_hint(&body).exact(), http_body::Body::is_end_stream(&body)), (Some(0), true));
    }
}
