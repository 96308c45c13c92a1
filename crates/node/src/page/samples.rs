//! A few things a second from the data path to the page.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// How many are taken until the next [`Samples::take`].
pub const SAMPLES_MAX: usize = 256;

/// The first [`SAMPLES_MAX`] things of each second. When they are there, the rest cost the data path one look at a number.
#[derive(Debug)]
pub struct Samples<T> {
    left: AtomicUsize,
    taken: Mutex<Vec<T>>,
}

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Self { left: AtomicUsize::new(SAMPLES_MAX), taken: Mutex::default() }
    }
}

impl<T> Samples<T> {
    /// Adds what `make` gives, if there is room, and never waits.
    pub fn offer(&self, make: impl FnOnce() -> T) {
        if self.left.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Another core is adding, or the page takes: this one is not a sample.
        let Ok(mut taken) = self.taken.try_lock() else { return };
        if taken.len() < SAMPLES_MAX {
            taken.push(make());
        }
        if taken.len() >= SAMPLES_MAX {
            self.left.store(0, Ordering::Relaxed);
        }
    }

    /// What was added since the last call; from now on there is room again.
    pub fn take(&self) -> Vec<T> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = std::mem::take(&mut *taken);
        self.left.store(SAMPLES_MAX, Ordering::Relaxed);
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more_until_they_are_taken() {
        let samples = Samples::default();
        for n in 0..=SAMPLES_MAX {
            samples.offer(|| {
                assert!(n < SAMPLES_MAX, "one too many is not even made");
                n
            });
        }
        assert_eq!(samples.take().len(), SAMPLES_MAX);
        assert_eq!(samples.take(), [0; 0]);
        samples.offer(|| 7);
        assert_eq!(samples.take(), [7]);
    }
}
