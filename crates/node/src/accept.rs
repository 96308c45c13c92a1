//! The accept loop of one listener and core. Whatever a connection needs before its first request is done in its own
//! task (see `door`), so that no client holds up the next.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{connections::Connections, door::Door, http::HttpService};

/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Acceptor<S> {
    pub(crate) core: usize,
    pub(crate) service: Arc<S>,
    pub(crate) door: Arc<Door>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl<S: HttpService> Acceptor<S> {
    pub(crate) async fn run(mut self, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "a listener cannot be used"),
        };
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer).await,
                Err(error) => self.accept_failed(&error).await,
            }
        }
        // Clients that the kernel has already greeted would be reset by closing the listener: serve them.
        while let Some(Ok((stream, peer))) = accept_now(&listener).await {
            self.admit(stream, peer).await;
        }
    }

    async fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Some(permit) = self.door.room.place(&mut self.stop).await else { return };
        let Ok(local) = stream.local_addr() else { return };
        let entry = self.connections.enter(self.core, peer, local, self.door.is_secure());
        let (door, service) = (Arc::clone(&self.door), Arc::clone(&self.service));
        tokio::spawn(async move {
            door.open(service, stream, &entry).await;
            drop((entry, permit));
        });
    }

    async fn accept_failed(&self, error: &io::Error) {
        // A client that went away while it waited is its own affair; anything else is want of descriptors or memory.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        self.connections.metrics().accept_failed();
        tracing::warn!(%error, "cannot accept; pausing");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn accept_now(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        std::task::Poll::Ready(accepted) => std::task::Poll::Ready(Some(accepted)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
