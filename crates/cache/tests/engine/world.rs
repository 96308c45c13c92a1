//! An engine whose upstream and clock the test holds.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use perigee_cache::{Body, Config, Engine, Metrics, NoRecorder, Site, Snapshot};
use perigee_protocol::model::{self, CachePolicy, Rule, UpstreamPolicy};
use perigee_semantics::{policy::Tier, time::Timestamp};
use perigee_store::{Store, StoreConfig};
use perigee_upstream::{BoxFuture, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Upstream};
use prometheus_client::registry::Registry;

/// What the upstream does with a fetch.
pub(crate) type Script =
    Box<dyn Fn(FetchRequest) -> BoxFuture<'static, Result<FetchResponse, FetchError>> + Send + Sync>;

/// An upstream that does as the test says, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Scripted {
    script: Mutex<Option<Arc<Script>>>,
    asked: Mutex<Vec<(String, HeaderMap)>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn set(&self, script: Script) {
        *self.script.lock().unwrap() = Some(Arc::new(script));
    }
    pub(crate) fn fetches(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
    /// The fields of the last fetch.
    pub(crate) fn last(&self) -> HeaderMap {
        self.asked.lock().unwrap().last().unwrap().1.clone()
    }
}

impl Upstream for Scripted {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, FetchError>> {
        let line = format!("{} {}", request.method, request.target);
        self.asked.lock().unwrap().push((line, request.headers.clone()));
        let script = self.script.lock().unwrap().clone();
        match script {
            Some(script) => script(request),
            None => Box::pin(std::future::ready(Err(FetchError::new(FetchErrorKind::Connect)))),
        }
    }
}

/// One tier in memory.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) origin: Arc<Scripted>,
    clock: Arc<AtomicU64>,
    registry: Registry,
}

pub(crate) const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 4711);

impl World {
    pub(crate) async fn new(tier: Tier, cache: CachePolicy, rules: Vec<Rule>) -> Self {
        Self::over(tier, cache, rules, None, UpstreamPolicy::default()).await
    }

    /// An edge whose site knows its origin by another name.
    pub(crate) async fn behind(host_header: &str) -> Self {
        let host_header = Some(host_header.to_owned());
        Self::over(Tier::Edge, CachePolicy::default(), Vec::new(), host_header, UpstreamPolicy::default()).await
    }

    /// An edge that waits so long for its origins' first byte.
    pub(crate) async fn waiting(first_byte_timeout: std::time::Duration) -> Self {
        let upstream = UpstreamPolicy { first_byte_timeout, ..UpstreamPolicy::default() };
        Self::over(Tier::Edge, CachePolicy::default(), Vec::new(), None, upstream).await
    }

    async fn over(
        tier: Tier,
        cache: CachePolicy,
        rules: Vec<Rule>,
        host_header: Option<String>,
        upstream: UpstreamPolicy,
    ) -> Self {
        let origin = Arc::new(Scripted::default());
        let site = model::Site {
            id: "www".parse().unwrap(),
            hosts: vec!["www.example".into()],
            origins: Vec::new(),
            host_header,
            pops: None,
            all_down: Default::default(),
            tls: None,
            cache,
            upstream,
            rules,
        };
        let snapshot = Snapshot::new(7, vec![(Site::new(site, Arc::clone(&origin) as _), vec!["www.example".into()])]);
        let mut registry = Registry::default();
        let config = StoreConfig::new(32 << 20, None, 1).unwrap();
        let store = Store::open(config, &tokio::runtime::Handle::current(), &mut registry).await.unwrap();
        // Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example.
        let clock = Arc::new(AtomicU64::new(784_111_777_000));
        let reading = Arc::clone(&clock);
        let engine = Engine::new(
            Config { name: "fra".into(), loop_id: "fra.test".into(), tier, secret: None, hash_seed: 1 },
            store,
            snapshot,
            Arc::new(move || Timestamp::from_millis(reading.load(Ordering::SeqCst))),
            Arc::new(NoRecorder),
            Metrics::register(&mut registry),
        );
        Self { engine, origin, clock, registry }
    }

    pub(crate) async fn edge() -> Self {
        Self::new(Tier::Edge, CachePolicy::default(), Vec::new()).await
    }

    /// What sets the clock on from within a script, by milliseconds.
    pub(crate) fn clock(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let clock = Arc::clone(&self.clock);
        move |milliseconds| {
            clock.fetch_add(milliseconds, Ordering::SeqCst);
        }
    }

    /// As a scrape would read it.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) fn pass(&self, milliseconds: u64) {
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", "www.example");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.engine.handle(request.body(Empty::<Bytes>::new()).unwrap(), SocketAddr::from(CLIENT)).await
    }

    /// Sends, and reads the whole body; a cut one reads as `None`.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Response<()>, Option<Bytes>) {
        let (parts, body) = self.send(method, path, headers).await.into_parts();
        let body = read(body).await;
        (Response::from_parts(parts, ()), body)
    }

    /// Waits until the engine fetches nothing any more.
    pub(crate) async fn settle(&self) {
        while self.engine.flights() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The whole body, each piece let go as it comes, as a connection does; `None` if it was cut.
pub(crate) async fn read(body: Body) -> Option<Bytes> {
    read_or_cut(body).await.ok()
}

pub(crate) async fn read_or_cut(mut body: Body) -> Result<Bytes, perigee_cache::BodyError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        whole.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    Ok(whole.into())
}

/// The standing replies of a simple origin, by path; answers conditional requests by ETag.
#[derive(Default)]
pub(crate) struct Replies(pub(crate) HashMap<String, Reply>);

#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn response(&self, request: &FetchRequest) -> FetchResponse {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let etag = headers.get("etag").cloned();
        let matched = etag.is_some() && request.headers.get("if-none-match") == etag.as_ref();
        let status = if matched { 304 } else { self.status };
        let empty = matched || request.method == http::Method::HEAD;
        if !matched {
            headers.insert("content-length", self.body.len().into());
        }
        let body = if empty { Bytes::new() } else { self.body.clone() };
        FetchResponse::scripted(status.try_into().unwrap(), headers, perigee_upstream::UpstreamBody::full(body))
    }
}
