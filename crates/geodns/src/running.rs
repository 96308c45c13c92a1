//! One nameserver, from start to drain.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use perigee_node::{
    access_log::{AccessLog, AccessLogMetrics},
    admin::{AdminBuilder, AdminServing},
    authorize::Authorizer,
    clock,
    document::{self, DocumentWatcher, FIRST_GENERATION, Loaded},
    http::Serving,
    metrics::NodeMetrics,
    page::Feed,
    runtimes::Runtimes,
    state::{NodeKind, NodeState},
};
use perigee_protocol::model::Document;
use serde_json::{Map, Value, json};
use tokio::{sync::watch, task::JoinHandle, time};

use crate::{
    answerer::Shared,
    databases::{self, Databases, Which},
    dnstap::{Tap, TapMetrics},
    drops::Drops,
    encrypted::{self, Encrypted},
    explain,
    health::Prober,
    keys, listen,
    metrics::DnsMetrics,
    operator::{self, Operators},
    options::{DocumentSource, Options},
    page::DnsPage,
    scopes,
    spawn::Spawner,
    world,
    world::{Parts, World},
    zones::{Place, ZoneData},
};

/// How long a drain waits for what is queued.
const DRAIN_BOUND: Duration = Duration::from_secs(5);

/// … and of it, how long for requests of HTTPS.
const HTTPS_DRAIN_BOUND: Duration = Duration::from_secs(4);

/// … and for a collector of dnstap.
const TAP_BOUND: Duration = Duration::from_secs(2);

/// A nameserver that answers until it is drained; dropped, it stops without answering what is queued.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    state: Arc<NodeState>,
    node_metrics: Arc<NodeMetrics>,
    world: Arc<World>,
    watcher: Option<DocumentWatcher>,
    listen: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    https: Option<Serving>,
    quic: Vec<SocketAddr>,
    feed: Arc<Feed>,
    admin: Option<AdminServing>,
    drain: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a nameserver has done since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Queries answered, over both transports.
    pub queries: u64,
    /// Messages that deserved no answer.
    pub dropped: u64,
    /// Steered answers by the PoP that came first in them; every PoP of the document is there.
    pub answers_by_pop: BTreeMap<String, u64>,
    /// Addresses that are down by this nameserver's probes.
    pub addresses_down: Vec<IpAddr>,
    /// Of the document in use, from 1.
    pub document_generation: u64,
}

/// Starts a nameserver: reads document and database, binds every address, begins to probe and to answer.
///
/// Fails, naming the cause, when the document has mistakes or says what this version cannot do, when the database is
/// missing or damaged, and when an address is taken.
pub async fn start(options: Options, runtimes: &Runtimes) -> anyhow::Result<Running> {
    let runtimes = runtimes.clone();
    let control = runtimes.control.clone();
    // Reading and checking tens of megabytes is no work for a data path's core, which the caller may be on.
    control.spawn_blocking(move || launch(options, &runtimes)).await.context("the nameserver's start was cut off")?
}

struct Source {
    document: Arc<Document>,
    folder: PathBuf,
    loaded: Option<Loaded>,
}

impl Source {
    fn place(&self, told: &DocumentSource) -> Place {
        let document = match told {
            DocumentSource::File(path) => Some(path.clone()),
            DocumentSource::Given { .. } => None,
        };
        Place { folder: self.folder.clone(), document }
    }
}

