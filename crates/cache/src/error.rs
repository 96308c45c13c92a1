//! Why a flight brought no response, and what its followers are told.

use http::StatusCode;
use perigee_upstream::FetchErrorKind;

/// Why no usable response came from upstream. `Copy`, so that all followers of a flight can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The fetch failed.
    Fetch(FetchErrorKind),
    /// The upstream answered with this server error, and something stale is better (RFC 5861 §4).
    ServerError(u16),
    /// The task that fetched for all ended early.
    LeaderGone,
    /// Somebody else's fetch takes too long, and something stale is better.
    SlowLeader,
    /// Too many bodies are under way for the memory that they may take.
    Memory,
}

impl Failure {
    /// The reason, as it stands in logs, metrics and Cache-Status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fetch(kind) => kind.as_str(),
            Self::ServerError(_) => "server-error",
            Self::LeaderGone => "leader-gone",
            Self::SlowLeader => "slow-leader",
            Self::Memory => "memory",
        }
    }

    /// Whether it says something of the one who caused the fetch and nothing of what was fetched: those who waited for the
    /// same try for themselves.
    pub(crate) fn is_of_the_client(self) -> bool {
        matches!(self, Self::Fetch(FetchErrorKind::ClientShare | FetchErrorKind::SlowClient))
    }

    /// Whether there may be room for it a moment later.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Memory | Self::Fetch(FetchErrorKind::TooManyConnections | FetchErrorKind::ClientShare))
    }

    /// What the client gets when there is nothing stale to serve.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Fetch(kind) => kind.status(),
            Self::ServerError(_) | Self::LeaderGone => StatusCode::BAD_GATEWAY,
            Self::SlowLeader => StatusCode::GATEWAY_TIMEOUT,
            Self::Memory => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
