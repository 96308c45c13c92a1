//! Bodies in segments: out of the store, out of a flight, and fetched again where the store has lost one.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use perigee_semantics::head::StoredHead;
use perigee_store::{Body as StoredBody, Entry as StoreEntry, Object, SEGMENT_BYTES};

use crate::{
    ask::Ask,
    body::{BodyError, ByteStream},
    engine::Engine,
    flight::{Filling, Piece, Reader},
};

const SEGMENT: u64 = SEGMENT_BYTES as u64;

/// The segments that hold bytes `first..=last`.
pub(crate) fn of(first: u64, last: u64) -> Range<u32> {
    let index = |offset: u64| u32::try_from(offset / SEGMENT).unwrap_or(u32::MAX);
    index(first)..index(last).saturating_add(1)
}

/// Whether a lost segment can probably be fetched again: only a strong validator tells that it is still of the same
/// representation (RFC 9110 §13.1.5, §8.8.1), and only some origins serve ranges (§14.3).
pub(crate) fn can_be_mended(head: &StoredHead) -> bool {
    let serves_ranges = head.fields.get(header::ACCEPT_RANGES).is_some_and(|unit| unit.as_bytes() == b"bytes");
    serves_ranges && head.etag.as_ref().is_some_and(|tag| !tag.weak)
}

struct Source {
    engine: Arc<Engine>,
    ask: Arc<Ask>,
    object: Object,
}

/// Bytes `range` of a stored object of segments; the range lies within it.
pub(crate) fn stored(engine: &Arc<Engine>, ask: &Arc<Ask>, object: Object, range: Range<u64>) -> ByteStream {
    let source = Arc::new(Source { engine: Arc::clone(engine), ask: Arc::clone(ask), object });
    Box::pin(stream::try_unfold(range.start, move |position| {
        let source = Arc::clone(&source);
        async move {
            if position >= range.end {
                return Ok(None);
            }
            let piece = source.piece(position, range.end).await?;
            let next = position + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    }))
}

/// What the reader reads: from the flight's window, or behind it from the store.
pub(crate) fn flying(engine: &Arc<Engine>, ask: &Arc<Ask>, reader: Reader, filling: Arc<Filling>) -> ByteStream {
    let object = Object {
        head: Arc::clone(&filling.head),
        fill: filling.fill,
        body: StoredBody::Segments { len: filling.length.unwrap_or(u64::MAX) },
    };
    let source = Arc::new(Source { engine: Arc::clone(engine), ask: Arc::clone(ask), object });
    Box::pin(stream::try_unfold(reader, move |mut reader| {
        let source = Arc::clone(&source);
        async move {
            match reader.next().await {
                Piece::Chunk(bytes) => Ok(Some((bytes, reader))),
                Piece::End => Ok(None),
                Piece::Cut => Err(BodyError("upstream-cut")),
                Piece::Behind { position, window } => {
                    let piece = source.piece(position, window).await?;
                    reader.advance(position + piece.len() as u64);
                    Ok(Some((piece, reader)))
                }
            }
        }
    }))
}

impl Source {
    /// Bytes from `position` to the end of their segment, and below `until`.
    async fn piece(&self, position: u64, until: u64) -> Result<Bytes, BodyError> {
        let index = position / SEGMENT;
        let start = index * SEGMENT;
        let number = u32::try_from(index).map_err(|_| BodyError("segment-number"))?;
        let segment = match self.engine.store.segment(&self.object, number).await {
            Some((segment, _)) => segment,
            None => self.refetch(start).await?,
        };
        let from = (position - start) as usize;
        let to = segment.len().min((until - start).min(SEGMENT) as usize);
        if from >= to {
            return Err(BodyError("segment-short"));
        }
        Ok(segment.slice(from..to))
    }

    /// Forgets the object: what it lost cannot be had again, and as long as its head stands, every response made of it would
    /// be cut at the same place.
    async fn forget(&self) {
        for key in [self.ask.key.clone(), self.ask.key.variant(self.object.fill.as_u64())] {
            let entry = self.engine.store.get(&key).await;
            if matches!(entry, Some((StoreEntry::Object(object), _)) if object.fill == self.object.fill) {
                self.engine.store.remove(&key);
            }
        }
    }

    /// The segment at `start` again from upstream, provided that it is still of the same representation: only a strong
    /// validator can say so (RFC 9110 §13.1.5, §8.8.1).
    async fn refetch(&self, start: u64) -> Result<Bytes, BodyError> {
        let StoredBody::Segments { len } = self.object.body else {
            return Err(BodyError("segment-lost"));
        };
        let head: &StoredHead = &self.object.head;
        let strong = head.etag.as_ref().filter(|tag| !tag.weak);
        let (Some(_), Some(etag), true) = (strong, head.fields.get(header::ETAG), len != u64::MAX) else {
            self.forget().await;
            return Err(BodyError("segment-lost"));
        };
        let last = (start + SEGMENT).min(len).saturating_sub(1);
        let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-{last}")) else {
            return Err(BodyError("segment-lost"));
        };
        let request =
            self.ask.fetch_whole(&self.engine, vec![(header::RANGE, range), (header::IF_RANGE, etag.clone())]);
        self.engine.metrics.refetched();
        let response = self.ask.site.upstream.fetch(request).await.map_err(|error| BodyError(error.as_str()))?;
        let expected = format!("bytes {start}-{last}/{len}");
        let same = response.status == StatusCode::PARTIAL_CONTENT
            && response.headers.get(header::ETAG) == Some(etag)
            && response.headers.get(header::CONTENT_RANGE).is_some_and(|value| value.as_bytes() == expected.as_bytes());
        if !same {
            // A server that fails now may bring the segment later.
            if !response.status.is_server_error() {
                self.forget().await;
            }
            return Err(BodyError("segment-changed"));
        }
        let wanted = (last - start + 1) as usize;
        let mut segment = BytesMut::with_capacity(wanted);
        let mut body = response.body;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyError(error.as_str()))?;
            if let Ok(data) = frame.into_data() {
                if segment.len() + data.len() > wanted {
                    return Err(BodyError("segment-long"));
                }
                segment.extend_from_slice(&data);
            }
        }
        if segment.len() != wanted {
            return Err(BodyError("segment-short"));
        }
        let segment = segment.freeze();
        if let Ok(number) = u32::try_from(start / SEGMENT) {
            self.engine.store.put_segment(self.object.fill, number, segment.clone()).await;
        }
        Ok(segment)
    }
}
