//! `[site.cache]`, which `--policy` sets too.

use std::{collections::BTreeMap, time::Duration};

use super::{
    limits::{QUERY_PATTERNS_MAX, SURROGATE_KEY_HEADERS_MAX, TTL_MAX},
    names,
    read::Table,
    units::render_size,
    value::Value,
};
use crate::model::{
    CachePolicy, ClientCacheControl, DiskAdmission, HeadPolicy, QueryPolicy, SetCookie, TargetedCacheControl,
};

/// Any time that a cache counts: RFC 9111 §1.2.2 caps delta-seconds at 2³¹.
pub(crate) const ANY_TTL: std::ops::RangeInclusive<Duration> = Duration::ZERO..=TTL_MAX;

const OBJECT_BYTES_MAX: u64 = 1 << 50;
const VARY_LIMIT_MAX: u64 = 1_024;

pub(crate) fn policy(table: &mut Table<'_>) -> Option<CachePolicy> {
    let default = CachePolicy::default();
    let default_ttl = table.duration_or("default_ttl", default.default_ttl, ANY_TTL);
    let max_ttl = table.duration_or("max_ttl", default.max_ttl, ANY_TTL);
    let stale_while_revalidate = table.duration_or("stale_while_revalidate", default.stale_while_revalidate, ANY_TTL);
    let stale_if_error = table.duration_or("stale_if_error", default.stale_if_error, ANY_TTL);
    let negative_ttl = table.or("negative_ttl", BTreeMap::new(), "none", negative_ttl);
    let query = table.or("query", QueryPolicy::default(), "verbatim", query);
    let cookies = [("pass", SetCookie::Pass), ("strip", SetCookie::Strip), ("store", SetCookie::Store)];
    let set_cookie = table.or("set_cookie", default.set_cookie, "\"pass\"", |value| value.choice(&cookies));
    let controls = [("ignore", ClientCacheControl::Ignore), ("honour", ClientCacheControl::Honour)];
    let client_cache_control =
        table.or("client_cache_control", default.client_cache_control, "\"ignore\"", |value| value.choice(&controls));
    let heads = [("pass", HeadPolicy::Pass), ("fill", HeadPolicy::Fill)];
    let head = table.or("head", default.head, "\"pass\"", |value| value.choice(&heads));
    let targets = [("remove", TargetedCacheControl::Remove), ("pass", TargetedCacheControl::Pass)];
    let targeted_cache_control =
        table
            .or("targeted_cache_control", default.targeted_cache_control, "\"remove\"", |value| value.choice(&targets));
    let vary_limit = table.integer_or("vary_limit", default.vary_limit as u64, 1..=VARY_LIMIT_MAX);
    let shown = format!("\"{}\"", render_size(default.object_bytes_max));
    let object_bytes_max =
        table.or("object_bytes_max", default.object_bytes_max, &shown, |value| value.size(0..=OBJECT_BYTES_MAX));
    let bytes_min_max = object_bytes_max.unwrap_or(OBJECT_BYTES_MAX);
    let object_bytes_min =
        table.or("object_bytes_min", default.object_bytes_min, "\"0B\"", |value| value.size(0..=bytes_min_max));
    let admissions = [("always", DiskAdmission::Always), ("second-fetch", DiskAdmission::SecondFetch)];
    let admission = table.or("admission", default.admission, "\"always\"", |value| value.choice(&admissions));
    let shown = "[\"Surrogate-Key\", \"Cache-Tag\", \"Cache-Groups\"]";
    let surrogate_key_headers = table.or("surrogate_key_headers", None, shown, |value| {
        let fields =
            value.set(0..=SURROGATE_KEY_HEADERS_MAX, |value| header_name(value).map(|name| name.to_string()))?;
        fields.iter().map(|field| names::header_name(field)).collect::<Option<Vec<_>>>().map(Some)
    });
    Some(CachePolicy {
        default_ttl: default_ttl?,
        max_ttl: max_ttl?,
        stale_while_revalidate: stale_while_revalidate?,
        stale_if_error: stale_if_error?,
        negative_ttl: negative_ttl?,
        query: query?,
        set_cookie: set_cookie?,
        client_cache_control: client_cache_control?,
        head: head?,
        targeted_cache_control: targeted_cache_control?,
        vary_limit: usize::try_from(vary_limit?).ok()?,
        object_bytes_max: object_bytes_max?,
        object_bytes_min: object_bytes_min?,
        admission: admission?,
        surrogate_key_headers: surrogate_key_headers?.unwrap_or(default.surrogate_key_headers),
    })
}

/// A field that policies may name.
pub(crate) fn header_name(value: &Value<'_>) -> Option<http::HeaderName> {
    value.parse(
        "must be the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own",
        names::header_name,
    )
}

fn negative_ttl(value: &Value<'_>) -> Option<BTreeMap<u16, Duration>> {
    let read: Vec<_> = value
        .table()?
        .entries()
        .into_iter()
        .map(|(status, value)| {
            // 304 is no answer of its own; 2xx have default_ttl.
            let code = status
                .parse::<u16>()
                .ok()
                .filter(|code| (300..=599).contains(code) && *code != 304 && status.len() == 3);
            if code.is_none() {
                value.refuse("must be under a status code, 300 to 599 without 304");
            }
            let ttl = value.duration(ANY_TTL);
            Some((code?, ttl?))
        })
        .collect();
    read.into_iter().collect()
}

pub(crate) fn query(value: &Value<'_>) -> Option<QueryPolicy> {
    let mut table = value.table()?;
    let keep = table.or("keep", QueryPolicy::default().keep, "[\"*\"]", patterns);
    let drop = table.or("drop", Vec::new(), "none", patterns);
    let sort = table.or("sort", false, "false", Value::boolean);
    Some(QueryPolicy { keep: keep?, drop: drop?, sort: sort? })
}

fn patterns(value: &Value<'_>) -> Option<Vec<String>> {
    value.set(0..=QUERY_PATTERNS_MAX, |value| {
        value.parse("must be the name of a query parameter, or the beginning of one and a final *", |text| {
            let name = text.strip_suffix('*').unwrap_or(text);
            let well_formed = !text.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"*&=#".contains(&b));
            well_formed.then(|| text.to_owned())
        })
    })
}
