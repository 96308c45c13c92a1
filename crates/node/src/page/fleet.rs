//! A page of several nodes: this server's own figures, if it is a node, beside those of other nodes, which are heard over
//! their admin listeners while somebody looks.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::watch};

use super::{
    feed::{Feed, Source, Told},
    hear::{Heard, Last, Peer},
    told::{Node, World},
};
use crate::clock;

/// Nodes that one page shows.
pub const NODES_MAX: usize = 256;
/// So long after the last look nodes are listened to, so that a page that is loaded anew has its figures at once.
const LINGER_MS: u64 = 30_000;

/// What a page shows beside the node itself, and by which names browsers may reach it.
#[derive(Clone, Debug, Default)]
pub struct PageOptions {
    /// Admin listeners of other nodes, at most [`NODES_MAX`].
    pub nodes: Vec<SocketAddr>,
    /// See [`crate::admin::guard`].
    pub names: Vec<String>,
}

/// Several nodes' figures.
pub(super) struct Fleet {
    own: Option<Own>,
    peers: Vec<Arc<Peer>>,
    wanted: watch::Sender<bool>,
    looked_ms: u64,
}

/// The figures of the node that shows the page.
struct Own {
    feed: Arc<Feed>,
    /// While somebody looks.
    told: Option<watch::Receiver<Told>>,
    last: String,
}

impl Own {
    fn told(&mut self) -> &str {
        let told = self.told.get_or_insert_with(|| self.feed.listen());
        if let Told::Figures(line) = &*told.borrow_and_update() {
            self.last = line.to_string();
        }
        &self.last
    }
}

/// The figures of `own` and of the nodes whose admin listeners are at `nodes`, as one feed.
///
/// # Errors
///
/// Too many nodes, in words.
pub(crate) fn start(control: &Handle, own: Option<Arc<Feed>>, nodes: &[SocketAddr]) -> Result<Arc<Feed>, String> {
    let nodes: std::collections::BTreeSet<_> = nodes.iter().copied().collect();
    if nodes.len() > NODES_MAX {
        return Err(format!("a page shows at most {NODES_MAX} nodes, and these are {}", nodes.len()));
    }
    let (wanted, _) = watch::channel(false);
    let peers: Vec<_> = nodes.into_iter().map(Peer::new).collect();
    for peer in &peers {
        // They end with the sender, which the feed's task owns.
        control.spawn(Arc::clone(peer).follow(wanted.subscribe()));
    }
    let Some(feed) = own else { return Ok(Feed::start(control, Fleet { own: None, peers, wanted, looked_ms: 0 })) };
    let own = Some(Own { feed: Arc::clone(&feed), told: None, last: String::new() });
    Ok(feed.start_beside(control, Fleet { own, peers, wanted, looked_ms: 0 }))
}

/// By which name the page asks which of `nodes`.
pub(crate) fn by_address(nodes: &[SocketAddr]) -> Arc<BTreeMap<String, SocketAddr>> {
    Arc::new(nodes.iter().map(|address| (address.to_string(), *address)).collect())
}

/// A node that is heard, or was.
#[derive(Serialize)]
struct Shown<'a> {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    away: Option<Value>,
    /// Its clock, less ours when that was heard.
    skew_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    world: Option<&'a World>,
    #[serde(flatten)]
    node: &'a Node,
}

fn shown(peer: &Peer, heard: &Heard, with_world: bool) -> String {
    let at = peer.address.to_string();
    let away = heard.away.as_ref().map(|(since_ms, why)| json!({ "since_ms": since_ms, "why": why }));
    match &heard.told {
        Some(Last { at_ms, node, .. }) => {
            let world = if with_world { node.world.as_ref() } else { None };
            let time_ms = if node.time_ms == 0 { *at_ms } else { node.time_ms };
            let skew_ms = time_ms.cast_signed().saturating_sub(at_ms.cast_signed());
            serde_json::to_string(&Shown { at, away, skew_ms, world, node }).unwrap_or_default()
        }
        None => {
            let away = away.unwrap_or_else(|| json!({ "since_ms": null, "why": "not heard yet" }));
            json!({ "at": at, "node": at, "tier": "unknown", "away": away }).to_string()
        }
    }
}

impl Fleet {
    /// Who tells the document that is drawn: the one that most nodes have, so that a single one draws no other map.
    fn document(&self) -> Option<usize> {
        let documents: Vec<_> =
            self.peers.iter().map(|peer| peer.heard().told.as_ref().and_then(|last| last.world)).collect();
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for document in documents.iter().flatten() {
            *votes.entry(*document).or_default() += 1;
        }
        let most = votes.values().max()?;
        documents.iter().position(|document| document.is_some_and(|document| votes.get(&document) == Some(most)))
    }
}

impl Source for Fleet {
    fn tick(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.looked_ms) > LINGER_MS {
            self.wanted.send_if_modified(std::mem::take);
            if let Some(own) = &mut self.own {
                own.told = None;
            }
        }
    }

    fn tell(&mut self, _now_ms: u64) -> String {
        self.looked_ms = clock::now_ms();
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
        let drawn = self.document();
        let own = self.own.as_mut().map(|own| own.told().to_owned()).filter(|line| !line.is_empty());
        let others = self.peers.iter().enumerate().map(|(at, peer)| shown(peer, &peer.heard(), drawn == Some(at)));
        let told: Vec<String> = own.into_iter().chain(others).collect();
        format!("[{}]", told.join(","))
    }
}
