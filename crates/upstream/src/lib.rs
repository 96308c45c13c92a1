//! Fetching from a shield or an origin over hyper's client connections: selection, pools, health, retries, time-outs.
//!
//! [`Fleet`] is what a node builds per site; engines see it as [`Upstream`], so that tests can script one. A fetch goes
//! to one server at a time, in an order that [`FetchRequest::key_hash`] decides, and hands back a streaming response that
//! holds its connection until the body ends.
//!
//! Origins are asked over HTTP/1.1, with TLS where their URL says so; shields over HTTP/2 too, where the document says so.
//!
//! Deliberately absent: caching rules (an answer of 500 is an answer), hedging, active health probes, a clock (it is passed
//! in), files (certificates to trust are handed in), and pools that outlive their [`Fleet`].

mod body;
mod breaker;
mod budget;
mod connect;
mod early;
mod error;
mod exchange;
mod fleet;
mod lease;
mod message;
mod metrics;
mod multiplex;
mod observe;
mod pool;
mod resolve;
mod select;
mod server;
mod share;
mod socket;
mod tls;
mod upload;
mod wire;

use std::{fmt, future::Future, pin::Pin};

pub use body::UpstreamBody;
pub use error::{FetchError, FetchErrorKind, Side};
pub use fleet::{Clock, Fleet, FleetContext};
pub use message::{BodyFraming, Claims, FetchRequest, FetchResponse, Interim, Peer, RequestBody};
pub use metrics::Metrics;
pub use observe::{Attempt, Observer};
pub use resolve::{Resolve, ResolveError, StaticResolver, SystemResolver};
pub use share::Network;
pub use tls::{Roots, RootsError, Trust};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whatever answers fetches: a [`Fleet`], or a test's script.
pub trait Upstream: Send + Sync + fmt::Debug {
    /// Fetches once, retries included. Ready with the response's head; the body streams behind it.
    ///
    /// Dropping the future abandons the fetch and closes its connection. Every final status is `Ok`, 5xx too; interim
    /// responses (1xx) are skipped. Must be polled inside a tokio runtime, and its body on the same one.
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, FetchError>>;

    /// Whom a fetch with that hash asks, in order; whether they are well at the moment is not considered.
    fn order(&self, key_hash: u64) -> Vec<Peer> {
        let _ = key_hash;
        Vec::new()
    }
}
