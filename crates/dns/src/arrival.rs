//! How a message came.

use std::net::IpAddr;

/// What came in how; what a reply may measure follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Messages with a length in front, of which neither length is part of what [`crate::answer`] takes and gives.
    Tcp,
    /// The same over TLS (RFC 7858).
    Tls,
    /// Bodies of HTTP (RFC 8484).
    Https,
    /// Streams of QUIC, one for each query (RFC 9250).
    Quic,
}

impl Transport {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }

    /// Whether the client has shown that it is at its address, and a reply may be as long as one can be.
    pub(crate) fn is_connected(self) -> bool {
        self != Self::Udp
    }

    /// RFC 7828 §3.1: whether EDNS may speak of the connection. QUIC and HTTP have their own means.
    pub(crate) fn has_keepalive(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https | Self::Quic)
    }
}

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Who sent it: the client that is steered, unless the message tells of one (RFC 7871).
    pub peer: IpAddr,
    /// On which way.
    pub transport: Transport,
    /// When, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}
