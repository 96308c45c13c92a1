//! What holds whatever the bytes: parsers are total, freshness is a number, time only makes things staler, normal forms are
//! normal, private is private, and what is written is read back.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be built ends it")]

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use perigee_protocol::model::{CachePolicy, ClientCacheControl, QueryPolicy, Scheme, SetCookie};
use perigee_semantics::{
    directives::{RequestControl, ResponseControl},
    head::StoredHead,
    headers::{append_forwarded, check_cdn_loop, strip_for_client, strip_hop_by_hop},
    invalidate::{Target, invalidated, invalidated_groups},
    key::{CacheKey, normalise_query},
    policy::{Policy, Tier},
    request::RequestView,
    reuse::{Reuse, judge, only_if_cached, plan, serve_on_error},
    storable::{Admission, Times, admit, admit_post},
    time::{Timestamp, parse_http_date},
    validate::{Freshened, HeadResponse, apply_head, conditions, evaluate, freshen, not_modified_fields},
    vary::{VariantIndex, matches, normal_form, normalise_request},
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Fields that decide something.
const NAMES: [&str; 27] = [
    "age",
    "authorization",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "cache-groups",
    "cache-group-invalidation",
    "cdn-cache-control",
    "cdn-loop",
    "connection",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "date",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "perigee-cache-control",
    "range",
    "vary",
];

/// What such fields say, rightly and wrongly; and any bytes that a field value may have.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let words = select(vec![
        "max-age=60",
        "max-age=0",
        "s-maxage=99999999999",
        "max-age=18446744073709551616",
        "private",
        "no-store",
        "no-cache=\"etag, vary\"",
        "public",
        "must-understand",
        "stale-while-revalidate=4",
        "stale-if-error=9",
        "max-stale",
        "min-fresh=3",
        "only-if-cached",
        "immutable",
        "\"a\"",
        "W/\"a\"",
        "\"",
        "*",
        "0",
        "-1",
        "7200, 0",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "bytes=0-",
        "bytes=-1,5-6",
        "bytes 0-1/2",
        "gzip;q=0.5, br",
        "de, en;q=0",
        "accept-encoding",
        "x-a",
        "/a/../b?c",
        "http://a.example:80/x",
        "//",
        "close, te",
        "18446744073709551615",
    ])
    .prop_map(|word| word.as_bytes().to_vec());
    let any_bytes = vec(any::<u8>(), 0..24)
        .prop_map(|bytes| bytes.into_iter().filter(|b| *b == b'\t' || *b >= 32 && *b != 127).collect::<Vec<u8>>());
    let list = vec(words.clone(), 0..4).prop_map(|words| words.join(&b", "[..]));
    prop_oneof![4 => words, 3 => list, 2 => any_bytes]
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    vec((select(NAMES.to_vec()), value()), 0..9).prop_map(|lines| {
        let line = |(name, value): (&'static str, Vec<u8>)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.into_iter().map(line) {
            map.append(name, value);
        }
        map
    })
}

/// Mostly one that may be stored.
fn response() -> impl Strategy<Value = HeaderMap> {
    let control = "max-age=[0-9]{1,3}(, s-maxage=[0-9]{1,2}|, stale-while-revalidate=30|, stale-if-error=9|, immutable)?(, public)?";
    (fields(), control, any::<bool>()).prop_map(|(mut fields, control, storable)| {
        if storable {
            for odd in ["cache-control", "cdn-cache-control", "perigee-cache-control", "content-length", "vary"] {
                fields.remove(odd);
            }
            fields.insert("cache-control", control.parse().unwrap());
        }
        fields
    })
}

