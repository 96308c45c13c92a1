//! `[[site.rule]]`.

use super::{
    Key,
    Kind::{self, Boolean, Choice, Either, Integer, List, Map, Number, Some, Table, Text},
    Law, Section,
    cache::{ANY_TTL, QUERY},
    forms::{
        COOKIE, EXTENSION, FIELD, FIELD_PATTERN, FIELD_VALUE, HOST_PATTERN, METHOD, PATH_PATTERN, REDIRECT as TARGET,
    },
};
use crate::document::limits::{KEY_FIELDS_MAX, RULE_HEADERS_MAX, RULE_PATTERNS_MAX};

pub(super) static RULE: Section = Section::of(&[
    Key::must("match", Table(&MATCH), "{ path = \"/static/*\" }", "what it applies to"),
    Key::may(
        "cache",
        Either(&[Choice(&["pass"]), Table(&CACHE)]),
        "what the site says",
        "{ ttl = \"1h\" }",
        "`\"pass\"`: never looked up, never stored; or a table",
    ),
    Key::may(
        "request_headers",
        Table(&HEADERS),
        "none",
        "{ remove = [\"X-Debug\"] }",
        "what is sent to the origin: none that frames messages or belongs to one hop, not Host, Expect, CDN-Loop",
    ),
    Key::may(
        "headers",
        Table(&HEADERS),
        "none",
        "{ set = { \"X-Frame-Options\" = \"DENY\" } }",
        "the same of responses to clients",
    ),
    Key::may(
        "redirect",
        Table(&REDIRECT),
        "none",
        "{ to = \"https://www.example.com{path}{query}\" }",
        "answered at once",
    ),
])
.laws(&[Law::NotBoth("redirect", "cache"), Law::NotBoth("redirect", "request_headers")])
.intro(
    "The first whose `match` fits applies, the others do not. [Rules](rules.md) tells how, with examples. Beside \
     `match.status` stand only `ttl`, `stale_while_revalidate`, `stale_if_error` and `headers`.",
);

const fn some(kind: &'static Kind) -> Kind {
    Some(kind, RULE_PATTERNS_MAX)
}

static MATCH: Section = Section::of(&[
    Key::may("path", some(&Text(&PATH_PATTERN)), "any", "\"/static/*\"", "with at most eight `*`, each for any run"),
    Key::may(
        "extension",
        some(&Text(&EXTENSION)),
        "any",
        "[\"jpg\", \"png\"]",
        "what stands after the path's last dot",
    ),
    Key::may("host", some(&Text(&HOST_PATTERN)), "any", "\"*.example.com\"", "without port"),
    Key::may("method", some(&Text(&METHOD)), "any", "\"POST\"", "case-sensitive"),
    Key::may(
        "header",
        Map(&FIELD, &some(&Text(&FIELD_PATTERN)), RULE_HEADERS_MAX),
        "any",
        "{ \"X-Beta\" = \"1\" }",
        "fields of the request, not Host",
    ),
    Key::may("cookie", some(&Text(&COOKIE)), "any", "[\"session\"]", "that the request has"),
    Key::may(
        "status",
        some(&Either(&[Integer(200, 599, &[206, 304]), Choice(&["2xx", "3xx", "4xx", "5xx"])])),
        "any",
        "[404, \"5xx\"]",
        "of the response; 206 and 304 count as the 200 that they are of",
    ),
])
.laws(&[Law::AnyKey])
.intro("Every key must match, of a list any element.");

static CACHE: Section = Section::of(&[
    Key::may("ttl", ANY_TTL, "the site's", "\"1h\"", "freshness, whatever the origin says"),
    Key::may("stale_while_revalidate", ANY_TTL, "the site's", "\"1m\"", "whatever the origin says"),
    Key::may("stale_if_error", ANY_TTL, "the site's", "\"1d\"", "whatever the origin says"),
    Key::or("ignore_query", Boolean, "false", "one object whatever the query; not beside `query`"),
    Key::may("query", Table(&QUERY), "the site's", "{ keep = [\"page\"] }", "which parameters are part of the key"),
    Key::may("key", Table(&KEY), "the URL alone", "{ device = true }", "what is part of the key beside the URL"),
]);

static KEY: Section = Section::of(&[
    Key::may(
        "headers",
        List(&Text(&FIELD), 0, KEY_FIELDS_MAX, true),
        "none",
        "[\"Accept-Language\"]",
        "fields, not Host, Cookie, Range or conditions",
    ),
    Key::may(
        "cookies",
        List(&Text(&COOKIE), 0, KEY_FIELDS_MAX, true),
        "none",
        "[\"theme\"]",
        "cookies; of a GET or HEAD no other is sent on, with `[]` none at all",
    ),
    Key::or("device", Boolean, "false", "`desktop`, `mobile`, `tablet` or `bot`, guessed from User-Agent"),
    Key::or("country", Boolean, "false", "the client's; needs `geo.database`"),
]);

static HEADERS: Section = Section::of(&[
    Key::may("remove", List(&Text(&FIELD), 0, RULE_HEADERS_MAX, true), "none", "[\"Server\"]", "first these go"),
    Key::may("set", VALUES, "none", "{ \"X-Frame-Options\" = \"DENY\" }", "then these are the only ones of their name"),
    Key::may("add", VALUES, "none", "{ \"Link\" = \"</a.css>; rel=preload\" }", "then these come beside others"),
]);

const VALUES: Kind = Map(&FIELD, &Text(&FIELD_VALUE), RULE_HEADERS_MAX);

static REDIRECT: Section = Section::of(&[
    Key::or("status", Number(&[301, 302, 303, 307, 308]), "302", "of the answer"),
    Key::must("to", Text(&TARGET), "\"https://www.example.com{path}{query}\"", "where to"),
]);
