//! What is asked of an upstream, and what comes back.

use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, uri::PathAndQuery};
use http_body::Body;
use http_body_util::BodyExt;
use perigee_protocol::{
    id::{ShieldId, SiteId},
    model::Scheme,
};

use crate::{UpstreamBody, observe::Observer, share::Network};

/// One request. Hop-by-hop fields, `Host`, lengths and internal fields among `headers` are not sent on: those that the
/// hop needs are made anew.
#[derive(Debug)]
pub struct FetchRequest {
    /// Any but CONNECT.
    pub method: Method,
    /// Sent byte for byte.
    pub target: PathAndQuery,
    /// Sent as `Host`.
    pub host: HeaderValue,
    /// End-to-end fields, in order.
    pub headers: HeaderMap,
    /// None: no content.
    pub body: Option<RequestBody>,
    /// Who asked: a network has its share of each upstream's connections. None: nobody in particular, without a limit.
    pub network: Option<Network>,
    /// Decides which of several equal upstreams is asked first: one key always asks the same one.
    pub key_hash: u64,
    /// Told to shields, with a proof; never to origins.
    pub shield_claims: Option<Claims>,
    /// Hears interim responses. None: they are skipped.
    pub interim: Option<Interim>,
    /// Hears of each attempt.
    pub observer: Option<Arc<dyn Observer>>,
}

impl FetchRequest {
    /// A GET without fields of its own.
    pub fn get(host: HeaderValue, target: PathAndQuery, key_hash: u64) -> Self {
        Self {
            method: Method::GET,
            target,
            host,
            headers: HeaderMap::new(),
            body: None,
            network: None,
            key_hash,
            shield_claims: None,
            interim: None,
            observer: None,
        }
    }
}

/// Hears the interim responses (1xx) that come before a final one, without hop-by-hop and internal fields. Must not block.
#[derive(Clone)]
pub struct Interim(Arc<Hear>);

type Hear = dyn Fn(StatusCode, &HeaderMap) + Send + Sync;

impl Interim {
    /// Calls `hear` for each.
    pub fn new(hear: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(crate) fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        (self.0)(status, headers);
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

/// What an edge tells a shield beside the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The site that the edge routed to.
    pub site: SiteId,
    /// The authority of the cache key.
    pub key_authority: String,
    /// The scheme of the cache key.
    pub key_scheme: Scheme,
    /// Which rules the client's request matched, in the form of `perigee_protocol::headers::RULE`; None: none.
    pub rule: Option<String>,
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A request's content as a stream. It can be sent once: a request with content is not retried after its first byte
/// was asked for.
pub struct RequestBody(pub(crate) BoxBody);

impl RequestBody {
    /// Streams `body`. An exact [`Body::size_hint`] becomes `Content-Length`, any other is sent in chunks.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Box::pin(body.map_err(Into::into)))
    }

    /// Its length in bytes, where the client said it.
    pub fn exact_length(&self) -> Option<u64> {
        self.0.size_hint().exact()
    }
}

impl<T: Into<Bytes>> From<T> for RequestBody {
    fn from(bytes: T) -> Self {
        Self::new(http_body_util::Full::new(bytes.into()))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({:?})", self.0.size_hint())
    }
}

/// A final response.
#[derive(Debug)]
pub struct FetchResponse {
    /// 200..=999.
    pub status: StatusCode,
    /// End-to-end fields: without `Connection` and what it names, without `Transfer-Encoding`, without internal fields,
    /// and with at most one meaning of `Content-Length`.
    pub headers: HeaderMap,
    /// What the upstream speaks, for `Via`.
    pub version: Version,
    /// Streams.
    pub body: UpstreamBody,
    /// How the end of the body is known.
    pub framing: BodyFraming,
    /// Who answered.
    pub peer: Peer,
    /// The object's age in milliseconds, if a shield said so and proved itself.
    pub trusted_age_ms: Option<u64>,
    /// Whether the connection had served before.
    pub connect_reused: bool,
}

impl FetchResponse {
    /// A response that no network carried: for scripted upstreams.
    pub fn scripted(status: StatusCode, headers: HeaderMap, body: UpstreamBody) -> Self {
        let framing = match http_body::Body::size_hint(&body).exact() {
            Some(0) => BodyFraming::Empty,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        Self {
            status,
            headers,
            version: Version::HTTP_11,
            body,
            framing,
            peer: Peer::Origin("scripted".into()),
            trusted_age_ms: None,
            connect_reused: false,
        }
    }
}

/// How the end of a response's content is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none: HEAD, 204, 304.
    Empty,
    /// `Content-Length`, 0 included.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection's end: only a clean one counts as complete, and even that may hide a cut.
    Close,
}

/// Who was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A shield of the fleet.
    Shield(ShieldId),
    /// An origin, by its URL.
    Origin(Arc<str>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shield(id) => write!(f, "shield {id}"),
            Self::Origin(url) => write!(f, "origin {url}"),
        }
    }
}
