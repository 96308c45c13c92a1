//! DNS over QUIC (RFC 9250).

use std::{net::UdpSocket, sync::Arc};

use hickory_proto::op::Message;
use perigee_geodns::{EncryptedListen, ListenAt, Options};
use perigee_testkit::patiently;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, VarInt,
    crypto::rustls::QuicClientConfig,
};

use crate::{bench::*, private::*};

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 2;

/// A client's end, from an address of one's choice.
fn endpoint(private: &Private, from: &str, alpn: &str) -> Endpoint {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
    let tls = private.authority.client_config_of(&[alpn], &[&rustls::version::TLS13]);
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    endpoint
}

async fn connect(private: &Private, endpoint: &Endpoint) -> Result<Connection, ConnectionError> {
    patiently("a handshake", endpoint.connect(private.quic(), HOST).unwrap()).await
}

/// Writes to a stream of its own and ends it; what comes back.
async fn exchange(connection: &Connection, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(bytes).await.ok()?;
    send.finish().ok()?;
    patiently("an answer", receive.read_to_end(70_000)).await.ok()
}

async fn ask(connection: &Connection, message: &[u8]) -> Message {
    let framed_reply = exchange(connection, &framed(message)).await.unwrap();
    let (length, reply) = framed_reply.split_at(2);
    assert_eq!(length, u16::try_from(reply.len()).unwrap().to_be_bytes());
    Message::from_vec(reply).unwrap()
}

async fn code_of_the_end(connection: &Connection) -> u32 {
    match patiently("the end", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => u32::try_from(close.error_code.into_inner()).unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_for_each_query() {
    let private = Private::start().await;
    for (from, expected) in [(GERMANY, FRA), (AUSTRALIA, SYD)] {
        let endpoint = endpoint(&private, from, "doq");
        let connection = connect(&private, &endpoint).await.unwrap();
        let reply = ask(&connection, &query(0, "www.cdn.example", A)).await;
        assert_eq!((reply.metadata.id, addresses(&reply)[0].to_string().as_str()), (0, expected));
        let padded = exchange(&connection, &framed(&query_with(0, "www.cdn.example", A, PADDED))).await.unwrap();
        assert_eq!(padded.len(), 2 + 468);
        // More than there may be at once.
        let asks = (0..300).map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { ask(&connection, &query(0, "www.cdn.example", A)).await })
        });
        for reply in asks.collect::<Vec<_>>() {
            assert_eq!(addresses(&reply.await.unwrap())[0].to_string(), expected);
        }
    }
    let line =
        r#"perigee_dns_queries_total{node="ns1",tier="geodns",transport="quic",rcode="NOERROR",reason="nearest"} 604"#;
    private.metrics_say(line).await;
    // RFC 9250 §4.1.1
    let other = endpoint(&private, GERMANY, "h3");
    assert!(connect(&private, &other).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_the_rules_is_told_so() {
    let private = Private::start().await;
    let endpoint = endpoint(&private, GERMANY, "doq");
    let good = framed(&query(0, "www.cdn.example", A));
    // RFC 9250 §4.3.3
    let broken: [(&str, Vec<u8>); 8] = [
        ("an ID", framed(&query(1, "www.cdn.example", A))),
        ("keepalive", framed(&query_with(0, "www.cdn.example", A, KEEPALIVE))),
        ("two queries", [good.clone(), good.clone()].concat()),
        ("a byte too many", [good.clone(), vec![0]].concat()),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        ("nothing", Vec::new()),
        ("no message", framed(b"junk")),
        ("an answer", framed(&[0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
    ];
    for (what, bytes) in broken {
        let connection = connect(&private, &endpoint).await.unwrap();
        assert_eq!(exchange(&connection, &bytes).await, None, "{what}");
        assert_eq!(code_of_the_end(&connection).await, PROTOCOL_ERROR, "{what}");
    }
    // There are no streams of clients alone.
    let connection = connect(&private, &endpoint).await.unwrap();
    let uni = tokio::time::timeout(std::time::Duration::from_millis(50), connection.open_uni()).await;
    assert!(uni.is_err(), "the server allows none");
    // What is FORMERR elsewhere is so here.
    let reply = ask(&connection, &query_with(0, "www.cdn.example", A, &[0])).await;
    assert_eq!(u16::from(reply.metadata.response_code), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_thinks_better_of_it_harms_nobody() {
    let private = Private::start().await;
    let endpoint = endpoint(&private, GERMANY, "doq");
    let connection = connect(&private, &endpoint).await.unwrap();
    let mut kept = Vec::new();
    for round in 0..150 {
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&[0, 40, 0]).await.unwrap();
        match round % 3 {
            0 => send.reset(VarInt::from_u32(3)).unwrap(),
            1 => drop((send.reset(VarInt::from_u32(3)), receive)),
            // Some are left half-said.
            _ if kept.len() < 50 => kept.push((send, receive)),
            _ => {}
        }
    }
    let reply = ask(&connection, &query(0, "www.cdn.example", A)).await;
    assert_eq!(addresses(&reply)[0].to_string(), FRA);
    assert!(connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_as_well() {
    if !perigee_testkit::has_ipv6() {
        return;
    }
    let all = || ListenAt::At(vec!["127.0.0.53:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    let tell = |options: &mut Options| options.encrypted = EncryptedListen { tls: all(), https: all(), quic: all() };
    let private = Private::start_told(tell).await;
    let running = &private.bench.running;
    assert_eq!([running.tls_addrs().len(), running.https_addrs().len(), running.quic_addrs().len()], [2, 2, 2]);
    let client = endpoint(&private, "::1", "doq");
    let connecting = client.connect(running.quic_addrs()[1], HOST).unwrap();
    let connection = patiently("a handshake", connecting).await.unwrap();
    assert_eq!(addresses(&ask(&connection, &query(0, "ns1.cdn.example", A)).await)[0].to_string(), "127.0.0.53");
    for (addresses, alpn) in [(running.tls_addrs(), "dot"), (running.https_addrs(), "h2")] {
        assert!(addresses[1].is_ipv6());
        private.authority.connect(addresses[1], HOST, &[alpn]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_is_answered() {
    let private = Private::start().await;
    let endpoint = endpoint(&private, GERMANY, "doq");
    let connection = connect(&private, &endpoint).await.unwrap();
    assert_eq!(addresses(&ask(&connection, &query(0, "www.cdn.example", A)).await)[0].to_string(), FRA);
    endpoint.rebind(UdpSocket::bind((AUSTRALIA, 0)).unwrap()).unwrap();
    patiently("the new address", async {
        while addresses(&ask(&connection, &query(0, "www.cdn.example", A)).await)[0].to_string() != SYD {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_arrived_and_closes_without_error() {
    let private = Private::start().await;
    let endpoint = endpoint(&private, GERMANY, "doq");
    let connection = connect(&private, &endpoint).await.unwrap();
    ask(&connection, &query(0, "www.cdn.example", A)).await;
    let mut asked = Vec::new();
    for _ in 0..50 {
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&query(0, "www.cdn.example", A))).await.unwrap();
        send.finish().unwrap();
        // Acknowledged: it has arrived.
        patiently("an acknowledgement", send.stopped()).await.unwrap();
        asked.push(receive);
    }
    let drained = tokio::spawn(private.bench.running.drain());
    for mut receive in asked {
        let reply = patiently("an answer", receive.read_to_end(70_000)).await.unwrap();
        assert_eq!(addresses(&Message::from_vec(&reply[2..]).unwrap())[0].to_string(), FRA);
    }
    assert_eq!(code_of_the_end(&connection).await, NO_ERROR);
    drained.await.unwrap();
}
