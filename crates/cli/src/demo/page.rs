//! The demo's page: every node's figures on one map. Questions and purges go on to the node that they are for, since a
//! browser may ask only the server that a page came from.

use std::{collections::BTreeMap, error::Error as _, net::SocketAddr, sync::Arc};

use anyhow::anyhow;
use perigee_node::{
    admin::{AdminServing, guard::guarded},
    page::{self, Feed, Source, Told},
    runtimes::Runtimes,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::layout::Layout;

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
        let heard =
            |(id, feed): &(String, Arc<Feed>)| Heard { id: id.clone(), feed: feed.listen(), last: String::new() };
        let heard = feeds.iter().map(heard).collect();
        let feed = Feed::start(&runtimes.control, FleetPage { heard, origin });
        let routes = page::passing(Arc::new(admins(layout))).merge(page::routes(Arc::clone(&feed)));
        let serving =
            AdminServing::start(&runtimes.control, layout.page, guarded(routes, &[]), vec![feed]).map_err(|error| {
                // Its own advice is for a server's flags; the cause alone is told.
                let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                anyhow!("the page cannot be served; try another --page-port: {cause}")
            })?;
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
    id: String,
    feed: watch::Receiver<Told>,
    last: String,
}

impl Heard {
    /// What the node told last; once it has ended: the same, marked.
    fn told(&mut self) -> &str {
        match &*self.feed.borrow_and_update() {
            Told::Quiet => {}
            Told::Figures(line) => self.last = with(line, "at", json!(self.id)),
            Told::Closed => self.last = with(&self.last, "ended", json!(true)),
        }
        &self.last
    }
}

/// The JSON object with one member more; anything else as it is.
fn with(line: &str, name: &str, value: Value) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut object)) => {
            object.insert(name.to_owned(), value);
            Value::Object(object).to_string()
        }
        _ => line.to_owned(),
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
        let mut fleet = FleetPage { heard: vec![Heard { id: "a".into(), feed, last: String::new() }], origin: || 7 };
        let mut check = |expected: Value| {
            let found: Value = serde_json::from_str(&fleet.tell(0)).unwrap();
            assert_eq!(found, expected);
        };
        let origin = json!({ "node": "origin", "tier": "origin", "total": { "requests": 7 } });
        check(json!([origin]));
        told.send_replace(Told::Figures("{\"node\":\"a\"}".into()));
        check(json!([{ "node": "a", "at": "a" }, origin]));
        told.send_replace(Told::Closed);
        check(json!([{ "node": "a", "at": "a", "ended": true }, origin]));
        check(json!([{ "node": "a", "at": "a", "ended": true }, origin]));
    }
}
