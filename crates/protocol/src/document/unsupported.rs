//! What a document may say and a node of this version cannot do: the node refuses to start, naming the key.

use std::fmt;

use crate::model::{ControlEngine, Document};

/// Which kind of node asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// `perigee-edge`
    Edge,
    /// `perigee-shield`
    Shield,
    /// `perigee-geodns`
    Geodns,
}

/// A key that a node cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// `site.www.tls`
    pub key: String,
    /// What this version does not do: `TLS towards clients`.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: this version does not do {}; {}", self.key, self.what, self.remedy)
    }
}

/// The keys of `document` that a node of this kind cannot enforce yet; empty when it may start.
///
/// Only keys that would change what this kind of node does are named: an edge does not care about `cdn.dnssec`.
pub fn unsupported(document: &Document, node: NodeKind) -> Vec<Unsupported> {
    let mut found = Vec::new();
    let mut add = |key: String, what, remedy| found.push(Unsupported { key, what, remedy });
    if document.control.engine == ControlEngine::Nats {
        add("control.engine".into(), "the control log over NATS", "use engine = \"embedded\"");
    }
    match node {
        // As of now they differ in nothing.
        NodeKind::Geodns | NodeKind::Edge | NodeKind::Shield => {}
    }
    found
}
