//! What a nameserver answers from, and how it changes: the document and the database, each reloaded by itself. Whatever
//! fails leaves what serves as it is.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use perigee_dns::{CookieSecret, LimitPolicy, Service, Snapshot, dnssec::ActiveKeys};
use perigee_node::{
    authorize::Authorizer,
    clock,
    metrics::{NodeMetrics, ReloadResult, Reloaded},
    mmap::MappedFile,
    secret,
    watch::{Cause, FileWatcher},
};
use perigee_protocol::{
    document::{NodeKind, unsupported},
    model::Document,
};
use tokio::runtime::Handle;

use crate::{
    answerer::Shared,
    databases::{self, Databases, Files, Opened, Which},
    encrypted::Encrypted,
    health::Prober,
    keys,
    notify::Notifier,
    operator::Operators,
    stream::IDLE_TIMEOUT,
    zones::{Place, ZoneData},
};

/// Fails when the document says what this version cannot do, naming every such key.
pub(crate) fn check_supported(document: &Document) -> Result<(), String> {
    let found = unsupported(document, NodeKind::Geodns);
    if found.is_empty() {
        return Ok(());
    }
    Err(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// What of a document a zone and its answers are made of.
pub(crate) fn snapshot(
    document: &Document,
    zone: &ZoneData,
    databases: Databases,
    service: Service,
    keys: Option<ActiveKeys>,
) -> Result<Snapshot<MappedFile>, String> {
    let document = &*zone.whole(document);
    let snapshot = Snapshot::with_files(document, &zone.files, zone.serial, databases.places, Arc::new(service), keys);
    Ok(snapshot
        .map_err(|error| error.to_string())?
        .for_secondaries(zone.secondaries(document))
        .with_systems(document, databases.systems))
}

/// What the nameserver `name` is beside the document's zone.
pub(crate) fn service(document: &Document, name: &str, cookies: CookieSecret) -> Service {
    let limit = &document.cdn.rate_limit;
    Service {
        nsid: name.as_bytes().into(),
        cookies,
        keepalive_ds: u16::try_from(IDLE_TIMEOUT.as_millis() / 100).unwrap_or(u16::MAX),
        limit: LimitPolicy {
            responses_per_second: limit.responses_per_second,
            slip: limit.slip,
            exempt: limit.exempt.clone(),
        },
        why: document.cdn.why.clone(),
    }
}

/// The fleet's, where there is one: resolvers then show one nameserver the cookies of another.
pub(crate) fn cookie_secret(document: &Document, folder: &Path) -> CookieSecret {
    let Some(file) = &document.cdn.secret_file else { return CookieSecret::new(random_key()) };
    match secret::read(&folder.join(file)) {
        Ok(secret) => CookieSecret::new(secret.derive("dns cookies")),
        Err(error) => {
            tracing::warn!(%error, "DNS cookies are made by a secret of this nameserver's own");
            CookieSecret::new(random_key())
        }
    }
}

/// Nobody else's: from the seeds of the standard library's hash tables, which the system's source of chance gives.
pub(crate) fn random_key() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]] = [half(), half()];
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// The document and the database in use.
#[derive(Debug)]
pub(crate) struct World {
    shared: Arc<Shared>,
    prober: Prober,
    authorizer: Authorizer,
    node_metrics: Arc<NodeMetrics>,
    control: Handle,
    place: Place,
    notifier: Notifier,
    cookies: CookieSecret,
    encrypted: Encrypted,
    operators: Operators,
    current: Mutex<Current>,
    me: Weak<Self>,
}

#[derive(Debug)]
struct Current {
    document: Arc<Document>,
    databases: Files,
    keys: Option<ActiveKeys>,
    zone: ZoneData,
    zone_watches: Vec<(PathBuf, FileWatcher)>,
    /// Why the zone files as they are now do not serve.
    zone_refusal: Option<String>,
}

/// What a world is made of; its snapshot is in `shared` already.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) prober: Prober,
    pub(crate) authorizer: Authorizer,
    pub(crate) node_metrics: Arc<NodeMetrics>,
    pub(crate) control: Handle,
    pub(crate) place: Place,
    pub(crate) document: Arc<Document>,
    pub(crate) zone: ZoneData,
    pub(crate) opened: Opened,
    pub(crate) cookies: CookieSecret,
    pub(crate) keys: Option<ActiveKeys>,
    pub(crate) encrypted: Encrypted,
    pub(crate) operators: Operators,
    /// How often the folder of keys is looked at.
    pub(crate) keys_look: Duration,
}

