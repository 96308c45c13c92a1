//! The demo's origin: a small site with real assets, and addresses that behave in ways worth caching.
//!
//! Deliberately absent: anything of the CDN's own caching rules. This is the other side; what it gets right or wrong
//! must not depend on the code that it is there to show.

mod body;
pub(crate) mod command;
mod conditions;
mod generated;
mod picture;
mod reply;
mod site;
mod stats;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, SERVER},
};
use perigee_node::{
    clock,
    http::{Connection, Content, HttpService, Limits, Serving, serve},
    listen::{ListenError, Listeners},
    metrics::ConnectionMetrics,
    runtimes::Runtimes,
};

use self::{
    body::Body,
    reply::{Ask, reply},
    site::{SEED, Site},
    stats::Stats,
};

/// Where the counters are, as JSON. Asking does not count.
pub(crate) const STATS_PATH: &str = "/.origin/stats";
/// What `--probe` asks. Asking does not count.
const HEALTH_PATH: &str = "/healthz";

/// An origin that answers until it is drained.
#[derive(Debug)]
pub(crate) struct Origin {
    serving: Serving,
    service: Arc<Service>,
}

#[derive(Debug)]
struct Service {
    site: Site,
    stats: Stats,
}

impl Origin {
    /// Paints the site and listens.
    pub(crate) fn start(listen: &[SocketAddr], runtimes: &Runtimes) -> Result<Self, ListenError> {
        let listeners = Listeners::bind(listen, runtimes.threads())?;
        let service = Arc::new(Service { site: Site::new(SEED), stats: Stats::default() });
        let serving =
            serve(runtimes, listeners, Arc::clone(&service), &Limits::default(), ConnectionMetrics::default());
        Ok(Self { serving, service })
    }

    /// Where it listens, with real ports.
    pub(crate) fn local_addrs(&self) -> &[SocketAddr] {
        self.serving.local_addrs()
    }

    /// Requests that reached it.
    pub(crate) fn requests(&self) -> u64 {
        self.service.stats.counts().requests
    }

    /// Tells how many have reached it, also to those who outlive it.
    pub(crate) fn counter(&self) -> impl Fn() -> u64 + Send + use<> {
        let service = Arc::clone(&self.service);
        move || service.stats.counts().requests
    }

    /// Lets requests in flight finish, for at most `bound`.
    pub(crate) async fn drain(&self, bound: Duration) {
        self.serving.drain(bound).await;
    }
}

impl HttpService for Service {
    type Body = Body;

    async fn call(&self, request: Request<Content>, _: &Arc<Connection>) -> Response<Body> {
        let path = request.uri().path();
        let mut response = match path {
            HEALTH_PATH => own("text/plain", Bytes::from_static(b"ok\n")),
            STATS_PATH => own("application/json", serde_json::to_vec(&self.stats.counts()).unwrap_or_default().into()),
            path => {
                let serial = self.stats.arrived(path);
                let (method, headers) = (request.method(), request.headers());
                let answer = reply(&self.site, &Ask { method, path, headers, now_ms: clock::now_ms(), serial });
                tokio::time::sleep(answer.delay).await;
                self.stats.answered(answer.response.status());
                answer.response
            }
        };
        response.headers_mut().insert(SERVER, HeaderValue::from_static("perigee-demo-origin"));
        response
    }
}

fn own(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
