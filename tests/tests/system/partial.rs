//! Ranges of large objects through edge and shield: what reaches the origin is about what was asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use perigee_testkit::{Reply, ScriptedOrigin, Seen, client, noise, sha256};

use crate::fleet::{Fleet, Node, SITE, quick_edge};

const MIB: u64 = 1 << 20;
const SEGMENT: u64 = 256 << 10;

/// A synthetic object: a mebibyte of noise, again and again.
#[derive(Clone)]
struct Object {
    piece: Bytes,
    length: u64,
    etag: &'static str,
}

impl Object {
    fn new(seed: u64, length: u64, etag: &'static str) -> Self {
        Self { piece: noise(seed, MIB as usize).into(), length, etag }
    }

    fn bytes(&self, first: u64, last: u64) -> Bytes {
        let mut bytes = Vec::with_capacity((last - first + 1) as usize);
        let mut at = first;
        while at <= last {
            let from = (at % MIB) as usize;
            let count = (MIB as usize - from).min((last - at + 1) as usize);
            bytes.extend_from_slice(&self.piece[from..from + count]);
            at += count as u64;
        }
        bytes.into()
    }

    fn answer(&self, seen: &Seen, sent: &AtomicU64) -> Reply {
        let asked = seen.header("range").filter(|_| seen.header("if-range").is_none_or(|tag| tag == self.etag));
        let range = asked.and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            let end = self.length - 1;
            Some(match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) => (first, last.min(end)),
                (Ok(first), _) => (first, end),
                (_, count) => (self.length - count.ok()?, end),
            })
        });
        let reply = match range {
            Some((first, last)) => {
                sent.fetch_add(last - first + 1, Ordering::SeqCst);
                let told = format!("bytes {first}-{last}/{}", self.length);
                Reply::ok(self.bytes(first, last)).status(206).header("Content-Range", told)
            }
            None => {
                sent.fetch_add(self.length, Ordering::SeqCst);
                Reply::repeat(self.piece.clone(), self.length / MIB)
            }
        };
        reply.header("Cache-Control", "max-age=600").header("ETag", self.etag)
    }
}

/// An origin of an object, and of what it becomes; and how many content bytes it was made to send.
async fn origin(now: Object, then: Object) -> (ScriptedOrigin, Arc<AtomicU64>, Arc<AtomicBool>) {
    let (sent, changed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counting, turned) = (Arc::clone(&sent), Arc::clone(&changed));
    let origin = ScriptedOrigin::answering(move |seen| {
        if turned.load(Ordering::SeqCst) { then.answer(seen, &counting) } else { now.answer(seen, &counting) }
    })
    .await;
    (origin, sent, changed)
}

async fn range(node: &Node, object: &Object, first: u64, last: u64) -> String {
    let asked = format!("bytes={first}-{last}");
    let response = client::get_with(node.address, SITE, "/big", &[("Range", asked.as_str())]).await;
    assert_eq!(response.status, 206, "{asked}");
    assert_eq!(response.header("content-range"), format!("bytes {first}-{last}/{}", object.length));
    assert_eq!(response.sha256(), sha256(object.bytes(first, last)), "{asked}");
    let members: Vec<_> =
        response.headers.get_all("cache-status").iter().map(|value| value.to_str().unwrap()).collect();
    members.join(", ")
}

