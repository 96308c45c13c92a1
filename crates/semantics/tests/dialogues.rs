//! The decisions of this crate put together: a cache of a few lines, with a store in a map and a clock in a number, plays
//! dialogues. What it does by hand is what `perigee-cache` performs; that nothing else is needed is what this proves.
//!
//! `origin STATUS field: value | … | body TEXT` says what the origin answers from now on (`origin down`: nothing; it answers
//! 304 by itself where its ETag or Last-Modified is asked for). `METHOD PATH field: value | …` asks, and
//! `= STATUS HOW BODY` is the answer: fresh, stale, validated, fetched, passed, or a reason. `+N` lets N seconds pass.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be read ends it")]

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use perigee_protocol::{
    id::SiteId,
    model::{CachePolicy, ClientCacheControl, Scheme},
};
use perigee_semantics::{
    head::StoredHead,
    invalidate::{Target, invalidated},
    key::CacheKey,
    policy::{Policy, Tier},
    ranges::{self, RangeAnswer},
    request::RequestView,
    reuse::{Plan, Reuse, is_upstream_error, judge, only_if_cached, plan, serve_on_error},
    storable::{Admission, Times, admit},
    time::Timestamp,
    validate::{Freshened, Precondition, conditions, evaluate, freshen},
    vary::VariantIndex,
};

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    fields: HeaderMap,
    body: String,
}

#[derive(Debug, Default)]
struct Entry {
    index: VariantIndex,
    objects: HashMap<u64, (StoredHead, String)>,
}

#[derive(Debug)]
struct Play {
    cache: CachePolicy,
    tier: Tier,
    now: Timestamp,
    origin: Option<Answer>,
    store: HashMap<CacheKey, Entry>,
    fills: u64,
}

fn fields(parts: &[&str]) -> HeaderMap {
    let pair = |part: &&str| {
        let (name, value) = part.split_once(':').unwrap();
        (HeaderName::from_bytes(name.trim().as_bytes()).unwrap(), HeaderValue::from_str(value.trim()).unwrap())
    };
    parts.iter().filter(|part| !part.is_empty()).map(pair).collect()
}

impl Play {
    fn policy(&self) -> Policy<'_> {
        Policy { cache: &self.cache, rule: None, tier: self.tier }
    }

    fn times(&self) -> Times {
        Times { request_time: self.now, response_time: self.now }
    }

    fn key(&self, path: &str) -> CacheKey {
        CacheKey::new(&site(), Scheme::Http, "a.example", path, None, &self.policy())
    }

    fn ask_origin(&self, request: &HeaderMap) -> Option<Answer> {
        let answer = self.origin.clone()?;
        let asked =
            |name: &str, own: &str| request.get(name).is_some_and(|value| answer.fields.get(own) == Some(value));
        if asked("if-none-match", "etag") || asked("if-modified-since", "last-modified") {
            return Some(Answer { status: 304, body: String::new(), ..answer });
        }
        Some(answer)
    }

    fn request(&mut self, method: &Method, path: &str, headers: &HeaderMap) -> String {
        let request = RequestView { method, headers };
        if let Plan::Pass(_) = plan(request, &self.policy()) {
            let Some(answer) = self.ask_origin(headers) else { return "502 passed".to_owned() };
            let target = Target {
                site: &site(),
                scheme: Scheme::Http,
                authority: "a.example",
                client_authority: "a.example",
                path,
                query: None,
            };
            let status = StatusCode::from_u16(answer.status).unwrap();
            for key in invalidated(method, status, &answer.fields, target, &self.policy()) {
                self.store.remove(&key);
            }
            return format!("{} passed {}", answer.status, answer.body);
        }
        let key = self.key(path);
        let found = self.store.get(&key).and_then(|entry| entry.objects.get(&entry.index.select(headers)?)).cloned();
        let Some((head, body)) = found else {
            return if only_if_cached(request, &self.policy()) {
                "504 only-if-cached".to_owned()
            } else {
                self.fetch(request, &key, None)
            };
        };
        match judge(&head, request, &self.policy(), self.now) {
            Reuse::Fresh => respond(request, &head, &body, "fresh"),
            Reuse::StaleByRequest | Reuse::StaleWhileRevalidate => respond(request, &head, &body, "stale"),
            Reuse::Revalidate(_) => self.fetch(request, &key, Some((head, body))),
            Reuse::OnlyIfCached => "504 only-if-cached".to_owned(),
        }
    }

    fn fetch(&mut self, request: RequestView<'_>, key: &CacheKey, stored: Option<(StoredHead, String)>) -> String {
        let mut sent = request.headers.clone();
        for name in ["if-none-match", "if-modified-since", "range"] {
            sent.remove(name);
        }
        sent.extend(stored.iter().flat_map(|(head, _)| conditions(head)));
        let answer =
            self.ask_origin(&sent).filter(|answer| !is_upstream_error(StatusCode::from_u16(answer.status).unwrap()));
        let view = RequestView { method: &Method::GET, headers: request.headers };
        match (answer, stored) {
            (None, Some((head, body))) if serve_on_error(&head, &self.policy(), self.now) => {
                respond(request, &head, &body, "stale")
            }
            (None, _) => "502 failed".to_owned(),
            (Some(answer), Some((head, body))) if answer.status == 304 => {
                match freshen(&head, view, &answer.fields, &self.policy(), self.times(), None) {
                    Freshened::Updated(head) => {
                        let text = respond(request, &head, &body, "validated");
                        self.put(key, *head, body);
                        text
                    }
                    Freshened::NoLongerStorable => {
                        self.store.remove(key);
                        respond(request, &head, &body, "validated")
                    }
                    Freshened::OnlyHere => respond(request, &head, &body, "validated"),
                    Freshened::Mismatch => {
                        self.store.remove(key);
                        self.fetch(request, key, None)
                    }
                }
            }
            (Some(answer), _) => {
                let status = StatusCode::from_u16(answer.status).unwrap();
                match admit(view, status, &answer.fields, &self.policy(), self.times(), None) {
                    Admission::Store(head) => {
                        let text = respond(request, &head, &answer.body, "fetched");
                        self.put(key, *head, answer.body);
                        text
                    }
                    Admission::DoNot(reason) => format!("{} {} {}", answer.status, reason.as_str(), answer.body),
                }
            }
        }
    }

    fn put(&mut self, key: &CacheKey, head: StoredHead, body: String) {
        self.fills += 1;
        let entry = self.store.entry(key.clone()).or_default();
        for gone in entry.index.insert(head.vary.clone(), self.fills, self.cache.vary_limit) {
            entry.objects.remove(&gone);
        }
        entry.objects.insert(self.fills, (head, body));
    }
}

