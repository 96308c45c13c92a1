//! All that an answer is made of, but for health: one value that is swapped in whole.

use std::sync::Arc;

use ipnet::IpNet;
use perigee_geo::{
    asn::AsnDatabase,
    database::GeoDatabase,
    health::HealthView,
    steer::{AnswerTable, ClientPrefix, Family, SiteIndex, Steered, Steering, Step, TableBuilder},
};
use perigee_protocol::{model::Document, zone_file::ZoneFiles};

use crate::{
    cookie::CookieSecret,
    dnssec::ActiveKeys,
    history::History,
    limit::LimitPolicy,
    name::Name,
    transfer::Secondaries,
    zone::{Zone, ZoneError},
};

/// What a nameserver is beside its zone.
#[derive(Clone, Debug)]
pub struct Service {
    /// Who answers, for those who ask (RFC 5001): the node's name.
    pub nsid: Box<[u8]>,
    /// What makes cookies.
    pub cookies: CookieSecret,
    /// How long an idle connection is kept, in tenths of a second (RFC 7828).
    pub keepalive_ds: u16,
    /// What networks may have by UDP without a cookie.
    pub limit: LimitPolicy,
    /// Who may ask `_why.NAME`; to others that name is as any other.
    pub why: Vec<IpNet>,
}

/// A document's zone and steering, and the database that tells where clients are.
#[derive(Debug)]
pub struct Snapshot<S: AsRef<[u8]>> {
    pub(crate) zone: Arc<Zone>,
    pub(crate) steering: Arc<Steering>,
    pub(crate) database: Option<Arc<GeoDatabase<S>>>,
    /// For explanations; the steering has of it what it needs.
    pub(crate) systems: Option<Arc<AsnDatabase<S>>>,
    pub(crate) service: Arc<Service>,
    /// Answers made ahead, of this steering and this database.
    pub(crate) table: Option<Arc<AnswerTable>>,
    /// Who may have the zone, and the keys that messages may be signed with.
    pub(crate) secondaries: Arc<Secondaries>,
    /// All of the zone in the order of a transfer; none where there are no secondaries.
    pub(crate) names: Arc<[Name]>,
    /// What led to this version; nothing where there are no secondaries.
    pub(crate) history: History,
}

impl<S: AsRef<[u8]>> Snapshot<S> {
    /// Makes a document ready to answer from, signed with `keys` where there are any. `serial` is the SOA's. Without a database every client is where overrides
    /// or the default location say.
    pub fn new(
        document: &Document,
        serial: u32,
        database: Option<Arc<GeoDatabase<S>>>,
        service: Arc<Service>,
        keys: Option<ActiveKeys>,
    ) -> Result<Self, ZoneError> {
        Self::with_files(document, &ZoneFiles::default(), serial, database, service, keys)
    }

    /// As [`Self::new`], with what the document's zone files say.
    pub fn with_files(
        document: &Document,
        files: &ZoneFiles,
        serial: u32,
        database: Option<Arc<GeoDatabase<S>>>,
        service: Arc<Service>,
        keys: Option<ActiveKeys>,
    ) -> Result<Self, ZoneError> {
        let steering = Steering::new(document);
        let zone = Zone::new(document, files, &steering, serial, keys)?;
        let (secondaries, names) = (Arc::default(), Arc::default());
        let (zone, steering) = (zone.into(), steering.into());
        let history = History::default();
        Ok(Self { zone, steering, database, systems: None, service, table: None, secondaries, names, history })
    }

    /// The same for these secondaries; without this there are none. Where there are any, it puts the names of the zone in
    /// order, so that a transfer has not to.
    #[must_use]
    pub fn for_secondaries(self, secondaries: Secondaries) -> Self {
        let mut names: Vec<_> = self.zone.names().filter(|_| secondaries.key.is_some()).cloned().collect();
        names.sort_by(|a, b| a.as_wire().cmp(b.as_wire()));
        Self { secondaries: Arc::new(secondaries), names: names.into(), ..self }
    }

    /// The same as what follows `before`, whose secondaries need only what changed since (RFC 1995). Takes a look at every
    /// name of both.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        Self { history: History::following(before, &self), ..self }
    }

    /// The same for these autonomous systems, of which the same document names some; without this nobody is of any.
    #[must_use]
    pub fn with_systems(self, document: &Document, systems: Option<Arc<AsnDatabase<S>>>) -> Self {
        if systems.is_none() && self.systems.is_none() {
            return self;
        }
        let steering = Arc::new(Steering::with_systems(document, systems.as_deref()));
        Self { steering, systems, table: None, ..self }
    }

    /// The database of autonomous systems in use.
    pub fn systems(&self) -> Option<&Arc<AsnDatabase<S>>> {
        self.systems.as_ref()
    }

    /// The same document with another database.
    #[must_use]
    pub fn with_database(&self, database: Option<Arc<GeoDatabase<S>>>) -> Self {
        let (zone, steering, service) = (Arc::clone(&self.zone), Arc::clone(&self.steering), Arc::clone(&self.service));
        let (systems, secondaries) = (self.systems.clone(), Arc::clone(&self.secondaries));
        let (names, history) = (Arc::clone(&self.names), self.history.clone());
        Self { zone, steering, database, systems, service, table: None, secondaries, names, history }
    }

    /// The same, for a nameserver that is about to end: clients are told to close idle connections now (RFC 7828 §3.2.2).
    #[must_use]
    pub fn ending(&self) -> Self {
        let service = Service { keepalive_ds: 0, ..Service::clone(&self.service) };
        Self { service: Arc::new(service), table: self.table.clone(), ..self.with_database(self.database.clone()) }
    }

    /// Begins a table of the answers under this view of health; [`Snapshot::step`] goes on with it.
    pub fn begin_table(&self, health: &HealthView) -> TableBuilder<'_> {
        self.steering.table(health)
    }

    /// Makes the answers of the next `blocks` stretches of addresses; `builder` is of [`Snapshot::begin_table`].
    pub fn step(&self, builder: &mut TableBuilder<'_>, blocks: usize) -> Step {
        builder.step(self.database.as_deref(), blocks)
    }

    /// The same with a table that was made of this one, or of another of [`Snapshot::has_geography_of`].
    #[must_use]
    pub fn with_table(&self, table: Option<Arc<AnswerTable>>) -> Self {
        Self { table, ..self.with_database(self.database.clone()) }
    }

    /// The table in use, whatever view of health it is of.
    pub fn table(&self) -> Option<&Arc<AnswerTable>> {
        self.table.as_ref()
    }

    /// Whether a table of one is a table of the other: neither steering nor database was made anew.
    pub fn has_geography_of(&self, other: &Self) -> bool {
        let (a, b) = (self.database.as_ref(), other.database.as_ref());
        Arc::ptr_eq(&self.steering, &other.steering) && a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
    }

    pub(crate) fn steer(
        &self,
        client: &ClientPrefix,
        site: SiteIndex,
        health: &HealthView,
        family: Family,
    ) -> Steered<'_> {
        self.steering.answer_by(self.table.as_deref(), self.database.as_deref(), client, site, health, family)
    }

    /// The database in use.
    pub fn database(&self) -> Option<&Arc<GeoDatabase<S>>> {
        self.database.as_ref()
    }
}
