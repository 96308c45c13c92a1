//! From a stored head, or one on its way into the store, to the response: preconditions, ranges, fields, bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use perigee_semantics::{
    head::StoredHead,
    headers::{self as fields, Decimal},
    partial::{self, Part},
    policy::Tier,
    ranges::{self, ByteRange, RangeAnswer},
    rules,
    validate::{self, Precondition},
};
use perigee_store::{self as store, Object};

use crate::{
    answer::{Answer, Entry},
    ask::{self, Ask},
    body::{Body, ByteStream},
    engine::Engine,
    flight::{Filling, Reader},
    segments,
};

/// Where the bytes are.
pub(crate) enum Content {
    Stored(Object),
    /// A stored part of something else than what is stored.
    Fragment(Object, Part),
    Flying(Reader, Arc<Filling>),
}

impl Content {
    /// With the head of the whole.
    fn with_head(self) -> (Self, Arc<StoredHead>) {
        match self {
            Self::Stored(object) => match partial::of_fragment(&object.head) {
                Some((head, part)) => (Self::Fragment(object, part), Arc::new(head)),
                None => {
                    let head = Arc::clone(&object.head);
                    (Self::Stored(object), head)
                }
            },
            Self::Fragment(object, part) => {
                let head = Arc::clone(&object.head);
                (Self::Fragment(object, part), head)
            }
            Self::Flying(reader, filling) => {
                let head = Arc::clone(&filling.head);
                (Self::Flying(reader, filling), head)
            }
        }
    }

    /// Of the whole.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Stored(object) => Some(length_of(object)),
            Self::Fragment(_, part) => Some(part.complete),
            Self::Flying(_, filling) => filling.length,
        }
    }

    /// What upstream says of its part, to whoever gets all of it as it comes.
    fn told(&self, range: ByteRange) -> Option<HeaderValue> {
        match self {
            Self::Flying(_, filling) => {
                filling.part.as_ref().filter(|part| part.range == range).and_then(|part| part.told.clone())
            }
            Self::Stored(_) | Self::Fragment(..) => None,
        }
    }

    /// What there is, where that is not the whole and no more can be had.
    fn confines(&self) -> Option<ByteRange> {
        match self {
            Self::Stored(_) => None,
            Self::Fragment(_, part) => Some(part.range),
            Self::Flying(_, filling) => filling.part.as_ref().filter(|part| part.fragment).map(|part| part.range),
        }
    }
}

pub(crate) fn length_of(object: &Object) -> u64 {
    match &object.body {
        store::Body::Inline(bytes) => bytes.len() as u64,
        store::Body::Segments { len } => *len,
    }
}

/// What is said about a response beside its head.
pub(crate) struct Said<'a> {
    pub(crate) cache: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) entry: Entry<'a>,
    /// What was fetched for this request and has fields for it alone.
    pub(crate) own: Option<Arc<Filling>>,
    /// Cache-Status of the tiers below.
    pub(crate) below: Option<HeaderValue>,
}

/// Answers with a stored object or one that is being stored.
pub(crate) fn serve(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content, said: Said<'_>) -> Answer {
    let (content, head) = content.with_head();
    let now =
        if matches!(content, Content::Flying(..)) { engine.now() } else { ask.now.max(head.freshness.response_time) };
    let age_ms = head.freshness.age_ms(now);
    let mut response = represent(engine, ask, content, &head);
    let status = response.status();
    let headers = response.headers_mut();
    if let Some(filling) = &said.own
        && (status == head.status || status == StatusCode::PARTIAL_CONTENT)
    {
        // RFC 9111 §5.2.2.7: they are for the one user who asked.
        headers.extend(filling.own.clone());
    }
    if let Some(below) = said.below {
        headers.append(CACHE_STATUS, below);
    }
    // RFC 9111 §5.1: seconds, rounded down; a peer gets the milliseconds beside it.
    headers.insert(header::AGE, Decimal::of(age_ms / 1000).to_value());
    said.entry.append_to(headers, ask);
    ask::vouch(engine, ask, age_ms, headers);
    towards_downstream(engine, ask, head.status, headers);
    Answer::new(response, said.cache, said.reason)
}

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What holds for every response: Via, and towards clients the site's rules; caches' own fields end at the edge.
/// `status` is what upstream gave, which a 206 or 304 of ours may have been made of.
pub(crate) fn towards_downstream(engine: &Engine, ask: &Ask, status: StatusCode, headers: &mut HeaderMap) {
    if let Some(via) = &engine.via {
        headers.append(header::VIA, via.clone());
    }
    if engine.config.tier == Tier::Shield || ask.peer_proof.is_some() {
        return;
    }
    fields::strip_for_client(headers, &ask.site.model.cache);
    if let Some(changes) = ask.header_rules(status) {
        rules::apply(changes, headers);
    }
}

