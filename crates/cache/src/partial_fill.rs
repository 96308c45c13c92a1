//! The fetching end of a flight that carries a part: what upstream answered, whether it fits what is stored, and its way into
//! the store.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use perigee_semantics::{
    partial::{self, Asked, Part},
    policy::Policy,
    purge::Seq,
    request::RequestView,
    storable::{Admission, Times, own_fields, says_nothing_of_the_url},
    validate::{self, Freshened},
};
use perigee_store::{Body as StoredBody, FillId, Object};
use perigee_upstream::{BodyFraming, FetchErrorKind, FetchResponse, UpstreamBody};
use tokio::sync::oneshot;

use crate::{
    ask::Ask,
    carve::carve,
    drive::{Found, Located, below},
    engine::Engine,
    error::Failure,
    fill::{Fetching, Private, SLOW_PART, Sink, commit, commit_in_turn},
    flight::{Cut, Filling, Leader, Room},
    inflight::{FETCH_BYTES, Held},
    segments::{self, SEGMENT, Stretch},
};

/// On whose behalf a part is fetched.
pub(crate) enum Base {
    /// Nothing of it is stored.
    Nothing,
    /// An object with gaps, or a fragment; nothing has been answered yet.
    Stored(Located),
    /// A response that is under way already: of this object or none.
    Begun(Object),
}

impl Base {
    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Self::Nothing => None,
            Self::Stored(located) => Some(&located.object),
            Self::Begun(object) => Some(object),
        }
    }
}

/// One fetch of a part.
pub(crate) struct Parting {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ask: Arc<Ask>,
    pub(crate) base: Base,
    pub(crate) asked: Asked,
    pub(crate) private: oneshot::Sender<Private>,
}

/// A fetch as it was begun, before the request left.
pub(crate) struct Begun {
    pub(crate) seat: Held,
    pub(crate) fill: FillId,
    pub(crate) fence: Seq,
    pub(crate) times: Times,
}

