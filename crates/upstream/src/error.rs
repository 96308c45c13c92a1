//! Why a fetch failed, whose fault that was, and what to answer downstream.

use std::{error::Error, fmt, sync::Arc};

use http::StatusCode;

use crate::Peer;

/// What went wrong. [`as_str`](Self::as_str) is the metric label, the log field and the Cache-Status detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchErrorKind {
    /// The name did not resolve, or no address accepted a connection.
    Connect,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// No response head within `first_byte_timeout` of the request sent.
    FirstByteTimeout,
    /// The body stood still for `between_bytes_timeout` while somebody waited for it.
    BetweenBytesTimeout,
    /// The connection ended before the response did.
    PrematureClose,
    /// What came is no HTTP/1 response, or one whose length cannot be trusted (RFC 9112 §6.3).
    Protocol,
    /// `connections_max` are in use and none came free within `connect_timeout`.
    TooManyConnections,
    /// The client's network holds as many connections as are its share while others may want some, and none came free within
    /// `connect_timeout`.
    ClientShare,
    /// The client neither took the response nor sent its content, and its connection was given to another network's fetch.
    SlowClient,
    /// Every upstream is known to be down; none was asked.
    NoUpstream,
    /// The request's own body failed or stood still while it was being sent.
    RequestBody,
}

impl FetchErrorKind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::FirstByteTimeout,
        Self::BetweenBytesTimeout,
        Self::PrematureClose,
        Self::Protocol,
        Self::TooManyConnections,
        Self::ClientShare,
        Self::SlowClient,
        Self::NoUpstream,
        Self::RequestBody,
    ];

    /// The kind's one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect-timeout",
            Self::FirstByteTimeout => "first-byte-timeout",
            Self::BetweenBytesTimeout => "between-bytes-timeout",
            Self::PrematureClose => "premature-close",
            Self::Protocol => "protocol",
            Self::TooManyConnections => "too-many-connections",
            Self::ClientShare => "client-share",
            Self::SlowClient => "slow-client",
            Self::NoUpstream => "no-upstream",
            Self::RequestBody => "request-body",
        }
    }

    /// Whose fault it is.
    pub fn side(self) -> Side {
        match self {
            Self::RequestBody | Self::ClientShare | Self::SlowClient => Side::Downstream,
            Self::TooManyConnections => Side::Here,
            _ => Side::Upstream,
        }
    }

    /// What a gateway answers for it (RFC 9110 §15.6.3 to §15.6.5; 400 where the client's body failed, 408 of §15.5.9 where
    /// it did not come).
    pub fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::BetweenBytesTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect | Self::PrematureClose | Self::Protocol => StatusCode::BAD_GATEWAY,
            Self::TooManyConnections | Self::ClientShare | Self::NoUpstream => StatusCode::SERVICE_UNAVAILABLE,
            Self::SlowClient => StatusCode::REQUEST_TIMEOUT,
            Self::RequestBody => StatusCode::BAD_REQUEST,
        }
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The server that was asked, or the way to it.
    Upstream,
    /// A limit of ours.
    Here,
    /// The client: what it sends, takes, or asks for.
    Downstream,
}

/// A fetch that failed. Cheap to clone, so that all who wait for one fetch can be told.
#[derive(Clone, Debug)]
pub struct FetchError {
    kind: FetchErrorKind,
    peer: Option<Peer>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl FetchError {
    /// An error without peer and source.
    pub fn new(kind: FetchErrorKind) -> Self {
        Self { kind, peer: None, source: None }
    }

    /// The same, caused by `source`.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same, at `peer`, unless one is known.
    #[must_use]
    pub fn at(mut self, peer: &Peer) -> Self {
        self.peer.get_or_insert_with(|| peer.clone());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> FetchErrorKind {
        self.kind
    }

    /// The kind's one spelling.
    pub fn as_str(&self) -> &'static str {
        self.kind.as_str()
    }

    /// Who was asked; none where nobody was.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{} at {peer}", self.kind.as_str()),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