fn site() -> SiteId {
    "www".parse().unwrap()
}

fn respond(request: RequestView<'_>, head: &StoredHead, body: &str, how: &str) -> String {
    match evaluate(request, head) {
        Precondition::NotModified => return format!("304 {how}"),
        Precondition::Failed => return format!("412 {how}"),
        Precondition::Proceed => {}
    }
    match ranges::evaluate(request, head, body.len() as u64) {
        RangeAnswer::One(range) => format!("206 {how} {}", &body[range.first as usize..=range.last as usize]),
        RangeAnswer::Unsatisfiable => format!("416 {how}"),
        RangeAnswer::Whole | RangeAnswer::Many(_) => format!("{} {how} {body}", head.status.as_u16()),
    }
}

fn check(dialogue: &str) {
    let mut play = Play {
        cache: CachePolicy { client_cache_control: ClientCacheControl::Honour, ..CachePolicy::default() },
        tier: Tier::Edge,
        now: Timestamp::from_millis(784_111_777_000),
        origin: None,
        store: HashMap::new(),
        fills: 0,
    };
    let mut answered = String::new();
    for line in dialogue.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let parts: Vec<&str> = rest.split('|').map(str::trim).collect();
        match word {
            "=" => assert_eq!(answered.trim(), rest, "in {dialogue}"),
            "shield" => play.tier = Tier::Shield,
            "origin" if rest == "down" => play.origin = None,
            "origin" => {
                let (status, first) = parts[0].split_once(' ').unwrap_or((parts[0], ""));
                let is_body = |part: &&&str| part.starts_with("body ");
                let body = parts.iter().find(is_body).map_or("", |part| &part[5..]);
                let mut lines: Vec<&str> =
                    parts[1..].iter().filter(|part| !part.starts_with("body ")).copied().collect();
                lines.push(first);
                play.origin =
                    Some(Answer { status: status.parse().unwrap(), fields: fields(&lines), body: body.to_owned() });
            }
            wait if wait.starts_with('+') => play.now = play.now.plus_ms(wait[1..].parse::<u64>().unwrap() * 1000),
            method => {
                let (path, first) = parts[0].split_once(' ').unwrap_or((parts[0], ""));
                let mut lines = parts[1..].to_vec();
                lines.push(first);
                answered = play.request(&Method::from_bytes(method.as_bytes()).unwrap(), path, &fields(&lines));
            }
        }
    }
}

