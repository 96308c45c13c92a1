//! One client network against all others: it opens four times an upstream's connections and lets go of none, in every way that a
//! client can hold one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::Method;
use perigee_testkit::{Reply, ScriptedOrigin, client, free_port, noise, patiently, wait_until};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::Duration,
};

use crate::fleet::{Fleet, Node, SITE, loopback, replace, text};

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Another that does the same.
const HELPER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const MIB: usize = 1 << 20;

/// `/large/…` is more than sockets and flights hold, `/small/…` is answered at once; neither is stored.
async fn origin() -> ScriptedOrigin {
    let pieces = [10, 16 * MIB].map(|length| Bytes::from(noise(1, length / 10)));
    ScriptedOrigin::answering(move |seen| {
        let piece = &pieces[usize::from(seen.target.starts_with("/large"))];
        let cached = if seen.target.starts_with("/large/cached") { "max-age=600" } else { "no-store" };
        Reply::repeat(piece.clone(), 10).header("Cache-Control", cached).header("ETag", "\"1\"")
    })
    .await
}

/// An edge without a shield that may have so many connections to the origin, and waits so long for one.
async fn edge(origin: &ScriptedOrigin, connections_max: usize, connect_timeout: &str) -> (Node, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let upstream =
        format!("[site.upstream]\nconnections_max = {connections_max}\nconnect_timeout = \"{connect_timeout}\"");
    let whole = text(&origin.url(), loopback(1), &upstream);
    let (before, shield) = whole.split_once("[[shield]]").unwrap();
    let (_, site) = shield.split_once("[[site]]").unwrap();
    let file = folder.path().join("cdn.toml");
    std::fs::write(&file, format!("{before}[[site]]{site}").replace("secret_file = \"fleet.secret\"\n", "")).unwrap();
    let log = folder.path().join("access.log");
    let arguments = ["--document", file.to_str().unwrap(), "--pop", "fra", "--access-log", log.to_str().unwrap()];
    // Nothing but the share ends what the attacker does.
    let patience = ["--write-timeout", "10m", "--idle-timeout", "10m"];
    let all = [&arguments[..], &patience].concat();
    (Node::start("perigee-edge", loopback(free_port()), &all).await, folder)
}

/// How the attacker holds what it has.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Reads nothing of what it asks for.
    Deaf,
    /// The same, and it would be stored.
    DeafCached,
    /// The same, of a range.
    DeafRange,
    /// Reads a byte now and then.
    Sips,
    /// Says that it sends something, and sends the beginning.
    Mute,
    /// Sends a byte now and then.
    Trickles,
    /// Asks, goes away without a word, and comes again.
    Resets,
}

fn asked(way: Way, number: usize) -> String {
    let (line, fields) = match way {
        Way::Deaf | Way::Sips | Way::Resets => (format!("GET /large/{number}"), String::new()),
        Way::DeafCached => (format!("GET /large/cached/{number}"), String::new()),
        Way::DeafRange => (format!("GET /large/{number}"), "Range: bytes=100-16000000\r\n".to_owned()),
        Way::Mute | Way::Trickles => (format!("PUT /up/{number}"), "Content-Length: 3000\r\n".to_owned()),
    };
    format!("{line} HTTP/1.1\r\nHost: {SITE}\r\n{fields}\r\n")
}

async fn dial(from: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(server).await.unwrap()
}

