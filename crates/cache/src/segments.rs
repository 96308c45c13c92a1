//! Bodies in segments: out of the store, out of a flight, and from upstream where the store has a gap.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use perigee_semantics::{head::StoredHead, partial, ranges::ByteRange};
use perigee_store::{Body as StoredBody, Entry as StoreEntry, Object, SEGMENT_BYTES};

use crate::{
    ask::Ask,
    body::{BodyError, ByteStream},
    engine::Engine,
    flight::{Filling, Piece, Reader},
};

pub(crate) const SEGMENT: u64 = SEGMENT_BYTES as u64;
/// How often a response goes on behind a fetch that brought less than it promised, without having got a segment further.
const RESUMES_MAX: u32 = 3;

/// The stretch of a body that a flight carries, where that is not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Which bytes of the whole.
    pub(crate) range: ByteRange,
    /// It is stored by itself, its first byte as the store's first; else at its place in the whole.
    pub(crate) fragment: bool,
    /// What upstream said of it, where that is off: whoever caused the fetch gets it as it came.
    pub(crate) told: Option<HeaderValue>,
}

/// The segments that hold bytes `first..=last`.
pub(crate) fn of(first: u64, last: u64) -> Range<u32> {
    let index = |offset: u64| u32::try_from(offset / SEGMENT).unwrap_or(u32::MAX);
    index(first)..index(last).saturating_add(1)
}

/// Whether what is missing can probably be fetched: only a strong validator tells that it is still of the same
/// representation (RFC 9110 §13.1.5, §8.8.1), and only some origins serve ranges (§14.3).
pub(crate) fn can_be_mended(head: &StoredHead) -> bool {
    let serves_ranges = head.fields.get(header::ACCEPT_RANGES).is_some_and(|unit| unit.as_bytes() == b"bytes");
    serves_ranges && partial::strong_validator(head).is_some()
}

/// The gap at `position`, which the store does not have: whole segments as far as they are missing too, and not beyond the
/// one that `end` lies in. `None` in a body whose length is not known.
pub(crate) fn gap(engine: &Engine, object: &Object, position: u64, end: u64) -> Option<ByteRange> {
    let StoredBody::Segments { len } = object.body else { return None };
    if len == StoredBody::LEN_UNKNOWN || position >= len {
        return None;
    }
    let wanted = of(position, end.min(len).saturating_sub(1).max(position));
    let mut after = wanted.start.saturating_add(1);
    while after < wanted.end && !engine.store.holds(object.fill, after..after + 1) {
        after += 1;
    }
    let last = u64::from(after).saturating_mul(SEGMENT).min(len).saturating_sub(1);
    Some(ByteRange { first: u64::from(wanted.start) * SEGMENT, last })
}

/// Bytes `range` of a stored object of segments; the range lies within it.
pub(crate) fn stored(engine: &Arc<Engine>, ask: &Arc<Ask>, object: Object, range: Range<u64>) -> ByteStream {
    let mends = can_be_mended(&object.head);
    let source = Source { engine: Arc::clone(engine), ask: Arc::clone(ask), object, base: 0, mends };
    Walk { source, position: range.start, end: range.end, flight: None, resumes: (0, 0), since: None, alone: false }
        .stream()
}

/// What the reader reads: from the flight's window, or behind it from the store. `range` counts in the whole body.
pub(crate) fn flying(
    engine: &Arc<Engine>,
    ask: &Arc<Ask>,
    mut reader: Reader,
    filling: &Filling,
    range: Range<u64>,
) -> ByteStream {
    let start = filling.part.as_ref().map_or(0, |part| part.range.first);
    let fragment = filling.part.as_ref().filter(|part| part.fragment).map(|part| part.range);
    let length = fragment.map(ByteRange::length).or(filling.length);
    let object = Object {
        head: Arc::clone(&filling.head),
        fill: filling.fill,
        fence: filling.fence,
        body: StoredBody::Segments { len: length.unwrap_or(StoredBody::LEN_UNKNOWN) },
    };
    let from = range.start.saturating_sub(start);
    if from > 0 || range.end != u64::MAX {
        reader.seek(from, range.end.saturating_sub(start));
    }
    let flight = Carrier { reader, start, alone: filling.part.is_none() || fragment.is_some() };
    let mends = fragment.is_none() && can_be_mended(&object.head);
    let base = fragment.map_or(0, |range| range.first);
    let source = Source { engine: Arc::clone(engine), ask: Arc::clone(ask), object, base, mends };
    Walk {
        source,
        position: range.start,
        end: range.end,
        flight: Some(flight),
        resumes: (0, 0),
        since: None,
        alone: false,
    }
    .stream()
}

