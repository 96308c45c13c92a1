//! The HTTP server: limits, pipelining, cuts, caps, drain.

use std::{
    collections::HashSet,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{HeaderValue, LINK},
};
use perigee_node::{
    http::{self, Connection, Content, Doors, Drained, HEADER_BYTES_MAX, HEADERS_MAX, HttpService, Limits, Serving},
    listen::Listeners,
    metrics::ConnectionMetrics,
    runtimes::{RunningRuntimes, Runtimes},
};
use tokio::sync::{Notify, Semaphore};

use crate::wire::{Client, ask};

/// The length of `/big`: more than sockets hold.
pub(crate) const BIG: usize = 16 << 20;

const BOUND: Duration = Duration::from_secs(30);

/// Answers by path; `/wait` when it is let go.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) waiting: Notify,
    pub(crate) go: Notify,
    cores: Mutex<HashSet<usize>>,
    dropped: Arc<Dropped>,
}

/// Counts requests that were dropped before they were answered.
struct Dropped(Semaphore);

impl Default for Dropped {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

struct TellDrop(Arc<Dropped>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        self.0.0.add_permits(1);
    }
}

/// One piece, then an error.
struct Cut(Option<Bytes>);

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(self.0.take().map(Frame::data).ok_or_else(|| io::Error::other("cut"))))
    }
}

impl HttpService for Service {
    type Body = UnsyncBoxBody<Bytes, io::Error>;

    async fn call(&self, request: Request<Content>, connection: &Arc<Connection>) -> Response<Self::Body> {
        self.cores.lock().unwrap().insert(connection.core());
        let full = |text: String| Full::from(text).map_err(|never: Infallible| match never {}).boxed_unsync();
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/wait" => {
                let told = TellDrop(Arc::clone(&self.dropped));
                self.waiting.notify_one();
                self.go.notified().await;
                std::mem::forget(told);
                Response::new(full("waited".into()))
            }
            "/big" => Response::new(full("0123456789abcdef".repeat(BIG / 16))),
            "/early" | "/early-and-late" => {
                let hints = HeaderMap::from_iter([(LINK, HeaderValue::from_static("</a.css>; rel=preload"))]);
                let number = connection.requests();
                // Of these only the 103 is an interim response of this request.
                connection.interim(number + 1, StatusCode::PROCESSING, &hints);
                connection.interim(number, StatusCode::CONTINUE, &hints);
                connection.interim(number, StatusCode::EARLY_HINTS, &hints);
                if path == "/early" {
                    self.go.notified().await;
                }
                Response::new(full("final".into()))
            }
            "/cut" => Response::new(Cut(Some(Bytes::from_static(b"half"))).boxed_unsync()),
            "/cut-length" => Response::builder()
                .header("content-length", "8")
                .body(Cut(Some(Bytes::from_static(b"half"))).boxed_unsync())
                .unwrap(),
            "/echo" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync())
            }
            _ => Response::new(full(format!("{path} {} {}", connection.peer().ip(), connection.requests()))),
        }
    }
}

pub(crate) struct Bench {
    runtimes: Option<RunningRuntimes>,
    pub(crate) service: Arc<Service>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) address: SocketAddr,
    metrics: ConnectionMetrics,
}

impl Bench {
    pub(crate) fn new(cores: usize, limits: Limits) -> Self {
        Self::with(cores, limits, Into::into)
    }

