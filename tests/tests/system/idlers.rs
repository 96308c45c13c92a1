//! Clients that hold on to memory: that stop reading, that upload to an origin which stops reading, that stay connected.
//! Each against a cache that is full already.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use perigee_testkit::{Reply, ScriptedOrigin, client, noise, patiently, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

use crate::fleet::{Node, quick_edge};

const MIB: usize = 1 << 20;
/// 192 MiB, and the margin that every node is allowed.
const PEAK_MAX: u64 = 256 << 20;
/// With hundreds of transfers at full speed: an unoptimised program has 19 MiB of its file in memory, and larger tasks.
const BUSY_PEAK_MAX: u64 = PEAK_MAX + (12 << 20);
const FLAGS: &[&str] = &["--memory", "192MiB", "--write-timeout", "10m", "--idle-timeout", "10m"];
const PIECE: usize = 64 * 1024;

/// An origin of objects of any size, `/SIZE/SEED`: a piece of noise again and again.
async fn origin() -> ScriptedOrigin {
    ScriptedOrigin::answering(|seen| {
        let (size, seed) = seen.target.trim_start_matches('/').split_once('/').unwrap();
        let pieces = size.parse::<usize>().unwrap() / PIECE;
        Reply::repeat(piece(seed.parse().unwrap()), pieces as u64).header("Cache-Control", "max-age=600")
    })
    .await
}

fn piece(seed: u64) -> Bytes {
    noise(seed, PIECE).into()
}

async fn filled(origin: &ScriptedOrigin) -> Node {
    let edge = quick_edge(origin, FLAGS).await;
    fill(&edge).await;
    edge
}

async fn fill(edge: &Node) {
    let mut connection = client::Connection::open(edge.address).await;
    for seed in 0..200 {
        assert_eq!(connection.send(Method::GET, "a", &format!("/{MIB}/{seed}"), &[]).await.status, 200);
    }
    let used = metric(edge, "perigee_store_memory_bytes").await;
    assert!(used > 140.0 * MIB as f64, "only {used} bytes are cached");
}

