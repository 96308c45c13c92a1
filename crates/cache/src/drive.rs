//! Performs what `flow` decides. The leader's side of a flight is in `fill`.

use std::sync::Arc;

use http::{Method, Response, StatusCode, header};
use perigee_semantics::{
    head::StoredHead,
    invalidate,
    policy::Policy,
    ranges::{self, RangeAnswer},
    reuse,
    status::Fwd,
    storable::Times,
    vary,
};
use perigee_store::{Body as StoredBody, Entry as StoreEntry, Object, Tier as StoreTier};
use perigee_upstream::{FetchResponse, RequestBody};
use tokio::sync::oneshot;

use crate::{
    answer::{Answer, entry},
    ask::Ask,
    body::Body,
    engine::Engine,
    error::Failure,
    fill::Fetching,
    flight::{Filling, Flights, Joined, Landing, Phase, Reader},
    flow::{self, Action, Lookup},
    segments,
    serve::{CACHE_STATUS, Content, Said, serve, towards_downstream},
};

/// A stored object, and under which key it lies (a variant has its own).
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) key: perigee_semantics::key::CacheKey,
    pub(crate) object: Object,
    tier: StoreTier,
}

enum Found {
    Object(Located),
    NoVariant,
    Nothing,
}

impl Found {
    fn lookup(&self) -> Lookup<'_> {
        match self {
            Self::Object(located) => Lookup::Found(&located.object.head),
            Self::NoVariant => Lookup::NoVariant,
            Self::Nothing => Lookup::Nothing,
        }
    }
}

/// Why a fetch is made, for Cache-Status and the log.
#[derive(Clone, Copy, Debug)]
struct Why {
    fwd: Fwd,
    reason: &'static str,
}

