//! `[[site]]`: hosts, origins, policies, rules.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{
    cache::{self, ANY_TTL, header_name},
    fleet::{HOST_LAW, KnownPops, path},
    limits::{
        PATH_PATTERN_BYTES_MAX, PATH_PATTERN_STARS_MAX, POPS_MAX, RULE_HEADERS_MAX, SITE_HOSTS_MAX, SITE_ORIGINS_MAX,
        SITE_RULES_MAX, WEIGHT_MAX,
    },
    names,
    pops::{URL_LAW, id},
    value::{Seen, Value},
    zone::Taken,
};
use crate::{
    id::{PopId, SiteId},
    model::{CachePolicy, HeaderRules, Origin, PathPattern, Rule, RuleCache, Site, SiteTls, UpstreamPolicy},
};

/// What a site must agree with.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) pops: &'a KnownPops<'a>,
    /// None where the document's zone cannot be read.
    pub(crate) taken: Option<&'a Taken<'a>>,
}

/// What no two sites may share.
#[derive(Debug, Default)]
pub(crate) struct SitesSeen {
    ids: Seen<String>,
    hosts: Seen<String>,
}

pub(crate) fn site(value: &Value<'_>, around: &Around<'_>, seen: &mut SitesSeen) -> Option<Site> {
    let mut table = value.table()?;
    let id = table.must("id", "\"www\"", |value| {
        let id = id::<SiteId>(value)?;
        if around.taken.is_some_and(|taken| id.as_str().len() + 1 + taken.zone.len() > names::NAME_BYTES_MAX) {
            value.wrong("must leave room for the zone: a DNS name has at most 253 characters", "shorten it");
            return None;
        }
        seen.ids.is_new(id.to_string(), value).then_some(id)
    });
    let hosts = table
        .or("hosts", Vec::new(), "only its steered name", |list| hosts(list, value.raw_id(), around, &mut seen.hosts));
    let origins = table.must("origins", "[{ url = \"http://198.18.0.90:8000\" }]", origins);
    let host_header =
        table.maybe("host_header", |value| value.parse("must be a host, or a host and a port", names::authority));
    let pops = table.or("pops", None, "[\"*\"]", |value| served_at(value, around.pops));
    let tls = table.maybe("tls", |value| {
        let mut table = value.table()?;
        let (certificate, key) =
            (table.must("certificate", "\"www.pem\"", path), table.must("key", "\"www.key\"", path));
        Some(SiteTls { certificate: certificate?, key: key? })
    });
    let cache =
        table.or("cache", CachePolicy::default(), "RFC 9111 as it stands", |value| cache::policy(&mut value.table()?));
    let upstream = table.or("upstream", UpstreamPolicy::default(), "connect_timeout = \"2s\" and so on", upstream);
    let rules: Vec<_> = table.tables("rule", 0..=SITE_RULES_MAX).iter().map(rule).collect();
    Some(Site {
        id: id?,
        hosts: hosts?,
        origins: origins?,
        host_header: host_header?,
        pops: pops?,
        tls: tls?,
        cache: cache?,
        upstream: upstream?,
        rules: rules.into_iter().collect::<Option<_>>()?,
    })
}

/// Without the names that the site has anyway: its steered name, and the apex where that is its own.
fn hosts(list: &Value<'_>, site: Option<&str>, around: &Around<'_>, seen: &mut Seen<String>) -> Option<Vec<String>> {
    let read: Vec<_> = list.list(0..=SITE_HOSTS_MAX)?.iter().map(|value| host(value, site, around, seen)).collect();
    let hosts: Vec<_> = read.into_iter().collect::<Option<_>>()?;
    Some(hosts.into_iter().flatten().collect())
}

/// None where it is wrong, `Some(None)` where it goes without saying.
fn host(value: &Value<'_>, site: Option<&str>, around: &Around<'_>, seen: &mut Seen<String>) -> Option<Option<String>> {
    let host = value.parse(HOST_LAW, names::host_name)?;
    if !seen.is_new(host.clone(), value) {
        return None;
    }
    let owner = around.taken.and_then(|taken| taken.steered(&host));
    if owner.is_none() && around.taken.is_some_and(|taken| host == taken.zone) {
        value.wrong(
            "is the zone's apex, which DNS answers for cdn.apex_site only",
            "set apex_site in [cdn], or remove it here",
        );
        return None;
    }
    match owner {
        None => Some(Some(host)),
        Some(owner) if Some(owner) == site => Some(None),
        Some(owner) => {
            value.wrong(format!("must be unique, and is a name of site {owner}"), "remove it here");
            None
        }
    }
}

fn served_at(value: &Value<'_>, known: &KnownPops<'_>) -> Option<Option<Vec<PopId>>> {
    let elements = value.list(1..=POPS_MAX)?;
    if elements.iter().any(|element| element.text() == Some("*")) {
        if elements.len() > 1 {
            value.wrong("must be [\"*\"] alone or ids of PoPs", "remove \"*\" or all others");
            return None;
        }
        return Some(None);
    }
    value.set(1..=POPS_MAX, |value| known.id(value)).map(Some)
}

