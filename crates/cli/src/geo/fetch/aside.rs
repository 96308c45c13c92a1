//! Work that takes a processor or a disk for seconds: aside, so that a signal, a connection and another download do not wait.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

/// Says that nobody waits for the work any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended(Arc<AtomicBool>);

/// Tells [`Ended`] when whoever waited is gone.
struct Waiting(Ended);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does it on a thread of its own. The process ends only after the work, which is to end soon once nobody waits for it.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce(&Ended) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let ended = Ended::default();
    let waiting = Waiting(ended.clone());
    let done = tokio::task::spawn_blocking(move || work(&ended)).await;
    drop(waiting);
    done.context("the work on what was downloaded broke off")?
}

/// Reads until nobody waits for it.
pub(super) struct Until<'a, R> {
    pub(super) from: R,
    pub(super) ended: &'a Ended,
}

impl<R: Read> Read for Until<'_, R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        if self.ended.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("told to end"));
        }
        self.from.read(piece)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Were the work done in place, nobody would ever send what it waits for.
    #[tokio::test]
    async fn others_go_on_meanwhile() {
        let (sender, receiver) = mpsc::channel();
        let work = aside(move |_| Ok(receiver.recv()?));
        let other = async { sender.send(7).unwrap() };
        let (done, ()) = tokio::join!(work, other);
        assert_eq!(done.unwrap(), 7);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_ends_it() {
        let (began, begins) = tokio::sync::oneshot::channel();
        let (said, says) = tokio::sync::oneshot::channel();
        let work = aside(move |ended| {
            began.send(()).unwrap();
            // Without an end of its own.
            let read = io::copy(&mut Until { from: io::repeat(0), ended }, &mut io::sink());
            said.send(read.unwrap_err().to_string()).unwrap();
            Ok(())
        });
        tokio::select! {
            biased;
            done = work => panic!("{done:?}"),
            began = begins => began.unwrap(),
        }
        assert_eq!(says.await.unwrap(), "told to end");
    }
}
