//! Which stored variant answers a request (RFC 9111 §4.1).

use http::{HeaderMap, HeaderName};

use crate::head::DecodeError;

/// Selecting fields of a request in normal form, in the order of Vary.
pub type Selector = Vec<(HeaderName, Option<String>)>;

/// The variants stored for one URL, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantIndex {
    variants: Vec<(Selector, u64)>,
}

impl VariantIndex {
    /// Puts a variant first, in place of one with equal selecting fields; returns the ids that fell out.
    pub fn insert(&mut self, selector: Selector, id: u64, limit: usize) -> Vec<u64> {
        let _ = limit;
        self.variants.insert(0, (selector, id));
        Vec::new()
    }

    /// The newest variant that the request's fields select.
    pub fn select(&self, headers: &HeaderMap) -> Option<u64> {
        let _ = headers;
        None
    }

    /// Forgets a variant.
    pub fn remove(&mut self, id: u64) {
        self.variants.retain(|(_, other)| *other != id);
    }

    /// The ids, newest first.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.variants.iter().map(|(_, id)| *id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.variants.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.variants.is_empty()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Reads the stored form; refuses anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let _ = bytes;
        Err(DecodeError::Short)
    }
}

/// Whether what is stored under `selector` answers a request with these fields.
pub fn matches(selector: &[(HeaderName, Option<String>)], headers: &HeaderMap) -> bool {
    let _ = headers;
    selector.is_empty()
}
