//! The demo's page: every node's figures on one map. Questions and purges go on to the node that they are for, since a
//! browser may ask only the server that a page came from.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use perigee_node::{
    admin::{AdminServing, problem},
    page::{self, Feed, Source, Told},
    runtimes::Runtimes,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::layout::Layout;
use crate::status::{client, read};

/// The demo's page at work.
#[derive(Debug)]
pub(crate) struct Page(AdminServing);

impl Page {
    /// Serves the figures of `feeds`, by node, and of the origin, of which `origin` tells the requests.
    pub(crate) fn start(
        layout: &Layout,
        feeds: Vec<(String, Arc<Feed>)>,
        origin: impl Fn() -> u64 + Send + 'static,
        runtimes: &Runtimes,
    ) -> anyhow::Result<Self> {
        let heard = feeds.iter().map(|(_, feed)| Heard { feed: feed.listen(), last: String::new() }).collect();
        let feed = Feed::start(&runtimes.control, FleetPage { heard, origin });
        let passing = Passing { nodes: Arc::new(admins(layout)), client: client().context("an HTTP client")? };
        let routes = Router::new()
            .route("/v1/at/{node}/explain/http", get(pass))
            .route("/v1/at/{node}/explain/dns", get(pass))
            .route("/v1/at/{node}/purge", axum::routing::post(pass))
            .with_state(passing)
            .merge(page::routes(Arc::clone(&feed)));
        let serving = AdminServing::start(&runtimes.control, layout.page, routes, Some(feed))
            .with_context(|| format!("the page cannot be served at {}; try another --page-port", layout.page))?;
        Ok(Self(serving))
    }

    /// Ends the streams of open pages, and the page.
    pub(crate) async fn end(self) {
        self.0.end().await;
    }
}

/// Where each node's admin API is.
fn admins(layout: &Layout) -> BTreeMap<String, SocketAddr> {
    let edges = layout.edges.iter().map(|edge| (edge.city.id.to_owned(), edge.admin));
    let others = layout.shields.iter().chain(&layout.nameservers).map(|server| (server.id.clone(), server.admin));
    edges.chain(others).collect()
}

struct Heard {
    feed: watch::Receiver<Told>,
    last: String,
}

impl Heard {
    /// What the node told last; once it has ended: the same, marked.
    fn told(&mut self) -> &str {
        match &*self.feed.borrow_and_update() {
            Told::Quiet => {}
            Told::Figures(line) => self.last = line.to_string(),
            Told::Closed => {
                if let Ok(Value::Object(mut last)) = serde_json::from_str(&self.last) {
                    last.insert("ended".into(), true.into());
                    self.last = Value::Object(last).to_string();
                }
            }
        }
        &self.last
    }
}

struct FleetPage<F> {
    heard: Vec<Heard>,
    origin: F,
}

impl<F: Fn() -> u64 + Send + 'static> Source for FleetPage<F> {
    fn tick(&mut self, _now_ms: u64) {}

    fn tell(&mut self, _now_ms: u64) -> String {
        let origin =
            json!({ "node": "origin", "tier": "origin", "total": { "requests": (self.origin)() } }).to_string();
        let nodes = self.heard.iter_mut().map(|heard| heard.told().to_owned());
        let told: Vec<String> = nodes.filter(|line| !line.is_empty()).chain([origin]).collect();
        format!("[{}]", told.join(","))
    }
}

#[derive(Clone)]
struct Passing {
    nodes: Arc<BTreeMap<String, SocketAddr>>,
    client: reqwest::Client,
}

/// Hands a question, or a purge with its token, to the admin API of a node of the demo, and its answer back.
async fn pass(
    State(passing): State<Passing>,
    Path(node): Path<String>,
    method: Method,
    uri: axum::http::Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(admin) = passing.nodes.get(&node) else {
        return problem(StatusCode::NOT_FOUND, "unknown-node", &format!("the demo has no node {node:?}"));
    };
    // One of the three routes' ends, and nothing else of the path.
    let asked = uri.path().splitn(5, '/').nth(4).unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("http://{admin}/v1/{asked}{query}");
    let mut request = passing.client.request(method, &url).body(body);
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let answered = async { read(&url, request.send().await?).await };
    match answered.await {
        Ok((status, body)) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => problem(StatusCode::BAD_GATEWAY, "node-away", &format!("{node} does not answer: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::layout::tests::layout;

    #[test]
    fn every_node_has_an_admin_api_of_its_name() {
        let admins = admins(&layout(&[]));
        assert_eq!(admins.len(), 12);
        for (node, expected) in
            [("tyo", "127.81.0.80:9100"), ("shield-west", "127.0.0.81:9100"), ("ns2", "127.0.0.54:9100")]
        {
            assert_eq!(admins.get(node).map(ToString::to_string).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_a_node_told_last_stays_when_it_has_ended() {
        let (told, feed) = watch::channel(Told::Quiet);
        let mut fleet = FleetPage { heard: vec![Heard { feed, last: String::new() }], origin: || 7 };
        let mut check = |expected: Value| {
            let found: Value = serde_json::from_str(&fleet.tell(0)).unwrap();
            assert_eq!(found, expected);
        };
        let origin = json!({ "node": "origin", "tier": "origin", "total": { "requests": 7 } });
        check(json!([origin]));
        told.send_replace(Told::Figures("{\"node\":\"a\"}".into()));
        check(json!([{ "node": "a" }, origin]));
        told.send_replace(Told::Closed);
        check(json!([{ "node": "a", "ended": true }, origin]));
        check(json!([{ "node": "a", "ended": true }, origin]));
    }
}
