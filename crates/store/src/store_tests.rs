//! What cannot be brought about from outside: a disk that does not keep up.

use http::{HeaderMap, StatusCode};
use perigee_semantics::{
    freshness::{Freshness, LifetimeSource},
    head::StoredHead,
    time::Timestamp,
};

use super::*;
use crate::{
    config::{DISK_BYTES_MIN, DiskConfig, MEMORY_BYTES_MIN_WITH_DISK},
    window::{HEAD_LANE_BYTES, SEGMENT_LANE_BYTES},
};

pub(super) fn head() -> Arc<StoredHead> {
    let freshness = Freshness {
        response_time: Timestamp::EPOCH,
        initial_age_ms: 0,
        lifetime_ms: 1,
        source: LifetimeSource::MaxAge,
        swr_ms: None,
        sie_ms: None,
        no_cache: false,
        must_revalidate: false,
        immutable: false,
    };
    Arc::new(StoredHead {
        status: StatusCode::OK,
        fields: HeaderMap::new(),
        freshness,
        vary: Vec::new(),
        etag: None,
        last_modified: None,
        tags: Vec::new(),
    })
}

fn key() -> CacheKey {
    CacheKey::from_bytes(b"a")
}

fn commit(store: &Store) -> FillId {
    let fill = store.begin();
    store.commit(&key(), Object { head: head(), fill, fence: Seq::ZERO, body: Body::Inline(Bytes::from_static(b"x")) });
    fill
}

async fn fill_found(store: &Store) -> Option<FillId> {
    match store.get(&key()).await {
        Some((Entry::Object(object), _)) => Some(object.fill),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

async fn written(store: &Store) {
    while store.stats().disk.is_some_and(|disk| disk.outstanding > 0) {
        tokio::task::yield_now().await;
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn with_store(test: impl AsyncFnOnce(&Store)) {
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let disk = DiskConfig { dir: dir.path().to_owned(), bytes: DISK_BYTES_MIN };
        let config = StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, Some(disk), 1).unwrap();
        let store = Store::open(config, runtime.handle(), &mut Registry::default()).await.unwrap();
        test(&store).await;
        store.close().await;
    });
}

#[test]
fn an_older_head_does_not_come_back_when_the_newer_one_missed_the_disk() {
    with_store(async |store| {
        let old = commit(store);
        written(store).await;
        store.inner.memory.evict_all();
        assert_eq!(fill_found(store).await, Some(old), "the old one is on disk");

        let busy = store.inner.engine().and_then(|engine| engine.window.head(HEAD_LANE_BYTES)).expect("a free lane");
        let new = commit(store);
        assert_eq!(store.inner.metrics.heads.memory_only.get(), 1);
        assert_eq!(fill_found(store).await, Some(new));
        store.inner.memory.evict_all();
        assert_eq!(fill_found(store).await, None);

        drop(busy);
        let newest = commit(store);
        store.inner.memory.evict_all();
        assert_eq!(fill_found(store).await, Some(newest), "and the disk is used again");
    });
}

/// Heads wait a moment for others before they are written: until then they are neither lost nor in anybody's way.
#[test]
fn what_gathers_for_the_disk_is_as_good_as_on_it() {
    with_store(async |store| {
        let gathered = || store.inner.engine().map_or(0, |engine| engine.gathered_count());
        // Memory gives it up, and nothing is written before it is looked for; unless this thread had to wait longer.
        let mut seen = false;
        for _ in 0..50 {
            commit(store);
            let newest = commit(store);
            assert!(gathered() <= 1, "one takes the other's place");
            store.inner.memory.evict_all();
            assert!(store.has(&key()));
            seen |= gathered() == 1;
            assert_eq!(fill_found(store).await, Some(newest));

            commit(store);
            store.remove(&key());
            assert_eq!(gathered(), 0);
            assert_eq!(fill_found(store).await, None);
            let last = commit(store);
            written(store).await;
            assert_eq!(gathered(), 0);
            store.inner.memory.evict_all();
            assert_eq!(fill_found(store).await, Some(last), "it was written");
            store.remove(&key());
            written(store).await;
            store.inner.memory.evict_all();
            assert_eq!(fill_found(store).await, None, "and stays away");
        }
        assert!(seen, "nothing ever gathered");
    });
}

#[test]
fn a_segment_that_the_disk_does_not_take_in_time_stays_in_memory() {
    with_store(async |store| {
        let busy = store.inner.engine().and_then(|engine| engine.window.try_segment(SEGMENT_LANE_BYTES));
        let object = Object { head: head(), fill: store.begin(), fence: Seq::ZERO, body: Body::Segments { len: 1 } };
        store.put_segment(object.fill, 0, Bytes::from_static(b"x")).await;
        assert_eq!(store.inner.metrics.segments.memory_only.get(), 1);
        assert_eq!(store.segment(&object, 0).await, Some((Bytes::from_static(b"x"), Tier::Memory)));
        drop(busy);
        store.put_segment(object.fill, 0, Bytes::from_static(b"x")).await;
        assert_eq!(store.inner.metrics.segments.written.get(), 1);
    });
}

/// Whoever stores looks for a removal again after it inserted; in between the insertion is there for all to see.
#[test]
fn what_is_inserted_beside_its_removal_is_not_found() {
    with_store(async |store| {
        let fill = store.begin();
        store.remove(&key());
        let object = Object { head: head(), fill, fence: Seq::ZERO, body: Body::Inline(Bytes::from_static(b"x")) };
        let entry = store.inner.insert_anywhere(RecordKey::Head(key()), Record::Head { object, encoded: 1 });
        drop(entry);
        assert!(store.inner.memory.contains(&HeadRef(&key())), "else this shows nothing");
        assert!(store.memory_get(&key()).is_none());
        assert_eq!(fill_found(store).await, None);
        let later = commit(store);
        assert_eq!(fill_found(store).await, Some(later));
    });
}
