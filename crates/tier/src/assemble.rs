//! Where the document's model meets the engine: sites and their upstreams, for one tier.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use perigee_cache::{CountryOf, Site, Snapshot};
use perigee_node::{regular, tls::PEM_BYTES_MAX};
use perigee_protocol::{
    id::{PopId, ShieldId, SiteId},
    model::{self, CachePolicy, Document, Origin, Shield, UpstreamPolicy, Url},
};
use perigee_upstream::{Fleet, FleetContext, Roots, Trust, Upstream};

use crate::country::Countries;

/// Which place of the fleet a node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// An edge of that PoP.
    Edge(PopId),
    /// That shield.
    Shield(ShieldId),
}

impl Role {
    /// Why the document has no such place.
    pub fn missing_from(&self, document: &Document) -> Option<String> {
        let (kind, id, known) = match self {
            Self::Edge(pop) => {
                ("pop", pop.as_str(), document.pops.iter().map(|pop| pop.id.to_string()).collect::<Vec<_>>())
            }
            Self::Shield(id) => {
                ("shield", id.as_str(), document.shields.iter().map(|shield| shield.id.to_string()).collect())
            }
        };
        let found = known.iter().any(|known| known == id);
        (!found).then(|| format!("the document has no {kind} {id:?}; it has: {}", known.join(", ")))
    }

    fn pop(&self) -> Option<&PopId> {
        match self {
            Self::Edge(pop) => Some(pop),
            Self::Shield(_) => None,
        }
    }

    pub(crate) fn serves(&self, site: &model::Site) -> bool {
        match (self.pop(), &site.pops) {
            (Some(pop), Some(pops)) => pops.contains(pop),
            _ => true,
        }
    }
}

/// Makes snapshots, and keeps the upstreams of sites that did not change: their connections and what is known of their
/// health outlive a reload.
#[derive(Debug)]
pub(crate) struct Assembler {
    context: FleetContext,
    countries: Countries,
    country: Option<CountryOf>,
    fleets: HashMap<SiteId, (FleetInputs, Arc<Fleet>)>,
}

#[derive(Debug, PartialEq)]
struct FleetInputs {
    origins: Vec<Origin>,
    upstream: UpstreamPolicy,
    shields: Vec<Shield>,
    trust: Trust,
}

/// The certificate files that the document names for its upstreams, read from `folder`. Err: which cannot be used, and why.
pub(crate) fn trust(document: &Document, folder: &Path) -> Result<Trust, String> {
    let shields = document.shields.iter().map(|shield| &shield.tls.ca);
    let sites = document.sites.iter().map(|site| &site.upstream.tls.ca);
    let mut trust = Trust::default();
    for name in shields.chain(sites).flatten() {
        let path: PathBuf = folder.join(name);
        let pem = regular::read(&path, PEM_BYTES_MAX)
            .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        trust.add(name, Roots::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(trust)
}

impl Assembler {
    pub(crate) fn new(context: FleetContext, countries: Countries) -> Self {
        Self { context, countries, country: None, fleets: HashMap::new() }
    }

    /// Opens what tells an edge where its clients are, for the snapshots to come; a shield is told by edges. Err: why the
    /// document's database cannot be used.
    pub(crate) fn locate(&mut self, document: &Document, role: &Role, folder: &Path) -> Result<(), String> {
        if role.pop().is_some() {
            self.country = self.countries.follow(document, folder)?;
        }
        Ok(())
    }

    pub(crate) fn context(&self) -> &FleetContext {
        &self.context
    }

    /// `trust`: what the files hold that the document names ([`trust`]).
    pub(crate) fn snapshot(&mut self, document: &Document, role: &Role, trust: Trust, generation: u64) -> Snapshot {
        self.context.trust = trust;
        let shields = match role {
            Role::Edge(_) => document.shields.clone(),
            Role::Shield(_) => Vec::new(),
        };
        let mut fleets = HashMap::new();
        let mut sites = Vec::new();
        for site in document.sites.iter().filter(|site| role.serves(site)) {
            let inputs = FleetInputs {
                origins: site.origins.clone(),
                upstream: site.upstream.clone(),
                shields: shields.clone(),
                trust: self.context.trust.clone(),
            };
            let fleet = match self.fleets.remove(&site.id) {
                Some((known, fleet)) if known == inputs => fleet,
                _ => Arc::new(Fleet::for_site(site, &shields, role.pop(), &self.context)),
            };
            fleets.insert(site.id.clone(), (inputs, Arc::clone(&fleet)));
            sites.push((Site::new(site.clone(), fleet as Arc<dyn Upstream>), hosts(document, site)));
        }
        self.fleets = fleets;
        let snapshot = Snapshot::new(generation, sites);
        match &self.country {
            Some(country) => snapshot.with_country(country.clone()),
            None => snapshot,
        }
    }
}

/// Every name that leads to a site.
fn hosts(document: &Document, site: &model::Site) -> Vec<String> {
    let mut hosts = site.hosts.clone();
    hosts.push(document.site_name(site));
    hosts.extend(site.host_header.as_deref().map(|host| perigee_cache::host_of(host).to_ascii_lowercase()));
    if document.cdn.apex_site.as_ref() == Some(&site.id) {
        hosts.push(document.cdn.zone.clone());
    }
    hosts
}

/// The one site of a node without a document.
pub(crate) fn quick(id: SiteId, origins: Vec<Url>, cache: CachePolicy, context: &FleetContext) -> Snapshot {
    let origins = origins.into_iter().map(|url| Origin { url, weight: 1, backup: false }).collect();
    let site = model::Site {
        id,
        hosts: Vec::new(),
        origins,
        host_header: None,
        pops: None,
        all_down: Default::default(),
        tls: None,
        cache,
        upstream: UpstreamPolicy::default(),
        rules: Vec::new(),
    };
    let fleet = Arc::new(Fleet::for_site(&site, &[], None, context));
    Snapshot::any_host(Site::new(site, fleet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_that_is_none_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let check = |ca: &str, expected: &str| {
            let text = format!(
                "[cdn]\nzone = \"cdn.example\"\n[[pop]]\nid = \"fra\"\nlatitude = 50.1\nlongitude = 8.7\naddresses = [\"203.0.113.1\"]\n\
                 [[site]]\nid = \"www\"\norigins = [{{ url = \"https://203.0.113.80\" }}]\nupstream = {{ tls = {{ ca = \"{ca}\" }} }}\n"
            );
            let document = perigee_protocol::document::load("perigee.toml", &text).unwrap();
            let said = trust(&document, folder.path()).unwrap_err();
            assert!(said.contains(ca) && said.contains(expected), "{said}");
        };
        check("absent.pem", "cannot be read");
        std::fs::File::create(folder.path().join("long.pem")).unwrap().set_len(PEM_BYTES_MAX + 1).unwrap();
        check("long.pem", "is it the right file?");
        std::fs::File::create(folder.path().join("full.pem")).unwrap().set_len(PEM_BYTES_MAX).unwrap();
        check("full.pem", "certificate");
        // Without an end.
        check("/dev/zero", "not a regular file");
    }
}
