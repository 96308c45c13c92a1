//! Bodies both ways: framing, cuts, time-outs, uploads.

use perigee_testkit::{Reply, ScriptedOrigin, noise, sha256, wait_until};
use perigee_upstream::{BodyFraming, Interim, RequestBody};
use tokio::sync::mpsc;

use crate::*;

async fn answering(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (ScriptedOrigin, World) {
    let server = ScriptedOrigin::answering(move |_| reply()).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    (server, world)
}

#[tokio::test]
async fn every_framing_arrives_whole() {
    let check = async |reply: fn() -> Reply, framing: BodyFraming| {
        let (_server, world) = answering(reply).await;
        let response = world.fetch(get("/")).await.unwrap();
        assert_eq!(response.framing, framing);
        assert_eq!(sha256(whole(response.body).await.unwrap()), sha256(noise(7, 300_000)), "{framing:?}");
    };
    check(|| Reply::ok(noise(7, 300_000)), BodyFraming::Length(300_000)).await;
    check(|| Reply::ok(noise(7, 300_000)).chunked(), BodyFraming::Chunked).await;
    check(|| Reply::ok(noise(7, 300_000)).until_close(), BodyFraming::Close).await;
}

#[tokio::test]
async fn head_204_and_304_have_no_content() {
    let (server, world) = answering(|| Reply::ok("hello")).await;
    let response = world.fetch(request(Method::HEAD, "/")).await.unwrap();
    assert_eq!((response.framing, &response.headers["content-length"]), (BodyFraming::Empty, &"5".parse().unwrap()));
    assert_eq!(whole(response.body).await.unwrap(), b"");
    assert_eq!(server.seen()[0].method, "HEAD");
}

#[tokio::test]
async fn interim_responses_are_skipped() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let (_server, world) =
        answering(move || Reply::raw(format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))).await;
    assert_eq!(world.read(get("/")).await, "ok");
}

