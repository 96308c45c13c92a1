//! DNS over HTTPS (RFC 8484).

use bytes::Bytes;
use hickory_proto::op::Message;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use perigee_testkit::patiently;

use crate::{bench::*, private::*};

const MESSAGE: &str = "application/dns-message";

/// base64url without padding (RFC 4648 §5), written out so that the server's way is not checked by itself.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

enum Client {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
    version: Version,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    async fn open(private: &Private, from: &str, protocol: &str) -> Self {
        let config = private.config(&[protocol]);
        let stream = private.connect(from, private.https(), &config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Self::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Self::One(sender)
        }
    }

    async fn send(&mut self, method: Method, target: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder().method(method);
        let request = match self {
            Self::One(_) => request.uri(target).header("host", HOST),
            Self::Two(_) => request.uri(format!("https://{HOST}{target}")),
        };
        let request = if media_type.is_empty() { request } else { request.header("content-type", media_type) };
        let request = request.body(Full::from(body.into())).unwrap();
        let response = match self {
            Self::One(sender) => {
                patiently("the connection", sender.ready()).await.unwrap();
                patiently("a response", sender.send_request(request)).await
            }
            Self::Two(sender) => patiently("a response", sender.send_request(request)).await,
        };
        let (head, body) = response.unwrap().into_parts();
        let body = patiently("a body", body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body, version: head.version }
    }

    async fn get(&mut self, message: &[u8]) -> Answer {
        self.send(Method::GET, &format!("/dns-query?dns={}", base64url(message)), "", "").await
    }

    async fn post(&mut self, message: &[u8]) -> Answer {
        self.send(Method::POST, "/dns-query", MESSAGE, message.to_vec()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_and_post_over_both_versions() {
    let private = Private::start().await;
    for (protocol, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        for (from, expected) in [(GERMANY, FRA), (AUSTRALIA, SYD)] {
            let mut client = Client::open(&private, from, protocol).await;
            let message = query(0, "www.cdn.example", A);
            for answer in [client.get(&message).await, client.post(&message).await] {
                assert_eq!((answer.status, answer.version), (StatusCode::OK, version));
                assert_eq!(answer.header("content-type"), MESSAGE);
                assert_eq!(answer.header("content-length"), answer.body.len().to_string());
                // Steered by who asked: of no use to others.
                assert_eq!(answer.header("cache-control"), "private, max-age=30");
                let reply = Message::from_vec(&answer.body).unwrap();
                assert_eq!((reply.metadata.id, addresses(&reply)[0].to_string().as_str()), (0, expected));
            }
        }
    }
    let line =
        r#"perigee_dns_queries_total{node="ns1",tier="geodns",transport="https",rcode="NOERROR",reason="nearest"} 8"#;
    private.metrics_say(line).await;
    let protocols = r#"perigee_connections_by_protocol_total{node="ns1",tier="geodns",protocol="h2",tls="yes"} 2"#;
    private.metrics_say(protocols).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caches_are_told() {
    let private = Private::start().await;
    let mut client = Client::open(&private, GERMANY, "h2").await;
    let mut check = async |message: Vec<u8>, expected: &str| {
        let answer = client.get(&message).await;
        assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, expected), "{message:?}");
        answer
    };
    check(query(0, "ns1.cdn.example", A), "max-age=3600").await;
    check(query(0, "nobody.cdn.example", A), "max-age=60").await;
    check(query(0, "other.example", A), "no-store").await;
    // Who tells a subnet is answered for it, and asks at a URL of its own.
    let subnet = [0, 8, 0, 6, 0, 1, 16, 0, 127, 61];
    let answer = check(query_with(0, "www.cdn.example", A, &subnet), "max-age=30").await;
    assert_eq!(addresses(&Message::from_vec(&answer.body).unwrap())[0].to_string(), SYD);
    // Who wants no subnet to be used (RFC 7871 §7.1.2) is answered for the address that asks.
    check(query_with(0, "www.cdn.example", A, &[0, 8, 0, 4, 0, 1, 0, 0]), "private, max-age=30").await;
    let answer = check(query_with(0, "www.cdn.example", A, PADDED), "private, max-age=30").await;
    assert_eq!(answer.body.len(), 468);
    // RFC 7828 §3.1 is of TCP and TLS alone.
    let answer = check(query_with(0, "ns1.cdn.example", A, KEEPALIVE), "max-age=3600").await;
    assert!(answer.body.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]), "{:?}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_query() {
    let private = Private::start().await;
    let good = format!("/dns-query?dns={}", base64url(&query(0, "www.cdn.example", A)));
    for protocol in ["h2", "http/1.1"] {
        let check = async |method: Method, target: &str, media_type: &str, body: Vec<u8>, expected: u16| {
            // A connection each: an early answer to a body may end HTTP/1's.
            let mut client = Client::open(&private, GERMANY, protocol).await;
            let (shown, length) = (format!("{protocol} {method} {target} {media_type}"), body.len());
            let answer = client.send(method, target, media_type, body).await;
            assert_eq!(answer.status.as_u16(), expected, "{shown} {length}");
            answer
        };
        check(Method::GET, &good, "", Vec::new(), 200).await;
        let head = check(Method::HEAD, &good, "", Vec::new(), 200).await;
        assert_eq!((head.body.len(), head.header("content-length")), (0, "49"));
        for target in ["/", "/dns-query/", "/DNS-query", "/dns-queryx?dns=AAAA"] {
            check(Method::GET, target, "", Vec::new(), 404).await;
        }
        for target in ["/dns-query", "/dns-query?dns=", "/dns-query?dns=A", "/dns-query?dns=AAEC=", "/dns-query?x=AAEC"]
        {
            check(Method::GET, target, "", Vec::new(), 400).await;
        }
        for method in [Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = check(method, &good, "", Vec::new(), 405).await;
            assert_eq!(answer.header("allow"), "GET, HEAD, POST");
        }
        let message = query(0, "www.cdn.example", A);
        for media_type in ["", "application/json", "text/plain"] {
            check(Method::POST, "/dns-query", media_type, message.clone(), 415).await;
        }
        check(Method::POST, "/dns-query", "Application/DNS-Message; charset=x", message.clone(), 200).await;
        check(Method::POST, "/dns-query", MESSAGE, Vec::new(), 400).await;
        check(Method::POST, "/dns-query", MESSAGE, b"junk".to_vec(), 400).await;
        // Not well-formed is for DNS to say; and both sides of the limit.
        let long = |length: usize| [message.clone(), vec![0; length - message.len()]].concat();
        let answer = check(Method::POST, "/dns-query", MESSAGE, long(65_535), 200).await;
        assert_eq!(answer.body[3] & 15, 1, "FORMERR");
        check(Method::POST, "/dns-query", MESSAGE, long(65_536), 413).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_at_once_and_a_drain() {
    let private = Private::start().await;
    let client = Client::open(&private, AUSTRALIA, "h2").await;
    let Client::Two(sender) = &client else { panic!("h2") };
    let asks = (0..300).map(|id| {
        let mut one = Client::Two(sender.clone());
        tokio::spawn(async move { (id, one.post(&query(id, "www.cdn.example", A)).await) })
    });
    for answer in asks.collect::<Vec<_>>() {
        let (id, answer) = answer.await.unwrap();
        let reply = Message::from_vec(&answer.body).unwrap();
        assert_eq!((reply.metadata.id, addresses(&reply)[0].to_string().as_str()), (id, SYD));
    }
    let address = private.https();
    private.bench.running.drain().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
