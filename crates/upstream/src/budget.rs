//! The retry budget: retries may add a fifth to the load, not multiply it when everything fails.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a retry costs; what a fetch pays in is a fifth of it.
const RETRY: u64 = 5;
const FETCH: u64 = 1;
/// Retries that may be saved up, and are there at the start.
pub(crate) const RETRIES_SAVED_MAX: u64 = 20;

/// Shared by all fetches of a fleet.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU64::new(RETRIES_SAVED_MAX * RETRY))
    }
}

impl Budget {
    /// A fetch began.
    pub(crate) fn deposit(&self) {
        let full = RETRIES_SAVED_MAX * RETRY;
        // Err means that nothing changed: it is full already.
        let _full =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| (saved < full).then_some(saved + FETCH));
    }

    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(RETRY)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_load_and_no_more() {
        let budget = Budget::default();
        budget.deposit();
        let burst = (0..100).filter(|_| budget.withdraw()).count() as u64;
        assert_eq!(burst, RETRIES_SAVED_MAX);
        let steady = (0..1000).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert_eq!(steady.count(), 200);
        assert!(!budget.withdraw());
    }
}