fn represent(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content, head: &StoredHead) -> Response<Body> {
    let view = ask.view();
    // RFC 9110 §13.2.1: conditions count only where the answer without them would be a success.
    if head.status.is_success() {
        match validate::evaluate(view, head) {
            Precondition::Proceed => {}
            Precondition::NotModified => {
                let fields = match ask.peer_proof {
                    Some(_) => validate::not_modified_fields_for_peer(head),
                    None => validate::not_modified_fields(head),
                };
                return with(StatusCode::NOT_MODIFIED, fields, Body::empty());
            }
            Precondition::Failed => {
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
                return with(StatusCode::PRECONDITION_FAILED, headers, Body::empty());
            }
        }
    }
    let length = content.length();
    let mut headers = head.fields.clone();
    // RFC 9110 §14.2: Range is defined for GET, and here answered for 200 alone.
    let wanted = match length {
        Some(length) if head.status == StatusCode::OK && ask.method == Method::GET => {
            ranges::evaluate(view, head, length)
        }
        _ => RangeAnswer::Whole,
    };
    let wanted = match content.confines() {
        Some(range) => confined(wanted, range),
        None => wanted,
    };
    match (wanted, length) {
        (RangeAnswer::Unsatisfiable, Some(length)) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, ranges::unsatisfied_range(length));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            with(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty())
        }
        (RangeAnswer::One(range), Some(length)) => {
            let told = content.told(range).unwrap_or_else(|| ranges::content_range(range, length));
            headers.insert(header::CONTENT_RANGE, told);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.last - range.first + 1));
            with(StatusCode::PARTIAL_CONTENT, headers, part(engine, ask, content, range))
        }
        (RangeAnswer::Many(list), Some(length)) if matches!(content, Content::Stored(_)) => {
            multipart(engine, ask, content, headers, &list, length)
        }
        _ => {
            match length {
                // RFC 9110 §8.6: not in a 204.
                Some(length) if head.status != StatusCode::NO_CONTENT => say_length(&mut headers, length),
                _ => drop(headers.remove(header::CONTENT_LENGTH)),
            }
            let body = if ask.method == Method::HEAD { Body::empty() } else { whole(engine, ask, content) };
            with(head.status, headers, body)
        }
    }
}

/// Content-Length, which nearly always is in the head as it is.
fn say_length(headers: &mut HeaderMap, length: u64) {
    let said = Decimal::of(length);
    let mut told = headers.get_all(header::CONTENT_LENGTH).iter();
    if told.next().is_some_and(|told| told.as_bytes() == said.as_str().as_bytes()) && told.next().is_none() {
        return;
    }
    headers.insert(header::CONTENT_LENGTH, said.to_value());
}

/// RFC 9110 §15.3.7: a 206 may bring less than was asked, and says what it brings.
fn confined(wanted: RangeAnswer, there: ByteRange) -> RangeAnswer {
    match wanted {
        RangeAnswer::One(range) if there.first <= range.first && range.last <= there.last => RangeAnswer::One(range),
        RangeAnswer::Unsatisfiable => RangeAnswer::Unsatisfiable,
        RangeAnswer::One(_) | RangeAnswer::Many(_) | RangeAnswer::Whole => RangeAnswer::One(there),
    }
}

