//! What holds of partial objects whatever is asked, and whatever becomes of the origin's object meanwhile.

use std::sync::Arc;

use futures_util::future::join_all;
use http_body_util::BodyExt;

use crate::{
    purge::purge,
    ranged::{MIB, Origin, PERIOD, SEGMENT, piece, range, whole},
    world::World,
};

#[tokio::test]
async fn identical_ranges_make_one_fetch() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 64 * MIB);
    let client = async || range(&world, 0, "33000000-33000999", 33_000_000, 33_000_999).await;
    let said = join_all((0..100).map(|_| client())).await;
    assert_eq!(said.iter().filter(|said| said.contains("collapsed")).count(), 99);
    world.settle().await;
    assert_eq!(origin.asked(), "32768000-33030143");
    // So do those that find a gap in what is stored, at its beginning or in its midst.
    for (text, first, last) in
        [("34000000-34100000", 34_000_000, 34_100_000), ("33030000-33040000", 33_030_000, 33_040_000)]
    {
        let client = async || range(&world, 0, text, first, last).await;
        join_all((0..100).map(|_| client())).await;
        world.settle().await;
        assert_eq!(origin.asked().split(' ').count(), 1, "{text}");
    }
}

#[tokio::test]
async fn what_changed_is_never_joined_to_what_was() {
    for ignores_if_range in [false, true] {
        for length in [8 * SEGMENT, 8 * SEGMENT + 1, 64 * MIB] {
            let world = World::edge().await;
            let origin = Origin::tagged(&world, length);
            range(&world, 0, "0-300000", 0, 300_000).await;
            origin.says(|says| {
                (says.version, says.ignores_if_range) = (1, ignores_if_range);
                says.fields = vec![("cache-control", "max-age=60".into()), ("etag", "\"2\"".into())];
            });
            // What is there is fresh, and may be served; what is missing is of another representation.
            let late = length - 300_000;
            range(&world, 1, &format!("{late}-"), late, length - 1).await;
            world.settle().await;
            range(&world, 1, "0-300000", 0, 300_000).await;
            world.settle().await;
            origin.pulled();
            if length < 64 * MIB {
                whole(&world, 1, length).await;
            }
        }
    }
}

#[tokio::test]
async fn another_length_under_the_same_tag_is_another_representation() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 8 * SEGMENT);
    range(&world, 0, "0-9", 0, 9).await;
    origin.says(|says| (says.version, says.length) = (1, 9 * SEGMENT));
    range(&world, 1, "2000000-2000009", 2_000_000, 2_000_009).await;
    assert!(whole(&world, 1, 9 * SEGMENT).await.contains("fwd=partial"));
}

#[tokio::test]
async fn an_invalidation_takes_the_parts_too() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 8 * SEGMENT);
    range(&world, 0, "1000000-1000009", 1_000_000, 1_000_009).await;
    world.settle().await;
    world.ask("POST", "/big", &[]).await;
    origin.says(|says| says.version = 1);
    assert!(range(&world, 1, "1000000-1000009", 1_000_000, 1_000_009).await.contains("fwd=uri-miss"));
    whole(&world, 1, 8 * SEGMENT).await;
}

/// Rule 6 of the blueprint: the fence is the lowest of the segments', and a purge starts a new generation.
#[tokio::test]
async fn rule_6_parts_from_before_a_purge_are_never_joined_to_later_ones() {
    for scope in ["url /big", "prefix /b", "tag red", "site", "everything"] {
        let world = World::edge().await;
        let length = 8 * SEGMENT;
        let fields = [("cache-control", "max-age=60"), ("etag", "\"1\""), ("surrogate-key", "red")];
        let origin = Origin::of(&world, length, &fields);
        range(&world, 0, "1000000-1000009", 1_000_000, 1_000_009).await;
        range(&world, 0, "0-9", 0, 9).await;
        world.settle().await;
        purge(&world, &format!("hard {scope}")).await;
        // An origin may forget to change its tag.
        origin.says(|says| says.version = 1);
        let said = range(&world, 1, "1000000-1000009", 1_000_000, 1_000_009).await;
        assert!(said.contains("fwd=uri-miss") && said.contains("purged"), "{scope}: {said}");
        whole(&world, 1, length).await;
        world.settle().await;
        assert_eq!(origin.asked(), "786432-1048575 0-262143? 786432-1048575 0-786431? 1048576-2097151?", "{scope}");
        // A soft purge: what is there is validated before it is used, by what is missing if that comes first.
        purge(&world, &format!("soft {scope}")).await;
        assert!(range(&world, 1, "0-9", 0, 9).await.contains("fwd-status=304"), "{scope}");
        assert!(range(&world, 1, "0-9", 0, 9).await.contains("; hit"), "{scope}");
    }
}

