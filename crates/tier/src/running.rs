//! One tier from its options to its drain.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use perigee_cache::{Config, Engine, Metrics, Snapshot, Totals};
use perigee_node::{
    access_log::{AccessLog, AccessLogMetrics},
    admin::{AdminBuilder, AdminServing},
    authorize::Authorizer,
    clock,
    document::{self, DocumentWatcher, FIRST_GENERATION, Loaded},
    http::{Serving, serve},
    metrics::NodeMetrics,
    page::{Feed, Map, PageOptions, Samples},
    runtimes::Runtimes,
    secret,
    state::{NodeKind, NodeState, tier},
    tls::{Certificates, Pair},
};
use perigee_protocol::{
    document::unsupported,
    model::{Admin, Document, Scope},
    proof::FleetSecret,
};
use perigee_semantics::{policy::Tier, time::Timestamp};
use perigee_store::{DiskConfig, Store, StoreConfig};
use perigee_upstream::{FleetContext, SystemResolver, Trust};

use crate::{
    assemble::{self, Assembler, Role, quick},
    budget,
    country::Countries,
    doors::{self, Tls},
    explain, load,
    options::{Options, Source},
    page::TierPage,
    purge,
    service::{EngineService, Logged},
    trace::{Exporter, Spans, TraceMetrics},
};

/// How long requests in flight may go on after a drain began.
pub(crate) const DRAIN_BOUND: Duration = Duration::from_secs(30);

/// What a tier has done and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Requests finished.
    pub requests: u64,
    /// Of those, answered from the store.
    pub hits: u64,
    /// Body bytes sent.
    pub bytes_sent: u64,
    /// Requests under way.
    pub active: u64,
    /// Connections open.
    pub connections: usize,
    /// Of the document.
    pub generation: u64,
}

/// A tier at work. Dropped, it cuts its connections; [`Running::drain`] is the gentle way.
#[derive(Debug)]
pub struct Running {
    state: Arc<NodeState>,
    engine: Arc<Engine>,
    serving: Serving,
    admin: Option<AdminServing>,
    watcher: Option<DocumentWatcher>,
    access_log: AccessLog,
    traces: Option<Exporter>,
    feed: Arc<Feed>,
    drain_notice: Duration,
    /// Held for its watch on the certificates' files.
    _tls: Option<Tls>,
}

/// What the source said, ready to be assembled.
struct Place {
    kind: NodeKind,
    tier: Tier,
    name: String,
    cdn: String,
    secret: Option<FleetSecret>,
    admin: Admin,
}

/// Starts a tier. Everything that can fail does so here: with an error that names the file, key or address.
pub async fn start(options: Options, runtimes: &Runtimes) -> anyhow::Result<Running> {
    let loaded = match &options.source {
        Source::File { path, role } => {
            let loaded = document::read(path)?;
            check_support(&loaded.document, role)?;
            Some(loaded)
        }
        Source::Given { document, role, .. } => {
            check_support(document, role)?;
            None
        }
        Source::Quick { .. } => None,
    };
    let place = place(&options, loaded.as_ref())?;
    let pairs = pairs(&options, loaded.as_ref());
    // Ports first: a busy one is said before a cache folder is opened.
    let listeners = doors::bind(&options.listen, &options.doors, !pairs.is_empty(), runtimes)?;
    let state = NodeState::new(place.kind, place.name.clone());
    let metrics = Arc::new(NodeMetrics::new(&state));
    let tls = Tls::start(&options.doors, &pairs, &metrics, runtimes)?;
    let access_log = AccessLog::open(&options.access_log, metrics.register(AccessLogMetrics::register))?
        .sampled(options.access_log_one_in);
    let store = open_store(&options, &place, runtimes, &metrics).await?;

    let context = FleetContext {
        secret: place.secret.clone(),
        trust: Trust::default(),
        resolver: Arc::new(SystemResolver::from_system()?),
        clock: Arc::new(clock::now_ms),
        metrics: metrics.register(perigee_upstream::Metrics::register),
    };
    let traces = traces(&options, &place, &context, &metrics, runtimes)?;
    let assembler = Assembler::new(context, Countries::new(&runtimes.control, metrics.reloads.clone()));
    let (assembler, snapshot) = first_snapshot(assembler, &options, loaded.as_ref())?;
    let samples = Arc::new(Samples::default());
    let engine = Engine::new(
        Config {
            name: place.name.as_str().into(),
            loop_id: loop_id(&place),
            tier: place.tier,
            secret: place.secret,
            hash_seed: xxhash_rust::xxh3::xxh3_64(place.cdn.as_bytes()),
        },
        store,
        snapshot,
        Arc::new(|| Timestamp::from_millis(clock::now_ms())),
        Arc::new(Logged { log: access_log.clone(), samples: Arc::clone(&samples) }),
        metrics.register(Metrics::register),
    );
    if let (Some(options), Some(exporter)) = (&options.traces, &traces) {
        engine.trace_by(Spans::new(options, exporter.clone()));
    }
    budget::count_connections(&runtimes.control, &engine, metrics.connections.clone());
    metrics.reloads.set_generation(FIRST_GENERATION);
    let authorizer = Authorizer::new(place.admin);
    let readers = authorizer.clone();
    engine.show_keys_to(move |token| readers.permits(token, Scope::Read));
    let certificates = tls.as_ref().map(|tls| Arc::clone(&tls.certificates));
    let map = map(&options.source, loaded.as_ref());
    let view = TierPage::new(&engine, &state, &metrics, (map.clone(), options.source.pop()), samples);
    let feed = Feed::start(&runtimes.control, view);
    let watcher = loaded.as_ref().map(|loaded| {
        follow(loaded, &options, assembler, (&engine, &authorizer, certificates, &map), &metrics, runtimes)
    });

    let admin = match options.admin {
        Some(address) => {
            Some(admin((address, &options.page), &state, &metrics, authorizer, (&engine, &feed), runtimes)?)
        }
        None => None,
    };
    load::watch(runtimes, &engine, &state, &metrics, options.connections_max);
    let limits = options.doors.limits(options.connections_max);
    let limits = if place.tier == Tier::Shield { limits.behind_a_tier() } else { limits };
    let service = Arc::new(EngineService(Arc::clone(&engine)));
    let doors = doors::doors(listeners, tls.as_ref(), &options.doors, &metrics)?;
    let serving = serve(runtimes, doors, service, &limits, metrics.connections.clone());
    tracing::info!(
        node = state.id(),
        tier = tier(state.kind()),
        listen = ?serving.local_addrs(),
        listen_tls = ?serving.tls_addrs(),
        admin = ?admin.as_ref().map(AdminServing::local_addr),
        sites = engine.snapshot().sites().len(),
        "serving"
    );
    let drain_notice = options.drain_notice;
    Ok(Running { state, engine, serving, admin, watcher, access_log, traces, feed, drain_notice, _tls: tls })
}

