//! Spans on their way to a collector: a queue with an end, batches, and patience with a collector that is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use perigee_node::{clock, regular, tls::PEM_BYTES_MAX};
use perigee_protocol::{id::SiteId, model};
use perigee_upstream::{
    FetchRequest, FetchResponse, Fleet, FleetContext, Metrics, RequestBody, Roots, Trust, Upstream, UpstreamBody,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Endpoint, TraceOptions, otlp};

/// Spans that wait; more are lost. What OpenTelemetry's own batches have.
pub(crate) const QUEUE_SPANS_MAX: usize = 2048;
/// Spans of one request to the collector.
pub(crate) const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch (OTLP exporters' default).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is sent at most.
const ATTEMPTS_MAX: u32 = 5;
/// Before the second attempt; doubled for each further.
const PAUSE: Duration = Duration::from_secs(1);
/// However long a collector asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a drain waits for what is queued.
const FLUSH_BOUND: Duration = Duration::from_secs(3);
/// What is read of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What becomes of spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceMetrics {
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

impl TraceMetrics {
    /// Registers `perigee_traces_*`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "perigee_traces_exported",
            "Spans of traces that the collector took",
            metrics.exported.clone(),
        );
        registry.register(
            "perigee_traces_dropped",
            "Spans of traces lost because the queue for the collector was full",
            metrics.dropped.clone(),
        );
        registry.register(
            "perigee_traces_failed",
            "Spans of traces lost because the collector refused them or was away for too long",
            metrics.failed.clone(),
        );
        metrics
    }
}

/// Takes spans. Cheap to clone; its task ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    queue: mpsc::Sender<Item>,
    closing: Arc<Closing>,
    metrics: TraceMetrics,
}

#[derive(Debug)]
enum Item {
    Span(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// That the node ends: nothing is tried twice any more.
#[derive(Debug, Default)]
struct Closing {
    is_closing: AtomicBool,
    told: Notify,
}

impl Closing {
    async fn wait(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if !self.is_closing.load(Ordering::SeqCst) {
            told.await;
        }
    }
}

impl Exporter {
    /// Starts its task. `resource` comes before what the options say of it.
    pub(crate) fn start(
        runtime: &Handle,
        options: &TraceOptions,
        resource: Vec<(String, String)>,
        context: &FleetContext,
        metrics: TraceMetrics,
    ) -> anyhow::Result<Self> {
        let (queue, spans) = mpsc::channel(QUEUE_SPANS_MAX);
        let closing = Arc::<Closing>::default();
        let mut resource = resource;
        resource.retain(|(key, _)| options.resource.iter().all(|(said, _)| said != key));
        resource.extend(options.resource.iter().cloned());
        let sender = Sender {
            endpoint: options.endpoint.clone(),
            fleet: fleet(options, context)?,
            host: HeaderValue::from_str(&options.endpoint.url.authority())?,
            headers: headers(&options.headers),
            resource,
            closing: Arc::clone(&closing),
            metrics: metrics.clone(),
            is_away: false,
        };
        runtime.spawn(sender.run(spans));
        Ok(Self { queue, closing, metrics })
    }

    /// Never waits: a span for which there is no room is lost and counted.
    pub(crate) fn take(&self, span: Vec<u8>) {
        if self.queue.try_send(Item::Span(span)).is_err() {
            self.metrics.dropped.inc();
        }
    }

    /// Returns when what was taken before has been sent, or after [`FLUSH_BOUND`]. Nothing is tried again afterwards.
    pub(crate) async fn flush(&self) {
        self.closing.is_closing.store(true, Ordering::SeqCst);
        self.closing.told.notify_waiters();
        let (done, flushed) = oneshot::channel();
        let all = async {
            if self.queue.send(Item::Flush(done)).await.is_ok() {
                flushed.await.unwrap_or_default();
            }
        };
        if timeout(FLUSH_BOUND, all).await.is_err() {
            tracing::warn!(
                bound_s = FLUSH_BOUND.as_secs(),
                "the collector did not take the last spans of traces in time"
            );
        }
    }
}

/// The collector as an upstream: connections, TLS and time-outs are those of any other.
fn fleet(options: &TraceOptions, context: &FleetContext) -> anyhow::Result<Fleet> {
    let id: SiteId = "otlp".parse()?;
    let mut trust = Trust::default();
    if let Some(path) = &options.ca {
        let pem = regular::read(path, PEM_BYTES_MAX).with_context(|| format!("{}: cannot be read", path.display()))?;
        trust.add(path, Roots::from_pem(&pem).with_context(|| path.display().to_string())?);
    }
    let site = model::Site {
        id,
        hosts: Vec::new(),
        origins: vec![model::Origin { url: options.endpoint.url.clone(), weight: 1, backup: false }],
        host_header: None,
        pops: None,
        all_down: Default::default(),
        tls: None,
        cache: model::CachePolicy::default(),
        upstream: model::UpstreamPolicy {
            first_byte_timeout: ANSWER_TIMEOUT,
            retries: 0,
            connections_max: 1,
            tls: model::UpstreamTls { ca: options.ca.clone(), name: None },
            ..model::UpstreamPolicy::default()
        },
        rules: Vec::new(),
    };
    // Not counted with those that clients' requests go to, and told no secret.
    let context = FleetContext { secret: None, metrics: Metrics::default(), trust, ..context.clone() };
    Ok(Fleet::for_site(&site, &[], None, &context))
}

fn headers(own: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("OTel-OTLP-Exporter-perigee/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, value) in own {
        headers.insert(name, value.clone());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers
}

struct Sender {
    endpoint: Endpoint,
    fleet: Fleet,
    host: HeaderValue,
    headers: HeaderMap,
    resource: Vec<(String, String)>,
    closing: Arc<Closing>,
    metrics: TraceMetrics,
    is_away: bool,
}

/// What a collector made of a batch.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It took it, but for so many spans.
    Taken { refused: u64 },
    /// It will not take it.
    Refused(String),
    /// It may take it later: at once, or after so long.
    Later(String, Option<Duration>),
}

impl Sender {
    async fn run(mut self, mut queue: mpsc::Receiver<Item>) {
        let mut items = Vec::with_capacity(BATCH_SPANS_MAX);
        loop {
            if queue.recv_many(&mut items, BATCH_SPANS_MAX).await == 0 {
                return;
            }
            let deadline = Instant::now() + BATCH_WAIT;
            while items.len() < BATCH_SPANS_MAX && !matches!(items.last(), Some(Item::Flush(_))) {
                let room = BATCH_SPANS_MAX - items.len();
                tokio::select! {
                    more = queue.recv_many(&mut items, room) => if more == 0 { break },
                    () = sleep_until(deadline) => break,
                }
            }
            let (mut spans, mut flushes) = (Vec::new(), Vec::new());
            for item in items.drain(..) {
                match item {
                    Item::Span(span) => spans.push(span),
                    Item::Flush(done) => flushes.push(done),
                }
            }
            if !spans.is_empty() {
                self.deliver(&spans).await;
            }
            for done in flushes {
                // Whoever asked may have waited long enough.
                done.send(()).unwrap_or_default();
            }
        }
    }

    /// Sends a batch until it is taken, refused, or was sent often enough. Meanwhile the queue fills, and what is then too
    /// much is lost.
    async fn deliver(&mut self, spans: &[Vec<u8>]) {
        let message = otlp::request(&self.resource, spans);
        let (count, mut pause) = (spans.len() as u64, PAUSE);
        for attempt in 1..=ATTEMPTS_MAX {
            let sent = timeout(ANSWER_TIMEOUT, self.send(message.clone())).await;
            let outcome = sent.unwrap_or_else(|_| Outcome::Later("no answer in time".into(), None));
            let (why, wait) = match outcome {
                Outcome::Taken { refused } => {
                    self.metrics.exported.inc_by(count.saturating_sub(refused));
                    self.metrics.failed.inc_by(refused.min(count));
                    return self.is_well();
                }
                Outcome::Refused(why) => {
                    self.is_ill(&why);
                    break;
                }
                Outcome::Later(why, wait) => (why, wait),
            };
            self.is_ill(&why);
            if attempt == ATTEMPTS_MAX || self.closing.is_closing.load(Ordering::SeqCst) {
                break;
            }
            tokio::select! {
                () = sleep(wait.unwrap_or(pause).min(PAUSE_MAX)) => {}
                () = self.closing.wait() => {}
            }
            pause *= 2;
        }
        self.metrics.failed.inc_by(count);
    }

    async fn send(&self, message: Vec<u8>) -> Outcome {
        let request = FetchRequest {
            method: Method::POST,
            headers: self.headers.clone(),
            body: Some(RequestBody::from(message)),
            ..FetchRequest::get(self.host.clone(), self.endpoint.path.clone(), 0)
        };
        match self.fleet.fetch(request).await {
            Ok(response) => outcome(response).await,
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                Outcome::Later(format!("{error}{source}"), None)
            }
        }
    }

    fn is_ill(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(collector = %self.endpoint, reason = why, "traces do not arrive; requests go on without");
        }
    }

