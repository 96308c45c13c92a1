//! TLS towards clients (RFC 8446, RFC 5246): which certificate answers to which name, and when its files are read again.
//!
//! A name that the document gives to a site with `tls` gets that site's certificate; a client that names nothing gets
//! the first site's; any other name is refused in the handshake (RFC 6066 §3), before anything is said of who is here.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    clock,
    metrics::{ReloadMetrics, ReloadResult, Reloaded},
    watch::Fingerprint,
};

mod metrics;
mod pair;

pub use metrics::TlsMetrics;
pub use pair::{PEM_BYTES_MAX, PairError};

/// How often the files are looked at. A change is taken once two looks in a row see the same files.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The protocols over TLS, the preferred first (RFC 7301).
pub const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// A certificate that ends within this is logged as a warning whenever it is read.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A site's certificate and the names that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The site, for logs, errors and metrics; of a pair for every name: the flag that gave it.
    pub site: String,
    /// Lower-case, without a final dot. Empty: every name, and clients that give none.
    pub names: Vec<String>,
    /// PEM: the site's certificate first, then what leads to its authority.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

impl Pair {
    /// The document's key, or the flag.
    fn whose(&self) -> String {
        if self.names.is_empty() { self.site.clone() } else { format!("site.{}.tls", self.site) }
    }
}

/// A pair as it serves.
#[derive(Clone, Debug)]
struct Served {
    pair: Pair,
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    not_after: i64,
    /// Of the files that were last tried, whether they serve or not.
    tried: Files,
    /// Of the files at the last look.
    seen: Files,
    /// Whether what was last tried does not serve.
    is_refused: bool,
}

type Files = [Option<Fingerprint>; 2];

fn files(pair: &Pair) -> Files {
    [Fingerprint::of(&pair.certificate), Fingerprint::of(&pair.key)]
}

impl Served {
    fn load(pair: &Pair, provider: &CryptoProvider) -> Result<Self, PairError> {
        // Taken before reading: a change meanwhile is seen as one afterwards.
        let tried = files(pair);
        let loaded = pair::load(pair, provider)?;
        loaded.tell(pair);
        let (key, not_after) = (loaded.key, loaded.not_after);
        Ok(Self { pair: pair.clone(), key, not_after, tried, seen: tried, is_refused: false })
    }
}

/// What a handshake looks at.
#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For every other name.
    any_name: Option<Arc<CertifiedKey>>,
    /// For clients that give none.
    no_name: Option<Arc<CertifiedKey>>,
}

impl Table {
    fn new(served: &[Served]) -> Self {
        let mut table = Self { no_name: served.first().map(|first| Arc::clone(&first.key)), ..Self::default() };
        for Served { pair, key, .. } in served {
            if pair.names.is_empty() && table.any_name.is_none() {
                table.any_name = Some(Arc::clone(key));
            }
            for name in &pair.names {
                table.by_name.entry(name.clone()).or_insert_with(|| Arc::clone(key));
            }
        }
        table
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.no_name.clone() };
        // RFC 6066 §3: names are compared without regard to case.
        let found = self.by_name.get(name).or_else(|| self.by_name.get(&name.to_ascii_lowercase()));
        found.or(self.any_name.as_ref()).cloned()
    }
}

/// The certificates of one node.
#[derive(Debug)]
pub struct Certificates {
    table: ArcSwap<Table>,
    served: Mutex<Vec<Served>>,
    provider: Arc<CryptoProvider>,
    metrics: TlsMetrics,
    reloads: ReloadMetrics,
}

