//! `[site.cache]`.

use std::time::Duration as Time;

use super::{
    Key,
    Kind::{self, Boolean, Choice, Duration, Integer, List, Map, Size, Table, Text},
    Section,
    forms::{FIELD, QUERY as QUERY_PATTERN, STATUS},
};
use crate::document::limits::{QUERY_PATTERNS_MAX, SURROGATE_KEY_HEADERS_MAX, TTL_MAX};

pub(super) const ANY_TTL: Kind = Duration(Time::ZERO, TTL_MAX);

pub(super) static CACHE: Section = Section::of(&[
    Key::or("default_ttl", ANY_TTL, "\"0s\"", "for responses without freshness information; 0: heuristics only").example("\"60s\""),
    Key::or("max_ttl", ANY_TTL, "\"365d\"", "longest freshness"),
    Key::or("stale_while_revalidate", ANY_TTL, "\"0s\"", "where the origin says nothing").example("\"30s\""),
    Key::or("stale_if_error", ANY_TTL, "\"1d\"", "where the origin says nothing"),
    Key::may(
        "negative_ttl",
        Map(&STATUS, &ANY_TTL, 0),
        "none",
        "{ 404 = \"5s\", 410 = \"1m\" }",
        "status (300 to 599 without 304) → duration, where the origin says nothing",
    ),
    Key::may("query", Table(&QUERY), "verbatim", "{ drop = [\"utm_*\"], sort = true }", "which parameters are part of the key"),
    Key::or(
        "set_cookie",
        Choice(&["pass", "strip", "store"]),
        "\"pass\"",
        "responses with Set-Cookie: `\"pass\"`: answered, not stored; `\"strip\"`: stored without the field; `\"store\"`: with it",
    ),
    Key::or(
        "client_cache_control",
        Choice(&["ignore", "honour"]),
        "\"ignore\"",
        "what clients ask by Cache-Control (RFC 9111 §5.2.1)",
    ),
    Key::or(
        "head",
        Choice(&["pass", "fill"]),
        "\"pass\"",
        "`\"pass\"`: a HEAD that finds nothing usable goes on as a HEAD; `\"fill\"`: the object is fetched with GET and stored",
    ),
    Key::or(
        "targeted_cache_control",
        Choice(&["remove", "pass"]),
        "\"remove\"",
        "`\"remove\"`: CDN-Cache-Control and Perigee-Cache-Control end at the edge; `\"pass\"`: clients get them (RFC 9213)",
    ),
    Key::or("vary_limit", Integer(1, 1_024, &[]), "64", "variants of one URL"),
    Key::or("object_bytes_max", Size(0, 1 << 50), "\"16GiB\"", "larger objects are not stored"),
    Key::or(
        "object_bytes_min",
        Size(0, 1 << 50),
        "\"0B\"",
        "smaller objects (of status 200) are not stored; at most `object_bytes_max`",
    ),
    Key::or(
        "admission",
        Choice(&["always", "second-fetch"]),
        "\"always\"",
        "what goes to the disk: `\"second-fetch\"` keeps an object in memory only until its URL is fetched a second time, \
         so that what is asked for once costs the disk nothing (see [store.md](store.md))",
    ),
    Key::or(
        "surrogate_key_headers",
        List(&Text(&FIELD), 0, SURROGATE_KEY_HEADERS_MAX, true),
        "[\"Surrogate-Key\", \"Cache-Tag\", \"Cache-Groups\"]",
        "the fields of a response that hold its surrogate keys",
    ),
])
.intro(
    "Each key is one of `--policy KEY=VALUE` too: `--policy set_cookie=store --policy 'negative_ttl={404=\"5s\"}'`. A value is \
     TOML where it is TOML, else a text.",
);

pub(super) static QUERY: Section = Section::of(&[
    Key::or("keep", List(&Text(&QUERY_PATTERN), 0, QUERY_PATTERNS_MAX, true), "[\"*\"]", "the parameters that stay"),
    Key::may(
        "drop",
        List(&Text(&QUERY_PATTERN), 0, QUERY_PATTERNS_MAX, true),
        "none",
        "[\"utm_*\", \"fbclid\"]",
        "of those, the ones that go",
    ),
    Key::or("sort", Boolean, "false", "the rest in one order, whatever the client's"),
]);
