//! The doors: handshakes, names, resumption, the PROXY protocol, caps and time-outs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use perigee_node::{
    door_metrics::{DoorMetrics, Ended, HandshakeKind},
    http::{Doors, Limits},
    listen::Listeners,
    metrics::ReloadMetrics,
    tls::{Certificates, Pair, TlsMetrics},
};
use perigee_testkit::{
    certificates::{Authority, Issued, connect, der, shown},
    patiently,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    http::{BIG, Bench},
    wire::{Client, ask},
};

/// Clients that connect and say nothing.
const SILENT: usize = 300;

/// A server with a certificate for `www.example` and one for `shop.example`.
pub(crate) struct Secure {
    pub(crate) bench: Bench,
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: DoorMetrics,
    www: Issued,
    shop: Issued,
    _folder: tempfile::TempDir,
}

impl Secure {
    pub(crate) fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::default();
        let issue = |site: &str| {
            let name = format!("{site}.example");
            let issued = authority.issue(&[&name, "127.0.0.1"]);
            let (certificate, key) = issued.write(folder.path(), site);
            (issued, Pair { site: site.into(), names: vec![name], certificate, key })
        };
        let ((www, first), (shop, second)) = (issue("www"), issue("shop"));
        let certificates =
            Certificates::load(&[first, second], TlsMetrics::default(), ReloadMetrics::default()).unwrap();
        let config = certificates.server_config().unwrap();
        let metrics = DoorMetrics::default();
        let counted = metrics.clone();
        let bench = Bench::with(1, limits, |plain| {
            let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap();
            Doors { plain, tls: Some((listeners, config)), proxies: Vec::new(), metrics: counted }
        });
        let address = bench.serving.tls_addrs()[0];
        Self { bench, authority, address, metrics, www, shop, _folder: folder }
    }
}

