//! Performs what `flow` decides. The leader's side of a flight is in `fill`.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use perigee_semantics::{
    head::StoredHead,
    invalidate,
    key::CacheKey,
    purge::{Seq, Verdict},
    reuse,
    status::Fwd,
    storable::Times,
    validate::{self, HeadEffect, HeadResponse},
    vary,
};
use perigee_store::{Entry as StoreEntry, Object, Tier as StoreTier};
use perigee_upstream::{FetchResponse, RequestBody};
use tokio::sync::oneshot;

use crate::{
    answer::{Answer, Entry, entry},
    ask::Ask,
    body::Body,
    engine::Engine,
    error::Failure,
    fill::{Fetching, Private},
    flight::{Filling, Flights, Joined, Landing, Phase, Reader},
    flow::{self, Action, Lookup},
    fragment::is_beginning,
    inflight::{FETCH_BYTES, Held, UPLOAD_BYTES},
    purge::Invalid,
    segments,
    serve::{CACHE_STATUS, Content, Said, length_of, serve, towards_downstream},
};

/// A stored object, and under which key it lies (a variant has its own).
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) key: CacheKey,
    pub(crate) object: Object,
    tier: StoreTier,
}

pub(crate) enum Found {
    Object(Located),
    /// Not all the bytes that are wanted are there; whether the first of them is.
    Partial(Located, bool),
    /// A part that does not answer the request.
    Fragment(Located),
    /// A hard purge came after what is stored: as if it were not, and why.
    Purged(&'static str),
    NoVariant,
    Nothing,
}

impl Found {
    fn lookup(&self) -> Lookup<'_> {
        match self {
            Self::Object(located) => Lookup::Found(&located.object.head),
            Self::Partial(located, starts) => Lookup::Partial { head: &located.object.head, starts: *starts },
            Self::Purged(reason) => Lookup::Purged(reason),
            Self::NoVariant => Lookup::NoVariant,
            Self::Fragment(_) | Self::Nothing => Lookup::Nothing,
        }
    }
}

/// Why a fetch is made, for Cache-Status and the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Why {
    pub(crate) fwd: Fwd,
    pub(crate) reason: &'static str,
}

impl Why {
    /// RFC 9211 §2.2 and §2.8: the parameter's word, and ours where it says more.
    pub(crate) fn entry(self, name: &str) -> Entry<'_> {
        let entry = entry(name).fwd(self.fwd);
        if self.reason == self.fwd.as_str() { entry } else { entry.detail(self.reason) }
    }
}

impl Engine {
    pub(crate) async fn drive(self: &Arc<Self>, ask: Arc<Ask>, body: Option<RequestBody>) -> Answer {
        if let Some((status, location)) = ask.redirect() {
            return self.redirect(&ask, status, location);
        }
        if let Err(action) = flow::plan(ask.view(), &ask.policy()) {
            return self.perform(&ask, action, None, body).await;
        }
        if body.is_some() {
            // RFC 9110 §9.3.1: content in a GET has no defined meaning; it is the origin's to judge.
            return self.pass(&ask, body, Why { fwd: Fwd::Bypass, reason: "request-body" }).await;
        }
        let (found, action) = self.decide(&ask).await;
        let located = match found {
            Found::Object(located) | Found::Partial(located, _) => Some(located),
            Found::Fragment(fragment) => {
                return match action {
                    Action::Fetch { fwd, reason, .. } if is_beginning(&fragment.object) => {
                        self.complete_fragment(&ask, fragment, Why { fwd, reason }).await
                    }
                    action => self.perform(&ask, action, None, body).await,
                };
            }
            Found::Purged(_) | Found::NoVariant | Found::Nothing => None,
        };
        self.perform(&ask, action, located, body).await
    }

    /// What is stored for a request, and what to do with it. Changes nothing.
    pub(crate) async fn decide(&self, ask: &Ask) -> (Found, Action) {
        let found = self.sort(ask, self.lookup(ask).await);
        let policy = match &found {
            Found::Object(located) | Found::Partial(located, _) => ask.policy_for(located.object.head.status),
            _ => ask.policy(),
        };
        let mut action = flow::decide(found.lookup(), ask.view(), &policy, ask.now);
        if let Some(reason) = self.softly_purged(ask, &found) {
            action = flow::validated(action, reason, ask.view(), &policy);
        }
        (found, action)
    }

