//! All that an answer is made of, but for health: one value that is swapped in whole.

use std::sync::Arc;

use perigee_geo::{database::GeoDatabase, steer::Steering};
use perigee_protocol::model::Document;

use crate::zone::{Zone, ZoneError};

/// A document's zone and steering, and the database that tells where clients are.
#[derive(Debug)]
pub struct Snapshot<S: AsRef<[u8]>> {
    pub(crate) zone: Arc<Zone>,
    pub(crate) steering: Arc<Steering>,
    pub(crate) database: Option<Arc<GeoDatabase<S>>>,
}

impl<S: AsRef<[u8]>> Snapshot<S> {
    /// Makes a document ready to answer from. `serial` is the SOA's. Without a database every client is where overrides
    /// or the default location say.
    pub fn new(document: &Document, serial: u32, database: Option<Arc<GeoDatabase<S>>>) -> Result<Self, ZoneError> {
        let steering = Steering::new(document);
        let zone = Zone::new(document, &steering, serial)?;
        Ok(Self { zone: zone.into(), steering: steering.into(), database })
    }

    /// The same document with another database.
    #[must_use]
    pub fn with_database(&self, database: Option<Arc<GeoDatabase<S>>>) -> Self {
        Self { zone: Arc::clone(&self.zone), steering: Arc::clone(&self.steering), database }
    }

    /// The database in use.
    pub fn database(&self) -> Option<&Arc<GeoDatabase<S>>> {
        self.database.as_ref()
    }
}
