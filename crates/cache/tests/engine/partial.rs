//! Ranges of cold objects, and objects with gaps that complete over time.

use http_body_util::BodyExt;

use crate::{
    ranged::{MIB, Origin, SEGMENT, piece, range, status, whole},
    world::World,
};

#[tokio::test]
async fn a_range_far_into_a_cold_object_pulls_what_it_covers() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 256 * MIB);
    let (first, last) = (100 * MIB, 101 * MIB - 1);
    let said = range(&world, 0, &format!("{first}-{last}"), first, last).await;
    assert!(said.contains("fwd=uri-miss; fwd-status=206; stored"), "{said}");
    assert_eq!((origin.asked(), origin.pulled()), (format!("{first}-{last}"), MIB));
    // The same, and what lies within it.
    for (from, to) in [(first, last), (first + 1, first + 1), (last - 300_000, last)] {
        let said = range(&world, 0, &format!("{from}-{to}"), from, to).await;
        assert!(said.contains("; hit"), "{said}");
    }
    assert_eq!(world.origin.fetches(), 1);
    // What goes beyond it: the missing segments alone, and only of the same representation.
    let said = range(&world, 0, &format!("{}-{}", first - 1, last + 1), first - 1, last + 1).await;
    assert!(said.contains("fwd=partial"), "{said}");
    world.settle().await;
    let (before, after) = (first - SEGMENT, last + SEGMENT);
    assert_eq!(origin.asked(), format!("{before}-{}? {}-{after}?", first - 1, last + 1));
    assert_eq!(origin.pulled(), 2 * SEGMENT);
    let head = world.ask("HEAD", "/big", &[]).await.0;
    assert!(status(&head).contains("; hit") && head.headers()["content-length"] == (256 * MIB).to_string());
}

#[tokio::test]
async fn an_object_completes_over_time() {
    let world = World::edge().await;
    let length = 10 * SEGMENT + 77;
    let origin = Origin::tagged(&world, length);
    range(&world, 0, "300000-300009", 300_000, 300_009).await;
    range(&world, 0, "1500000-1500009", 1_500_000, 1_500_009).await;
    assert_eq!(origin.asked(), "262144-524287 1310720-1572863?");
    // One request for each run of missing segments, and none for what is there.
    let said = whole(&world, 0, length).await;
    assert!(said.contains("fwd=partial"), "{said}");
    world.settle().await;
    assert_eq!(origin.asked(), format!("0-262143? 524288-1310719? 1572864-{}?", length - 1));
    origin.pulled();
    assert!(whole(&world, 0, length).await.contains("; hit"));
    for (text, first, last) in [("-5", length - 5, length - 1), ("2621440-", 2_621_440, length - 1)] {
        assert!(range(&world, 0, text, first, last).await.contains("; hit"));
    }
    assert_eq!((origin.asked(), origin.pulled()), (String::new(), 0));
}

#[tokio::test]
async fn suffixes_open_ranges_and_what_lies_outside() {
    let world = World::edge().await;
    let length = 6 * SEGMENT + 1000;
    let origin = Origin::tagged(&world, length);
    // Nobody knows yet where it begins: asked as the client did, and of what came the whole segments are kept.
    range(&world, 0, "-300000", length - 300_000, length - 1).await;
    assert_eq!(origin.asked(), "-300000");
    assert!(range(&world, 0, "-1001", length - 1001, length - 1).await.contains("; hit"));
    assert!(range(&world, 0, "1572864-", 1_572_864, length - 1).await.contains("; hit"));
    assert!(range(&world, 0, "1300000-", 1_300_000, length - 1).await.contains("fwd=partial"));
    world.settle().await;
    assert_eq!(origin.asked(), "1048576-1310719?");
    let outside = [("range", &*format!("bytes={length}-"))];
    let (response, _) = world.ask("GET", "/big", &outside).await;
    assert_eq!(response.status(), 416);
    assert_eq!(response.headers()["content-range"], format!("bytes */{length}"));
    // On a cold object, the origin says so.
    let (response, _) = world.ask("GET", "/cold", &[("range", "bytes=9999999-")]).await;
    assert_eq!(response.status(), 416);
    // A segment reaches the end of the whole: what lies behind it is known without asking again.
    let (response, _) = world.ask("GET", "/other", &[("range", &*format!("bytes={}-", length + 5))]).await;
    assert_eq!(response.status(), 416);
    assert_eq!(response.headers()["content-range"], format!("bytes */{length}"));
}

