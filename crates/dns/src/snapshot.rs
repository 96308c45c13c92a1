//! All that an answer is made of, but for health: one value that is swapped in whole.

use std::sync::Arc;

use ipnet::IpNet;
use perigee_geo::{database::GeoDatabase, steer::Steering};
use perigee_protocol::model::Document;

use crate::{
    cookie::CookieSecret,
    dnssec::ActiveKeys,
    limit::LimitPolicy,
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
    pub(crate) service: Arc<Service>,
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
        let steering = Steering::new(document);
        let zone = Zone::new(document, &steering, serial, keys)?;
        Ok(Self { zone: zone.into(), steering: steering.into(), database, service })
    }

    /// The same document with another database.
    #[must_use]
    pub fn with_database(&self, database: Option<Arc<GeoDatabase<S>>>) -> Self {
        let (zone, steering, service) = (Arc::clone(&self.zone), Arc::clone(&self.steering), Arc::clone(&self.service));
        Self { zone, steering, database, service }
    }

    /// The same, for a nameserver that is about to end: clients are told to close idle connections now (RFC 7828 §3.2.2).
    #[must_use]
    pub fn ending(&self) -> Self {
        let service = Service { keepalive_ds: 0, ..Service::clone(&self.service) };
        Self { service: Arc::new(service), ..self.with_database(self.database.clone()) }
    }

    /// The database in use.
    pub fn database(&self) -> Option<&Arc<GeoDatabase<S>>> {
        self.database.as_ref()
    }
}
