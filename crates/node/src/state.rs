//! What one node knows of itself: whether it is ready, and whether it is to end. Shared by the admin API, the health
//! path of the data listener, and `main`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::clock;

pub use perigee_protocol::document::NodeKind;

/// The word for a kind of node in labels and answers.
pub fn tier(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Edge => "edge",
        NodeKind::Shield => "shield",
        NodeKind::Geodns => "geodns",
    }
}

/// The version in `/v1/status`, `perigee_build_info` and `--version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One node's state. Cheap to share: what the data path asks is one atomic load.
#[derive(Debug)]
pub struct NodeState {
    kind: NodeKind,
    id: String,
    started_ms: u64,
    not_ready: Mutex<BTreeMap<&'static str, String>>,
    ending: watch::Sender<bool>,
}

impl NodeState {
    /// A node that is ready until somebody says otherwise.
    pub fn new(kind: NodeKind, id: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            id: id.into(),
            started_ms: clock::now_ms(),
            not_ready: Mutex::default(),
            ending: watch::channel(false).0,
        })
    }

    /// Which tier it is.
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Its identifier: the PoP's or node's, the shield's, or what `main` chose.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it started, in milliseconds since the Unix epoch.
    pub fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Says why the node is not ready; `part` names what [`NodeState::set_ready`] takes back, say `"document"`.
    pub fn set_not_ready(&self, part: &'static str, reason: impl Into<String>) {
        self.lock().insert(part, reason.into());
    }

    /// Takes back what [`NodeState::set_not_ready`] said of `part`.
    pub fn set_ready(&self, part: &'static str) {
        self.lock().remove(part);
    }

    /// Why it is not ready, `part: reason` each; empty when it is.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.lock().iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
        if self.is_draining() {
            reasons.push("draining: the node is ending".to_owned());
        }
        reasons
    }

    /// Whether new clients may be sent here.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.lock().is_empty()
    }

    /// Asks the node to end: it is not ready from now on, and [`NodeState::drain_requested`] returns. There is no way
    /// back; `main` drains and exits.
    pub fn request_drain(&self) {
        self.ending.send_replace(true);
    }

    /// Whether the node is ending.
    pub fn is_draining(&self) -> bool {
        *self.ending.borrow()
    }

    /// Returns when the node has been asked to end.
    pub async fn drain_requested(&self) {
        let mut ending = self.ending.subscribe();
        // The sender lives as long as `self`, which is borrowed here.
        if ending.wait_for(|ending| *ending).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.not_ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_is_the_absence_of_reasons() {
        let state = NodeState::new(NodeKind::Edge, "fra");
        assert!(state.is_ready());
        state.set_not_ready("geo", "damaged");
        state.set_not_ready("geo", "no database");
        assert!(!state.is_ready());
        assert_eq!(state.reasons(), ["geo: no database"]);
        state.set_ready("geo");
        assert!(state.is_ready());
        state.request_drain();
        state.drain_requested().await;
        assert!(!state.is_ready());
        assert_eq!(state.reasons(), ["draining: the node is ending"]);
    }
}
