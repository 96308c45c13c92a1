//! Partial content: what to ask upstream for on behalf of a range, what a 206 brings, and what may be put together
//! (RFC 9110 §14, §15.3.7; RFC 9111 §3.3, §3.4).
//!
//! A part that lies on segment boundaries and has a strong validator becomes a piece of the whole, which completes over time.
//! Any other part is a *fragment*: it is stored as the 206 that it is, answers ranges within it, and is never put together
//! with anything unless a strong validator says that both are of one representation.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, RANGE},
};

use crate::{
    fields::{first, items},
    head::{EntityTag, StoredHead},
    policy::Policy,
    ranges::{ByteRange, RANGES_MAX, STRONG_AFTER_MS, content_range, number, parse_content_range},
    request::RequestView,
    storable::{self, Admission, Times},
    time::parse_http_date,
};

/// How far into a body the ranges of one request may begin for the whole to be fetched on their behalf, in bytes, and how
/// much of a body is passed over to get to a range. Beyond, the client would wait for bytes that it did not ask for.
pub const RANGE_START_MAX: u64 = 4 << 20;

/// What a cold URL is asked for on behalf of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// The whole.
    Whole,
    /// What the client wrote: what comes is for this client alone.
    AsAsked,
    /// A part that can be stored.
    Part(Asked),
}

/// The one range that upstream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// From `first` to `last`, or to the end.
    Run {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: Option<u64>,
    },
    /// The last so many bytes; just as the client asked, since nobody knows yet where they begin.
    Suffix(u64),
}

impl Asked {
    /// The Range field (RFC 9110 §14.1.1).
    pub fn value(self) -> HeaderValue {
        let text = match self {
            Self::Run { first, last: Some(last) } => format!("bytes={first}-{last}"),
            Self::Run { first, last: None } => format!("bytes={first}-"),
            Self::Suffix(count) => format!("bytes=-{count}"),
        };
        // Digits and ASCII by construction.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes=0-"))
    }
}

/// What to ask a cold URL for on behalf of a GET with these fields. One range is widened to whole segments of `segment`
/// bytes, so that what comes can be stored as such: at most two segments more than was asked.
pub fn asking(headers: &HeaderMap, segment: u64) -> Asking {
    let mut lines = headers.get_all(RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Asking::Whole };
    let Some((unit, set)) = line.as_bytes().split_at_checked(6) else { return Asking::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Asking::Whole;
    }
    let Some(specs) = items(set).take(RANGES_MAX + 1).map(spec).collect::<Option<Vec<_>>>() else {
        return Asking::Whole;
    };
    match specs.as_slice() {
        [Asked::Suffix(0)] => Asking::Whole,
        [suffix @ Asked::Suffix(_)] => Asking::Part(*suffix),
        [Asked::Run { first, last }] => widened(*first, *last, segment),
        many => several(many),
    }
}

fn spec(spec: &[u8]) -> Option<Asked> {
    let dash = spec.iter().position(|b| *b == b'-')?;
    let (first, last) = (spec.get(..dash)?, spec.get(dash + 1..)?);
    if first.is_empty() {
        return number(last).map(Asked::Suffix);
    }
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?).filter(|last| *last < u64::MAX) };
    last.is_none_or(|last| first <= last).then_some(Asked::Run { first, last })
}

fn widened(first: u64, last: Option<u64>, segment: u64) -> Asking {
    let segment = segment.max(1);
    let first = first - first % segment;
    let last = last.and_then(|last| (last - last % segment).checked_add(segment - 1));
    match (first, last) {
        (0, None) => Asking::Whole,
        _ => Asking::Part(Asked::Run { first, last }),
    }
}

/// RFC 9110 §14.2, §17.15: what is many and overlapping is not handed to an origin, which might send each byte as often as
/// it is named.
fn several(specs: &[Asked]) -> Asking {
    let early = |spec: &Asked| matches!(spec, Asked::Run { first, .. } if *first <= RANGE_START_MAX);
    let mut after = 0;
    let apart = specs.iter().all(|spec| match spec {
        Asked::Run { first, last: Some(last) } if *first >= after => {
            after = last.saturating_add(1);
            true
        }
        _ => false,
    });
    if specs.len() > RANGES_MAX || !apart || specs.iter().all(early) { Asking::Whole } else { Asking::AsAsked }
}

/// What a 206 brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which bytes of the representation.
    pub range: ByteRange,
    /// The representation's length in bytes.
    pub complete: u64,
    /// Content-Range told it. Otherwise it was put right, and nothing else that the response says of its bytes is believed.
    pub as_told: bool,
}

impl Part {
    /// Whether it is the whole representation.
    pub fn is_whole(self) -> bool {
        self.range.first == 0 && self.range.length() == self.complete
    }
}