    /// With whatever is made of a listener for `http`.
    pub(crate) fn with(cores: usize, limits: Limits, doors: impl FnOnce(Listeners) -> Doors) -> Self {
        let runtimes = Runtimes::start(cores).unwrap();
        let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()], cores).unwrap();
        let service = Arc::new(Service::default());
        let metrics = ConnectionMetrics::default();
        let serving = http::serve(runtimes.handles(), doors(listeners), Arc::clone(&service), &limits, metrics.clone());
        let address = serving.local_addrs()[0];
        Self { runtimes: Some(runtimes), service, serving: Arc::new(serving), address, metrics }
    }

    pub(crate) async fn until_open(&self, count: usize) {
        while self.serving.connections() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn start_drain(&self, bound: Duration) -> tokio::task::JoinHandle<Drained> {
        let serving = Arc::clone(&self.serving);
        tokio::spawn(async move { serving.drain(bound).await })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let runtimes = self.runtimes.take();
        std::thread::spawn(|| runtimes.map(|runtimes| runtimes.shutdown(Duration::from_secs(5)))).join().unwrap();
    }
}

fn bench() -> Bench {
    Bench::new(2, Limits::default())
}

#[tokio::test]
async fn keep_alive_pipelining_and_http_1_0() {
    let bench = bench();
    let mut client = Client::connect(bench.address).await;
    client.say("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let first = client.read_until("/a 127.0.0.1 1").await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("\r\ndate: "), "{first}");
    client.read_until("/b 127.0.0.1 2").await;
    client.say("GET /c HTTP/1.0\r\n\r\n").await;
    let last = client.read_to_end().await;
    assert!(last.starts_with("HTTP/1.0 200 OK\r\n") && last.ends_with("/c 127.0.0.1 3"), "{last}");
}

#[tokio::test]
async fn bodies_come_and_go() {
    let bench = bench();
    let request = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert!(ask(bench.address, request).await.ends_with("\r\n\r\nabc"));
}

#[tokio::test]
async fn both_sides_of_the_head_limits() {
    let bench = bench();
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    let sized = |bytes: usize| {
        let fixed = head("a: \r\n").len();
        head(&format!("a: {}\r\n", "x".repeat(bytes - fixed)))
    };
    let counted = |fields: usize| head(&"a: b\r\n".repeat(fields - 2));
    for (request, expected) in [
        (sized(HEADER_BYTES_MAX), "HTTP/1.1 200 "),
        (sized(HEADER_BYTES_MAX + 1), "HTTP/1.1 431 "),
        (counted(HEADERS_MAX), "HTTP/1.1 200 "),
        (counted(HEADERS_MAX + 1), "HTTP/1.1 431 "),
        ("nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
    ] {
        let answer = ask(bench.address, &request).await;
        assert!(answer.starts_with(expected), "{} bytes: {answer}", request.len());
    }
}

#[tokio::test]
async fn a_cut_body_arrives_and_ends_short() {
    let bench = bench();
    for path in ["/cut", "/cut-length"] {
        let answer = ask(bench.address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(body.contains("half"), "nothing of the body came: {answer}");
        assert!(!body.contains("0\r\n\r\n"), "the body looks complete: {answer}");
    }
}

#[tokio::test]
async fn every_core_serves() {
    let bench = bench();
    // The kernel chooses by the client's port: in the end both.
    while bench.service.cores.lock().unwrap().len() < 2 {
        ask(bench.address, "GET / HTTP/1.0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    // Long enough for a client that is not run for a while to begin.
    let bench = Bench::new(1, Limits { header_timeout: Duration::from_secs(2), ..Limits::default() });
    assert_eq!(ask(bench.address, "").await, "");
    // RFC 9110 §15.5.9: a request that began is told.
    let late = ask(bench.address, "GET / HTTP/1.1\r\nHost: x\r\n").await;
    assert!(late.starts_with("HTTP/1.1 408 ") && late.contains("connection: close"), "{late}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let bench = bench();
    let mut client = Client::connect(bench.address).await;
    client.say("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    bench.service.waiting.notified().await;
    drop(client);
    bench.service.dropped.0.acquire().await.unwrap().forget();
    bench.until_open(0).await;
}

#[tokio::test]
async fn beyond_the_cap_clients_wait() {
    let bench = Bench::new(1, Limits { connections_max: 2, ..Limits::default() });
    let first = Client::connect(bench.address).await;
    let _second = Client::connect(bench.address).await;
    bench.until_open(2).await;
    let mut third = Client::connect(bench.address).await;
    third.say("GET /third HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(bench.metrics.open(), 2);
    drop(first);
    third.read_until("/third 127.0.0.1 1").await;
    assert_eq!(bench.serving.connections(), 2);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let bench = bench();
    let mut busy = Client::connect(bench.address).await;
    busy.say("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    bench.service.waiting.notified().await;
    let mut idle = Client::connect(bench.address).await;
    idle.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.read_until("127.0.0.1 1").await;
    let mut fresh = Client::connect(bench.address).await;
    bench.until_open(3).await;

    let drained = bench.start_drain(BOUND);
    // The idle one is closed, while the busy one is still at work.
    assert_eq!(idle.read_to_end().await, "");
    // The one that had said nothing yet is served once.
    fresh.say("GET /fresh HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = fresh.read_to_end().await;
    assert!(answer.contains("connection: close") && answer.ends_with("/fresh 127.0.0.1 1"), "{answer}");
    assert!(tokio::net::TcpStream::connect(bench.address).await.is_err(), "still accepting");
    assert!(!drained.is_finished());
    bench.service.go.notify_one();
    let answer = busy.read_to_end().await;
    assert!(answer.contains("connection: close") && answer.ends_with("waited"), "{answer}");
    assert_eq!(drained.await.unwrap(), Drained { aborted: 0 });
    assert_eq!(bench.metrics.open(), 0);
}

#[tokio::test]
async fn a_drain_closes_clients_that_never_ask() {
    let bench = bench();
    let silent = Client::connect(bench.address).await;
    bench.until_open(1).await;
    assert_eq!(bench.serving.drain(BOUND).await, Drained { aborted: 0 });
    assert_eq!(silent.read_to_end().await, "");
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let bench = bench();
    let mut busy = Client::connect(bench.address).await;
    busy.say("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    bench.service.waiting.notified().await;
    let (one, two) = (bench.start_drain(Duration::from_millis(50)), bench.start_drain(BOUND));
    assert_eq!(one.await.unwrap(), Drained { aborted: 1 });
    assert_eq!(two.await.unwrap(), Drained { aborted: 0 });
    assert_eq!(busy.read_to_end().await, "");
}

#[tokio::test]
async fn dropped_it_cuts_and_frees_its_port() {
    let mut bench = bench();
    let busy = Client::connect(bench.address).await;
    bench.until_open(1).await;
    let (address, metrics) = (bench.address, bench.metrics.clone());
    bench.serving = {
        let next = Listeners::bind(&["127.0.0.1:0".parse().unwrap()], 2).unwrap();
        let runtimes = bench.runtimes.as_ref().unwrap().handles();
        let service = Arc::clone(&bench.service);
        Arc::new(http::serve(runtimes, next, service, &Limits::default(), ConnectionMetrics::default()))
    };
    assert_eq!(busy.read_to_end().await, "");
    while Listeners::bind(&[address], 1).is_err() || metrics.open() != 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

#[tokio::test]
async fn interim_responses_come_before_the_final_one() {
    let bench = bench();
    let mut client = Client::connect(bench.address).await;
    client.say("GET /early HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The final response waits for this to be read.
    assert_eq!(client.read_until("\r\n\r\n").await, HINTS);
    bench.service.go.notify_one();
    assert!(client.read_until("final").await.starts_with("HTTP/1.1 200 OK\r\n"));
    // One connection, several answers at once: each interim response is before its own final one.
    let two = "GET /early-and-late HTTP/1.1\r\nHost: a\r\n\r\n";
    client.say([two, two].concat()).await;
    for _ in 0..2 {
        assert_eq!(client.read_until("\r\n\r\n").await, HINTS);
        assert!(client.read_until("final").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn http_1_0_gets_no_interim_response() {
    let bench = bench();
    let answer = ask(bench.address, "GET /early-and-late HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && !answer.contains("103"), "{answer}");
}
