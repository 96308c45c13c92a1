mod nodes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use perigee_testkit::client::get;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
};

use super::*;
use crate::{
    admin::{AdminBuilder, AdminServing},
    authorize::Authorizer,
    metrics::NodeMetrics,
    state::{NodeKind, NodeState},
};

/// Counts how often it was asked.
struct Counting(u64);

impl Source for Counting {
    fn tick(&mut self, _now_ms: u64) {
        self.0 += 1;
    }
    fn tell(&mut self, _now_ms: u64) -> String {
        format!("{{\"ticks\":{}}}", self.0)
    }
}

fn serve() -> (AdminServing, Arc<Feed>) {
    let state = NodeState::new(NodeKind::Edge, "e1");
    let metrics = Arc::new(NodeMetrics::new(&state));
    let feed = Feed::start(&Handle::current(), Counting(0));
    let builder = AdminBuilder::new(state, metrics, Authorizer::new(Default::default()))
        .page(Arc::clone(&feed), PageOptions::default());
    (builder.serve(&Handle::current(), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(), feed)
}

/// A stream of events as a browser opens it.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v1/live HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    stream
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer)).await;
        let count = read.unwrap_or_else(|_| panic!("no {wanted:?} in {text:?}")).unwrap();
        assert!(count > 0, "ended without {wanted:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

#[tokio::test]
async fn assets_are_typed_and_confined() {
    let (admin, _feed) = serve();
    let check = async |path: &str, kind: &str, holds: &str| {
        let reply = get(admin.local_addr(), "a", path).await;
        assert_eq!(reply.status.as_u16(), 200, "{path}");
        assert_eq!(reply.header("content-type"), kind, "{path}");
        assert_eq!(reply.header("content-security-policy"), POLICY, "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert!(String::from_utf8_lossy(&reply.body).contains(holds), "{path} without {holds}");
    };
    check("/", "text/html; charset=utf-8", "<!doctype html>").await;
    check("/page/page.css", "text/css; charset=utf-8", "prefers-color-scheme").await;
    check("/page/land.path", "text/plain; charset=utf-8", "M561 719").await;
    for (path, _) in SCRIPTS {
        check(path, "text/javascript; charset=utf-8", "// ").await;
    }
}

#[test]
fn the_page_names_only_what_is_served_and_obeys_its_own_policy() {
    let named = HTML.split(['"', '\'']).filter(|text| text.starts_with("/page/"));
    for path in named {
        assert!(path == "/page/page.css" || SCRIPTS.iter().any(|(script, _)| *script == path), "{path}");
    }
    for wrong in ["style=", "onclick=", "<style", "src=\"http", "href=\"http", "=\"//"] {
        assert!(!HTML.contains(wrong), "{wrong} is not in an offline page of a strict policy");
    }
    let bytes: usize =
        SCRIPTS.iter().map(|(_, script)| script.len()).sum::<usize>() + HTML.len() + CSS.len() + LAND.len();
    assert!(bytes < 96 * 1024, "{bytes} bytes in every binary");
    assert!(LAND.len() < 40 * 1024);
}

#[tokio::test]
async fn events_come_each_second_and_end_with_the_api() {
    let (admin, _feed) = serve();
    let mut stream = open(admin.local_addr()).await;
    let first = read_until(&mut stream, "data: [{\"ticks\":").await;
    assert!(first.contains("content-type: text/event-stream\r\n") && first.contains("retry: 2000\n\n"), "{first}");
    read_until(&mut stream, "data: [{\"ticks\":").await;
    // A page that is open does not hold an end up.
    tokio::time::timeout(Duration::from_secs(20), admin.end()).await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn so_many_pages_and_no_more() {
    let (admin, feed) = serve();
    let mut streams = Vec::new();
    for _ in 0..CLIENTS_MAX {
        let mut stream = open(admin.local_addr()).await;
        read_until(&mut stream, "retry: 2000").await;
        streams.push(stream);
    }
    let refused = get(admin.local_addr(), "a", "/v1/live").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
    assert_eq!(feed.counted(), (CLIENTS_MAX as i64, 1, 0));
    drop(streams.pop());
    perigee_testkit::wait_until("a place is free", || feed.clients_free() == 1).await;
    read_until(&mut open(admin.local_addr()).await, "data: ").await;
}

#[tokio::test]
async fn a_listener_that_is_slow_is_owed_the_last_alone() {
    let (_admin, feed) = serve();
    let mut slow = feed.listening();
    assert!(feed::next_line(&mut slow).await.is_some_and(|line| line.contains("ticks")));
    let mut quick = feed.listen();
    for _ in 0..3 {
        quick.changed().await.unwrap();
    }
    assert!(feed::next_line(&mut slow).await.is_some_and(|line| line.contains("ticks")));
    let (_, _, missed) = feed.counted();
    assert!(missed >= 2, "{missed} missed");
}

#[tokio::test]
async fn nobody_listens_nothing_is_told() {
    let feed = Feed::start(&Handle::current(), Counting(0));
    let mut listener = feed.listen();
    listener.wait_for(|told| matches!(told, Told::Figures(_))).await.unwrap();
    drop(listener);
    let mut late = feed.listen();
    feed.close();
    late.wait_for(|told| matches!(told, Told::Closed)).await.unwrap();
}
