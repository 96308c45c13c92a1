//! Names to addresses, never through the system's `getaddrinfo`, which static binaries in empty images do not have.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
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
    /// Beside hickory's own cache, which does not keep the empty AAAA answers that Docker's name server gives (no SOA, so
    /// RFC 2308 §5 forbids): one entry per upstream's name, so as many as the document has.
    known: Mutex<HashMap<String, (Vec<IpAddr>, Instant)>>,
}

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemResolver")
    }
}

impl SystemResolver {
    /// Reads both files, once. Needs no runtime; its lookups do.
    pub fn from_system() -> Result<Self, ResolveError> {
        Self::build(TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no usable /etc/resolv.conf: only localhost and /etc/hosts resolve");
            Self::asking(Vec::new())
        }))
    }

    /// Asks these servers instead of those of `/etc/resolv.conf`, over UDP and TCP.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolveError> {
        let server = |address: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = address.port());
            server
        };
        Self::build(Self::asking(servers.iter().map(server).collect()))
    }

    fn asking(servers: Vec<NameServerConfig>) -> ResolverBuilder<TokioRuntimeProvider> {
        TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), TokioRuntimeProvider::default())
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        Ok(Self { hickory: builder.build().map_err(ResolveError::SetUp)?, known: Mutex::default() })
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = loopback(host) {
            return Ok(addresses);
        }
        let known = self.lock().get(host).filter(|(_, until)| *until > Instant::now()).map(|(all, _)| all.clone());
        if let Some(addresses) = known {
            return Ok(addresses);
        }
        let found =
            self.hickory.lookup_ip(host).await.map_err(|source| ResolveError::Lookup { host: host.into(), source })?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress(host.into()));
        }
        // IPv4 first: addresses are tried in order, and a container without an IPv6 route is the commoner mishap.
        addresses.sort_by_key(IpAddr::is_ipv6);
        self.lock().insert(host.into(), (addresses.clone(), found.valid_until()));
        Ok(addresses)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Vec<IpAddr>, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A name server on loopback: A queries get 192.0.2.7 for an hour, others nothing.
    async fn name_server() -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        use std::sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        };
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((_, client)) = socket.recv_from(&mut query).await {
                count.fetch_add(1, Ordering::SeqCst);
                // The question ends with the root label, its type and class; what follows (EDNS) is left out.
                let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let is_a = query[end - 4..end - 2] == [0, 1];
                let mut answer = query[..end].to_vec();
                answer[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                if is_a {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 7]);
                }
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn servers_are_asked_once_for_a_name_while_its_answer_lives() {
        let (server, asked) = name_server().await;
        let resolver = SystemResolver::with_servers(&[server]).unwrap();
        for _ in 0..3 {
            let found = perigee_testkit::patiently("a lookup", resolver.resolve("origin.example")).await.unwrap();
            assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        }
        // One for A, one for AAAA.
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
    }

    #[test]
    fn a_resolver_outlives_the_runtime_that_asked_first() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let serving = runtime();
        let (server, _asked) = serving.block_on(name_server());
        std::thread::spawn(move || serving.block_on(std::future::pending::<()>()));
        let resolver = SystemResolver::with_servers(&[server]).unwrap();
        for name in ["a.example", "b.example", "c.example"] {
            let found = runtime().block_on(perigee_testkit::patiently("a lookup", resolver.resolve(name)));
            assert_eq!(found.unwrap().len(), 1, "{name}");
        }
    }
}
