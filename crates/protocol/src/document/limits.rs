//! A limit on everything a document holds.

use std::time::Duration;

/// The longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// `cdn.nameservers`: what a referral of 512 octets holds.
pub const NAMESERVERS_MAX: usize = 13;
/// `[[pop]]`
pub const POPS_MAX: usize = 1_000;
/// `[[pop.node]]` of one PoP.
pub const POP_NODES_MAX: usize = 64;
/// Addresses of one node or nameserver.
pub const NODE_ADDRESSES_MAX: usize = 16;
/// `cdn.rate_limit.exempt`
pub const EXEMPT_MAX: usize = 1_000;
/// `cdn.why`
pub const WHY_MAX: usize = 1_000;
/// `[[shield]]`
pub const SHIELDS_MAX: usize = 100;
/// `[[site]]`
pub const SITES_MAX: usize = 10_000;
/// `site.hosts`
pub const SITE_HOSTS_MAX: usize = 1_000;
/// `site.origins`
pub const SITE_ORIGINS_MAX: usize = 64;
/// `[[site.rule]]` of one site.
pub const SITE_RULES_MAX: usize = 256;
/// Alternatives in one list of `site.rule.match`.
pub const RULE_PATTERNS_MAX: usize = 64;
/// Bytes of `site.rule.match.extension`.
pub const EXTENSION_BYTES_MAX: usize = 32;
/// Bytes of `site.rule.match.method`.
pub const METHOD_BYTES_MAX: usize = 32;
/// Bytes of a cookie's name.
pub const COOKIE_NAME_BYTES_MAX: usize = 256;
/// Fields in a rule's key, and cookies.
pub const KEY_FIELDS_MAX: usize = 16;
/// Bytes of `site.rule.redirect.to`.
pub const REDIRECT_BYTES_MAX: usize = 2_048;
/// Fields that one rule matches, sets, adds, and removes.
pub const RULE_HEADERS_MAX: usize = 64;
/// Bytes of `site.rule.match.path`, and of a field's pattern.
pub const PATH_PATTERN_BYTES_MAX: usize = 1_024;
/// `*` in one pattern: they bound the cost of matching.
pub const PATH_PATTERN_STARS_MAX: usize = 8;
/// Patterns in each list of `site.cache.query`.
pub const QUERY_PATTERNS_MAX: usize = 256;
/// `site.cache.surrogate_key_headers`
pub const SURROGATE_KEY_HEADERS_MAX: usize = 16;
/// `[[zone.record]]`
pub const RECORDS_MAX: usize = 10_000;
/// Values of one `[[zone.record]]`.
pub const RECORD_VALUES_MAX: usize = 100;
/// `[[zone.file]]`
pub const ZONE_FILES_MAX: usize = 64;
/// `[[zone.key]]`
pub const ZONE_KEYS_MAX: usize = 64;
/// `zone.transfer.allow`
pub const TRANSFER_PREFIXES_MAX: usize = 1_000;
/// `zone.transfer.notify`
pub const NOTIFY_MAX: usize = 64;
/// `[[geo.override]]`
pub const OVERRIDES_MAX: usize = 10_000;
/// Prefixes of one override.
pub const OVERRIDE_PREFIXES_MAX: usize = 100_000;
/// Autonomous systems of one override.
pub const OVERRIDE_ASNS_MAX: usize = 10_000;
/// `geo.steering.answers`
pub const ANSWERS_MAX: u64 = 16;
/// `admin.tokens`
pub const TOKENS_MAX: usize = 1_000;
/// Weights of PoPs and origins.
pub const WEIGHT_MAX: u64 = 65_535;
/// Every time to live: 2³¹-1 seconds (RFC 2181 §8, RFC 9111 §1.2.2).
pub const TTL_MAX: Duration = Duration::from_secs((1 << 31) - 1);
