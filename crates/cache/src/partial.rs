//! Requests whose bytes are not all in the store: what is there is served, what is missing is fetched.
//!
//! An object with gaps is an ordinary object whose head stands while some segments do not; the store alone knows which. A
//! part that cannot be put together with others lies under the same key as the 206 that it is (a fragment). The fetching
//! end is in `partial_fill`.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use perigee_semantics::{
    partial::{self, Asked},
    purge::Verdict,
    ranges::{self, ByteRange, RangeAnswer},
    validate::{self, Precondition},
};
use perigee_store::{Body as StoredBody, Object};
use tokio::sync::oneshot;

use crate::{
    answer::Answer,
    ask::Ask,
    body::BodyError,
    carve::carve,
    drive::{Found, Located, Why, may_share},
    engine::Engine,
    error::Failure,
    fill::Private,
    flight::{Filling, Flights, Joined, Leader, Phase, Reader},
    fragment::sort_fragment,
    partial_fill::{Base, Parting, content_length},
    segments::{self, Carrier, Source},
    serve::{Content, Said, serve},
};

impl Engine {
    /// What a found object is good for, given which of its bytes are there and which the request wants.
    pub(crate) fn sort(&self, ask: &Ask, found: Found) -> Found {
        let Found::Object(located) = found else { return found };
        if located.object.head.status == StatusCode::PARTIAL_CONTENT {
            return sort_fragment(ask, located);
        }
        let object = &located.object;
        let StoredBody::Segments { len } = object.body else { return Found::Object(located) };
        let holds = |range: &ByteRange| self.store.holds(object.fill, segments::of(range.first, range.last));
        let (all, first) = match ranges::evaluate(ask.view(), &object.head, len) {
            RangeAnswer::Unsatisfiable => return Found::Object(located),
            RangeAnswer::One(range) => (holds(&range), range.first),
            RangeAnswer::Many(list) => (list.iter().all(holds), list.first().map_or(0, |range| range.first)),
            RangeAnswer::Whole => (self.store.holds(object.fill, 0..object.body.segments()), 0),
        };
        let needs_none =
            || ask.method == Method::HEAD || validate::evaluate(ask.view(), &object.head) != Precondition::Proceed;
        if all || needs_none() {
            Found::Object(located)
        } else if segments::can_be_mended(&object.head) {
            let starts = holds(&ByteRange { first, last: first });
            Found::Partial(located, starts)
        } else {
            // Better a fetch of the whole than a response that is cut.
            Found::Nothing
        }
    }

    /// Serves an object with gaps; `ask_first` where the first byte that is wanted is in one of them: then whether the
    /// object is still the same shows before anything is answered.
    pub(crate) async fn fill_gaps(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        located: Located,
        ask_first: bool,
        why: Why,
    ) -> Answer {
        let object = &located.object;
        let length = object.body.len();
        let wanted = match ranges::evaluate(ask.view(), &object.head, length) {
            RangeAnswer::One(range) => Some(range),
            RangeAnswer::Whole => Some(ByteRange { first: 0, last: length.saturating_sub(1) }),
            RangeAnswer::Many(_) | RangeAnswer::Unsatisfiable => None,
        };
        let gap = wanted
            .filter(|_| ask_first)
            .and_then(|wanted| segments::gap(self, object, wanted.first, wanted.last.saturating_add(1)));
        let Some(gap) = gap else {
            let entry = why.entry(&self.config.name).stored(true);
            let said = Said { cache: "miss", reason: why.reason, entry, own: None, below: None };
            return serve(self, ask, Content::Stored(located.object), said);
        };
        // Whoever fetches the whole already brings it soon enough.
        if gap.first <= partial::RANGE_START_MAX && self.flights.is_joinable(&ask.key) {
            return self.fetch(ask, None, why).await;
        }
        let asked = Asked::Run { first: gap.first, last: Some(gap.last) };
        self.fetch_part(ask, Some(located), asked, why).await
    }

