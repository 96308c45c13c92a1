//! `[cdn]`, `[control]`, `[admin]`.

use super::{
    Key,
    Kind::{Choice, Integer, List, Table, Text, Ttl},
    Law, Section,
    forms::{ADDRESS, FILE, HOST, MAIL, NATS, PREFIX, SHA256, SITE, WORD},
};
use crate::document::limits::{EXEMPT_MAX, NAMESERVERS_MAX, NODE_ADDRESSES_MAX, TOKENS_MAX, WHY_MAX};

pub(super) static CDN: Section = Section::of(&[
    Key::or("name", Text(&WORD), "\"perigee\"", "identity in Via and CDN-Loop"),
    Key::must("zone", Text(&HOST), "\"cdn.example\"", "the DNS zone that `perigee-geodns` is authoritative for"),
    Key::may(
        "nameservers",
        List(&Table(&NAMESERVER), 0, NAMESERVERS_MAX, false),
        "none",
        "[{ host = \"ns1.cdn.example\", addresses = [\"198.18.0.53\"] }]",
        "the zone's NS records; the first is the SOA's MNAME",
    ),
    Key::may("contact", Text(&MAIL), "`hostmaster@ZONE`", "\"hostmaster@cdn.example\"", "the SOA's RNAME"),
    Key::or("ttl", Ttl, "\"30s\"", "of steered answers"),
    Key::or("negative_ttl", Ttl, "\"60s\"", "of negative answers (RFC 2308)"),
    Key::may("apex_site", Text(&SITE), "none", "\"www\"", "the site that answers at the zone's apex"),
    Key::may(
        "secret_file",
        Text(&FILE),
        "none",
        "\"fleet.secret\"",
        "proves one node of the fleet to another; without it, internal headers are believed from nobody, and each \
         nameserver makes DNS cookies by a secret of its own",
    ),
    Key::may("dnssec", Table(&DNSSEC), "unsigned", "", "the zone is signed; see [DNSSEC](dnssec.md)"),
    Key::may(
        "rate_limit",
        Table(&RATE_LIMIT),
        "1000 a second and network",
        "",
        "what one /24 or /56 may have by UDP without a DNS cookie",
    ),
    Key::may(
        "why",
        List(&Text(&PREFIX), 0, WHY_MAX, true),
        "loopback",
        "[\"127.0.0.0/8\", \"::1/128\"]",
        "whose clients may ask TXT of `_why.NAME` why a name is answered as it is; to others that name is not there; \
         see [steering](steering.md)",
    ),
    Key::may(
        "dns_tls",
        Table(&DNS_TLS),
        "no encrypted transports",
        "",
        "DNS over TLS, QUIC and HTTPS; see [transports](dns-transports.md)",
    ),
]);

static NAMESERVER: Section = Section::of(&[
    Key::must("host", Text(&HOST), "\"ns1.cdn.example\"", "its name, none of the steered ones"),
    Key::may(
        "addresses",
        List(&Text(&ADDRESS), 0, NODE_ADDRESSES_MAX, true),
        "none",
        "[\"198.18.0.53\"]",
        "its glue; required where `host` is inside the zone",
    ),
]);

static DNSSEC: Section = Section::of(&[
    Key::must("keys", Text(&FILE), "\"keys\"", "the keys' folder, which `perigee dns keygen` fills"),
    Key::or("algorithm", Choice(&["ecdsa-p256", "ed25519"]), "\"ecdsa-p256\"", "of new keys"),
]);

static RATE_LIMIT: Section = Section::of(&[
    Key::or("responses_per_second", Integer(0, 10_000_000, &[]), "1000", "0: no limit"),
    Key::or(
        "slip",
        Integer(0, 100, &[]),
        "2",
        "of the queries beyond, each such one gets TC, the others nothing; 0: none does",
    ),
    Key::may(
        "exempt",
        List(&Text(&PREFIX), 0, EXEMPT_MAX, true),
        "loopback and private networks",
        "[\"10.0.0.0/8\"]",
        "prefixes without a limit; by default loopback, private, link-local and benchmarking networks",
    ),
]);

static DNS_TLS: Section = Section::of(&[
    Key::must(
        "certificate",
        Text(&FILE),
        "\"ns.pem\"",
        "PEM: the nameservers' certificate and those between it and an authority",
    ),
    Key::must("key", Text(&FILE), "\"ns.key\"", "PEM: its private key"),
    Key::or(
        "offers",
        List(&Choice(&["dot", "doq", "doh"]), 0, 3, true),
        "[\"dot\", \"doq\"]",
        "the transports that are served",
    ),
]);

pub(super) static CONTROL: Section = Section::of(&[
    Key::or("engine", Choice(&["embedded", "nats"]), "\"embedded\"", "what orders purges and documents"),
    Key::may("url", Text(&NATS), "none", "\"nats://nats.cdn.example:4222\"", "of the NATS servers"),
    Key::may("credentials", Text(&FILE), "none", "\"nats.creds\"", "for the NATS servers"),
])
.laws(&[
    Law::Only("url", "engine", "nats"),
    Law::Only("credentials", "engine", "nats"),
    Law::Needed("url", "engine", "nats"),
]);

pub(super) static ADMIN: Section = Section::of(&[Key::may(
    "tokens",
    List(&Table(&TOKEN), 0, TOKENS_MAX, false),
    "none",
    "",
    "the bearer tokens that nodes' admin listeners know",
)]);

static TOKEN: Section = Section::of(&[
    Key::must("name", Text(&WORD), "\"ops\"", "whose it is, in logs"),
    Key::must(
        "sha256",
        Text(&SHA256),
        "\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
        "of the token, as `printf %s TOKEN | sha256sum` prints it",
    ),
    Key::must("scopes", List(&Choice(&["purge", "drain", "read"]), 1, 3, true), "[\"read\"]", "what it is good for"),
]);
