//! The leader's side of a flight: fetch, admit, and fill the store while readers stream.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use perigee_semantics::{
    head::StoredHead,
    purge::Seq,
    request::RequestView,
    reuse,
    storable::{self, Admission, DoNotReason, Times, admit},
    validate::{self, Freshened},
    vary::VariantIndex,
};
use perigee_store::{Body as StoredBody, Entry as StoreEntry, FillId, INLINE_BYTES_MAX, Object, SEGMENT_BYTES};
use perigee_upstream::{BodyFraming, FetchErrorKind, FetchResponse, UpstreamBody};
use tokio::sync::oneshot;

use crate::{
    ask::Ask,
    drive::{Located, below},
    engine::Engine,
    error::Failure,
    flight::{Cut, Filling, Landing, Leader, Room},
    inflight::{FETCH_BYTES, Held},
};

/// A response for its requester alone, why, and the seat of its body.
pub(crate) type Private = (Box<FetchResponse>, &'static str, Held);

/// Of `first_byte_timeout`, the part after which a fetch is slow: followers need not wait for it any more.
pub(crate) const SLOW_PART: u32 = 3;

/// One fetch for the store.
pub(crate) struct Fetching {
    engine: Arc<Engine>,
    ask: Arc<Ask>,
    located: Option<Located>,
    private: oneshot::Sender<Private>,
}

impl Fetching {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        ask: &Arc<Ask>,
        located: Option<Located>,
        private: oneshot::Sender<Private>,
    ) -> Self {
        Self { engine: Arc::clone(engine), ask: Arc::clone(ask), located, private }
    }

    pub(crate) async fn lead(self, leader: Leader) {
        match self.engine.inflight.seat(FETCH_BYTES).await {
            Some(seat) => self.fetch(leader, seat).await,
            None => self.fall_back(leader, Failure::Memory, None),
        }
    }

    async fn fetch(mut self, leader: Leader, seat: Held) {
        // Before the request leaves: what is invalidated while it is under way must not come back with it.
        let (fill, fence) = (self.ask.begin(&self.engine), self.engine.store.fence());
        // A 304 would give it this fence, and so undo what it was purged by meanwhile.
        self.located = self.engine.still_there(&self.ask, self.located.take());
        let conditions =
            self.located.as_ref().map(|located| validate::conditions(&located.object.head)).unwrap_or_default();
        let conditional = !conditions.is_empty();
        let request = self.ask.fetch_whole(&self.engine, conditions);
        let request_time = self.engine.now();
        let patience = self.ask.site.model.upstream.first_byte_timeout / SLOW_PART;
        let response = match leader.watch(patience, self.ask.site.upstream.fetch(request)).await {
            Ok(response) => response,
            Err(error) => return self.fall_back(leader, Failure::Fetch(error.kind()), None),
        };
        let times = Times { request_time, response_time: self.engine.now() };
        if response.status == StatusCode::NOT_MODIFIED && conditional {
            return Box::pin(self.not_modified(leader, seat, fence, response, times)).await;
        }
        if response.status == StatusCode::NOT_MODIFIED {
            // We asked for the whole, without conditions; the client's own are not the upstream's to answer.
            return self.fall_back(leader, Failure::Fetch(FetchErrorKind::Protocol), Some(304));
        }
        if reuse::is_upstream_error(response.status) && self.stale_is_better(times) {
            let status = response.status.as_u16();
            return self.fall_back(leader, Failure::ServerError(status), Some(status));
        }
        self.receive(leader, seat, (fill, fence), response, times).await;
    }

    /// Stores a final response or declines to.
    pub(crate) async fn receive(
        self,
        leader: Leader,
        seat: Held,
        (fill, fence): (FillId, Seq),
        response: FetchResponse,
        times: Times,
    ) {
        match admit(
            self.view(),
            response.status,
            &response.headers,
            &self.ask.policy_for(response.status),
            times,
            response.trusted_age_ms,
        ) {
            Admission::Store(head) => self.fill(leader, seat, fill, fence, *head, response).await,
            Admission::DoNot(reason) => self.decline(leader, seat, response, reason, times),
        }
    }

    /// What was asked on behalf of the cache: a GET, whatever the client's method.
    fn view(&self) -> RequestView<'_> {
        RequestView { method: &Method::GET, headers: &self.ask.headers }
    }

    fn may_be_stale(&self, located: &Located, now: perigee_semantics::time::Timestamp) -> bool {
        let head = &located.object.head;
        reuse::serve_on_error(head, &self.ask.policy_for(head.status), now)
            && !self.engine.is_gone(&self.ask, &located.object)
    }

    fn stale_is_better(&self, times: Times) -> bool {
        self.located.as_ref().is_some_and(|located| self.may_be_stale(located, times.response_time))
    }

    /// Ends the flight with what is stored, if that may be, or with the failure.
    fn fall_back(self, leader: Leader, failure: Failure, upstream_status: Option<u16>) {
        let now = self.engine.now();
        match self.located {
            Some(located) if self.may_be_stale(&located, now) => {
                let landing = Landing { upstream_status, stale: Some(failure), below: None };
                leader.stored(located.object, landing);
            }
            _ => leader.fail(failure),
        }
    }

    fn decline(self, leader: Leader, seat: Held, response: FetchResponse, reason: DoNotReason, times: Times) {
        let says_nothing = storable::says_nothing_of_the_url(response.status) || reason.is_of_the_request();
        if let Some(located) = &self.located
            && !says_nothing
        {
            // The origin replaced what is stored with something that must not be: the stored answer is no longer its.
            self.engine.store.remove(&located.key);
        }
        // Ignored when the client has left: the response is dropped, which closes its connection.
        let _gone = self.private.send((Box::new(response), reason.as_str(), seat));
        if says_nothing { leader.release() } else { leader.decline(times.response_time) }
    }

    /// RFC 9111 §4.3.3 and §4.3.4.
    async fn not_modified(mut self, leader: Leader, seat: Held, fence: Seq, response: FetchResponse, times: Times) {
        let Some(located) = self.located.take() else {
            return leader.release();
        };
        if self.engine.is_gone(&self.ask, &located.object) {
            // It was purged while the request was under way: the 304 speaks of what must not be used any more.
            return Box::pin(self.fetch(leader, seat)).await;
        }
        let head = &located.object.head;
        let policy = self.ask.policy_for(head.status);
        let landing = Landing { upstream_status: Some(304), stale: None, below: below(&response) };
        match validate::freshen(head, self.view(), &response.headers, &policy, times, response.trusted_age_ms) {
            Freshened::Updated(head) => {
                let object = Object { head: Arc::from(head), fence: fence.max(located.object.fence), ..located.object };
                self.engine.store.commit(&located.key, object.clone());
                leader.stored(object, landing);
            }
            Freshened::NoLongerStorable => {
                self.engine.store.remove(&located.key);
                leader.stored(located.object, landing);
            }
            Freshened::OnlyHere => leader.stored(located.object, landing),
            Freshened::Mismatch => {
                self.engine.store.remove(&located.key);
                // Without anything stored there are no conditions, so this happens once.
                Box::pin(self.fetch(leader, seat)).await;
            }
        }
    }

    /// Stores a response that was admitted, while the leader's readers get it.
    pub(crate) async fn fill(
        self,
        leader: Leader,
        _seat: Held,
        fill: FillId,
        fence: Seq,
        head: StoredHead,
        response: FetchResponse,
    ) {
        let length = match response.framing {
            BodyFraming::Empty => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Close => None,
        };
        let bytes_max = self.ask.site.model.cache.object_bytes_max.min(self.engine.store_share(fill));
        let stored = length.is_none_or(|length| length <= bytes_max);
        let head = Arc::new(head);
        leader.stream(Filling {
            head: Arc::clone(&head),
            fill,
            fence,
            length,
            stored,
            own: storable::own_fields(&response.headers, &self.ask.policy_for(response.status)),
            below: below(&response),
            peer: response.peer.to_string(),
            part: None,
        });
        if !stored {
            leader.give_up_keeping();
        }
        let mut sink = Sink::new(&self.engine, fill, length, stored, bytes_max);
        sink.bytes_min = storable::bytes_min(head.status, &self.ask.policy_for(head.status));
        let result = sink.pump(&leader, response.body).await;
        if result.is_ok()
            && let Some(body) = sink.close(&leader).await
        {
            commit(&self.engine, &self.ask, Object { head, fill, fence, body }).await;
        }
        leader.leave(&self.engine.inflight);
        leader.finish(result);
    }
}

