//! A request's part in a trace (W3C Trace Context), where it has one: a span of the request and one of each attempt at an
//! upstream. Who decides which requests are traced, gives ids and takes spans is a [`Tracer`]; without one there is nothing.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, uri::PathAndQuery};
use perigee_protocol::{
    headers::TRACED,
    model::{Scheme, Url},
};
use perigee_semantics::trace::{SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent};
use perigee_upstream::{Attempt, FetchErrorKind, FetchRequest, Observer, Peer};

use crate::record::Record;

/// W3C Server Timing: what the client may learn of the response's making.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Fetches of others that a request is said to have waited for.
const LINKS_MAX: usize = 8;

/// Decides which requests are traced, and takes their spans. Must not block.
pub trait Tracer: Send + Sync + std::fmt::Debug {
    /// How a request is traced, if it is; asked once, when its site is known.
    fn begin(&self, arrival: &Arrival<'_>) -> Option<Begun>;
    /// A new span's id.
    fn span_id(&self) -> SpanId;
    /// An attempt at an upstream has ended, with the body of its response.
    fn fetched(&self, span: FetchSpan);
    /// A request has ended, with the body of its response; `links` are spans of fetches that it shared with others.
    fn served(&self, trace: &Trace, record: &Record, links: &[TraceParent]);
}

/// What is known of a request when it is decided whether it is traced.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// As they came.
    pub headers: &'a HeaderMap,
    /// Of the connection.
    pub client: IpAddr,
    /// Whether a node of the fleet asks.
    pub is_peer: bool,
    /// What that decided; None: nothing, since it traces nothing.
    pub decided: Option<bool>,
}

/// How a request is traced.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The span of the request, and its trace.
    pub own: TraceParent,
    /// The span that asks, of the same trace.
    pub parent: Option<SpanId>,
    /// What goes on as `tracestate`.
    pub state: Option<HeaderValue>,
    /// What a client says that is not believed: another trace, for a link.
    pub claimed: Option<TraceParent>,
    /// Nanoseconds since the Unix epoch.
    pub now_ns: u64,
}

type Latest = Arc<Mutex<Option<TraceParent>>>;

/// A request's part in a trace.
#[derive(Debug)]
pub struct Trace {
    begun: Begun,
    at: Instant,
    is_peer: bool,
    scheme: Scheme,
    /// The span of the attempt that began last. Shared with those who wait for it, and not the whole trace: two requests may
    /// wait for each other's fetches, and would never let go of each other.
    latest: Latest,
    /// Whose fetches it waited for.
    joined: Mutex<Vec<Latest>>,
    tracer: Arc<dyn Tracer>,
}

impl Trace {
    pub(crate) fn begin(
        tracer: &Arc<dyn Tracer>,
        (headers, client, scheme): (&HeaderMap, IpAddr, Scheme),
        is_peer: bool,
    ) -> Option<Arc<Self>> {
        let told = headers.get(TRACED).filter(|_| is_peer);
        let decided = told.map(|told| told == "1");
        let begun = tracer.begin(&Arrival { headers, client, is_peer, decided })?;
        Some(Arc::new(Self {
            begun,
            at: Instant::now(),
            is_peer,
            scheme,
            latest: Latest::default(),
            joined: Mutex::default(),
            tracer: Arc::clone(tracer),
        }))
    }

    /// How it began.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// The trace.
    pub fn id(&self) -> TraceId {
        self.begun.own.trace
    }

