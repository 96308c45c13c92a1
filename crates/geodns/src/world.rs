//! What a nameserver answers from, and how it changes: the document and the database, each reloaded by itself. Whatever
//! fails leaves what serves as it is.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use perigee_dns::{CookieSecret, LimitPolicy, Service, Snapshot, dnssec::ActiveKeys};
use perigee_geo::database::GeoDatabase;
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
    encrypted::Encrypted,
    health::Prober,
    keys,
    metrics::DnsMetrics,
    stream::IDLE_TIMEOUT,
    zones::{Place, ZoneData},
};

/// How often the folder of keys is looked at.
const KEYS_LOOK: Duration = Duration::from_secs(30);

/// The database as it is used: pages of the file, mapped.
pub(crate) type Database = GeoDatabase<MappedFile>;

/// Fails when the document says what this version cannot do, naming every such key.
pub(crate) fn check_supported(document: &Document) -> Result<(), String> {
    let found = unsupported(document, NodeKind::Geodns);
    if found.is_empty() {
        return Ok(());
    }
    Err(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// A database and which file it is.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) database: Option<Arc<Database>>,
    identity: Option<Identity>,
}

/// Opens and checks the database that the document names, if it names one.
pub(crate) fn open_database(document: &Document, folder: &Path) -> Result<Opened, String> {
    let Some(named) = &document.geo.database else { return Ok(Opened::default()) };
    let path = folder.join(named);
    // Before it is read: what replaces it meanwhile is another file.
    let identity = Identity::of(&path);
    Ok(Opened { database: Some(Arc::new(open(&path)?)), identity })
}

/// Tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device_and_inode: (u64, u64),
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let device_and_inode = (metadata.dev(), metadata.ino());
        Some(Self { device_and_inode, bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

pub(crate) fn open(path: &Path) -> Result<Database, String> {
    let mapped = MappedFile::open(path).map_err(|error| {
        format!(
            "geo.database: {}: {error}; it takes a GeoLite2-City or GeoIP2-City file, or one of `perigee geo build`",
            path.display()
        )
    })?;
    GeoDatabase::from_source(mapped).map_err(|error| format!("geo.database: {}: {error}", path.display()))
}

/// What of a document a zone and its answers are made of.
pub(crate) fn snapshot(
    document: &Document,
    zone: &ZoneData,
    database: Option<Arc<Database>>,
    service: Service,
    keys: Option<ActiveKeys>,
) -> Result<Snapshot<MappedFile>, String> {
    let snapshot = Snapshot::with_files(document, &zone.files, zone.serial, database, Arc::new(service), keys);
    Ok(snapshot.map_err(|error| error.to_string())?.for_secondaries(zone.secondaries(document)))
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
    cookies: CookieSecret,
    encrypted: Encrypted,
    current: Mutex<Current>,
    me: Weak<Self>,
}

#[derive(Debug)]
struct Current {
    document: Arc<Document>,
    watch: Option<(PathBuf, FileWatcher)>,
    /// What the database's file was when it was last tried, so that it is not read again for nothing.
    tried: Option<Identity>,
    /// Why the database's file as it is now does not serve.
    refusal: Option<String>,
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
        } = parts;
        prober.follow(&document);
        tell_database(&shared.metrics, shared.snapshot.load().database());
        let current = Current {
            document: Arc::clone(&document),
            watch: None,
            tried: opened.identity,
            refusal: None,
            keys,
            zone,
            zone_watches: Vec::new(),
            zone_refusal: None,
        };
        let world = Arc::new_cyclic(|me| Self {
            shared,
            prober,
            authorizer,
            node_metrics,
            control,
            place,
            cookies,
            encrypted,
            current: Mutex::new(current),
            me: Weak::clone(me),
        });
        world.watch_database(&mut world.lock(), &document);
        world.watch_zone_files(&mut world.lock());
        let watched = Arc::downgrade(&world);
        world.control.spawn(async move {
            loop {
                tokio::time::sleep(KEYS_LOOK).await;
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
        let opened = open_database(&document, &self.place.folder)?;
        let service = service(&document, &self.shared.name, self.cookies.clone());
        let keys = keys::active(&document, &self.place.folder, clock::now_ms() / 1_000).map_err(|error| error.to_string())?;
        let zone = ZoneData::read(&document, &self.place, Some(&current.zone))?;
        let snapshot = snapshot(&document, &zone, opened.database, service, keys.clone())?;
        let certificate = self.encrypted.prepare(&document, &self.place.folder)?;
        tell_database(&self.shared.metrics, snapshot.database());
        self.encrypted.apply(certificate);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.prober.follow(&document);
        self.authorizer.set(document.admin.clone());
        self.watch_database(&mut current, &document);
        current.tried = opened.identity;
        current.refusal = None;
        current.keys = keys;
        current.document = document;
        current.zone = zone;
        current.zone_refusal = None;
        self.watch_zone_files(&mut current);
        Ok(())
    }

    /// Watches the files that the zone was read from, and no others.
    fn watch_zone_files(&self, current: &mut Current) {
        let paths: Vec<_> = current.zone.files.files.iter().map(|path| self.place.folder.join(path)).collect();
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
            let database = self.shared.snapshot.load().database().cloned();
            let service = service(&current.document, &self.shared.name, self.cookies.clone());
            let snapshot = snapshot(&current.document, &zone, database, service, current.keys.clone())?;
            Ok(Some((zone, snapshot)))
        });
        match read {
            Ok(None) => current.zone_refusal = None,
            Ok(Some((zone, snapshot))) => {
                let (records, serial) = (zone.files.records.len(), zone.serial);
                tracing::info!(node = self.shared.name, records, serial, "the zone files serve");
                self.shared.snapshot.store(Arc::new(snapshot));
                self.node_metrics.reloads.count(Reloaded::ZoneFiles, ReloadResult::Applied);
                current.zone = zone;
                current.zone_refusal = None;
                self.watch_zone_files(&mut current);
            }
            Err(reason) => {
                tracing::error!(node = self.shared.name, "the zone files are refused, the old records go on: {reason}");
                self.node_metrics.reloads.count(Reloaded::ZoneFiles, ReloadResult::Refused);
                current.zone_refusal = Some(reason);
            }
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

    fn watch_database(&self, current: &mut Current, document: &Document) {
        let path = document.geo.database.as_ref().map(|named| self.place.folder.join(named));
        if path.as_ref() == current.watch.as_ref().map(|(path, _)| path) {
            return;
        }
        current.watch = path.map(|path| {
            let world = Weak::clone(&self.me);
            let watcher = FileWatcher::start(&self.control, &path, move |_: Cause| {
                if let Some(world) = world.upgrade() {
                    world.reload_database();
                }
            });
            // It may have changed between being read and being watched.
            watcher.check();
            (path, watcher)
        });
    }

    /// Signs with the keys whose time has come, or that have been added or changed. What cannot be used changes nothing.
    fn renew_keys(&self) {
        let mut current = self.lock();
        let keys = match keys::active(&current.document, &self.place.folder, clock::now_ms() / 1_000) {
            Ok(keys) if keys == current.keys => return,
            Ok(keys) => keys,
            Err(error) => return tracing::error!(node = self.shared.name, %error, "the old DNSSEC keys go on"),
        };
        let database = self.shared.snapshot.load().database().cloned();
        let service = service(&current.document, &self.shared.name, self.cookies.clone());
        match snapshot(&current.document, &current.zone, database, service, keys.clone()) {
            Ok(snapshot) => {
                tracing::info!(node = self.shared.name, ?keys, "other DNSSEC keys sign");
                self.shared.snapshot.store(Arc::new(snapshot));
                current.keys = keys;
            }
            Err(error) => tracing::error!(node = self.shared.name, error, "the old DNSSEC keys go on"),
        }
    }

    /// Serves what the database's file is now, if it is good.
    fn reload_database(&self) {
        let mut current = self.lock();
        let Some(path) = current.watch.as_ref().map(|(path, _)| path.clone()) else { return };
        let identity = Identity::of(&path);
        if current.tried == identity {
            return;
        }
        current.tried = identity;
        match open(&path) {
            Ok(database) => {
                let info = database.info();
                tracing::info!(node = self.shared.name, path = %path.display(), kind = info.kind, built_at_s = info.built_at_s, nodes = info.nodes, "the geo database serves");
                let snapshot = self.shared.snapshot.load().with_database(Some(Arc::new(database)));
                tell_database(&self.shared.metrics, snapshot.database());
                self.shared.snapshot.store(Arc::new(snapshot));
                self.node_metrics.reloads.count(Reloaded::GeoDatabase, ReloadResult::Applied);
                current.refusal = None;
            }
            Err(reason) => {
                tracing::error!(node = self.shared.name, "the geo database is refused, the old one goes on: {reason}");
                self.node_metrics.reloads.count(Reloaded::GeoDatabase, ReloadResult::Refused);
                current.refusal = Some(reason);
            }
        }
    }

    /// The document in use.
    pub(crate) fn document(&self) -> Arc<Document> {
        Arc::clone(&self.lock().document)
    }

    /// Why the database's file as it is now does not serve; None when it does.
    pub(crate) fn database_refusal(&self) -> Option<String> {
        self.lock().refusal.clone()
    }

    pub(crate) fn prober(&self) -> &Prober {
        &self.prober
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_database(metrics: &DnsMetrics, database: Option<&Arc<Database>>) {
    metrics.set_database_built(database.map_or(0, |database| database.info().built_at_s));
}
