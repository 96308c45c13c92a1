//! What would become of a request, and why: the engine's own decisions, without performing any.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, StatusCode, request::Parts};
use perigee_protocol::model::Scheme;
use perigee_semantics::{
    freshness::Freshness,
    key::CacheKey,
    reuse,
    rules::{KeyPart, RuleView, describe},
};
use perigee_store::{Entry as StoreEntry, Object, Places, Tier as StoreTier};

use crate::{
    ask::Ask,
    drive::{Found, Located},
    engine::Engine,
    flow::Action,
    snapshot::host_of,
};

/// All that decides about a request at one node.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Of the document.
    pub generation: u64,
    /// Which site answers.
    pub site: String,
    /// What became of each of its rules, in their order.
    pub rules: Vec<RuleSaid>,
    /// Where the request's rule sends the client: nothing of what follows then happens.
    pub redirect: Option<(StatusCode, HeaderValue)>,
    /// The key, as people read it.
    pub key: String,
    /// What it has beside the URL: name and value, `None` for absence.
    pub key_parts: Vec<(String, Option<String>)>,
    /// In the access log.
    pub key_hash: u64,
    /// Everything that is stored for the key.
    pub stored: Vec<Stored>,
    /// What would be done.
    pub verdict: Verdict,
    /// Whether a fetch is under way that the request would join.
    pub fetching: bool,
    /// Whether responses were lately not for everybody, so that nobody waits for anybody.
    pub known_private: bool,
    /// Whom a fetch asks, in order.
    pub upstreams: Vec<String>,
}

/// One rule, and what became of it.
#[derive(Clone, Debug)]
pub struct RuleSaid {
    /// What it matches.
    pub matching: String,
    /// What it does.
    pub doing: String,
    /// What became of it.
    pub outcome: describe::Outcome,
}

/// One stored response.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Which request fields select it, and with what value.
    pub selects: Vec<(HeaderName, Option<String>)>,
    /// Whether it is the one that this request gets, if any.
    pub selected: bool,
    /// Its status.
    pub status: StatusCode,
    /// Of its body.
    pub bytes: u64,
    /// Where its head was found.
    pub tier: &'static str,
    /// Where its segments are; none where the body lies with the head.
    pub segments: Places,
    /// How long it may be reused.
    pub freshness: Freshness,
    /// Now, in milliseconds.
    pub age_ms: u64,
    /// Now, in milliseconds; negative once stale.
    pub ttl_ms: i64,
    /// For how long it may be served stale while it is revalidated, in milliseconds.
    pub stale_while_revalidate_ms: u64,
    /// For how long it may be served stale when upstream fails, in milliseconds.
    pub stale_if_error_ms: u64,
    /// The rule of the response, by its place.
    pub rule: Option<usize>,
    /// Surrogate keys and groups.
    pub tags: Vec<String>,
    /// How far purges had been applied when it was fetched.
    pub fence: u64,
    /// Which purge undoes it, if one does.
    pub purged: Option<PurgeSaid>,
}

/// A purge that undoes what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeSaid {
    /// The word.
    pub reason: &'static str,
    /// Its number.
    pub seq: u64,
    /// What it was for, where it is among the latest.
    pub what: Option<String>,
}

/// What would be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `hit`, `stale`, `fetch`, `validate`, `complete`, `pass`, `refuse` or `redirect`.
    pub action: &'static str,
    /// The decision's word, as in the log.
    pub reason: &'static str,
    /// Where that is written.
    pub clause: &'static str,
}

impl Engine {
    /// Tells what would become of a request from `client` if it came now. Reads the store, asks nobody, changes nothing.
    /// Err: how it would be refused.
    pub async fn explain(
        &self,
        parts: Parts,
        client: SocketAddr,
        scheme: Scheme,
    ) -> Result<Explanation, (StatusCode, &'static str)> {
        let (method, sent) = (parts.method.clone(), parts.headers.clone());
        let host = sent.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let path = parts.uri.path().to_owned();
        let ask = Ask::new(self, parts, client, scheme, self.now(), None)
            .map_err(|refusal| (refusal.status, refusal.reason))?;
        let rules = &ask.site.model.rules;
        let view = RuleView { path: &path, host: host_of(&host), method: &method, headers: &sent };
        let said = rules.iter().zip(describe::weigh(rules, &view)).map(|(rule, outcome)| RuleSaid {
            matching: describe::matching(&rule.when),
            doing: describe::doing(rule),
            outcome,
        });
        let parts = KeyPart::read_all(ask.key.parts());
        let (verdict, selected) = self.judge(&ask).await;
        Ok(Explanation {
            generation: ask.generation,
            site: ask.site.label.to_string(),
            rules: said.collect(),
            redirect: ask.redirect(),
            key: ask.key.to_string(),
            key_parts: parts.iter().map(|part| (part.name(), part.value())).collect(),
            key_hash: ask.key_hash,
            stored: self.stored(&ask, selected.as_ref()).await,
            verdict,
            fetching: self.flights.is_joinable(&ask.key),
            known_private: self.flights.is_private(&ask.key, ask.now),
            upstreams: ask.site.upstream.order(ask.key_hash).iter().map(ToString::to_string).collect(),
        })
    }

