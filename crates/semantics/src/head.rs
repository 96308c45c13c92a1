//! What is stored of a response beside its body, and its form on disk.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::{
    codec::{Reader, put_bytes, put_count},
    freshness::{Freshness, LifetimeSource},
    time::Timestamp,
    vary::{put_selector, selector_from},
};

/// First byte of a stored head.
const HEAD_VERSION: u8 = 1;

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    /// `W/`
    pub weak: bool,
    /// What stands between the quotes, byte for byte.
    pub opaque: Box<[u8]>,
}

impl EntityTag {
    /// Reads one well-formed entity tag; `W` is upper-case.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        // RFC 9110 §8.8.3: no quotes, spaces or control characters within; obs-text is allowed.
        let valid = opaque.iter().all(|b| matches!(b, 0x21 | 0x23..=0x7e | 0x80..=0xff));
        valid.then(|| Self { weak, opaque: opaque.into() })
    }
}

/// The head of a stored response: everything that decides about it and everything that is answered with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Final.
    pub status: StatusCode,
    /// End-to-end fields, Date among them: no Age, nothing hop-by-hop, no Cache-Status, nothing internal. Content-Length
    /// is the origin's, where it sent one.
    pub fields: HeaderMap,
    /// How long it may be reused.
    pub freshness: Freshness,
    /// The request's fields that selected this response, in normal form; empty: no Vary.
    pub vary: Vec<(HeaderName, Option<String>)>,
    /// `ETag`, if it is well-formed.
    pub etag: Option<EntityTag>,
    /// `Last-Modified`, if it is a date.
    pub last_modified: Option<Timestamp>,
    /// Surrogate keys, sorted, each once.
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
    /// Whether requests that wait for one fetch may all be answered with this response: it is fresh for some time, and
    /// nothing demands validation before each use.
    pub fn is_collapsible(&self) -> bool {
        self.freshness.lifetime_ms > 0 && !self.freshness.no_cache
    }

    /// Whether our own conditional request can be made.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(HEAD_VERSION);
        out.extend_from_slice(&self.status.as_u16().to_le_bytes());
        put_freshness(out, &self.freshness);
        put_count(out, self.fields.len());
        for (name, value) in &self.fields {
            put_bytes(out, name.as_str().as_bytes());
            put_bytes(out, value.as_bytes());
        }
        put_selector(out, &self.vary);
        match &self.etag {
            None => out.push(0),
            Some(tag) => {
                out.push(if tag.weak { 2 } else { 1 });
                put_bytes(out, &tag.opaque);
            }
        }
        put_option(out, self.last_modified.map(Timestamp::as_millis));
        put_count(out, self.tags.len());
        for tag in &self.tags {
            put_bytes(out, tag.as_bytes());
        }
    }

    /// Reads the stored form; refuses anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(HEAD_VERSION)?;
        let status = StatusCode::from_u16(reader.u16()?).map_err(|_| DecodeError::Invalid("status"))?;
        let freshness = freshness_from(&mut reader)?;
        let mut fields = HeaderMap::new();
        for _ in 0..reader.count()? {
            let (name, value) = (reader.header_name()?, reader.header_value()?);
            fields.try_append(name, value).map_err(|_| DecodeError::Invalid("number of fields"))?;
        }
        let vary = selector_from(&mut reader)?;
        let etag = match reader.u8()? {
            0 => None,
            kind @ (1 | 2) => Some(EntityTag { weak: kind == 2, opaque: reader.bytes()?.into() }),
            _ => return Err(DecodeError::Invalid("entity tag")),
        };
        let last_modified = option_from(&mut reader)?.map(Timestamp::from_millis);
        let mut tags = Vec::new();
        for _ in 0..reader.count()? {
            tags.push(reader.text()?.into());
        }
        reader.end()?;
        Ok(Self { status, fields, freshness, vary, etag, last_modified, tags })
    }
}

fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn option_from(reader: &mut Reader<'_>) -> Result<Option<u64>, DecodeError> {
    if reader.flag()? { reader.u64().map(Some) } else { Ok(None) }
}

/// The numbers of lifetime sources on disk: append only.
const SOURCES: [LifetimeSource; 9] = [
    LifetimeSource::Rule,
    LifetimeSource::Targeted,
    LifetimeSource::SMaxage,
    LifetimeSource::MaxAge,
    LifetimeSource::Expires,
    LifetimeSource::Negative,
    LifetimeSource::Default,
    LifetimeSource::Heuristic,
    LifetimeSource::None,
];

fn put_freshness(out: &mut Vec<u8>, freshness: &Freshness) {
    for number in [freshness.response_time.as_millis(), freshness.initial_age_ms, freshness.lifetime_ms] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let source = SOURCES.iter().position(|source| *source == freshness.source);
    out.push(source.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX));
    put_option(out, freshness.swr_ms);
    put_option(out, freshness.sie_ms);
    for flag in [freshness.no_cache, freshness.must_revalidate, freshness.immutable] {
        out.push(u8::from(flag));
    }
}

fn freshness_from(reader: &mut Reader<'_>) -> Result<Freshness, DecodeError> {
    Ok(Freshness {
        response_time: Timestamp::from_millis(reader.u64()?),
        initial_age_ms: reader.u64()?,
        lifetime_ms: reader.u64()?,
        source: *SOURCES.get(usize::from(reader.u8()?)).ok_or(DecodeError::Invalid("lifetime source"))?,
        swr_ms: option_from(reader)?,
        sie_ms: option_from(reader)?,
        no_cache: reader.flag()?,
        must_revalidate: reader.flag()?,
        immutable: reader.flag()?,
    })
}

#[cfg(test)]
mod tests;