#[test]
fn fresh_then_stale_then_validated() {
    check(
        "origin 200 cache-control: max-age=10 | etag: \"1\" | body v1
         GET /a
         = 200 fetched v1
         origin 200 cache-control: max-age=20 | etag: \"1\" | body v2
         +9
         GET /a
         = 200 fresh v1
         +1
         GET /a
         = 200 validated v1
         +19
         GET /a
         = 200 fresh v1
         origin 200 cache-control: max-age=10 | etag: \"2\" | body v2
         +1
         GET /a
         = 200 fetched v2",
    );
}

#[test]
fn conditions_and_ranges_are_answered_from_the_store() {
    check(
        "origin 200 cache-control: max-age=10 | etag: \"1\" | body 0123456789
         GET /a range: bytes=2-3
         = 206 fetched 23
         origin down
         GET /a range: bytes=-2
         = 206 fresh 89
         GET /a range: bytes=10-
         = 416 fresh
         GET /a if-none-match: \"0\", \"1\"
         = 304 fresh
         GET /a if-match: \"0\"
         = 412 fresh
         GET /a range: bytes=0-1 | if-range: \"0\"
         = 200 fresh 0123456789
         HEAD /a
         = 200 fresh 0123456789",
    );
}

#[test]
fn variants_stand_beside_each_other() {
    check(
        "origin 200 cache-control: max-age=10 | vary: accept-language | body de
         GET /a accept-language: de, en
         = 200 fetched de
         origin 200 cache-control: max-age=10 | vary: accept-language | body fr
         GET /a accept-language: fr
         = 200 fetched fr
         GET /a accept-language: EN,de
         = 200 fresh de
         GET /a accept-language: fr;q=1.0
         = 200 fresh fr
         GET /a
         = 200 fetched fr
         origin 200 cache-control: max-age=10 | vary: * | body any
         GET /a accept-language: xx
         = 200 vary-star any",
    );
}

#[test]
fn stale_is_served_when_it_may_be() {
    check(
        "origin 200 cache-control: max-age=10, stale-while-revalidate=5, stale-if-error=20 | body v1
         GET /a
         = 200 fetched v1
         origin down
         +14
         GET /a
         = 200 stale v1
         shield
         GET /a
         = 200 stale v1
         +15
         GET /a
         = 200 stale v1
         +1
         GET /a
         = 502 failed
         origin 503
         GET /a
         = 502 failed",
    );
    for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
        check(&format!(
            "origin 200 cache-control: max-age=10, {forbids}, stale-while-revalidate=5 | body v1
             GET /a
             = 200 fetched v1
             origin down
             +10
             GET /a
             = 502 failed"
        ));
    }
}

#[test]
fn unsafe_methods_invalidate() {
    check(
        "origin 200 cache-control: max-age=10 | content-location: /b | body v1
         GET /a
         = 200 fetched v1
         GET /b
         = 200 fetched v1
         origin 500
         POST /a
         = 500 passed
         GET /a
         = 200 fresh v1
         origin 200 content-location: /b | cache-control: max-age=10 | body v2
         M-SEARCH /a
         = 200 passed v2
         GET /a
         = 200 fetched v2
         GET /b
         = 200 fetched v2",
    );
}

#[test]
fn what_clients_ask_of_caches() {
    check(
        "GET /a cache-control: only-if-cached
         = 504 only-if-cached
         origin 200 cache-control: max-age=10 | last-modified: Sat, 05 Nov 1994 08:49:37 GMT | body v1
         GET /a cache-control: no-store
         = 200 request-no-store v1
         GET /a
         = 200 fetched v1
         GET /a cache-control: no-cache
         = 200 validated v1
         +5
         GET /a cache-control: max-age=4
         = 200 validated v1
         +11
         GET /a cache-control: max-stale=1
         = 200 stale v1
         GET /a cache-control: only-if-cached
         = 504 only-if-cached",
    );
}

#[test]
fn a_304_that_is_not_ours_is_asked_again() {
    check(
        "origin 200 cache-control: max-age=1 | last-modified: Sat, 05 Nov 1994 08:49:37 GMT | body v1
         GET /a
         = 200 fetched v1
         +1
         origin 200 cache-control: max-age=1 | etag: \"x\" | last-modified: Sat, 05 Nov 1994 08:49:37 GMT | body v2
         GET /a
         = 200 fetched v2",
    );
}
