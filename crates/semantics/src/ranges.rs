//! Range requests on what is stored (RFC 9110 §14).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{DATE, IF_RANGE, RANGE},
};

use crate::{
    fields::{first, items, trim},
    head::{EntityTag, StoredHead},
    request::RequestView,
    time::parse_http_date,
};

/// The most ranges that one request gets; with more, the whole is sent (RFC 9110 §14.2).
pub const RANGES_MAX: usize = 16;
/// By how much Date must be later than Last-Modified for the latter to be a strong validator (RFC 9110 §8.8.2.2).
pub(crate) const STRONG_AFTER_MS: u64 = 60_000;

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

impl RangeAnswer {
    /// The word for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::One(_) => "one-range",
            Self::Many(_) => "many-ranges",
            Self::Unsatisfiable => "unsatisfiable-range",
        }
    }
}

impl ByteRange {
    /// How many bytes; at least 1.
    pub fn length(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Whether the two overlap or touch, so that one range says both.
    fn joins(self, other: Self) -> bool {
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }
}

/// Evaluates Range and If-Range against a complete stored body of `length` bytes. Evaluate preconditions first
/// ([`crate::validate::evaluate`]): Range counts only for what would be a 200 (RFC 9110 §13.2.2). Does not allocate but for
/// several ranges.
pub fn evaluate(request: RequestView<'_>, stored: &StoredHead, length: u64) -> RangeAnswer {
    // RFC 9110 §14.2: GET alone; a cache may ignore what it does not like.
    if *request.method != Method::GET || stored.status != StatusCode::OK {
        return RangeAnswer::Whole;
    }
    if !request.headers.contains_key(RANGE) || !if_range(request.headers, stored) {
        return RangeAnswer::Whole;
    }
    resolve(request.headers, length)
}

/// What Range alone comes to for a representation of `length` bytes, whatever If-Range says.
pub fn resolve(headers: &HeaderMap, length: u64) -> RangeAnswer {
    let mut lines = headers.get_all(RANGE).into_iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => answer(line.as_bytes(), length),
        _ => RangeAnswer::Whole,
    }
}

/// Whether If-Range is absent or holds (RFC 9110 §13.1.5): strong comparison, and a date only if it is exactly ours and
/// strong (§8.8.2.2: a minute or more before Date).
fn if_range(headers: &HeaderMap, stored: &StoredHead) -> bool {
    let mut lines = headers.get_all(IF_RANGE).into_iter();
    let (first_line, second_line) = (lines.next(), lines.next());
    let Some(line) = first_line else { return true };
    if second_line.is_some() {
        return false;
    }
    if let Some(tag) = EntityTag::parse(line.as_bytes()) {
        return !tag.weak && stored.etag.as_ref() == Some(&tag);
    }
    let asked = line.to_str().ok().and_then(parse_http_date);
    let date = first(&stored.fields, &DATE).and_then(parse_http_date);
    match (asked, stored.last_modified, date) {
        (Some(asked), Some(modified), Some(date)) => asked == modified && date.ms_since(modified) >= STRONG_AFTER_MS,
        _ => false,
    }
}

fn answer(line: &[u8], length: u64) -> RangeAnswer {
    // RFC 9110 §14.1: unit names are case-insensitive; unknown units are ignored.
    let Some((unit, set)) = line.split_at_checked(6) else { return RangeAnswer::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return RangeAnswer::Whole;
    }
    let mut ranges = Ranges::default();
    let mut asked = 0;
    for spec in items(set) {
        asked += 1;
        // RFC 9110 §14.2, §17.15: one that cannot be read spoils the set, and so do too many.
        let Some(range) = spec_range(spec, length) else { return RangeAnswer::Whole };
        if asked > RANGES_MAX {
            return RangeAnswer::Whole;
        }
        if let Some(range) = range {
            ranges.add(range);
        }
    }
    match ranges {
        Ranges { first: None, .. } if asked == 0 => RangeAnswer::Whole,
        Ranges { first: None, .. } => RangeAnswer::Unsatisfiable,
        Ranges { first: Some(only), more } if more.is_empty() => RangeAnswer::One(only),
        Ranges { first: Some(first), mut more } => {
            more.insert(0, first);
            merged(more)
        }
    }
}