fn method() -> impl Strategy<Value = Method> {
    select(vec!["GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "WHATEVER"])
        .prop_map(|name| Method::from_bytes(name.as_bytes()).unwrap())
}

fn honouring() -> CachePolicy {
    CachePolicy {
        client_cache_control: ClientCacheControl::Honour,
        set_cookie: SetCookie::Store,
        ..CachePolicy::default()
    }
}

fn policy(cache: &CachePolicy, tier: Tier) -> Policy<'_> {
    Policy { cache, rule: None, tier }
}

fn target(path: &str) -> (perigee_protocol::id::SiteId, String) {
    ("www".parse().unwrap(), path.to_owned())
}

fn store(
    request: &HeaderMap,
    status: u16,
    response: &HeaderMap,
    cache: &CachePolicy,
    times: Times,
) -> Option<StoredHead> {
    let view = RequestView { method: &Method::GET, headers: request };
    match admit(view, StatusCode::from_u16(status).unwrap(), response, &policy(cache, Tier::Edge), times, None) {
        Admission::Store(head) => Some(*head),
        Admission::DoNot(_) => None,
    }
}

fn times(request: u64, response: u64) -> Times {
    Times { request_time: Timestamp::from_millis(request), response_time: Timestamp::from_millis(response) }
}

/// The worse, the higher.
fn rank(reuse: Reuse) -> u8 {
    match reuse {
        Reuse::Fresh => 0,
        Reuse::StaleByRequest | Reuse::StaleWhileRevalidate => 1,
        Reuse::Revalidate(_) | Reuse::OnlyIfCached => 2,
    }
}

/// Fields that are no UTF-8 select nothing that is stored: each such request is a miss.
fn selects_by_text(selector: &[(HeaderName, Option<String>)], request: &HeaderMap) -> bool {
    let is_text = |name| request.get_all(name).iter().all(|value| std::str::from_utf8(value.as_bytes()).is_ok());
    selector.iter().all(|(name, _)| is_text(name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Nothing that arrives makes a rule panic; what is stored is sane, and is read back as it was written.
    #[test]
    fn rules_are_total(
        method in method(), status in prop_oneof![Just(200_u16), 100_u16..=999], request in fields(), response in response(), other in fields(),
        asked in any::<u64>(), came in any::<u64>(), now in any::<u64>(), trusted in any::<Option<u64>>(),
    ) {
        let cache = honouring();
        let policy = policy(&cache, Tier::Edge);
        let status = StatusCode::from_u16(status).unwrap();
        let view = RequestView { method: &method, headers: &request };
        let (times, now) = (times(asked, came), Timestamp::from_millis(now));
        let _ = (plan(view, &policy), only_if_cached(view, &policy));
        let _ = (ResponseControl::read(&response), RequestControl::read(&request));
        let (site, path) = target("/a/b");
        let target = Target {
            site: &site, scheme: Scheme::Http, authority: "a.example", client_authority: "b.example", path: &path, query: None,
        };
        let _ = invalidated(&method, status, &response, target, &policy);
        let _ = invalidated_groups(&method, status, &response);
        let _ = admit_post(view, status, &response, target, &policy, times, trusted);
        prop_assert!(check_cdn_loop(&request, "me", 3).is_ok() || request.contains_key("cdn-loop"));
        let mut changed = request.clone();
        append_forwarded(&mut changed, [192, 0, 2, 1].into(), "a.example", Scheme::Http, trusted.is_some());
        strip_hop_by_hop(&mut changed);
        strip_for_client(&mut changed, &cache);
        let Admission::Store(head) = admit(view, status, &response, &policy, times, trusted) else { return Ok(()) };

        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        prop_assert_eq!(StoredHead::decode(&bytes), Ok(StoredHead::clone(&head)));
        prop_assert!(head.freshness.lifetime_ms <= 365 * 86_400_000, "max_ttl bounds every lifetime");
        prop_assert!(head.freshness.age_ms(now) >= head.freshness.initial_age_ms, "no clock makes it younger");
        prop_assert!(!head.freshness.is_fresh(now) || head.freshness.ttl_ms(now) > 0);
        prop_assert!(head.freshness.stale_for_ms(now) == 0 || !head.freshness.is_fresh(now));
        for absent in ["age", "connection", "cache-status", "perigee-proof"] {
            prop_assert!(!head.fields.contains_key(absent));
        }
        prop_assert!(head.fields.contains_key("date"));
        prop_assert!(matches(&head.vary, &request), "a response answers its own request");
        let _ = (evaluate(view, &head), conditions(&head), not_modified_fields(&head));
        let _ = (judge(&head, view, &policy, now), serve_on_error(&head, &policy, now));
        if let Freshened::Updated(new) = freshen(&head, view, &other, &policy, times, trusted) {
            prop_assert_eq!(new.fields.get("content-length"), head.fields.get("content-length"));
            prop_assert_eq!(new.status, head.status);
        }
        let new = HeadResponse { status, headers: &other, trusted_age_ms: trusted };
        let _ = apply_head(&head, view, new, 7, &policy, times);
    }

    /// Once not fresh, never fresh again: time alone makes nothing better.
    #[test]
    fn reuse_is_monotone_in_now(
        request in fields(), response in response(), again in fields(), first in any::<u32>(), second in any::<u32>(),
        edge in any::<bool>(),
    ) {
        let cache = honouring();
        let Some(head) = store(&request, 200, &response, &cache, times(0, 0)) else { return Ok(()) };
        let tier = if edge { Tier::Edge } else { Tier::Shield };
        let view = RequestView { method: &Method::GET, headers: &again };
        let at = |ms: u32| {
            let now = Timestamp::from_millis(ms.into());
            (rank(judge(&head, view, &policy(&cache, tier), now)), !serve_on_error(&head, &policy(&cache, tier), now))
        };
        let (sooner, later) = (at(first.min(second)), at(first.max(second)));
        prop_assert!(sooner.0 <= later.0 && sooner.1 <= later.1, "{sooner:?} then {later:?}");
    }

    /// Whatever else is said, `private`, `no-store` and credentials without leave keep a response from everybody else.
    #[test]
    fn private_is_never_shared(request in fields(), mut response in response(), status in 200_u16..600, word in select(vec!["private", "no-store"]), first in any::<bool>()) {
        for targeted in ["cdn-cache-control", "perigee-cache-control"] {
            response.remove(targeted);
        }
        let rest = response.get("cache-control").cloned();
        let said = match rest.as_ref().and_then(|value| value.to_str().ok()) {
            // A quote that somebody left open would swallow what follows, and another argument would narrow it.
            Some(rest) if !rest.contains(['"', '=']) && !rest.contains("must-understand") => {
                if first { format!("{word}, {rest}") } else { format!("{rest}, {word}") }
            }
            _ => word.to_owned(),
        };
        response.insert("cache-control", said.parse().unwrap());
        prop_assert_eq!(store(&request, status, &response, &honouring(), times(0, 0)), None);
        response.insert("cache-control", "max-age=60".parse().unwrap());
        let mut known = request;
        known.insert("authorization", "x".parse().unwrap());
        prop_assert_eq!(store(&known, status, &response, &honouring(), times(0, 0)), None);
    }

    /// A normal form is its own normal form, selects what the request selected, and is keyed alike.
    #[test]
    fn normal_forms_are_normal(request in fields(), response in response()) {
        let mut normal = request.clone();
        normalise_request(&mut normal);
        let mut twice = normal.clone();
        normalise_request(&mut twice);
        prop_assert_eq!(&twice, &normal);
        for name in ["accept-encoding", "accept-language"].map(HeaderName::from_static) {
            prop_assert_eq!(normal_form(&name, &request), normal_form(&name, &normal));
        }
        if let Some(head) = store(&request, 200, &response, &honouring(), times(0, 0))
            && selects_by_text(&head.vary, &request)
        {
            prop_assert!(matches(&head.vary, &normal), "the form that is sent on selects what was asked for");
        }
    }

    #[test]
    fn normal_queries_are_normal(query in "[a-c=&%2]{0,20}", keep in vec("[a-c]{1,2}", 1..3), sort in any::<bool>()) {
        let query_policy = QueryPolicy { keep, drop: vec!["b".into()], sort };
        let cache = CachePolicy { query: query_policy, ..CachePolicy::default() };
        let policy = policy(&cache, Tier::Edge);
        let normal = normalise_query(Some(&query), &policy);
        prop_assert_eq!(normalise_query(normal.as_deref(), &policy), normal.clone());
        let (site, path) = target("/");
        let key = |query: Option<&str>| CacheKey::new(&site, Scheme::Http, "a.example", &path, query, &policy);
        prop_assert_eq!(key(Some(&query)), key(normal.as_deref()));
    }

    /// Equal keys and equal selected fields give the same variant, whatever else differs.
    #[test]
    fn equal_selections_are_one_variant(
        request in fields(), response in response(), other in fields(), more in vec(fields(), 0..6),
    ) {
        let cache = honouring();
        let Some(head) = store(&request, 200, &response, &cache, times(0, 0)) else { return Ok(()) };
        let mut alike = other;
        for (name, _) in &head.vary {
            alike.remove(name);
            for value in request.get_all(name) {
                alike.append(name.clone(), value.clone());
            }
        }
        if !selects_by_text(&head.vary, &request) {
            return Ok(());
        }
        prop_assert!(matches(&head.vary, &alike));
        let mut index = VariantIndex::default();
        index.insert(head.vary.clone(), 1, 64);
        for (id, earlier) in more.iter().enumerate() {
            if let Some(head) = store(earlier, 200, &response, &cache, times(0, 0)) {
                index.insert(head.vary, id as u64 + 2, 64);
            }
        }
        prop_assert_eq!(index.select(&request), index.select(&alike));
    }

    #[test]
    fn dates_are_total(text in "\\PC{0,40}", ms in any::<u64>()) {
        let _ = parse_http_date(&text);
        let written = Timestamp::from_millis(ms).http_date();
        let read = parse_http_date(&written).unwrap();
        prop_assert_eq!(read.http_date(), written);
    }
}
