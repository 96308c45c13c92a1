//! `[[site]]`.

use std::time::Duration as Time;

use super::{
    Key,
    Kind::{Boolean, Choice, Duration, Either, Integer, List, Table, Tables, Text},
    Section,
    cache::CACHE,
    forms::{AUTHORITY, FILE, HOST, ID, POP_OR_ALL, URL},
    rule::RULE,
};
use crate::document::limits::{POPS_MAX, SITE_HOSTS_MAX, SITE_ORIGINS_MAX, SITE_RULES_MAX, WEIGHT_MAX};

const TIMEOUT: super::Kind = Duration(Time::from_millis(1), Time::from_secs(3_600));

pub(super) static SITE: Section = Section::of(&[
    Key::must("id", Text(&ID), "\"www\"", "unique, and the label of its steered name"),
    Key::may(
        "hosts",
        List(&Text(&HOST), 0, SITE_HOSTS_MAX, true),
        "only its steered name",
        "[\"www.example.com\"]",
        "host names, each of one site only",
    ),
    Key::must(
        "origins",
        List(&Table(&ORIGIN), 1, SITE_ORIGINS_MAX, false),
        "[{ url = \"http://198.18.0.90:8000\" }]",
        "the servers that have the content",
    ),
    Key::may("host_header", Text(&AUTHORITY), "the client's", "\"www.example.com\"", "sent to the origin; also the authority of the cache key"),
    Key::or("pops", List(&Text(&POP_OR_ALL), 1, POPS_MAX, true), "[\"*\"]", "where it is served; `\"*\"` alone is everywhere"),
    Key::or(
        "all_down",
        Either(&[Choice(&["nearest", "last_known", "nodata"]), Table(&ALL_DOWN)]),
        "\"nearest\"",
        "what its name answers while all PoPs that a client may use are down: `\"nearest\"`, as if all were up; `\"last_known\"`, \
         those that were up until shortly before the last of them went; `\"nodata\"`, no address; or a table, another name",
    ),
    Key::may("tls", Table(&TLS), "none", "", "the site's own certificate"),
    Key::may("cache", Table(&CACHE), "RFC 9111 as it stands", "", "what is stored and for how long"),
    Key::may("upstream", Table(&UPSTREAM), "connect_timeout = \"2s\" and so on", "", "how origins are asked"),
    Key::may("rule", Tables(&RULE, 0, SITE_RULES_MAX), "none", "", "what is different for some requests"),
])
.intro(
    "A site is served under its `hosts`, under `ID.ZONE` (its steered name), and, where it is the `apex_site`, under the zone \
     itself.",
);

static ALL_DOWN: Section = Section::of(&[Key::must(
    "cname",
    Text(&HOST),
    "\"status.example.net\"",
    "where its clients go then: none of the site's own names, and not for the site at the zone's apex",
)]);

static ORIGIN: Section = Section::of(&[
    Key::must("url", Text(&URL), "\"http://198.18.0.90:8000\"", "unique among the site's"),
    Key::or("weight", Integer(1, WEIGHT_MAX, &[]), "1", "its share of the fetches"),
    Key::or("backup", Boolean, "false", "asked only when the others are down; not all may be"),
]);

static TLS: Section = Section::of(&[
    Key::must("certificate", Text(&FILE), "\"www.pem\"", "PEM: the certificate and those between it and an authority"),
    Key::must("key", Text(&FILE), "\"www.key\"", "PEM: its private key"),
    Key::or("redirect", Boolean, "false", "`http` is sent to `https` with 308"),
])
.notes("[TLS](tls.md) tells which certificate answers, and when the files are read again.");

static UPSTREAM: Section = Section::of(&[
    Key::or("connect_timeout", TIMEOUT, "\"2s\"", "until a connection is there"),
    Key::or("first_byte_timeout", TIMEOUT, "\"15s\"", "request sent to response head"),
    Key::or("between_bytes_timeout", TIMEOUT, "\"10s\"", "from one piece of the body to the next"),
    Key::or("retries", Integer(0, 10, &[]), "2", "after the first attempt"),
    Key::or("connections_max", Integer(1, 65_535, &[]), "256", "to one upstream from one process"),
    Key::may(
        "tls",
        Table(&UPSTREAM_TLS),
        "the public authorities and the URL's host",
        "",
        "how https origins are recognised",
    ),
])
.notes(
    "Origins are asked over HTTP/1.1. A body that ends with its connection is stored only after a clean end: FIN, or \
     close_notify over TLS.",
);

pub(super) static UPSTREAM_TLS: Section = Section::of(&[
    Key::may(
        "ca",
        Text(&FILE),
        "the public authorities",
        "\"origin-ca.pem\"",
        "PEM: the certificates to trust instead of the public authorities (bundled, nothing of the machine is read)",
    ),
    Key::may(
        "name",
        Text(&HOST),
        "the host of the URL",
        "\"origin.example\"",
        "what the server is asked for (SNI) and what its certificate must be for",
    ),
])
.notes("The file is read at the start and at each reload of the document; one that cannot be read or holds no certificate is an error that names it.");
