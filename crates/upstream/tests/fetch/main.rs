//! Fetches over real sockets against scripted origins.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod bodies;
mod connections;
mod early;
mod failures;
mod selection;
mod shields;
mod tls;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use perigee_protocol::{
    model::{CachePolicy, Origin, Scheme, Shield, ShieldProtocol, Site, UpstreamPolicy, UpstreamTls, Url},
    proof::FleetSecret,
};
use perigee_testkit::{TestClock, patiently};
use perigee_upstream::{
    FetchError, FetchErrorKind, FetchRequest, FetchResponse, Fleet, FleetContext, Metrics, StaticResolver, Trust,
    Upstream, UpstreamBody,
};
use prometheus_client::registry::Registry;

/// A site's fleet, with a clock that stands still and metrics to read.
struct World {
    fleet: Arc<Fleet>,
    clock: TestClock,
    registry: Registry,
}

/// What a world is made of.
struct Setup {
    origins: Vec<Origin>,
    shields: Vec<Shield>,
    pop: &'static str,
    policy: UpstreamPolicy,
    secret: Option<&'static str>,
    trust: Trust,
}

fn url(text: &str) -> Url {
    let (scheme, rest) = match text.strip_prefix("https://") {
        Some(rest) => (Scheme::Https, rest),
        None => (Scheme::Http, text.strip_prefix("http://").unwrap()),
    };
    let (host, port) = rest.rsplit_once(':').unwrap();
    Url { scheme, host: host.into(), port: port.parse().unwrap() }
}

fn origin(at: &str) -> Origin {
    Origin { url: url(at), weight: 1, backup: false }
}

fn backup(at: &str) -> Origin {
    Origin { backup: true, ..origin(at) }
}

fn shield(id: &str, at: &str, pop: &str) -> Shield {
    Shield {
        id: id.parse().unwrap(),
        url: url(at),
        pops: vec![pop.parse().unwrap()],
        protocol: ShieldProtocol::default(),
        tls: UpstreamTls::default(),
    }
}

impl Default for Setup {
    /// Time-outs that no test waits for.
    fn default() -> Self {
        let long = Duration::from_secs(60);
        let policy = UpstreamPolicy {
            connect_timeout: long,
            first_byte_timeout: long,
            between_bytes_timeout: long,
            ..UpstreamPolicy::default()
        };
        Self { origins: Vec::new(), shields: Vec::new(), pop: "fra", policy, secret: None, trust: Trust::default() }
    }
}

impl Setup {
    fn of(origins: Vec<Origin>) -> Self {
        Self { origins, ..Self::default() }
    }

    fn policy(mut self, change: impl FnOnce(&mut UpstreamPolicy)) -> Self {
        change(&mut self.policy);
        self
    }

    fn build(self) -> World {
        let site = Site {
            id: "www".parse().unwrap(),
            hosts: vec!["shop.example".into()],
            origins: self.origins,
            host_header: None,
            pops: None,
            all_down: Default::default(),
            tls: None,
            cache: CachePolicy::default(),
            upstream: self.policy,
            rules: Vec::new(),
        };
        let (clock, mut registry) = (TestClock::default(), Registry::default());
        let context = FleetContext {
            secret: self.secret.map(|text| FleetSecret::new(text.as_bytes()).unwrap()),
            trust: self.trust,
            resolver: Arc::new(StaticResolver::default()),
            clock: clock.as_fn(),
            metrics: Metrics::register(&mut registry),
        };
        let pop = self.pop.parse().unwrap();
        let fleet = Arc::new(Fleet::for_site(&site, &self.shields, Some(&pop), &context));
        World { fleet, clock, registry }
    }
}

fn request(method: Method, target: &str) -> FetchRequest {
    let host = HeaderValue::from_static("shop.example");
    FetchRequest { method, ..FetchRequest::get(host, target.parse().unwrap(), 1) }
}

fn get(target: &str) -> FetchRequest {
    request(Method::GET, target)
}

impl World {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, FetchError> {
        patiently("a fetch", self.fleet.fetch(request)).await
    }

    /// Fetches and reads it all.
    async fn read(&self, request: FetchRequest) -> String {
        let response = self.fetch(request).await.unwrap();
        String::from_utf8(whole(response.body).await.unwrap()).unwrap()
    }

    async fn fails(&self, request: FetchRequest) -> FetchErrorKind {
        self.fetch(request).await.expect_err("the fetch fails").kind()
    }

    /// The value of the first series of that name.
    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("perigee_upstream_{name}{{")));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse().unwrap())
    }
}

async fn whole(body: UpstreamBody) -> Result<Vec<u8>, FetchError> {
    Ok(patiently("a body", body.collect()).await?.to_bytes().to_vec())
}
