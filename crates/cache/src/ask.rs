//! One request as the engine sees it: guarded, routed, keyed, and cleaned for its way upstream.

use std::{net::SocketAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts, uri::PathAndQuery,
};
use perigee_protocol::{
    headers::{AGE_MS, KEY_AUTHORITY, KEY_SCHEME, PROOF, RULE, SITE},
    model::{HeaderRules, Rule, Scheme},
};
use perigee_semantics::{
    head::StoredHead,
    headers as fields, invalidate,
    key::{CacheKey, normalise_query},
    policy::{Policy, Tier},
    request::{RequestView, guard},
    rules::{self, Choice, Client, RuleView},
    storable::{Admission, Times, admit_post},
    time::Timestamp,
    trace::TraceId,
    vary,
};
use perigee_store::FillId;
use perigee_upstream::{Claims, FetchRequest, FetchResponse, Interim, Network, Observer, RequestBody};
use tracing::field::{DisplayValue, display};

use crate::{
    engine::{Config, Engine},
    snapshot::{Site, host_of},
    trace::{Fetch, Trace, Untraced},
};

/// A request that may be served.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) site: Arc<Site>,
    /// Which of the site's rules are this request's.
    pub(crate) choice: Choice,
    pub(crate) tier: Tier,
    pub(crate) key: CacheKey,
    pub(crate) key_hash: u64,
    /// Of the key, where it is neither the client's nor the site's own: a peer said so.
    peer_key_authority: Option<String>,
    pub(crate) method: Method,
    /// As the client sent them, without hop-by-hop and internal fields.
    pub(crate) headers: HeaderMap,
    target: PathAndQuery,
    /// Without what is not keyed, where that differs: it must not shape what is stored.
    keyed_target: Option<PathAndQuery>,
    /// Who asked, and how: for the fields that say so upstream.
    client: SocketAddr,
    version: Version,
    /// How the client asked the edge.
    scheme: Scheme,
    authority: String,
    pub(crate) now: Timestamp,
    pub(crate) generation: u64,
    /// The proof that a peer sent; `None` for clients.
    pub(crate) peer_proof: Option<String>,
    /// Where interim responses go that come while this is fetched.
    pub(crate) interim: Option<Interim>,
    /// Whether Cache-Status says the key.
    pub(crate) debug: bool,
    /// Its part in a trace.
    pub(crate) trace: Option<Arc<Trace>>,
    /// Whether anything is traced here.
    may_trace: bool,
}

/// A request that is answered at once, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) site: Option<Arc<Site>>,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, site: None }
    }
}

/// Members of CDN-Loop, of any CDN, after which a request is taken for a loop.
const CDN_LOOP_MAX: usize = 16;

/// Request fields that ask something of a cache's stored response, so that a fetch for the cache goes without them.
const CONDITIONS: [HeaderName; 6] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

