//! What must hold of any bytes that arrive: a function for each door through which strangers' bytes come in, which panics
//! when a law is broken. A fuzzing engine drives them (`cargo xtask fuzz`), and every test run repeats the corpus that it found.

pub mod answer;
pub mod corpus;
pub mod document;
pub mod geo;
pub mod zone_file;

/// A door and its laws.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As `cargo xtask fuzz` is told, and as its corpus is called.
    pub name: &'static str,
    /// Panics when a law is broken.
    pub check: fn(&[u8]),
    /// Where the engine begins, beside the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target { name: "answer", check: answer::check, seeds: answer::seeds },
    Target { name: "geo", check: geo::check, seeds: geo::seeds },
    Target { name: "zone-file", check: zone_file::check, seeds: zone_file::seeds },
    Target { name: "document", check: document::check, seeds: document::seeds },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
