//! Sites beside each other: none evicts another, each may use what the others leave. And what goes to the disk at all.

#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use bytes::Bytes;
use perigee_semantics::key::CacheKey;
use perigee_store::{Body, DISK_BYTES_MIN, DiskAdmission, MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK, Object};
use perigee_store::{SEGMENT_BYTES, Store, StoreConfig, Tier};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::world::{Runtime, disk, head};

fn key(site: &str, number: u32) -> CacheKey {
    CacheKey::from_bytes(format!("\0{site}\0http\0{site}.example\0/{number}").as_bytes())
}

fn put(store: &Store, key: &CacheKey, bytes: usize) {
    put_as(store, key, bytes, DiskAdmission::Always);
}

fn put_as(store: &Store, key: &CacheKey, bytes: usize, admission: DiskAdmission) {
    let body = Body::Inline(Bytes::from(vec![7; bytes]));
    let object = Object { head: head("x"), fill: store.begin_for(key, admission), fence: store.fence(), body };
    store.commit(key, object);
}

async fn written(store: &Store) {
    while store.stats().disk.is_some_and(|disk| disk.outstanding > 0) {
        tokio::task::yield_now().await;
    }
}

async fn memory_store(runtime: &Handle) -> Store {
    let config = StoreConfig::new(MEMORY_BYTES_MIN, None, 1).expect("valid");
    Store::open(config, runtime, &mut Registry::default()).await.expect("opens")
}

const BODY: usize = 2_000;

/// Objects of [`BODY`] bytes that fill memory once.
fn capacity(store: &Store) -> u32 {
    put(store, &key("probe", 0), BODY);
    let each = store.stats().memory_used;
    store.remove(&key("probe", 0));
    u32::try_from(store.stats().memory_capacity / each).expect("few")
}

#[test]
fn a_flood_of_one_site_leaves_the_hot_set_of_another_in_memory() {
    // What the flood asks for twice is no scan that a good queue would let pass: it is as hot as what it would displace.
    let check = async |runtime: &Handle, asked_twice: bool, lent: bool| {
        let store = memory_store(runtime).await;
        let mut capacity = capacity(&store);
        let mut bytes = store.stats().memory_capacity;
        if lent {
            // To bodies under way: the shares are of what is left.
            store.lend(bytes / 2);
            (capacity, bytes) = (capacity / 2, bytes / 2);
            (0..2 * capacity).for_each(|number| put(&store, &key("loud", number), BODY));
            while store.stats().memory_used > bytes {
                tokio::task::yield_now().await;
            }
        }
        let hot = capacity / 4;
        (0..hot).for_each(|number| put(&store, &key("quiet", number), BODY));
        for number in 0..10 * capacity {
            put(&store, &key("loud", number), BODY);
            if asked_twice {
                assert!(store.memory_get(&key("loud", number)).is_some());
                let again = store.memory_get(&key("loud", number.saturating_sub(hot)));
                drop(again);
            }
        }
        let kept = (0..hot).filter(|number| store.memory_get(&key("quiet", *number)).is_some()).count();
        assert!(kept * 100 >= hot as usize * 99, "{kept} of {hot} are left, asked twice: {asked_twice}, lent: {lent}");
        let used = store.stats().memory_used;
        assert!(used <= bytes && used * 10 >= bytes * 9, "the loud one has what is left: {used} of {bytes}");
        assert!(store.memory_get(&key("loud", 10 * capacity - 1)).is_some(), "its newest is there");
    };
    Runtime::new().run(async |runtime| {
        check(runtime, false, false).await;
        check(runtime, true, false).await;
        check(runtime, true, true).await;
    });
}

#[test]
fn a_site_alone_uses_everything_and_gives_it_up_again() {
    Runtime::new().run(async |runtime| {
        let store = memory_store(runtime).await;
        let capacity = capacity(&store);
        (0..2 * capacity).for_each(|number| put(&store, &key("first", number), BODY));
        let has = |site: &str, numbers: std::ops::Range<u32>| {
            numbers.filter(|number| store.memory_get(&key(site, *number)).is_some()).count() as u32
        };
        let stats = store.stats();
        assert!(stats.memory_used * 10 >= stats.memory_capacity * 9, "{stats:?}");
        // Asked for, and it would be everybody's: a newcomer gets its half all the same.
        for _ in 0..3 {
            has("first", 0..2 * capacity);
        }
        for _ in 0..4 {
            for number in 0..capacity * 4 / 10 {
                if store.memory_get(&key("second", number)).is_none() {
                    put(&store, &key("second", number), BODY);
                }
            }
        }
        let second = has("second", 0..capacity * 4 / 10);
        assert!(second * 10 >= capacity * 3, "{second} of {}", capacity * 4 / 10);
    });
}

