//! What is counted where clients come in: why connections were refused or ended, handshakes, protocols.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }
        impl $name {
            const ALL: &[Self] = &[$(Self::$variant),+];
            /// The word in labels and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

words!(
    /// Why a connection ended before its client wanted it to.
    Ended {
        /// `Limits::client_connections_max`, or its share of a door that is nearly full.
        ClientLimit => "client-limit",
        /// It had no request under way, and the door was nearly full.
        GaveWay => "gave-way",
        /// A listed balancer began with something else, or with nothing we understand.
        ProxyHeader => "proxy-header",
        /// … or took too long for it.
        ProxyTimeout => "proxy-timeout",
        /// The handshake failed: the client's mistake, an unknown name, or no common ground.
        Handshake => "handshake",
        /// The handshake took too long.
        HandshakeTimeout => "handshake-timeout",
        /// A head took too long, or none came.
        HeaderTimeout => "header-timeout",
        /// Nothing was asked for so long.
        IdleTimeout => "idle-timeout",
        /// It took nothing of what it was sent for so long.
        WriteTimeout => "write-timeout",
    }
);

words!(
    /// What a connection speaks.
    Protocol {
        /// HTTP/1.0 or HTTP/1.1
        Http1 => "http/1",
        /// HTTP/2
        Http2 => "h2",
    }
);

words!(
    /// A handshake that went well.
    HandshakeKind {
        /// Certificate and signature.
        Full => "full",
        /// By a ticket (RFC 8446 §2.2).
        Resumed => "resumed",
    }
);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedLabels {
    reason: Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: Protocol,
    tls: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    kind: HandshakeKind,
}

/// What is counted at the doors.
#[derive(Clone, Debug, Default)]
pub struct DoorMetrics {
    ended: Family<EndedLabels, Counter>,
    protocols: Family<ProtocolLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    parked: Gauge,
}

impl DoorMetrics {
    /// Registers `perigee_connections_ended_total`, `perigee_connections_by_protocol_total`,
    /// `perigee_connections_parked` and `perigee_tls_handshakes_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "perigee_connections_ended",
            "Client connections that a limit or a mistake ended, or kept out, by reason",
            metrics.ended.clone(),
        );
        registry.register(
            "perigee_connections_by_protocol",
            "Client connections that came to speak HTTP, by its version and whether over TLS",
            metrics.protocols.clone(),
        );
        registry.register(
            "perigee_connections_parked",
            "Client connections that are idle and kept with little memory",
            metrics.parked.clone(),
        );
        registry.register(
            "perigee_tls_handshakes",
            "TLS handshakes that went well, in full or resumed by a ticket",
            metrics.handshakes.clone(),
        );
        // All reasons exist from the start, so that an alert can look at the rate of a rare one.
        for &reason in Ended::ALL {
            drop(metrics.ended.get_or_create(&EndedLabels { reason }));
        }
        for &kind in HandshakeKind::ALL {
            drop(metrics.handshakes.get_or_create(&HandshakeLabels { kind }));
        }
        for &protocol in Protocol::ALL {
            for tls in ["no", "yes"] {
                drop(metrics.protocols.get_or_create(&ProtocolLabels { protocol, tls }));
            }
        }
        metrics
    }

    /// Counts a connection that a limit or a mistake ended.
    pub fn ended(&self, reason: Ended) {
        self.ended.get_or_create(&EndedLabels { reason }).inc();
    }

    pub(crate) fn speaks(&self, protocol: Protocol, tls: bool) {
        self.protocols.get_or_create(&ProtocolLabels { protocol, tls: if tls { "yes" } else { "no" } }).inc();
    }

    /// Counts a handshake that went well.
    pub fn shook_hands(&self, kind: HandshakeKind) {
        self.handshakes.get_or_create(&HandshakeLabels { kind }).inc();
    }

    /// Until what is returned is dropped.
    pub(crate) fn park(&self) -> Parked {
        self.parked.inc();
        Parked(self.parked.clone())
    }

    /// Connections that are parked now.
    pub fn parked(&self) -> i64 {
        self.parked.get()
    }

    /// How many ended so.
    pub fn ended_total(&self, reason: Ended) -> u64 {
        self.ended.get_or_create(&EndedLabels { reason }).get()
    }

    /// How many handshakes were so.
    pub fn handshakes_total(&self, kind: HandshakeKind) -> u64 {
        self.handshakes.get_or_create(&HandshakeLabels { kind }).get()
    }
}

/// One parked connection.
#[derive(Debug)]
pub(crate) struct Parked(Gauge);

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.dec();
    }
}