    async fn perform(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        action: Action,
        located: Option<Located>,
        body: Option<RequestBody>,
    ) -> Answer {
        match (action, located) {
            (Action::Serve { cache, reason, refresh }, Some(located)) => {
                if refresh {
                    self.refresh(ask, &located);
                }
                self.hit(ask, &located, cache, reason)
            }
            (Action::Fetch { fwd, reason, validate }, located) => {
                let located = located.filter(|_| validate);
                self.fetch(ask, located, Why { fwd, reason }).await
            }
            (Action::FetchPart { fwd, reason, asked }, _) => {
                self.fetch_part(ask, None, asked, Why { fwd, reason }).await
            }
            (Action::Complete { reason, ask_first }, Some(located)) => {
                self.fill_gaps(ask, located, ask_first, Why { fwd: Fwd::Partial, reason }).await
            }
            (Action::Pass { fwd, reason }, Some(located)) => self.pass_head(ask, located, Why { fwd, reason }).await,
            (Action::Pass { fwd, reason }, None) => self.pass(ask, body, Why { fwd, reason }).await,
            (Action::OnlyIfCached | Action::Serve { .. } | Action::Complete { .. }, _) => {
                Answer::plain(&self.config.name, StatusCode::GATEWAY_TIMEOUT, "error", "only-if-cached")
            }
        }
    }

    /// What is stored for the request and selected by it, and not purged.
    pub(crate) async fn lookup(&self, ask: &Ask) -> Found {
        self.unpurged(ask, self.lookup_stored(ask).await)
    }

    async fn lookup_stored(&self, ask: &Ask) -> Found {
        // Memory answers without a future, a wait or an allocation.
        let entry = match self.store.memory_get(&ask.key) {
            Some(entry) => Some((entry, StoreTier::Memory)),
            None => self.store.get(&ask.key).await,
        };
        match entry {
            None => Found::Nothing,
            Some((StoreEntry::Object(object), tier)) if vary::matches(&object.head.vary, &ask.headers) => {
                Found::Object(Located { key: ask.key.clone(), object, tier })
            }
            Some((StoreEntry::Object(_), _)) => Found::NoVariant,
            Some((StoreEntry::Variants(index), _)) => {
                let Some(id) = index.select(&ask.headers) else {
                    return Found::NoVariant;
                };
                let key = ask.key.variant(id);
                match self.store.get(&key).await {
                    Some((StoreEntry::Object(object), tier)) if vary::matches(&object.head.vary, &ask.headers) => {
                        Found::Object(Located { key, object, tier })
                    }
                    _ => Found::NoVariant,
                }
            }
        }
    }

    fn hit(self: &Arc<Self>, ask: &Arc<Ask>, located: &Located, cache: &'static str, reason: &'static str) -> Answer {
        let head = &located.object.head;
        let mut entry = entry(&self.config.name).hit(head.freshness.ttl_ms(ask.now));
        if cache != "hit" {
            entry = entry.detail(reason);
        }
        let said = Said { cache, reason, entry, own: None, below: None };
        let mut answer = serve(self, ask, Content::Stored(located.object.clone()), said);
        answer.tier = match located.tier {
            StoreTier::Memory => "memory",
            StoreTier::Disk => "disk",
        };
        answer
    }

    /// RFC 5861 §3: one refresh at a time, detached from the client that started it.
    fn refresh(self: &Arc<Self>, ask: &Arc<Ask>, located: &Located) {
        if let Joined::Leader(leader, reader) = self.board(ask, &located.key) {
            drop(reader);
            let (private, _) = oneshot::channel();
            let fetching = Fetching::new(self, ask, Some(located.clone()), private);
            tokio::spawn(fetching.lead(leader));
        }
    }