    /// Fetches a part for the store and for everybody who wants the same one.
    pub(crate) async fn fetch_part(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        located: Option<Located>,
        asked: Asked,
        why: Why,
    ) -> Answer {
        if let (None, Asked::Run { first, .. }) = (&located, asked)
            && first <= partial::RANGE_START_MAX
            && self.flights.is_joinable(&ask.key)
        {
            return self.fetch(ask, None, why).await;
        }
        // ARCHITECTURE, who shares what: requests with credentials never join.
        if ask.headers.contains_key(header::AUTHORIZATION) {
            return self.fetch_part_alone(ask, located, asked, why).await;
        }
        let key = key_of(ask, located.as_ref().map(|located| &located.object), asked);
        // Once more, where the leader is slow: those who find it so begin a second flight together.
        for _ in 0..2 {
            let reader = match self.board(ask, &key) {
                Joined::Bypass => return self.pass(ask, None, Why { fwd: why.fwd, reason: "known-private" }).await,
                Joined::Missed => break,
                Joined::Leader(leader, reader) => {
                    return self.lead_part(ask, leader, reader, located, asked, why).await;
                }
                Joined::Follower(reader) => reader,
            };
            match reader.soon().await {
                None => {}
                // For its leader's own sake: once more.
                Some(Phase::Failed(failure)) if failure.is_of_the_client() => {}
                Some(Phase::Failed(failure)) => return self.failed(ask, None, failure),
                // A fetch that began before an invalidation is not for those who asked after it.
                Some(Phase::Streaming(filling))
                    if may_share(&filling.head, ask)
                        && !self.store.removed_since(&ask.key, filling.fill)
                        && self.store.verdict(&ask.key, &filling.head.tags, filling.fence) == Verdict::Clean =>
                {
                    return self.answer_part(ask, reader, filling, asked, why, true).await;
                }
                Some(_) => break,
            }
        }
        self.fetch_part_alone(ask, located, asked, why).await
    }

    async fn fetch_part_alone(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        located: Option<Located>,
        asked: Asked,
        why: Why,
    ) -> Answer {
        let (leader, reader) = Flights::alone();
        self.lead_part(ask, leader, reader, located, asked, why).await
    }

    async fn lead_part(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        leader: Leader,
        reader: Reader,
        located: Option<Located>,
        asked: Asked,
        why: Why,
    ) -> Answer {
        let (private, response) = oneshot::channel();
        let base = located.map_or(Base::Nothing, Base::Stored);
        tokio::spawn(Parting::new(self, ask, base, asked, private).lead(leader));
        match reader.phase().await {
            Phase::Streaming(filling) => self.answer_part(ask, reader, filling, asked, why, false).await,
            Phase::Failed(failure) => self.failed(ask, None, failure),
            _ => match response.await {
                Ok(private) => self.answer_apart(ask, private, asked, why).await,
                Err(_) => self.failed(ask, None, Failure::LeaderGone),
            },
        }
    }

    /// Answers out of a flight that carries a part, or the whole where upstream would have it so.
    async fn answer_part(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        reader: Reader,
        filling: Arc<Filling>,
        asked: Asked,
        why: Why,
        follows: bool,
    ) -> Answer {
        let (Some(part), Some(length)) = (&filling.part, filling.length) else {
            return self.stream(ask, reader, filling, why, follows);
        };
        let within = |range: &ByteRange| part.range.first <= range.first && range.last <= part.range.last;
        let begins = |first: u64| part.range.first <= first && first <= part.range.last;
        let served = match ranges::evaluate(ask.view(), &filling.head, length) {
            RangeAnswer::Unsatisfiable => true,
            // Else the bytes that came are answered as what they are: the client asked in these very words.
            RangeAnswer::One(range) if part.fragment => within(&range) || matches!(asked, Asked::Suffix(_)),
            RangeAnswer::One(range) => begins(range.first),
            RangeAnswer::Whole => !part.fragment && begins(0),
            RangeAnswer::Many(_) => false,
        };
        if served || validate::evaluate(ask.view(), &filling.head) != Precondition::Proceed {
            return self.stream(ask, reader, filling, why, follows);
        }
        drop(reader);
        match ask.headers.get(header::IF_RANGE) {
            // RFC 9110 §13.1.5: it does not hold, so the whole is wanted.
            Some(_) => Box::pin(self.fetch(ask, None, why)).await,
            None => self.pass(ask, None, why).await,
        }
    }

