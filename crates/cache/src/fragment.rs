//! Fragments: parts that are stored by themselves, as the 206 that they are.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use perigee_semantics::{
    head::StoredHead,
    partial::{self, Asked},
    ranges::{self, RangeAnswer},
    request::RequestView,
    reuse::{self, Reuse},
    validate::{self, Freshened},
};
use perigee_store::{Body as StoredBody, Object};
use perigee_upstream::{BodyFraming, FetchResponse, UpstreamBody};
use tokio::sync::oneshot;

use crate::{
    answer::Answer,
    ask::Ask,
    carve::prefixed,
    drive::{Found, Located, Why},
    engine::Engine,
    fill::Fetching,
    flight::{Joined, Leader},
    partial_fill::{Base, Parting, content_length},
};

impl Engine {
    /// Fetches the rest of what begins with a stored fragment, together with everybody who wants the whole.
    pub(crate) async fn complete_fragment(self: &Arc<Self>, ask: &Arc<Ask>, fragment: Located, why: Why) -> Answer {
        if ask.headers.contains_key(header::AUTHORIZATION) {
            return self.fetch(ask, None, why).await;
        }
        let Joined::Leader(leader, reader) = self.board(ask, &ask.key) else {
            return self.fetch(ask, None, why).await;
        };
        let (private, response) = oneshot::channel();
        let asked = Asked::Run { first: fragment.object.body.len(), last: None };
        tokio::spawn(Parting::new(self, ask, Base::Stored(fragment), asked, private).lead_rest(leader));
        self.landing(ask, reader, response, None, why).await
    }
}

/// A fragment answers ranges within it, and what needs no bytes of it.
pub(crate) fn sort_fragment(ask: &Ask, located: Located) -> Found {
    let Some((whole, part)) = partial::of_fragment(&located.object.head) else { return Found::Nothing };
    let answers = match ranges::evaluate(ask.view(), &whole, part.complete) {
        RangeAnswer::One(range) => part.range.first <= range.first && range.last <= part.range.last,
        RangeAnswer::Unsatisfiable => true,
        RangeAnswer::Many(_) | RangeAnswer::Whole => false,
    };
    // It cannot be validated: a 304 would be about the whole.
    let fresh = matches!(
        reuse::judge(&whole, ask.view(), &ask.policy_for(whole.status), ask.now),
        Reuse::Fresh | Reuse::StaleByRequest
    );
    match (answers, fresh) {
        (true, true) => Found::Object(located),
        _ => Found::Fragment(located),
    }
}

/// Whether the rest of a stored fragment may be asked for, rather than the whole: it is the beginning, and small. Without a
/// strong validator what comes cannot be joined to it (RFC 9110 §15.3.7.3), so only an origin that gave no validator at all,
/// and may do otherwise with the rest, is asked in vain.
pub(crate) fn is_beginning(object: &Object) -> bool {
    let Some((whole, part)) = partial::of_fragment(&object.head) else { return false };
    matches!(object.body, StoredBody::Inline(_))
        && part.range.first == 0
        && part.range.length() < part.complete
        && (partial::strong_validator(&whole).is_some() || !whole.has_validator())
}

impl Parting {
    /// Fetches what follows a fragment that is the beginning of the whole.
    pub(crate) async fn lead_rest(mut self, leader: Leader) {
        let (response, begun) = match self.fetch(&leader).await {
            Ok(arrived) => arrived,
            Err(failure) => return leader.fail(failure),
        };
        let fragment = self.base.object().cloned();
        let ask = Arc::clone(&self.ask);
        let fetching = Fetching::new(&self.engine, &self.ask, None, self.private);
        if !matches!(response.status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            return fetching.receive(leader, begun.seat, (begun.fill, begun.fence), response, begun.times).await;
        }
        let policy = ask.policy_for(StatusCode::OK);
        let joined =
            fragment.and_then(|fragment| rest(&fragment, self.asked, &response)).and_then(|(whole, beginning)| {
                let view = RequestView { method: &Method::GET, headers: &ask.headers };
                let trusted = response.trusted_age_ms;
                match validate::freshen(&whole, view, &response.headers, &policy, begun.times, trusted) {
                    Freshened::Updated(head) => Some((head, beginning)),
                    Freshened::NoLongerStorable | Freshened::OnlyHere | Freshened::Mismatch => None,
                }
            });
        // Without a strong validator the two may be of different representations (RFC 9110 §15.3.7.3): all anew.
        let Some((head, beginning)) = joined else {
            drop((response, begun));
            return fetching.lead(leader).await;
        };
        let mut response = response;
        let body = std::mem::replace(&mut response.body, UpstreamBody::empty());
        let complete = beginning.len() as u64 + content_length(&response).unwrap_or_default();
        response.body = prefixed(beginning, body);
        response.framing = BodyFraming::Length(complete);
        fetching.fill(leader, begun.seat, begun.fill, begun.fence, *head, response).await;
    }
}

/// The head of the whole and its beginning, if the response brings all the rest of the same representation.
fn rest(fragment: &Object, asked: Asked, response: &FetchResponse) -> Option<(StoredHead, Bytes)> {
    let (whole, stored) = partial::of_fragment(&fragment.head)?;
    let StoredBody::Inline(beginning) = &fragment.body else { return None };
    let length = content_length(response)?;
    let part = partial::read(asked, &response.headers, Some(length)).ok()?;
    let follows = part.range.first == beginning.len() as u64
        && part.range.last.checked_add(1) == Some(part.complete)
        && part.complete == stored.complete;
    (follows && partial::is_same(&whole, &response.headers)).then(|| (whole, beginning.clone()))
}