    fn is_well(&mut self) {
        if std::mem::replace(&mut self.is_away, false) {
            tracing::info!(collector = %self.endpoint, "traces arrive again");
        }
    }
}

/// OTLP 1.x, OTLP/HTTP Response.
async fn outcome(response: FetchResponse) -> Outcome {
    let FetchResponse { status, headers, body, .. } = response;
    let said = read(body).await;
    if status.is_success() {
        let (refused, why) = otlp::refused(&said);
        if refused > 0 {
            tracing::debug!(refused, why, "the collector refused spans");
        }
        return Outcome::Taken { refused };
    }
    let why = format!("it answers {status}");
    let retryable = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if retryable.contains(&status) {
        let asked = headers.get(header::RETRY_AFTER);
        Outcome::Later(why, asked.and_then(|value| retry_after(value, clock::now_ms())))
    } else {
        Outcome::Refused(why)
    }
}

/// RFC 9110 §10.2.3: seconds, or a moment.
fn retry_after(value: &HeaderValue, now_ms: u64) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(text).ok()?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms);
    Some(moment.duration_since(now).unwrap_or_default())
}

/// The body, if it is short enough to be of interest. Read to its end, it leaves a connection that can be used again.
async fn read(mut body: UpstreamBody) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > ANSWER_BYTES_MAX {
                break;
            }
            read.extend_from_slice(&data);
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_collector_asks_for() {
        let check = |value: &'static str, expected: Option<u64>| {
            let told = retry_after(&HeaderValue::from_static(value), 1_000_000_000_000);
            assert_eq!(told, expected.map(Duration::from_secs), "{value}");
        };
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("Sun, 09 Sep 2001 01:47:40 GMT", Some(60));
        check("Sun, 09 Sep 2001 01:46:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }
}