    /// Fetches what is to be stored, together with everybody who wants the same.
    pub(crate) async fn fetch(self: &Arc<Self>, ask: &Arc<Ask>, located: Option<Located>, why: Why) -> Answer {
        // Requests with credentials never join (ARCHITECTURE, who shares what): what they get may be theirs alone.
        if ask.headers.contains_key(header::AUTHORIZATION) {
            return self.fetch_alone(ask, located, why).await;
        }
        let key = located.as_ref().map_or(&ask.key, |located| &located.key);
        match self.board(ask, key) {
            Joined::Bypass => self.pass(ask, None, Why { fwd: why.fwd, reason: "known-private" }).await,
            Joined::Missed => self.fetch_alone(ask, located, why).await,
            Joined::Leader(leader, reader) => self.lead(ask, leader, reader, located, why).await,
            Joined::Follower(mut reader) => match self.follow(ask, key, located.as_ref(), &mut reader).await {
                // The head tells the surrogate keys: a purge may have come after all.
                phase if self.is_overtaken(ask, Seq::ZERO, &phase) => {
                    drop(reader);
                    Box::pin(self.fetch(ask, located, why)).await
                }
                Phase::Streaming(filling) if may_share(&filling.head, ask) && self.is_whole(&reader, &filling) => {
                    self.stream(ask, reader, filling, why, true)
                }
                Phase::Stored(object, landing) if may_share(&object.head, ask) => {
                    self.landed(ask, object, &landing, why, true)
                }
                Phase::Failed(failure) if failure.is_of_the_client() => {
                    drop(reader);
                    self.fetch_second(ask, key, located.clone(), why).await
                }
                Phase::Failed(failure) => self.failed(ask, located.as_ref(), failure),
                Phase::Streaming(filling) if filling.head.is_collapsible() => {
                    drop(reader);
                    let selection = vary::selection_hash(&filling.head.vary, &ask.headers, filling.fill.as_u64());
                    self.fetch_second(ask, &ask.key.variant(selection), located, why).await
                }
                Phase::Streaming(_) | Phase::Stored(..) | Phase::Declined | Phase::Waiting => {
                    drop(reader);
                    self.fetch_alone(ask, located, why).await
                }
            },
        }
    }

    /// Whether a reader that comes late finds what the window has left behind in the store.
    fn is_whole(&self, reader: &Reader, filling: &Filling) -> bool {
        let behind = reader.window_start();
        behind == 0
            || segments::can_be_mended(&filling.head)
            || self.store.holds(filling.fill, segments::of(0, behind - 1))
    }

    /// The flight that this request joined brings another variant, its beginning is gone, or it failed for its leader's own
    /// sake: those that want the same share a fetch of their own, under `key`.
    async fn fetch_second(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        key: &CacheKey,
        located: Option<Located>,
        why: Why,
    ) -> Answer {
        match self.board(ask, key) {
            Joined::Leader(leader, reader) => self.lead(ask, leader, reader, located, why).await,
            Joined::Follower(reader) => match reader.phase().await {
                Phase::Streaming(filling)
                    if may_share(&filling.head, ask)
                        && self.is_whole(&reader, &filling)
                        && self.store.verdict(&ask.key, &filling.head.tags, filling.fence) == Verdict::Clean =>
                {
                    self.stream(ask, reader, filling, why, true)
                }
                Phase::Failed(failure) if !failure.is_of_the_client() => self.failed(ask, located.as_ref(), failure),
                _ => {
                    drop(reader);
                    self.fetch_alone(ask, located, why).await
                }
            },
            Joined::Missed | Joined::Bypass => self.fetch_alone(ask, located, why).await,
        }
    }

    async fn fetch_alone(self: &Arc<Self>, ask: &Arc<Ask>, located: Option<Located>, why: Why) -> Answer {
        let (leader, reader) = Flights::alone();
        self.lead(ask, leader, reader, located, why).await
    }

    async fn lead(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        leader: crate::flight::Leader,
        reader: Reader,
        located: Option<Located>,
        why: Why,
    ) -> Answer {
        let (private, response) = oneshot::channel();
        let fetching = Fetching::new(self, ask, located.clone(), private);
        // A task of its own: the fill goes on for the others, and for the store, when this client leaves.
        tokio::spawn(fetching.lead(leader));
        self.landing(ask, reader, response, located, why).await
    }

    /// Answers with what a fetch of the whole comes to.
    pub(crate) async fn landing(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        reader: Reader,
        response: oneshot::Receiver<Private>,
        located: Option<Located>,
        why: Why,
    ) -> Answer {
        match reader.phase().await {
            Phase::Streaming(filling) => self.stream(ask, reader, filling, why, false),
            Phase::Stored(object, landing) => self.landed(ask, object, &landing, why, false),
            Phase::Failed(failure) => self.failed(ask, located.as_ref(), failure),
            Phase::Declined | Phase::Waiting => match response.await {
                Ok((response, reason, seat)) => self.relay(ask, *response, Some(seat), "miss", reason, why.fwd),
                Err(_) => self.failed(ask, located.as_ref(), Failure::LeaderGone),
            },
        }
    }

