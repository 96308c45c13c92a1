//! The law of this room: whatever a client sends, in whatever pieces, it gets the same bytes as from hyper alone, and the
//! service sees the same requests, in the same order, and the same ends of its bodies.

mod service;
mod stand;
mod states;

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use self::{
    service::PATHS,
    stand::{ALL, By, Stand, Taking},
};
use crate::{door_metrics::Ended, http::Limits};

fn limits() -> Limits {
    Limits { header_bytes_max: 400, headers_max: 8, ..Limits::default() }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    output: String,
    events: Vec<String>,
    requests: u64,
    shut: bool,
    ended: Option<Option<Ended>>,
}

fn play(by: By, pieces: &[&[u8]], taking: Taking) -> Outcome {
    let mut stand = Stand::new(by, &limits(), taking);
    for piece in pieces {
        stand.say(piece);
    }
    stand.close();
    let events = stand.events.lock().unwrap().clone();
    let shut = stand.pipe.0.lock().unwrap().shut;
    let output = of_this_version(&stand.output());
    Outcome { output, events, requests: stand.entry.connection().requests(), shut, ended: stand.ended }
}

/// hyper refuses a wrong head in the version of the request before it, where it served that.
fn of_this_version(output: &str) -> String {
    let refused = output.replace("HTTP/1.0 4", "HTTP/1.1 4");
    ["400 Bad Request", "414 URI Too Long", "431 Request Header Fields Too Large"]
        .iter()
        .fold(refused, |output, status| {
            output.replace(&format!("{status}\r\nconnection: close\r\n"), &format!("{status}\r\n"))
        })
}

/// The same by both; returns it.
fn same(pieces: &[&[u8]], taking: Taking) -> Outcome {
    let outcome = play(By::Direct, pieces, taking);
    pretty_assert(&outcome, &play(By::HyperOnly, pieces, taking), pieces);
    outcome
}

fn pretty_assert(direct: &Outcome, hyper: &Outcome, pieces: &[&[u8]]) {
    let said: Vec<_> = pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect();
    assert_eq!(direct, hyper, "direct, hyper of {said:?}");
}

const METHODS: &[&str] =
    &["GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD", "POST", "PUT", "get", "OPTIONS", "G T", ""];
const TARGETS: &[&str] =
    &["http://x/whole", "*", "whole", "/whole?a=b#c", "/a b", "/%zz", "/\u{e9}", "", "/whole/%00\x01"];
const VERSIONS: &[&str] =
    &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", ""];
/// Not Upgrade: after one that nobody takes up hyper drops the connection at its end, without the answer to a wrong head.
const FIELDS: &[&str] = &[
    "Host: y",
    "Accept: */*",
    "User-Agent: stand",
    "X-Custom:no-space",
    "x-custom:   spaces\t ",
    "X-Empty:",
    "Cookie: a=b; c=\u{e9}",
    "Connection: keep-alive",
    "connection: Keep-Alive",
    "Connection: close",
    "Connection: keep-alive, close",
    "Connection: upgrade",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip",
    "Expect: 100-continue",
    "TE: trailers",
    "Bad Name: x",
    "Bad-Name : x",
    " folded: x",
    "Nothing",
    "X: \x01",
    "X: \x7f",
];

fn target() -> impl Strategy<Value = String> {
    let lengths = select(&[0_usize, 1, 5, 2048, 2049, 5000, 100_000][..]);
    let usual = (select(PATHS), lengths).prop_map(|(path, length)| format!("/{path}/{length}"));
    prop_oneof![12 => usual, 1 => select(TARGETS).prop_map(str::to_owned)]
}

fn plain() -> impl Strategy<Value = Vec<u8>> {
    (target(), select(&["GET", "GET", "GET", "HEAD"][..]), 0..4_usize).prop_map(|(target, method, fields)| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(fields)).into_bytes()
    })
}

fn odd() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(select(FIELDS), 0..9);
    let parts = (select(METHODS), target(), select(VERSIONS), fields, 0..20_usize, 0..8_u8);
    parts.prop_map(|(method, target, version, fields, content, style)| {
        let end = if style == 0 { "\n" } else { "\r\n" };
        let mut text = if style == 1 { "\r\n".to_owned() } else { String::new() };
        text += &format!("{method} {target} {version}{end}");
        if style != 2 {
            text += &format!("Host: x{end}");
        }
        for field in fields {
            text += &format!("{field}{end}");
        }
        if style == 3 {
            text += &format!("Long: {}{end}", "l".repeat(content * 20));
        }
        text += end;
        text += ["", "", "", "hello", "5\r\nhello\r\n0\r\n\r\n"].get(content).copied().unwrap_or_default();
        text.into_bytes()
    })
}