async fn metric(edge: &Node, name: &str) -> f64 {
    let text = client::get(edge.admin, "admin", "/metrics").await.text();
    let samples = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Waits until a figure stands still.
async fn still(edge: &Node, name: &str) -> f64 {
    let mut last = (f64::NAN, 0);
    loop {
        let now = metric(edge, name).await;
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        if last.1 == 10 {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn report(what: &str, edge: &Node, began: Instant, peak_max: u64) {
    let (peak, now) = (edge.process.peak_rss_bytes(), edge.process.rss_bytes());
    println!("{what}: peak {} MiB, now {} MiB, after {:?}", peak >> 20, now >> 20, began.elapsed());
    assert!(peak <= peak_max, "{what}: {peak} bytes");
}

/// A client with little room, that asks and does not read.
async fn asker(server: SocketAddr, target: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

/// Reads the response that it asked for; it is `length` bytes of that noise.
async fn reads(mut stream: TcpStream, seed: u64, length: usize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let (wanted, mut got) = (piece(seed), vec![0; PIECE]);
    for number in 0..length / PIECE {
        stream.read_exact(&mut got).await.unwrap_or_else(|error| panic!("piece {number} of {seed}: {error}"));
        assert!(got == wanted, "piece {number} of {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_hold_what_they_may_and_get_the_rest_later() {
    const READERS: u64 = 200;
    let origin = origin().await;
    for (length, first) in [(8 * MIB, 1000), (MIB, 2000)] {
        let (began, edge) = (Instant::now(), filled(&origin).await);
        let before = origin.requests();
        let target = |seed: u64| format!("/{length}/{}", first + seed);
        let mut readers = Vec::new();
        for seed in 0..READERS {
            readers.push(asker(edge.address, &target(seed)).await);
        }
        let what = format!("{READERS} readers of {} MiB", length >> 20);
        wait_until("all being fetched", || origin.requests() >= before + READERS as usize).await;
        let held = still(&edge, "perigee_inflight_bytes").await;
        let cached = metric(&edge, "perigee_store_memory_bytes").await as u64 >> 20;
        let lent = metric(&edge, "perigee_inflight_lent_bytes").await as u64 >> 20;
        println!("{what} hold {} MiB, of which the store lends {lent}; it has {cached} MiB", held as u64 >> 20);
        report(&what, &edge, began, BUSY_PEAK_MAX);
        let reading = readers.into_iter().zip(first..).map(|(stream, seed)| tokio::spawn(reads(stream, seed, length)));
        for reader in reading {
            patiently("a reader", reader).await.unwrap();
        }
        report(&format!("{what}, read"), &edge, began, BUSY_PEAK_MAX);
        assert_eq!(metric(&edge, "perigee_inflight_refusals_total").await, 0.0, "fetches were refused");
    }
}

/// An origin that answers GET, and reads nothing of a PUT but its head: returns the first `count` of those.
async fn take_uploads(listener: TcpListener, count: usize) -> Vec<TcpStream> {
    let (sender, mut taken) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_gets(socket, sender.clone()));
        }
    });
    let mut all = Vec::new();
    while all.len() < count {
        all.push(taken.recv().await.unwrap());
    }
    all
}

async fn answer_gets(mut socket: TcpStream, uploads: mpsc::UnboundedSender<TcpStream>) {
    let body = noise(1, MIB);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = socket.read_u8().await else { return };
            head.push(byte);
        }
        if head.starts_with(b"PUT") {
            return drop(uploads.send(socket));
        }
        let answer = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {MIB}\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.write_all(&body).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_an_origin_that_stops_reading_are_bounded() {
    // As many as a site's connections to one origin.
    const UPLOADS: usize = 256;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taking = tokio::spawn(take_uploads(listener, UPLOADS));
    let (began, edge) = (Instant::now(), Node::before(&url, FLAGS).await);
    fill(&edge).await;
    let body = Bytes::from(noise(7, 4 * MIB));
    let address = edge.address;
    let uploads: Vec<_> = (0..UPLOADS)
        .map(|number| {
            let body = body.clone();
            // Of as many networks, since none alone may have all connections.
            let from = [127, 0, 1, number as u8];
            tokio::spawn(async move {
                let mut connection = client::Connection::open_from(from.into(), address).await;
                connection.send_body(Method::PUT, "a", "/up", &[], body).await.status.as_u16()
            })
        })
        .collect();
    let taken = patiently("all connections", taking).await.unwrap();
    still(&edge, "perigee_inflight_bytes").await;
    report(&format!("{UPLOADS} uploads of 4 MiB that nobody reads"), &edge, began, PEAK_MAX);
    for mut socket in taken {
        tokio::spawn(async move {
            let (mut left, mut buffer) = (4 * MIB, vec![0; PIECE]);
            while left > 0 {
                left = left.saturating_sub(socket.read(&mut buffer).await.unwrap());
            }
            socket.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
            while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
    }
    for upload in uploads {
        assert_eq!(patiently("an upload", upload).await.unwrap(), 201);
    }
    report("the same, read", &edge, began, PEAK_MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_come_out_of_the_same_memory() {
    const IDLE: usize = 2000;
    let origin = origin().await;
    let (began, edge) = (Instant::now(), filled(&origin).await);
    let before = edge.process.rss_bytes();
    let mut connections = Vec::new();
    for _ in 0..IDLE {
        let mut connection = client::Connection::open(edge.address).await;
        let response = connection.send(Method::GET, "a", &format!("/{PIECE}/1"), &[]).await;
        assert_eq!(response.status, 200);
        connections.push(connection);
    }
    still(&edge, "perigee_inflight_lent_bytes").await;
    println!(
        "{IDLE} idle connections: {} KiB more, {} MiB lent",
        edge.process.rss_bytes().saturating_sub(before) >> 10,
        metric(&edge, "perigee_inflight_lent_bytes").await as u64 >> 20
    );
    report(&format!("{IDLE} idle connections"), &edge, began, PEAK_MAX);
    // Each is still one that serves.
    for connection in connections.iter_mut().step_by(100) {
        assert_eq!(connection.send(Method::GET, "a", &format!("/{PIECE}/1"), &[]).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_in_time_and_counted() {
    let origin = origin().await;
    let edge = quick_edge(&origin, &["--write-timeout", "1s"]).await;
    let mut stuck = asker(edge.address, &format!("/{}/1", 64 * MIB)).await;
    let text = async || client::get(edge.admin, "admin", "/metrics").await.text();
    let counted = |text: String| {
        let mut samples = text.lines().filter(|line| line.starts_with("perigee_connections_ended_total{"));
        samples.any(|line| line.contains("reason=\"write-timeout\"") && line.ends_with(" 1"))
    };
    patiently("the cut", async { while !counted(text().await) {} }).await;
    // What had been sent is there, and then the connection ends short.
    let (mut got, mut buffer) = (0, vec![0; PIECE]);
    while let Ok(count @ 1..) = stuck.read(&mut buffer).await {
        got += count;
    }
    assert!(got < 64 * MIB, "{got}");
}

#[tokio::test]
async fn who_waits_for_100_gets_it_only_where_the_content_is_wanted() {
    let origin = ScriptedOrigin::answering(|seen| Reply::ok(seen.body_sha256.clone())).await;
    let edge = quick_edge(&origin, &[]).await;
    let ask = async |host: &str, heard: &[u8]| {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let head = format!("PUT /up HTTP/1.1\r\n{host}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut got = vec![0; heard.len()];
        patiently("the status", stream.read_exact(&mut got)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(heard));
        stream
    };
    let mut stream = ask("Host: a\r\n", b"HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(origin.requests(), 0, "its content is not there");
    stream.write_all(b"hello").await.unwrap();
    let mut got = [0; 15];
    patiently("the answer", stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 200 OK");
    // RFC 9110 §10.1.1: a final answer instead, where the head is enough for it.
    drop(ask("", b"HTTP/1.1 400 Bad Request").await);
    assert_eq!(origin.requests(), 1);
}