impl Ask {
    pub(crate) fn new(
        engine: &Engine,
        parts: Parts,
        client: SocketAddr,
        scheme: Scheme,
        now: Timestamp,
        interim: Option<Interim>,
    ) -> Result<Arc<Self>, Refusal> {
        let normal = guard(&parts).map_err(|error| Refusal::new(error.status, error.reason))?;
        let authority = normal.authority.into_owned();
        let target = match parts.uri.path_and_query() {
            Some(target) if target.as_str().starts_with('/') => target.clone(),
            _ => self::target(normal.path, normal.query)?,
        };
        let config = &engine.config;
        let snapshot = engine.snapshot();
        let peer = verify_peer(engine, &parts, now);

        let site = match &peer {
            Some(peer) => snapshot.by_id(&peer.site).or_else(|| snapshot.by_authority(&authority)),
            None => snapshot.by_authority(&authority),
        };
        let Some(site) = site.cloned() else {
            // RFC 9110 §15.5.20: this server does not answer for that authority.
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host"));
        };
        // RFC 8586 §2: our own id in CDN-Loop means that the request came round.
        let seen = fields::Survey::of(&parts.headers);
        if seen.cdn_loop && fields::check_cdn_loop(&parts.headers, &config.loop_id, CDN_LOOP_MAX).is_err() {
            return Err(Refusal { status: StatusCode::LOOP_DETECTED, reason: "cdn-loop", site: Some(site) });
        }

        let tracer = engine.tracer.get();
        let trace =
            tracer.and_then(|tracer| Trace::begin(tracer, (&parts.headers, client.ip(), scheme), peer.is_some()));
        let debug = seen.internal && engine.may_debug(&parts.headers);
        let Parts { method, mut headers, version, .. } = parts;
        if seen.hop_by_hop {
            fields::strip_hop_by_hop(&mut headers);
        }
        if seen.internal {
            fields::strip_internal(&mut headers);
        }
        headers.remove(header::HOST);

        let (path, query) = (target.path(), target.query());
        let rules = &site.model.rules;
        let told = peer.as_ref().map(|peer| peer.rule.as_deref().unwrap_or_default());
        let known = told.map(|claim| Choice::from_claim(claim, site.rules_fingerprint, rules));
        let stranger = told.filter(|_| known == Some(None));
        let choice = match known.flatten() {
            Some(choice) => choice,
            None if rules.is_empty() => Choice::default(),
            None => {
                Choice::new(rules, &RuleView { path, host: host_of(&authority), method: &method, headers: &headers })
            }
        };
        let rule = choice.rule(rules);
        let from = if peer.is_some() {
            Client::Peer
        } else {
            Client::Outside(rule.and_then(|rule| snapshot.country(client.ip(), rule)))
        };
        let mut parts = rule.map(|rule| rules::prepare(rule, &method, from, &mut headers)).unwrap_or_default();
        if let Some(claim) = stranger {
            rules::key_of_strangers(claim, &mut parts);
        }
        let policy = Policy { cache: &site.model.cache, rule: rule.map(|rule| &rule.cache), tier: config.tier };
        let keyed_query = normalise_query(query, &policy);
        let keyed_target =
            if keyed_query.as_deref() == query { None } else { Some(self::target(path, keyed_query.as_deref())?) };
        let peer_key_authority = peer.as_ref().map(|peer| peer.key_authority.clone());
        let key_authority = peer_key_authority.as_deref().or(site.model.host_header.as_deref()).unwrap_or(&authority);
        let scheme = peer.as_ref().map_or(scheme, |peer| peer.key_scheme);
        let key = CacheKey::new(&site.model.id, scheme, key_authority, path, query, &policy).with_parts(&parts);
        Ok(Arc::new(Self {
            key_hash: key.hash64(engine.config.hash_seed),
            key,
            choice,
            tier: config.tier,
            peer_key_authority,
            client,
            version,
            scheme,
            authority,
            method,
            headers,
            target,
            keyed_target,
            now,
            generation: snapshot.generation,
            peer_proof: peer.map(|peer| peer.proof),
            interim,
            debug,
            trace,
            may_trace: tracer.is_some(),
            site,
        }))
    }