fn with(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn whole(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content) -> Body {
    match content {
        Content::Stored(Object { body: store::Body::Inline(bytes), .. }) => Body::whole(bytes),
        Content::Stored(object) => {
            let length = length_of(&object);
            Body::stream(segments::stored(engine, ask, object, 0..length), Some(length))
        }
        Content::Flying(reader, filling) => {
            let range = 0..filling.length.unwrap_or(u64::MAX);
            Body::stream(segments::flying(engine, ask, reader, &filling, range), filling.length)
        }
        // It is confined to a range.
        Content::Fragment(object, part) => {
            let range = ByteRange { first: 0, last: part.range.length().saturating_sub(1) };
            Body::stream(bytes_of(engine, ask, &object, range), Some(part.range.length()))
        }
    }
}

fn part(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content, range: ByteRange) -> Body {
    let length = Some(range.last - range.first + 1);
    match content {
        Content::Stored(object) => Body::stream(bytes_of(engine, ask, &object, range), length),
        Content::Fragment(object, part) => {
            let at = |offset: u64| offset.saturating_sub(part.range.first);
            let range = ByteRange { first: at(range.first), last: at(range.last) };
            Body::stream(bytes_of(engine, ask, &object, range), length)
        }
        Content::Flying(reader, filling) => {
            let range = range.first..range.last.saturating_add(1);
            Body::stream(segments::flying(engine, ask, reader, &filling, range), length)
        }
    }
}

fn bytes_of(engine: &Arc<Engine>, ask: &Arc<Ask>, object: &Object, range: ByteRange) -> ByteStream {
    match &object.body {
        store::Body::Inline(bytes) => {
            let from = usize::try_from(range.first).unwrap_or(usize::MAX).min(bytes.len());
            let until = usize::try_from(range.last + 1).unwrap_or(usize::MAX).min(bytes.len());
            let piece = bytes.slice(from..until.max(from));
            Box::pin(stream::once(std::future::ready(Ok(piece))))
        }
        store::Body::Segments { .. } => segments::stored(engine, ask, object.clone(), range.first..range.last + 1),
    }
}

/// RFC 9110 §14.6: several parts, each with its own Content-Range.
fn multipart(
    engine: &Arc<Engine>,
    ask: &Arc<Ask>,
    content: Content,
    mut headers: HeaderMap,
    list: &[ByteRange],
    length: u64,
) -> Response<Body> {
    let Content::Stored(object) = content else {
        return with(StatusCode::OK, headers, whole(engine, ask, content));
    };
    let boundary_seed = ask.key_hash ^ ask.now.as_millis();
    let multipart = ranges::multipart(list, headers.get(header::CONTENT_TYPE), length, boundary_seed);
    headers.insert(header::CONTENT_TYPE, multipart.content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(multipart.length));
    let once = |bytes: Bytes| -> ByteStream { Box::pin(stream::once(std::future::ready(Ok(bytes)))) };
    let mut pieces: Vec<ByteStream> = Vec::with_capacity(list.len() * 2 + 1);
    for (part_head, range) in multipart.parts {
        pieces.push(once(part_head));
        pieces.push(bytes_of(engine, ask, &object, range));
    }
    pieces.push(once(multipart.end));
    let body = Body::stream(Box::pin(stream::iter(pieces).flatten()), Some(multipart.length));
    with(StatusCode::PARTIAL_CONTENT, headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_once_and_as_it_is() {
        for told in [&["1024"][..], &[], &["01024"], &["1024", "1024"], &["1024, 1024"], &["1023"], &["102"]] {
            let mut headers = HeaderMap::new();
            for told in told {
                headers.append(header::CONTENT_LENGTH, HeaderValue::from_static(told));
            }
            say_length(&mut headers, 1024);
            assert_eq!(headers.get_all(header::CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["1024"], "{told:?}");
        }
    }
}
