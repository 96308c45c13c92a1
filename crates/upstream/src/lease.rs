//! A connection in use, or a stream of one.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::Either;
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::timeout;

use crate::{
    exchange::Exchange,
    multiplex::Stream,
    pool::{Connection, Share},
    upload::Upload,
};

/// A response may end before its connection is free again (the request is still being sent); longer is not waited.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// A connection in use, or a part of one. Dropping it closes what it has; [`release`](Self::release) keeps it.
pub(crate) struct Lease {
    held: Held,
    pub(crate) reused: bool,
}

enum Held {
    // In this order: what waits for its share finds the connection closing.
    Own(Connection, Share),
    Stream(Stream),
}

impl Lease {
    pub(crate) fn new(connection: Connection, share: Share, reused: bool) -> Self {
        share.exchange.driven_by(connection.driver());
        Self { held: Held::Own(connection, share), reused }
    }

    /// A stream of a connection, which may have served before.
    pub(crate) fn of(stream: Stream, reused: bool) -> Self {
        Self { held: Held::Stream(stream), reused }
    }

    pub(crate) fn is_h2(&self) -> bool {
        matches!(self.held, Held::Stream(_))
    }

    /// What others know of it who wait for a connection; none where it has none of its own.
    pub(crate) fn exchange(&self) -> Option<&Arc<Exchange>> {
        match &self.held {
            Held::Own(_, share) => Some(&share.exchange),
            Held::Stream(_) => None,
        }
    }

    /// Sends a request; ready with the response's head. An error may hold the request, untouched.
    pub(crate) fn send(
        &mut self,
        request: http::Request<Upload>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<http::Request<Upload>>>> + Send + use<>
    {
        match &mut self.held {
            Held::Own(connection, _) => Either::Left(connection.sender.try_send_request(request)),
            Held::Stream(stream) => Either::Right(stream.send(request)),
        }
    }

    /// The exchange is over: keeps the connection for the next, once it is ready for one.
    pub(crate) fn release(self) {
        // A stream ends by itself.
        let Held::Own(mut connection, share) = self.held else { return };
        if connection.sender.is_ready() {
            share.put_back(connection);
        } else if !connection.sender.is_closed() {
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(SETTLE_MAX, connection.sender.ready()).await {
                    share.put_back(connection);
                }
            });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("reused", &self.reused).finish_non_exhaustive()
    }
}
