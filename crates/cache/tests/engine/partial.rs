//! Partial objects: ranges of cold objects, objects with gaps that complete over time, and parts that must not be joined.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use perigee_upstream::{FetchError, FetchErrorKind, FetchRequest, FetchResponse, UpstreamBody};

use crate::{dialogue::play, purge::purge, world::World};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SEGMENT: u64 = 256 * KIB;
/// Byte `i` of every body is `i % 251`, plus what tells one version from another.
const PERIOD: u64 = 251;

fn piece(version: u8, offset: u64, length: u64) -> Bytes {
    let start = (offset % PERIOD) as usize;
    let period: Vec<u8> =
        (0..PERIOD as usize).map(|i| (((start + i) % PERIOD as usize) as u8).wrapping_add(version)).collect();
    let mut bytes = period.repeat(length.div_ceil(PERIOD) as usize);
    bytes.truncate(length as usize);
    bytes.into()
}

/// An origin of one body that serves ranges of it as a good one does, and remembers what it was asked for.
#[derive(Clone)]
struct Origin(Arc<Mutex<Says>>, Arc<AtomicU64>);

struct Says {
    version: u8,
    length: u64,
    fields: Vec<(&'static str, String)>,
    asked: Vec<String>,
    /// Answers 206 whatever If-Range says.
    ignores_if_range: bool,
    ignores_range: bool,
    /// Cuts each body after so many bytes.
    cut_after: Option<u64>,
}

fn parse(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((length.saturating_sub(last.parse().ok()?), length - 1));
    }
    let last = if last.is_empty() { length - 1 } else { last.parse::<u64>().ok()?.min(length - 1) };
    Some((first.parse().ok()?, last))
}

impl Origin {
    fn of(world: &World, length: u64, fields: &[(&'static str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let says = Says {
            version: 0,
            length,
            fields,
            asked: Vec::new(),
            ignores_if_range: false,
            ignores_range: false,
            cut_after: None,
        };
        let origin = Self(Arc::new(Mutex::new(says)), Arc::default());
        let answering = origin.clone();
        world.origin.set(Box::new(move |request| {
            let response = answering.answer(&request);
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(response)
            })
        }));
        origin
    }

    fn tagged(world: &World, length: u64) -> Self {
        Self::of(world, length, &[("cache-control", "max-age=60"), ("etag", "\"1\"")])
    }

    fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.0.lock().unwrap());
    }

    /// What was asked since the last time.
    fn asked(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap().asked).join(" ")
    }

    /// Content bytes that were taken since the last time.
    fn pulled(&self) -> u64 {
        self.1.swap(0, Ordering::SeqCst)
    }

    fn answer(&self, request: &FetchRequest) -> FetchResponse {
        let mut says = self.0.lock().unwrap();
        let field = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let if_range = field("if-range");
        let mut asked = field("range").map_or("whole".into(), |range| range.replace("bytes=", ""));
        for (name, mark) in [("if-range", "?"), ("if-none-match", "!")] {
            if field(name).is_some() {
                asked.push_str(mark);
            }
        }
        says.asked.push(asked);
        let mut headers = HeaderMap::new();
        for (name, value) in &says.fields {
            headers.append(*name, value.parse().unwrap());
        }
        let etag = headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        if etag.is_some() && field("if-none-match") == etag {
            return FetchResponse::scripted(StatusCode::NOT_MODIFIED, headers, UpstreamBody::empty());
        }
        let known = [etag, headers.get("last-modified").map(|date| date.to_str().unwrap().to_owned())];
        let holds = says.ignores_if_range || if_range.is_none() || known.contains(&if_range);
        let range =
            field("range").filter(|_| holds && !says.ignores_range).and_then(|range| parse(&range, says.length));
        let (status, first, last) = match range {
            Some((first, _)) if first >= says.length => {
                headers.insert("content-range", format!("bytes */{}", says.length).parse().unwrap());
                return FetchResponse::scripted(StatusCode::RANGE_NOT_SATISFIABLE, headers, UpstreamBody::empty());
            }
            Some((first, last)) => {
                headers.insert("content-range", format!("bytes {first}-{last}/{}", says.length).parse().unwrap());
                (StatusCode::PARTIAL_CONTENT, first, last)
            }
            None => (StatusCode::OK, 0, says.length - 1),
        };
        let length = last - first + 1;
        headers.insert("content-length", length.into());
        let mut response = FetchResponse::scripted(status, headers, self.body(&says, first, length));
        response.framing = perigee_upstream::BodyFraming::Length(length);
        response
    }

    fn body(&self, says: &Says, first: u64, length: u64) -> UpstreamBody {
        let (pulled, version, end) = (Arc::clone(&self.1), says.version, first + length);
        let cut_at = says.cut_after.map(|after| first + after);
        UpstreamBody::from_body(StreamBody::new(stream::unfold(first, move |offset| {
            let pulled = Arc::clone(&pulled);
            async move {
                if offset >= end {
                    return None;
                }
                if cut_at.is_some_and(|at| offset >= at) {
                    return Some((Err(FetchError::new(FetchErrorKind::PrematureClose)), end));
                }
                let length = (60_000).min(end - offset);
                pulled.fetch_add(length, Ordering::SeqCst);
                Some((Ok(Frame::data(piece(version, offset, length))), offset + length))
            }
        })))
    }
}

/// Asks for a range, checks its bytes, and gives Cache-Status.
async fn range(world: &World, version: u8, range: &str, first: u64, last: u64) -> String {
    let (response, body) = world.ask("GET", "/big", &[("range", &format!("bytes={range}"))]).await;
    assert_eq!(response.status(), 206, "{range}: {:?}", response.headers());
    let said = response.headers()["content-range"].to_str().unwrap().to_owned();
    assert!(said.starts_with(&format!("bytes {first}-{last}/")), "{range}: {said}");
    let body = body.unwrap_or_else(|| panic!("{range}: cut"));
    assert_eq!(response.headers()["content-length"], body.len().to_string());
    assert!(body == piece(version, first, last - first + 1), "{range}: other bytes");
    status(&response)
}

fn status(response: &http::Response<()>) -> String {
    response.headers()["cache-status"].to_str().unwrap().to_owned()
}

async fn whole(world: &World, version: u8, length: u64) -> String {
    let (response, body) = world.ask("GET", "/big", &[]).await;
    assert_eq!(response.status(), 200);
    assert!(body.expect("cut") == piece(version, 0, length), "other bytes");
    status(&response)
}

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
    let length = 3 * MIB + 333;
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
        let clients = (0..12).map(|client| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut cut = 0;
                for round in 0..4 {
                    cut += turn(&world, length, client, u64::from(version) * 4 + round).await;
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
    assert!(cut < 100, "{cut} of 192 responses were cut");
    world.settle().await;
}
