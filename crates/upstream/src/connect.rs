//! From a URL to a connected socket, over TLS where the URL says so.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perigee_protocol::model::{Scheme, UpstreamTls, Url};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{FetchError, FetchErrorKind, Resolve, ResolveError, Trust, fleet::Clock, socket::Socket, tls::ClientTls};

/// An address that refused or did not answer is tried last for so long.
const AVOIDED: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("TLS could not be prepared, as was logged at the start")]
    Unprepared,
    #[error("no TLS with {address}")]
    Handshake {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{address} did not answer")]
    NoAnswer { address: SocketAddr },
    #[error("cannot connect to {address}")]
    Refused {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Connects to one server, however many addresses it has.
pub(crate) struct Connector {
    url: Url,
    tls: Option<ClientTls>,
    resolver: Arc<dyn Resolve>,
    clock: Clock,
    avoided: Mutex<Vec<(IpAddr, u64)>>,
}

/// How a server is spoken to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speech {
    pub(crate) tls: UpstreamTls,
    /// HTTP/2: with TLS as far as the server agrees, without it by prior knowledge (RFC 9113 §3.3).
    pub(crate) h2: bool,
}

impl Connector {
    pub(crate) fn new(url: Url, resolver: Arc<dyn Resolve>, clock: Clock) -> Self {
        Self { url, tls: None, resolver, clock, avoided: Mutex::default() }
    }

    /// Prepares TLS where the URL wants it.
    pub(crate) fn speaking(mut self, speech: &Speech, trust: &Trust) -> Self {
        if self.url.scheme == Scheme::Https {
            match ClientTls::new(&self.url, &speech.tls, trust, speech.h2) {
                Ok(tls) => self.tls = Some(tls),
                // Every connection then fails and says so too.
                Err(error) => tracing::error!(url = %self.url, %error, "cannot speak TLS to an upstream"),
            }
        }
        self
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Resolves and connects within `limit`, trying the addresses in order, each with its share of the time left.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<Socket, FetchError> {
        let deadline = Instant::now() + limit;
        let timed_out = || FetchError::new(FetchErrorKind::ConnectTimeout);
        let failed = |error: ConnectError| FetchError::new(FetchErrorKind::Connect).because(error);
        let resolved = timeout(limit, self.addresses()).await.map_err(|_| timed_out())?;
        let addresses = resolved.map_err(|error| failed(error.into()))?;
        let mut error = failed(ResolveError::NoAddress(self.url.host.clone()).into());
        let mut to_try = addresses.len() as u32;
        for ip in addresses {
            let share = deadline.saturating_duration_since(Instant::now()) / to_try.max(1);
            to_try = to_try.saturating_sub(1);
            let address = SocketAddr::new(ip, self.url.port);
            match timeout(share, self.reach(address)).await {
                Ok(Ok(socket)) => {
                    self.forgive(ip);
                    return Ok(socket);
                }
                Ok(Err(source)) => error = failed(source),
                Err(_) => error = timed_out().because(ConnectError::NoAnswer { address }),
            }
            self.avoid(ip);
        }
        Err(error)
    }

    async fn reach(&self, address: SocketAddr) -> Result<Socket, ConnectError> {
        let socket = TcpStream::connect(address).await.map_err(|source| ConnectError::Refused { address, source })?;
        // Small requests must not wait for acknowledgements; a socket that refuses is as good without.
        drop(socket.set_nodelay(true));
        if self.url.scheme == Scheme::Http {
            return Ok(Socket::Plain(socket));
        }
        let tls = self.tls.as_ref().ok_or(ConnectError::Unprepared)?;
        let stream = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.name.clone(), socket).await;
        stream.map(|stream| Socket::Tls(Box::new(stream))).map_err(|source| ConnectError::Handshake { address, source })
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(literal) = self.url.host.parse() {
            return Ok(vec![literal]);
        }
        let mut addresses = self.resolver.resolve(&self.url.host).await?;
        let now = (self.clock)();
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|(_, since)| u128::from(now.abs_diff(*since)) < AVOIDED.as_millis());
        addresses.sort_by_key(|ip| avoided.iter().any(|(bad, _)| bad == ip));
        Ok(addresses)
    }

    fn avoid(&self, ip: IpAddr) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|(bad, _)| *bad != ip);
        avoided.push((ip, (self.clock)()));
    }

    fn forgive(&self, ip: IpAddr) {
        self.avoided.lock().unwrap_or_else(PoisonError::into_inner).retain(|(bad, _)| *bad != ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxFuture, StaticResolver};
    use perigee_testkit::{Reply, ScriptedOrigin, TestClock, free_port};

    fn connector(host: &str, port: u16, resolver: impl Resolve + 'static) -> Connector {
        let url = Url { scheme: Scheme::Http, host: host.into(), port };
        Connector::new(url, Arc::new(resolver), TestClock::default().as_fn())
    }

    fn kind(result: Result<Socket, FetchError>) -> FetchErrorKind {
        result.expect_err("nobody listens").kind()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_next_address_is_tried_and_the_bad_one_put_last() {
        let origin = ScriptedOrigin::answering(|_| Reply::new(204)).await;
        let (bad, good): (IpAddr, IpAddr) = ([127, 9, 9, 9].into(), [127, 0, 0, 1].into());
        let table = StaticResolver::default().with("two.example", [bad, good]);
        let connector = connector("two.example", origin.address().port(), table);
        assert_eq!(connector.addresses().await.unwrap(), [bad, good]);
        let Ok(Socket::Plain(socket)) = connector.connect(LONG).await else { panic!("not connected") };
        assert_eq!(socket.peer_addr().unwrap().ip(), good);
        assert_eq!(connector.addresses().await.unwrap(), [good, bad]);
    }

    #[tokio::test]
    async fn refusals_and_unknown_names_are_connect_errors() {
        assert_eq!(
            kind(connector("127.0.0.1", free_port(), StaticResolver::default()).connect(LONG).await),
            FetchErrorKind::Connect
        );
        assert_eq!(
            kind(connector("no.example", 80, StaticResolver::default()).connect(LONG).await),
            FetchErrorKind::Connect
        );
    }

    #[derive(Debug)]
    struct Never;

    impl Resolve for Never {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_silent_resolver_is_a_time_out() {
        let limit = Duration::from_millis(20);
        assert_eq!(kind(connector("slow.example", 80, Never).connect(limit).await), FetchErrorKind::ConnectTimeout);
    }
}
