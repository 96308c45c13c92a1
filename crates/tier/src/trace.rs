//! Traces: which requests are in one, and their spans' way to a collector over OTLP/HTTP.
//!
//! Nothing here makes a request wait: a span is written out where it ends, put into a queue, and lost (and counted) when that
//! is full.

mod export;
mod flags;
mod otlp;
mod span;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use perigee_cache::{Arrival, Begun, FetchSpan, Record, Trace, Tracer};
use perigee_node::clock;
use perigee_semantics::trace::{SpanId, TraceId, TraceParent, tracestate};

pub(crate) use self::export::{Exporter, TraceMetrics};
pub use self::flags::{Endpoint, TraceFlags};

/// Where traces go, and of which requests.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The collector.
    pub endpoint: Endpoint,
    /// What its certificate must lead to, where it speaks TLS; None: the public authorities.
    pub ca: Option<PathBuf>,
    /// What it wants to be sent beside them, say a key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the requests for which nobody else decides, the part that is traced: 0.0 to 1.0.
    pub sample: f64,
    /// Clients that are believed which trace they are in, and whether it is recorded.
    pub trust: Vec<IpNet>,
    /// What the collector is told of this process: `service.name` and its like.
    pub resource: Vec<(String, String)>,
}

impl TraceOptions {
    /// All requests, of which no client is believed anything.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, ca: None, headers: Vec::new(), sample: 1.0, trust: Vec::new(), resource: Vec::new() }
    }
}

/// Decides by rate and trust, and hands spans to the exporter.
#[derive(Debug)]
pub(crate) struct Spans {
    sample: f64,
    trust: Vec<IpNet>,
    exporter: Exporter,
}

impl Spans {
    pub(crate) fn new(options: &TraceOptions, exporter: Exporter) -> Arc<Self> {
        Arc::new(Self { sample: options.sample, trust: options.trust.clone(), exporter })
    }
}

fn is_trusted(trust: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    trust.iter().any(|network| network.contains(&client))
}

/// The trace that a request is to be part of; None: none.
fn decide(arrival: &Arrival<'_>, is_trusted: bool, sample: f64, chance: impl Fn() -> u64) -> Option<Begun> {
    let said = TraceParent::of(arrival.headers);
    // A node of the fleet has decided for all. A client's word counts where it is trusted; else one that asks for a trace
    // with each request would have all of them recorded.
    let believed = arrival.decided == Some(true) || is_trusted && !arrival.is_peer;
    let is_wanted = match (arrival.decided, said) {
        (Some(decided), _) => decided,
        (None, Some(said)) if believed => said.sampled,
        _ => is_drawn(sample, chance()),
    };
    if !is_wanted {
        return None;
    }
    let span = SpanId::new(chance());
    Some(match said.filter(|_| believed) {
        Some(said) => Begun {
            own: TraceParent { span, sampled: true, ..said },
            parent: Some(said.span),
            state: tracestate(arrival.headers),
            claimed: None,
            now_ns: clock::now_ns(),
        },
        None => Begun {
            own: TraceParent {
                trace: TraceId::new(u128::from(chance()) << 64 | u128::from(chance())),
                span,
                sampled: true,
                random: true,
            },
            parent: None,
            // Trace Context §3.4: a trace that begins anew has no state.
            state: None,
            claimed: said,
            now_ns: clock::now_ns(),
        },
    })
}

/// Whether a number drawn among all of 64 bits is in the first `sample` of them.
fn is_drawn(sample: f64, drawn: u64) -> bool {
    // What a float tells apart: 53 bits, so that 1.0 is above all of them.
    ((drawn >> 11) as f64) < sample * (1_u64 << 53) as f64
}

/// Numbers that nobody can foresee: SipHash under a key that a thread takes from the system once, and counts up.
fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

impl Tracer for Spans {
    fn begin(&self, arrival: &Arrival<'_>) -> Option<Begun> {
        decide(arrival, is_trusted(&self.trust, arrival.client), self.sample, chance)
    }

    fn span_id(&self) -> SpanId {
        SpanId::new(chance())
    }

    fn fetched(&self, fetch: FetchSpan) {
        self.exporter.take(span::of_fetch(&fetch));
    }

    fn served(&self, trace: &Trace, record: &Record, links: &[TraceParent]) {
        self.exporter.take(span::of_request(trace, record, links));
    }
}

#[cfg(test)]
mod tests;