impl Parting {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        ask: &Arc<Ask>,
        base: Base,
        asked: Asked,
        private: oneshot::Sender<Private>,
    ) -> Self {
        Self { engine: Arc::clone(engine), ask: Arc::clone(ask), base, asked, private }
    }

    /// What was asked on behalf of the cache.
    fn view(&self) -> RequestView<'_> {
        RequestView { method: &Method::GET, headers: &self.ask.headers }
    }

    /// Whatever comes is stored as a 200, or as a part of one.
    fn policy(&self) -> Policy<'_> {
        self.ask.policy_for(StatusCode::OK)
    }

    pub(crate) async fn fetch(&mut self, leader: &Leader) -> Result<(FetchResponse, Begun), Failure> {
        let Some(seat) = self.engine.inflight.seat(FETCH_BYTES).await else { return Err(Failure::Memory) };
        // Before the request leaves: what is invalidated while it is under way must not come back with it.
        let (fill, fence) = (self.ask.begin(&self.engine), self.engine.store.fence());
        // What was purged for good validates nothing, and would be given this fence.
        if matches!(&self.base, Base::Stored(located) if self.engine.is_gone(&self.ask, &located.object)) {
            self.base = Base::Nothing;
        }
        let mut conditions = vec![(header::RANGE, self.asked.value())];
        // RFC 9110 §13.1.5: else the whole, which is then another representation.
        if let Some(validator) = self.base.object().and_then(|object| partial::strong_validator(&object.head)) {
            conditions.push((header::IF_RANGE, validator.clone()));
        }
        let request = self.ask.fetch_whole(&self.engine, conditions);
        self.engine.metrics.fetched_range();
        let request_time = self.engine.now();
        let patience = self.ask.site.model.upstream.first_byte_timeout / SLOW_PART;
        let fetch = self.ask.site.upstream.fetch(request);
        let response = leader.watch(patience, fetch).await.map_err(|error| Failure::Fetch(error.kind()))?;
        if response.status == StatusCode::NOT_MODIFIED {
            // Nothing that we asked can be answered so.
            return Err(Failure::Fetch(FetchErrorKind::Protocol));
        }
        let times = Times { request_time, response_time: self.engine.now() };
        Ok((response, Begun { seat, fill, fence, times }))
    }

    pub(crate) async fn lead(mut self, leader: Leader) {
        let (response, begun) = match self.fetch(&leader).await {
            Ok(arrived) => arrived,
            Err(failure) => return leader.fail(failure),
        };
        if response.status == StatusCode::PARTIAL_CONTENT {
            return self.part(leader, response, begun).await;
        }
        match self.base {
            Base::Begun(ref object) => {
                let object = object.clone();
                self.go_on_with(leader, object, response, begun).await;
            }
            // What is stored is not of what there is now, and a fetch of all that comes before the range is not what was
            // asked for.
            Base::Stored(_) if response.status == StatusCode::OK && self.is_late() => {
                drop((response, begun));
                self.base = Base::Nothing;
                Box::pin(self.lead(leader)).await;
            }
            base => {
                let located = match base {
                    Base::Stored(located) if !says_nothing_of_the_url(response.status) => Some(located),
                    _ => None,
                };
                let fetching = Fetching::new(&self.engine, &self.ask, located, self.private);
                fetching.receive(leader, begun.seat, (begun.fill, begun.fence), response, begun.times).await;
            }
        }
    }

    fn is_late(&self) -> bool {
        !matches!(self.asked, Asked::Run { first, .. } if first <= partial::RANGE_START_MAX)
    }

    /// A 206, which may be of what is stored.
    async fn part(mut self, leader: Leader, response: FetchResponse, begun: Begun) {
        let Ok(part) = partial::read(self.asked, &response.headers, content_length(&response)) else {
            return self.contradicted(leader, response, begun).await;
        };
        let base = std::mem::replace(&mut self.base, Base::Nothing);
        let same = base.object().is_some_and(|object| {
            object.head.status == StatusCode::OK
                && object.body.len() == part.complete
                && part.as_told
                && partial::is_same(&object.head, &response.headers)
        });
        match base {
            Base::Begun(object)
                if same && matches!(self.asked, Asked::Run { first, .. } if first == part.range.first) =>
            {
                self.run(leader, object, part, response, begun).await;
            }
            Base::Begun(object) => {
                segments::forget(&self.engine, &self.ask, &object).await;
                leader.release();
            }
            Base::Stored(located) if same => self.renewed(leader, located, part, response, begun).await,
            Base::Stored(located) => self.fresh(leader, Some(located), part, response, begun).await,
            Base::Nothing => self.fresh(leader, None, part, response, begun).await,
        }
    }

    /// What was stored can be no part of what contradicts itself.
    async fn contradicted(self, leader: Leader, response: FetchResponse, begun: Begun) {
        let (site, trace_id) = (&*self.ask.site.label, self.ask.trace_id());
        tracing::debug!(site, trace_id, "a 206 contradicts itself");
        match &self.base {
            // A fragment, perhaps, which does not answer this request; of a URL that varies, this request's variant.
            Base::Nothing => {
                if let Found::Object(located) = self.engine.lookup(&self.ask).await {
                    self.engine.store.remove(&located.key);
                }
            }
            Base::Stored(located) => self.engine.store.remove(&located.key),
            Base::Begun(object) => segments::forget(&self.engine, &self.ask, object).await,
        }
        let _gone = self.private.send((Box::new(response), partial::Contradiction.as_str(), begun.seat));
        leader.decline(begun.times.response_time);
    }

    /// More of what is stored: its head is as good as validated (RFC 9111 §3.4).
    async fn renewed(self, leader: Leader, located: Located, part: Part, response: FetchResponse, begun: Begun) {
        let (policy, head) = (self.policy(), &located.object.head);
        let freshened =
            validate::freshen(head, self.view(), &response.headers, &policy, begun.times, response.trusted_age_ms);
        let object = match freshened {
            // All segments are of what the origin has now, as after a 304: so they have this fence.
            Freshened::Updated(head) if !self.engine.is_gone(&self.ask, &located.object) => {
                let fence = begun.fence.max(located.object.fence);
                let object = Object { head: Arc::from(head), fence, ..located.object };
                self.engine.store.commit(&located.key, object.clone());
                object
            }
            // Purged while this was under way: for those who asked before.
            Freshened::Updated(_) => located.object,
            Freshened::NoLongerStorable | Freshened::OnlyHere | Freshened::Mismatch => {
                self.engine.store.remove(&located.key);
                located.object
            }
        };
        self.run(leader, object, part, response, begun).await;
    }

    /// A part of what nothing is stored of, or something else.
    async fn fresh(self, leader: Leader, replaced: Option<Located>, part: Part, response: FetchResponse, begun: Begun) {
        let policy = self.policy();
        let admission =
            partial::admit(self.view(), &response.headers, part, &policy, begun.times, response.trusted_age_ms);
        let head = match admission {
            Admission::Store(head) => *head,
            Admission::DoNot(reason) => {
                if let Some(located) = replaced {
                    self.engine.store.remove(&located.key);
                }
                let _gone = self.private.send((Box::new(response), reason.as_str(), begun.seat));
                return leader.decline(begun.times.response_time);
            }
        };
        let (fill, fence) = (begun.fill, begun.fence);
        if part.is_whole() && content_length(&response).is_some() {
            // RFC 9111 §3.4: what is complete is as good as a 200.
            let fetching = Fetching::new(&self.engine, &self.ask, None, self.private);
            return fetching.fill(leader, begun.seat, fill, fence, head, response).await;
        }
        let joins = part.as_told && partial::strong_validator(&head).is_some() && has_whole_segment(part);
        let body = StoredBody::Segments { len: part.complete };
        let object = Object { head: Arc::new(head), fill, fence, body };
        if joins {
            let object = self.adopt(object).await;
            self.run(leader, object, part, response, begun).await;
        } else {
            self.fragment(leader, object, part, response, begun).await;
        }
    }

    /// Makes the head visible before its segments come, so that others add theirs to it; or adds to what others began.
    async fn adopt(&self, object: Object) -> Object {
        let _turn = self.engine.index_turn(self.ask.key_hash).await;
        if let Found::Object(located) = self.engine.lookup(&self.ask).await
            && located.object.head.status == StatusCode::OK
            && located.object.body == object.body
            && partial::is_same(&located.object.head, &object.head.fields)
        {
            let fence = located.object.fence.min(object.fence);
            let object = Object { head: object.head, fence, ..located.object };
            self.engine.store.commit(&located.key, object.clone());
            return object;
        }
        commit_in_turn(&self.engine, &self.ask, object.clone()).await;
        object
    }

    fn stream<'a>(
        &'a self,
        leader: &Leader,
        object: &Object,
        part: Part,
        fragment: bool,
        response: &FetchResponse,
    ) -> Sink<'a> {
        let bytes_max = self.ask.site.model.cache.object_bytes_max.min(self.engine.store_share(object.fill));
        let length = part.range.length();
        let keeping = length <= bytes_max;
        let told = response.headers.get(header::CONTENT_RANGE).filter(|_| !part.as_told).cloned();
        leader.stream(Filling {
            head: Arc::clone(&object.head),
            fill: object.fill,
            fence: object.fence,
            length: Some(part.complete),
            stored: keeping,
            own: own_fields(&response.headers, &self.policy()),
            below: below(response),
            peer: response.peer.to_string(),
            part: Some(Stretch { range: part.range, fragment, told }),
        });
        if !keeping {
            leader.give_up_keeping();
        }
        Sink::new(&self.engine, object.fill, Some(length), keeping, bytes_max)
    }

    /// A part on its way to its place in the whole. What lies before the first boundary in it, and after the last, passes.
    async fn run(&self, leader: Leader, object: Object, part: Part, response: FetchResponse, _begun: Begun) {
        let skip = part.range.first.next_multiple_of(SEGMENT) - part.range.first;
        let first = u32::try_from(part.range.first.div_ceil(SEGMENT)).unwrap_or(u32::MAX);
        let mut sink = self.stream(&leader, &object, part, false, &response).starting_at(first, skip);
        let result = self.pump(&leader, &mut sink, response.body, part.range.length(), true).await;
        if result.is_ok() && part.range.last.checked_add(1) == Some(part.complete) {
            sink.flush(&leader).await;
        }
        if result == Err(Ended::Lied) {
            segments::forget(&self.engine, &self.ask, &object).await;
        }
        leader.leave(&self.engine.inflight);
        leader.leave(&self.engine.inflight);
        leader.finish(result.map_err(|_| Cut));
    }

    /// A part that is stored by itself.
    async fn fragment(&self, leader: Leader, object: Object, part: Part, response: FetchResponse, _begun: Begun) {
        let mut sink = self.stream(&leader, &object, part, true, &response);
        let large = part.range.length() > partial::RANGE_START_MAX;
        let result = self.pump(&leader, &mut sink, response.body, part.range.length(), large).await;
        if result.is_ok()
            && let Some(body) = sink.close(&leader).await
            && !self.is_superseded(object.fill).await
        {
            let head = Arc::new(partial::fragment(&object.head, part));
            commit(&self.engine, &self.ask, Object { head, body, ..object }).await;
        }
        leader.leave(&self.engine.inflight);
        leader.leave(&self.engine.inflight);
        leader.finish(result.map_err(|_| Cut));
    }

    /// Takes `length` bytes of content to the readers and to the store. With `stops`, ends at the next boundary after the
    /// last reader has gone: what was asked for beyond is nobody's.
    async fn pump(
        &self,
        leader: &Leader,
        sink: &mut Sink<'_>,
        mut body: UpstreamBody,
        length: u64,
        stops: bool,
    ) -> Result<(), Ended> {
        let mut left = length;
        let mut gone = None;
        loop {
            match leader.room(&self.engine.inflight).await {
                Room::Free => gone = None,
                Room::Nobody if !sink.is_keeping() => return Err(Ended::Cut),
                Room::Nobody if stops && *gone.get_or_insert(sink.segments()) < sink.segments() => {
                    return Err(Ended::Cut);
                }
                Room::Nobody => {}
                Room::Short => {
                    sink.give_up(leader);
                    continue;
                }
            }
            let Some(frame) = body.frame().await else {
                return if left == 0 { Ok(()) } else { Err(Ended::Lied) };
            };
            let Ok(data) = frame.map_err(|_| Ended::Cut)?.into_data() else { continue };
            left = left.checked_sub(data.len() as u64).ok_or(Ended::Lied)?;
            sink.push(leader, data).await;
        }
    }

    /// Whether something better than a fragment was stored meanwhile.
    async fn is_superseded(&self, fill: FillId) -> bool {
        match self.engine.lookup(&self.ask).await {
            Found::Object(located) => located.object.head.status == StatusCode::OK && located.object.fill > fill,
            _ => false,
        }
    }

    /// Whatever but a 206 to a response that is under way: the whole of the same representation will do, if the gap is near
    /// its beginning.
    async fn go_on_with(self, leader: Leader, object: Object, response: FetchResponse, begun: Begun) {
        let length = content_length(&response);
        if let (StatusCode::OK, Asked::Run { first, last: Some(last) }) = (response.status, self.asked)
            && !self.is_late()
            && length == Some(object.body.len())
            && partial::is_same(&object.head, &response.headers)
        {
            let range = perigee_semantics::ranges::ByteRange { first, last };
            let part = Part { range, complete: object.body.len(), as_told: true };
            let mut response = response;
            let body = std::mem::replace(&mut response.body, UpstreamBody::empty());
            response.body = carve(body, first, range.length());
            return self.run(leader, object, part, response, begun).await;
        }
        // A server that fails now may bring the rest later.
        if !response.status.is_server_error() {
            segments::forget(&self.engine, &self.ask, &object).await;
        }
        leader.release();
    }
}

/// Whether at least one segment lies in the part as a whole.
fn has_whole_segment(part: Part) -> bool {
    let first = part.range.first.next_multiple_of(SEGMENT);
    let end = part.range.last.saturating_add(1);
    let last_end = if end == part.complete { end } else { end - end % SEGMENT };
    first < last_end
}

/// The content's length in bytes, where it is known before it has come.
pub(crate) fn content_length(response: &FetchResponse) -> Option<u64> {
    match response.framing {
        BodyFraming::Empty => Some(0),
        BodyFraming::Length(length) => Some(length),
        BodyFraming::Chunked | BodyFraming::Close => None,
    }
}

/// Why a part did not come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The connection broke, or nobody listens any more.
    Cut,
    /// It was longer or shorter than its Content-Range says.
    Lied,
}
