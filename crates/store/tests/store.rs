//! The store from outside: memory, disk, damage, restarts.

mod world;

use std::{fs, os::unix::fs::FileExt, path::Path};

use bytes::Bytes;
use http::HeaderMap;
use perigee_semantics::{purge::Seq, vary::VariantIndex};
use perigee_store::{
    Body, ConfigError, DISK_BYTES_MIN, Entry, INLINE_BYTES_MAX, MEMORY_BYTES_MIN, MEMORY_BYTES_MIN_WITH_DISK, Object,
    SEGMENT_BYTES, Store, StoreConfig, StoreError, Tier,
};

use crate::world::{Runtime, World, body, disk, flood, head, inline, key, object_of, put_big};

#[test]
fn what_is_committed_is_found_in_memory() {
    Runtime::new().run(async |runtime| {
        let world = World::memory(runtime).await;
        let store = &world.store;
        assert!(store.memory_get(&key("a")).is_none());
        let stored = inline(store, "a", b"hello");
        let found = object_of(store.memory_get(&key("a")));
        assert_eq!(found.head, stored.head);
        assert_eq!(found.fill, stored.fill);
        assert_eq!(found.body, Body::Inline(Bytes::from_static(b"hello")));
        assert!(store.memory_get(&key("b")).is_none());
        assert!(store.get(&key("b")).await.is_none());
        assert_eq!(object_of(store.get(&key("a")).await.map(|(entry, _)| entry)).head, stored.head);
    });
}

#[test]
fn hits_share_one_body() {
    Runtime::new().run(async |runtime| {
        let world = World::memory(runtime).await;
        inline(&world.store, "a", &[7; 1000]);
        let big = put_big(&world.store, "b", 1).await;
        let address = async || {
            let Body::Inline(bytes) = object_of(world.store.memory_get(&key("a"))).body else { panic!("inline") };
            let (segment, tier) = world.store.segment(&big, 0).await.expect("there");
            assert_eq!(tier, Tier::Memory);
            (bytes.as_ptr() as usize, segment.as_ptr() as usize)
        };
        assert_eq!(address().await, address().await);
    });
}

#[test]
fn bodies_are_copied_out_of_the_connection_they_came_from() {
    Runtime::new().run(async |runtime| {
        let world = World::memory(runtime).await;
        let buffer = Bytes::from(vec![1; 64 * 1024]);
        let fill = world.store.begin();
        let object = Object { head: head("x"), fill, fence: Seq::ZERO, body: Body::Inline(buffer.slice(10..20)) };
        world.store.commit(&key("a"), object);
        assert!(buffer.is_unique(), "the store keeps the whole buffer alive");
        assert_eq!(object_of(world.store.memory_get(&key("a"))).body.len(), 10);
    });
}

#[test]
fn a_commit_replaces_and_a_removal_removes() {
    Runtime::new().run(async |runtime| {
        for world in [World::memory(runtime).await, World::disk(runtime).await] {
            let store = &world.store;
            inline(store, "a", b"old");
            let new = inline(store, "a", b"new");
            assert_eq!(object_of(store.memory_get(&key("a"))).fill, new.fill);
            store.remove(&key("a"));
            // At once, though the disk still has both in its queue.
            assert!(store.memory_get(&key("a")).is_none());
            assert!(store.get(&key("a")).await.is_none());
            assert!(store.memory_get(&key("a")).is_none(), "nor does looking bring it back");
            let again = inline(store, "a", b"again");
            assert_eq!(object_of(store.memory_get(&key("a"))).fill, again.fill);
        }
    });
}

#[test]
fn a_fill_that_began_before_a_removal_is_not_committed() {
    Runtime::new().run(async |runtime| {
        let world = World::memory(runtime).await;
        let store = &world.store;
        let early = Object { head: head("x"), fill: store.begin(), fence: Seq::ZERO, body: Body::Inline(Bytes::new()) };
        store.remove(&key("a"));
        store.commit(&key("a"), early.clone());
        assert!(store.memory_get(&key("a")).is_none());
        store.commit(&key("b"), early);
        assert!(store.memory_get(&key("b")).is_some(), "another key is not concerned");
        inline(store, "a", b"late");
        assert!(store.memory_get(&key("a")).is_some());
    });
}

#[test]
fn inline_bodies_have_a_limit() {
    Runtime::new().run(async |runtime| {
        let world = World::memory(runtime).await;
        inline(&world.store, "a", &vec![0; INLINE_BYTES_MAX]);
        assert!(world.store.memory_get(&key("a")).is_some());
        inline(&world.store, "a", &vec![0; INLINE_BYTES_MAX + 1]);
        assert!(world.store.memory_get(&key("a")).is_none(), "nor does what was replaced stay");
    });
}