/// A 206 that contradicts itself, or does not say what it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

impl Contradiction {
    /// The word for logs, metrics and Cache-Status.
    pub fn as_str(self) -> &'static str {
        "contradictory-range"
    }
}

/// Reads a 206 to `asked`. `length` is that of its content in bytes, where known before it has come.
///
/// RFC 9110 §14.4, §15.3.7: a single part says which one it is, with the complete length; a part of a body whose length nobody
/// knows cannot be told from a part of another one.
pub fn read(asked: Asked, response: &HeaderMap, length: Option<u64>) -> Result<Part, Contradiction> {
    let mut lines = response.get_all(CONTENT_RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(Contradiction) };
    let Some((range, Some(complete))) = parse_content_range(line) else { return Err(Contradiction) };
    // As good as infinite: no length.
    if complete == u64::MAX {
        return Err(Contradiction);
    }
    match length {
        None => Ok(Part { range, complete, as_told: true }),
        Some(length) if length == range.length() => Ok(Part { range, complete, as_told: true }),
        // The last so many bytes were asked for, just so many came, and they reach the end, it says: then that is what they
        // are, though its own count of them is off. Nowhere else is a contradiction guessed at.
        Some(length) if asked == Asked::Suffix(length) && range.last.checked_add(1) == Some(complete) && length > 0 => {
            let complete = range.first.checked_add(length).ok_or(Contradiction)?;
            Ok(Part { range: ByteRange { first: range.first, last: complete - 1 }, complete, as_told: false })
        }
        Some(_) => Err(Contradiction),
    }
}

/// Decides about a 206 as about the 200 that it is part of (RFC 9111 §3.3): the stored head is that of the whole, with its
/// length. Arguments as for [`storable::admit`].
pub fn admit(
    request: RequestView<'_>,
    response: &HeaderMap,
    part: Part,
    policy: &Policy<'_>,
    times: Times,
    trusted_age_ms: Option<u64>,
) -> Admission {
    let mut fields = response.clone();
    fields.remove(CONTENT_RANGE);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(part.complete));
    // It has just served one (RFC 9110 §14.3).
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if !part.as_told {
        fields.remove(ETAG);
        fields.remove(LAST_MODIFIED);
    }
    storable::admit(request, StatusCode::OK, &fields, policy, times, trusted_age_ms)
}

/// The validator under which more of the same representation can be had (RFC 9110 §13.1.5): a strong entity tag, or, where
/// there is no tag at all, a date that is a strong validator (§8.8.2.2).
pub fn strong_validator(stored: &StoredHead) -> Option<&HeaderValue> {
    if stored.fields.contains_key(ETAG) {
        return stored.etag.as_ref().filter(|tag| !tag.weak).and_then(|_| stored.fields.get(ETAG));
    }
    let modified = stored.last_modified?;
    let date = first(&stored.fields, &DATE).and_then(parse_http_date)?;
    if date > modified && date.ms_since(modified) >= STRONG_AFTER_MS { stored.fields.get(LAST_MODIFIED) } else { None }
}

/// Whether a response is of the stored representation: both have the same strong validator (RFC 9111 §3.4, RFC 9110
/// §15.3.7.3). Without one, nothing is ever put together.
pub fn is_same(stored: &StoredHead, response: &HeaderMap) -> bool {
    let Some(validator) = strong_validator(stored) else { return false };
    match (response.get(ETAG), &stored.etag) {
        (Some(new), Some(old)) => EntityTag::parse(new.as_bytes()).is_some_and(|new| !new.weak && new == *old),
        (None, None) => first(response, &LAST_MODIFIED).is_some_and(|new| new.as_bytes() == validator.as_bytes()),
        _ => false,
    }
}

/// The head under which a part is stored by itself: the 206 that it is.
pub fn fragment(whole: &StoredHead, part: Part) -> StoredHead {
    let mut head = whole.clone();
    head.status = StatusCode::PARTIAL_CONTENT;
    head.fields.insert(CONTENT_RANGE, content_range(part.range, part.complete));
    head.fields.insert(CONTENT_LENGTH, HeaderValue::from(part.range.length()));
    head
}

/// What a stored fragment is part of: the head of the whole, and which part. `None` for what is no fragment.
pub fn of_fragment(stored: &StoredHead) -> Option<(StoredHead, Part)> {
    if stored.status != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let (range, complete) = parse_content_range(stored.fields.get(CONTENT_RANGE)?)?;
    let part = Part { range, complete: complete?, as_told: true };
    let mut head = stored.clone();
    head.status = StatusCode::OK;
    head.fields.remove(CONTENT_RANGE);
    head.fields.insert(CONTENT_LENGTH, HeaderValue::from(part.complete));
    Some((head, part))
}

#[cfg(test)]
mod tests;
