//! Doors that somebody fills: whoever else comes is served all the same.

use std::net::SocketAddr;

use perigee_testkit::{Reply, ScriptedOrigin, client, patiently};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fleet::{Node, quick_edge};

/// Places of an admin API, and open pages of it.
const ADMIN_PLACES: usize = 256;
const PAGES: usize = 64;

async fn metric(node: &Node, series: &str) -> f64 {
    let text = client::get(node.admin, "admin", "/metrics").await.text();
    let (name, label) = series.split_once(' ').unwrap_or((series, ""));
    let mut samples = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    samples.find_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or_else(|| panic!("{series}: {text}"))
}

async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(TcpStream::connect(address).await.unwrap());
    }
    all
}

/// A page's stream of events, of which one has come.
async fn page(address: SocketAddr) -> TcpStream {
    let mut page = TcpStream::connect(address).await.unwrap();
    page.write_all(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    next_event(&mut page).await;
    page
}

async fn next_event(page: &mut TcpStream) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(b"data: [") {
        let count = patiently("an event", page.read(&mut byte)).await.unwrap();
        assert_eq!(count, 1, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
}

#[tokio::test]
async fn an_admin_api_whose_places_are_taken_answers_all_the_same() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x")).await;
    let edge = quick_edge(&origin, &[]).await;
    let _silent = silent(edge.admin, ADMIN_PLACES + 50).await;
    let mut pages = Vec::new();
    for _ in 0..PAGES {
        pages.push(page(edge.admin).await);
    }
    for path in ["/healthz", "/readyz", "/v1/status", "/"] {
        assert_eq!(patiently(path, client::get(edge.admin, "localhost", path)).await.status, 200, "{path}");
    }
    // Some of the silent ones may still be on their way through a full queue of the system's.
    let gave_way = async || metric(&edge, "perigee_admin_connections_gave_way_total").await;
    patiently("places being given up", async { while gave_way().await < (50 + PAGES) as f64 {} }).await;
    // Those who look on are not the ones that gave way.
    for page in &mut pages {
        next_event(page).await;
    }
    assert_eq!(metric(&edge, "perigee_page_viewers").await, PAGES as f64);
}