    /// For log lines.
    pub(crate) fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.trace.as_ref().map(|trace| display(trace.id()))
    }

    /// What the rules would be if the request had another method.
    fn choice_for(&self, method: &Method) -> Choice {
        let rules = &self.site.model.rules;
        let (path, host) = (self.target.path(), host_of(&self.authority));
        Choice::new(rules, &RuleView { path, host, method, headers: &self.headers })
    }

    fn key_authority(&self) -> &str {
        self.peer_key_authority.as_deref().unwrap_or(self.host())
    }

    /// What is sent as Host.
    fn host(&self) -> &str {
        self.site.model.host_header.as_deref().unwrap_or(&self.authority)
    }

    /// What the client called the origin: a peer hands it on.
    fn client_authority(&self) -> &str {
        let told = self.headers.get(fields::X_FORWARDED_HOST).filter(|_| self.peer_proof.is_some());
        told.and_then(|host| host.to_str().ok()).unwrap_or(&self.authority)
    }

    fn rule(&self) -> Option<&Rule> {
        self.choice.rule(&self.site.model.rules)
    }

    /// What the rule of a response with that status says of its fields.
    pub(crate) fn header_rules(&self, status: StatusCode) -> Option<&HeaderRules> {
        self.choice.rule_for(&self.site.model.rules, status.as_u16()).map(|rule| &rule.headers)
    }

    /// For what is decided without a response.
    pub(crate) fn policy(&self) -> Policy<'_> {
        self.policy_by(self.rule())
    }

    /// For what is decided about a response with that status, stored or just come.
    pub(crate) fn policy_for(&self, status: StatusCode) -> Policy<'_> {
        let policy = self.policy();
        // What passes is not stored, whatever its status.
        if policy.is_pass() {
            policy
        } else {
            self.policy_by(self.choice.rule_for(&self.site.model.rules, status.as_u16()))
        }
    }

    /// Every policy by which a URL of the site may have been keyed, by whatever request: they differ in the query.
    pub(crate) fn policies(&self) -> Vec<Policy<'_>> {
        let mut policies = vec![self.policy_by(None)];
        for rule in &self.site.model.rules {
            let policy = self.policy_by(Some(rule));
            let keys_alike =
                |other: &Policy<'_>| other.ignores_query() == policy.ignores_query() && other.query() == policy.query();
            if !policies.iter().any(keys_alike) {
                policies.push(policy);
            }
        }
        policies
    }

    fn policy_by<'a>(&'a self, rule: Option<&'a Rule>) -> Policy<'a> {
        Policy { cache: &self.site.model.cache, rule: rule.map(|rule| &rule.cache), tier: self.tier }
    }

    /// Where the request's rule sends the client instead: status and Location.
    pub(crate) fn redirect(&self) -> Option<(StatusCode, HeaderValue)> {
        if let Some(location) = self.https_location() {
            return Some((StatusCode::PERMANENT_REDIRECT, location));
        }
        let redirect = self.rule().filter(|_| self.peer_proof.is_none())?.redirect.as_ref()?;
        let location = rules::location(redirect, &self.authority, self.target.path(), self.target.query())?;
        Some((StatusCode::from_u16(redirect.status).ok()?, location))
    }

    /// Where `site.tls.redirect` sends a client that asked over `http`: the same URL at the scheme's own port.
    fn https_location(&self) -> Option<HeaderValue> {
        let wanted = self.site.model.tls.as_ref().is_some_and(|tls| tls.redirect);
        let host = host_of(&self.authority);
        if !wanted || self.scheme == Scheme::Https || self.peer_proof.is_some() || host.is_empty() {
            return None;
        }
        HeaderValue::from_str(&format!("https://{host}{}", self.target)).ok()
    }

    pub(crate) fn view(&self) -> RequestView<'_> {
        RequestView { method: &self.method, headers: &self.headers }
    }

    /// A fill of what is asked for, on its site's account.
    pub(crate) fn begin(&self, engine: &Engine) -> FillId {
        engine.store.begin_for(&self.key, self.site.model.cache.admission)
    }

    /// The URL that an unsafe method may have changed.
    pub(crate) fn invalidation(&self) -> invalidate::Target<'_> {
        invalidate::Target {
            site: &self.site.model.id,
            scheme: self.scheme,
            authority: self.key_authority(),
            client_authority: self.client_authority(),
            path: self.target.path(),
            query: self.target.query(),
        }
    }

    /// The head under which a response to POST answers later GETs (RFC 9110 §9.3.3), if it may.
    pub(crate) fn representation(&self, response: &FetchResponse, times: Times) -> Option<StoredHead> {
        // What is not keyed went to the origin with the POST, and may have shaped what it answered.
        if self.method != Method::POST || self.keyed_target.is_some() {
            return None;
        }
        // A GET may have another rule, or lose the cookies that this shaped the answer by.
        if self.choice != self.choice_for(&Method::GET) || !self.key.parts().is_empty() {
            return None;
        }
        // They go on with a POST, which may need them, and the origin may have answered for another URL or method.
        if fields::has_misleading(&self.headers, |name| self.vouches_for(name)) {
            return None;
        }
        let FetchResponse { status, headers, trusted_age_ms, .. } = response;
        let policy = self.policy_for(*status);
        match admit_post(self.view(), *status, headers, self.invalidation(), &policy, times, *trusted_age_ms) {
            Admission::Store(head) => Some(*head),
            Admission::DoNot(_) => None,
        }
    }

    /// The request for what the cache will store: a GET without the client's own conditions and range.
    pub(crate) fn fetch_whole(&self, engine: &Engine, conditions: Vec<(HeaderName, HeaderValue)>) -> FetchRequest {
        let mut headers = self.headers.clone();
        for name in &CONDITIONS {
            headers.remove(name);
        }
        for (name, value) in conditions {
            headers.insert(name, value);
        }
        vary::normalise_request(&mut headers);
        let target = self.keyed_target.as_ref().unwrap_or(&self.target).clone();
        self.fetch(engine, Method::GET, target, headers, None)
    }

    /// The request for the head of what is stored, in the form that is keyed.
    pub(crate) fn fetch_head(&self, engine: &Engine) -> FetchRequest {
        FetchRequest { method: Method::HEAD, ..self.fetch_whole(engine, Vec::new()) }
    }

    /// The client's request as it stands.
    pub(crate) fn fetch_as_asked(&self, engine: &Engine, body: Option<RequestBody>) -> FetchRequest {
        self.fetch(engine, self.method.clone(), self.target.clone(), self.headers.clone(), body)
    }

    /// Adds what this hop says of itself and of its client.
    fn fetch(
        &self,
        engine: &Engine,
        method: Method,
        target: PathAndQuery,
        mut headers: HeaderMap,
        body: Option<RequestBody>,
    ) -> FetchRequest {
        let Config { name, loop_id, .. } = &engine.config;
        fields::append_via(&mut headers, self.version, name);
        fields::append_cdn_loop(&mut headers, loop_id);
        let from_peer = self.peer_proof.is_some();
        if !from_peer && matches!(method, Method::GET | Method::HEAD) {
            fields::strip_misleading(&mut headers, |name| self.vouches_for(name));
        }
        fields::append_forwarded(&mut headers, self.client.ip(), &self.authority, self.scheme, from_peer);
        FetchRequest {
            method,
            target,
            // The guard let no byte through that a field value cannot have.
            host: HeaderValue::from_str(self.host()).unwrap_or_else(|_| HeaderValue::from_static("")),
            headers,
            body,
            network: Some(self.network()),
            key_hash: self.key_hash,
            shield_claims: Some(Claims {
                site: self.site.model.id.clone(),
                key_authority: self.key_authority().to_owned(),
                key_scheme: self.scheme,
                rule: self.choice.claim(self.site.rules_fingerprint),
            }),
            interim: self.interim.clone(),
            observer: self.observer(),
        }
    }

    /// Who asked: at a shield, whom the edge says that it asks for.
    fn network(&self) -> Network {
        let told =
            self.headers.get_all(fields::X_FORWARDED_FOR).iter().next_back().filter(|_| self.peer_proof.is_some());
        let last = told.and_then(|list| list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        Network::of(last.unwrap_or_else(|| self.client.ip()))
    }

    /// Whether what a request says in a field is its site's own doing, or can mislead nobody else.
    fn vouches_for(&self, name: &HeaderName) -> bool {
        let Some(Rule { cache, request_headers: HeaderRules { set, add, .. }, .. }) = self.rule() else { return false };
        cache.pass || cache.key.headers.contains(name) || set.iter().chain(add).any(|(said, _)| said == name)
    }

    /// Who watches what is fetched for this request.
    fn observer(&self) -> Option<Arc<dyn Observer>> {
        match &self.trace {
            Some(trace) => Some(Arc::new(Fetch::new(trace))),
            None => self.may_trace.then(|| Arc::new(Untraced) as Arc<dyn Observer>),
        }
    }
}