    /// As `drive` decides, and under which key what it decides about lies.
    async fn judge(&self, ask: &Ask) -> (Verdict, Option<CacheKey>) {
        if ask.redirect().is_some() {
            let clause = "the rule's redirect";
            return (Verdict { action: "redirect", reason: "redirect", clause }, None);
        }
        if let reuse::Plan::Pass(reason) = reuse::plan(ask.view(), &ask.policy()) {
            return (Verdict { action: "pass", reason: reason.as_str(), clause: reason.clause() }, None);
        }
        let (found, action) = self.decide(ask).await;
        let located = match &found {
            Found::Object(located) | Found::Partial(located, _) | Found::Fragment(located) => Some(located),
            Found::Purged(_) | Found::NoVariant | Found::Nothing => None,
        };
        let policy = located.map_or_else(|| ask.policy(), |located| ask.policy_for(located.object.head.status));
        let clause = match (&found, located) {
            _ if self.softly_purged(ask, &found).is_some() => "a soft purge that matches came after what is stored",
            (Found::Object(_) | Found::Partial(..), Some(Located { object, .. })) => {
                reuse::judge(&object.head, ask.view(), &policy, ask.now).clause()
            }
            (Found::Fragment(_), _) => "RFC 9111 §3.3: a part that cannot be put together with others",
            (Found::Purged(_), _) => "a purge that matches came after what is stored",
            (Found::NoVariant, _) => "RFC 9111 §4.1: no stored response has these selecting fields",
            _ => "RFC 9111 §4: nothing usable is stored",
        };
        let (action, reason) = word(action);
        (Verdict { action, reason, clause }, located.map(|located| located.key.clone()))
    }

    async fn stored(&self, ask: &Ask, selected: Option<&CacheKey>) -> Vec<Stored> {
        let mut stored = Vec::new();
        match self.store.get(&ask.key).await {
            Some((StoreEntry::Object(object), tier)) => stored.push(self.said(ask, &ask.key, &object, tier, selected)),
            Some((StoreEntry::Variants(index), _)) => {
                for (_, id) in index.iter() {
                    let key = ask.key.variant(id);
                    if let Some((StoreEntry::Object(object), tier)) = self.store.get(&key).await {
                        stored.push(self.said(ask, &key, &object, tier, selected));
                    }
                }
            }
            None => {}
        }
        stored
    }

    fn said(&self, ask: &Ask, key: &CacheKey, object: &Object, tier: StoreTier, selected: Option<&CacheKey>) -> Stored {
        let head = &object.head;
        let (freshness, policy) = (&head.freshness, ask.policy_for(head.status));
        let purge = self.store.verdict(key, &head.tags, object.fence);
        Stored {
            selects: head.vary.clone(),
            selected: selected == Some(key),
            status: head.status,
            bytes: object.body.len(),
            tier: tier.as_str(),
            segments: self.store.places(object),
            freshness: freshness.clone(),
            age_ms: freshness.age_ms(ask.now),
            ttl_ms: freshness.ttl_ms(ask.now),
            stale_while_revalidate_ms: freshness.swr_ms.unwrap_or_else(|| policy.stale_while_revalidate_ms()),
            stale_if_error_ms: freshness.sie_ms.unwrap_or_else(|| policy.stale_if_error_ms()),
            rule: ask.choice.index_for(&ask.site.model.rules, head.status.as_u16()),
            tags: head.tags.iter().map(ToString::to_string).collect(),
            fence: object.fence.as_u64(),
            purged: purge.reason().zip(purge.seq()).map(|(reason, seq)| {
                let recent = self.store.recent_purges().into_iter().find(|recent| recent.seq == seq);
                PurgeSaid { reason, seq: seq.as_u64(), what: recent.map(|purge| purge.text.into()) }
            }),
        }
    }
}

fn word(action: Action) -> (&'static str, &'static str) {
    match action {
        Action::Serve { cache, reason, .. } => (cache, reason),
        Action::Fetch { reason, validate: true, .. } => ("validate", reason),
        Action::Fetch { reason, .. } | Action::FetchPart { reason, .. } => ("fetch", reason),
        Action::Complete { reason, .. } => ("complete", reason),
        Action::Pass { reason, .. } => ("pass", reason),
        Action::OnlyIfCached => ("refuse", reuse::Reuse::OnlyIfCached.as_str()),
    }
}