    pub(crate) fn stream(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        reader: Reader,
        filling: Arc<Filling>,
        why: Why,
        follows: bool,
    ) -> Answer {
        let status = if filling.part.is_some() { StatusCode::PARTIAL_CONTENT } else { filling.head.status };
        let entry = why.entry(&self.config.name).fwd_status(Some(status.as_u16()));
        let said = Said {
            cache: if follows { "collapsed" } else { "miss" },
            reason: why.reason,
            entry: entry.stored(filling.stored).collapsed(follows),
            own: (!follows).then(|| Arc::clone(&filling)),
            below: filling.below.clone(),
        };
        let peer = filling.peer.clone();
        let mut answer = serve(self, ask, Content::Flying(reader, filling), said);
        answer.upstream = peer;
        answer
    }

    fn landed(self: &Arc<Self>, ask: &Arc<Ask>, object: Object, landing: &Landing, why: Why, follows: bool) -> Answer {
        let ttl = object.head.freshness.ttl_ms(ask.now);
        let (cache, reason, entry) = match landing.stale {
            // RFC 5861 §4.
            Some(_) => ("stale", "stale-if-error", entry(&self.config.name).hit(ttl).detail("stale-if-error")),
            None => {
                let entry = why.entry(&self.config.name).fwd_status(landing.upstream_status);
                ("validated", why.reason, entry.stored(true).collapsed(follows))
            }
        };
        let said = Said { cache, reason, entry, own: None, below: landing.below.clone() };
        serve(self, ask, Content::Stored(object), said)
    }

    pub(crate) fn failed(self: &Arc<Self>, ask: &Arc<Ask>, located: Option<&Located>, failure: Failure) -> Answer {
        match self.still_there(ask, located.cloned()).as_ref() {
            Some(located)
                if reuse::serve_on_error(
                    &located.object.head,
                    &ask.policy_for(located.object.head.status),
                    ask.now,
                ) =>
            {
                self.hit(ask, located, "stale", "stale-if-error")
            }
            _ => {
                let (site, trace_id) = (&*ask.site.label, ask.trace_id());
                tracing::debug!(site, reason = failure.as_str(), trace_id, "no response from upstream");
                let mut answer = Answer::plain(&self.config.name, failure.status(), "error", failure.as_str());
                if failure.passes() {
                    // RFC 9110 §10.2.3.
                    answer.response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                }
                answer
            }
        }
    }

    /// Sends the request on as it stands.
    pub(crate) async fn pass(self: &Arc<Self>, ask: &Arc<Ask>, body: Option<RequestBody>, why: Why) -> Answer {
        let upload = body.as_ref().map_or(0, |body| body.exact_length().unwrap_or(u64::MAX).min(UPLOAD_BYTES));
        let Some(seat) = self.inflight.seat(FETCH_BYTES + upload).await else {
            return self.failed(ask, None, Failure::Memory);
        };
        let (began, fence, request_time) = (self.store.begin(), self.store.fence(), self.now());
        match ask.site.upstream.fetch(ask.fetch_as_asked(self, body)).await {
            Err(error) => self.failed(ask, None, Failure::Fetch(error.kind())),
            Ok(response) => {
                // Asked before its own invalidation: whatever another request changed meanwhile, this may not have seen.
                let overtaken = self.store.removed_since(&ask.key, began);
                // Out of the store before the first wait, in which the client may go away.
                let invalid = self.invalidate(ask, &response);
                self.remember_invalid(ask, invalid).await;
                let times = Times { request_time, response_time: self.now() };
                if !overtaken && let Some(head) = ask.representation(&response, times) {
                    return self.keep(ask, seat, fence, head, response, why).await;
                }
                self.relay(ask, response, Some(seat), "pass", why.reason, why.fwd)
            }
        }
    }

