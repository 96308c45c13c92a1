//! The databases that a document names: opened, checked, told apart from what they were, and told of.

use std::{
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use perigee_dns::Snapshot;
use perigee_geo::{
    asn::AsnDatabase,
    database::{DatabaseError, DatabaseInfo, GeoDatabase},
};
use perigee_node::{
    metrics::Reloaded,
    mmap::MappedFile,
    watch::{Cause, FileWatcher},
};
use perigee_protocol::model::Document;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::metrics::DnsMetrics;

/// The database of places as it is used: pages of the file, mapped.
pub(crate) type Places = GeoDatabase<MappedFile>;
/// The database of autonomous systems.
pub(crate) type Systems = AsnDatabase<MappedFile>;

/// One of the databases that a document may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// `geo.database`
    Places,
    /// `geo.asn_database`
    Systems,
}

impl Which {
    pub(crate) const ALL: [Self; 2] = [Self::Places, Self::Systems];

    /// The word in logs, and which reload it is counted as.
    pub(crate) fn reloaded(self) -> Reloaded {
        match self {
            Self::Places => Reloaded::GeoDatabase,
            Self::Systems => Reloaded::AsnDatabase,
        }
    }

    fn path(self, document: &Document, folder: &Path) -> Option<PathBuf> {
        let named = match self {
            Self::Places => &document.geo.database,
            Self::Systems => &document.geo.asn_database,
        };
        named.as_ref().map(|named| folder.join(named))
    }

    fn key(self) -> &'static str {
        match self {
            Self::Places => "geo.database",
            Self::Systems => "geo.asn_database",
        }
    }

    fn wants(self) -> &'static str {
        match self {
            Self::Places => "a file like GeoLite2-City, GeoLite2-Country or DB-IP's, or one of `perigee geo build`",
            Self::Systems => {
                "a file like GeoLite2-ASN or DB-IP's ASN Lite, or one of `perigee geo build` with an asn column"
            }
        }
    }

    fn map(self, path: &Path) -> Result<MappedFile, String> {
        let unread = |error| format!("{}: {}: {error}; it takes {}", self.key(), path.display(), self.wants());
        MappedFile::open(path).map_err(unread)
    }

    fn refusal(self, path: &Path, error: &DatabaseError) -> String {
        format!("{}: {}: {error}", self.key(), path.display())
    }
}

/// What is answered from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Databases {
    pub(crate) places: Option<Arc<Places>>,
    pub(crate) systems: Option<Arc<Systems>>,
}

impl Databases {
    /// Those that a snapshot answers from.
    pub(crate) fn of(snapshot: &Snapshot<MappedFile>) -> Self {
        Self { places: snapshot.database().cloned(), systems: snapshot.systems().cloned() }
    }

    /// With the file at `path` in the place of one of them.
    pub(crate) fn with(self, which: Which, path: &Path) -> Result<Self, String> {
        Ok(match which {
            Which::Places => Self { places: Some(Arc::new(open_places(path)?)), ..self },
            Which::Systems => Self { systems: Some(Arc::new(open_systems(path)?)), ..self },
        })
    }

    pub(crate) fn info(&self, which: Which) -> Option<&DatabaseInfo> {
        match which {
            Which::Places => self.places.as_ref().map(|database| database.info()),
            Which::Systems => self.systems.as_ref().map(|database| database.info()),
        }
    }

    pub(crate) fn tell(&self, metrics: &DnsMetrics) {
        let built = |which| self.info(which).map_or(0, |info| info.built_at_s);
        metrics.set_database_built(built(Which::Places));
        metrics.set_systems_built(built(Which::Systems));
    }

    /// For `/v1/status`.
    pub(crate) fn status(&self, which: Which) -> Value {
        let Some(info) = self.info(which) else { return Value::Null };
        let mut status = json!({ "kind": info.kind, "built_at_s": info.built_at_s, "nodes": info.nodes });
        if let (Which::Places, Some(places)) = (which, &self.places) {
            status["level"] = json!(places.level().as_str());
        }
        status
    }
}

pub(crate) fn open_places(path: &Path) -> Result<Places, String> {
    GeoDatabase::from_source(Which::Places.map(path)?).map_err(|error| Which::Places.refusal(path, &error))
}

fn open_systems(path: &Path) -> Result<Systems, String> {
    AsnDatabase::from_source(Which::Systems.map(path)?).map_err(|error| Which::Systems.refusal(path, &error))
}

/// Databases, and which files they are.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) databases: Databases,
    identities: [Option<Identity>; 2],
}

/// Opens and checks the databases that the document names.
pub(crate) fn open(document: &Document, folder: &Path) -> Result<Opened, String> {
    let mut opened = Opened::default();
    for (which, identity) in Which::ALL.into_iter().zip(&mut opened.identities) {
        let Some(path) = which.path(document, folder) else { continue };
        // Before it is read: what replaces it meanwhile is another file.
        *identity = Identity::of(&path);
        opened.databases = opened.databases.with(which, &path)?;
    }
    Ok(opened)
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

/// The files of databases, as they are watched.
#[derive(Default)]
pub(crate) struct Files([File; 2]);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|file| file.watch.as_ref().map(|(path, _)| path))).finish()
    }
}

#[derive(Default)]
struct File {
    watch: Option<(PathBuf, FileWatcher)>,
    /// What it was when it was last tried, so that it is not read again for nothing.
    tried: Option<Identity>,
    /// Why it does not serve as it is now.
    refusal: Option<String>,
}

impl Files {
    /// Watches the files that the document names, and no others.
    pub(crate) fn watch<F>(
        &mut self,
        document: &Document,
        folder: &Path,
        control: &Handle,
        on_change: impl Fn(Which) -> F,
    ) where
        F: FnMut(Cause) + Send + 'static,
    {
        for (which, file) in Which::ALL.into_iter().zip(&mut self.0) {
            let path = which.path(document, folder);
            if path.as_ref() == file.watch.as_ref().map(|(path, _)| path) {
                continue;
            }
            file.watch = path.map(|path| {
                let watcher = FileWatcher::start(control, &path, on_change(which));
                // It may have changed between being read and being watched.
                watcher.check();
                (path, watcher)
            });
        }
    }

    /// These were opened, and serve.
    pub(crate) fn opened(&mut self, opened: &Opened) {
        for (file, identity) in self.0.iter_mut().zip(opened.identities) {
            file.tried = identity;
            file.refusal = None;
        }
    }

    /// The path of a file that is another than when it was last tried, which counts as tried now.
    pub(crate) fn renewed(&mut self, which: Which) -> Option<PathBuf> {
        let file = self.file(which)?;
        let (path, _) = file.watch.as_ref()?;
        let identity = Identity::of(path);
        if file.tried == identity {
            return None;
        }
        file.tried = identity;
        Some(path.clone())
    }

    /// How it went.
    pub(crate) fn tried(&mut self, which: Which, refusal: Option<String>) {
        if let Some(file) = self.file(which) {
            file.refusal = refusal;
        }
    }

    /// Why the file as it is now does not serve; None when it does.
    pub(crate) fn refusal(&self, which: Which) -> Option<&str> {
        let mut files = Which::ALL.into_iter().zip(&self.0);
        files.find(|(of, _)| *of == which).and_then(|(_, file)| file.refusal.as_deref())
    }

    fn file(&mut self, which: Which) -> Option<&mut File> {
        Which::ALL.into_iter().zip(&mut self.0).find(|(of, _)| *of == which).map(|(_, file)| file)
    }
}
