//! Back-pressure from the disk.
//!
//! foyer takes entries without waiting and drops them in silence when its queue or buffer is full. So every write first takes
//! a ticket for its bytes, and tickets come back when foyer says that everything handed to it is written: at most
//! [`OUTSTANDING_BYTES_MAX`] are ever on their way, which its buffer always holds. Segments wait for their ticket; heads, which
//! cannot wait, have tickets of their own and stay in memory only when there is none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::record::DISK_PAGE;

/// Segment bytes that may be on their way to the disk.
pub(crate) const SEGMENT_LANE_BYTES: usize = 16 * 1024 * 1024;
/// Head bytes that may be on their way to the disk.
pub(crate) const HEAD_LANE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that may be on their way to the disk.
pub(crate) const OUTSTANDING_BYTES_MAX: usize = SEGMENT_LANE_BYTES + HEAD_LANE_BYTES;
/// What else is written: the probes of the disk.
const SLACK_BYTES: usize = 256 * 1024;
/// Each of foyer's two flush buffers: all that is outstanding fits into one.
pub(crate) const BUFFER_BYTES: usize = OUTSTANDING_BYTES_MAX + SLACK_BYTES;
/// The longest that a segment waits for the disk; then it stays in memory only.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What was handed to the disk: its bytes' permit and its key's hash.
type Sent = (OwnedSemaphorePermit, u64);

#[derive(Debug)]
pub(crate) struct Window {
    segments: Arc<Semaphore>,
    heads: Arc<Semaphore>,
    /// A wait was in vain: until the next tickets come back nobody waits, else every segment of every stream would take
    /// [`WAIT_MAX`].
    stalled: Arc<AtomicBool>,
    /// [`WAIT_MAX`]; tests have less patience.
    wait_max: Duration,
    sent: mpsc::UnboundedSender<Sent>,
}

/// The right to hand some bytes to the disk. Dropping it unused gives them back.
#[derive(Debug)]
pub(crate) struct Ticket {
    permit: OwnedSemaphorePermit,
    sent: mpsc::UnboundedSender<Sent>,
}

impl Ticket {
    /// The bytes are in foyer's queue, under a key of this hash.
    pub(crate) fn sent(self, hash: u64) {
        // The clock lives as long as the runtime; without it nothing is written any more and the bytes are free at once.
        drop(self.sent.send((self.permit, hash)));
    }
}

impl Window {
    /// `flushed` resolves when all that foyer was handed before is written, or lost; `verify` is told the hashes of what
    /// that was.
    pub(crate) fn new<F>(
        runtime: &Handle,
        flushed: impl Fn() -> F + Send + 'static,
        verify: impl Fn(&mut dyn Iterator<Item = u64>) + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (sent, mut tickets) = mpsc::unbounded_channel::<Sent>();
        let stalled = Arc::new(AtomicBool::new(false));
        let clock_stalled = Arc::clone(&stalled);
        // Ends when the window and its last ticket are gone.
        runtime.spawn(async move {
            let mut batch = Vec::new();
            while tickets.recv_many(&mut batch, OUTSTANDING_BYTES_MAX / DISK_PAGE).await > 0 {
                flushed().await;
                verify(&mut batch.iter().map(|(_, hash)| *hash));
                batch.clear();
                clock_stalled.store(false, Ordering::Relaxed);
            }
        });
        Self {
            segments: Arc::new(Semaphore::new(SEGMENT_LANE_BYTES / DISK_PAGE)),
            heads: Arc::new(Semaphore::new(HEAD_LANE_BYTES / DISK_PAGE)),
            stalled,
            wait_max: WAIT_MAX,
            sent,
        }
    }

    fn ticket(&self, permit: OwnedSemaphorePermit) -> Ticket {
        Ticket { permit, sent: self.sent.clone() }
    }

    /// A ticket for a segment of `bytes` on disk, if there is one now.
    pub(crate) fn try_segment(&self, bytes: usize) -> Option<Ticket> {
        Arc::clone(&self.segments).try_acquire_many_owned(pages(bytes)).ok().map(|permit| self.ticket(permit))
    }

    /// A ticket for a segment of `bytes` on disk; waits for the disk, but not longer than [`WAIT_MAX`].
    pub(crate) async fn segment(&self, bytes: usize) -> Option<Ticket> {
        let pages = pages(bytes);
        if self.stalled.load(Ordering::Relaxed) {
            return None;
        }
        match tokio::time::timeout(self.wait_max, Arc::clone(&self.segments).acquire_many_owned(pages)).await {
            Ok(permit) => permit.ok().map(|permit| self.ticket(permit)),
            Err(_) => {
                self.stalled.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// A ticket for a head of `bytes` on disk, if there is one.
    pub(crate) fn head(&self, bytes: usize) -> Option<Ticket> {
        Arc::clone(&self.heads).try_acquire_many_owned(pages(bytes)).ok().map(|permit| self.ticket(permit))
    }

    /// Bytes on their way to the disk.
    pub(crate) fn outstanding(&self) -> u64 {
        let free = self.segments.available_permits() + self.heads.available_permits();
        (OUTSTANDING_BYTES_MAX.saturating_sub(free * DISK_PAGE)) as u64
    }
}

fn pages(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(DISK_PAGE)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    fn fill(window: &Window) -> usize {
        std::iter::from_fn(|| window.head(1024 * 1024)).map(|ticket| ticket.sent(7)).count()
    }

    /// A disk that does not answer costs one wait, and its recovery ends the stall.
    #[tokio::test]
    async fn tickets_come_back_when_the_disk_has_written() {
        let flush = Arc::new(Notify::new());
        let disk = Arc::clone(&flush);
        let seen = Arc::new(AtomicUsize::new(0));
        let verified = Arc::clone(&seen);
        let flushed = move || {
            let disk = Arc::clone(&disk);
            async move { disk.notified().await }
        };
        let mut window = Window::new(&Handle::current(), flushed, move |hashes| {
            verified.fetch_add(hashes.filter(|hash| *hash == 7).count(), Ordering::Relaxed);
        });
        assert_eq!(fill(&window), HEAD_LANE_BYTES / (1024 * 1024));
        assert_eq!(window.outstanding(), HEAD_LANE_BYTES as u64);
        assert!(window.head(1).is_none());

        let whole = window.segment(SEGMENT_LANE_BYTES).await.expect("the other lane is free");
        whole.sent(8);
        assert_eq!(window.outstanding(), OUTSTANDING_BYTES_MAX as u64);
        assert!(window.try_segment(1).is_none());
        window.wait_max = Duration::from_millis(1);
        assert!(window.segment(1).await.is_none());
        // Were it waited for again, this test would not end.
        window.wait_max = Duration::MAX;
        assert!(window.segment(1).await.is_none(), "a stalled disk is not waited for again");

        while window.outstanding() > 0 {
            flush.notify_one();
            tokio::task::yield_now().await;
        }
        assert!(window.segment(1).await.is_some());
        assert!(window.head(1).is_some());
        assert_eq!(seen.load(Ordering::Relaxed), HEAD_LANE_BYTES / (1024 * 1024), "each is verified once");
    }

    #[tokio::test]
    async fn an_unused_ticket_gives_its_bytes_back() {
        let window = Window::new(&Handle::current(), std::future::pending, |_| ());
        drop(window.segment(SEGMENT_LANE_BYTES).await.expect("free"));
        assert_eq!(window.outstanding(), 0);
    }
}
