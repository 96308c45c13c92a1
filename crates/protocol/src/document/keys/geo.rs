//! `[geo]`.

use super::{
    Key,
    Kind::{Float, Integer, List, Map, Table, Tables, Text},
    Law, Section,
    forms::{FENCED, FILE, POP, PREFIX},
};
use crate::document::limits::{ANSWERS_MAX, OVERRIDE_ASNS_MAX, OVERRIDE_PREFIXES_MAX, OVERRIDES_MAX, POPS_MAX};

pub(super) static GEO: Section = Section::of(&[
    Key::may(
        "database",
        Text(&FILE),
        "every client is at `default_location`",
        "\"GeoLite2-City.mmdb\"",
        "an MMDB of MaxMind's City or Country shape, or of DB-IP's flat one",
    ),
    Key::may("asn_database", Text(&FILE), "none", "\"GeoLite2-ASN.mmdb\"", "an MMDB of autonomous systems"),
    Key::may(
        "default_location",
        Table(&LOCATION),
        "the first PoP's",
        "{ latitude = 50.11, longitude = 8.68 }",
        "of addresses that the database does not know",
    ),
    Key::may(
        "override",
        Tables(&OVERRIDE, 0, OVERRIDES_MAX),
        "none",
        "",
        "clients → PoP or location, before the database (a coverage zone)",
    ),
    Key::may(
        "steering",
        Table(&STEERING),
        "answers = 2",
        "",
        "how many PoPs are answered, and which may be; see [steering](steering.md)",
    ),
]);

static LOCATION: Section = Section::of(&LOCATION_KEYS);

const LOCATION_KEYS: [Key; 2] = [
    Key::must("latitude", Float(-90.0, 90.0), "50.11", "degrees north"),
    Key::must("longitude", Float(-180.0, 180.0), "8.68", "degrees east"),
];
pub(super) const LATITUDE: Key = LOCATION_KEYS[0];
pub(super) const LONGITUDE: Key = LOCATION_KEYS[1];

static OVERRIDE: Section = Section::of(&[
    Key::may(
        "prefixes",
        List(&Text(&PREFIX), 1, OVERRIDE_PREFIXES_MAX, true),
        "`prefixes_file` or `asn`",
        "[\"203.0.113.0/24\"]",
        "without bits beyond their length, each in one override only",
    ),
    Key::may(
        "prefixes_file",
        Text(&FILE),
        "none",
        "\"zone-europe.txt\"",
        "a file of more of them, one a line, `#` begins a comment; read again when it changes",
    ),
    Key::may(
        "asn",
        List(&Integer(1, 4_294_967_294, &[]), 1, OVERRIDE_ASNS_MAX, true),
        "`prefixes`",
        "[64500]",
        "autonomous systems, each in one override only; needs `asn_database`. A prefix that names a client decides before its \
         autonomous system",
    ),
    Key::may("pop", Text(&POP), "`location`", "\"fra\"", "where its clients are sent"),
    Key::may("location", Table(&LOCATION), "`pop`", "{ latitude = 50.11, longitude = 8.68 }", "where its clients are"),
])
.laws(&[Law::OneOf(&["pop", "location"]), Law::AnyOf(&["prefixes", "prefixes_file", "asn"])]);

static STEERING: Section = Section::of(&[
    Key::or("answers", Integer(1, ANSWERS_MAX, &[]), "2", "addresses in one answer, nearest first"),
    Key::may(
        "bias",
        Map(&POP, &Float(0.001, 1_000.0), 0),
        "1.0 for all",
        "{ fra = 1.2 }",
        "divides a PoP's distance: above 1 attracts",
    ),
    Key::may(
        "fence",
        Map(&FENCED, &List(&Text(&POP), 0, POPS_MAX, true), 0),
        "any PoP for all",
        "{ \"DE\" = [\"fra\"], \"*\" = [] }",
        "the only PoPs that clients may use, `[]` for any, by country (`DE`), `continent:EU` (`AF`, `AN`, `AS`, `EU`, `NA`, `OC`, `SA`), \
         `AS64500` (needs `asn_database`), or `\"*\"` for all others",
    ),
]);
