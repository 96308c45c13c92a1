//! Reading and writing what lies on disk: little-endian numbers, counted bytes. Never trusts a length it reads.

use http::{HeaderName, HeaderValue};

use crate::head::DecodeError;

/// What does not fit the format is cut to nothing rather than written wrong; HTTP heads are far below it.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    if u32::try_from(bytes.len()).is_ok() {
        out.extend_from_slice(bytes);
    }
}

/// Takes values off the front.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn version(&mut self, expected: u8) -> Result<(), DecodeError> {
        let version = self.u8()?;
        if version == expected { Ok(()) } else { Err(DecodeError::Version(version)) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("flag")),
        }
    }

    /// A number of things to come, each of at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| DecodeError::Short)?;
        if count > self.0.len() { Err(DecodeError::Short) } else { Ok(count) }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.count()?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Invalid("text"))
    }

    pub(crate) fn header_name(&mut self) -> Result<HeaderName, DecodeError> {
        HeaderName::from_lowercase(self.bytes()?).map_err(|_| DecodeError::Invalid("field name"))
    }

    pub(crate) fn header_value(&mut self) -> Result<HeaderValue, DecodeError> {
        HeaderValue::from_bytes(self.bytes()?).map_err(|_| DecodeError::Invalid("field value"))
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}
