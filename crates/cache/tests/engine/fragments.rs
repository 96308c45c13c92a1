//! Parts that are stored by themselves: what they answer, and what they are never joined to.

use crate::{
    dialogue::play,
    ranged::{Origin, SEGMENT, range, whole},
    world::World,
};

#[tokio::test]
async fn without_a_strong_validator_parts_stay_apart() {
    for validator in [None, Some(("etag", "W/\"1\"")), Some(("last-modified", "Sun, 06 Nov 1994 08:49:30 GMT"))] {
        let world = World::edge().await;
        let mut fields = vec![("cache-control", "max-age=60")];
        fields.extend(validator);
        let length = 8 * SEGMENT;
        let origin = Origin::of(&world, length, &fields);
        range(&world, 0, "1000000-1000009", 1_000_000, 1_000_009).await;
        world.settle().await;
        assert!(range(&world, 0, "800000-1000009", 800_000, 1_000_009).await.contains("; hit"));
        assert_eq!(origin.asked(), "786432-1048575");
        origin.says(|says| says.version = 1);
        range(&world, 1, "1000000-1100000", 1_000_000, 1_100_000).await;
        world.settle().await;
        assert_eq!(origin.asked(), "786432-1310719");
        let said = whole(&world, 1, length).await;
        assert!(said.contains("fwd=uri-miss"), "{said}");
        world.settle().await;
        assert_eq!(origin.asked(), "whole");
        assert!(whole(&world, 1, length).await.contains("; hit"));
    }
}

async fn edge(script: &str) {
    play(&World::edge().await, script).await;
}

#[tokio::test]
async fn a_fragment_answers_ranges_within_it() {
    edge(
        "
        reply /f 206 ; cache-control: max-age=60 ; content-range: bytes 4-9/10 | 456789
        GET /f ; range: bytes=-6 => 206 456789 ; content-range: bytes 4-9/10 ; cache-status: *fwd=uri-miss*stored*
        GET /f ; range: bytes=-6 => 206 456789 ; cache-status: *; hit* ; age: 0
        GET /f ; range: bytes=6-8 => 206 678 ; content-range: bytes 6-8/10 ; cache-status: *; hit*
        GET /f ; range: bytes=6- => 206 6789 ; content-length: 4
        GET /f ; range: bytes=-1 => 206 9 ; cache-status: *; hit*
        GET /f ; range: bytes=10- => 416 ; content-range: bytes */10 ; cache-status: *; hit*
        fetches 1
        time +60s
        reply /f 206 ; cache-control: max-age=60 ; content-range: bytes 4-9/10 | abcdef
        GET /f ; range: bytes=-6 => 206 abcdef ; cache-status: *fwd=uri-miss*
        HEAD /f => 206 ; cache-status: *fwd=uri-miss*
    ",
    )
    .await;
}

#[tokio::test]
async fn a_suffix_with_a_count_of_its_own_is_put_right() {
    edge(
        "
        reply /f 206 ; cache-control: max-age=60 ; etag: \"1\" ; content-range: bytes 4-9/10 | 01234
        GET /f ; range: bytes=-5 => 206 01234 ; content-range: bytes 4-9/10
        GET /f ; range: bytes=-5 => 206 01234 ; content-range: bytes 4-8/9 ; cache-status: *; hit* ; etag: -
        GET /f ; range: bytes=6-8 => 206 234 ; cache-status: *; hit*
        GET /f ; range: bytes=6- => 206 234 ; cache-status: *; hit*
        GET /f ; range: bytes=-1 => 206 4 ; cache-status: *; hit*
        fetches 1
    ",
    )
    .await;
}

#[tokio::test]
async fn what_contradicts_itself_is_not_stored_and_drops_what_was() {
    for line in ["bytes 9-4/10", "bytes 4-10/10", "bytes 3-9/10", "bytes 4-9/*", "items 4-9/10", "4-9"] {
        edge(&format!(
            "
            reply /f 206 ; cache-control: max-age=60 ; content-range: bytes 4-9/10 | 456789
            GET /f ; range: bytes=-6 => 206 456789
            reply /f 206 ; cache-control: max-age=60 ; content-range: {line} | abcdef
            GET /f ; range: bytes=-9 => 206 abcdef ; content-range: {line} ; cache-status: *contradictory-range*
            GET /f ; range: bytes=-6 => 206 ; cache-status: *fwd=uri-miss*
            fetches 3
        "
        ))
        .await;
    }
}

#[tokio::test]
async fn a_beginning_is_completed() {
    // An origin that gave no validator is asked for the rest, but only a whole answer will do.
    let world = World::edge().await;
    let script = "
        reply /f 206 ; cache-control: max-age=60 ; content-range: bytes 0-4/10 | 01234
        GET /f ; range: bytes=-5 => 206 01234 ; content-range: bytes 0-4/10
        reply /f 200 ; cache-control: max-age=60 | 0123456789
        GET /f => 200 0123456789
        fetches 2
    ";
    play(&world, script).await;
    assert_eq!(world.origin.last()["range"], "bytes=5-");
    play(&world, "GET /f => 200 0123456789 ; cache-status: *; hit*").await;

    let world = World::edge().await;
    let script = "
        reply /f 206 ; cache-control: max-age=60 ; content-range: bytes 0-4/10 | 01234
        GET /f ; range: bytes=-5 => 206 01234
        reply /f 206 ; cache-control: max-age=60 ; content-range: bytes 5-9/10 | abcde
        GET /f => 206 abcde ; cache-status: *partial*
        fetches 3
    ";
    play(&world, script).await;

    // Under one strong validator the two are joined.
    let world = World::edge().await;
    let script = "
        reply /f 206 ; cache-control: max-age=60 ; etag: \"1\" ; content-range: bytes 0-4/10 | 01234
        GET /f ; range: bytes=-5 => 206 01234
        reply /f 206 ; cache-control: max-age=60 ; etag: \"1\" ; x-a: 2 ; content-range: bytes 5-9/10 | 56789
        GET /f => 200 0123456789 ; x-a: 2 ; content-range: - ; content-length: 10
        GET /f => 200 0123456789 ; cache-status: *; hit*
        fetches 2
    ";
    play(&world, script).await;
    assert_eq!(world.origin.last()["if-range"], "\"1\"");

    let world = World::edge().await;
    let script = "
        reply /f 206 ; cache-control: max-age=60 ; etag: \"1\" ; content-range: bytes 0-4/10 | 01234
        GET /f ; range: bytes=-5 => 206 01234
        reply /f 206 ; cache-control: max-age=60 ; etag: \"2\" ; content-range: bytes 5-9/10 | abcde
        GET /f => 206 abcde
        fetches 3
    ";
    play(&world, script).await;
}
