//! UDP, TCP, drain.

use std::sync::Arc;

use perigee_geodns::start;
use perigee_node::flags::AccessLogTarget;
use perigee_testkit::{patiently, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::bench::*;

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_steered_by_their_address() {
    let bench = Bench::start().await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    assert_eq!(bench.www(AUSTRALIA).await.to_string(), SYD);
    wait_until("two answers are counted", || bench.running.stats().queries == 2).await;
    let stats = bench.running.stats();
    assert_eq!(stats.answers_by_pop.into_iter().collect::<Vec<_>>(), [("fra".to_owned(), 1), ("syd".to_owned(), 1)]);
    let metrics = bench.admin("/metrics").await;
    let line =
        r#"perigee_dns_queries_total{node="ns1",tier="geodns",transport="udp",rcode="NOERROR",reason="nearest"} 2"#;
    assert!(metrics.contains(line), "{metrics}");
    bench.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_datagrams_at_once_are_all_answered() {
    let bench = Bench::start().await;
    let client = Client::at(GERMANY).await;
    let mut ids = Vec::new();
    // As many at once as sockets with default buffers hold.
    for round in 0..10 {
        // Garbage in between costs nobody an answer.
        for id in 0..50 {
            for message in [&b"short"[..], &query(round * 50 + id, "www.cdn.example", A)] {
                client.0.send_to(message, bench.address()).await.unwrap();
            }
        }
        for _ in 0..50 {
            let (reply, from) = client.receive().await;
            assert_eq!((from, addresses(&reply).len()), (bench.address(), 1));
            ids.push(reply.metadata.id);
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..500).collect::<Vec<_>>());
    wait_until("what was no query is counted", || bench.running.stats().dropped == 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_answered_in_order() {
    let bench = Bench::start().await;
    let mut stream = TcpStream::connect(bench.address()).await.unwrap();
    let names = ["www.cdn.example", "nobody.cdn.example", "cdn.example", "www.cdn.example"];
    let queries: Vec<u8> = (0..).zip(names).flat_map(|(id, name)| framed(&query(id, name, TXT))).collect();
    // In two pieces, cut inside a length.
    let (first, rest) = queries.split_at(framed(&query(0, names[0], TXT)).len() + 1);
    stream.write_all(first).await.unwrap();
    assert_eq!(read_framed(&mut stream).await.metadata.id, 0);
    stream.write_all(rest).await.unwrap();
    for id in 1..4 {
        assert_eq!(read_framed(&mut stream).await.metadata.id, id);
    }
    // Enough replies to be sent in several turns.
    let many: Vec<u8> = (0..2_000).flat_map(|id| framed(&query(id, "www.cdn.example", A))).collect();
    let (mut reader, mut writer) = stream.split();
    let send = async { writer.write_all(&many).await.unwrap() };
    let receive = async {
        for id in 0..2_000 {
            let length = patiently("a length", reader.read_u16()).await.unwrap();
            let mut reply = vec![0; usize::from(length)];
            patiently("a reply", reader.read_exact(&mut reply)).await.unwrap();
            assert_eq!(reply[..2], u16::to_be_bytes(id));
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_query_harms_nobody() {
    let bench = Bench::start().await;
    let mut half = TcpStream::connect(bench.address()).await.unwrap();
    half.write_all(&[0, 40, 1]).await.unwrap();
    let mut whole = TcpStream::connect(bench.address()).await.unwrap();
    whole.write_all(&framed(&query(7, "www.cdn.example", A))).await.unwrap();
    assert_eq!(read_framed(&mut whole).await.metadata.id, 7);
    // What is no query ends the connection without an answer.
    whole.write_all(&framed(b"junk")).await.unwrap();
    assert_eq!(patiently("the end", whole.read(&mut [0; 8])).await.unwrap(), 0);
    // The other one is told of the drain rather than left to wait.
    bench.running.drain().await;
    assert_eq!(patiently("the end", half.read(&mut [0; 8])).await.unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_have_all_connections() {
    let bench = Bench::start().await;
    let mut connections = Vec::new();
    for _ in 0..128 {
        let mut stream = TcpStream::connect(bench.address()).await.unwrap();
        stream.write_all(&framed(&query(1, "cdn.example", A))).await.unwrap();
        read_framed(&mut stream).await;
        connections.push(stream);
    }
    let mut one_more = TcpStream::connect(bench.address()).await.unwrap();
    assert_eq!(patiently("the end", one_more.read(&mut [0; 8])).await.unwrap_or(0), 0);
    // There is room again when one goes.
    drop(connections.pop());
    patiently("room", async {
        loop {
            let mut stream = TcpStream::connect(bench.address()).await.unwrap();
            let sent = stream.write_all(&framed(&query(1, "cdn.example", A))).await;
            if sent.is_ok() && stream.read_u16().await.is_ok() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_is_queued() {
    let bench = Bench::start().await;
    let (client, address) = (Client::at(GERMANY).await, bench.address());
    // As many as a client's socket can hold replies of by default.
    const QUEUED: u16 = 100;
    for id in 0..QUEUED {
        client.0.send_to(&query(id, "www.cdn.example", A), address).await.unwrap();
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&framed(&query(1, "www.cdn.example", A))).await.unwrap();
    bench.running.drain().await;
    for _ in 0..QUEUED {
        client.receive().await;
    }
    assert_eq!(read_framed(&mut stream).await.metadata.id, 1);
    assert_eq!(patiently("the end", stream.read(&mut [0; 8])).await.unwrap(), 0);
    // Nobody is there any more.
    assert!(TcpStream::connect(address).await.is_err());
}

/// Whoever asks without a pause gets every answer that was made, in order, and then an end: no reset overtakes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_no_stream() {
    let bench = Bench::start().await;
    let mut clients = Vec::new();
    let (told, mut seen) = tokio::sync::mpsc::channel(16);
    for _ in 0..8 {
        let (mut reader, mut writer) = TcpStream::connect(bench.address()).await.unwrap().into_split();
        // As many unanswered as a busy resolver has.
        let window = Arc::new(Semaphore::new(200));
        let answered = Arc::clone(&window);
        let asks = tokio::spawn(async move {
            for id in (0..=u16::MAX).cycle() {
                window.acquire().await.unwrap().forget();
                if writer.write_all(&framed(&query(id, "www.cdn.example", A))).await.is_err() {
                    return;
                }
            }
        });
        let told = told.clone();
        clients.push(tokio::spawn(async move {
            let mut count = 0_u64;
            let mut reply = Vec::new();
            let end = loop {
                match reader.read_u16().await {
                    Ok(length) => {
                        reply.resize(usize::from(length), 0);
                        reader.read_exact(&mut reply).await.unwrap();
                        assert_eq!(reply[..2], u16::try_from(count % 0x1_0000).unwrap().to_be_bytes());
                        count += 1;
                        answered.add_permits(1);
                        if count == 100 {
                            told.send(()).await.unwrap();
                        }
                    }
                    Err(error) => break error,
                }
            };
            asks.abort();
            (count, end)
        }));
    }
    for _ in 0..clients.len() {
        patiently("all are at it", seen.recv()).await.unwrap();
    }
    let queries = bench.running.metrics_text().unwrap();
    assert!(queries.contains("transport=\"tcp\""), "{queries}");
    patiently("the drain", bench.running.drain()).await;
    for client in clients {
        let (count, end) = patiently("a client", client).await.unwrap();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "after {count} answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nameservers_share_runtimes() {
    let bench = Bench::start().await;
    let mut second = options(&bench.folder);
    second.listen = vec!["127.0.0.54:0".parse().unwrap()];
    let has_ipv6 = perigee_testkit::has_ipv6();
    if has_ipv6 {
        second.listen.push("[::1]:0".parse().unwrap());
    }
    let second = start(second, bench.runtimes.handles()).await.unwrap();
    assert_eq!((bench.running.name(), second.name()), ("ns1", "geodns"));
    let client = Client::at(GERMANY).await;
    let reply = client.ask(second.listen_addrs()[0], &query(1, "www.cdn.example", A)).await;
    assert_eq!(addresses(&reply)[0].to_string(), FRA);
    if has_ipv6 {
        let reply = Client::at("::1").await.ask(second.listen_addrs()[1], &query(1, "www.cdn.example", A)).await;
        assert_eq!(addresses(&reply)[0].to_string(), FRA);
    }
    // What is answered is counted right after.
    wait_until("the answers are counted", || second.stats().queries == 1 + u64::from(has_ipv6)).await;
    assert_eq!(bench.running.stats().queries, 0);
    second.drain().await;
    assert_eq!(bench.www(AUSTRALIA).await.to_string(), SYD);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_log_has_a_line_of_each() {
    let bench = Bench::start().await;
    let path = bench.path("queries.log");
    let mut logged = options(&bench.folder);
    logged.query_log = AccessLogTarget::File(path.clone());
    let running = start(logged, bench.runtimes.handles()).await.unwrap();
    let client = Client::at(AUSTRALIA).await;
    client.ask(running.listen_addrs()[0], &query(1, "wWw.cdn.example", A)).await;
    client.ask(running.listen_addrs()[0], &query(1, "other.example", TXT)).await;
    running.drain().await;
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let field = |index: usize, name: &str| lines[index][name].as_str().unwrap_or("-").to_owned();
    let told = |index: usize| {
        ["name", "type", "rcode", "reason", "pop", "country", "transport"].map(|name| field(index, name))
    };
    assert_eq!(lines.len(), 2);
    assert_eq!(told(0), ["www.cdn.example", "A", "NOERROR", "nearest", "syd", "AU", "udp"]);
    assert_eq!(told(1), ["other.example", "TXT", "REFUSED", "out-of-zone", "-", "-", "udp"]);
    assert_eq!(lines[0]["scope"], 16);
}
