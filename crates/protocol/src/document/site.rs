//! `[[site]]`: hosts, origins, policies, rules.

use std::time::Duration;

use super::{
    cache,
    fleet::{HOST_LAW, KnownPops, path},
    limits::{POPS_MAX, SITE_HOSTS_MAX, SITE_ORIGINS_MAX, SITE_RULES_MAX, WEIGHT_MAX},
    names,
    pops::{URL_LAW, id},
    rule,
    value::{Seen, Value},
    zone::Taken,
};
use crate::{
    id::{PopId, SiteId},
    model::{AllDown, CachePolicy, Origin, Site, SiteTls, UpstreamPolicy, UpstreamTls},
};

/// What a site must agree with.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) pops: &'a KnownPops<'a>,
    /// None where the document's zone cannot be read.
    pub(crate) taken: Option<&'a Taken<'a>>,
    /// Whether there is a database of where addresses are, or one that could not be read.
    pub(crate) has_geo: bool,
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
    let all_down =
        table.or("all_down", AllDown::default(), "\"nearest\"", |element| all_down(element, value, around.taken));
    let tls = table.maybe("tls", |value| {
        let mut table = value.table()?;
        let (certificate, key) =
            (table.must("certificate", "\"www.pem\"", path), table.must("key", "\"www.key\"", path));
        let redirect = table.or("redirect", false, "false", Value::boolean);
        Some(SiteTls { certificate: certificate?, key: key?, redirect: redirect? })
    });
    let cache =
        table.or("cache", CachePolicy::default(), "RFC 9111 as it stands", |value| cache::policy(&mut value.table()?));
    let upstream = table.or("upstream", UpstreamPolicy::default(), "connect_timeout = \"2s\" and so on", upstream);
    let rules: Vec<_> =
        table.tables("rule", 0..=SITE_RULES_MAX).iter().map(|value| rule::rule(value, around.has_geo)).collect();
    Some(Site {
        id: id?,
        hosts: hosts?,
        origins: origins?,
        host_header: host_header?,
        pops: pops?,
        all_down: all_down?,
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

/// A word, or `{ cname = NAME }`.
fn all_down(value: &Value<'_>, site: &Value<'_>, taken: Option<&Taken<'_>>) -> Option<AllDown> {
    const WORDS: [(&str, AllDown); 3] =
        [("nearest", AllDown::Nearest), ("last_known", AllDown::LastKnown), ("nodata", AllDown::NoData)];
    const LAW: &str = "must be \"nearest\", \"last_known\", \"nodata\" or { cname = \"NAME\" }";
    if !value.is_table() {
        return value
            .parse(LAW, |text| WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, all_down)| all_down));
    }
    let mut table = value.table()?;
    let target = table.must("cname", "\"status.example.net\"", |value| {
        let target = value.parse(HOST_LAW, names::domain_name)?;
        let own_hosts = site.peek("hosts").into_iter().flat_map(|hosts| hosts.peek_all());
        let is_own_host =
            own_hosts.filter_map(|host| host.text().and_then(names::host_name)).any(|host| host == target);
        if is_own_host || taken.is_some_and(|taken| taken.steered(&target).is_some_and(|id| Some(id) == site.raw_id()))
        {
            value.wrong("must be another name: this one is the site's own, and leads back here", "name another host");
            return None;
        }
        Some(target)
    })?;
    if taken.is_some_and(|taken| taken.apex_site.is_some() && taken.apex_site == site.raw_id()) {
        // RFC 1034 §3.6.2
        value.wrong(
            "cannot be a CNAME: this site answers at the zone's apex, where SOA and NS are",
            "use \"nodata\", or give apex_site in [cdn] to another site",
        );
        return None;
    }
    Some(AllDown::Cname(target))
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
    let tls = table.or("tls", UpstreamTls::default(), "the public authorities and the URL's host", upstream_tls);
    Some(UpstreamPolicy {
        connect_timeout: connect_timeout?,
        first_byte_timeout: first_byte_timeout?,
        between_bytes_timeout: between_bytes_timeout?,
        retries: u32::try_from(retries?).ok()?,
        connections_max: usize::try_from(connections_max?).ok()?,
        tls: tls?,
    })
}

/// How a server that is asked over `https` is recognised.
pub(crate) fn upstream_tls(value: &Value<'_>) -> Option<UpstreamTls> {
    let mut table = value.table()?;
    let ca = table.maybe("ca", path);
    let name = table.maybe("name", |value| value.parse(HOST_LAW, names::host_name));
    Some(UpstreamTls { ca: ca?, name: name? })
}
