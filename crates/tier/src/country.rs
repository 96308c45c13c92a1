//! Where clients are, for rules that key by country: the document's geo database, opened where a rule asks for it and read
//! anew when its file changes. Whatever fails leaves what serves as it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use perigee_cache::CountryOf;
use perigee_geo::{database::GeoDatabase, place::Country};
use perigee_node::{
    metrics::{ReloadMetrics, ReloadResult, Reloaded},
    mmap::MappedFile,
    watch::FileWatcher,
};
use perigee_protocol::model::Document;
use tokio::runtime::Handle;

type Database = GeoDatabase<MappedFile>;

/// The database in use, and the watch on its file.
#[derive(Debug)]
pub(crate) struct Countries {
    control: Handle,
    reloads: ReloadMetrics,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    database: Arc<ArcSwap<Database>>,
    _watcher: FileWatcher,
}

impl Countries {
    pub(crate) fn new(control: &Handle, reloads: ReloadMetrics) -> Self {
        Self { control: control.clone(), reloads, open: None }
    }

    /// What says where clients are by that document; `None` where no rule asks. Err: why the database cannot be used.
    pub(crate) fn follow(&mut self, document: &Document, folder: &Path) -> Result<Option<CountryOf>, String> {
        let asks = document.sites.iter().flat_map(|site| &site.rules).any(|rule| rule.cache.key.country);
        let Some(path) = document.geo.database.as_ref().filter(|_| asks).map(|named| folder.join(named)) else {
            self.open = None;
            self.reloads.set_failing(Reloaded::GeoDatabase, false);
            return Ok(None);
        };
        if self.open.as_ref().is_none_or(|open| open.path != path) {
            self.open = Some(self.open(path)?);
            self.reloads.set_failing(Reloaded::GeoDatabase, false);
        }
        Ok(self.open.as_ref().map(|open| {
            let database = Arc::clone(&open.database);
            CountryOf::new(move |address| database.load().lookup(address).country.map(Country::bytes))
        }))
    }

    fn open(&self, path: PathBuf) -> Result<Open, String> {
        let database = Arc::new(ArcSwap::from_pointee(open(&path)?));
        let (serving, reloads, file) = (Arc::clone(&database), self.reloads.clone(), path.clone());
        let watcher = FileWatcher::start(&self.control, &path, move |_| match open(&file) {
            Ok(new) => {
                tracing::info!(path = %file.display(), built_at_s = new.info().built_at_s, "the geo database serves");
                serving.store(Arc::new(new));
                reloads.count(Reloaded::GeoDatabase, ReloadResult::Applied);
            }
            Err(reason) => {
                tracing::error!("the geo database is refused, the old one goes on: {reason}");
                reloads.count(Reloaded::GeoDatabase, ReloadResult::Refused);
            }
        });
        Ok(Open { path, database, _watcher: watcher })
    }
}

fn open(path: &Path) -> Result<Database, String> {
    let mapped = MappedFile::open(path).map_err(|error| {
        format!(
            "geo.database: {}: {error}; rules with key = {{ country = true }} take a GeoLite2-City or GeoIP2-City file, or \
             one of `perigee geo build`",
            path.display()
        )
    })?;
    GeoDatabase::from_source(mapped).map_err(|error| format!("geo.database: {}: {error}", path.display()))
}
