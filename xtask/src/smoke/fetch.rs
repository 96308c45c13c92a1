//! Fetches as the clients see them.

use std::{collections::BTreeMap, process::Command, thread};

use anyhow::{Context, Result, anyhow};

use super::world::{Region, World};
use crate::{
    docker::{self, PROJECT},
    run::output,
};

/// What one client got.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: u16,
    /// Of the body, SHA-256.
    pub(super) hash: String,
    /// An entry for each tier that it came through, the origin's side first (RFC 9211).
    pub(super) cache_status: Vec<String>,
}

impl Fetched {
    /// The tier that answered, by its own word.
    pub(super) fn edge(&self) -> &str {
        self.cache_status.last().map_or("", |entry| name(entry))
    }

    pub(super) fn edge_hit(&self) -> bool {
        self.cache_status.last().is_some_and(|entry| entry.split("; ").any(|part| part == "hit"))
    }

    /// Whether this answer is one for which the tier went to the origin, and did not wait for another that did.
    pub(super) fn asked_upstream(&self, tier: &str) -> bool {
        let own = self.cache_status.iter().filter(|entry| name(entry) == tier);
        own.into_iter().any(|entry| entry.contains("; fwd=") && !entry.contains("; collapsed"))
    }
}

fn name(entry: &str) -> &str {
    entry.split(';').next().unwrap_or_default().trim()
}

/// Fetches from a region's client, by name.
pub(super) fn fetch(world: &World, region: &Region, path: &str) -> Result<Fetched> {
    let curl = format!("curl -sS --max-time 30 -D /tmp/head -o /tmp/body http://{}{path}", world.site);
    let told = docker::shell(&region.client, &format!("{curl} && cat /tmp/head && sha256sum /tmp/body"))?;
    parse(&told).with_context(|| format!("{} got {told:?}", region.client))
}

/// From every region at once.
pub(super) fn fetch_all(world: &World, path: &str) -> Result<Vec<Fetched>> {
    thread::scope(|scope| {
        let running: Vec<_> =
            world.regions.iter().map(|region| scope.spawn(move || fetch(world, region, path))).collect();
        running.into_iter().map(|one| one.join().map_err(|_| anyhow!("a fetch panicked"))?).collect()
    })
}

fn parse(told: &str) -> Result<Fetched> {
    let mut lines = told.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let hash = told.lines().next_back().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
    let own =
        lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| name.eq_ignore_ascii_case("cache-status"));
    let cache_status = own.flat_map(|(_, value)| value.split(',')).map(|entry| entry.trim().to_owned()).collect();
    Ok(Fetched { status: status.context("no status line")?, hash, cache_status })
}

/// Requests that reached the origin, by path.
pub(super) fn origin_counts(world: &World) -> Result<BTreeMap<String, u64>> {
    let text = backbone(world, "curl -sSf", "/.origin/stats", "")?;
    let stats: serde_json::Value = serde_json::from_str(&text).context("the origin's counters")?;
    let paths = stats["paths"].as_object().context("the origin's counters have no paths")?;
    Ok(paths.iter().map(|(path, count)| (path.clone(), count.as_u64().unwrap_or_default())).collect())
}

/// SHA-256 of what the origin itself answers.
pub(super) fn origin_hash(world: &World, path: &str) -> Result<String> {
    let told = backbone(world, "curl -sSf", path, " | sha256sum")?;
    Ok(told.split(' ').next().unwrap_or_default().to_owned())
}

/// Asks the origin from beside it: a client of no region, on the backbone, for a moment.
fn backbone(world: &World, curl: &str, path: &str, then: &str) -> Result<String> {
    let network = format!("{PROJECT}_backbone");
    let line = format!("{curl} {}{path}{then}", world.origin.trim_end_matches('/'));
    let run = ["run", "--rm", "--network", &network, "perigee-client:dev", "/bin/sh", "-c", &line];
    output(Command::new("docker").args(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_tells() {
        let told = "HTTP/1.1 200 OK\r\nCache-Status: shield-west; fwd=uri-miss; stored\r\nETag: \"a\"\r\n\
                    cache-status: fra; hit; ttl=3\r\n\r\n0a1b  /tmp/body\n";
        let fetched = parse(told).unwrap();
        assert_eq!((fetched.status, fetched.hash.as_str(), fetched.edge()), (200, "0a1b", "fra"));
        assert!(fetched.edge_hit() && fetched.asked_upstream("shield-west") && !fetched.asked_upstream("fra"));
        let collapsed =
            parse("HTTP/1.1 200 OK\r\nCache-Status: s; fwd=uri-miss; collapsed, fra; fwd=uri-miss\r\n\r\n0  b\n")
                .unwrap();
        assert!(!collapsed.asked_upstream("s") && !collapsed.edge_hit() && collapsed.asked_upstream("fra"));
        assert!(parse("").is_err());
    }
}
