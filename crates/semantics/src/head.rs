//! What is stored of a response beside its body.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::{freshness::Freshness, time::Timestamp};

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    /// `W/`
    pub weak: bool,
    /// What stands between the quotes, byte for byte.
    pub opaque: Box<[u8]>,
}

/// The head of a stored response: everything that decides about it and everything that is answered with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Final.
    pub status: StatusCode,
    /// End-to-end fields: no Age, nothing hop-by-hop, no Cache-Status, nothing internal.
    pub fields: HeaderMap,
    /// How long it may be reused.
    pub freshness: Freshness,
    /// The request's fields that selected this response, in normal form; empty: no Vary.
    pub vary: Vec<(HeaderName, Option<String>)>,
    /// `ETag`, if it is well-formed.
    pub etag: Option<EntityTag>,
    /// `Last-Modified`, if it is a date.
    pub last_modified: Option<Timestamp>,
    /// Surrogate keys.
    pub tags: Vec<Box<str>>,
}

/// Why bytes are no stored head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another version.
    #[error("unknown version {0}")]
    Version(u8),
    /// Ends early.
    #[error("cut short")]
    Short,
    /// Something in it cannot be.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

impl StoredHead {
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
