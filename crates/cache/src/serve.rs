//! From a stored head, or one on its way into the store, to the response: preconditions, ranges, fields, bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use perigee_semantics::{
    head::StoredHead,
    headers as fields,
    policy::Tier,
    ranges::{self, ByteRange, RangeAnswer},
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
    Flying(Reader, Arc<Filling>),
}

impl Content {
    fn head(&self) -> Arc<StoredHead> {
        match self {
            Self::Stored(object) => Arc::clone(&object.head),
            Self::Flying(_, filling) => Arc::clone(&filling.head),
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Stored(object) => Some(length_of(object)),
            Self::Flying(_, filling) => filling.length,
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
    /// Cache-Status of the tiers below.
    pub(crate) below: Option<HeaderValue>,
}

/// Answers with a stored object or one that is being stored.
pub(crate) fn serve(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content, said: Said<'_>) -> Answer {
    let head = content.head();
    let now =
        if matches!(content, Content::Stored(_)) { ask.now.max(head.freshness.response_time) } else { engine.now() };
    let age_ms = head.freshness.age_ms(now);
    let mut response = represent(engine, ask, content, &head);
    let headers = response.headers_mut();
    if let Some(below) = said.below {
        headers.append(CACHE_STATUS, below);
    }
    // RFC 9111 §5.1: seconds, rounded down; a peer gets the milliseconds beside it.
    headers.insert(header::AGE, HeaderValue::from(age_ms / 1000));
    said.entry.append_to(headers);
    ask::vouch(engine, ask, age_ms, headers);
    towards_downstream(engine, ask, headers);
    Answer::new(response, said.cache, said.reason)
}

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What holds for every response: Via, and towards clients the site's rules; caches' own fields end at the edge.
pub(crate) fn towards_downstream(engine: &Engine, ask: &Ask, headers: &mut HeaderMap) {
    fields::append_via(headers, http::Version::HTTP_11, &engine.config.name);
    if engine.config.tier == Tier::Shield || ask.peer_proof.is_some() {
        return;
    }
    fields::strip_for_client(headers, &ask.site.model.cache);
    if let Some(rules) = ask.header_rules() {
        for name in &rules.remove {
            headers.remove(name);
        }
        for (name, value) in &rules.set {
            headers.insert(name, value.clone());
        }
    }
}

fn represent(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content, head: &StoredHead) -> Response<Body> {
    let view = ask.view();
    // RFC 9110 §13.2.1: conditions count only where the answer without them would be a success.
    if head.status.is_success() {
        match validate::evaluate(view, head) {
            Precondition::Proceed => {}
            Precondition::NotModified => {
                return with(StatusCode::NOT_MODIFIED, validate::not_modified_fields(head), Body::empty());
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
    match (wanted, length) {
        (RangeAnswer::Unsatisfiable, Some(length)) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, ranges::unsatisfied_range(length));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            with(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty())
        }
        (RangeAnswer::One(range), Some(length)) => {
            headers.insert(header::CONTENT_RANGE, ranges::content_range(range, length));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.last - range.first + 1));
            with(StatusCode::PARTIAL_CONTENT, headers, part(engine, ask, content, range))
        }
        (RangeAnswer::Many(list), Some(length)) if matches!(content, Content::Stored(_)) => {
            multipart(engine, ask, content, headers, &list, length)
        }
        _ => {
            match length {
                // RFC 9110 §8.6: not in a 204.
                Some(length) if head.status != StatusCode::NO_CONTENT => {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))
                }
                _ => headers.remove(header::CONTENT_LENGTH),
            };
            let body = if ask.method == Method::HEAD { Body::empty() } else { whole(engine, ask, content) };
            with(head.status, headers, body)
        }
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
            let length = filling.length;
            Body::stream(segments::flying(engine, ask, reader, filling), length)
        }
    }
}

fn part(engine: &Arc<Engine>, ask: &Arc<Ask>, content: Content, range: ByteRange) -> Body {
    let length = Some(range.last - range.first + 1);
    match content {
        Content::Stored(object) => Body::stream(bytes_of(engine, ask, &object, range), length),
        Content::Flying(mut reader, filling) => {
            reader.seek(range.first, range.last + 1);
            Body::stream(segments::flying(engine, ask, reader, filling), length)
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
