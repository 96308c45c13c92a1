//! The leader's side of a flight: fetch, admit, and fill the store while readers stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use perigee_semantics::{
    head::StoredHead,
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
    flight::{Audience, Cut, Filling, Landing, Leader},
};

/// A response for its requester alone, and why.
pub(crate) type Private = (Box<FetchResponse>, &'static str);

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
        let conditions =
            self.located.as_ref().map(|located| validate::conditions(&located.object.head)).unwrap_or_default();
        let conditional = !conditions.is_empty();
        let request = self.ask.fetch_whole(&self.engine, conditions);
        // Before the request leaves: what is invalidated while it is under way must not come back with it.
        let fill = self.engine.store.begin();
        let request_time = self.engine.now();
        let response = match self.ask.site.upstream.fetch(request).await {
            Ok(response) => response,
            Err(error) => return self.fall_back(leader, Failure::Fetch(error.kind()), None),
        };
        let times = Times { request_time, response_time: self.engine.now() };
        if response.status == StatusCode::NOT_MODIFIED && conditional {
            return Box::pin(self.not_modified(leader, response, times)).await;
        }
        if response.status == StatusCode::NOT_MODIFIED {
            // We asked for the whole, without conditions; the client's own are not the upstream's to answer.
            return self.fall_back(leader, Failure::Fetch(FetchErrorKind::Protocol), Some(304));
        }
        if response.status.is_server_error() && self.stale_is_better(times) {
            let status = response.status.as_u16();
            return self.fall_back(leader, Failure::ServerError(status), Some(status));
        }
        match admit(self.view(), response.status, &response.headers, &self.ask.policy(), times, response.trusted_age_ms)
        {
            Admission::Store(head) => self.fill(leader, fill, *head, response).await,
            Admission::DoNot(reason) => self.decline(leader, response, reason, times),
        }
    }

    /// What was asked on behalf of the cache: a GET, whatever the client's method.
    fn view(&self) -> RequestView<'_> {
        RequestView { method: &Method::GET, headers: &self.ask.headers }
    }

    fn stale_is_better(&self, times: Times) -> bool {
        self.located
            .as_ref()
            .is_some_and(|located| reuse::serve_on_error(&located.object.head, &self.ask.policy(), times.response_time))
    }

    /// Ends the flight with what is stored, if that may be, or with the failure.
    fn fall_back(self, leader: Leader, failure: Failure, upstream_status: Option<u16>) {
        let now = self.engine.now();
        match self.located {
            Some(located) if reuse::serve_on_error(&located.object.head, &self.ask.policy(), now) => {
                let landing = Landing { upstream_status, stale: Some(failure), below: None };
                leader.stored(located.object, landing);
            }
            _ => leader.fail(failure),
        }
    }

    fn decline(self, leader: Leader, response: FetchResponse, reason: DoNotReason, times: Times) {
        let says_nothing = storable::says_nothing_of_the_url(response.status);
        if let Some(located) = &self.located
            && !says_nothing
        {
            // The origin replaced what is stored with something that must not be: the stored answer is no longer its.
            self.engine.store.remove(&located.key);
        }
        // Ignored when the client has left: the response is dropped, which closes its connection.
        let _gone = self.private.send((Box::new(response), reason.as_str()));
        if says_nothing { leader.release() } else { leader.decline(times.response_time) }
    }

    /// RFC 9111 §4.3.3 and §4.3.4.
    async fn not_modified(mut self, leader: Leader, response: FetchResponse, times: Times) {
        let Some(located) = self.located.take() else {
            return leader.release();
        };
        let policy = self.ask.policy();
        let head = &located.object.head;
        let landing = Landing { upstream_status: Some(304), stale: None, below: below(&response) };
        match validate::freshen(head, self.view(), &response.headers, &policy, times, response.trusted_age_ms) {
            Freshened::Updated(head) => {
                let object = Object { head: Arc::from(head), ..located.object };
                self.engine.store.commit(&located.key, object.clone());
                leader.stored(object, landing);
            }
            Freshened::NoLongerStorable => {
                self.engine.store.remove(&located.key);
                leader.stored(located.object, landing);
            }
            Freshened::Mismatch => {
                self.engine.store.remove(&located.key);
                // Without anything stored there are no conditions, so this happens once.
                Box::pin(self.lead(leader)).await;
            }
        }
    }

    /// Stores a response that was admitted, while the leader's readers get it.
    pub(crate) async fn fill(self, leader: Leader, fill: FillId, head: StoredHead, response: FetchResponse) {
        let length = match response.framing {
            BodyFraming::Empty => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Close => None,
        };
        let bytes_max = self.ask.site.model.cache.object_bytes_max.min(self.engine.store_share());
        let stored = length.is_none_or(|length| length <= bytes_max);
        let head = Arc::new(head);
        leader.stream(Filling {
            head: Arc::clone(&head),
            fill,
            length,
            stored,
            below: below(&response),
            peer: response.peer.to_string(),
        });
        if !stored {
            leader.give_up_keeping();
        }
        let mut sink = Sink {
            engine: &self.engine,
            fill,
            segment: BytesMut::new(),
            written: 0,
            segments: 0,
            keeping: stored,
            bytes_max,
        };
        let result = sink.pump(&leader, response.body).await;
        if result.is_ok()
            && let Some(body) = sink.close(&leader).await
        {
            commit(&self.engine, &self.ask, Object { head, fill, body }).await;
        }
        leader.finish(result);
    }
}