#[test]
fn variants_are_kept_beside_objects() {
    Runtime::new().run(async |runtime| {
        for world in [World::memory(runtime).await, World::disk(runtime).await] {
            let store = &world.store;
            let mut index = VariantIndex::default();
            let selector = vec![(http::header::ACCEPT_LANGUAGE, Some("de".to_owned()))];
            assert!(index.insert(selector, 42, 64).is_empty());
            store.put_variants(&key("a"), index);
            inline(store, "variant of a", b"Hallo");
            let check = |entry: Option<Entry>| {
                let Some(Entry::Variants(index)) = entry else { panic!("{entry:?}") };
                let german: HeaderMap =
                    [(http::header::ACCEPT_LANGUAGE, "de".parse().expect("a value"))].into_iter().collect();
                assert_eq!(index.select(&german), Some(42));
            };
            if world.dir.is_some() {
                flood(store).await;
                assert!(store.memory_get(&key("a")).is_none(), "the flood was too small");
            }
            check(store.get(&key("a")).await.map(|(entry, _)| entry));
            check(store.memory_get(&key("a")));
            store.remove(&key("a"));
            assert!(store.get(&key("a")).await.is_none());
        }
    });
}

#[test]
fn what_memory_let_go_is_read_from_disk() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        let store = &world.store;
        let small = inline(store, "small", b"hello");
        let big = put_big(store, "big", 3 * SEGMENT_BYTES + 5).await;
        flood(store).await;
        assert!(store.memory_get(&key("small")).is_none(), "the flood was too small");

        let (entry, tier) = store.get(&key("small")).await.expect("on disk");
        let found = object_of(Some(entry));
        assert_eq!((tier, found.fill, &found.body), (Tier::Disk, small.fill, &small.body));
        assert_eq!(found.head, small.head);
        assert!(store.memory_get(&key("small")).is_some(), "in memory again");

        let found = object_of(store.get(&key("big")).await.map(|(entry, _)| entry));
        assert_eq!(found.body.segments(), 4);
        for index in 0..4 {
            let (bytes, tier) = store.segment(&found, index).await.expect("on disk");
            assert_eq!(tier, Tier::Disk);
            assert!(bytes == body(big.fill, index, bytes.len()), "segment {index}");
        }
        assert!(store.segment(&found, 4).await.is_none());
        let stats = store.stats();
        assert!(stats.memory_used <= stats.memory_capacity, "{stats:?}");
        assert!(stats.disk.expect("a disk").read > 0);
    });
}

#[test]
fn readers_beside_fills_and_removals_never_see_a_mixture() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = world.store.clone();
                runtime.spawn(async move {
                    let own = format!("own {writer}");
                    for turn in 0..500 {
                        let text = format!("{writer}-{turn}");
                        let object = Object {
                            head: head(&text),
                            fill: store.begin(),
                            fence: Seq::ZERO,
                            body: Body::Inline(text.clone().into()),
                        };
                        store.commit(&key("shared"), object.clone());
                        store.commit(&key(&own), object);
                        if let Some((entry, _)) = store.get(&key("shared")).await {
                            let found = object_of(Some(entry));
                            let Body::Inline(body) = &found.body else { panic!("inline") };
                            assert_eq!(found.head.fields["x-test"].as_bytes(), body);
                        }
                        if turn % 7 == 0 {
                            store.remove(&key("shared"));
                        }
                        store.remove(&key(&own));
                        assert!(store.get(&key(&own)).await.is_none(), "removed by the only one who writes it");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("no mixture");
        }
    });
}

#[test]
fn a_removed_object_does_not_come_back_from_disk() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        inline(&world.store, "a", b"old");
        flood(&world.store).await;
        world.store.remove(&key("a"));
        assert!(world.store.get(&key("a")).await.is_none());
        let reopened = world.reopen(runtime).await;
        assert!(reopened.store.get(&key("a")).await.is_none(), "nor after a restart");
    });
}

#[test]
fn a_reopened_store_has_what_was_written() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        let small = inline(&world.store, "small", b"hello");
        let big = put_big(&world.store, "big", SEGMENT_BYTES + 1).await;
        let last = world.store.begin();
        let world = world.reopen(runtime).await;
        let store = &world.store;
        assert!(store.begin() > last, "no fill is named twice");
        assert_eq!(object_of(store.get(&key("small")).await.map(|(entry, _)| entry)).body, small.body);
        let found = object_of(store.get(&key("big")).await.map(|(entry, _)| entry));
        for (index, len) in [(0, SEGMENT_BYTES), (1, 1)] {
            let (bytes, _) = store.segment(&found, index).await.expect("on disk");
            assert!(bytes == body(big.fill, index, len));
        }
    });
}

#[test]
fn flipped_bytes_are_never_served() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        let small = inline(&world.store, "small", &[0x5a; 20_000]);
        let big = put_big(&world.store, "big", 8 * SEGMENT_BYTES).await;
        let dir = world.dir.as_ref().expect("a disk").path().to_owned();
        flood(&world.store).await;
        assert_eq!(flip_every_body(&dir, &small, &big), 9, "bodies found to damage");
        let store = &world.store;
        for index in 0..8 {
            assert!(store.segment(&big, index).await.is_none(), "segment {index} was served");
        }
        assert!(store.get(&key("small")).await.is_none());
        // And it goes on.
        inline(store, "small", b"fresh");
        assert!(store.memory_get(&key("small")).is_some());
    });
}