/// A flight that is being read.
pub(crate) struct Carrier {
    pub(crate) reader: Reader,
    /// Where in the body its first byte lies.
    pub(crate) start: u64,
    /// It brings all that there is: when it is cut, the body is.
    pub(crate) alone: bool,
}

/// A response's way through a body.
struct Walk {
    source: Source,
    position: u64,
    end: u64,
    flight: Option<Carrier>,
    /// How often it has gone on, and where it was then.
    resumes: (u32, u64),
    /// Where the present flight was joined.
    since: Option<u64>,
    /// It fell behind a flight that it shared: whatever it still needs, it fetches at its own pace.
    alone: bool,
}

impl Walk {
    fn stream(self) -> ByteStream {
        Box::pin(stream::try_unfold(self, Self::next))
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        loop {
            if self.position >= self.end {
                return Ok(None);
            }
            let Some(flight) = &mut self.flight else {
                if let Some(piece) = self.source.kept(self.position, self.end).await? {
                    self.position += piece.len() as u64;
                    return Ok(Some((piece, self)));
                }
                self.since = Some(self.position);
                self.flight = Some(self.source.fetch_gap(self.position, self.end, self.alone).await?);
                continue;
            };
            match flight.reader.next().await {
                Piece::Chunk(bytes) => {
                    self.position += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                Piece::End if flight.alone => return Ok(None),
                Piece::Cut if flight.alone => return Err(BodyError("upstream-cut")),
                Piece::Behind { position, window } => {
                    let (at, until) = (flight.start + position, flight.start.saturating_add(window));
                    if let Some(piece) = self.source.kept(at, until.min(self.end)).await? {
                        flight.reader.advance(position + piece.len() as u64);
                        self.position = at + piece.len() as u64;
                        return Ok(Some((piece, self)));
                    }
                    self.leave("segment-lost")?;
                    self.alone = true;
                }
                // The rest is in the store, or another gap: a cut fetch of a part is no cut of the body.
                Piece::End => {
                    let stalled = self.since == Some(self.position);
                    if stalled { self.leave("segment-short")? } else { self.flight = None }
                }
                Piece::Cut => self.leave("upstream-cut")?,
            }
        }
    }

    /// Goes on without the flight, if that leads anywhere.
    fn leave(&mut self, why: &'static str) -> Result<(), BodyError> {
        self.flight = None;
        let (times, at) = self.resumes;
        let times = if self.position - at >= SEGMENT { 1 } else { times + 1 };
        self.resumes = (times, self.position);
        if self.source.mends && times <= RESUMES_MAX { Ok(()) } else { Err(BodyError(why)) }
    }
}

/// Where a body's bytes are.
pub(crate) struct Source {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ask: Arc<Ask>,
    pub(crate) object: Object,
    /// Which byte of the body the store has as its first: not 0 in a fragment alone.
    base: u64,
    /// Whether what is missing can be fetched.
    mends: bool,
}

impl Source {
    /// Bytes from `position` to the end of their segment, and below `until`; `None` if the store has not got them.
    async fn kept(&self, position: u64, until: u64) -> Result<Option<Bytes>, BodyError> {
        let (position, until) = (position.saturating_sub(self.base), until.saturating_sub(self.base));
        let start = position - position % SEGMENT;
        let number = u32::try_from(position / SEGMENT).map_err(|_| BodyError("segment-number"))?;
        let Some((segment, _)) = self.engine.store.segment(&self.object, number).await else {
            return Ok(None);
        };
        let from = (position - start) as usize;
        let to = segment.len().min((until - start).min(SEGMENT) as usize);
        if from >= to {
            return Err(BodyError("segment-short"));
        }
        Ok(Some(self.engine.inflight.lend_out(segment.slice(from..to), segment.len() as u64)))
    }

    /// Forgets the object: what it lost cannot be had again, and as long as its head stands, every response made of it would
    /// be cut at the same place.
    pub(crate) async fn forget(&self) {
        forget(&self.engine, &self.ask, &self.object).await;
    }
}

/// Forgets an object wherever it stands for the request.
pub(crate) async fn forget(engine: &Engine, ask: &Ask, object: &Object) {
    for key in [ask.key.clone(), ask.key.variant(object.fill.as_u64())] {
        let entry = engine.store.get(&key).await;
        if matches!(entry, Some((StoreEntry::Object(found), _)) if found.fill == object.fill) {
            engine.store.remove(&key);
        }
    }
}
