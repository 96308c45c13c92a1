//! Figures that decided how the store is built: `cargo bench -p perigee-store --bench figures -- WHAT`, where WHAT is
//! `eviction`, `disk`, `overhead COUNT` or `reopen FOLDER GIB`. They are printed, and told in `docs/benchmarks.md`.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a bench that prints and may panic")]

#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod world;

use std::{fs, hint::black_box, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use http::{HeaderMap, HeaderValue, header};
use perigee_semantics::{head::StoredHead, key::CacheKey};
use perigee_store::{Body, DiskAdmission, DiskConfig, Object, Store, StoreConfig};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::world::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1024 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["eviction"] => eviction(),
        ["disk"] => {
            for writes_anew in [true, false] {
                Runtime::new().run(async |runtime| disk(runtime, writes_anew).await);
            }
        }
        ["overhead", count] => {
            let count = count.parse().expect("a number");
            Runtime::new().run(async |runtime| overhead(runtime, count).await);
        }
        ["reopen", folder, gib] => {
            let gib = gib.parse().expect("a number");
            reopen(Path::new(folder), gib);
        }
        _ => println!("eviction | disk | overhead COUNT | reopen FOLDER GIB"),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Ranks by Zipf's law.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    fn next(&self, random: &mut Random) -> u64 {
        let total = self.0.last().copied().unwrap_or_default();
        let at = random.next() as f64 / u64::MAX as f64 * total;
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

/// What is asked for: by Zipf's law, and now and then somebody walks through what nobody else asks for.
fn trace(zipf: &Zipf, scans: bool) -> impl Iterator<Item = u64> {
    let mut random = Random(1);
    let mut scan = 1_u64 << 40;
    (0..2_000_000_u64).map(move |turn| {
        if scans && turn % 200_000 < 60_000 && turn % 2 == 0 {
            scan += 1;
            return scan;
        }
        // Which rank a number has is of no meaning to a cache.
        zipf.next(&mut random).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
    })
}

fn eviction() {
    const OBJECTS: usize = 200_000;
    println!("hit ratio in percent (nanoseconds a request), 2,000,000 requests, {OBJECTS} objects of one size");
    println!("zipf scans capacity | s3-fifo | lru | w-tinylfu | sieve | fifo");
    for exponent in [0.7, 0.9, 1.1] {
        let zipf = Zipf::new(OBJECTS, exponent);
        for scans in [false, true] {
            for capacity in [OBJECTS / 100, OBJECTS / 10] {
                let row: Vec<String> = [
                    EvictionConfig::from(S3FifoConfig::default()),
                    LruConfig::default().into(),
                    LfuConfig::default().into(),
                    SieveConfig {}.into(),
                    FifoConfig::default().into(),
                ]
                .into_iter()
                .map(|algorithm| {
                    let cache: Cache<u64, u64> =
                        CacheBuilder::new(capacity).with_shards(1).with_eviction_config(algorithm).build();
                    let (mut hits, mut asked) = (0_u64, 0_u64);
                    let start = Instant::now();
                    for key in trace(&zipf, scans) {
                        // Scans are not meant to hit: what they do to the others counts.
                        asked += u64::from(key < 1 << 40);
                        if cache.get(&key).is_some() {
                            hits += 1;
                        } else {
                            drop(cache.insert(key, key));
                        }
                    }
                    let nanos = start.elapsed().as_nanos() as u64 / 2_000_000;
                    format!("{:.1} ({nanos})", 100.0 * hits as f64 / asked as f64)
                })
                .collect();
                println!("{exponent} {scans} {}% | {}", 100 * capacity / OBJECTS, row.join(" | "));
            }
        }
    }
}

fn key(number: u64) -> CacheKey {
    CacheKey::from_bytes(format!("\0www\0http\0www.example.com\0/assets/images/{number:09}.jpg").as_bytes())
}

/// Seven fields, as origins send them.
fn head(number: u64) -> Arc<StoredHead> {
    let mut head = StoredHead::clone(&world::head("x"));
    let mut fields = HeaderMap::new();
    let date = HeaderValue::from_static("Mon, 23 Nov 2026 12:00:00 GMT");
    fields.insert(header::DATE, date.clone());
    fields.insert(header::SERVER, HeaderValue::from_static("nginx/1.26.2"));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    fields.insert(header::LAST_MODIFIED, date);
    fields.insert(header::ETAG, HeaderValue::from_str(&format!("\"{number:x}-1a2b\"")).unwrap());
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    head.fields = fields;
    head.tags.clear();
    Arc::new(head)
}

fn put(store: &Store, number: u64, body: &[u8]) {
    let key = key(number);
    let fill = store.begin_for(&key, DiskAdmission::Always);
    let body = Body::Inline(Bytes::copy_from_slice(body));
    store.commit(&key, Object { head: head(number), fill, fence: store.fence(), body });
}

async fn settle(store: &Store) {
    while store.stats().disk.is_some_and(|disk| disk.outstanding > 4 * MIB) {
        tokio::task::yield_now().await;
    }
}

/// A working set of three times the disk, half a disk of memory: how many requests find something, and where.
async fn disk(runtime: &Handle, writes_anew: bool) {
    const OBJECTS: usize = 100_000;
    const BYTES: usize = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let config = DiskConfig { dir: dir.path().to_owned(), bytes: 1024 * MIB };
    let config = StoreConfig::new(256 * MIB, Some(config), 1).unwrap();
    let config = if writes_anew { config } else { config.never_writing_anew() };
    let mut registry = Registry::default();
    let store = Store::open(config, runtime, &mut registry).await.unwrap();
    let zipf = Zipf::new(OBJECTS, 0.8);
    let mut random = Random(2);
    let (mut memory, mut disk, mut asked) = (0, 0, 0);
    let body = vec![7; BYTES];
    let start = Instant::now();
    for turn in 0..500_000 {
        let number = zipf.next(&mut random);
        // The first half fills the disk.
        let counts = turn >= 250_000;
        asked += u64::from(counts);
        match store.get(&key(number)).await {
            Some((_, tier)) if counts => {
                *(if tier == perigee_store::Tier::Memory { &mut memory } else { &mut disk }) += 1
            }
            Some(_) => {}
            None => {
                settle(&store).await;
                put(&store, number, &body);
            }
        }
    }
    let percent = |part: u64| 100.0 * part as f64 / asked as f64;
    println!("what is hit is written anew: {writes_anew}");
    println!("hits {:.1} %: memory {:.1}, disk {:.1}", percent(memory + disk), percent(memory), percent(disk));
    println!("{:?}, written {} MiB", start.elapsed(), store.stats().disk.unwrap().written / MIB);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text.lines()
        .filter(|line| line.contains("_kept_total ") || line.contains("_expired_total "))
        .for_each(|l| println!("{l}"));
}

fn status_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// What an object of 1 KiB takes beside its KiB.
async fn overhead(runtime: &Handle, count: u64) {
    let config = StoreConfig::new(64 * 1024 * MIB, None, 1).unwrap();
    let store = Store::open(config, runtime, &mut Registry::default()).await.unwrap();
    let before = status_bytes("VmRSS");
    let body = vec![7; 1024];
    for number in 0..count {
        put(&store, number, &body);
    }
    let (after, counted) = (status_bytes("VmRSS"), store.stats().memory_used);
    let each = |bytes: u64| bytes as f64 / count as f64 - 1024.0;
    println!("{count} objects of 1 KiB: RSS grew by {} MiB", (after - before) / MIB);
    println!(
        "overhead per object: {:.0} bytes of RSS, {:.0} by the store's own account",
        each(after - before),
        each(counted)
    );
    black_box(store.stats());
}

/// A process of its own for each opening: what is measured is a restart.
fn reopen(folder: &Path, gib: u64) {
    let open = async |runtime: &Handle| {
        let config = DiskConfig { dir: folder.to_owned(), bytes: gib * 1024 * MIB };
        let config = StoreConfig::new(512 * MIB, Some(config), 1).unwrap();
        Store::open(config, runtime, &mut Registry::default()).await.unwrap()
    };
    if !folder.exists() {
        Runtime::new().run(async |runtime| {
            let store = open(runtime).await;
            let start = Instant::now();
            // Half small objects, half large ones, by bytes.
            let body = vec![7; 30_000];
            for number in 0..gib * 1024 * MIB * 9 / 20 / 32_768 {
                settle(&store).await;
                put(&store, number, &body);
            }
            for number in 0..gib * 1024 * MIB * 9 / 20 / (16 * MIB) {
                world::put_big(&store, &format!("big {number}"), 16 * MIB as usize).await;
            }
            store.close().await;
            println!("filled in {:?}, {} MiB written", start.elapsed(), store.stats().disk.unwrap().written / MIB);
        });
        return;
    }
    Runtime::new().run(async |runtime| {
        let start = Instant::now();
        let store = open(runtime).await;
        let opened = start.elapsed();
        // The last ones were written last but the large ones.
        let hit = store.get(&key(gib * 1024 * MIB * 9 / 20 / 32_768 - 1)).await.is_some();
        println!("opened {gib} GiB in {opened:?}, first lookup (a hit: {hit}) after {:?}", start.elapsed());
        let found = async |count: u64, name: &dyn Fn(u64) -> CacheKey| {
            let mut found = 0;
            for number in 0..count {
                found += u64::from(store.get(&name(number)).await.is_some());
            }
            format!("{found} of {count}")
        };
        let small = gib * 1024 * MIB * 9 / 20 / 32_768;
        println!("small objects found: {}", found(small, &key).await);
        let big = gib * 1024 * MIB * 9 / 20 / (16 * MIB);
        println!("large objects found: {}", found(big, &|number| world::key(&format!("big {number}"))).await);
    });
}