async fn get_over(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn names_choose_certificates() {
    let secure = Secure::new(Limits::default());
    for (name, expected) in [
        ("www.example", Some(&secure.www)),
        ("shop.example", Some(&secure.shop)),
        // An address is no name: the client sends none.
        ("127.0.0.1", Some(&secure.www)),
        ("other.example", None),
    ] {
        match (secure.authority.connect(secure.address, name, &[]).await, expected) {
            (Ok(mut stream), Some(expected)) => {
                assert_eq!(shown(&stream), der(expected), "{name}");
                // Read to its end without an error: there was a close_notify.
                let answer = get_over(&mut stream, "/over-tls").await;
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("/over-tls 127.0.0.1 1"), "{answer}");
            }
            (Err(error), None) => assert!(error.to_string().contains("AccessDenied"), "{error}"),
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
    secure.bench.until_open(0).await;
    assert_eq!(secure.metrics.ended_total(Ended::Handshake), 1);
}

#[tokio::test]
async fn sessions_resume() {
    let secure = Secure::new(Limits::default());
    for (version, full) in [(&rustls::version::TLS13, 1), (&rustls::version::TLS12, 2)] {
        let config = Arc::new(secure.authority.client_config_of(&[], &[version]));
        for _ in 0..2 {
            let mut stream = connect(secure.address, "www.example", Arc::clone(&config)).await.unwrap();
            get_over(&mut stream, "/").await;
        }
        assert_eq!(secure.metrics.handshakes_total(HandshakeKind::Full), full);
        assert_eq!(secure.metrics.handshakes_total(HandshakeKind::Resumed), full);
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_is_ended() {
    let secure = Secure::new(Limits { handshake_timeout: SOON, ..Limits::default() });
    let silent = [Client::connect(secure.address).await, Client::connect(secure.address).await];
    assert!(ask(secure.bench.address, "GET /plain HTTP/1.0\r\n\r\n").await.contains("/plain"));
    for client in silent {
        assert_eq!(client.read_to_end().await, "");
    }
    secure.bench.until_open(0).await;
    assert_eq!(secure.metrics.ended_total(Ended::HandshakeTimeout), 2);
    let mut stream = secure.authority.connect(secure.address, "www.example", &["http/1.1"]).await.unwrap();
    assert!(get_over(&mut stream, "/after").await.contains("/after"));
}

#[tokio::test]
async fn who_begins_a_handshake_and_is_silent_holds_nobody_up() {
    let secure = Secure::new(Limits { handshake_timeout: Duration::from_secs(3_600), ..Limits::default() });
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(Client::connect(secure.address).await);
    }
    secure.bench.until_open(SILENT).await;
    let connecting = secure.authority.connect(secure.address, "www.example", &["http/1.1"]);
    let mut stream = patiently("a handshake beside them", connecting).await.unwrap();
    assert!(get_over(&mut stream, "/beside").await.contains("/beside"));
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let secure = Secure::new(Limits::default());
    let mut client = Client::connect(secure.address).await;
    client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // An alert, which is no text; then the end.
    client.drained().await;
    secure.bench.until_open(0).await;
    assert_eq!(secure.metrics.ended_total(Ended::Handshake), 1);
    assert!(secure.authority.connect(secure.address, "www.example", &["spdy/3"]).await.is_err(), "no common protocol");
}

pub(crate) fn proxied(limits: Limits, prefixes: &[&str]) -> (Bench, DoorMetrics) {
    let metrics = DoorMetrics::default();
    let counted = metrics.clone();
    let proxies = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let bench = Bench::with(1, limits, |plain| Doors { plain, tls: None, proxies, metrics: counted });
    (bench, metrics)
}

#[tokio::test]
async fn balancers_say_who_their_client_is() {
    let (bench, metrics) = proxied(Limits::default(), &["127.0.0.0/8"]);
    let request = "GET /a HTTP/1.0\r\n\r\n";
    let version_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x30\x39\0\x50";
    for (header, expected) in [
        (&b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n"[..], "/a 203.0.113.7 1"),
        (version_2, "/a 203.0.113.7 1"),
        (b"PROXY UNKNOWN\r\n", "/a 127.0.0.1 1"),
    ] {
        let mut client = Client::connect(bench.address).await;
        client.say([header, request.as_bytes()].concat()).await;
        let answer = client.read_to_end().await;
        assert!(answer.ends_with(expected), "{answer}");
    }
    // Without the header, and with one that ends in the middle.
    assert_eq!(ask(bench.address, request).await, "");
    let mut client = Client::connect(bench.address).await;
    client.say("PROXY TCP4 203.0.").await;
    client.half_close().await;
    assert_eq!(client.read_to_end().await, "");
    bench.until_open(0).await;
    assert_eq!(metrics.ended_total(Ended::ProxyHeader), 2);
}

#[tokio::test]
async fn others_may_not_say_who_they_are() {
    let (bench, metrics) = proxied(Limits::default(), &["10.0.0.0/8"]);
    assert!(ask(bench.address, "GET /a HTTP/1.0\r\n\r\n").await.ends_with("/a 127.0.0.1 1"));
    let answer = ask(bench.address, "PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\nGET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(metrics.ended_total(Ended::ProxyHeader), 0);
}

#[tokio::test]
async fn a_balancer_that_says_nothing_is_closed() {
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
    let (bench, metrics) = proxied(limits, &["127.0.0.1/32"]);
    assert_eq!(Client::connect(bench.address).await.read_to_end().await, "");
    bench.until_open(0).await;
    assert_eq!(metrics.ended_total(Ended::ProxyTimeout), 1);
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let limits = Limits { client_connections_max: Some(2), ..Limits::default() };
    let (bench, metrics) = proxied(limits, &["127.0.0.1/32"]);
    let says = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 1 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(bench.address).await;
        client.say(says("203.0.113.7")).await;
        client.read_until("/ 203.0.113.7 1").await;
        held.push(client);
    }
    let mut third = Client::connect(bench.address).await;
    third.say(says("203.0.113.7")).await;
    assert_eq!(third.read_to_end().await, "");
    bench.until_open(2).await;
    assert_eq!(metrics.ended_total(Ended::ClientLimit), 1);
    let mut other = Client::connect(bench.address).await;
    other.say(says("203.0.113.8")).await;
    other.read_until("/ 203.0.113.8 1").await;
    // Who leaves makes room.
    held.clear();
    bench.until_open(1).await;
    let mut again = Client::connect(bench.address).await;
    again.say(says("203.0.113.7")).await;
    again.read_until("/ 203.0.113.7 1").await;
}

const HOUR: Duration = Duration::from_secs(3600);
/// A time-out that a test waits for, and that a client which is not run for a while still keeps.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn idle_is_not_late() {
    let limits = Limits { header_timeout: HOUR, idle_timeout: Duration::from_millis(100), ..Limits::default() };
    let (bench, metrics) = proxied(limits, &[]);
    let mut idle = Client::connect(bench.address).await;
    idle.say("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.read_until("/a 127.0.0.1 1").await;
    assert_eq!(idle.read_to_end().await, "", "closed without a word");
    bench.until_open(0).await;
    assert_eq!((metrics.ended_total(Ended::IdleTimeout), metrics.ended_total(Ended::HeaderTimeout)), (1, 0));
}

#[tokio::test]
async fn late_is_not_idle() {
    let limits = Limits { header_timeout: SOON, idle_timeout: HOUR, ..Limits::default() };
    let (bench, metrics) = proxied(limits, &[]);
    let mut late = Client::connect(bench.address).await;
    late.say("GET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\n").await;
    late.read_until("/b 127.0.0.1 1").await;
    late.say("Host: x\r\n").await;
    assert!(late.read_to_end().await.starts_with("HTTP/1.1 408 "));
    bench.until_open(0).await;
    assert_eq!((metrics.ended_total(Ended::IdleTimeout), metrics.ended_total(Ended::HeaderTimeout)), (0, 1));
}

async fn until_parked(metrics: &DoorMetrics, count: i64) {
    perigee_testkit::wait_until("connections being parked", || metrics.parked() == count).await;
}

#[tokio::test]
async fn idle_connections_are_parked_and_wake() {
    let limits = Limits { header_timeout: SOON, idle_timeout: HOUR, ..Limits::default() };
    let (bench, metrics) = proxied(limits, &[]);
    let mut client = Client::connect(bench.address).await;
    for number in 1..=2 {
        client.say("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.read_until(&format!("/a 127.0.0.1 {number}")).await;
        until_parked(&metrics, 1).await;
    }
    // Woken by the first byte of a head that comes in pieces, and content behind it.
    client.say("P").await;
    until_parked(&metrics, 0).await;
    client.say("OST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n").await;
    client.say("bodyGET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("\r\n\r\nbody").await;
    client.read_until("/b 127.0.0.1 4").await;
    until_parked(&metrics, 1).await;
    // One that wakes it and goes no further is late.
    client.say("GET").await;
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 408 "));
    until_parked(&metrics, 0).await;

    // Clients that leave, and a drain, end parked connections.
    let mut parked = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(bench.address).await;
        client.say("GET /c HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.read_until("/c 127.0.0.1 1").await;
        parked.push(client);
    }
    until_parked(&metrics, 2).await;
    drop(parked.pop());
    until_parked(&metrics, 1).await;
    let drained = bench.start_drain(Duration::from_secs(30));
    assert_eq!(parked.remove(0).read_to_end().await, "");
    assert_eq!(drained.await.unwrap().aborted, 0);
}

#[tokio::test]
async fn parked_connections_have_an_end() {
    let limits = Limits { idle_timeout: SOON, ..Limits::default() };
    let (bench, metrics) = proxied(limits, &[]);
    let mut client = Client::connect(bench.address).await;
    client.say("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("/a 127.0.0.1 1").await;
    until_parked(&metrics, 1).await;
    assert_eq!(client.read_to_end().await, "");
    bench.until_open(0).await;
    assert_eq!((metrics.ended_total(Ended::IdleTimeout), metrics.parked()), (1, 0));
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_order_wherever_the_connection_is_kept() {
    let bench = Bench::new(1, Limits::default());
    let mut client = Client::connect(bench.address).await;
    // More than hyper answers in one turn, and more than it reads at once; the last one comes in two pieces.
    let padding = "x".repeat(300);
    let request = |number: usize| format!("GET /{number} HTTP/1.1\r\nHost: x\r\nA: {padding}\r\n\r\n");
    let all: String = (1..=300).map(request).collect();
    let (most, last) = all.split_at(all.len() - 40);
    client.say(most).await;
    for number in 1..300 {
        client.read_until(&format!("\r\n\r\n/{number} 127.0.0.1 {number}")).await;
    }
    client.say(last).await;
    client.read_until("\r\n\r\n/300 127.0.0.1 300").await;
}

/// Nothing that is on its way is lost when the connection is taken from hyper, however slowly it is taken.
#[tokio::test]
async fn a_slow_reader_gets_all_of_it() {
    let (bench, metrics) = proxied(Limits::default(), &[]);
    let mut stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        // What the sockets hold is less, so that hyper has the rest in hand, and not one that was parked.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(metrics.parked(), 0);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut body = vec![0; BIG];
        stream.read_exact(&mut body).await.unwrap();
        assert!(body.chunks(16).all(|piece| piece == b"0123456789abcdef"));
        until_parked(&metrics, 1).await;
    }
}

/// Content that is still to come would be taken for a request.
#[tokio::test]
async fn unread_content_is_never_a_request() {
    let (bench, metrics) = proxied(Limits::default(), &[]);
    let mut client = Client::connect(bench.address).await;
    client.say("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n").await;
    client.read_until("/a 127.0.0.1 1").await;
    // The server reads no further than it must, and closes.
    assert_eq!(client.read_to_end().await, "");
    bench.until_open(0).await;
    assert_eq!(metrics.parked(), 0);
}

#[tokio::test]
async fn a_slow_answer_is_not_idle() {
    let limits = Limits { header_timeout: HOUR, idle_timeout: Duration::from_millis(20), ..Limits::default() };
    let (bench, metrics) = proxied(limits, &[]);
    let mut client = Client::connect(bench.address).await;
    client.say("GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    bench.service.waiting.notified().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.service.go.notify_one();
    assert!(client.read_to_end().await.ends_with("waited"));
    assert_eq!((metrics.ended_total(Ended::IdleTimeout), metrics.ended_total(Ended::HeaderTimeout)), (0, 0));
}