fn splits() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..5)
}

/// All that a client sends: several requests, some bytes perhaps wrong, perhaps cut short.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![3 => plain().boxed(), 2 => odd().boxed()];
    let wrong = prop_oneof![4 => Just(None), 1 => (any::<Index>(), any::<u8>()).prop_map(Some)];
    let cut = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (prop::collection::vec(request, 1..7), wrong, cut).prop_map(|(requests, wrong, cut)| {
        let mut all = requests.concat();
        if let Some((index, byte)) = wrong {
            let index = index.index(all.len());
            all[index] = byte;
        }
        if let Some(cut) = cut {
            all.truncate(cut.index(all.len()).max(1));
        }
        all
    })
}

fn pieces<'a>(all: &'a [u8], splits: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = splits.iter().map(|split| split.index(all.len())).collect();
    ends.sort_unstable();
    ends.push(all.len());
    let mut begin = 0;
    ends.iter().map(|&end| &all[std::mem::replace(&mut begin, end)..end]).filter(|piece| !piece.is_empty()).collect()
}

/// The same cases each time, so that a push fails for its own sake alone. More of them: `PERIGEE_CASES`, and others then.
fn hold<T: std::fmt::Debug>(cases: u32, of: impl Strategy<Value = T>, law: impl Fn(T)) {
    let more = std::env::var("PERIGEE_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(more.unwrap_or(cases)) };
    let mut runner = match more {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let law = |value| {
        law(value);
        Ok(())
    };
    runner.run(&of, law).unwrap();
}

#[test]
fn nobody_can_tell_it_from_hyper() {
    hold(3_000, (conversation(), splits(), any::<bool>()), |(all, splits, flat)| {
        same(&pieces(&all, &splits), Taking { room: None, flat });
    });
}

/// Requests without fault: hyper puts its answer to a wrong one before what a slow client has yet to take.
#[test]
fn nor_by_what_a_slow_client_gets() {
    let requests = prop::collection::vec(plain(), 1..7);
    hold(1_000, (requests, splits(), 1..3000_usize, any::<bool>()), |(requests, splits, room, flat)| {
        same(&pieces(&requests.concat(), &splits), Taking { room: Some(room), flat });
    });
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// Each kind of answer by itself, between two plain ones, by GET and by HEAD, in one piece and cut at every byte.
#[test]
fn every_answer_is_the_same() {
    for path in PATHS {
        for method in ["GET", "HEAD"] {
            let odd = format!("{method} /{path} HTTP/1.1\r\nHost: x\r\n\r\n");
            let all = [get("/whole/3"), odd.into_bytes(), get("/length/4")].concat();
            let outcome = same(&[&all], ALL);
            assert!(outcome.requests >= 2, "{path}: {outcome:?}");
            for cut in 1..all.len() {
                let (first, last) = all.split_at(cut);
                same(&[first, last], ALL);
            }
        }
    }
}

#[test]
fn an_upgrade_is_none_of_ours() {
    let ask = b"GET /whole/2 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let Outcome { output, events, requests, .. } = play(By::Direct, &[&get("/whole/1"), ask, &get("/whole/3")], ALL);
    let hyper = play(By::HyperOnly, &[&get("/whole/1"), ask, &get("/whole/3")], ALL);
    assert_eq!((output, events, requests, 3), (hyper.output, hyper.events, hyper.requests, requests));
}

/// Of what is counted as served here, hyper is asked for nothing.
#[test]
fn what_is_simple_stays_here() {
    let served = |paths: &[&str]| {
        let mut stand = Stand::new(By::Direct, &limits(), ALL);
        for path in paths {
            stand.say(&get(path));
        }
        stand.metrics.parked()
    };
    for path in
        ["/whole/0", "/whole/1", "/length/100000", "/dated/5", "/empty/5", "/empty-zero", "/204", "/304", "/404"]
    {
        assert_eq!(served(&[path]), 1, "{path}");
    }
    // These go over, and come back.
    for path in ["/late", "/pieces", "/chunked", "/early", "/early-late", "/slow", "/connection", "/two-lengths"] {
        assert_eq!(served(&[path, path]), 1, "{path}");
    }
}