/// The same while the fetch is under way: those who asked before have their answer, and nobody after.
#[tokio::test]
async fn rule_6_a_part_on_its_way_when_a_purge_is_acknowledged_is_not_reused() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 64 * MIB);
    range(&world, 0, "0-9", 0, 9).await;
    world.settle().await;
    let early = world.send("GET", "/big", &[("range", "bytes=20000000-24000000")]).await;
    purge(&world, "hard url /big").await;
    origin.says(|says| says.version = 1);
    range(&world, 1, "20000000-24000000", 20_000_000, 24_000_000).await;
    assert!(early.into_body().collect().await.unwrap().to_bytes() == piece(0, 20_000_000, 4_000_001));
    world.settle().await;
    assert!(range(&world, 1, "20000000-24000000", 20_000_000, 24_000_000).await.contains("; hit"));
    range(&world, 1, "0-9", 0, 9).await;
}

/// Any split of a body into ranges, in any order and with the whole asked for at any time, brings just its bytes.
#[tokio::test]
async fn any_split_into_ranges_reassembles() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..12 {
        let length = 1 + random(7 * SEGMENT);
        let world = World::edge().await;
        let fields: &[_] = if round % 4 == 3 {
            &[("cache-control", "max-age=60")]
        } else {
            &[("cache-control", "max-age=60"), ("etag", "\"1\"")]
        };
        Origin::of(&world, length, fields);
        for _ in 0..8 {
            let (a, b) = (random(length), random(length));
            let (first, last) = (a.min(b), a.max(b));
            match random(4) {
                0 => range(&world, 0, &format!("{first}-"), first, length - 1).await,
                1 => range(&world, 0, &format!("-{}", length - first), first, length - 1).await,
                _ => range(&world, 0, &format!("{first}-{last}"), first, last).await,
            };
        }
        whole(&world, 0, length).await;
        world.settle().await;
        assert!(whole(&world, 0, length).await.contains("; hit"), "round {round}: {length} bytes");
    }
}

/// One client's request under churn; 1 if it was cut.
async fn turn(world: &World, length: u64, client: u64, round: u64) -> u64 {
    let mix = (client * 7919 + round * 104_729).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let path = format!("/{}", mix % 7);
    let (a, b) = ((mix >> 5) % length, (mix >> 25) % length);
    let (first, last) = (a.min(b), a.max(b));
    let asked = match mix % 5 {
        0 => None,
        1 => Some((format!("bytes={first}-"), first, length - 1)),
        2 => Some((format!("bytes=-{}", length - first), first, length - 1)),
        _ => Some((format!("bytes={first}-{last}"), first, last)),
    };
    let range = asked.as_ref().map_or("", |(text, ..)| text.as_str());
    let headers = [("range", range)];
    let headers = if asked.is_some() { &headers[..] } else { &[] };
    let (response, body) = world.send("GET", &path, headers).await.into_parts();
    let body = crate::world::read_or_cut(body).await;
    let body = body.ok();
    let (first, last) = asked.as_ref().map_or((0, length - 1), |(_, first, last)| (*first, *last));
    let expected = if asked.is_some() { 206 } else { 200 };
    assert_eq!(response.status, expected, "{path} {range} {:?}", response.headers);
    let Some(body) = body else { return 1 };
    let version = (body[0]).wrapping_sub((first % PERIOD) as u8);
    assert!(body == piece(version, first, last - first + 1), "{path} {range}: joined");
    let tag = response.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", version + 1), "{path} {range}");
    0
}

/// Clients of all kinds, an origin that replaces its object now and then, and a memory that holds a part of it all: whatever
/// comes whole is of one version, and what is cut is cut because the version changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_churn_no_two_versions_are_joined() {
    let world = Arc::new(World::edge().await);
    let length = 5 * MIB + 333;
    let origin = Origin::tagged(&world, length);
    let mut cut = 0;
    for version in 0..4_u8 {
        origin.says(|says| {
            says.version = version;
            says.fields = vec![
                ("cache-control", "max-age=60".into()),
                ("accept-ranges", "bytes".into()),
                ("etag", format!("\"{}\"", version + 1)),
            ];
        });
        let clients = (0..24).map(|client| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut cut = 0;
                for round in 0..6 {
                    cut += turn(&world, length, client, u64::from(version) * 6 + round).await;
                }
                cut
            })
        });
        let all = tokio::time::timeout(std::time::Duration::from_secs(60), join_all(clients)).await.expect("stuck");
        let here: u64 = all.into_iter().map(Result::unwrap).sum();
        assert!(version > 0 || here == 0, "{here} responses were cut of an object that has not changed");
        cut += here;
    }
    // Seven objects, each cut once a version at most for each who was reading it.
    assert!(cut < 288, "{cut} of 576 responses were cut");
    world.settle().await;
}