fn origins(value: &Value<'_>) -> Option<Vec<Origin>> {
    let mut urls = Seen::default();
    let read: Vec<_> = value
        .list(1..=SITE_ORIGINS_MAX)?
        .iter()
        .map(|value| {
            let mut table = value.table()?;
            let url = table.must("url", "\"http://198.18.0.90:8000\"", |value| {
                let url = value.parse(URL_LAW, names::url)?;
                urls.is_new(url.to_string(), value).then_some(url)
            });
            let weight = table.integer_or("weight", 1, 1..=WEIGHT_MAX);
            let backup = table.or("backup", false, "false", Value::boolean);
            Some(Origin { url: url?, weight: u32::try_from(weight?).ok()?, backup: backup? })
        })
        .collect();
    let origins: Vec<_> = read.into_iter().collect::<Option<_>>()?;
    if origins.iter().all(|origin| origin.backup) {
        value.wrong("must have an origin that is no backup", "remove backup = true from one");
        return None;
    }
    Some(origins)
}

fn upstream(value: &Value<'_>) -> Option<UpstreamPolicy> {
    const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3_600);
    let default = UpstreamPolicy::default();
    let mut table = value.table()?;
    let connect_timeout = table.duration_or("connect_timeout", default.connect_timeout, TIMEOUT);
    let first_byte_timeout = table.duration_or("first_byte_timeout", default.first_byte_timeout, TIMEOUT);
    let between_bytes_timeout = table.duration_or("between_bytes_timeout", default.between_bytes_timeout, TIMEOUT);
    let retries = table.integer_or("retries", u64::from(default.retries), 0..=10);
    let connections_max = table.integer_or("connections_max", default.connections_max as u64, 1..=65_535);
    Some(UpstreamPolicy {
        connect_timeout: connect_timeout?,
        first_byte_timeout: first_byte_timeout?,
        between_bytes_timeout: between_bytes_timeout?,
        retries: u32::try_from(retries?).ok()?,
        connections_max: usize::try_from(connections_max?).ok()?,
    })
}

fn rule(value: &Value<'_>) -> Option<Rule> {
    let mut table = value.table()?;
    let path = table
        .must("match", "{ path = \"/static/*\" }", |value| value.table()?.must("path", "\"/static/*\"", path_pattern));
    let cache = table.or("cache", RuleCache::default(), "what the site says", rule_cache);
    let headers = table.or("headers", HeaderRules::default(), "none", header_rules);
    Some(Rule { path: path?, cache: cache?, headers: headers? })
}

fn path_pattern(value: &Value<'_>) -> Option<PathPattern> {
    let law = format!(
        "must be a path of visible ASCII that begins with / or *, at most {PATH_PATTERN_BYTES_MAX} bytes with at most {PATH_PATTERN_STARS_MAX} *, without ? and #"
    );
    value.parse(&law, |text| {
        let well_formed = text.starts_with(['/', '*'])
            && text.len() <= PATH_PATTERN_BYTES_MAX
            && text.matches('*').count() <= PATH_PATTERN_STARS_MAX
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        well_formed.then(|| PathPattern(text.into()))
    })
}

fn rule_cache(value: &Value<'_>) -> Option<RuleCache> {
    if value.is_string() {
        return value.choice(&[("pass", ())]).map(|()| RuleCache { pass: true, ..RuleCache::default() });
    }
    if !value.is_table() {
        value.refuse("must be \"pass\", or a table with ttl or ignore_query");
        return None;
    }
    let mut table = value.table()?;
    let ttl = table.maybe("ttl", |value| value.duration(ANY_TTL));
    let ignore_query = table.or("ignore_query", false, "false", Value::boolean);
    Some(RuleCache { pass: false, ttl: ttl?, ignore_query: ignore_query? })
}

fn header_rules(value: &Value<'_>) -> Option<HeaderRules> {
    let mut table = value.table()?;
    let set = table.or("set", Vec::new(), "none", set_headers);
    let remove = table.or("remove", Vec::new(), "none", |value| {
        let fields = value.set(0..=RULE_HEADERS_MAX, |value| header_name(value).map(|name| name.to_string()))?;
        fields.iter().map(|field| names::header_name(field)).collect()
    });
    Some(HeaderRules { set: set?, remove: remove? })
}

fn set_headers(value: &Value<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let entries = value.table()?.entries();
    if entries.len() > RULE_HEADERS_MAX {
        value.wrong(format!("must have at most {RULE_HEADERS_MAX} fields"), "remove some");
        return None;
    }
    let mut seen = Seen::default();
    let read: Vec<_> = entries
        .into_iter()
        .map(|(field, value)| {
            let name = names::header_name(field);
            match &name {
                None => value.refuse("must be under the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own"),
                Some(name) if !seen.is_new(name.to_string(), &value) => return None,
                Some(_) => {}
            }
            let text = value.parse("must be visible ASCII with inner spaces only", |text| {
                HeaderValue::from_str(text).ok().filter(|_| text.trim_ascii() == text)
            });
            Some((name?, text?))
        })
        .collect();
    read.into_iter().collect()
}
