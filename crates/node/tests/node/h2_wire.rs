//! HTTP/2 towards clients: who gets it, and what its limits do.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use hyper::{Request, StatusCode};
use perigee_node::{
    door_metrics::{DoorMetrics, Ended},
    http::{Doors, H2_RESETS_PENDING_MAX, H2_STREAMS_MAX, HEADER_BYTES_MAX, Limits},
};
use perigee_testkit::patiently;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::{
    doors::Secure,
    http::{BIG, Bench},
};

type Ending = JoinHandle<Result<(), h2::Error>>;

async fn over<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: T) -> (SendRequest<Bytes>, Ending) {
    let mut builder = h2::client::Builder::new();
    // The client's own memory of what it reset must not end the dialogue first.
    builder.max_concurrent_reset_streams(10_000);
    let (requests, connection) = builder.handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

async fn by_prior_knowledge(address: SocketAddr) -> (SendRequest<Bytes>, Ending) {
    over(TcpStream::connect(address).await.unwrap()).await
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://x{path}")).body(()).unwrap()
}

/// The status and the content, or why the stream was cut and what came before.
async fn ask(requests: &SendRequest<Bytes>, request: Request<()>) -> Result<(StatusCode, String), (h2::Error, String)> {
    let mut requests = requests.clone().ready().await.map_err(|error| (error, String::new()))?;
    let (response, _) = requests.send_request(request, true).map_err(|error| (error, String::new()))?;
    let response = response.await.map_err(|error| (error, String::new()))?;
    let (status, mut body, mut text) = (response.status(), response.into_body(), String::new());
    while let Some(piece) = body.data().await {
        match piece {
            Ok(piece) => text.push_str(std::str::from_utf8(&piece).unwrap()),
            Err(error) => return Err((error, text)),
        }
        body.flow_control().release_capacity(text.len()).unwrap_or_default();
    }
    Ok((status, text))
}

async fn ok(requests: &SendRequest<Bytes>, path: &str) -> String {
    let (status, text) = ask(requests, get(path)).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    text
}

#[tokio::test]
async fn by_alpn_and_by_prior_knowledge() {
    let secure = Secure::new(Limits::default());
    let stream = secure.authority.connect(secure.address, "www.example", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (requests, _ending) = over(stream).await;
    assert_eq!(ok(&requests, "/a").await, "/a 127.0.0.1 1");
    assert_eq!(ok(&requests, "/b").await, "/b 127.0.0.1 2");
    for (offered, expected) in [(&["http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let stream = secure.authority.connect(secure.address, "www.example", offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected);
    }
    let (requests, _ending) = by_prior_knowledge(secure.bench.address).await;
    assert_eq!(ok(&requests, "/c").await, "/c 127.0.0.1 1");
}

#[tokio::test]
async fn a_preface_may_come_in_pieces_and_p_is_not_always_one() {
    let bench = Bench::new(1, Limits::default());
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // A preface and empty SETTINGS.
    for piece in [&b"P"[..], b"RI", b" * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the server's SETTINGS");
    let put = "PUT /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(crate::wire::ask(bench.address, put).await.ends_with("/p 127.0.0.1 1"));
}

#[tokio::test]
async fn a_cut_body_resets_its_stream_alone() {
    let bench = Bench::new(1, Limits::default());
    let (requests, _ending) = by_prior_knowledge(bench.address).await;
    for path in ["/cut", "/cut-length"] {
        let (error, before) = ask(&requests, get(path)).await.unwrap_err();
        assert!(error.is_reset() && error.reason() == Some(Reason::INTERNAL_ERROR), "{error:?}");
        assert_eq!(before, "half");
    }
    assert_eq!(ok(&requests, "/after").await, "/after 127.0.0.1 3");
}

/// A client that opens its windows so far and no further.
async fn reluctant(address: SocketAddr, window_bytes: u32) -> (SendRequest<Bytes>, Ending) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window_bytes);
    let (requests, connection) = builder.handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_reset_alone() {
    for window_bytes in [0, 1_024] {
        // Each its own: at the end the other stream, too, has a window that stays shut.
        let metrics = DoorMetrics::default();
        let counted = metrics.clone();
        let limits = Limits { write_timeout: Duration::from_millis(50), ..Limits::default() };
        let bench = Bench::with(1, limits, |plain| Doors { metrics: counted, ..plain.into() });
        let (requests, _ending) = reluctant(bench.address, window_bytes).await;
        let waiting = tokio::spawn(ask_for(requests.clone(), "/wait"));
        bench.service.waiting.notified().await;
        // What came before has not been given back to the window, and never is.
        let (response, _) = requests.clone().ready().await.unwrap().send_request(get("/big"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut taken = 0;
        let error = loop {
            match patiently("the reset", body.data()).await.unwrap() {
                Ok(piece) => taken += piece.len(),
                Err(error) => break error,
            }
        };
        assert!(error.is_reset() && error.reason() == Some(Reason::CANCEL), "{error:?}");
        assert_eq!(taken, window_bytes as usize);
        assert_eq!(metrics.ended_total(Ended::WriteTimeout), 1);
        bench.service.go.notify_one();
        assert_eq!(patiently("the other stream", waiting).await.unwrap(), StatusCode::OK);
    }
}

/// The status alone: the content has no window.
async fn ask_for(requests: SendRequest<Bytes>, path: &str) -> StatusCode {
    let (response, _) = requests.ready().await.unwrap().send_request(get(path), true).unwrap();
    response.await.unwrap().status()
}

#[tokio::test]
async fn who_takes_a_little_now_and_then_gets_all() {
    let limits = Limits { write_timeout: Duration::from_secs(5), ..Limits::default() };
    let bench = Bench::new(1, limits);
    let (requests, _ending) = reluctant(bench.address, 65_535).await;
    let (response, _) = requests.clone().ready().await.unwrap().send_request(get("/big"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut taken = 0;
    while let Some(piece) = patiently("a piece", body.data()).await {
        let piece = piece.unwrap();
        taken += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(taken, BIG);
}

#[tokio::test]
async fn both_sides_of_the_header_list_limit() {
    let bench = Bench::new(1, Limits { header_bytes_max: 8192, ..Limits::default() });
    let (requests, _ending) = by_prior_knowledge(bench.address).await;
    ok(&requests, "/").await;
    // RFC 9113 §10.5.1: of each field its name, its value and 32 bytes count.
    let counted: usize = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")]
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum();
    let sized = |bytes: usize| {
        let mut request = get("/");
        let value = "x".repeat(bytes - counted - 1 - 32);
        request.headers_mut().insert("a", value.parse().unwrap());
        request
    };
    // h2 takes the limit for the first size that is too large.
    let status = async |request| ask(&requests, request).await.map(|(status, _)| status.as_u16());
    assert_eq!(status(sized(8191)).await.unwrap(), 200);
    match status(sized(8192)).await {
        Ok(status) => assert_eq!(status, 431),
        Err((error, _)) => assert!(error.is_reset(), "{error:?}"),
    }
    assert_eq!(status(sized(8191)).await.unwrap(), 200, "the connection goes on");
    assert_eq!(HEADER_BYTES_MAX, 64 * 1024);
}

#[tokio::test]
async fn streams_at_once_are_limited() {
    let bench = Bench::new(1, Limits { h2_streams_max: 2, ..Limits::default() });
    let (requests, _ending) = by_prior_knowledge(bench.address).await;
    ok(&requests, "/").await;
    assert_eq!(requests.current_max_send_streams(), 2);
    let bench = Bench::new(1, Limits::default());
    let (requests, _ending) = by_prior_knowledge(bench.address).await;
    ok(&requests, "/").await;
    assert_eq!(requests.current_max_send_streams(), usize::try_from(H2_STREAMS_MAX).unwrap());
}

/// CVE-2023-44487: streams that are opened and reset cost the server its work, and the client nothing.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let bench = Bench::new(1, Limits::default());
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let mut raw = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for index in 0..10 * u32::try_from(H2_RESETS_PENDING_MAX).unwrap() {
        let id = (2 * index + 1).to_be_bytes();
        // HEADERS with END_HEADERS and END_STREAM: GET, http, `/wait`, authority x; then RST_STREAM, CANCEL.
        let block = b"\x82\x86\x04\x05/wait\x01\x01x";
        raw.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5]);
        raw.extend_from_slice(&id);
        raw.extend_from_slice(block);
        raw.extend_from_slice(&[0, 0, 4, 3, 0]);
        raw.extend_from_slice(&id);
        raw.extend_from_slice(&[0, 0, 0, 8]);
    }
    let (mut reading, mut writing) = stream.into_split();
    let writing = tokio::spawn(async move {
        // The server may close before it has taken everything.
        let _written = writing.write_all(&raw).await;
        writing
    });
    let mut answer = Vec::new();
    let _closed = reading.read_to_end(&mut answer).await;
    drop(writing.await.unwrap());
    assert!(goaway(&answer) == Some(11), "GOAWAY with ENHANCE_YOUR_CALM is not in {answer:?}");
    bench.until_open(0).await;
}

/// The error code of the last GOAWAY among the frames.
fn goaway(mut frames: &[u8]) -> Option<u32> {
    let mut found = None;
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = rest.get(..length)?;
        if head[3] == 7 {
            found = payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
        }
        frames = &rest[length..];
    }
    found
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_takes_no_more() {
    let bench = Bench::new(1, Limits::default());
    let (requests, ending) = by_prior_knowledge(bench.address).await;
    let waiting = tokio::spawn({
        let requests = requests.clone();
        async move { ok(&requests, "/wait").await }
    });
    bench.service.waiting.notified().await;
    let drained = bench.start_drain(Duration::from_secs(30));
    // Whoever asks now is told that it was not heard, or finds the connection closed for new streams.
    while ask(&requests, get("/new")).await.is_ok() {}
    bench.service.go.notify_one();
    assert_eq!(waiting.await.unwrap(), "waited");
    drop(requests);
    assert_eq!(drained.await.unwrap().aborted, 0);
    ending.await.unwrap().unwrap_or_default();
}

#[tokio::test]
async fn idle_connections_are_ended() {
    let metrics = DoorMetrics::default();
    let counted = metrics.clone();
    // Long enough for a client that is not run for a while to ask.
    let limits = Limits { idle_timeout: Duration::from_secs(2), ..Limits::default() };
    let bench = Bench::with(1, limits, |plain| Doors { metrics: counted, ..plain.into() });
    let (requests, ending) = by_prior_knowledge(bench.address).await;
    ok(&requests, "/").await;
    // GOAWAY with NO_ERROR: the client's connection ends well.
    ending.await.unwrap().unwrap();
    bench.until_open(0).await;
    assert_eq!((metrics.ended_total(Ended::IdleTimeout), metrics.ended_total(Ended::HeaderTimeout)), (1, 0));
}

#[tokio::test]
async fn bodies_come_and_go() {
    let bench = Bench::new(1, Limits::default());
    let (requests, _ending) = by_prior_knowledge(bench.address).await;
    let request = Request::post("http://x/echo").body(()).unwrap();
    let (response, mut body) = requests.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"over "), false).unwrap();
    body.send_data(Bytes::from_static(b"h2"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        text.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(text, b"over h2");
}
