//! Answers so many hits of 1 KiB from memory, head, body, counters and log line: what `cargo xtask bench instructions`
//! counts. No socket and no hyper: those are not ours.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use perigee_cache::{Config, Engine, Metrics, Record, Recorder, Site, Snapshot};
use perigee_protocol::document;
use perigee_semantics::{policy::Tier, time::Timestamp};
use perigee_store::{Store, StoreConfig};
use perigee_upstream::{BoxFuture, FetchError, FetchRequest, FetchResponse, Upstream, UpstreamBody};
use prometheus_client::registry::Registry;

const DOCUMENT: &str = r#"version = 1
[cdn]
name = "hit"
zone = "cdn.example"
[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["192.0.2.1"]
[[site]]
id = "www"
hosts = ["www.example"]
origins = [{ url = "http://127.0.0.1:1" }]
"#;
/// Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example.
const NOW_MS: u64 = 784_111_777_000;
const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 4711);

#[derive(Debug)]
struct Origin;

impl Upstream for Origin {
    fn fetch(&self, _: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, FetchError>> {
        let headers: HeaderMap = [
            (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400")),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("1024")),
            (header::ETAG, HeaderValue::from_static("\"1\"")),
            (header::DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT")),
            (header::LAST_MODIFIED, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT")),
            (header::SERVER, HeaderValue::from_static("origin")),
        ]
        .into_iter()
        .collect();
        let response = FetchResponse::scripted(StatusCode::OK, headers, UpstreamBody::full(vec![7; 1024]));
        Box::pin(std::future::ready(Ok(response)))
    }
}

/// Writes each line where the one before stood.
#[derive(Debug, Default)]
struct Line(Mutex<Vec<u8>>);

impl Recorder for Line {
    fn record(&self, record: &Record) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.clear();
        record.write_json(&mut line);
    }
}

async fn engine() -> Result<Arc<Engine>> {
    let document = document::load("hit.toml", DOCUMENT).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let site = document.sites.into_iter().next().context("the document has a site")?;
    let hosts = site.hosts.iter().map(ToString::to_string).collect();
    let snapshot = Snapshot::new(1, vec![(Site::new(site, Arc::new(Origin)), hosts)]);
    let mut registry = Registry::default();
    let store = StoreConfig::new(32 << 20, None, 1)?;
    let store = Store::open(store, &tokio::runtime::Handle::current(), &mut registry).await?;
    let config = Config { name: "fra".into(), loop_id: "fra.hit".into(), tier: Tier::Edge, secret: None, hash_seed: 1 };
    let clock = Arc::new(|| Timestamp::from_millis(NOW_MS));
    Ok(Engine::new(config, store, snapshot, clock, Arc::new(Line::default()), Metrics::register(&mut registry)))
}

async fn ask(engine: &Arc<Engine>) -> Result<bool> {
    // What a browser sends, in short.
    let request = Request::get("/assets/app.js?v=3")
        .header(header::HOST, "www.example")
        .header(header::CONNECTION, "keep-alive")
        .header(header::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_LANGUAGE, "en-US,en;q=0.5")
        .header(header::ACCEPT_ENCODING, "gzip, deflate, br, zstd")
        .header(header::REFERER, "http://www.example/")
        .body(Empty::<Bytes>::new())?;
    let (head, body) = engine.handle(request, SocketAddr::from(CLIENT)).await.into_parts();
    let body = body.collect().await?.to_bytes();
    ensure!(head.status == StatusCode::OK && body.len() == 1024, "{} with {} bytes", head.status, body.len());
    Ok(head.headers.get("cache-status").is_some_and(|status| status.as_bytes().starts_with(b"fra; hit")))
}

fn main() -> Result<()> {
    let hits: u64 = std::env::args().nth(1).context("takes a number of hits")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = engine().await?;
        ask(&engine).await?;
        while engine.flights() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..hits {
            ensure!(ask(&engine).await?, "no hit");
        }
        Ok(())
    })
}
