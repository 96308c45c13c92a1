//! Doors whose places are all taken.

use std::time::Duration;

use perigee_node::{
    door_metrics::{DoorMetrics, Ended},
    http::{Doors, Limits},
};
use perigee_testkit::{patiently, wait_until};

use crate::{
    doors::{Secure, proxied},
    http::Bench,
    wire::Client,
};

const HOUR: Duration = Duration::from_secs(3600);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS with END_HEADERS and END_STREAM: GET, http, `/`, authority x.
const GET_OVER_H2: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x01\x01x";

/// So many places, and nobody ends by time.
fn limits(connections_max: usize) -> Limits {
    let (header_timeout, idle_timeout, handshake_timeout) = (HOUR, HOUR, HOUR);
    Limits { connections_max, header_timeout, idle_timeout, handshake_timeout, ..Limits::default() }
}

fn bench(connections_max: usize) -> (Bench, DoorMetrics) {
    let metrics = DoorMetrics::default();
    let counted = metrics.clone();
    (Bench::with(1, limits(connections_max), |plain| Doors { metrics: counted, ..plain.into() }), metrics)
}

async fn asks(client: &mut Client, path: &str) {
    client.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    patiently("an answer", client.read_until(&format!("{path} 127.0.0.1"))).await;
}

#[tokio::test]
async fn whoever_has_nothing_under_way_gives_way() {
    let (bench, metrics) = bench(7);
    let mut holders = Vec::new();
    // Silent; in the first head; idle; idle for the ninth time, in the second head; HTTP/2 that never asked, and that did,
    // and neither of them answers the PING of a good end.
    for (said, requests) in
        [(&b""[..], 0), (b"GET / HT", 0), (b"", 1), (b"", 9), (b"GET / HT", 1), (PREFACE, 0), (PREFACE, 0)]
    {
        let mut holder = Client::connect(bench.address).await;
        for _ in 0..requests {
            asks(&mut holder, "/a").await;
        }
        holder.say(said).await;
        holders.push(holder);
    }
    holders[6].say(GET_OVER_H2).await;
    bench.until_open(7).await;
    let mut newcomers = Vec::new();
    for _ in 0..holders.len() {
        let mut newcomer = Client::connect(bench.address).await;
        asks(&mut newcomer, "/new").await;
        newcomers.push(newcomer);
    }
    for holder in holders {
        patiently("its end", holder.drained()).await;
    }
    assert!(metrics.ended_total(Ended::GaveWay) >= 7, "counted before they end");
}

#[tokio::test]
async fn a_handshake_gives_way_too() {
    let secure = Secure::new(limits(2));
    let silent = [Client::connect(secure.address).await, Client::connect(secure.address).await];
    secure.bench.until_open(2).await;
    let mut newcomers = [Client::connect(secure.bench.address).await, Client::connect(secure.bench.address).await];
    for newcomer in &mut newcomers {
        asks(newcomer, "/new").await;
    }
    for holder in silent {
        patiently("its end", holder.drained()).await;
    }
}

#[tokio::test]
async fn whoever_waits_for_an_answer_does_not() {
    let (bench, _metrics) = bench(3);
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(bench.address).await;
        client.say("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
        bench.service.waiting.notified().await;
        busy.push(client);
    }
    // Of these each takes the place of the one before it, though others came earlier.
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(bench.address).await;
        asks(&mut client, "/idle").await;
        idle.push(client);
    }
    for mut client in busy {
        bench.service.go.notify_one();
        assert!(!patiently("the answer", client.read_until("waited")).await.contains("connection: close"));
    }
    asks(&mut idle[2], "/still").await;
}

#[tokio::test]
async fn who_holds_much_gives_before_who_holds_one() {
    let (bench, metrics) = proxied(limits(16), &["127.0.0.1/32"]);
    let comes = async |client: &str| {
        let mut connection = Client::connect(bench.address).await;
        connection.say(format!("PROXY TCP4 {client} 192.0.2.1 1 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        patiently("an answer", connection.read_until(&format!("/ {client} 1"))).await;
        connection
    };
    let mut one = comes("203.0.113.7").await;
    let mut many = Vec::new();
    for _ in 0..15 {
        many.push(comes("203.0.113.8").await);
    }
    let _third = comes("203.0.113.9").await;
    patiently("the end of the longest silent", many.remove(0).drained()).await;
    assert!(metrics.ended_total(Ended::GaveWay) >= 1);
    one.say("GET /again HTTP/1.1\r\nHost: x\r\n\r\n").await;
    patiently("an answer", one.read_until("/again 203.0.113.7 2")).await;
}

#[tokio::test]
async fn one_client_at_work_everywhere_leaves_others_a_way_in() {
    let check = async |client_share: bool, first: usize, refused: u64| {
        let limits = Limits { client_share, ..limits(34) };
        let (bench, metrics) = proxied(limits, &["127.0.0.1/32"]);
        let head = |client: &str, path: &str| {
            format!("PROXY TCP4 {client} 192.0.2.1 1 80\r\nGET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        };
        let mut held = Vec::new();
        for _ in 0..first {
            let mut client = Client::connect(bench.address).await;
            client.say(head("203.0.113.7", "/wait")).await;
            bench.service.waiting.notified().await;
            held.push(client);
        }
        let mut next = Client::connect(bench.address).await;
        next.say(head("203.0.113.7", "/next")).await;
        if refused > 0 {
            assert_eq!(patiently("a refusal", next.read_to_end()).await, "");
        } else {
            patiently("an answer", next.read_until("/next 203.0.113.7 1")).await;
        }
        // Counted after the close.
        wait_until("the count", || metrics.ended_total(Ended::ClientLimit) == refused).await;
        let mut other = Client::connect(bench.address).await;
        other.say(head("203.0.113.8", "/other")).await;
        patiently("an answer", other.read_until("/other 203.0.113.8 1")).await;
    };
    check(true, 31, 0).await;
    check(true, 32, 1).await;
    check(false, 33, 0).await;
}
