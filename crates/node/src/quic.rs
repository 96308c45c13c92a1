//! QUIC endpoints (RFC 9000): the transport of DNS over QUIC, and to be HTTP/3's.
//!
//! Deliberately absent: what is spoken on the streams, and early data (RFC 9001 §9.2: it can be replayed).

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};

/// Handshakes that wait for [`Endpoint::accept`]; further ones are refused.
const WAITING_MAX: usize = 1_024;
/// What may have been received for each of them, and for all.
const WAITING_BYTES_MAX: u64 = 16 * 1024;
const WAITING_BYTES_TOTAL_MAX: u64 = 4 << 20;

/// How much one connection may have.
#[derive(Clone, Copy, Debug)]
pub struct QuicLimits {
    /// Streams of requests at once.
    pub streams_max: u32,
    /// Streams that only the client writes to, at once.
    pub client_streams_max: u32,
    /// What a stream may have received that is not read.
    pub stream_bytes_max: u32,
    /// … and all of a connection's.
    pub received_bytes_max: u32,
    /// What may have been written that is not acknowledged.
    pub sent_bytes_max: u32,
    /// A connection that is silent for so long ends; at most some weeks.
    pub idle_timeout: Duration,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The provider has no TLS_AES_128_GCM_SHA256, which every first packet is sealed with (RFC 9001 §5.2).
    #[error("QUIC needs the cipher suite TLS_AES_128_GCM_SHA256")]
    NoInitialSuite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// Longer than QUIC can say.
    #[error("the idle time-out of QUIC is too long")]
    IdleTimeout(#[from] quinn::VarIntBoundsExceeded),
}

/// What a server's endpoint is made with. `tls` offers TLS 1.3 and names its protocols; see
/// [`Certificates::server_config_of`](crate::tls::Certificates::server_config_of).
pub fn server_config(tls: Arc<rustls::ServerConfig>, limits: QuicLimits) -> Result<ServerConfig, QuicError> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.streams_max.into())
        .max_concurrent_uni_streams(limits.client_streams_max.into())
        .stream_receive_window(limits.stream_bytes_max.into())
        .receive_window(limits.received_bytes_max.into())
        .send_window(limits.sent_bytes_max.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(limits.idle_timeout)?))
        // RFC 9221: nobody here has a use for it.
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(WAITING_MAX)
        .incoming_buffer_size(WAITING_BYTES_MAX)
        .incoming_buffer_size_total(WAITING_BYTES_TOTAL_MAX);
    Ok(config)
}

/// Opens an endpoint on the runtime that this is called from; `socket` must be non-blocking.
pub fn endpoint(socket: UdpSocket, config: ServerConfig) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// An error code of the application's (RFC 9000 §20.2).
pub const fn code(number: u32) -> VarInt {
    VarInt::from_u32(number)
}
