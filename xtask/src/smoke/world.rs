//! What `deploy/cdn.toml` says of the world, and the containers that live in it.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use perigee_protocol::{document, model::Pop};

use crate::run::root;

const DOCUMENT: &str = "deploy/cdn.toml";

pub(super) struct World {
    /// The site's name.
    pub(super) site: String,
    pub(super) ttl: Duration,
    pub(super) origin: String,
    pub(super) shields: Vec<String>,
    pub(super) regions: Vec<Region>,
}

/// One region: network 198.18.N.0/24.
pub(super) struct Region {
    pub(super) pop: String,
    /// `198.18.N.`
    pub(super) prefix: String,
    pub(super) edge: String,
    pub(super) nameservers: [String; 2],
    /// The client's service.
    pub(super) client: String,
    /// Where its clients go while its edge is down.
    pub(super) next_pop: String,
    pub(super) next_edge: String,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

impl World {
    pub(super) fn read() -> Result<Self> {
        let text = fs::read_to_string(root().join(DOCUMENT)).context(DOCUMENT)?;
        let document = document::load(DOCUMENT, &text).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        let site = document.sites.first().context("the document has no site")?;
        let origin = site.origins.first().context("the site has no origin")?;
        let region = |pop: &Pop| {
            let address = address(pop)?;
            let (prefix, _) = address.rsplit_once('.').context("an address without a dot")?;
            let next = pop.fallback.first().with_context(|| format!("{} has no fallback", pop.id))?;
            let next_pop = document.pop(next.as_str()).context("a fallback that is no PoP")?;
            Ok(Region {
                pop: pop.id.to_string(),
                prefix: format!("{prefix}."),
                nameservers: [format!("{prefix}.53"), format!("{prefix}.54")],
                client: format!("client-{}", pop.id),
                next_pop: next.to_string(),
                next_edge: self::address(next_pop)?,
                edge: address,
                interval: pop.health.interval,
                timeout: pop.health.timeout,
                rise: pop.health.rise,
                fall: pop.health.fall,
            })
        };
        Ok(Self {
            site: document.site_name(site),
            ttl: document.cdn.ttl,
            origin: origin.url.to_string(),
            shields: document.shields.iter().map(|shield| shield.id.to_string()).collect(),
            regions: document.pops.iter().map(region).collect::<Result<_>>()?,
        })
    }
}

fn address(pop: &Pop) -> Result<String> {
    match pop.addresses().next() {
        Some(IpAddr::V4(address)) => Ok(address.to_string()),
        other => bail!("{}: the smoke test needs an IPv4 address, not {other:?}", pop.id),
    }
}