    /// Sends a HEAD on while a response to GET is stored, which what comes may update or outdate (RFC 9111 §4.3.5).
    async fn pass_head(self: &Arc<Self>, ask: &Arc<Ask>, located: Located, why: Why) -> Answer {
        let request_time = self.now();
        let response = match ask.site.upstream.fetch(ask.fetch_head(self)).await {
            Ok(response) => response,
            Err(error) => return self.failed(ask, Some(&located), Failure::Fetch(error.kind())),
        };
        let stored = &located.object.head;
        let (times, policy) = (Times { request_time, response_time: self.now() }, ask.policy_for(stored.status));
        if reuse::is_upstream_error(response.status)
            && reuse::serve_on_error(stored, &policy, times.response_time)
            && !self.is_gone(ask, &located.object)
        {
            return self.hit(ask, &located, "stale", "stale-if-error");
        }
        let FetchResponse { status, headers, trusted_age_ms, .. } = &response;
        let new = HeadResponse { status: *status, headers, trusted_age_ms: *trusted_age_ms };
        match validate::apply_head(stored, ask.view(), new, length_of(&located.object), &policy, times) {
            HeadEffect::Updated(head) => {
                let landing = Landing { upstream_status: Some(status.as_u16()), stale: None, below: below(&response) };
                let object = Object { head: Arc::from(head), ..located.object };
                self.store.commit(&located.key, object.clone());
                return self.landed(ask, object, &landing, why, false);
            }
            HeadEffect::Outdated => self.store.remove(&located.key),
            HeadEffect::None => {}
        }
        self.relay(ask, response, None, "pass", why.reason, why.fwd)
    }

    /// Stores what a POST brought, while its client gets it.
    async fn keep(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        seat: Held,
        fence: Seq,
        head: StoredHead,
        response: FetchResponse,
        why: Why,
    ) -> Answer {
        let (leader, reader) = Flights::alone();
        let (private, _) = oneshot::channel();
        let fetching = Fetching::new(self, ask, None, private);
        tokio::spawn(fetching.fill(leader, seat, ask.begin(self), fence, head, response));
        match reader.phase().await {
            Phase::Streaming(filling) => self.stream(ask, reader, filling, why, false),
            _ => self.failed(ask, None, Failure::LeaderGone),
        }
    }

    /// RFC 9111 §4.4: what an unsafe method changed is not served again.
    fn invalidate(&self, ask: &Ask, response: &FetchResponse) -> Invalid {
        if ask.method.is_safe() {
            return Invalid::default();
        }
        let mut invalid = Invalid { purged: self.invalid_groups(ask, response), removed: Vec::new() };
        for policy in ask.policies() {
            let target = ask.invalidation();
            for key in invalidate::invalidated(&ask.method, response.status, &response.headers, target, &policy) {
                self.take_out(ask, &key, &mut invalid);
                self.flights.close(&key);
            }
        }
        invalid
    }

    /// Answers as the request's rule says, without looking anything up.
    fn redirect(&self, ask: &Ask, status: StatusCode, location: HeaderValue) -> Answer {
        let mut answer = Answer::redirect(&self.config.name, status, location);
        towards_downstream(self, ask, status, answer.response.headers_mut());
        answer
    }

    /// Answers with what the upstream sent, unstored.
    pub(crate) fn relay(
        &self,
        ask: &Ask,
        upstream: FetchResponse,
        seat: Option<Held>,
        cache: &'static str,
        reason: &'static str,
        fwd: Fwd,
    ) -> Answer {
        let peer = upstream.peer.to_string();
        let status = upstream.status;
        // RFC 9110 §8.6: these may tell the length of content that does not come.
        let is_bare = ask.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = if is_bare { Body::empty() } else { Body::upstream(upstream.body, &self.inflight, seat) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = upstream.headers;
        let headers = response.headers_mut();
        let mut member = entry(&self.config.name).fwd(fwd).fwd_status(Some(status.as_u16()));
        if reason != fwd.as_str() {
            member = member.detail(reason);
        }
        member.append_to(headers, ask);
        towards_downstream(self, ask, status, headers);
        let mut answer = Answer::new(response, cache, reason);
        answer.upstream = peer;
        answer
    }
}

/// Whether a response that somebody else's fetch brought is this request's too (ARCHITECTURE, who shares what).
pub(crate) fn may_share(head: &StoredHead, ask: &Ask) -> bool {
    head.is_collapsible() && vary::matches(&head.vary, &ask.headers)
}

/// What the tiers below said of themselves.
pub(crate) fn below(response: &FetchResponse) -> Option<http::HeaderValue> {
    let mut members = response.headers.get_all(CACHE_STATUS).iter().map(http::HeaderValue::as_bytes);
    let first = members.next()?.to_vec();
    let joined = members.fold(first, |mut all, member| {
        all.extend_from_slice(b", ");
        all.extend_from_slice(member);
        all
    });
    http::HeaderValue::from_bytes(&joined).ok()
}