/// Holds on until it is stopped. Whatever becomes of its connections is its own affair.
async fn attack(way: Way, from: Ipv4Addr, server: SocketAddr, number: usize) {
    loop {
        let mut stream = dial(from, server).await;
        if stream.write_all(asked(way, number).as_bytes()).await.is_err() {
            continue;
        }
        match way {
            Way::Deaf | Way::DeafCached | Way::DeafRange | Way::Mute => std::future::pending().await,
            // A byte at a time is what it takes; how often says nothing about the outcome.
            Way::Sips => {
                while stream.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            Way::Trickles => {
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            Way::Resets => {
                drop(stream.read_u8().await);
                stream.set_zero_linger().unwrap();
            }
        }
    }
}

fn attackers(way: Way, server: SocketAddr, count: usize) -> Vec<JoinHandle<()>> {
    (0..count).map(|number| tokio::spawn(attack(way, ATTACKER, server, number))).collect()
}

async fn metric(node: &Node, line: &str) -> f64 {
    let text = client::get(node.admin, "admin", "/metrics").await.text();
    text.lines()
        .filter(|sample| sample.contains(line))
        .filter_map(|one| one.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// Waits until the edge uses as many connections as the attacker may have.
async fn wait_for_busy(edge: &Node, count: usize) {
    patiently("the attacker's connections", async {
        while metric(edge, "perigee_upstream_connections_open{").await < count as f64 {}
    })
    .await;
}

async fn is_served(edge: SocketAddr, target: &str) {
    let answer = client::get(edge, SITE, target).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 10), "{target}: {}", answer.header("cache-status"));
}

/// The last eighth is for others, whatever the attacker does with the rest.
async fn leaves_some_to_others(way: Way) {
    let origin = origin().await;
    let (edge, _folder) = edge(&origin, 16, "50s").await;
    let attackers = attackers(way, edge.address, 64);
    if !matches!(way, Way::Resets) {
        wait_for_busy(&edge, 14).await;
    }
    for number in 0..20 {
        is_served(edge.address, &format!("/small/{number}")).await;
    }
    // None of it was waited for; of those who come and go, a connection that is closing may be.
    if !matches!(way, Way::Resets) {
        assert_eq!(metric(&edge, "perigee_upstream_exchanges_cut_total{").await, 0.0, "{way:?}");
    }
    attackers.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn who_reads_nothing_leaves_some_to_others() {
    leaves_some_to_others(Way::Deaf).await;
}

#[tokio::test]
async fn who_reads_nothing_of_what_would_be_stored_leaves_some_to_others() {
    leaves_some_to_others(Way::DeafCached).await;
}

#[tokio::test]
async fn who_reads_nothing_of_a_range_leaves_some_to_others() {
    leaves_some_to_others(Way::DeafRange).await;
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_leaves_some_to_others() {
    leaves_some_to_others(Way::Trickles).await;
}

#[tokio::test]
async fn who_goes_and_comes_again_leaves_some_to_others() {
    leaves_some_to_others(Way::Resets).await;
}

/// Where another network has what the attacker left, what stands still makes way. `said` is in the log.
async fn gives_way(way: Way, said: &str) {
    let origin = origin().await;
    let (edge, folder) = edge(&origin, 4, "50s").await;
    let mut attackers = attackers(way, edge.address, 16);
    wait_for_busy(&edge, 3).await;
    attackers.push(tokio::spawn(attack(way, HELPER, edge.address, 99)));
    wait_for_busy(&edge, 4).await;
    for number in 0..3 {
        is_served(edge.address, &format!("/small/{number}")).await;
    }
    assert!(metric(&edge, "perigee_upstream_exchanges_cut_total{").await >= 1.0);
    attackers.iter().for_each(JoinHandle::abort);
    let log = folder.path().join("access.log");
    wait_until("the log of what was cut", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(said))).await;
}

#[tokio::test]
async fn who_reads_nothing_gives_way() {
    gives_way(Way::Deaf, "\"reason\":\"slow-client\"").await;
}

#[tokio::test]
async fn who_reads_nothing_of_what_would_be_stored_gives_way() {
    gives_way(Way::DeafCached, "\"cut\":true").await;
}

#[tokio::test]
async fn who_reads_a_byte_now_and_then_gives_way() {
    gives_way(Way::Sips, "\"reason\":\"slow-client\"").await;
}

#[tokio::test]
async fn who_sends_nothing_gives_way() {
    gives_way(Way::Mute, "\"status\":408").await;
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_gives_way() {
    gives_way(Way::Trickles, "\"status\":408").await;
}

#[tokio::test]
async fn who_has_its_share_is_told_so() {
    let origin = origin().await;
    let (edge, _folder) = edge(&origin, 8, "8s").await;
    let attackers = attackers(Way::Deaf, edge.address, 7);
    wait_for_busy(&edge, 7).await;
    let mut more = client::Connection::open_from(IpAddr::V4(ATTACKER), edge.address).await;
    let answer = more.send(Method::GET, SITE, "/small/1", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert!(answer.header("cache-status").contains("detail=client-share"), "{}", answer.header("cache-status"));
    assert_eq!(metric(&edge, "outcome=\"client-share\"").await, 1.0);
    is_served(edge.address, "/small/2").await;
    attackers.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_shield_knows_whom_its_edges_ask_for() {
    let origin = origin().await;
    let upstream = "[site.upstream]\nconnections_max = 16\nconnect_timeout = \"50s\"";
    let fleet = Fleet::over(&origin.url(), &["--write-timeout", "10m"], upstream).await;
    let edge = &fleet.edges[0];
    let attackers = attackers(Way::Deaf, edge.address, 64);
    wait_for_busy(&fleet.shield, 14).await;
    // To the shield all come from one address, which would have had its share.
    for number in 0..20 {
        is_served(edge.address, &format!("/small/{number}")).await;
    }
    for node in [edge, &fleet.shield] {
        assert_eq!(metric(node, "perigee_upstream_exchanges_cut_total{").await, 0.0);
    }
    attackers.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn what_one_network_does_not_read_does_not_hold_up_others_on_a_connection_of_http_2() {
    let origin = origin().await;
    let fleet = Fleet::start(&origin, &["--write-timeout", "10m"]).await;
    // Nothing but windows is to hold anybody up.
    let patience =
        ["connect", "first_byte", "between_bytes"].map(|what| format!("{what}_timeout = \"50s\"\n")).concat();
    let text = text(&origin.url(), fleet.shield.address, &format!("[site.upstream]\n{patience}"));
    let text = text.replace("[[site]]", "protocol = \"h2\"\n\n[[site]]");
    replace(&fleet.document, &text);
    let edge = &fleet.edges[0];
    patiently("the new document", async { while metric(edge, "perigee_document_generation").await < 2.0 {} }).await;
    let attackers = attackers(Way::Deaf, edge.address, 64);
    wait_until("what it asks for", || origin.requests() >= 64).await;
    for number in 0..50 {
        is_served(edge.address, &format!("/small/{number}")).await;
    }
    attackers.iter().for_each(JoinHandle::abort);
}