impl World {
    /// Begins to probe and to watch the database. What serves stays what it is.
    pub(crate) fn start(parts: Parts) -> Arc<Self> {
        let Parts {
            shared,
            prober,
            authorizer,
            node_metrics,
            control,
            place,
            document,
            zone,
            opened,
            cookies,
            keys,
            encrypted,
            operators,
            keys_look,
        } = parts;
        prober.obey(operators.in_force());
        prober.follow(&document);
        opened.databases.tell(&shared.metrics);
        let mut databases = Files::default();
        databases.opened(&opened);
        let current = Current {
            document: Arc::clone(&document),
            databases,
            keys,
            zone,
            zone_watches: Vec::new(),
            zone_refusal: None,
        };
        let notifier = Notifier::new(Arc::clone(&shared), control.clone());
        let world = Arc::new_cyclic(|me| Self {
            shared,
            notifier,
            prober,
            authorizer,
            node_metrics,
            control,
            place,
            cookies,
            encrypted,
            operators,
            current: Mutex::new(current),
            me: Weak::clone(me),
        });
        world.watch_databases(&mut world.lock(), &document);
        world.watch_zone_files(&mut world.lock());
        // Secondaries may have missed what happened while nobody was here.
        world.notify(&world.lock());
        let watched = Arc::downgrade(&world);
        world.control.spawn(async move {
            loop {
                tokio::time::sleep(keys_look).await;
                let Some(world) = watched.upgrade() else { return };
                world.renew_keys();
            }
        });
        world
    }

    /// Serves another document, with its database read anew.
    pub(crate) fn apply(&self, document: Arc<Document>) -> Result<(), String> {
        check_supported(&document)?;
        let mut current = self.lock();
        let opened = databases::open(&document, &self.place.folder)?;
        let service = service(&document, &self.shared.name, self.cookies.clone());
        let keys =
            keys::active(&document, &self.place.folder, clock::now_ms() / 1_000).map_err(|error| error.to_string())?;
        let zone = ZoneData::read(&document, &self.place, Some(&current.zone))?;
        let snapshot = snapshot(&document, &zone, opened.databases.clone(), service, keys.clone())?
            .since(&self.shared.snapshot.load());
        let certificate = self.encrypted.prepare(&document, &self.place.folder)?;
        opened.databases.tell(&self.shared.metrics);
        self.encrypted.apply(certificate);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.prober.follow(&document);
        self.authorizer.set(document.admin.clone());
        self.watch_databases(&mut current, &document);
        current.databases.opened(&opened);
        current.keys = keys;
        current.document = document;
        let is_new = zone.serial != current.zone.serial;
        current.zone = zone;
        current.zone_refusal = None;
        // All of it was read anew and is good, or is no longer named.
        for what in [Reloaded::GeoDatabase, Reloaded::AsnDatabase, Reloaded::ZoneFiles, Reloaded::Keys] {
            self.node_metrics.reloads.set_failing(what, false);
        }
        self.watch_zone_files(&mut current);
        if is_new {
            self.notify(&current);
        }
        Ok(())
    }

    /// Watches the files that the zone was read from, and no others.
    fn watch_zone_files(&self, current: &mut Current) {
        let paths: Vec<_> = current.zone.paths().map(|path| self.place.folder.join(path)).collect();
        current.zone_watches.retain(|(path, _)| paths.contains(path));
        for path in paths {
            if current.zone_watches.iter().any(|(watched, _)| *watched == path) {
                continue;
            }
            let world = Weak::clone(&self.me);
            let watcher = FileWatcher::start(&self.control, &path, move |_: Cause| {
                if let Some(world) = world.upgrade() {
                    world.reload_zone_files();
                }
            });
            // It may have changed between being read and being watched.
            watcher.check();
            current.zone_watches.push((path, watcher));
        }
    }

    /// Serves what the zone files say now, if they are good.
    fn reload_zone_files(&self) {
        let mut current = self.lock();
        let read = ZoneData::read(&current.document, &self.place, Some(&current.zone)).and_then(|zone| {
            if zone.is_same_as(&current.zone) {
                return Ok(None);
            }
            let databases = Databases::of(&self.shared.snapshot.load());
            let service = service(&current.document, &self.shared.name, self.cookies.clone());
            let snapshot = snapshot(&current.document, &zone, databases, service, current.keys.clone())?;
            Ok(Some((zone, snapshot.since(&self.shared.snapshot.load()))))
        });
        match read {
            Ok(None) => {
                self.node_metrics.reloads.set_failing(Reloaded::ZoneFiles, false);
                current.zone_refusal = None;
            }
            Ok(Some((zone, snapshot))) => {
                let (records, serial) = (zone.files.records.len(), zone.serial);
                tracing::info!(node = self.shared.name, records, serial, "the zone files serve");
                self.shared.snapshot.store(Arc::new(snapshot));
                self.node_metrics.reloads.count(Reloaded::ZoneFiles, ReloadResult::Applied);
                let is_new = zone.serial != current.zone.serial;
                current.zone = zone;
                current.zone_refusal = None;
                self.watch_zone_files(&mut current);
                if is_new {
                    self.notify(&current);
                }
            }
            Err(reason) => {
                tracing::error!(node = self.shared.name, "the zone files are refused, the old records go on: {reason}");
                self.node_metrics.reloads.count(Reloaded::ZoneFiles, ReloadResult::Refused);
                current.zone_refusal = Some(reason);
            }
        }
    }

