//! An exchange over a connection of its own, as others see it who wait for one: whether its client lets it stand still, and
//! that it gives way.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use crate::share::Network;

/// An exchange gives way when its client neither took nor sent [`PROGRESS_BYTES`] for so long.
pub(crate) const STILL_MAX: Duration = Duration::from_secs(5);
/// Less than this is no progress: a byte now and then must not hold a connection.
const PROGRESS_BYTES: u64 = 4096;

/// One exchange.
pub(crate) struct Exchange {
    pub(crate) network: Option<Network>,
    /// The connection's, once there is one.
    driver: OnceLock<AbortHandle>,
    pace: Mutex<Pace>,
    gave_way: AtomicBool,
}

#[derive(Debug, Default)]
struct Pace {
    /// Since when its client is waited for; none: it is not.
    since: Option<Instant>,
    /// What has moved in this time.
    bytes: u64,
}

impl Exchange {
    pub(crate) fn new(network: Option<Network>) -> Arc<Self> {
        Arc::new(Self { network, driver: OnceLock::new(), pace: Mutex::default(), gave_way: AtomicBool::new(false) })
    }

    /// What is stopped when it gives way; the first that is said counts.
    pub(crate) fn driven_by(&self, driver: AbortHandle) {
        drop(self.driver.set(driver));
    }

    /// The client has yet to take what came, or to send what is to go.
    pub(crate) fn waits(&self, now: Instant) {
        self.pace().since.get_or_insert(now);
    }

    /// The client took, or sent, so many bytes.
    pub(crate) fn moved(&self, bytes: u64) {
        let mut pace = self.pace();
        pace.bytes = pace.bytes.saturating_add(bytes);
        if pace.bytes >= PROGRESS_BYTES {
            *pace = Pace::default();
        }
    }

    /// Somebody else is waited for.
    pub(crate) fn rests(&self) {
        *self.pace() = Pace::default();
    }

    /// Since when the client lets it stand still, if that is for too long.
    pub(crate) fn still_since(&self, now: Instant) -> Option<Instant> {
        let since = self.pace().since?;
        (self.driver.get().is_some() && !self.gave_way() && since + STILL_MAX < now).then_some(since)
    }

    /// Closes the connection.
    pub(crate) fn give_way(&self) {
        // Before the connection ends: whoever sees it end sees why.
        self.gave_way.store(true, Ordering::SeqCst);
        if let Some(driver) = self.driver.get() {
            driver.abort();
        }
    }

    pub(crate) fn gave_way(&self) -> bool {
        self.gave_way.load(Ordering::SeqCst)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("network", &self.network).field("pace", &self.pace).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_stands_still() {
        let exchange = Exchange::new(None);
        let (began, just) = (Instant::now(), Duration::from_millis(1));
        let still = |after: Duration| exchange.still_since(began + after).is_some();
        exchange.waits(began);
        assert!(!still(STILL_MAX * 2), "there is no connection to close");
        let driver = tokio::spawn(std::future::pending::<()>());
        exchange.driven_by(driver.abort_handle());
        // Both sides of the time.
        assert!(!still(STILL_MAX) && still(STILL_MAX + just));
        exchange.waits(began + STILL_MAX);
        assert!(still(STILL_MAX + just), "it waits since the beginning");
        exchange.rests();
        assert!(!still(STILL_MAX * 2), "somebody else is waited for");
        // Both sides of what counts as progress.
        exchange.waits(began);
        exchange.moved(PROGRESS_BYTES - 1);
        exchange.waits(began + STILL_MAX);
        assert!(still(STILL_MAX + just), "a little is nothing");
        exchange.moved(1);
        exchange.waits(began + STILL_MAX);
        assert!(!still(STILL_MAX * 2) && still(STILL_MAX * 2 + just));
        assert!(!exchange.gave_way());
        exchange.give_way();
        assert!(!still(STILL_MAX * 3) && exchange.gave_way());
        assert!(driver.await.unwrap_err().is_cancelled());
    }
}
