//! How far a download is.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

const PROGRESS: Duration = Duration::from_millis(100);

/// A line that grows, where somebody watches.
pub(super) struct Progress {
    bytes: Option<u64>,
    told: Option<Instant>,
    is_watched: bool,
}

impl Progress {
    pub(super) fn new(bytes: Option<u64>) -> Self {
        Self { bytes, told: None, is_watched: io::stderr().is_terminal() }
    }

    pub(super) fn tell(&mut self, done: u64) {
        if !self.is_watched || self.told.is_some_and(|told| told.elapsed() < PROGRESS) {
            return;
        }
        self.told = Some(Instant::now());
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let of = self.bytes.map_or(String::new(), |bytes| format!(" of {:.1}", mega(bytes)));
        // Whoever has gone does not miss it.
        write!(io::stderr(), "\r{:.1}{of} MB ", mega(done)).unwrap_or_default();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            writeln!(io::stderr()).unwrap_or_default();
        }
    }
}