struct PeerClaims {
    site: String,
    key_authority: String,
    key_scheme: Scheme,
    rule: Option<String>,
    proof: String,
}

/// A peer's claims, if the request proves the fleet's secret; see `perigee_protocol::proof`.
fn verify_peer(engine: &Engine, parts: &Parts, now: Timestamp) -> Option<PeerClaims> {
    let secret = engine.config.secret.as_ref()?;
    let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let (proof, site, key_authority) = (text(&PROOF)?, text(&SITE)?, text(&KEY_AUTHORITY)?);
    let key_scheme = if text(&KEY_SCHEME)? == Scheme::Https.as_str() { Scheme::Https } else { Scheme::Http };
    let rule = text(&RULE);
    let target = parts.uri.path_and_query()?.as_str();
    let mut said = vec![site, key_authority, key_scheme.as_str()];
    said.extend(rule);
    secret.verify_request(proof, now.as_millis(), parts.method.as_str(), target, &said).then(|| PeerClaims {
        site: site.into(),
        key_authority: key_authority.into(),
        key_scheme,
        rule: rule.map(Into::into),
        proof: proof.into(),
    })
}

fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::try_from(text).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "invalid-target"))
}

/// Says a peer how old the response is, in milliseconds, and proves it.
pub(crate) fn vouch(engine: &Engine, ask: &Ask, age_ms: u64, headers: &mut HeaderMap) {
    let (Some(secret), Some(proof)) = (&engine.config.secret, &ask.peer_proof) else {
        return;
    };
    let age = age_ms.to_string();
    let answer = secret.prove_response(proof, &[&age]);
    if let (Ok(age), Ok(answer)) = (HeaderValue::from_str(&age), HeaderValue::from_str(&answer)) {
        headers.insert(AGE_MS, age);
        headers.insert(PROOF, answer);
    }
}