/// The first in place: nearly all requests have one range.
#[derive(Default)]
struct Ranges {
    first: Option<ByteRange>,
    more: Vec<ByteRange>,
}

impl Ranges {
    fn add(&mut self, range: ByteRange) {
        match self.first {
            None => self.first = Some(range),
            Some(_) => self.more.push(range),
        }
    }
}

/// `None`: no range. `Some(None)`: one that lies outside the body (RFC 9110 §14.1.2).
fn spec_range(spec: &[u8], length: u64) -> Option<Option<ByteRange>> {
    let dash = spec.iter().position(|b| *b == b'-')?;
    let (first, last) = (spec.get(..dash)?, spec.get(dash + 1..)?);
    let end = length.checked_sub(1);
    if first.is_empty() {
        // The last so many bytes.
        let count = number(last)?;
        return Some(end.filter(|_| count > 0).map(|end| ByteRange { first: length.saturating_sub(count), last: end }));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if first > last {
        return None;
    }
    Some(end.filter(|end| first <= *end).map(|end| ByteRange { first, last: last.min(end) }))
}

/// Digits; more than fit are as good as infinite.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Joins ranges that overlap or touch (RFC 9110 §14.2); keeps the order asked where there are none such.
fn merged(ranges: Vec<ByteRange>) -> RangeAnswer {
    let apart = |(at, range): (usize, &ByteRange)| !ranges.iter().skip(at + 1).any(|other| range.joins(*other));
    if ranges.iter().enumerate().all(apart) {
        return RangeAnswer::Many(ranges);
    }
    let mut sorted = ranges;
    sorted.sort_unstable_by_key(|range| range.first);
    sorted.dedup_by(|next, kept| {
        let joins = kept.joins(*next);
        if joins {
            kept.last = kept.last.max(next.last);
        }
        joins
    });
    match sorted.as_slice() {
        [only] => RangeAnswer::One(*only),
        _ => RangeAnswer::Many(sorted),
    }
}

/// `bytes first-last/length` of a 206 (RFC 9110 §14.4).
pub fn content_range(range: ByteRange, length: u64) -> HeaderValue {
    value(format!("bytes {}-{}/{length}", range.first, range.last))
}

/// Reads the Content-Range of a 206: which bytes, of how many if that is known. `None` for anything else, contradictions
/// included (RFC 9110 §14.4).
pub fn parse_content_range(value: &HeaderValue) -> Option<(ByteRange, Option<u64>)> {
    let text = trim(value.as_bytes());
    let (unit, rest) = text.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let slash = rest.iter().position(|b| *b == b'/')?;
    let (range, length) = (rest.get(..slash)?, rest.get(slash + 1..)?);
    let dash = range.iter().position(|b| *b == b'-')?;
    let range = ByteRange { first: number(range.get(..dash)?)?, last: number(range.get(dash + 1..)?)? };
    let length = if length == b"*" { None } else { Some(number(length)?) };
    let sound = range.first <= range.last && range.last < length.unwrap_or(u64::MAX);
    sound.then_some((range, length))
}

/// `bytes */length` of a 416 (RFC 9110 §15.5.17).
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    value(format!("bytes */{length}"))
}

/// Of text that is ASCII by construction.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
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
    let boundary = format!("perigee-{seed:016x}");
    let mut total = 0_u64;
    let mut parts = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.iter().enumerate() {
        let mut head = Vec::with_capacity(160);
        if index > 0 {
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(content_type) = content_type {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(
            format!("Content-Range: bytes {}-{}/{length}\r\n\r\n", range.first, range.last).as_bytes(),
        );
        total = total.saturating_add(head.len() as u64).saturating_add(range.length());
        parts.push((Bytes::from(head), *range));
    }
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    Multipart {
        content_type: value(format!("multipart/byteranges; boundary={boundary}")),
        parts,
        length: total.saturating_add(end.len() as u64),
        end,
    }
}

#[cfg(test)]
mod tests;
