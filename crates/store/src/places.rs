//! Where the segments of an object lie: for explanations.

use crate::{
    object::{Body, Object, Tier},
    record::RecordKey,
    store::Store,
};

/// How many segments of an object lie where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// In memory, whether or not on the disk too.
    pub memory: u32,
    /// On the disk alone.
    pub disk: u32,
    /// Nowhere: fetched again when they are wanted.
    pub missing: u32,
}

impl Store {
    /// Counts the segments of an object by where they are; a body that lies in its head's own entry has none. Reads
    /// nothing.
    pub fn places(&self, object: &Object) -> Places {
        let mut places = Places::default();
        if object.body.len() == Body::LEN_UNKNOWN {
            return places;
        }
        for index in 0..object.body.segments() {
            match self.place(&RecordKey::Segment(object.fill, index)) {
                Some(Tier::Memory) => places.memory += 1,
                Some(Tier::Disk) => places.disk += 1,
                None => places.missing += 1,
            }
        }
        places
    }
}
