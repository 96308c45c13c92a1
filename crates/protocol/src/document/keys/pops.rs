//! `[[pop]]` and `[[shield]]`.

use std::time::Duration as Time;

use super::{
    Key,
    Kind::{Choice, Duration, Float, Integer, List, Table, Tables, Text},
    Law, Section,
    forms::{ADDRESS, COUNTRY, ID, PATH, POP as POP_ID, TEXT, URL},
    geo::{LATITUDE, LONGITUDE},
    site::UPSTREAM_TLS,
};
use crate::document::limits::{NODE_ADDRESSES_MAX, POP_NODES_MAX, POPS_MAX, WEIGHT_MAX};

const HOUR: Time = Time::from_secs(3_600);
const ADDRESSES: super::Kind = List(&Text(&ADDRESS), 1, NODE_ADDRESSES_MAX, true);

pub(super) static POP: Section = Section::of(&[
    Key::must("id", Text(&ID), "\"fra\"", "unique"),
    Key::may("city", Text(&TEXT), "none", "\"Frankfurt\"", "for people"),
    Key::may("country", Text(&COUNTRY), "none", "\"DE\"", "for people (ISO 3166)"),
    LATITUDE,
    LONGITUDE,
    Key::may(
        "addresses",
        ADDRESSES,
        "those of its nodes",
        "[\"198.18.49.10\"]",
        "what DNS answers, each once in the document",
    ),
    Key::may(
        "node",
        Tables(&NODE, 0, POP_NODES_MAX),
        "one of the PoP's own `id`",
        "",
        "the machines of the PoP, drained one by one",
    ),
    Key::may("health", Table(&HEALTH), "a GET of /.perigee/healthz every 2s", "", "how each address is probed"),
    Key::or("weight", Integer(0, WEIGHT_MAX, &[]), "100", "0: only when nothing else is left"),
    Key::may(
        "load",
        Table(&LOAD),
        "never sheds",
        "",
        "from what load on it sends clients elsewhere: of what its nodes report, 1 is all that they can bear",
    ),
    Key::may(
        "fallback",
        List(&Text(&POP_ID), 0, POPS_MAX, true),
        "the nearest",
        "[\"lon\"]",
        "PoPs in order, for when it is down",
    ),
])
.laws(&[Law::OneOf(&["addresses", "node"])]);

static NODE: Section = Section::of(&[
    Key::must("id", Text(&ID), "\"fra-a\"", "unique among all nodes"),
    Key::must("addresses", ADDRESSES, "[\"198.18.49.10\"]", "what DNS answers"),
]);

static LOAD: Section = Section::of(&[
    Key::or("target", Float(0.05, 1.0), "0.8", "above it the PoP loses clients, a step at a time"),
    Key::or("max", Float(0.05, 1.0), "0.95", "above it steps are doubled; not below `target`"),
    Key::or("hysteresis", Float(0.01, 0.5), "0.1", "it regains clients when its load is so far below the target"),
    Key::or(
        "step",
        Float(0.01, 0.5),
        "0.1",
        "the part of its clients that it loses at a time; it regains half of it at a time",
    ),
]);

static HEALTH: Section = Section::of(&[
    Key::or("path", Text(&PATH), "\"/.perigee/healthz\"", "what is asked for"),
    Key::or("port", Integer(1, 65_535, &[]), "80", "where"),
    Key::or("interval", Duration(Time::from_millis(100), HOUR), "\"2s\"", "from one probe to the next"),
    Key::or("timeout", Duration(Time::from_millis(1), HOUR), "\"1s\"", "of one probe, shorter than the interval"),
    Key::or("rise", Integer(1, 100, &[]), "2", "good probes in a row that bring an address up"),
    Key::or("fall", Integer(1, 100, &[]), "3", "bad probes in a row that take it down"),
]);

pub(super) static SHIELD: Section = Section::of(&[
    Key::must("id", Text(&ID), "\"shield-eu\"", "unique"),
    Key::must("url", Text(&URL), "\"http://198.18.0.80:8080\"", "where edges ask it; unique"),
    Key::may(
        "pops",
        List(&Text(&POP_ID), 0, POPS_MAX, true),
        "none",
        "[\"fra\", \"lon\"]",
        "the PoPs that it serves first; others use it when theirs is down",
    ),
    Key::or(
        "protocol",
        Choice(&["http/1.1", "h2"]),
        "\"http/1.1\"",
        "`\"h2\"`: many exchanges on one connection per core, by ALPN over TLS (and HTTP/1.1 where the shield knows no \
         other), with prior knowledge without TLS",
    ),
    Key::may(
        "tls",
        Table(&UPSTREAM_TLS),
        "the public authorities and the URL's host",
        "",
        "how it is recognised over https",
    ),
]);
