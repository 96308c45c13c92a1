//! What reached the origin, counted by path: how anyone sees what the tiers in front of it kept away.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use http::StatusCode;
use serde::Serialize;

/// Paths counted one by one; the rest is counted under [`OTHER`].
pub(crate) const PATHS_MAX: usize = 10_000;
/// Where paths beyond [`PATHS_MAX`] are counted.
pub(crate) const OTHER: &str = "(other)";

/// Counters since the origin's start.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    counts: Mutex<Counts>,
}

/// A moment's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) not_modified: u64,
    pub(crate) partial: u64,
    pub(crate) paths: BTreeMap<String, u64>,
}

impl Stats {
    /// Counts a request before it is answered and gives its number, from 1.
    pub(crate) fn arrived(&self, path: &str) -> u64 {
        let mut counts = self.lock();
        counts.requests += 1;
        let known = counts.paths.len() < PATHS_MAX || counts.paths.contains_key(path);
        let path = if known { path } else { OTHER };
        match counts.paths.get_mut(path) {
            Some(count) => *count += 1,
            None => {
                counts.paths.insert(path.to_owned(), 1);
            }
        }
        counts.requests
    }

    /// Counts how it was answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        match status {
            StatusCode::NOT_MODIFIED => self.lock().not_modified += 1,
            StatusCode::PARTIAL_CONTENT => self.lock().partial += 1,
            _ => {}
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_beyond_the_limit_are_counted_together() {
        let stats = Stats::default();
        for number in 0..PATHS_MAX {
            stats.arrived(&format!("/{number}"));
        }
        assert_eq!(stats.counts().paths.get(OTHER), None);
        stats.arrived("/one-more");
        stats.arrived("/0");
        let counts = stats.counts();
        assert_eq!((counts.paths.get(OTHER), counts.paths.get("/0")), (Some(&1), Some(&2)));
        assert_eq!((counts.paths.len(), counts.requests), (PATHS_MAX + 1, PATHS_MAX as u64 + 2));
    }
}