/// Cuts a body into segments on its way into the store.
struct Sink<'a> {
    engine: &'a Engine,
    fill: FillId,
    segment: BytesMut,
    /// Bytes taken, those in `segment` included.
    written: u64,
    segments: u32,
    keeping: bool,
    bytes_max: u64,
}

impl Sink<'_> {
    async fn pump(&mut self, leader: &Leader, mut body: UpstreamBody) -> Result<(), Cut> {
        loop {
            if leader.room().await == Audience::Gone && !self.keeping {
                return Err(Cut);
            }
            let Some(frame) = body.frame().await else {
                return Ok(());
            };
            let Ok(data) = frame.map_err(|_| Cut)?.into_data() else {
                continue;
            };
            leader.push(data.clone());
            self.take(leader, &data).await;
        }
    }

    async fn take(&mut self, leader: &Leader, mut data: &[u8]) {
        self.written += data.len() as u64;
        if self.keeping && self.written > self.bytes_max {
            self.keeping = false;
            leader.give_up_keeping();
            self.segment = BytesMut::new();
        }
        while self.keeping && !data.is_empty() {
            let room = SEGMENT_BYTES - self.segment.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.segment.extend_from_slice(now);
            data = later;
            if self.segment.len() == SEGMENT_BYTES {
                self.put(leader).await;
            }
        }
    }

    async fn put(&mut self, leader: &Leader) {
        let segment: Bytes = std::mem::take(&mut self.segment).freeze();
        self.engine.store.put_segment(self.fill, self.segments, segment).await;
        self.segments += 1;
        leader.kept(u64::from(self.segments) * SEGMENT_BYTES as u64);
    }

    /// The body as it is to be committed; `None` if it is not kept.
    async fn close(&mut self, leader: &Leader) -> Option<StoredBody> {
        if !self.keeping {
            return None;
        }
        if self.segments == 0 && self.segment.len() <= INLINE_BYTES_MAX {
            return Some(StoredBody::Inline(Bytes::copy_from_slice(&self.segment)));
        }
        if !self.segment.is_empty() {
            self.put(leader).await;
        }
        Some(StoredBody::Segments { len: self.written })
    }
}

/// Makes an object visible: under its URL, or among the URL's variants.
async fn commit(engine: &Engine, ask: &Ask, object: Object) {
    if object.head.vary.is_empty() {
        engine.store.commit(&ask.key, object);
        return;
    }
    // One writer of a URL's index at a time, so that concurrent fills of two variants keep both.
    let _turn = engine.index_turn(ask.key_hash).await;
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