#[tokio::test]
async fn several_ranges_of_an_object_with_gaps() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 8 * SEGMENT);
    range(&world, 0, "0-9", 0, 9).await;
    let (response, body) = world.ask("GET", "/big", &[("range", "bytes=0-1,1048576-1048577,2097150-")]).await;
    assert_eq!(response.status(), 206);
    let body = body.unwrap();
    assert_eq!(response.headers()["content-length"], body.len().to_string());
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("multipart/byteranges"));
    assert!(status(&response).contains("fwd=partial"));
    world.settle().await;
    assert_eq!(origin.asked(), "0-262143 1048576-1310719? 1835008-2097151?");
    let (response, _) = world.ask("GET", "/big", &[("range", "bytes=0-1,1048576-1048577,2097150-")]).await;
    assert!(status(&response).contains("; hit"));
}

#[tokio::test]
async fn a_date_joins_parts_where_it_is_a_strong_validator() {
    let world = World::edge().await;
    let modified = ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT");
    let origin = Origin::of(&world, 8 * SEGMENT, &[("cache-control", "max-age=60"), modified]);
    range(&world, 0, "0-9", 0, 9).await;
    range(&world, 0, "0-300000", 0, 300_000).await;
    world.settle().await;
    assert_eq!(origin.asked(), "0-262143 262144-524287?");
    let held = [("range", "bytes=0-9"), ("if-range", modified.1)];
    assert_eq!(world.ask("GET", "/big", &held).await.0.status(), 206);
    let other = [("range", "bytes=0-9"), ("if-range", "Sun, 06 Nov 1994 08:00:01 GMT")];
    assert_eq!(world.ask("GET", "/big", &other).await.0.status(), 200);
}

#[tokio::test]
async fn if_range_on_what_is_cold_and_on_what_has_gaps() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 8 * SEGMENT);
    let late = ("range", "bytes=2000000-2000009");
    // A download that goes on: the range, as the tag is the origin's.
    let (response, body) = world.ask("GET", "/big", &[late, ("if-range", "\"1\"")]).await;
    assert_eq!((response.status().as_u16(), body.unwrap()), (206, piece(0, 2_000_000, 10)));
    let (response, body) = world.ask("GET", "/big", &[late, ("if-range", "\"0\"")]).await;
    assert_eq!((response.status().as_u16(), body.unwrap().len() as u64), (200, 8 * SEGMENT));
    let (response, body) = world.ask("GET", "/cold", &[late, ("if-range", "\"0\"")]).await;
    assert_eq!((response.status().as_u16(), body.unwrap().len() as u64), (200, 8 * SEGMENT));
    let (response, _) = world.ask("GET", "/cold2", &[late, ("if-none-match", "\"1\"")]).await;
    assert_eq!(response.status(), 304);
    origin.asked();
}

#[tokio::test]
async fn what_is_stale_is_validated_by_what_is_missing() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 8 * SEGMENT);
    range(&world, 0, "0-9", 0, 9).await;
    world.pass(100_000);
    origin.asked();
    range(&world, 0, "0-9", 0, 9).await;
    assert_eq!(origin.asked(), "whole!", "what is there is validated by itself");
    world.pass(100_000);
    range(&world, 0, "1000000-1000009", 1_000_000, 1_000_009).await;
    assert_eq!(origin.asked(), "786432-1048575?");
    assert!(range(&world, 0, "0-9", 0, 9).await.contains("; hit"), "the 206 has renewed it");
}