impl Certificates {
    /// Reads every pair. All that is wrong is told at once; nothing serves then.
    pub fn load(pairs: &[Pair], metrics: TlsMetrics, reloads: ReloadMetrics) -> Result<Arc<Self>, Vec<PairError>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Self {
            table: ArcSwap::default(),
            served: Mutex::default(),
            provider: Arc::clone(&provider),
            metrics,
            reloads,
        };
        let (mut served, mut errors) = (Vec::new(), Vec::new());
        for pair in pairs {
            match Served::load(pair, &provider) {
                Ok(good) => served.push(good),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        certificates.publish(&mut certificates.lock(), served);
        Ok(Arc::new(certificates))
    }

    /// Reads the pairs of a new document, without serving them yet.
    ///
    /// A pair that served before and whose files are bad now goes on with what it has: that is logged and counted, as
    /// for any change of its files. A pair that is new must be good.
    pub fn prepare(&self, pairs: &[Pair]) -> Result<Prepared, Vec<PairError>> {
        let before = self.lock().clone();
        let (mut served, mut errors) = (Vec::new(), Vec::new());
        for pair in pairs {
            let old = before.iter().find(|old| old.pair.certificate == pair.certificate && old.pair.key == pair.key);
            match (Served::load(pair, &self.provider), old) {
                (Ok(good), _) => served.push(good),
                (Err(error), Some(old)) => {
                    self.refused(&error);
                    served.push(Served { pair: pair.clone(), tried: files(pair), is_refused: true, ..old.clone() });
                }
                (Err(error), None) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Prepared(served)) } else { Err(errors) }
    }

    /// Serves what was prepared.
    pub fn apply(&self, prepared: Prepared) {
        self.tell_failing(&prepared.0);
        self.publish(&mut self.lock(), prepared.0);
    }

    /// Looks at the files every [`LOOK_INTERVAL`], until what is returned is dropped.
    pub fn watch(self: &Arc<Self>, control: &Handle) -> Watch {
        let certificates = Arc::clone(self);
        Watch(control.spawn(async move {
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let certificates = Arc::clone(&certificates);
                if tokio::task::spawn_blocking(move || certificates.look()).await.is_err() {
                    return tracing::error!("looking at the certificates' files panicked; they are not read again");
                }
            }
        }))
    }

    /// Reads again what has changed since, if it has been still since the last look: certificate and key are two
    /// files, and between the two writes they do not fit.
    pub(crate) fn look(&self) {
        let mut served = self.lock();
        let mut next = served.clone();
        let (mut changed, mut changed_failing) = (false, false);
        for entry in &mut next {
            let now = files(&entry.pair);
            let still = now == entry.seen;
            entry.seen = now;
            if now == entry.tried || !still {
                continue;
            }
            match Served::load(&entry.pair, &self.provider) {
                Ok(good) => {
                    tracing::info!(site = entry.pair.site, path = %entry.pair.certificate.display(), "a new certificate serves");
                    self.reloads.count(Reloaded::Certificate, ReloadResult::Applied);
                    *entry = good;
                    changed = true;
                    changed_failing = true;
                }
                Err(error) => {
                    entry.tried = now;
                    entry.is_refused = true;
                    changed_failing = true;
                    self.refused(&error);
                }
            }
        }
        if changed_failing {
            self.tell_failing(&next);
        }
        if changed {
            self.publish(&mut served, next);
        } else {
            *served = next;
        }
    }

    /// Of many pairs, one that is refused is enough.
    fn tell_failing(&self, served: &[Served]) {
        self.reloads.set_failing(Reloaded::Certificate, served.iter().any(|served| served.is_refused));
    }

    fn refused(&self, error: &PairError) {
        self.reloads.count(Reloaded::Certificate, ReloadResult::Refused);
        tracing::error!("a certificate is refused, the old one goes on: {error}");
    }

    fn publish(&self, current: &mut Vec<Served>, next: Vec<Served>) {
        self.table.store(Arc::new(Table::new(&next)));
        let ends = next.iter().map(|served| (served.pair.site.clone(), served.not_after)).collect();
        self.metrics.set_expiries(ends);
        *current = next;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an HTTPS listener needs: TLS 1.2 and 1.3, `h2` and `http/1.1`, resumption by tickets, no client certificates.
    ///
    /// Fails only where the system has no randomness for the tickets' keys.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config_of(&ALPN)
    }

    /// The same for other protocols, the preferred first. No early data: a replay of it could not be told from a query.
    ///
    /// Fails as [`Self::server_config`] does.
    pub fn server_config_of(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // RFC 8446 §2.2. The keys are the process's own and change by themselves every 6 hours.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

/// Pairs that were read and do not serve yet.
#[derive(Debug)]
pub struct Prepared(Vec<Served>);

/// The look at the files; ends when dropped.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Resolver(Arc<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.table.load().choose(hello.server_name())
    }
}

/// Unix seconds now, for what is compared with a certificate's dates.
fn now_s() -> i64 {
    i64::try_from(clock::now_ms() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