    /// Answers with what came and is not to be stored.
    async fn answer_apart(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        (response, reason, seat): Private,
        asked: Asked,
        why: Why,
    ) -> Answer {
        let as_asked = matches!(asked, Asked::Suffix(_));
        if response.status != StatusCode::PARTIAL_CONTENT || as_asked {
            return self.relay(ask, *response, Some(seat), "miss", reason, why.fwd);
        }
        // More than the client asked for, in whole segments: it gets its own range of it.
        let part = partial::read(asked, &response.headers, content_length(&response));
        let conditional = ask.headers.contains_key(header::IF_RANGE);
        match part.ok().filter(|_| !conditional).map(|part| (part, ranges::resolve(&ask.headers, part.complete))) {
            Some((part, RangeAnswer::One(wanted)))
                if part.range.first <= wanted.first && wanted.last <= part.range.last =>
            {
                let mut response = *response;
                let body = std::mem::replace(&mut response.body, perigee_upstream::UpstreamBody::empty());
                response.body = carve(body, wanted.first - part.range.first, wanted.length());
                response.headers.insert(header::CONTENT_RANGE, ranges::content_range(wanted, part.complete));
                response.headers.insert(header::CONTENT_LENGTH, wanted.length().into());
                self.relay(ask, response, Some(seat), "miss", reason, why.fwd)
            }
            _ => {
                drop((response, seat));
                self.pass(ask, None, Why { fwd: why.fwd, reason }).await
            }
        }
    }
}

/// Identical ranges share a flight: of a stored object those that begin at one gap, else those that ask upstream the same.
fn key_of(ask: &Ask, object: Option<&Object>, asked: Asked) -> perigee_semantics::key::CacheKey {
    let key = ask.key.variant(object.map_or(0, |object| object.fill.as_u64()));
    match asked {
        Asked::Run { first, .. } if object.is_some() => key.variant(first),
        Asked::Run { first, last } => key.variant(first).variant(last.unwrap_or(u64::MAX)),
        Asked::Suffix(count) => key.variant(count).variant(0).variant(0),
    }
}

impl Source {
    /// Joins or begins the fetch of the gap at `position`, for a response whose head is out already; with `alone`, begins one of
    /// its own.
    pub(crate) async fn fetch_gap(&self, position: u64, end: u64, alone: bool) -> Result<Carrier, BodyError> {
        let gap = segments::gap(&self.engine, &self.object, position, end);
        let Some(gap) = gap.filter(|_| partial::strong_validator(&self.object.head).is_some()) else {
            self.forget().await;
            return Err(BodyError("segment-lost"));
        };
        let (engine, ask) = (&self.engine, &self.ask);
        let asked = Asked::Run { first: gap.first, last: Some(gap.last) };
        let shared = !alone && !ask.headers.contains_key(header::AUTHORIZATION);
        let joined = if shared { engine.board(ask, &key_of(ask, Some(&self.object), asked)) } else { Joined::Missed };
        let own = match joined {
            Joined::Follower(reader) => match reader.soon().await {
                Some(Phase::Failed(failure)) if failure.is_of_the_client() => Err(None),
                soon => soon.map(|phase| (reader, phase)).ok_or(None),
            },
            Joined::Leader(leader, reader) => Err(Some(self.lead_gap(leader, reader, asked))),
            Joined::Missed | Joined::Bypass => Err(None),
        };
        let (mut reader, phase) = match own {
            Ok(shared) => shared,
            Err(own) => {
                let own = own.unwrap_or_else(|| self.lead_gap_alone(asked));
                let phase = own.phase().await;
                (own, phase)
            }
        };
        match phase {
            Phase::Streaming(filling) => match &filling.part {
                Some(part) if filling.fill == self.object.fill && !part.fragment && part.range.first <= position => {
                    let start = part.range.first;
                    reader.seek(position - start, end.saturating_sub(start));
                    Ok(Carrier { reader, start, alone: false })
                }
                _ => {
                    self.forget().await;
                    Err(BodyError("segment-changed"))
                }
            },
            Phase::Failed(failure) => Err(BodyError(failure.as_str())),
            _ => Err(BodyError("segment-changed")),
        }
    }

    fn lead_gap_alone(&self, asked: Asked) -> Reader {
        let (leader, reader) = Flights::alone();
        self.lead_gap(leader, reader, asked)
    }

    fn lead_gap(&self, leader: Leader, reader: Reader, asked: Asked) -> Reader {
        let (private, _) = oneshot::channel();
        let base = Base::Begun(self.object.clone());
        tokio::spawn(Parting::new(&self.engine, &self.ask, base, asked, private).lead(leader));
        reader
    }
}