#[tokio::test]
async fn an_origin_that_knows_no_ranges_is_asked_once() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 6 * MIB);
    origin.says(|says| says.ignores_range = true);
    let said = range(&world, 0, "5000000-5000009", 5_000_000, 5_000_009).await;
    assert!(said.contains("fwd=uri-miss; fwd-status=200; stored"), "{said}");
    world.settle().await;
    assert!(range(&world, 0, "0-9", 0, 9).await.contains("; hit"));
    assert!(whole(&world, 0, 6 * MIB).await.contains("; hit"));
    assert_eq!(world.origin.fetches(), 1);
}

#[tokio::test]
async fn a_cut_in_a_part_is_gone_on_behind() {
    let world = World::edge().await;
    let length = 12 * SEGMENT;
    let origin = Origin::tagged(&world, length);
    range(&world, 0, "0-9", 0, 9).await;
    origin.says(|says| says.cut_after = Some(5 * SEGMENT));
    // Two cuts behind what the store has: the rest is asked for again each time, and the client notices nothing.
    whole(&world, 0, length).await;
    world.settle().await;
    assert!(whole(&world, 0, length).await.contains("; hit"));
    // Where nothing comes at all, it is told.
    let (other, cold) = (World::edge().await, 9_000_000);
    let origin = Origin::tagged(&other, 16 * MIB);
    range(&other, 0, "0-9", 0, 9).await;
    origin.says(|says| says.cut_after = Some(0));
    let (_, body) = other.ask("GET", "/big", &[("range", &*format!("bytes=0-{cold}"))]).await;
    assert!(body.is_none(), "a short body");
}

#[tokio::test]
async fn a_part_that_may_not_be_stored_is_its_clients_alone() {
    let world = World::edge().await;
    let origin = Origin::of(&world, 8 * MIB, &[("cache-control", "private"), ("etag", "\"1\"")]);
    for _ in 0..2 {
        let said = range(&world, 0, "5000000-5000009", 5_000_000, 5_000_009).await;
        assert!(!said.contains("hit") && !said.contains("stored"), "{said}");
    }
    assert_eq!(world.origin.fetches(), 2);
    assert!(origin.pulled() <= 2 * SEGMENT);
}

#[tokio::test]
async fn nobody_pulls_for_a_client_that_has_left() {
    let world = World::edge().await;
    let origin = Origin::tagged(&world, 64 * MIB);
    let mut body = world.send("GET", "/big", &[("range", "bytes=20000000-")]).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    world.settle().await;
    assert!(origin.pulled() < 3 * MIB);
}

#[tokio::test]
async fn parts_of_variants_lie_apart() {
    let world = World::edge().await;
    let length = 8 * SEGMENT;
    let origin = Origin::of(&world, length, &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("vary", "x-a")]);
    let client = async |language: &str, version: u8| {
        let asked = [("range", "bytes=1000000-1000009"), ("x-a", language)];
        let (response, body) = world.ask("GET", "/big", &asked).await;
        assert_eq!((response.status().as_u16(), body.unwrap()), (206, piece(version, 1_000_000, 10)));
        status(&response)
    };
    client("de", 0).await;
    world.settle().await;
    origin.says(|says| {
        says.version = 1;
        says.fields[1].1 = "\"2\"".into();
    });
    assert!(client("fr", 1).await.contains("fwd=vary-miss"));
    world.settle().await;
    assert!(client("de", 0).await.contains("; hit") && client("fr", 1).await.contains("; hit"));
    let (_, body) = world.ask("GET", "/big", &[("x-a", "fr")]).await;
    assert!(body.unwrap() == piece(1, 0, length));
    world.settle().await;
    assert_eq!(origin.asked(), "786432-1048575 786432-1048575 0-786431? 1048576-2097151?");
    // What may not be stored of one variant is nothing to the others.
    origin.says(|says| says.fields[0].1 = "private".into());
    client("nl", 1).await;
    assert!(client("de", 0).await.contains("; hit") && client("fr", 1).await.contains("; hit"));
}
