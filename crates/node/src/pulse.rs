//! Signs of life of threads that no runtime has: a thread counts the rounds of its loop, and who watches it looks whether it
//! still counts.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time;

/// How often a thread that has not counted on is looked at again.
const LOOK: Duration = Duration::from_millis(10);

/// The threads that are watched. Clones watch the same.
#[derive(Clone, Debug, Default)]
pub struct Pulses(Arc<Mutex<Vec<Weak<Beats>>>>);

/// A thread's own; with it ends the watch.
#[derive(Debug)]
pub struct Pulse(Arc<Beats>);

/// Alone in its lines of the processor's cache: a core that counts disturbs no other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Beats(AtomicU64);

impl Pulses {
    /// For one more thread, which beats several times a second however little there is to do.
    pub fn add(&self) -> Pulse {
        let beats = Arc::<Beats>::default();
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|beats| beats.strong_count() > 0);
        watched.push(Arc::downgrade(&beats));
        Pulse(beats)
    }

    /// Returns when each of the threads has beaten since it was asked, or has ended; never, if one hangs.
    pub(crate) async fn all_beat(&self) {
        let count = |beats: &Weak<Beats>| beats.upgrade().map(|beats| beats.0.load(Ordering::Relaxed));
        let watched: Vec<_> = {
            let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            watched.iter().map(|beats| (Weak::clone(beats), count(beats))).collect()
        };
        for (beats, before) in watched {
            while before.is_some() && count(&beats) == before {
                time::sleep(LOOK).await;
            }
        }
    }
}

impl Pulse {
    /// Says that the thread goes round. Only the thread itself does, so that no other's count is lost.
    pub fn beat(&self) {
        self.0.0.store(self.0.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use perigee_testkit::patiently;

    use super::*;

    #[tokio::test]
    async fn all_have_to_beat_that_are_there() {
        let pulses = Pulses::default();
        patiently("nobody", pulses.all_beat()).await;
        let (one, other) = (pulses.add(), pulses.add());
        one.beat();
        let watching = tokio::spawn({
            let pulses = pulses.clone();
            async move { pulses.all_beat().await }
        });
        // Beats of before do not count, and one thread's are not the other's.
        for _ in 0..10 {
            time::sleep(LOOK).await;
            one.beat();
        }
        assert!(!watching.is_finished());
        other.beat();
        one.beat();
        patiently("both", watching).await.unwrap();
        // A thread that ended is not waited for.
        drop(other);
        let watching = tokio::spawn(async move { pulses.all_beat().await });
        while !watching.is_finished() {
            one.beat();
            time::sleep(LOOK).await;
        }
    }
}
