//! Our rules beside those of another implementation of RFC 9111, over random header sets: whether a response is stored, how
//! old it is, how long it stays fresh, whether it answers a second request, how it is validated, and what a 304 renews.
//!
//! Where the two differ, `classes` tells why, with the section of the RFC. A difference that no class explains fails the
//! test, and so does a class that no longer occurs.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be read ends it")]
#![expect(clippy::print_stdout, reason = "how often each class occurs is for whoever reads the run")]

mod cases;
mod classes;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_cache_semantics::{self as oracle, AfterResponse, BeforeRequest};
use perigee_protocol::model::{CachePolicy, ClientCacheControl, SetCookie};
use perigee_semantics::{
    head::StoredHead,
    policy::{Policy, Tier},
    request::RequestView,
    reuse::{Reuse, judge},
    storable::{Admission, DoNotReason, Times, admit},
    time::Timestamp,
    validate::{Freshened, conditions, freshen},
    vary,
};

use cases::{ARRIVED, Case, Dice};
use classes::{CLASSES, What};

/// One question, and both answers.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) what: What,
    /// As numbers: 1 and 0 for yes and no, else seconds.
    pub(crate) ours: u64,
    pub(crate) theirs: u64,
    /// Why ours does not store it.
    pub(crate) refused: Option<DoNotReason>,
    /// What the oracle gives the response on its arrival, in seconds.
    pub(crate) their_ttl: u64,
    /// What ours found, where it is stored.
    pub(crate) head: Option<StoredHead>,
}

fn fields(lines: &[(&'static str, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, value.parse().unwrap());
    }
    map
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn request(method: &Method, headers: &HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.headers_mut() = headers.clone();
    request
}

fn response(status: StatusCode, headers: &HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers.clone();
    response
}

/// All questions on which the two differ.
fn differences(case: &Case, cache: &CachePolicy) -> Vec<Difference> {
    let policy = Policy { cache, rule: None, tier: Tier::Edge };
    let (first, answer) = (fields(&case.request), fields(&case.response));
    let arrived = Timestamp::from_millis(ARRIVED * 1000);
    let times = Times { request_time: Timestamp::from_millis((ARRIVED - case.delay) * 1000), response_time: arrived };
    let view = RequestView { method: &case.method, headers: &first };
    let ours = admit(view, case.status, &answer, &policy, times, None);

    let options = oracle::CacheOptions { immutable_min_time_to_live: Duration::ZERO, ..Default::default() };
    let asked = request(&case.method, &first);
    let theirs = oracle::CachePolicy::new_options(&asked, &response(case.status, &answer), at(ARRIVED), options);
    let their_ttl = theirs.time_to_live(at(ARRIVED)).as_secs();

    let (head, refused) = match ours {
        Admission::Store(head) => (Some(*head), None),
        Admission::DoNot(reason) => (None, Some(reason)),
    };
    let mut found = Vec::new();
    let mut compare = |what: What, ours: u64, theirs: u64, tolerance: u64| {
        if ours.abs_diff(theirs) > tolerance {
            found.push(Difference { what, ours, theirs, refused, their_ttl, head: head.clone() });
        }
    };
    compare(What::Storable, u64::from(head.is_some()), u64::from(theirs.is_storable()), 0);
    let Some(stored) = head.as_ref().filter(|_| theirs.is_storable()) else { return found };

    let now = Timestamp::from_millis((ARRIVED + case.wait) * 1000);
    let later = at(ARRIVED + case.wait);
    // The oracle counts in seconds, ours in milliseconds.
    compare(What::Age, stored.freshness.age_ms(now) / 1000, theirs.age(later).as_secs(), 0);
    let ttl = if stored.freshness.no_cache { 0 } else { stored.freshness.ttl_ms(now).max(0) / 1000 };
    compare(What::Ttl, ttl.unsigned_abs(), theirs.time_to_live(later).as_secs(), 1);

    let again = fields(&case.again);
    let view = RequestView { method: &Method::GET, headers: &again };
    let reuses = vary::matches(&stored.vary, &again)
        && matches!(
            judge(stored, view, &policy, now),
            Reuse::Fresh | Reuse::StaleByRequest | Reuse::StaleWhileRevalidate
        );
    let before = theirs.before_request(&request(&Method::GET, &again), later);
    compare(What::Reuse, u64::from(reuses), u64::from(matches!(before, BeforeRequest::Fresh(_))), 0);
    if let BeforeRequest::Stale { request: sent, matches: true } = &before {
        let bits =
            |has: &dyn Fn(&str) -> bool| u64::from(has("if-none-match")) * 2 + u64::from(has("if-modified-since"));
        let own = conditions(stored);
        let ours = bits(&|name| own.iter().any(|(own, _)| own == name));
        compare(What::Conditions, ours, bits(&|name| sent.headers.contains_key(name)), 0);
    }

    let renewal = fields(&case.renewal);
    let ours = freshen(stored, view, &renewal, &policy, times, None);
    let theirs = theirs.after_response(&asked, &response(StatusCode::NOT_MODIFIED, &renewal), at(ARRIVED));
    let renewed = u64::from(ours != Freshened::Mismatch);
    compare(What::Renews, renewed, u64::from(matches!(theirs, AfterResponse::NotModified(..))), 0);
    found
}

fn compare(sets: u64) {
    // What is the site's choice is chosen as the oracle has it.
    let cache = CachePolicy {
        client_cache_control: ClientCacheControl::Honour,
        set_cookie: SetCookie::Store,
        max_ttl: Duration::MAX,
        ..CachePolicy::default()
    };
    let mut dice = Dice::new(20_261_123);
    let mut explained: BTreeMap<&str, u64> = BTreeMap::new();
    // One example of each kind.
    let mut unexplained: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..sets {
        let case = Case::roll(&mut dice);
        for difference in differences(&case, &cache) {
            match CLASSES.iter().find(|class| class.explains(&case, &difference)) {
                Some(class) => *explained.entry(class.name).or_default() += 1,
                None => {
                    let Difference { what, ours, theirs, refused, .. } = difference;
                    let kind = format!("{what:?} {:?} {refused:?} {:?}", ours.cmp(&theirs), case.odd);
                    unexplained.entry(kind).or_insert_with(|| format!("ours {ours}, theirs {theirs}: {case:?}"));
                }
            }
        }
    }
    assert!(unexplained.is_empty(), "nothing explains\n{unexplained:#?}");
    let healed: Vec<_> = CLASSES.iter().map(|class| class.name).filter(|name| !explained.contains_key(name)).collect();
    assert!(healed.is_empty(), "no longer occur: {healed:?}; of {explained:#?}");
    for (name, count) in explained {
        println!("{count:>8}  {name}");
    }
}

/// A million in continuous integration, or as many as `PERIGEE_ORACLE_SETS` says; else what takes a second.
/// Fewer than that leave rare classes out.
#[test]
fn random_header_sets() {
    let asked = std::env::var("PERIGEE_ORACLE_SETS").ok().map(|sets| sets.parse().unwrap());
    let is_continuous = std::env::var_os("CI").is_some_and(|value| value == "true");
    const LEAST: u64 = 20_000;
    compare(asked.unwrap_or(if is_continuous { 1_000_000 } else { LEAST }).max(LEAST));
}