#[tokio::test]
async fn a_mebibyte_far_into_a_cold_object_is_all_that_the_origin_sends() {
    let object = Object::new(1, 256 * MIB, "\"1\"");
    let (origin, sent, _) = origin(object.clone(), object.clone()).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let (fra, syd) = (&fleet.edges[0], &fleet.edges[1]);

    let began = Instant::now();
    let said = range(fra, &object, 100 * MIB, 101 * MIB - 1).await;
    println!(
        "1 MiB at 100 MiB of a cold 256 MiB: {:?}, {} bytes from the origin",
        began.elapsed(),
        sent.load(Ordering::SeqCst)
    );
    assert!(said.contains("shield-eu; fwd=uri-miss; fwd-status=206; stored"), "{said}");
    assert!(said.contains("fra; fwd=uri-miss; fwd-status=206; stored"), "{said}");
    assert_eq!((sent.load(Ordering::SeqCst), origin.requests()), (MIB, 1));

    assert!(range(fra, &object, 100 * MIB + 7, 101 * MIB - 9).await.starts_with("fra; hit"));
    let said = range(syd, &object, 100 * MIB, 101 * MIB - 1).await;
    assert!(said.starts_with("shield-eu; hit"), "{said}");
    assert_eq!(origin.requests(), 1);

    // One byte more at either end: a segment more.
    range(fra, &object, 100 * MIB - 1, 101 * MIB).await;
    assert_eq!(sent.load(Ordering::SeqCst), MIB + 2 * SEGMENT);
    let head = client::Connection::open(fra.address).await.send(http::Method::HEAD, SITE, "/big", &[]).await;
    assert_eq!(head.header("content-length"), (256 * MIB).to_string());
    assert!(head.header("cache-status").starts_with("fra; hit"));
}

#[tokio::test]
async fn an_object_completes_over_time_and_no_byte_is_sent_twice() {
    let object = Object::new(2, 24 * MIB, "\"1\"");
    let (origin, sent, _) = origin(object.clone(), object.clone()).await;
    let fleet = Fleet::start(&origin, &[]).await;
    for (edge, at, length) in [(0, 3, 2), (1, 9, 3), (0, 20, 1), (1, 3, 4), (0, 0, 1), (1, 23, 1)] {
        range(&fleet.edges[edge], &object, at * MIB, (at + length) * MIB - 1).await;
    }
    for edge in &fleet.edges {
        let response = client::get(edge.address, SITE, "/big").await;
        assert_eq!((response.status.as_u16(), response.sha256()), (200, sha256(object.bytes(0, 24 * MIB - 1))));
    }
    assert_eq!(sent.load(Ordering::SeqCst), 24 * MIB);
    for edge in &fleet.edges {
        let response = client::get(edge.address, SITE, "/big").await;
        assert!(response.header("cache-status").contains("; hit"), "{}", response.header("cache-status"));
    }
    println!("24 MiB completed over both edges by {} requests to the origin", origin.requests());
}

#[tokio::test]
async fn what_the_origin_replaced_is_not_joined_to_what_was() {
    let (old, new) = (Object::new(3, 32 * MIB, "\"1\""), Object::new(4, 32 * MIB, "\"2\""));
    let (origin, _, changed) = origin(old.clone(), new.clone()).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let edge = &fleet.edges[0];
    range(edge, &old, 0, MIB - 1).await;
    range(edge, &old, 10 * MIB, 11 * MIB - 1).await;
    changed.store(true, Ordering::SeqCst);
    range(edge, &new, 20 * MIB, 21 * MIB - 1).await;
    range(edge, &new, 10 * MIB, 11 * MIB - 1).await;
    let response = client::get(edge.address, SITE, "/big").await;
    assert_eq!(response.sha256(), sha256(new.bytes(0, 32 * MIB - 1)));
}

#[tokio::test]
async fn an_object_with_gaps_survives_a_restart() {
    let object = Object::new(5, 64 * MIB, "\"1\"");
    let (origin, sent, _) = origin(object.clone(), object.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("{}:1GiB", folder.path().join("cache").display());
    let mut edge = quick_edge(&origin, &["--disk", &disk]).await;
    range(&edge, &object, 40 * MIB, 42 * MIB - 1).await;
    // Whatever was written behind this is on disk before it.
    edge.process.terminate();
    while edge.process.try_wait().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let edge = quick_edge(&origin, &["--disk", &disk]).await;
    assert!(range(&edge, &object, 40 * MIB, 42 * MIB - 1).await.contains("; hit"));
    assert!(range(&edge, &object, 41 * MIB, 43 * MIB - 1).await.contains("fwd=partial"));
    assert_eq!(sent.load(Ordering::SeqCst), 3 * MIB);
}
