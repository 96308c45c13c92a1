use std::sync::LazyLock;

use http_body_util::BodyExt as _;

use super::*;
use crate::origin::{body::BREATHS, site::SEED};

static SITE: LazyLock<Site> = LazyLock::new(|| Site::new(SEED));
const NOW_MS: u64 = 1_800_000_005_500;

fn ask(line: &str, fields: &[(&'static str, &str)], now_ms: u64, serial: u64) -> Reply {
    let (method, path) = line.split_once(' ').unwrap();
    let headers = fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    reply(&SITE, &Ask { method: &method.parse().unwrap(), path, headers: &headers, now_ms, serial })
}

/// The answer as text: status, then the wanted fields that it has, then the length of its body.
fn check(line: &str, fields: &[(&'static str, &str)], expected: &str) {
    let (head, body) = answer(line, fields, 1);
    assert_eq!(format!("{head}| {} bytes", body.len()), expected, "{line} {fields:?}");
}

fn answer(line: &str, fields: &[(&'static str, &str)], serial: u64) -> (String, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let response = ask(line, fields, NOW_MS, serial).response;
        let mut head = format!("{} ", response.status().as_u16());
        for name in
            [CONTENT_LENGTH, CONTENT_RANGE, CACHE_CONTROL, VARY, CONTENT_LANGUAGE, SET_COOKIE, ALLOW, RETRY_AFTER]
        {
            for value in response.headers().get_all(&name) {
                head.push_str(&format!("{name}: {} ", value.to_str().unwrap()));
            }
        }
        (head, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    })
}

#[test]
fn whole_answers() {
    check("GET /robots.txt", &[], "200 content-length: 23 cache-control: public, max-age=3600 | 23 bytes");
    check("HEAD /robots.txt", &[], "200 content-length: 23 cache-control: public, max-age=3600 | 0 bytes");
    check("GET /big/1KiB", &[], "200 content-length: 1024 cache-control: public, max-age=86400 | 1024 bytes");
    check("GET /big/0", &[], "200 content-length: 0 cache-control: public, max-age=86400 | 0 bytes");
    check("HEAD /big/1TiB", &[], "200 content-length: 1099511627776 cache-control: public, max-age=86400 | 0 bytes");
    check("HEAD /files/64MiB.bin", &[], "200 content-length: 67108864 cache-control: public, max-age=86400 | 0 bytes");
    check("GET /uncacheable", &[], "200 content-length: 23 cache-control: private, no-store | 23 bytes");
    check("GET /fresh-1s", &[], "200 content-length: 18 cache-control: public, max-age=1 | 18 bytes");
    check(
        "GET /cookie",
        &[],
        "200 content-length: 25 cache-control: max-age=60 set-cookie: visit=1; Path=/ | 25 bytes",
    );
    check("GET /status/503", &[], "503 content-length: 24 retry-after: 1 | 24 bytes");
    check("GET /status/204", &[], "204 | 0 bytes");
    check("POST /", &[], "405 content-length: 19 cache-control: no-store allow: GET, HEAD | 19 bytes");
}

#[test]
fn what_is_not_there() {
    for path in ["/nothing", "/status/100", "/status/304", "/status/206", "/status/600", "/status/x", "/files", "//"] {
        assert!(answer(&format!("GET {path}"), &[], 1).0.starts_with("404 "), "{path}");
    }
    for path in ["/big/", "/big/-1", "/big/1EiB", "/big/1025GiB", "/big/99999999999999999999"] {
        assert!(answer(&format!("GET {path}"), &[], 1).0.starts_with("400 "), "{path}");
    }
}

#[test]
fn parts() {
    let file = "GET /big/300KiB";
    let (_, whole) = answer(file, &[], 1);
    assert_eq!(whole.len(), 307_200);
    let part = |range: &str| answer(file, &[("range", range)], 1);
    let (head, body) = part("bytes=65530-65545");
    assert_eq!(
        head,
        "206 content-length: 16 content-range: bytes 65530-65545/307200 cache-control: public, max-age=86400 "
    );
    assert_eq!(body, whole[65_530..65_546]);
    assert_eq!(part("bytes=-10").1, whole[307_190..]);
    assert_eq!(part("bytes=131072-").1, whole[131_072..]);
    assert_eq!(part("bytes=0-0,5-5").1, whole);
    check(
        file,
        &[("range", "bytes=307200-")],
        "416 content-length: 0 content-range: bytes */307200 cache-control: public, max-age=86400 | 0 bytes",
    );
    let (_, asset) = answer("GET /style.css", &[], 1);
    assert_eq!(answer("GET /style.css", &[("range", "bytes=3-9")], 1).1, asset[3..10]);
}

#[test]
fn preconditions() {
    let etag = ask("GET /style.css", &[], NOW_MS, 1).response.headers()[ETAG].to_str().unwrap().to_owned();
    check("GET /style.css", &[("if-none-match", &etag)], "304 cache-control: public, max-age=3600 | 0 bytes");
    check("HEAD /style.css", &[("if-none-match", &etag)], "304 cache-control: public, max-age=3600 | 0 bytes");
    check("GET /style.css", &[("if-match", "\"other\"")], "412 cache-control: public, max-age=3600 | 0 bytes");
    // A 304 still says who it is, so that a cache can update what it stores (RFC 9110 §15.4.5).
    let response = ask("GET /style.css", &[("if-none-match", "*")], NOW_MS, 1).response;
    assert_eq!(response.headers()[ETAG], etag);
    assert!(response.headers().contains_key(LAST_MODIFIED) && !response.headers().contains_key(CONTENT_TYPE));
    // Preconditions are nothing to an error.
    assert!(answer("GET /nothing", &[("if-none-match", "*")], 1).0.starts_with("404 "));
}

#[test]
fn languages() {
    let check = |wanted: &str, expected: &str| {
        let (head, body) = answer("GET /vary", &[("accept-language", wanted)], 1);
        let text = String::from_utf8(body).unwrap();
        assert!(
            head.contains(&format!("vary: Accept-Language content-language: {expected} ")),
            "{wanted}: {head} {text}"
        );
    };
    check("de", "de");
    check("de-AT, en;q=0.5", "de");
    check("fr, pt;q=0.3, ja;q=0.4", "ja");
    check("zu, de", "zu");
    check("de;q=0", "en");
    check("DE;q=0.001", "de");
    check("de;q=x, *", "en");
    check("", "en");
}

#[test]
fn an_edition_lasts_ten_seconds_and_has_its_own_validators() {
    let edition = |now_ms| {
        let headers = ask("GET /fresh-1s", &[], now_ms, 1).response.headers().clone();
        (headers[ETAG].clone(), headers[LAST_MODIFIED].clone())
    };
    assert_eq!(edition(1_800_000_000_000), edition(1_800_000_009_999));
    let (old, new) = (edition(1_800_000_009_999), edition(1_800_000_010_000));
    assert!(old.0 != new.0 && old.1 != new.1);
}

#[test]
fn tokens_never_repeat() {
    let tokens: std::collections::BTreeSet<_> =
        (0..1000).map(|serial| answer("GET /uncacheable", &[], serial).1).collect();
    assert_eq!(tokens.len(), 1000);
}

#[test]
fn the_slow_one_thinks_and_then_says_all_its_lines() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let answer = ask("GET /slow/x", &[], NOW_MS, 1);
        assert_eq!(answer.delay, SLOW_DELAY);
        assert!(!answer.response.headers().contains_key(CONTENT_LENGTH));
        let body = answer.response.into_body().collect().await.unwrap().to_bytes();
        let expected: String = (1..=BREATHS).map(|number| SlowBody::line("/slow/x", number)).collect();
        assert_eq!(body, expected);
    });
    assert_eq!(ask("GET /slower", &[], NOW_MS, 1).response.status(), StatusCode::NOT_FOUND);
}