fn launch(options: Options, runtimes: &Runtimes) -> anyhow::Result<Running> {
    let source = read_document(&options.document)?;
    let place = source.place(&options.document);
    let Source { document, folder, loaded } = source;
    world::check_supported(&document).map_err(|error| anyhow!(error))?;
    let opened = databases::open(&document, &folder).map_err(|error| anyhow!(error))?;
    let cookies = world::cookie_secret(&document, &folder);
    let bound = listen::bind(&options.listen, runtimes.cores.len())?;
    anyhow::ensure!(!bound.is_empty(), "there is no address to listen on; name one with --listen");
    let listen: Vec<SocketAddr> = bound.iter().map(|bound| bound.address).collect();
    let sockets = encrypted::bind(&options.encrypted, document.cdn.dns_tls.as_ref(), &listen, runtimes.cores.len())?;

    let name = options.name.unwrap_or_else(|| name_of(&document, &listen));
    let service = world::service(&document, &name, cookies.clone());
    let keys = keys::active(&document, &folder, clock::now_ms() / 1_000)?;
    let zone = ZoneData::read(&document, &place, None).map_err(|error| anyhow!(error))?;
    let snapshot = world::snapshot(&document, &zone, opened.databases.clone(), service, keys.clone())
        .map_err(|error| anyhow!(error))?;
    let state = NodeState::new(NodeKind::Geodns, name.clone());
    let node_metrics = Arc::new(NodeMetrics::new(&state));
    node_metrics.reloads.set_generation(FIRST_GENERATION);
    let encrypted =
        Encrypted::start(options.encrypted, &sockets, (&document, &folder), &node_metrics, &runtimes.control)?;
    let certificates = encrypted.certificates.clone();
    let query_log = AccessLog::open(&options.query_log, node_metrics.register(AccessLogMetrics::register))?
        .sampled(options.query_log_one_in);
    let tap = Tap::start(&options.dnstap, &name, node_metrics.register(TapMetrics::register))?;
    let shared = Arc::new(Shared {
        name,
        snapshot: ArcSwap::from_pointee(snapshot),
        health: ArcSwap::default(),
        metrics: node_metrics.register(DnsMetrics::register),
        query_log,
        tap,
        samples: Default::default(),
        transfers: Default::default(),
    });
    let authorizer = Authorizer::new(document.admin.clone());
    let operators = Operators::open(options.state.as_deref(), &shared.name)?;
    shared.metrics.set_state_damaged(operators.refusal().is_some());
    let prober = Prober::new(runtimes.control.clone(), Arc::clone(&shared), options.probe_at)
        .context("the health prober cannot start")?;
    let (drain, draining) = watch::channel(false);
    let admin_router = AdminBuilder::new(Arc::clone(&state), Arc::clone(&node_metrics), authorizer.clone());
    let world = World::start(Parts {
        shared: Arc::clone(&shared),
        prober,
        authorizer: authorizer.clone(),
        node_metrics: Arc::clone(&node_metrics),
        control: runtimes.control.clone(),
        place,
        document,
        zone,
        opened,
        cookies,
        keys,
        encrypted,
        operators,
        keys_look: options.keys_look,
    });
    scopes::keep(&shared, &runtimes.control);
    let watcher = loaded.map(|loaded| {
        let world = Arc::clone(&world);
        let apply = move |document: Arc<Document>, _generation| world.apply(document);
        DocumentWatcher::start(&runtimes.control, &loaded, node_metrics.reloads.clone(), apply)
    });
    let in_status = Arc::clone(&world);
    let stats_shared = Arc::clone(&shared);
    let feed = Feed::start(&runtimes.control, DnsPage::new(&shared, &world, &state, &node_metrics));
    let admin_router = admin_router.routes(explain::routes(Arc::clone(&shared))).page(Arc::clone(&feed), options.page);
    let admin_router = admin_router.routes(operator::routes(&shared.name, Arc::clone(&world), authorizer));
    let admin_router = admin_router.status(move |fields| add_status(fields, &stats_shared, &in_status));
    let admin = options.admin.map(|address| admin_router.serve(&runtimes.control, address)).transpose()?;
    let spawner = Spawner::new(runtimes, &shared, &node_metrics, &state, &draining);
    node_metrics.register(|registry| registry.register_collector(Box::new(Drops::new(&listen))));
    let mut tasks = spawner.plain(bound)?;
    let (tls, https, quic) = match certificates {
        Some(certificates) => spawner.encrypted(sockets, &certificates, &mut tasks)?,
        None => (Vec::new(), None, Vec::new()),
    };
    tracing::info!(node = state.id(), ?listen, ?tls, https = ?https.as_ref().map_or(&[][..], Serving::tls_addrs), ?quic, admin = ?admin.as_ref().map(AdminServing::local_addr), "answering");
    Ok(Running { shared, state, node_metrics, world, watcher, listen, tls, https, quic, feed, admin, drain, tasks })
}

fn read_document(source: &DocumentSource) -> anyhow::Result<Source> {
    match source {
        DocumentSource::Given { document, folder } => {
            Ok(Source { document: Arc::clone(document), folder: folder.clone(), loaded: None })
        }
        DocumentSource::File(path) => {
            let loaded = document::read(path)?;
            let folder = loaded.resolve(Path::new(""));
            Ok(Source { document: Arc::clone(&loaded.document), folder, loaded: Some(loaded) })
        }
    }
}

