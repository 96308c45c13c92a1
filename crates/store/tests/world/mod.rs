//! What the tests of the store share.
#![expect(unreachable_pub, reason = "shared by several test binaries")]

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use perigee_semantics::{
    freshness::{Freshness, LifetimeSource},
    head::StoredHead,
    key::CacheKey,
    purge::Seq,
    time::Timestamp,
};
use perigee_store::{
    Body, DiskConfig, Entry, FillId, MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK, Object, SEGMENT_BYTES, Store,
    StoreConfig, StoreError,
};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::runtime::Handle;

/// Room for all that a test writes, so that nothing leaves the disk by age.
pub const DISK_BYTES: u64 = 384 * 1024 * 1024;

/// A runtime for the store and another for its user, as in a node.
pub struct Runtime {
    store: tokio::runtime::Runtime,
    core: tokio::runtime::Runtime,
}

impl Runtime {
    pub fn new() -> Self {
        let store =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(16).enable_all().build();
        let core = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { store: store.expect("a runtime"), core: core.expect("a runtime") }
    }

    pub fn run(self, test: impl AsyncFnOnce(&Handle)) {
        self.core.block_on(test(self.store.handle()));
    }
}

pub struct World {
    pub store: Store,
    pub dir: Option<TempDir>,
    registry: Registry,
}

impl World {
    pub async fn memory(runtime: &Handle) -> Self {
        let config = StoreConfig::new(MEMORY_BYTES_MIN, None, 1).expect("valid");
        let mut registry = Registry::default();
        Self { store: Store::open(config, runtime, &mut registry).await.expect("opens"), dir: None, registry }
    }

    pub async fn disk(runtime: &Handle) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self::at(runtime, dir).await
    }

    async fn at(runtime: &Handle, dir: TempDir) -> Self {
        let mut registry = Registry::default();
        let store = Store::open(config(dir.path()), runtime, &mut registry).await.expect("opens");
        Self { store, dir: Some(dir), registry }
    }

    /// Closes the store and opens its folder again.
    pub async fn reopen(self, runtime: &Handle) -> Self {
        self.store.close().await;
        Self::at(runtime, self.dir.expect("a disk")).await
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("encodes");
        text
    }
}

pub fn disk(dir: &Path, bytes: u64) -> Option<DiskConfig> {
    Some(DiskConfig { dir: dir.to_owned(), bytes })
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, disk(dir, DISK_BYTES), 1).expect("valid")
}

pub async fn open(runtime: &Handle, dir: &Path) -> Result<Store, StoreError> {
    Store::open(config(dir), runtime, &mut Registry::default()).await
}

pub fn key(name: &str) -> CacheKey {
    CacheKey::from_bytes(name.as_bytes())
}

pub fn head(value: &str) -> Arc<StoredHead> {
    let mut fields = HeaderMap::new();
    fields.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.append("x-test", HeaderValue::from_str(value).expect("a value"));
    fields.append("x-test", HeaderValue::from_static("twice"));
    Arc::new(StoredHead {
        status: StatusCode::OK,
        fields,
        freshness: Freshness {
            response_time: Timestamp::from_millis(1_000),
            initial_age_ms: 0,
            lifetime_ms: 60_000,
            source: LifetimeSource::MaxAge,
            swr_ms: None,
            sie_ms: Some(5),
            no_cache: false,
            must_revalidate: true,
            immutable: false,
        },
        vary: Vec::new(),
        etag: None,
        last_modified: None,
        tags: vec!["tag".into()],
    })
}

/// Commits a small object.
pub fn inline(store: &Store, name: &str, body: &[u8]) -> Object {
    let object = Object {
        head: head(name),
        fill: store.begin(),
        fence: Seq::ZERO,
        body: Body::Inline(Bytes::copy_from_slice(body)),
    };
    store.commit(&key(name), object.clone());
    object
}

/// The bytes of a segment: its own, and different everywhere.
pub fn body(fill: FillId, index: u32, len: usize) -> Bytes {
    let mut state = fill.as_u64() ^ (u64::from(index) << 40) ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Stores a body of `len` bytes in segments and commits it.
pub async fn put_big(store: &Store, name: &str, len: usize) -> Object {
    let object =
        Object { head: head(name), fill: store.begin(), fence: Seq::ZERO, body: Body::Segments { len: len as u64 } };
    for index in 0..object.body.segments() {
        let len = object.body.segment_len(index).expect("below the end");
        store.put_segment(object.fill, index, body(object.fill, index, len)).await;
    }
    store.commit(&key(name), object.clone());
    object
}

/// Writes more than memory holds, and waits until the disk has all of it.
pub async fn flood(store: &Store) {
    let stats = store.stats();
    let segments = 2 * stats.memory_capacity / SEGMENT_BYTES as u64;
    put_big(store, "flood", segments as usize * SEGMENT_BYTES).await;
    while store.stats().disk.is_some_and(|disk| disk.outstanding > 0) {
        tokio::task::yield_now().await;
    }
}

pub fn object_of(entry: Option<Entry>) -> Object {
    match entry {
        Some(Entry::Object(object)) => object,
        other => panic!("no object: {other:?}"),
    }
}
