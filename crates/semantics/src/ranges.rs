//! Range requests on what is stored (RFC 9110 §14).

use bytes::Bytes;
use http::HeaderValue;

use crate::{head::StoredHead, request::RequestView};

/// The most ranges that one request gets; with more, the whole is sent (RFC 9110 §14.2).
pub const RANGES_MAX: usize = 16;

/// Bytes `first..=last` of a body; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
}

/// What a request's Range comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// 200.
    Whole,
    /// 206.
    One(ByteRange),
    /// 206 with multipart/byteranges; at least two, in the order asked, none overlapping.
    Many(Vec<ByteRange>),
    /// 416.
    Unsatisfiable,
}

/// Evaluates Range and If-Range against a complete stored body of `length` bytes.
pub fn evaluate(request: RequestView<'_>, stored: &StoredHead, length: u64) -> RangeAnswer {
    let _ = (request, stored, length);
    RangeAnswer::Whole
}

/// `bytes first-last/length` of a 206.
pub fn content_range(range: ByteRange, length: u64) -> HeaderValue {
    let _ = (range, length);
    HeaderValue::from_static("")
}

/// `bytes */length` of a 416.
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    let _ = length;
    HeaderValue::from_static("")
}

/// A multipart/byteranges body (RFC 9110 §14.6): part head, part bytes, part head … and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// `multipart/byteranges; boundary=…`
    pub content_type: HeaderValue,
    /// What goes before each range's bytes, in order.
    pub parts: Vec<(Bytes, ByteRange)>,
    /// What goes after the last.
    pub end: Bytes,
    /// Of everything, in bytes.
    pub length: u64,
}

/// Lays out a multipart body. `seed` makes the boundary: anything that the body's author cannot guess.
pub fn multipart(ranges: &[ByteRange], content_type: Option<&HeaderValue>, length: u64, seed: u64) -> Multipart {
    let _ = (ranges, content_type, length, seed);
    Multipart { content_type: HeaderValue::from_static(""), parts: Vec::new(), end: Bytes::new(), length: 0 }
}
