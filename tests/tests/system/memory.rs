//! Memory is bounded by the flag, whatever passes through.

use bytes::Bytes;
use perigee_testkit::{Reply, ScriptedOrigin, client, noise, patiently};
use sha2::{Digest, Sha256};

use crate::fleet::{Fleet, Node, SITE};

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

/// Of a node with a disk: whether it left something in memory alone, or gave a read up, since its disk did not keep up, as that of a machine that
/// others use may not: then what is asked for again is fetched again, as it must be. Said and counted as a skip.
pub(crate) async fn disk_was_slow(node: &Node) -> bool {
    let metrics = client::get(node.admin, "admin", "/metrics").await.text();
    let counted = |line: &str| {
        let is_late = line.starts_with("perigee_store_writes_total") && line.contains("fate=\"memory-only\"")
            || line.starts_with("perigee_store_read_timeouts_total");
        is_late && !line.ends_with(" 0")
    };
    let is_slow = metrics.lines().any(counted);
    if is_slow {
        perigee_tests::skip("a disk that keeps up");
    }
    is_slow
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
    let requests = origin.requests();
    let may_be_slow = requests != fetches && arguments.contains(&"--disk");
    let is_slow = may_be_slow && (disk_was_slow(edge).await || disk_was_slow(&fleet.shield).await);
    assert!(requests == fetches || is_slow, "{requests} requests instead of {fetches}");
    for (tier, node) in [("edge", edge), ("shield", &fleet.shield)] {
        let peak = node.process.peak_rss_bytes();
        println!("1 GiB twice through 256 MiB, {name}: {tier} peaked at {} MiB", peak >> 20);
        assert!(peak < MEMORY + MARGIN, "{name}, {tier}: {peak} bytes");
    }
}
