//! The page to watch a node by: `GET /` of the admin API, its assets, and `GET /v1/live`, which tells the node's figures
//! once a second as server-sent events.
//!
//! Assets are in the binary, so that it works where there is no Internet. What is told comes from a [`Source`] on the
//! control runtime; the data path adds at most [`samples::SAMPLES_MAX`] samples a second and else looks at one number.
//!
//! A server that is told of other nodes' admin listeners shows theirs beside its own ([`PageOptions`]).
//!
//! Deliberately absent: query strings of URLs, which may hold secrets, and whatever a token guards: reading the page needs none.

mod events;
mod feed;
mod fleet;
mod hear;
mod history;
mod map;
mod pass;
mod samples;
mod sketch;
mod told;

use std::{net::SocketAddr, sync::Arc};

use ::http::{HeaderValue, header};
use axum::{
    Router,
    http::HeaderName,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::runtime::Handle;

pub use self::{
    feed::{CLIENTS_MAX, Feed, INTERVAL, Source, Told},
    fleet::{NODES_MAX, PageOptions},
    history::{Count, History},
    map::{Map, of_node, world},
    pass::routes as passing,
    samples::{SAMPLES_MAX, Samples},
    sketch::Sketch,
};

const HTML: &str = include_str!("page/assets/index.html");
const CSS: &str = include_str!("page/assets/page.css");
const SCRIPTS: [(&str, &str); 4] = [
    ("/page/page.js", include_str!("page/assets/page.js")),
    ("/page/map.js", include_str!("page/assets/map.js")),
    ("/page/ask.js", include_str!("page/assets/ask.js")),
    ("/page/figures.js", include_str!("page/assets/figures.js")),
];
/// Natural Earth's land at 1:110 million (public domain) as an SVG path: equirectangular, a fifth of a degree a unit. `land.mjs` made it.
const LAND: &str = include_str!("page/assets/land.path");

/// Nothing but what this server has, and nobody frames it: a click on purge is meant.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and `/v1/live` of `own` alone; with other nodes, of all of them, which questions and purges are handed on to.
///
/// # Errors
///
/// Too many nodes, in words.
pub fn of_nodes(control: &Handle, own: Option<Arc<Feed>>, nodes: &[SocketAddr]) -> Result<(Arc<Feed>, Router), String> {
    if let (Some(own), []) = (&own, nodes) {
        return Ok((Arc::clone(own), routes(Arc::clone(own))));
    }
    let shown = fleet::start(control, own.clone(), nodes)?;
    let own = own.unwrap_or_else(|| Arc::clone(&shown));
    let router = routes_of(Arc::clone(&shown), own).merge(passing(fleet::by_address(nodes)));
    Ok((shown, router))
}

/// The page, its assets, and `/v1/live` from `feed`.
pub fn routes(feed: Arc<Feed>) -> Router {
    routes_of(Arc::clone(&feed), feed)
}

fn routes_of(shown: Arc<Feed>, own: Arc<Feed>) -> Router {
    let mut router = Router::new()
        .route("/", get(async || asset("text/html; charset=utf-8", HTML)))
        .route("/page/page.css", get(async || asset("text/css; charset=utf-8", CSS)))
        .route("/page/land.path", get(async || asset("text/plain; charset=utf-8", LAND)));
    for (path, script) in SCRIPTS {
        router = router.route(path, get(async move || asset("text/javascript; charset=utf-8", script)));
    }
    router.merge(feed::routes(shown, own))
}

fn asset(content_type: &'static str, body: &'static str) -> Response {
    let fields: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // After an upgrade the old script must not meet the new figures.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let mut response = body.into_response();
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
