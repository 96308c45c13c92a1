//! Names to addresses, never through the system's `getaddrinfo`, which static binaries in empty images do not have.

use std::{collections::HashMap, fmt, net::IpAddr};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

use crate::BoxFuture;

/// Turns a host name into addresses. Literal addresses never reach it.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The host's addresses in the order to try them, at least one. `host` is lower-case.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It has none, or none of the family.
    #[error("no address known for {0}")]
    NoAddress(String),
    /// The name servers did not say.
    #[error("cannot resolve {host}")]
    Lookup {
        /// The name.
        host: String,
        /// What they said.
        #[source]
        source: hickory_resolver::net::NetError,
    },
    /// The resolver could not be built.
    #[error("cannot set up the resolver")]
    SetUp(#[source] hickory_resolver::net::NetError),
}

/// `/etc/hosts`, then the servers of `/etc/resolv.conf` with its search list; answers are kept for their time to live.
///
/// Without a usable `resolv.conf` only `localhost` and the hosts file are known; no public resolver is ever asked.
pub struct SystemResolver {
    hickory: TokioResolver,
}

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemResolver")
    }
}

impl SystemResolver {
    /// Reads both files, once. Needs no runtime; its lookups do.
    pub fn from_system() -> Result<Self, ResolveError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no usable /etc/resolv.conf: only localhost and /etc/hosts resolve");
            let nobody = ResolverConfig::from_name_servers(Vec::new());
            TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        Ok(Self { hickory: builder.build().map_err(ResolveError::SetUp)? })
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = loopback(host) {
            return Ok(addresses);
        }
        let found = self
            .hickory
            .lookup_ip(host)
            .await
            .map_err(|source| ResolveError::Lookup { host: host.into(), source })?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress(host.into()));
        }
        // IPv4 first: addresses are tried in order, and a container without an IPv6 route is the commoner mishap.
        addresses.sort_by_key(IpAddr::is_ipv6);
        Ok(addresses)
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(self.lookup(host))
    }
}

// RFC 6761 §6.3: localhost names are loopback and never asked of a server.
fn loopback(host: &str) -> Option<Vec<IpAddr>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    (host == "localhost" || host.ends_with(".localhost"))
        .then(|| vec![std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()])
}

/// A fixed table, for tests and for worlds without name servers. Knows `localhost` too.
#[derive(Clone, Debug, Default)]
pub struct StaticResolver(HashMap<String, Vec<IpAddr>>);

impl StaticResolver {
    /// The same, with `host` at `addresses`.
    #[must_use]
    pub fn with(mut self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.0.insert(host.to_ascii_lowercase(), addresses.into_iter().collect());
        self
    }
}

impl Resolve for StaticResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let found = self.0.get(host).cloned().or_else(|| loopback(host)).filter(|all| !all.is_empty());
        Box::pin(std::future::ready(found.ok_or_else(|| ResolveError::NoAddress(host.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_names_are_loopback() {
        let check = |host: &str, expected: bool| assert_eq!(loopback(host).is_some(), expected, "{host}");
        check("localhost", true);
        check("localhost.", true);
        check("a.b.localhost", true);
        check("notlocalhost", false);
        check("localhost.example", false);
    }

    #[tokio::test]
    async fn the_system_resolver_knows_localhost_without_a_network() {
        let resolver = SystemResolver::from_system().unwrap();
        assert_eq!(resolver.resolve("localhost").await.unwrap().first().unwrap().to_string(), "127.0.0.1");
    }

    #[tokio::test]
    async fn a_table_answers_what_it_holds() {
        let table = StaticResolver::default().with("Origin.Example", ["192.0.2.1".parse().unwrap()]);
        assert_eq!(table.resolve("origin.example").await.unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(table.resolve("other.example").await.is_err());
    }
}
