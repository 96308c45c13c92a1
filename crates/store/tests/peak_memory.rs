//! Memory stays within its limit while much more than it holds streams through. Alone in its process: the peak is a process's.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use std::fs;

use perigee_store::{SEGMENT_BYTES, Store, StoreConfig};
use prometheus_client::registry::Registry;

use crate::world::{Runtime, body, disk};

// The allocator of the binaries: it decides how much of what was freed stays with the process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1024 * 1024;
const MEMORY_BYTES: u64 = 256 * MIB;
/// Less than what streams through: blocks are taken back all the while.
const DISK_BYTES: u64 = 512 * MIB;
const STREAM_BYTES: u64 = 1024 * MIB;

fn status_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    let kib: u64 = line.trim_start_matches(':').trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}

#[test]
fn a_gibibyte_streams_through_within_the_memory_limit() {
    Runtime::new().run(async |runtime| {
        let dir = tempfile::tempdir().expect("a folder");
        let config = StoreConfig::new(MEMORY_BYTES, disk(dir.path(), DISK_BYTES), 1).expect("valid");
        let mut registry = Registry::default();
        let store = Store::open(config, runtime, &mut registry).await.expect("opens");
        let start = std::time::Instant::now();

        let object = world::put_big(&store, "big", STREAM_BYTES as usize).await;
        report(&store, "written", start.elapsed());
        // Its last quarter is still on disk or in memory; read it as a slow client would, behind the writes.
        let segments = object.body.segments();
        for index in segments - segments / 4..segments {
            let (bytes, _) = store.segment(&object, index).await.expect("kept");
            assert!(bytes == body(object.fill, index, SEGMENT_BYTES), "segment {index}");
        }
        report(&store, "read", start.elapsed());

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        let refused = "perigee_store_writes_total{kind=\"segment\",fate=\"memory-only\"} 0";
        assert!(text.contains(refused), "segments never reached the disk:\n{text}");
        let peak = status_bytes("VmHWM");
        assert!(peak <= MEMORY_BYTES + 64 * MIB, "peak of {} MiB", peak / MIB);
        // Else the test would show nothing.
        assert!(peak > MEMORY_BYTES / 4, "peak of {} MiB", peak / MIB);
        store.close().await;
    });
}

#[expect(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]
fn report(store: &Store, phase: &str, took: std::time::Duration) {
    let mib = |bytes: u64| bytes / MIB;
    println!(
        "{phase} after {took:?}: peak {} MiB, now {} MiB, entries {} of {} MiB",
        mib(status_bytes("VmHWM")),
        mib(status_bytes("VmRSS")),
        mib(store.stats().memory_used),
        mib(store.stats().memory_capacity),
    );
}
