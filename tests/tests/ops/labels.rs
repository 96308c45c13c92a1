//! Every label: what it says, what values it can have, and how many there can be. The one place where this is written down; what
//! the tiers export is held against it.

/// What values a label has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    /// These and no others.
    Words(&'static [&'static str]),
    /// Of the document or the world; in words how many.
    Open(&'static str),
}

/// One label of one family, or of all that have it.
#[derive(Debug)]
pub(crate) struct Label {
    /// Empty: of all for which no other line is.
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    pub(crate) says: &'static str,
    pub(crate) values: Values,
}

impl Values {
    pub(crate) fn allow(self, value: &str) -> bool {
        match self {
            Self::Words(words) => words.contains(&value),
            Self::Open(_) => true,
        }
    }
}

const fn label(family: &'static str, name: &'static str, says: &'static str, values: Values) -> Label {
    Label { family, name, says, values }
}

const RELOADED: &[&str] = &["document", "geo-database", "asn-database", "certificate", "zone-files", "keys"];
const CACHE: &[&str] = &["hit", "stale", "validated", "collapsed", "miss", "pass", "error"];
const KINDS: &[&str] = &["head", "segment"];
/// `ok`, then `FetchErrorKind`.
const OUTCOMES: &[&str] = &[
    "ok",
    "connect",
    "connect-timeout",
    "first-byte-timeout",
    "between-bytes-timeout",
    "premature-close",
    "protocol",
    "too-many-connections",
    "client-share",
    "slow-client",
    "no-upstream",
    "request-body",
];

/// In the order of the page.
pub(crate) const LABELS: &[Label] = &[
    label(
        "",
        "node",
        "the node's name: `--name`, else its PoP's, shield's or nameserver's",
        Values::Open("one a node"),
    ),
    label("", "tier", "what the node is", Values::Words(&["edge", "shield", "geodns"])),
    label("", "version", "of the program", Values::Open("one a node")),
    label("", "le", "a bucket's upper bound in seconds", Values::Open("11 or 16 a histogram")),
    label(
        "",
        "site",
        "a site's id; of certificates also the flag or the table that names one for other names; of requests also `(none)`, which no site answers for, and `(other)`, the sites above 1,000",
        Values::Open("the document's sites"),
    ),
    label("", "peer", "`shield ID` or `origin URL`", Values::Open("the shields and the site's origins")),
    label("", "pop", "a PoP's id", Values::Open("the document's PoPs")),
    label("", "address", "an address of a PoP", Values::Open("the document's addresses")),
    label("", "what", "what is read again", Values::Words(RELOADED)),
    label("perigee_reloads", "result", "whether the new one serves", Values::Words(&["applied", "refused"])),
    label(
        "perigee_connections_ended",
        "reason",
        "why",
        Values::Words(&[
            "client-limit",
            "gave-way",
            "proxy-header",
            "proxy-timeout",
            "handshake",
            "handshake-timeout",
            "header-timeout",
            "idle-timeout",
            "write-timeout",
        ]),
    ),
    label("perigee_connections_by_protocol", "protocol", "what is spoken", Values::Words(&["http/1", "h2"])),
    label("perigee_connections_by_protocol", "tls", "whether over TLS", Values::Words(&["no", "yes"])),
    label("perigee_tls_handshakes", "kind", "with a certificate, or by a ticket", Values::Words(&["full", "resumed"])),
    label("", "cache", "what the cache did", Values::Words(CACHE)),
    label(
        "perigee_requests",
        "reason",
        "why, in the decision's word: the access log's `reason`",
        Values::Open("the program's words, fewer than 100"),
    ),
    label(
        "perigee_requests",
        "status",
        "class of the status",
        Values::Words(&["1xx", "2xx", "3xx", "4xx", "5xx", "other"]),
    ),
    label("perigee_store_lookups", "kind", "what is looked up", Values::Words(KINDS)),
    label("perigee_store_lookups", "found", "where it was", Values::Words(&["memory", "disk", "nowhere"])),
    label("perigee_store_writes", "kind", "what is written", Values::Words(KINDS)),
    label(
        "perigee_store_writes",
        "fate",
        "where it went, or why not to the disk",
        Values::Words(&["disk", "memory-only", "disk-down", "first-fetch", "refused"]),
    ),
    label(
        "perigee_store_disk_faults",
        "reason",
        "what the probe found",
        Values::Words(&["folder", "lost", "read", "slow"]),
    ),
    label(
        "perigee_purges",
        "scope",
        "what was purged",
        Values::Words(&["everything", "site", "url", "prefix", "tag", "group"]),
    ),
    label(
        "perigee_purges",
        "kind",
        "to be validated, gone, or an unsafe request's own",
        Values::Words(&["soft", "hard", "local"]),
    ),
    label("perigee_upstream_fetches", "outcome", "how an attempt ended", Values::Words(OUTCOMES)),
    label("perigee_upstream_bodies_failed", "outcome", "why", Values::Words(OUTCOMES)),
    label(
        "perigee_upstream_responses",
        "status",
        "class of the status",
        Values::Words(&["2xx", "3xx", "4xx", "5xx", "other"]),
    ),
    label("", "transport", "what carried it", Values::Words(&["udp", "tcp", "tls", "https", "quic"])),
    label(
        "perigee_dns_queries",
        "rcode",
        "what was answered",
        Values::Words(&[
            "NOERROR",
            "FORMERR",
            "NXDOMAIN",
            "NOTIMP",
            "REFUSED",
            "YXDOMAIN",
            "NOTAUTH",
            "BADVERS",
            "BADCOOKIE",
            "dropped",
        ]),
    ),
    label("perigee_dns_queries", "reason", "why", Values::Words(DNS_REASONS)),
    label("perigee_dns_clients", "country", "ISO 3166-1 alpha-2, or `none`", Values::Open("about 250")),
    label(
        "perigee_dns_clients",
        "source",
        "what told where the client is",
        Values::Words(&["database", "country", "override", "default"]),
    ),
    label("perigee_dns_probes", "result", "how it went", Values::Words(&["ok", "failed"])),
    label("perigee_dns_pop_operator", "state", "what an operator said", Values::Words(&["drain", "force_up"])),
];

