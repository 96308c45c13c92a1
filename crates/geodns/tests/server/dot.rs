//! DNS over TLS (RFC 7858): TCP's dialogue in private.

use hickory_proto::op::Message;
use perigee_geodns::{ListenAt, start};
use perigee_node::runtimes::Runtimes;
use perigee_testkit::{
    certificates::{der, shown},
    patiently,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{bench::*, private::*};

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_in_order_and_padded() {
    let private = Private::start().await;
    let config = private.config(&["dot"]);
    let mut stream = private.connect(AUSTRALIA, private.tls(), &config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"dot"[..]));
    let many: Vec<u8> = (0..500).flat_map(|id| framed(&query_with(id, "www.cdn.example", A, PADDED))).collect();
    // Cut inside a length, and between two records of TLS.
    let (first, rest) = many.split_at(many.len() / 3 + 1);
    for piece in [first, rest] {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    for id in 0..500 {
        let reply = read_reply(&mut stream).await;
        assert_eq!(reply.len(), 468);
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!((reply.metadata.id, addresses(&reply)[0].to_string().as_str()), (id, SYD));
    }
    let line =
        r#"perigee_dns_queries_total{node="ns1",tier="geodns",transport="tls",rcode="NOERROR",reason="nearest"} 500"#;
    private.metrics_say(line).await;
    private.metrics_say(r#"perigee_dns_connections{node="ns1",tier="geodns",transport="tls"} 1"#).await;
    // The end is told, so that nobody takes a cut for it.
    stream.shutdown().await.unwrap();
    assert_eq!(patiently("the end", stream.read(&mut [0; 8])).await.unwrap(), 0);
    private.metrics_say(r#"perigee_dns_connections{node="ns1",tier="geodns",transport="tls"} 0"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes() {
    let private = Private::start().await;
    let ask = async |config: &std::sync::Arc<rustls::ClientConfig>| {
        let mut stream = private.connect(GERMANY, private.tls(), config).await?;
        let reply = ask_tls(&mut stream, &query(7, "www.cdn.example", A)).await;
        assert_eq!(addresses(&Message::from_vec(&reply).unwrap())[0].to_string(), FRA);
        let (_, session) = stream.get_ref();
        Ok::<_, std::io::Error>((session.protocol_version().unwrap(), session.handshake_kind().unwrap()))
    };
    let config = private.config(&["dot"]);
    assert_eq!(ask(&config).await.unwrap(), (rustls::ProtocolVersion::TLSv1_3, rustls::HandshakeKind::Full));
    assert_eq!(ask(&config).await.unwrap().1, rustls::HandshakeKind::Resumed);
    // Older clients, and those who name no protocol.
    let old = private.authority.client_config_of(&["dot"], &[&rustls::version::TLS12]);
    assert_eq!(ask(&old.into()).await.unwrap().0, rustls::ProtocolVersion::TLSv1_2);
    assert!(ask(&private.config(&[])).await.is_ok());
    // RFC 7301 §3.2
    assert!(ask(&private.config(&["h2"])).await.is_err());
    for line in [
        r#"perigee_tls_handshakes_total{node="ns1",tier="geodns",kind="full"} 3"#,
        r#"perigee_tls_handshakes_total{node="ns1",tier="geodns",kind="resumed"} 1"#,
        r#"perigee_connections_ended_total{node="ns1",tier="geodns",reason="handshake"} 1"#,
        r#"perigee_tls_certificate_expiry_seconds{node="ns1",tier="geodns",site="cdn.dns_tls"}"#,
    ] {
        private.metrics_say(line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_harms_nobody() {
    let private = Private::start().await;
    let mut silent = TcpStream::connect(private.tls()).await.unwrap();
    let mut half = TcpStream::connect(private.tls()).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    // A query in the clear is no handshake.
    let mut clear = TcpStream::connect(private.tls()).await.unwrap();
    clear.write_all(&framed(&query(1, "www.cdn.example", A))).await.unwrap();
    let mut alert = Vec::new();
    drop(patiently("the end", clear.read_to_end(&mut alert)).await);
    assert_ne!(alert.get(2..4), Some(&[0, 1][..]), "no answer in the clear: {alert:?}");
    let mut stream = private.connect(GERMANY, private.tls(), &private.config(&["dot"])).await.unwrap();
    ask_tls(&mut stream, &query(7, "www.cdn.example", A)).await;
    // What is not a query ends the connection without an answer.
    stream.write_all(&framed(b"junk")).await.unwrap();
    assert_eq!(patiently("the end", stream.read(&mut [0; 8])).await.unwrap(), 0);
    drop((silent.shutdown().await, half));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_arrived_and_says_that_it_ends() {
    let private = Private::start().await;
    let config = private.config(&["dot"]);
    let mut idle = private.connect(GERMANY, private.tls(), &config).await.unwrap();
    ask_tls(&mut idle, &query(1, "www.cdn.example", A)).await;
    let mut asking = private.connect(GERMANY, private.tls(), &config).await.unwrap();
    let many: Vec<u8> = (0..100).flat_map(|id| framed(&query(id, "www.cdn.example", A))).collect();
    asking.write_all(&many).await.unwrap();
    asking.flush().await.unwrap();
    let address = private.tls();
    private.bench.running.drain().await;
    for id in 0_u16..100 {
        assert_eq!(read_reply(&mut asking).await[..2], id.to_be_bytes());
    }
    for stream in [&mut asking, &mut idle] {
        // A cut would be an error here (RFC 8446 §6.1).
        assert_eq!(patiently("the end", stream.read(&mut [0; 8])).await.unwrap(), 0);
    }
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_and_tls_share_a_clients_room() {
    let private = Private::start().await;
    let mut plain = Vec::new();
    for _ in 0..127 {
        let mut stream = TcpStream::connect(private.bench.address()).await.unwrap();
        stream.write_all(&framed(&query(1, "cdn.example", A))).await.unwrap();
        read_framed(&mut stream).await;
        plain.push(stream);
    }
    let config = private.config(&["dot"]);
    let mut last = private.connect("127.0.0.1", private.tls(), &config).await.unwrap();
    ask_tls(&mut last, &query(1, "cdn.example", A)).await;
    assert!(private.connect("127.0.0.1", private.tls(), &config).await.is_err());
    assert!(private.connect(GERMANY, private.tls(), &config).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown() {
    let private = Private::start().await;
    let next = private.authority.issue(&[HOST]);
    next.write(private.bench.folder.path(), "ns");
    patiently("the new certificate", async {
        loop {
            let stream = private.connect(GERMANY, private.tls(), &private.config(&["dot"])).await.unwrap();
            if shown(&stream) == der(&next) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    private.bench.replace("ns.pem", "no certificate");
    private
        .metrics_say(r#"perigee_reloads_total{node="ns1",tier="geodns",what="certificate",result="refused"} 1"#)
        .await;
    let stream = private.connect(GERMANY, private.tls(), &private.config(&["dot"])).await.unwrap();
    assert_eq!(shown(&stream), der(&next), "the old one goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_must_be_there() {
    // Where the document decides, and offers nothing yet.
    let bench = Bench::start_told(&unprobed(), |options| options.encrypted.tls = ListenAt::Offered).await;
    assert!(bench.running.tls_addrs().is_empty());
    perigee_testkit::certificates::Authority::default().issue(&[HOST]).write(bench.folder.path(), "ns");
    bench.replace("perigee.toml", certified());
    patiently("the refusal", async {
        let line = r#"perigee_reloads_total{node="ns1",tier="geodns",what="document",result="refused"} 1"#;
        while !bench.admin("/metrics").await.contains(line) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // At the start: a certificate for whoever wants to listen, and a good one.
    let check = async |document: &str, expected: &[&str]| {
        let folder = folder(document, WORLD);
        let mut told = options(&folder);
        told.encrypted.tls = ListenAt::At(vec!["127.0.0.53:0".parse().unwrap()]);
        let runtimes = Runtimes::start(1).unwrap();
        let error = format!("{:#}", start(told, runtimes.handles()).await.unwrap_err());
        for expected in expected {
            assert!(error.contains(expected), "{expected:?} in: {error}");
        }
    };
    check(&unprobed(), &["--listen-tls", "[cdn.dns_tls]"]).await;
    check(&certified(), &["cdn.dns_tls", "ns.pem", "No such file"]).await;
}
