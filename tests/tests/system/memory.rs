//! Memory is bounded by the flag, whatever passes through.

use bytes::Bytes;
use perigee_testkit::{Reply, ScriptedOrigin, client, noise, patiently};
use sha2::{Digest, Sha256};

use crate::fleet::{Fleet, SITE};

const PIECE: usize = 1 << 20;
const PIECES: u64 = 1024;
const MEMORY: u64 = 256 << 20;
const MARGIN: u64 = 64 << 20;

#[tokio::test]
async fn a_gibibyte_passes_both_tiers_in_bounded_memory() {
    // Twice from the origin: an object larger than its share of the memory is not stored.
    check("memory only", &["--memory", "256MiB"], 2).await;
}

#[tokio::test]
async fn a_gibibyte_is_stored_and_served_from_disk_in_bounded_memory() {
    check("with a disk", &["--memory", "256MiB", "--disk", "FOLDER:3GiB"], 1).await;
}

async fn check(name: &str, arguments: &[&str], fetches: usize) {
    let piece = Bytes::from(noise(9, PIECE));
    let mut expected = Sha256::new();
    for _ in 0..PIECES {
        expected.update(&piece);
    }
    let expected = expected.finalize();
    let origin = ScriptedOrigin::answering(move |_| {
        Reply::repeat(piece.clone(), PIECES).header("Cache-Control", "max-age=600").header("ETag", "\"1\"")
    })
    .await;
    let fleet = Fleet::start(&origin, arguments).await;
    let edge = &fleet.edges[0];
    let mut connection = client::Connection::open(edge.address).await;
    for turn in 0..2 {
        let mut exchange = connection.begin_get(SITE, "/big").await;
        let mut hash = Sha256::new();
        let mut length = 0;
        while let Some(data) = patiently("the next piece", exchange.next()).await {
            let data = data.unwrap_or_else(|error| panic!("turn {turn}: cut after {length} bytes: {error}"));
            length += data.len() as u64;
            hash.update(&data);
        }
        assert_eq!((length, hash.finalize()), (PIECES * PIECE as u64, expected), "turn {turn}");
        drop(exchange);
        connection = client::Connection::open(edge.address).await;
    }
    assert_eq!(origin.requests(), fetches);
    for (tier, node) in [("edge", edge), ("shield", &fleet.shield)] {
        let peak = node.process.peak_rss_bytes();
        println!("1 GiB twice through 256 MiB, {name}: {tier} peaked at {} MiB", peak >> 20);
        assert!(peak < MEMORY + MARGIN, "{name}, {tier}: {peak} bytes");
    }
}