/// Flips one bit in each body of the two objects, in whichever file it lies; returns how many it found.
fn flip_every_body(dir: &Path, small: &Object, big: &Object) -> usize {
    let Body::Inline(inline) = &small.body else { panic!("inline") };
    let mut marks: Vec<Vec<u8>> =
        (0..8).map(|index| body(big.fill, index, SEGMENT_BYTES)[9000..9064].to_vec()).collect();
    marks.push(inline[5000..5064].to_vec());
    let all = marks.len();
    let mut paths: Vec<_> = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    // What was written first lies in the first files: the search ends early.
    paths.sort();
    for path in paths {
        let content = fs::read(&path).expect("a file");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
        marks.retain(|mark| {
            let Some(at) = content.windows(mark.len()).position(|window| window == mark) else { return true };
            file.write_all_at(&[content[at] ^ 1], at as u64).expect("writes");
            false
        });
        if marks.is_empty() {
            break;
        }
    }
    all - marks.len()
}

#[test]
fn a_missing_segment_is_a_miss() {
    Runtime::new().run(async |runtime| {
        let world = World::memory(runtime).await;
        let store = &world.store;
        let fill = store.begin();
        store.put_segment(fill, 0, Bytes::from(vec![0; SEGMENT_BYTES])).await;
        store.put_segment(fill, 1, Bytes::from(vec![0; 9])).await;
        let of =
            |len: usize| Object { head: head("x"), fill, fence: Seq::ZERO, body: Body::Segments { len: len as u64 } };
        assert!(store.segment(&of(SEGMENT_BYTES + 9), 1).await.is_some());
        assert!(store.segment(&of(SEGMENT_BYTES + 10), 1).await.is_none(), "not the length the head says");
        assert!(store.segment(&of(2 * SEGMENT_BYTES), 0).await.is_some());
        assert!(store.segment(&of(9 * SEGMENT_BYTES), 2).await.is_none());
        let arriving = Object { body: Body::Segments { len: Body::LEN_UNKNOWN }, ..of(1) };
        assert!(store.segment(&arriving, 1).await.is_some(), "nobody knows yet which segment is the last");
        store.commit(&key("a"), arriving);
        assert!(store.memory_get(&key("a")).is_none(), "not complete");
        store.put_segment(fill, 2, Bytes::from(vec![0; SEGMENT_BYTES + 1])).await;
        assert!(store.segment(&of(9 * SEGMENT_BYTES), 2).await.is_none(), "larger than a segment");
    });
}

#[test]
fn one_folder_has_one_store() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        let path = world.dir.as_ref().expect("a disk").path();
        let error = world::open(runtime, path).await.map(|_| ()).expect_err("locked");
        assert!(matches!(&error, StoreError::Locked { dir } if dir == path), "{error}");
        world.store.close().await;
        world::open(runtime, path).await.expect("free again").close().await;
    });
}

#[test]
fn a_closed_store_serves_what_it_has_and_takes_no_more() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        inline(&world.store, "a", b"kept");
        world.store.close().await;
        inline(&world.store, "b", b"refused");
        assert!(world.store.memory_get(&key("a")).is_some());
        assert!(world.store.get(&key("b")).await.is_none());
        world.store.remove(&key("a"));
        assert!(world.store.get(&key("a")).await.is_none());
        world.store.close().await;
    });
}

#[test]
fn an_unwritable_folder_is_refused_with_its_name() {
    Runtime::new().run(async |runtime| {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a-file");
        fs::write(&path, "").expect("writes");
        let text = world::open(runtime, &path).await.map(|_| ()).expect_err("no folder").to_string();
        assert!(text.contains("a-file cannot be written") && text.contains("choose another"), "{text}");
    });
}

#[test]
fn sizes_are_exposed_as_metrics() {
    Runtime::new().run(async |runtime| {
        let world = World::disk(runtime).await;
        inline(&world.store, "a", b"x");
        world.store.memory_get(&key("a")).expect("there");
        let text = world.metrics();
        let check = |line: &str| assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        check("perigee_store_memory_entries 1");
        check(&format!("perigee_store_disk_capacity_bytes {}", world::DISK_BYTES));
        check("perigee_store_lookups_total{kind=\"head\",found=\"memory\"} 1");
        check("perigee_store_writes_total{kind=\"head\",fate=\"disk\"} 1");
    });
}

#[test]
fn the_configuration_is_checked_before_anything_is_opened() {
    let temp = tempfile::tempdir().expect("a folder");
    let config = StoreConfig::new(MEMORY_BYTES_MIN, disk(temp.path(), DISK_BYTES_MIN), 0);
    assert_eq!(config, Err(ConfigError::MemoryWithDisk { bytes: MEMORY_BYTES_MIN }));
    assert!(StoreConfig::new(MEMORY_BYTES_MIN_WITH_DISK, disk(temp.path(), DISK_BYTES_MIN), 0).is_ok());
    fn sendable<T: Clone + Send + Sync + 'static>() {}
    sendable::<Store>();
}