/// Cuts a body into segments on its way into the store. What is not stored yet is in the flight's window, and only there.
pub(crate) struct Sink<'a> {
    engine: &'a Engine,
    fill: FillId,
    /// The number of the first segment that is stored, and how many bytes come before it.
    first: (u32, u64),
    /// Bytes of the body so far.
    taken: u64,
    /// Stored so far.
    segments: u32,
    keeping: bool,
    counted: bool,
    bytes_max: u64,
    /// Of a body whose length was not announced: fewer are not committed.
    bytes_min: u64,
}

impl<'a> Sink<'a> {
    /// For a body of `length` bytes, where known.
    pub(crate) fn new(engine: &'a Engine, fill: FillId, length: Option<u64>, keeping: bool, bytes_max: u64) -> Self {
        // What is shorter than its seat is not counted again.
        let counted = length.is_none_or(|length| length > FETCH_BYTES);
        Self { engine, fill, first: (0, 0), taken: 0, segments: 0, keeping, counted, bytes_max, bytes_min: 0 }
    }

    /// The first segment to be stored is `number`, and begins after `skip` bytes that are not.
    pub(crate) fn starting_at(self, number: u32, skip: u64) -> Self {
        Self { first: (number, skip), ..self }
    }

    pub(crate) fn is_keeping(&self) -> bool {
        self.keeping
    }