/// What takes the spans of traces, if any are wanted.
fn traces(
    options: &Options,
    place: &Place,
    context: &FleetContext,
    metrics: &NodeMetrics,
    runtimes: &Runtimes,
) -> anyhow::Result<Option<Exporter>> {
    let counted = metrics.register(TraceMetrics::register);
    let Some(options) = &options.traces else { return Ok(None) };
    let resource = [
        ("service.name", format!("perigee-{}", tier(place.kind))),
        ("service.namespace", place.cdn.clone()),
        ("service.instance.id", place.name.clone()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let resource = resource.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let exporter = Exporter::start(&runtimes.control, options, resource, context, counted).context("--otlp")?;
    tracing::info!(collector = %options.endpoint, sample = options.sample, "tracing requests");
    Ok(Some(exporter))
}

/// What the page shows of the document that there is at the start.
fn map(source: &Source, loaded: Option<&Loaded>) -> Map {
    let map = Map::default();
    match (source, loaded) {
        (Source::File { .. }, Some(loaded)) => map.show(Arc::clone(&loaded.document)),
        (Source::Given { document, .. }, _) => map.show(Arc::clone(document)),
        (Source::File { .. }, None) | (Source::Quick { .. }, _) => {}
    }
    map
}

/// The certificates that this place is to show.
fn pairs(options: &Options, loaded: Option<&Loaded>) -> Vec<Pair> {
    let document = match (&options.source, loaded) {
        (Source::File { path, role }, Some(loaded)) => Some((&*loaded.document, folder_of(path), role)),
        (Source::Given { document, folder, role }, _) => Some((&**document, folder.as_path(), role)),
        (Source::File { .. }, None) | (Source::Quick { .. }, _) => None,
    };
    doors::pairs(document, options.doors.pair.as_ref())
}

fn folder_of(document: &Path) -> &Path {
    document.parent().unwrap_or(Path::new(""))
}

fn place(options: &Options, loaded: Option<&Loaded>) -> anyhow::Result<Place> {
    let (document, folder, role) = match (&options.source, loaded) {
        (Source::File { path, role }, Some(loaded)) => (&loaded.document, path.parent().unwrap_or(Path::new("")), role),
        (Source::Given { document, folder, role }, _) => (document, folder.as_path(), role),
        (Source::File { path, .. }, None) => bail!("{}: was not read", path.display()),
        (Source::Quick { .. }, _) => {
            return Ok(Place {
                kind: NodeKind::Edge,
                tier: Tier::Edge,
                name: options.name.clone().unwrap_or_else(|| "perigee".into()),
                cdn: String::new(),
                secret: None,
                admin: Admin::default(),
            });
        }
    };
    if let Some(missing) = role.missing_from(document) {
        bail!("{missing}");
    }
    let secret = document.cdn.secret_file.as_ref().map(|file| secret::read(&folder.join(file))).transpose()?;
    let (kind, tier, id) = match role {
        Role::Edge(pop) => (NodeKind::Edge, Tier::Edge, pop.as_str()),
        Role::Shield(shield) => (NodeKind::Shield, Tier::Shield, shield.as_str()),
    };
    Ok(Place {
        kind,
        tier,
        name: options.name.clone().unwrap_or_else(|| id.to_owned()),
        cdn: document.cdn.name.clone(),
        secret,
        admin: document.admin.clone(),
    })
}

/// Unique per node: a request that comes to a node twice has gone round, one that goes through two nodes has not.
fn loop_id(place: &Place) -> String {
    if place.cdn.is_empty() {
        // Without a document two nodes in a row may have one name; what tells them apart is chance.
        return format!("{}-{:08x}", place.name, random_u64() as u32);
    }
    format!("{}.{}", place.name, place.cdn)
}

fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn check_support(document: &Document, role: &Role) -> anyhow::Result<()> {
    let kind = match role {
        Role::Edge(_) => NodeKind::Edge,
        Role::Shield(_) => NodeKind::Shield,
    };
    let unsupported = unsupported(document, kind);
    if unsupported.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = unsupported.iter().map(ToString::to_string).collect();
    bail!("the document asks for what this node cannot do:\n  {}", list.join("\n  "))
}

async fn open_store(
    options: &Options,
    place: &Place,
    runtimes: &Runtimes,
    metrics: &NodeMetrics,
) -> anyhow::Result<Store> {
    let disk = options.disk.as_ref().map(|disk| DiskConfig { dir: disk.folder.clone(), bytes: disk.size.0 });
    let seed = if disk.is_some() { disk_seed(place) } else { random_u64() };
    let config = StoreConfig::new(options.memory_bytes, disk, seed)?;
    let open = async |registry: &mut _| Store::open(config, &runtimes.store, registry).await;
    Ok(metrics.register_while(open).await?)
}

/// The same at every start of a node on a machine, so that what is on its disk is found again; not known to clients.
fn disk_seed(place: &Place) -> u64 {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let named = xxhash_rust::xxh3::xxh3_64(format!("{}/{}", place.cdn, place.name).as_bytes());
    xxhash_rust::xxh3::xxh3_64_with_seed(&machine, named)
}

fn first_snapshot(
    mut assembler: Assembler,
    options: &Options,
    loaded: Option<&Loaded>,
) -> anyhow::Result<(Assembler, Snapshot)> {
    let snapshot = match (&options.source, loaded) {
        (Source::File { role, .. }, Some(loaded)) => {
            let trust =
                assemble::trust(&loaded.document, &loaded.resolve(Path::new(""))).map_err(anyhow::Error::msg)?;
            let folder = loaded.resolve(Path::new(""));
            assembler.locate(&loaded.document, role, &folder).map_err(anyhow::Error::msg)?;
            assembler.snapshot(&loaded.document, role, trust, FIRST_GENERATION)
        }
        (Source::Given { document, role, folder }, _) => {
            let trust = assemble::trust(document, folder).map_err(anyhow::Error::msg)?;
            assembler.locate(document, role, folder).map_err(anyhow::Error::msg)?;
            assembler.snapshot(document, role, trust, FIRST_GENERATION)
        }
        (Source::Quick { origins, cache }, _) => {
            let id = "quick".parse().context("the site of a node without a document")?;
            quick(id, origins.clone(), cache.clone(), assembler.context())
        }
        (Source::File { path, .. }, None) => bail!("{}: was not read", path.display()),
    };
    Ok((assembler, snapshot))
}

fn follow(
    loaded: &Loaded,
    options: &Options,
    assembler: Assembler,
    (engine, authorizer, certificates, map): (&Arc<Engine>, &Authorizer, Option<Arc<Certificates>>, &Map),
    metrics: &NodeMetrics,
    runtimes: &Runtimes,
) -> DocumentWatcher {
    let role = match &options.source {
        Source::File { role, .. } | Source::Given { role, .. } => Some(role.clone()),
        Source::Quick { .. } => None,
    };
    let assembler = Mutex::new(assembler);
    let (engine, authorizer, map) = (Arc::clone(engine), authorizer.clone(), map.clone());
    let first = Arc::clone(&loaded.document);
    let folder = loaded.resolve(Path::new(""));
    let door_options = options.doors.clone();
    DocumentWatcher::start(&runtimes.control, loaded, metrics.reloads.clone(), move |document, generation| {
        let Some(role) = &role else { return Ok(()) };
        if let Some(missing) = role.missing_from(&document) {
            return Err(missing);
        }
        check_support(&document, role).map_err(|error| error.to_string())?;
        if document.cdn.name != first.cdn.name || document.cdn.secret_file != first.cdn.secret_file {
            return Err("cdn.name and cdn.secret_file take a restart of the node".into());
        }
        let trust = assemble::trust(&document, &folder)?;
        let pairs = doors::pairs(Some((&document, &folder, role)), door_options.pair.as_ref());
        let prepared = doors::prepare(certificates.as_ref(), &door_options, &pairs)?;
        let mut assembler = assembler.lock().unwrap_or_else(PoisonError::into_inner);
        assembler.locate(&document, role, &folder)?;
        engine.publish(assembler.snapshot(&document, role, trust, generation));
        authorizer.set(document.admin.clone());
        map.show(Arc::clone(&document));
        if let (Some(certificates), Some(prepared)) = (&certificates, prepared) {
            certificates.apply(prepared);
        }
        Ok(())
    })
}

fn admin(
    (address, page): (SocketAddr, &PageOptions),
    state: &Arc<NodeState>,
    metrics: &Arc<NodeMetrics>,
    authorizer: Authorizer,
    (engine, feed): (&Arc<Engine>, &Arc<Feed>),
    runtimes: &Runtimes,
) -> anyhow::Result<AdminServing> {
    let explaining = explain::routes(Arc::clone(engine));
    let purging = purge::routes(Arc::clone(engine), Arc::clone(state), authorizer.clone());
    let (engine, connections) = (Arc::clone(engine), metrics.connections.clone());
    let builder = AdminBuilder::new(Arc::clone(state), Arc::clone(metrics), authorizer)
        .routes(explaining)
        .routes(purging)
        .page(Arc::clone(feed), page.clone());
    let builder = builder.status(move |fields| {
        let Totals { requests, hits, bytes, active } = engine.metrics().totals();
        let store = engine.store().stats();
        fields.insert("generation".into(), engine.snapshot().generation.into());
        fields.insert("requests".into(), requests.into());
        fields.insert("hits".into(), hits.into());
        fields.insert("bytes_sent".into(), bytes.into());
        fields.insert("active".into(), active.into());
        fields.insert("connections".into(), connections.open().into());
        fields.insert("flights".into(), engine.flights().into());
        fields.insert("memory_used".into(), store.memory_used.into());
        fields.insert("memory_capacity".into(), store.memory_capacity.into());
        fields.insert("memory_entries".into(), store.memory_entries.into());
        fields.insert("inflight_bytes".into(), engine.inflight_bytes().into());
        if let Some(disk) = store.disk {
            fields.insert("disk_up".into(), disk.up.into());
            fields.insert("disk_capacity".into(), disk.capacity.into());
            fields.insert("disk_written".into(), disk.written.into());
        }
    });
    Ok(builder.serve(&runtimes.control, address)?)
}

impl Running {
    /// Where it serves `http`, in the order of the options.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        self.serving.local_addrs()
    }

    /// Where it serves `https`.
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        self.serving.tls_addrs()
    }

    /// Where its admin API is.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServing::local_addr)
    }

    /// Ready, draining, and why.
    pub fn state(&self) -> &Arc<NodeState> {
        &self.state
    }

    /// What the page tells of it, each second.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What it has done and is doing.
    pub fn stats(&self) -> TierStats {
        let Totals { requests, hits, bytes, active } = self.engine.metrics().totals();
        TierStats {
            requests,
            hits,
            bytes_sent: bytes,
            active,
            connections: self.serving.connections(),
            generation: self.engine.snapshot().generation,
        }
    }

    /// Why the document's file as it is now does not serve; None when it does.
    pub fn document_refusal(&self) -> Option<String> {
        self.watcher.as_ref().and_then(DocumentWatcher::refusal)
    }

    /// What SIGHUP asks for: the document is read again, and the access log reopened.
    pub fn reload(&self) {
        if let Some(watcher) = &self.watcher {
            watcher.reload();
        }
        self.access_log.reopen();
    }

    /// Says that it is about to end and serves on for [`Options::drain_notice`], then stops accepting, lets requests in
    /// flight finish for at most `bound`, closes the store and writes the log out.
    pub async fn drain(self, bound: Duration) {
        self.state.request_drain();
        if self.drain_notice > Duration::ZERO {
            tracing::info!(notice = ?self.drain_notice, "serving on until nameservers have sent clients elsewhere");
            tokio::time::sleep(self.drain_notice).await;
        }
        let drained = self.serving.drain(bound).await;
        self.feed.close();
        if drained.aborted > 0 {
            tracing::warn!(aborted = drained.aborted, "connections were still at work at the bound");
        }
        self.engine.store().close().await;
        self.access_log.flush().await;
        if let Some(traces) = &self.traces {
            traces.flush().await;
        }
        if let Some(admin) = self.admin {
            admin.end().await;
        }
    }
}