    /// How the client asked.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Nanoseconds since the Unix epoch: what has passed since it began counts, not how the wall's clock was set meanwhile.
    pub fn now_ns(&self) -> u64 {
        let passed = u64::try_from(self.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.begun.now_ns.saturating_add(passed)
    }

    /// Says that the request waits for the fetch of another.
    pub(crate) fn joins(&self, other: &Arc<Self>) {
        let mut joined = lock(&self.joined);
        if joined.len() < LINKS_MAX {
            joined.push(Arc::clone(&other.latest));
        }
    }

    pub(crate) fn served(&self, record: &Record) {
        let joined = std::mem::take(&mut *lock(&self.joined));
        let links: Vec<TraceParent> = joined.iter().filter_map(|other| *lock(other)).collect();
        self.tracer.served(self, record, &links);
    }

    /// Tells the client which trace its request is in, in the form that browsers' tools look for. Peers are not told: what
    /// they keep of a response would tell it to others.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if !self.is_peer
            && let Ok(value) = HeaderValue::try_from(format!("traceparent;desc=\"{}\"", self.begun.own))
        {
            headers.append(SERVER_TIMING, value);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An attempt at an upstream, from the first thought of a connection to the end of the response's body.
#[derive(Clone, Debug)]
pub struct FetchSpan {
    /// This span and its trace.
    pub own: TraceParent,
    /// The span of the request that caused it.
    pub parent: SpanId,
    /// As it went on.
    pub state: Option<HeaderValue>,
    /// Nanoseconds since the Unix epoch.
    pub began_ns: u64,
    /// The same, at the end.
    pub ended_ns: u64,
    /// Who was asked.
    pub peer: Peer,
    /// Where that is.
    pub url: Url,
    /// With which method.
    pub method: Method,
    /// For what.
    pub target: PathAndQuery,
    /// How many attempts of the same fetch came before.
    pub resends: u32,
    /// What was answered, and in which version.
    pub answered: Option<(StatusCode, Version)>,
    /// Why it failed; None: it did not, or it was abandoned before it was answered.
    pub failed: Option<FetchErrorKind>,
}

/// Makes a span of each attempt of one fetch.
#[derive(Debug)]
pub(crate) struct Fetch {
    trace: Arc<Trace>,
    attempts: AtomicU32,
}

impl Fetch {
    pub(crate) fn new(trace: &Arc<Trace>) -> Self {
        Self { trace: Arc::clone(trace), attempts: AtomicU32::new(0) }
    }
}

impl Observer for Fetch {
    fn attempt(&self, request: &FetchRequest, peer: &Peer, url: &Url) -> Box<dyn Attempt> {
        let begun = &self.trace.begun;
        let own = TraceParent { span: self.trace.tracer.span_id(), ..begun.own };
        *lock(&self.trace.latest) = Some(own);
        let began_ns = self.trace.now_ns();
        let span = FetchSpan {
            own,
            parent: begun.own.span,
            state: begun.state.clone(),
            began_ns,
            ended_ns: began_ns,
            peer: peer.clone(),
            url: url.clone(),
            method: request.method.clone(),
            target: request.target.clone(),
            resends: self.attempts.fetch_add(1, Ordering::Relaxed),
            answered: None,
            failed: None,
        };
        Box::new(Spanned { trace: Arc::clone(&self.trace), span: Some(span) })
    }
}

#[derive(Debug)]
struct Spanned {
    trace: Arc<Trace>,
    /// Until it is handed over.
    span: Option<FetchSpan>,
}

impl Attempt for Spanned {
    fn fields(&self, headers: &mut HeaderMap) {
        let Some(span) = &self.span else { return };
        // Trace Context §3.4: the parent of what comes is this attempt; the state goes with it, or neither.
        headers.insert(TRACEPARENT, span.own.to_value());
        match &span.state {
            Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
            None => drop(headers.remove(TRACESTATE)),
        }
        if matches!(span.peer, Peer::Shield(_)) {
            headers.insert(TRACED, HeaderValue::from_static("1"));
        }
    }

    fn answered(&mut self, status: StatusCode, version: Version, _connect_reused: bool) {
        if let Some(span) = &mut self.span {
            span.answered = Some((status, version));
        }
    }

    fn failed(&mut self, kind: FetchErrorKind) {
        if let Some(span) = &mut self.span {
            span.failed = Some(kind);
        }
    }

    fn trace_id(&self) -> Option<&dyn fmt::Display> {
        Some(&self.trace.begun.own.trace)
    }
}

impl Drop for Spanned {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.ended_ns = self.trace.now_ns();
            self.trace.tracer.fetched(span);
        }
    }
}

/// Tells shields that it was decided not to trace: a request is traced by all tiers or by none.
#[derive(Debug)]
pub(crate) struct Untraced;

impl Observer for Untraced {
    fn attempt(&self, _request: &FetchRequest, peer: &Peer, _url: &Url) -> Box<dyn Attempt> {
        Box::new(UntracedAttempt { is_shield: matches!(peer, Peer::Shield(_)) })
    }
}

#[derive(Debug)]
struct UntracedAttempt {
    is_shield: bool,
}

impl Attempt for UntracedAttempt {
    fn fields(&self, headers: &mut HeaderMap) {
        if self.is_shield {
            headers.insert(TRACED, HeaderValue::from_static("0"));
        }
    }

    fn answered(&mut self, _status: StatusCode, _version: Version, _connect_reused: bool) {}

    fn failed(&mut self, _kind: FetchErrorKind) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Always;

    impl Tracer for Always {
        fn begin(&self, _: &Arrival<'_>) -> Option<Begun> {
            let own = TraceParent { trace: TraceId::new(1), span: self.span_id(), sampled: true, random: true };
            Some(Begun { own, parent: None, state: None, claimed: None, now_ns: 0 })
        }

        fn span_id(&self) -> SpanId {
            SpanId::new(1)
        }

        fn fetched(&self, _: FetchSpan) {}

        fn served(&self, _: &Trace, _: &Record, _: &[TraceParent]) {}
    }

    #[test]
    fn requests_that_wait_for_each_other_let_go_of_each_other() {
        let tracer: Arc<dyn Tracer> = Arc::new(Always);
        let of = (&HeaderMap::new(), IpAddr::from([192, 0, 2, 1]), Scheme::Http);
        let [one, other] = [Trace::begin(&tracer, of, false).unwrap(), Trace::begin(&tracer, of, false).unwrap()];
        one.joins(&other);
        other.joins(&one);
        one.joins(&one);
        let left = [Arc::downgrade(&one), Arc::downgrade(&other)];
        drop((one, other));
        assert!(left.iter().all(|trace| trace.upgrade().is_none()));
    }
}