    fn notify(&self, current: &Current) {
        if let Some(transfer) = &current.document.zone.transfer {
            self.notifier.tell(&transfer.notify);
        }
    }

    /// Why the zone files as they are now do not serve; None when they do.
    pub(crate) fn zone_refusal(&self) -> Option<String> {
        self.lock().zone_refusal.clone()
    }

    /// The SOA's serial in use.
    pub(crate) fn serial(&self) -> u32 {
        self.lock().zone.serial
    }

    fn watch_databases(&self, current: &mut Current, document: &Document) {
        current.databases.watch(document, &self.place.folder, &self.control, |which| {
            let world = Weak::clone(&self.me);
            move |_: Cause| {
                if let Some(world) = world.upgrade() {
                    world.reload_database(which);
                }
            }
        });
    }

    /// Signs with the keys whose time has come, or that have been added or changed. What cannot be used changes nothing.
    fn renew_keys(&self) {
        let mut current = self.lock();
        let count = |result| self.node_metrics.reloads.count(Reloaded::Keys, result);
        let refuse = |error: String| {
            count(ReloadResult::Refused);
            tracing::error!(node = self.shared.name, error, "the old DNSSEC keys go on");
        };
        let keys = match keys::active(&current.document, &self.place.folder, clock::now_ms() / 1_000) {
            Ok(keys) if keys == current.keys => {
                return self.node_metrics.reloads.set_failing(Reloaded::Keys, false);
            }
            Ok(keys) => keys,
            Err(error) => return refuse(error.to_string()),
        };
        let databases = Databases::of(&self.shared.snapshot.load());
        let service = service(&current.document, &self.shared.name, self.cookies.clone());
        match snapshot(&current.document, &current.zone, databases, service, keys.clone()) {
            Ok(snapshot) => {
                tracing::info!(node = self.shared.name, ?keys, "other DNSSEC keys sign");
                self.shared.snapshot.store(Arc::new(snapshot));
                current.keys = keys;
                count(ReloadResult::Applied);
            }
            Err(error) => refuse(error),
        }
    }

    /// Serves what a database's file is now, if it is good.
    fn reload_database(&self, which: Which) {
        let mut current = self.lock();
        let Some(path) = current.databases.renewed(which) else { return };
        let (name, what) = (&self.shared.name, which.reloaded());
        let refusal = match Databases::of(&self.shared.snapshot.load()).with(which, &path) {
            Ok(databases) => {
                if let Some(info) = databases.info(which) {
                    tracing::info!(node = name, path = %path.display(), kind = info.kind, built_at_s = info.built_at_s, nodes = info.nodes, "the {} serves", what.as_str());
                }
                databases.tell(&self.shared.metrics);
                let old = self.shared.snapshot.load();
                let snapshot = match which {
                    Which::Places => old.with_database(databases.places),
                    Which::Systems => {
                        old.with_database(databases.places).with_systems(&current.document, databases.systems)
                    }
                };
                self.shared.snapshot.store(Arc::new(snapshot));
                self.node_metrics.reloads.count(what, ReloadResult::Applied);
                None
            }
            Err(reason) => {
                tracing::error!(node = name, "the {} is refused, the old one goes on: {reason}", what.as_str());
                self.node_metrics.reloads.count(what, ReloadResult::Refused);
                Some(reason)
            }
        };
        current.databases.tried(which, refusal);
    }

    /// The document in use.
    pub(crate) fn document(&self) -> Arc<Document> {
        Arc::clone(&self.lock().document)
    }

    /// Why a database's file as it is now does not serve; None when it does.
    pub(crate) fn database_refusal(&self, which: Which) -> Option<String> {
        self.lock().databases.refusal(which).map(str::to_owned)
    }

    pub(crate) fn operators(&self) -> &Operators {
        &self.operators
    }

    pub(crate) fn prober(&self) -> &Prober {
        &self.prober
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
