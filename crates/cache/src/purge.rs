//! What purges do to requests: what is stored, what is on its way, and who may join whom. Performs the rules of
//! [`perigee_semantics::purge`], always on the store's live ledger, never on a snapshot of it.

use perigee_semantics::{
    head::StoredHead,
    invalidate,
    key::CacheKey,
    purge::{Scope, Seq, Verdict},
};
use perigee_store::Object;
use perigee_upstream::FetchResponse;

use crate::{
    ask::Ask,
    drive::{Found, Located},
    engine::Engine,
    flight::{Joined, Phase},
};

impl Engine {
    /// What purges say of a stored object, now.
    pub(crate) fn verdict(&self, ask: &Ask, object: &Object) -> Verdict {
        self.store.verdict(&ask.key, &object.head.tags, object.fence)
    }

    /// Whether the object may not be used at all: not stale either, and not as a validator.
    pub(crate) fn is_gone(&self, ask: &Ask, object: &Object) -> bool {
        self.verdict(ask, object).is_hard()
    }

    /// What was found, unless a hard purge came after it.
    pub(crate) fn unpurged(&self, ask: &Ask, found: Found) -> Found {
        let Found::Object(located) = &found else { return found };
        let verdict = self.verdict(ask, &located.object);
        match verdict.reason() {
            Some(reason) if verdict.is_hard() => Found::Purged(reason),
            _ => found,
        }
    }

    /// Why what was found has to be validated, whatever its age.
    pub(crate) fn softly_purged(&self, ask: &Ask, found: &Found) -> Option<&'static str> {
        match found {
            Found::Object(located) | Found::Partial(located, _) => self.verdict(ask, &located.object).reason(),
            _ => None,
        }
    }

    /// The stored object, as long as it may be used.
    pub(crate) fn still_there(&self, ask: &Ask, located: Option<Located>) -> Option<Located> {
        located.filter(|located| !self.is_gone(ask, &located.object))
    }

    /// Joins the flight for `key`, or starts one. A flight that began before a purge that may match it is nobody's to join:
    /// those on board travel on, and whoever asks from now on gets another.
    pub(crate) fn board(&self, ask: &Ask, key: &CacheKey) -> Joined {
        let fence = self.store.fence();
        self.flights
            .join(key, ask.now, (fence, ask.trace.as_ref()), |fence, phase| self.is_overtaken(ask, fence, phase))
    }

    /// Whether a purge came after what a flight brings, as far as it is known by now.
    pub(crate) fn is_overtaken(&self, ask: &Ask, fence: Seq, phase: &Phase) -> bool {
        let is_purged =
            |head: &StoredHead, fence: Seq| self.store.verdict(&ask.key, &head.tags, fence) != Verdict::Clean;
        match phase {
            Phase::Streaming(filling) => is_purged(&filling.head, filling.fence),
            Phase::Stored(object, _) => is_purged(&object.head, object.fence),
            // The head, and with it the surrogate keys, is unknown.
            Phase::Waiting => self.store.may_be_purged(&ask.key, fence),
            Phase::Declined | Phase::Failed(_) => false,
        }
    }

    /// RFC 9875 §3: what an unsafe method says of its origin's groups holds for all that is stored of them, and for what is
    /// on its way.
    pub(crate) fn invalid_groups(&self, ask: &Ask, response: &FetchResponse) -> Vec<Scope> {
        let target = ask.invalidation();
        let groups = invalidate::invalidated_groups(&ask.method, response.status, &response.headers);
        groups.iter().map(|group| Scope::group(target.site, target.scheme, target.authority, group)).collect()
    }

    /// Takes out of the store what an unsafe method made invalid (RFC 9111 §4.4). It is to be remembered where there was
    /// something to take out, since a process that is killed may not have told its disk yet.
    pub(crate) fn take_out(&self, ask: &Ask, key: &CacheKey, invalid: &mut Invalid) {
        let was_stored = self.store.has(key);
        self.store.remove(key);
        if ask.site.keys_parts || !ask.key.parts().is_empty() {
            // Rules make many keys of one URL: all of them are invalid, those that nobody knows included.
            invalid.purged.extend(url_of(ask, key));
        } else if was_stored {
            invalid.removed.extend(url_of(ask, key));
        }
    }

    /// Has the ledger take in what was invalidated. In force at the first poll, written when it returns.
    pub(crate) async fn remember_invalid(&self, ask: &Ask, invalid: Invalid) {
        let Invalid { purged, removed } = invalid;
        tokio::join!(
            async {
                if !purged.is_empty() {
                    self.store.invalidate(&purged, ask.now).await;
                }
            },
            async {
                if !removed.is_empty() {
                    self.store.remember_removed(&removed, ask.now).await;
                }
            }
        );
    }
}

/// What a response to an unsafe method made invalid.
#[derive(Debug, Default)]
pub(crate) struct Invalid {
    /// Nobody knows all that is stored of it.
    pub(crate) purged: Vec<Scope>,
    /// Has been removed from the store.
    pub(crate) removed: Vec<Scope>,
}

fn url_of(ask: &Ask, key: &CacheKey) -> Option<Scope> {
    let (_, url) = key.site_and_url()?;
    let mut parts = url.splitn(2, |byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    Some(Scope::Url { site: ask.site.model.id.clone(), authority: parts.next()?, target: parts.next()? })
}
