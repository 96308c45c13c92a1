//! `[zone]`.

use super::{
    Key,
    Kind::{Choice, Integer, List, Table, Tables, Text, Ttl},
    Section,
    forms::{FILE, KEY, NAME, OWNER, PREFIX, RECORD_TYPE, RECORD_VALUE, SECONDARY, ZONE_NAME},
};
use crate::document::limits::{
    NOTIFY_MAX, RECORD_VALUES_MAX, RECORDS_MAX, TRANSFER_PREFIXES_MAX, ZONE_FILES_MAX, ZONE_KEYS_MAX,
};

pub(super) static ZONE: Section = Section::of(&[
    Key::may(
        "serial",
        Integer(1, u32::MAX as u64, &[]),
        "a zone file's, else made by the nameserver",
        "2026112301",
        "the SOA's; to be raised with each change",
    ),
    Key::may(
        "file",
        Tables(&FILE_SECTION, 0, ZONE_FILES_MAX),
        "none",
        "",
        "standard zone files with records (RFC 1035 §5); see [zones](zones.md)",
    ),
    Key::may(
        "key",
        Tables(&KEY_SECTION, 0, ZONE_KEYS_MAX),
        "none",
        "",
        "secrets shared with secondaries (TSIG, RFC 8945)",
    ),
    Key::may(
        "transfer",
        Table(&TRANSFER),
        "nobody may have the zone",
        "",
        "who may have the whole zone by AXFR and IXFR; not beside `cdn.dnssec`",
    ),
    Key::may(
        "record",
        Tables(&RECORD, 0, RECORDS_MAX),
        "none",
        "",
        "static records beside the steered names, one for each name and type",
    ),
]);

static FILE_SECTION: Section = Section::of(&[
    Key::must("path", Text(&FILE), "\"cdn.example.zone\"", "each in one table only"),
    Key::may(
        "origin",
        Text(&ZONE_NAME),
        "the zone",
        "\"cdn.example\"",
        "what its names are relative to at its beginning",
    ),
]);

static KEY_SECTION: Section = Section::of(&[
    Key::must("name", Text(&NAME), "\"transfer.cdn.example\"", "unique; the same as at the secondaries"),
    Key::or(
        "algorithm",
        Choice(&["hmac-sha256", "hmac-sha384", "hmac-sha512"]),
        "\"hmac-sha256\"",
        "what messages are signed with",
    ),
    Key::must("secret_file", Text(&FILE), "\"transfer.key\"", "the secret in base 64"),
]);

static TRANSFER: Section = Section::of(&[
    Key::must(
        "allow",
        List(&Text(&PREFIX), 1, TRANSFER_PREFIXES_MAX, true),
        "[\"198.18.0.99/32\"]",
        "whose queries are answered",
    ),
    Key::must("key", Text(&KEY), "\"transfer.cdn.example\"", "with whose signature"),
    Key::may(
        "notify",
        List(&Text(&SECONDARY), 0, NOTIFY_MAX, true),
        "none",
        "[\"198.18.0.99\"]",
        "who is told of a new version (RFC 1996); port 53 where none is said",
    ),
]);

static RECORD: Section = Section::of(&[
    Key::must("name", Text(&OWNER), "\"@\"", "`\"@\"`, a name relative to the zone, or a full name with its final dot; `*.x` is a wildcard"),
    Key::must(
        "type",
        Text(&RECORD_TYPE),
        "\"TXT\"",
        "a type's mnemonic, `A`, `AAAA`, `CAA`, `CNAME`, `DS`, `HTTPS`, `MX`, `NS` (a delegation), `PTR`, `SRV`, `SVCB`, `TLSA`, `TXT` \
         and their like, or `TYPE123` with values like `\\\\# 4 C0000201` (RFC 3597)",
    ),
    Key::must("ttl", Ttl, "\"5m\"", "of the set"),
    Key::must(
        "values",
        List(&Text(&RECORD_VALUE), 1, RECORD_VALUES_MAX, true),
        "[\"v=spf1 -all\"]",
        "in zone-file form. Names in them: `@`, one label of the zone, or a full name **with its final dot**. TXT may be bare \
         (`v=spf1 -all`) or `\"quoted\" \"strings\"`",
    ),
])
.notes(
    "No name says two things: a CNAME stands alone; A, AAAA, CNAME and NS have no place at a steered name or a nameserver's; \
     below a delegation there is only glue.",
);