/// The first label of the nameserver that listens there.
fn name_of(document: &Document, listen: &[SocketAddr]) -> String {
    let is_here = |address: &IpAddr| listen.iter().any(|listen| listen.ip() == *address);
    let server = document.cdn.nameservers.iter().find(|server| server.addresses.iter().any(is_here));
    let label = server.and_then(|server| server.host.split('.').next());
    label.unwrap_or("geodns").to_owned()
}

fn add_status(fields: &mut Map<String, Value>, shared: &Shared, world: &World) {
    let stats = stats(shared, world, 0);
    let databases = Databases::of(&shared.snapshot.load());
    let mut add = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    add("zone", json!(world.document().cdn.zone));
    add("queries", json!(stats.queries));
    add("dropped", json!(stats.dropped));
    add("answers_by_pop", json!(stats.answers_by_pop));
    add("addresses_down", json!(stats.addresses_down));
    add("pops", operator::pops(world));
    add("operators_refusal", json!(world.operators().refusal()));
    add("isolated", json!(world.prober().is_isolated()));
    add("database", databases.status(Which::Places));
    add("database_refusal", json!(world.database_refusal(Which::Places)));
    add("asn_database", databases.status(Which::Systems));
    add("asn_database_refusal", json!(world.database_refusal(Which::Systems)));
    add("serial", json!(world.serial()));
    add("zone_refusal", json!(world.zone_refusal()));
}

fn stats(shared: &Shared, world: &World, document_generation: u64) -> Stats {
    let document = world.document();
    let answers =
        document.pops.iter().map(|pop| (pop.id.as_str().to_owned(), shared.metrics.steered_to(&pop.id).get()));
    Stats {
        queries: shared.metrics.answered(),
        dropped: shared.metrics.dropped(),
        answers_by_pop: answers.collect(),
        addresses_down: world.prober().down(),
        document_generation,
    }
}

impl Running {
    /// The addresses bound, in the order of [`Options::listen`], with their real ports.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where DNS is spoken over TLS.
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// Where DNS is spoken over HTTPS.
    pub fn https_addrs(&self) -> &[SocketAddr] {
        self.https.as_ref().map_or(&[], Serving::tls_addrs)
    }

    /// Where DNS is spoken over QUIC.
    pub fn quic_addrs(&self) -> &[SocketAddr] {
        &self.quic
    }

    /// Where the admin API is.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServing::local_addr)
    }

    /// What the nameserver is called in logs, metrics and status.
    pub fn name(&self) -> &str {
        self.state.id()
    }

    /// What the page tells of it, each second.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What it has done until now.
    pub fn stats(&self) -> Stats {
        stats(&self.shared, &self.world, self.node_metrics.reloads.generation())
    }

    /// Why the document's file as it is now does not serve; None when it does.
    pub fn document_refusal(&self) -> Option<String> {
        self.node_metrics.reloads.document_refusal()
    }

    /// Its metrics, in the text that Prometheus reads.
    pub fn metrics_text(&self) -> Result<String, std::fmt::Error> {
        self.node_metrics.encode()
    }

    /// What SIGHUP asks for: the query log and dnstap opened anew, document and database read again.
    pub fn reload(&self) {
        self.shared.query_log.reopen();
        self.shared.tap.reopen();
        if let Some(watcher) = &self.watcher {
            watcher.reload();
        }
    }

    /// Returns when the admin API was told to drain.
    pub async fn drain_requested(&self) {
        self.state.drain_requested().await;
    }

    /// Stops reading, answers what is queued, and closes; the admin API ends last.
    pub async fn drain(self) {
        self.state.request_drain();
        // From now on clients are told to keep no idle connection.
        let ending = self.shared.snapshot.load().ending();
        self.shared.snapshot.store(Arc::new(ending));
        self.drain.send_replace(true);
        let aborts: Vec<_> = self.tasks.iter().map(JoinHandle::abort_handle).collect();
        let finished = async {
            if let Some(https) = &self.https {
                https.drain(HTTPS_DRAIN_BOUND).await;
            }
            for task in self.tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a socket's task ended badly");
                }
            }
            self.shared.query_log.flush().await;
            if time::timeout(TAP_BOUND, self.shared.tap.close()).await.is_err() {
                tracing::warn!(after = ?TAP_BOUND, "the collector of dnstap is left before it took everything");
            }
        };
        if time::timeout(DRAIN_BOUND, finished).await.is_err() {
            tracing::warn!(after = ?DRAIN_BOUND, "the drain is cut off");
            aborts.iter().for_each(|task| task.abort());
        }
        drop(self.watcher);
        self.feed.close();
        if let Some(admin) = self.admin {
            admin.end().await;
        }
    }
}
