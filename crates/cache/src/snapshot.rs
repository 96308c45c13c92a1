//! What requests are served by: the sites of one generation of the document. A request pins one for its life.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use perigee_protocol::model;
use perigee_semantics::rules;
use perigee_upstream::Upstream;

use crate::tally::Place;

/// Sites by host, at one generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Of the document.
    pub generation: u64,
    sites: Vec<Arc<Site>>,
    /// Sorted. A site or two are the rule: then this takes less than a hash.
    hosts: Box<[(Box<str>, usize)]>,
    any_host: Option<usize>,
    country: Option<CountryOf>,
}

/// Says in which country an address is, by a database that may be replaced at any time.
#[derive(Clone)]
pub struct CountryOf(Arc<dyn Fn(IpAddr) -> Option<[u8; 2]> + Send + Sync>);

impl CountryOf {
    /// Asks `lookup`, which must neither block nor panic.
    pub fn new(lookup: impl Fn(IpAddr) -> Option<[u8; 2]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }
}

impl fmt::Debug for CountryOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountryOf")
    }
}

/// A site as the engine needs it.
#[derive(Debug)]
pub struct Site {
    /// Policy, rules, names.
    pub model: model::Site,
    /// For the log.
    pub label: Arc<str>,
    /// Whether a rule may add parts to a key: one URL then has many.
    pub(crate) keys_parts: bool,
    /// Of the rules: two nodes with the same number number them alike.
    pub rules_fingerprint: u64,
    /// Where its misses go.
    pub upstream: Arc<dyn Upstream>,
    /// Where its requests are counted; told when it comes to serve.
    place: AtomicU16,
}

impl Site {
    /// A site and where its misses go.
    pub fn new(model: model::Site, upstream: Arc<dyn Upstream>) -> Self {
        let rules_fingerprint = rules::fingerprint(&model.rules);
        let adds_parts = |rule: &model::Rule| !rule.cache.key.is_empty() || !rule.request_headers.is_empty();
        let keys_parts = model.rules.iter().any(adds_parts);
        let (label, place) = (model.id.as_str().into(), AtomicU16::new(Place::default().number()));
        Self { label, keys_parts, rules_fingerprint, model, upstream, place }
    }

    pub(crate) fn counted_at(&self, place: Place) {
        self.place.store(place.number(), Ordering::Relaxed);
    }

    /// Where its requests are counted.
    pub(crate) fn place(&self) -> Place {
        Place::of_number(self.place.load(Ordering::Relaxed))
    }
}

impl Snapshot {
    /// Sites with the hosts that lead to each, lower-case, without port; of two sites with one host the first counts.
    pub fn new(generation: u64, sites: Vec<(Site, Vec<String>)>) -> Self {
        let mut hosts = BTreeMap::new();
        let mut list = Vec::with_capacity(sites.len());
        for (index, (site, names)) in sites.into_iter().enumerate() {
            for name in names {
                hosts.entry(name.into_boxed_str()).or_insert(index);
            }
            list.push(Arc::new(site));
        }
        let hosts = hosts.into_iter().collect();
        Self { generation, sites: list, hosts, any_host: None, country: None }
    }

    /// One site that answers to every host: the mode without a document.
    pub fn any_host(site: Site) -> Self {
        Self { generation: 1, sites: vec![Arc::new(site)], hosts: Box::default(), any_host: Some(0), country: None }
    }

    /// With who says where clients are: without, rules that key by country find none.
    #[must_use]
    pub fn with_country(mut self, country: CountryOf) -> Self {
        self.country = Some(country);
        self
    }

    /// The country of a client, where the rule keys by it.
    pub(crate) fn country(&self, client: IpAddr, rule: &model::Rule) -> Option<[u8; 2]> {
        let lookup = self.country.as_ref().filter(|_| rule.cache.key.country)?;
        // A client on a dual-stack listener is the IPv4 address that it has.
        (lookup.0)(client.to_canonical())
    }

    /// The site for an authority (port ignored).
    pub fn by_authority(&self, authority: &str) -> Option<&Arc<Site>> {
        let host = host_of(authority);
        let place = self.hosts.binary_search_by(|(name, _)| (**name).cmp(host)).ok();
        let index = place.and_then(|place| self.hosts.get(place)).map(|(_, index)| *index).or(self.any_host)?;
        self.sites.get(index)
    }

    /// The site of an id, for peers that say it.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Site>> {
        self.sites.iter().find(|site| site.model.id.as_str() == id)
    }

    /// All sites.
    pub fn sites(&self) -> &[Arc<Site>] {
        &self.sites
    }
}

/// An authority without its port; the final dot of a name does not count.
pub fn host_of(authority: &str) -> &str {
    // Authorities are short: looking at each byte takes less than a search that is made for long texts.
    let host = match authority.bytes().rposition(|byte| byte == b':') {
        // Within brackets the colon belongs to an IPv6 address.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn hosts_of_authorities() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }
}