    /// Stored so far.
    pub(crate) fn segments(&self) -> u32 {
        self.segments
    }

    /// Hands a piece to the readers, and on its way into the store.
    pub(crate) async fn push(&mut self, leader: &Leader, data: Bytes) {
        self.taken += data.len() as u64;
        let inflight = &self.engine.inflight;
        leader.push(data, |piece| if self.counted { inflight.count(piece, None) } else { piece });
        self.keep(leader).await;
    }

    async fn pump(&mut self, leader: &Leader, mut body: UpstreamBody) -> Result<(), Cut> {
        let inflight = &self.engine.inflight;
        loop {
            match leader.room(inflight).await {
                Room::Free => {}
                Room::Nobody if self.keeping => {}
                Room::Nobody => return Err(Cut),
                Room::Short => {
                    self.give_up(leader);
                    continue;
                }
            }
            let Some(frame) = body.frame().await else {
                return Ok(());
            };
            let Ok(data) = frame.map_err(|_| Cut)?.into_data() else {
                continue;
            };
            self.push(leader, data).await;
        }
    }

    pub(crate) fn give_up(&mut self, leader: &Leader) {
        self.keeping = false;
        leader.give_up_keeping();
    }

    fn kept(&self) -> u64 {
        self.first.1 + u64::from(self.segments) * SEGMENT_BYTES as u64
    }

    async fn keep(&mut self, leader: &Leader) {
        if self.keeping && self.taken > self.bytes_max {
            self.give_up(leader);
        }
        while self.keeping && self.taken.saturating_sub(self.kept()) >= SEGMENT_BYTES as u64 {
            self.put(leader, self.kept() + SEGMENT_BYTES as u64).await;
        }
    }

    /// Stores the next segment, which ends at `end`.
    async fn put(&mut self, leader: &Leader, end: u64) {
        let parts = leader.collect(self.kept(), end);
        self.engine.store.put_parts(self.fill, self.first.0.saturating_add(self.segments), parts).await;
        self.segments += 1;
        leader.kept(end);
    }

    /// Stores what has come of the last segment.
    pub(crate) async fn flush(&mut self, leader: &Leader) {
        if self.keeping && self.taken > self.kept() {
            self.put(leader, self.taken).await;
        }
    }

    /// The body as it is to be committed; `None` if it is not kept.
    pub(crate) async fn close(&mut self, leader: &Leader) -> Option<StoredBody> {
        if !self.keeping || self.taken < self.bytes_min {
            return None;
        }
        if self.taken <= INLINE_BYTES_MAX as u64 {
            let mut parts = leader.collect(0, self.taken);
            let whole = if parts.len() == 1 { parts.pop().unwrap_or_default() } else { Bytes::from(parts.concat()) };
            return Some(StoredBody::Inline(whole));
        }
        self.flush(leader).await;
        Some(StoredBody::Segments { len: self.taken })
    }
}

/// Makes an object visible: under its URL, or among the URL's variants.
pub(crate) async fn commit(engine: &Engine, ask: &Ask, object: Object) {
    if object.head.vary.is_empty() {
        engine.store.commit(&ask.key, object);
        return;
    }
    // One writer of a URL's index at a time, so that concurrent fills of two variants keep both.
    let _turn = engine.index_turn(ask.key_hash).await;
    commit_in_turn(engine, ask, object).await;
}

/// As [`commit`], for whoever has the turn of the URL.
pub(crate) async fn commit_in_turn(engine: &Engine, ask: &Ask, object: Object) {
    if object.head.vary.is_empty() {
        engine.store.commit(&ask.key, object);
        return;
    }
    let mut index = match engine.store.get(&ask.key).await {
        Some((StoreEntry::Variants(index), _)) => VariantIndex::clone(&index),
        _ => VariantIndex::default(),
    };
    // After the last wait: what was invalidated meanwhile must not come back, neither the index nor this variant.
    if engine.store.removed_since(&ask.key, object.fill) {
        return;
    }
    let id = object.fill.as_u64();
    let selector = object.head.vary.clone();
    let dropped = index.insert(selector, id, ask.site.model.cache.vary_limit);
    engine.metrics.variants_dropped(dropped.len() as u64);
    for id in dropped {
        engine.store.remove(&ask.key.variant(id));
    }
    engine.store.commit(&ask.key.variant(id), object);
    engine.store.put_variants(&ask.key, index);
}