const DNS_REASONS: &[&str] = &[
    "nearest",
    "override",
    "fallback",
    "next-nearest",
    "reserve",
    "shed",
    "drained",
    "all-down",
    "all-down-last-known",
    "all-down-nodata",
    "all-down-cname",
    "fenced",
    "no-address",
    "static",
    "alias",
    "name-too-long",
    "why",
    "any",
    "no-data",
    "nx-domain",
    "referral",
    "out-of-zone",
    "class",
    "transfer",
    "transferred",
    "tsig-bad-signature",
    "tsig-bad-key",
    "tsig-bad-time",
    "meta-type",
    "query-type",
    "opcode",
    "question-count",
    "malformed",
    "edns",
    "edns-version",
    "client-subnet",
    "cookie",
    "rate-limit",
    "too-short",
    "is-response",
    "quic-rules",
];

/// What that family's label is.
pub(crate) fn of(family: &str, name: &str) -> Option<&'static Label> {
    let of = |family: &str| LABELS.iter().find(|label| label.family == family && label.name == name);
    of(family).or_else(|| of(""))
}

/// Where the words are spelled that labels above repeat.
const SPELLED: [(&str, &[(&str, &str)]); 8] = [
    ("crates/dns/src/outcome.rs", &[("perigee_dns_queries", "reason")]),
    ("crates/dns/src/arrival.rs", &[("", "transport")]),
    ("crates/geo/src/steer/steered.rs", &[("perigee_dns_queries", "reason"), ("perigee_dns_clients", "source")]),
    ("crates/geo/src/health.rs", &[("perigee_dns_pop_operator", "state")]),
    ("crates/upstream/src/error.rs", &[("perigee_upstream_fetches", "outcome")]),
    ("crates/node/src/metrics.rs", &[("", "what"), ("perigee_reloads", "result")]),
    (
        "crates/node/src/door_metrics.rs",
        &[
            ("perigee_connections_ended", "reason"),
            ("perigee_connections_by_protocol", "protocol"),
            ("perigee_tls_handshakes", "kind"),
        ],
    ),
    ("crates/semantics/src/purge/scope.rs", &[("perigee_purges", "scope")]),
];

#[test]
fn the_words_are_those_of_the_sources() {
    for (path, described) in SPELLED {
        let text = crate::read(path);
        let spelled: Vec<&str> =
            text.split("=> \"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(word, _)| word).collect();
        assert!(!spelled.is_empty(), "{path}: as_str is written in another way");
        let mut listed = Vec::new();
        for (family, name) in described {
            let Values::Words(words) = of(family, name).unwrap().values else { panic!("{family} {name}") };
            listed.extend(words.iter().copied());
        }
        for word in spelled {
            assert!(listed.contains(&word), "{path} spells {word:?}, and {described:?} does not list it");
        }
    }
}