impl Engine {
    pub(crate) async fn drive(self: &Arc<Self>, ask: Arc<Ask>, body: Option<RequestBody>) -> Answer {
        if let Err(action) = flow::plan(ask.view(), &ask.policy()) {
            return self.perform(&ask, action, None, body).await;
        }
        if body.is_some() {
            // RFC 9110 §9.3.1: content in a GET has no defined meaning; it is the origin's to judge.
            return self.pass(&ask, body, Why { fwd: Fwd::Bypass, reason: "request-body" }).await;
        }
        let found = self.whole(&ask, self.lookup(&ask).await);
        let action = flow::decide(found.lookup(), ask.view(), &ask.policy(), ask.now);
        let located = match found {
            Found::Object(located) => Some(located),
            Found::NoVariant | Found::Nothing => None,
        };
        self.perform(&ask, action, located, body).await
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
            (Action::Pass { fwd, reason }, _) => self.pass(ask, body, Why { fwd, reason }).await,
            (Action::OnlyIfCached | Action::Serve { .. }, _) => {
                Answer::plain(&self.config.name, StatusCode::GATEWAY_TIMEOUT, "error", "only-if-cached")
            }
        }
    }

    async fn lookup(&self, ask: &Ask) -> Found {
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

    /// A large object that the store has dropped a part of is as good as not there: better a fetch of the whole than a
    /// response that is cut. If its origin serves ranges of what has a strong validator, the rest is filled in as it goes.
    fn whole(&self, ask: &Ask, found: Found) -> Found {
        let Found::Object(located) = &found else { return found };
        let object = &located.object;
        let StoredBody::Segments { len } = object.body else { return found };
        let wanted = match ranges::evaluate(ask.view(), &object.head, len) {
            RangeAnswer::One(range) => segments::of(range.first, range.last),
            _ => 0..object.body.segments(),
        };
        let needed = if segments::can_be_mended(&object.head) { wanted.start..wanted.start + 1 } else { wanted };
        if self.store.holds(object.fill, needed) { found } else { Found::Nothing }
    }

    fn hit(self: &Arc<Self>, ask: &Arc<Ask>, located: &Located, cache: &'static str, reason: &'static str) -> Answer {
        let head = &located.object.head;
        let mut entry = entry(&self.config.name).hit(head.freshness.ttl_ms(ask.now));
        if cache != "hit" {
            entry = entry.detail(reason);
        }
        let said = Said { cache, reason, entry, below: None };
        let mut answer = serve(self, ask, Content::Stored(located.object.clone()), said);
        answer.tier = match located.tier {
            StoreTier::Memory => "memory",
            StoreTier::Disk => "disk",
        };
        answer
    }

    /// RFC 5861 §3: one refresh at a time, detached from the client that started it.
    fn refresh(self: &Arc<Self>, ask: &Arc<Ask>, located: &Located) {
        if let Joined::Leader(leader, reader) = self.flights.join(&located.key, ask.now) {
            drop(reader);
            let (private, _) = oneshot::channel();
            let fetching = Fetching::new(self, ask, Some(located.clone()), private);
            tokio::spawn(fetching.lead(leader));
        }
    }

    /// Fetches what is to be stored, together with everybody who wants the same.
    async fn fetch(self: &Arc<Self>, ask: &Arc<Ask>, located: Option<Located>, why: Why) -> Answer {
        // Requests with credentials never join (ARCHITECTURE, who shares what): what they get may be theirs alone.
        if ask.headers.contains_key(header::AUTHORIZATION) {
            return self.fetch_alone(ask, located, why).await;
        }
        let key = located.as_ref().map_or(&ask.key, |located| &located.key);
        match self.flights.join(key, ask.now) {
            Joined::Bypass => self.pass(ask, None, Why { fwd: why.fwd, reason: "known-private" }).await,
            Joined::Missed => self.fetch_alone(ask, located, why).await,
            Joined::Leader(leader, reader) => self.lead(ask, leader, reader, located, why).await,
            Joined::Follower(reader) => match reader.phase().await {
                Phase::Streaming(filling) if may_share(&filling.head, ask) && self.is_whole(&reader, &filling) => {
                    self.stream(ask, reader, filling, why, true)
                }
                Phase::Stored(object, landing) if may_share(&object.head, ask) => {
                    self.landed(ask, object, &landing, why, true)
                }
                Phase::Failed(failure) => self.failed(ask, located.as_ref(), failure),
                Phase::Streaming(filling) if filling.head.is_collapsible() => {
                    drop(reader);
                    self.fetch_variant(ask, &filling, located, why).await
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

    /// The flight that this request joined brings another variant, or its beginning is gone: those that want the same share
    /// a fetch of their own.
    async fn fetch_variant(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        other: &Filling,
        located: Option<Located>,
        why: Why,
    ) -> Answer {
        let selection = vary::selection_hash(&other.head.vary, &ask.headers, other.fill.as_u64());
        match self.flights.join(&ask.key.variant(selection), ask.now) {
            Joined::Leader(leader, reader) => self.lead(ask, leader, reader, located, why).await,
            Joined::Follower(reader) => match reader.phase().await {
                Phase::Streaming(filling) if may_share(&filling.head, ask) && self.is_whole(&reader, &filling) => {
                    self.stream(ask, reader, filling, why, true)
                }
                Phase::Failed(failure) => self.failed(ask, located.as_ref(), failure),
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
        match reader.phase().await {
            Phase::Streaming(filling) => self.stream(ask, reader, filling, why, false),
            Phase::Stored(object, landing) => self.landed(ask, object, &landing, why, false),
            Phase::Failed(failure) => self.failed(ask, located.as_ref(), failure),
            Phase::Declined | Phase::Waiting => match response.await {
                Ok((response, reason)) => self.relay(ask, *response, "miss", reason, why.fwd),
                Err(_) => self.failed(ask, located.as_ref(), Failure::LeaderGone),
            },
        }
    }

    fn stream(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        reader: Reader,
        filling: Arc<Filling>,
        why: Why,
        follows: bool,
    ) -> Answer {
        let entry = entry(&self.config.name).fwd(why.fwd).fwd_status(Some(filling.head.status.as_u16()));
        let said = Said {
            cache: if follows { "collapsed" } else { "miss" },
            reason: why.reason,
            entry: entry.stored(filling.stored).collapsed(follows),
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
                let entry = entry(&self.config.name).fwd(why.fwd).fwd_status(landing.upstream_status);
                ("validated", why.reason, entry.stored(true).collapsed(follows))
            }
        };
        let said = Said { cache, reason, entry, below: landing.below.clone() };
        serve(self, ask, Content::Stored(object), said)
    }

    fn failed(self: &Arc<Self>, ask: &Arc<Ask>, located: Option<&Located>, failure: Failure) -> Answer {
        match located {
            Some(located) if reuse::serve_on_error(&located.object.head, &ask.policy(), ask.now) => {
                self.hit(ask, located, "stale", "stale-if-error")
            }
            _ => {
                tracing::debug!(site = %ask.site.label, reason = failure.as_str(), "no response from upstream");
                Answer::plain(&self.config.name, failure.status(), "error", failure.as_str())
            }
        }
    }

    /// Sends the request on as it stands.
    async fn pass(self: &Arc<Self>, ask: &Arc<Ask>, body: Option<RequestBody>, why: Why) -> Answer {
        let (began, request_time) = (self.store.begin(), self.now());
        match ask.site.upstream.fetch(ask.fetch_as_asked(self, body)).await {
            Err(error) => self.failed(ask, None, Failure::Fetch(error.kind())),
            Ok(response) => {
                // Asked before its own invalidation: whatever another request changed meanwhile, this may not have seen.
                let overtaken = self.store.removed_since(&ask.key, began);
                self.invalidate(ask, &response);
                let times = Times { request_time, response_time: self.now() };
                if !overtaken && let Some(head) = ask.representation(&response, times) {
                    return self.keep(ask, head, response, why).await;
                }
                self.relay(ask, response, "pass", why.reason, why.fwd)
            }
        }
    }

    /// Stores what a POST brought, while its client gets it.
    async fn keep(self: &Arc<Self>, ask: &Arc<Ask>, head: StoredHead, response: FetchResponse, why: Why) -> Answer {
        let (leader, reader) = Flights::alone();
        let (private, _) = oneshot::channel();
        let fetching = Fetching::new(self, ask, None, private);
        tokio::spawn(fetching.fill(leader, self.store.begin(), head, response));
        match reader.phase().await {
            Phase::Streaming(filling) => self.stream(ask, reader, filling, why, false),
            _ => self.failed(ask, None, Failure::LeaderGone),
        }
    }

    /// RFC 9111 §4.4: what an unsafe method changed is not served again.
    fn invalidate(&self, ask: &Ask, response: &FetchResponse) {
        if ask.method.is_safe() {
            return;
        }
        let policy: Policy<'_> = ask.policy();
        for key in invalidate::invalidated(&ask.method, response.status, &response.headers, ask.invalidation(), &policy)
        {
            self.store.remove(&key);
            self.flights.close(&key);
        }
    }

    /// Answers with what the upstream sent, unstored.
    fn relay(&self, ask: &Ask, upstream: FetchResponse, cache: &'static str, reason: &'static str, fwd: Fwd) -> Answer {
        let peer = upstream.peer.to_string();
        let status = upstream.status;
        let body = if ask.method == Method::HEAD { Body::empty() } else { Body::upstream(upstream.body) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = upstream.headers;
        let headers = response.headers_mut();
        let mut member = entry(&self.config.name).fwd(fwd).fwd_status(Some(status.as_u16()));
        if reason != fwd.as_str() {
            member = member.detail(reason);
        }
        member.append_to(headers);
        towards_downstream(self, ask, headers);
        let mut answer = Answer::new(response, cache, reason);
        answer.upstream = peer;
        answer
    }
}

/// Whether a response that somebody else's fetch brought is this request's too (ARCHITECTURE, who shares what).
fn may_share(head: &StoredHead, ask: &Ask) -> bool {
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