#[test]
fn a_flood_of_one_site_leaves_the_hot_set_of_another_on_disk() {
    Runtime::new().run(async |runtime| {
        let dir = tempfile::tempdir().expect("a folder");
        let config = StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, disk(dir.path(), DISK_BYTES_MIN), 1);
        let mut registry = Registry::default();
        let store = Store::open(config.expect("valid"), runtime, &mut registry).await.expect("opens");
        let large = 30_000_usize;
        let hot = 400;
        for number in 0..hot {
            put(&store, &key("quiet", number), large);
            if number % 16 == 0 {
                written(&store).await;
            }
        }
        let fill = u32::try_from(DISK_BYTES_MIN / large as u64).expect("few");
        let (mut asked, mut missed) = (0, 0);
        for round in 0..10 {
            for number in 0..fill {
                put(&store, &key("loud", round * fill + number), large);
                if number % 16 == 0 {
                    written(&store).await;
                }
                // Each of the quiet one's is asked for a few times while the loud one fills the disk once.
                asked += 1;
                missed += u32::from(store.get(&key("quiet", (asked * 7) % hot)).await.is_none());
            }
        }
        assert!(missed * 100 <= asked, "{missed} of {asked} were gone");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        // What a restart leaves is the disk's alone.
        written(&store).await;
        store.close().await;
        drop(store);
        let config = StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, disk(dir.path(), DISK_BYTES_MIN), 1);
        let store = Store::open(config.expect("valid"), runtime, &mut Registry::default()).await.expect("opens");
        let mut kept = 0;
        for number in 0..hot {
            if let Some((_, tier)) = store.get(&key("quiet", number)).await {
                assert_eq!(tier, Tier::Disk);
                kept += 1;
            }
        }
        assert!(kept * 100 >= hot * 95, "{kept} of {hot} are still on disk after ten times its size\n{text}");
        assert!(text.contains("perigee_store_lost_total 0\n"), "{text}");
        store.close().await;
    });
}

#[test]
fn a_second_fetch_goes_to_the_disk() {
    Runtime::new().run(async |runtime| {
        let dir = tempfile::tempdir().expect("a folder");
        let open = async |registry: &mut Registry| {
            let config = StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, disk(dir.path(), DISK_BYTES_MIN), 1);
            Store::open(config.expect("valid"), runtime, registry).await.expect("opens")
        };
        let mut registry = Registry::default();
        let store = open(&mut registry).await;
        let second = DiskAdmission::SecondFetch;
        put_as(&store, &key("a", 1), BODY, second);
        put_as(&store, &key("a", 2), BODY, second);
        put_as(&store, &key("a", 2), BODY, second);
        put_as(&store, &key("a", 3), BODY, DiskAdmission::Always);
        let segments = async |number: u32| {
            let fill = store.begin_for(&key("a", number), second);
            store.put_segment(fill, 0, Bytes::from(vec![1; SEGMENT_BYTES])).await;
            let body = Body::Segments { len: SEGMENT_BYTES as u64 };
            let object = Object { head: head("x"), fill, fence: store.fence(), body };
            store.commit(&key("a", number), object.clone());
            object
        };
        let first = segments(4).await;
        assert!(first.fill.is_memory_only());
        assert!(store.capacity_for(first.fill) == store.stats().memory_capacity, "it has no more than memory");
        segments(5).await;
        let again = segments(5).await;
        assert!(!again.fill.is_memory_only());
        for number in 1..=5 {
            assert!(store.memory_get(&key("a", number)).is_some(), "memory takes all");
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        for line in [
            "perigee_store_writes_total{kind=\"head\",fate=\"first-fetch\"} 4",
            "perigee_store_writes_total{kind=\"head\",fate=\"disk\"} 3",
            "perigee_store_writes_total{kind=\"segment\",fate=\"first-fetch\"} 2",
            "perigee_store_writes_total{kind=\"segment\",fate=\"disk\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        written(&store).await;
        store.close().await;
        drop(store);

        let store = open(&mut Registry::default()).await;
        for (number, kept) in [(1, false), (2, true), (3, true), (4, false), (5, true)] {
            assert_eq!(store.get(&key("a", number)).await.is_some(), kept, "{number}");
        }
        assert!(store.segment(&again, 0).await.is_some());
        // A first fetch that stays in memory hides what the disk had.
        put_as(&store, &key("a", 3), BODY, second);
        written(&store).await;
        store.close().await;
        drop(store);
        let store = open(&mut Registry::default()).await;
        assert!(store.get(&key("a", 3)).await.is_none(), "what it replaced is gone too");
    });
}