#[tokio::test]
async fn what_breaks_off_is_an_error_and_never_a_short_body() {
    let check = async |reply: fn() -> Reply, kind: FetchErrorKind| {
        let (_server, world) = answering(reply).await;
        let response = world.fetch(get("/")).await.unwrap();
        let error = whole(response.body).await.expect_err("the body is cut");
        assert_eq!((error.kind(), error.peer()), (kind, Some(&response.peer)));
        assert_eq!(world.metric("bodies_failed_total"), 1);
    };
    use FetchErrorKind::{PrematureClose, Protocol};
    check(|| Reply::ok("abc").promise(10), PrematureClose).await;
    check(|| Reply::ok("abc").promise(10).reset(), PrematureClose).await;
    check(|| Reply::ok("abc").until_close().reset(), PrematureClose).await;
    check(|| Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), PrematureClose).await;
    check(|| Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"), PrematureClose)
        .await;
    check(|| Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n"), Protocol).await;
}

#[tokio::test]
async fn a_body_that_stands_still_times_out() {
    let (reply, gate) = Reply::gated(Some(10));
    let reply = std::sync::Mutex::new(Some(reply));
    let server = ScriptedOrigin::answering(move |_| reply.lock().unwrap().take().unwrap()).await;
    let setup = Setup::of(vec![origin(&server.url())]);
    let world = setup.policy(|policy| policy.between_bytes_timeout = Duration::from_millis(500)).build();
    let mut body = world.fetch(get("/")).await.unwrap().body;
    gate.send("abc");
    let data = patiently("the first piece", body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, "abc");
    let error = patiently("the time-out", body.frame()).await.unwrap().expect_err("nothing more comes");
    assert_eq!(error.kind(), FetchErrorKind::BetweenBytesTimeout);
    assert!(body.frame().await.is_none());
    wait_until("the origin noticing", || gate.is_abandoned()).await;
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_the_upstreams_fault() {
    let limit = Duration::from_millis(300);
    let server = ScriptedOrigin::answering(|_| Reply::ok(noise(3, 8 << 20))).await;
    let world = Setup::of(vec![origin(&server.url())]).policy(|policy| policy.between_bytes_timeout = limit).build();
    let mut body = world.fetch(get("/")).await.unwrap().body;
    let mut read = patiently("the first piece", body.frame()).await.unwrap().unwrap().into_data().unwrap().len();
    tokio::time::sleep(limit * 3).await;
    // On a machine that stalls, a later piece may really be late: what counts is the one that was there.
    read +=
        patiently("the second piece", body.frame()).await.unwrap().expect("it was there").into_data().unwrap().len();
    assert!(read > 0);
}

fn streamed(length: Option<u64>) -> (RequestBody, mpsc::UnboundedSender<Result<bytes::Bytes, std::io::Error>>) {
    let (pieces, mut source) = mpsc::unbounded_channel::<Result<bytes::Bytes, std::io::Error>>();
    let stream = futures_util::stream::poll_fn(move |cx| {
        source.poll_recv(cx).map(|piece| piece.map(|data| data.map(http_body::Frame::data)))
    });
    let body = http_body_util::StreamBody::new(stream);
    let body = match length {
        Some(length) => RequestBody::new(Sized(body, length)),
        None => RequestBody::new(body),
    };
    (body, pieces)
}

/// A stream of a known length, as a server's incoming body with `Content-Length` is.
struct Sized<B>(B, u64);

impl<B: http_body::Body + Unpin> http_body::Body for Sized<B> {
    type Data = B::Data;
    type Error = B::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn uploads_stream_with_their_length_or_in_chunks() {
    let (server, world) = answering(|| Reply::ok("thanks")).await;
    let content = noise(5, 5 << 20);
    for length in [None, Some(content.len() as u64)] {
        let (body, pieces) = streamed(length);
        let fleet = Arc::clone(&world.fleet);
        let asked = FetchRequest { body: Some(body), ..request(Method::PUT, "/up") };
        let fetching = tokio::spawn(async move { fleet.fetch(asked).await });
        for piece in content.chunks(100_000) {
            pieces.send(Ok(piece.to_vec().into())).unwrap();
            tokio::task::yield_now().await;
        }
        drop(pieces);
        let response = patiently("the upload's answer", fetching).await.unwrap().unwrap();
        assert_eq!(whole(response.body).await.unwrap(), b"thanks");
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.body_length, &seen.body_sha256), (content.len() as u64, &sha256(&content)));
        assert_eq!(seen.header("content-length").map(str::to_owned), length.map(|length| length.to_string()));
        assert_eq!(seen.header("transfer-encoding").is_some(), length.is_none());
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_upload_that_fails_is_the_clients_fault() {
    let (_server, world) = answering(|| Reply::ok("thanks")).await;
    let (body, pieces) = streamed(Some(10));
    pieces.send(Ok("abc".into())).unwrap();
    pieces.send(Err(std::io::Error::other("the client went away"))).unwrap();
    let error =
        world.fetch(FetchRequest { body: Some(body), ..request(Method::PUT, "/up") }).await.expect_err("it fails");
    assert_eq!((error.kind(), error.kind().side()), (FetchErrorKind::RequestBody, perigee_upstream::Side::Downstream));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the client went away");
}

#[tokio::test]
async fn an_upload_whose_source_stands_still_is_the_clients_fault() {
    let server = ScriptedOrigin::answering(|_| Reply::ok("thanks")).await;
    let setup = Setup::of(vec![origin(&server.url())]);
    let world = setup.policy(|policy| policy.first_byte_timeout = Duration::from_millis(100)).build();
    let (body, pieces) = streamed(Some(10));
    pieces.send(Ok("abc".into())).unwrap();
    let asked = FetchRequest { body: Some(body), ..request(Method::PUT, "/up") };
    assert_eq!(world.fails(asked).await, FetchErrorKind::RequestBody);
    drop(pieces);
}

#[tokio::test]
async fn interim_responses_are_heard_without_what_is_of_the_hop() {
    let bytes = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-b\r\nX-B: 1\r\nPerigee-Proof: 1\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = ScriptedOrigin::answering(move |_| Reply::raw(bytes)).await;
    let world = Setup::of(vec![origin(&server.url())]).build();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = std::sync::Arc::clone(&heard);
    let interim = Interim::new(move |status, headers| {
        hears.lock().unwrap().push(format!("{} {headers:?}", status.as_u16()));
    });
    let response = world.fetch(FetchRequest { interim: Some(interim), ..get("/") }).await.unwrap();
    assert_eq!((response.status.as_u16(), response.headers.contains_key("link")), (200, false));
    assert_eq!(*heard.lock().unwrap(), [r#"103 {"link": "</a.css>"}"#]);
}
