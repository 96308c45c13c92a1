//! Spans in OpenTelemetry's words: the semantic conventions for HTTP, and ours under `perigee.`.

use http::{Method, StatusCode, Version};
use perigee_cache::{FetchSpan, Record, Trace};
use perigee_protocol::model::Scheme;
use perigee_semantics::trace::TraceParent;

use super::otlp::Message;

/// Numbers of the fields of `Span`.
mod field {
    pub(super) const IDS: (u32, u32) = (1, 2);
    pub(super) const STATE: u32 = 3;
    pub(super) const PARENT: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const ATTRIBUTE: u32 = 9;
    pub(super) const LINK: u32 = 13;
    pub(super) const STATUS: u32 = 15;
    pub(super) const FLAGS: u32 = 16;
}

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// Of `Status`.
const ERROR: u64 = 2;
/// Of `Span.flags`: that it is known whether the parent is in another process, and that it is.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The conventions' words for methods that may be many: others are told as `_OTHER`.
const METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];

/// Parameters whose values are signatures, by the conventions: they are left out.
const REDACTED: [&str; 4] = ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"];

/// A `Span` of a request that was answered.
pub(crate) fn of_request(trace: &Trace, record: &Record, links: &[TraceParent]) -> Vec<u8> {
    let begun = trace.begun();
    let mut span = Message::default();
    let remote = begun.parent.map_or(REMOTE_KNOWN, |_| REMOTE_KNOWN | REMOTE);
    begin(&mut span, begun.own, begun.state.as_ref(), remote);
    if let Some(parent) = begun.parent {
        span.bytes(field::PARENT, &parent.to_bytes());
    }
    times(&mut span, (begun.now_ns, trace.now_ns()));
    method(&mut span, SERVER, &record.method);
    let (host, port) = authority(record);
    let target = record.target.as_ref();
    let mut say = |key: &str, value: &str| {
        if !value.is_empty() {
            span.attribute(field::ATTRIBUTE, key, value);
        }
    };
    say("url.scheme", trace.scheme().as_str());
    say("url.path", target.map_or("", |target| target.path()));
    say("url.query", &redacted(target.and_then(|target| target.query()).unwrap_or_default()));
    say("server.address", &host);
    say("client.address", &record.client.to_string());
    say("network.protocol.version", version(record.protocol));
    let agent = record.user_agent.as_ref().map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    say("user_agent.original", agent.as_deref().unwrap_or_default());
    say("perigee.site", &record.site);
    say("perigee.cache", record.cache);
    say("perigee.reason", record.reason);
    say("perigee.tier", record.tier);
    say("perigee.upstream", &record.upstream);
    let port = port.unwrap_or(if trace.scheme() == Scheme::Https { 443 } else { 80 });
    span.attribute_number(field::ATTRIBUTE, "server.port", port.into());
    span.attribute_number(field::ATTRIBUTE, "http.response.status_code", record.status.into());
    span.attribute_number(field::ATTRIBUTE, "http.response.body.size", record.bytes);
    span.attribute_number(field::ATTRIBUTE, "perigee.generation", record.generation);
    if let Some(rule) = record.rule {
        span.attribute_number(field::ATTRIBUTE, "perigee.rule", rule.into());
    }
    if record.cut {
        span.attribute_true(field::ATTRIBUTE, "perigee.cut");
    }
    // A server's fault: what a client did wrong is no error of this span's.
    if record.status >= 500 {
        failed(&mut span, &record.status.to_string());
    }
    for other in links.iter().chain(&begun.claimed) {
        span.message(field::LINK, |link| {
            link.ids((1, 2), other.trace, other.span);
            link.fixed32(6, flags(*other));
        });
    }
    span.into_bytes()
}

/// A `Span` of an attempt at an upstream.
pub(crate) fn of_fetch(fetch: &FetchSpan) -> Vec<u8> {
    let mut span = Message::default();
    begin(&mut span, fetch.own, fetch.state.as_ref(), REMOTE_KNOWN);
    span.bytes(field::PARENT, &fetch.parent.to_bytes());
    times(&mut span, (fetch.began_ns, fetch.ended_ns));
    method(&mut span, CLIENT, &fetch.method);
    let (path, query) = (fetch.target.path(), fetch.target.query().map(redacted));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let (scheme, authority) = (fetch.url.scheme.as_str(), fetch.url.authority());
    span.attribute(field::ATTRIBUTE, "url.full", &format!("{scheme}://{authority}{path}{query}"));
    span.attribute(field::ATTRIBUTE, "server.address", &fetch.url.host);
    span.attribute_number(field::ATTRIBUTE, "server.port", fetch.url.port.into());
    span.attribute(field::ATTRIBUTE, "perigee.upstream", &fetch.peer.to_string());
    if fetch.resends > 0 {
        span.attribute_number(field::ATTRIBUTE, "http.request.resend_count", fetch.resends.into());
    }
    let status = fetch.answered.map(|(status, spoken)| {
        let spoken = if spoken == Version::HTTP_2 { "2" } else { "1.1" };
        span.attribute(field::ATTRIBUTE, "network.protocol.version", spoken);
        span.attribute_number(field::ATTRIBUTE, "http.response.status_code", status.as_u16().into());
        status
    });
    match (fetch.failed, status) {
        (Some(kind), _) => failed(&mut span, kind.as_str()),
        // To a client every 4xx is an error too.
        (None, Some(status)) if status >= StatusCode::BAD_REQUEST => failed(&mut span, status.as_str()),
        (None, Some(_)) => {}
        (None, None) => span.attribute_true(field::ATTRIBUTE, "perigee.abandoned"),
    }
    span.into_bytes()
}

fn begin(span: &mut Message, own: TraceParent, state: Option<&http::HeaderValue>, remote: u32) {
    span.ids(field::IDS, own.trace, own.span);
    if let Some(state) = state.and_then(|state| state.to_str().ok()) {
        span.text(field::STATE, state);
    }
    span.fixed32(field::FLAGS, flags(own) | remote);
}

fn flags(of: TraceParent) -> u32 {
    u32::from(of.sampled) | u32::from(of.random) << 1
}

fn times(span: &mut Message, (start, end): (u64, u64)) {
    span.fixed64(field::START, start);
    span.fixed64(field::END, end);
}

/// Its name is the method alone: URLs are too many for names.
fn method(span: &mut Message, kind: u64, method: &Method) {
    span.number(field::KIND, kind);
    if METHODS.contains(method) {
        span.text(field::NAME, method.as_str());
        span.attribute(field::ATTRIBUTE, "http.request.method", method.as_str());
    } else {
        span.text(field::NAME, "HTTP");
        span.attribute(field::ATTRIBUTE, "http.request.method", "_OTHER");
        span.attribute(field::ATTRIBUTE, "http.request.method_original", method.as_str());
    }
}

fn failed(span: &mut Message, kind: &str) {
    span.attribute(field::ATTRIBUTE, "error.type", kind);
    span.message(field::STATUS, |status| status.number(3, ERROR));
}

fn authority(record: &Record) -> (String, Option<u16>) {
    let text = record.host.as_ref().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let Ok(authority) = text.unwrap_or_default().parse::<http::uri::Authority>() else { return Default::default() };
    (authority.host().to_ascii_lowercase(), authority.port_u16())
}

fn version(protocol: &str) -> &str {
    match protocol {
        "HTTP/1.0" => "1.0",
        "HTTP/2.0" => "2",
        _ => "1.1",
    }
}

/// A query without the values that sign it.
fn redacted(query: &str) -> String {
    let parameter = |text: &str| match text.split_once('=') {
        Some((name, _)) if REDACTED.contains(&name) || name.eq_ignore_ascii_case("x-amz-signature") => {
            format!("{name}=REDACTED")
        }
        _ => text.to_owned(),
    };
    query.split('&').map(parameter).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_left_out() {
        let check = |query: &str, expected: &str| assert_eq!(redacted(query), expected);
        check("", "");
        check("a=1&b", "a=1&b");
        check("sig=abc&sigh=1", "sig=REDACTED&sigh=1");
        check("X-Amz-Signature=1&x=2&Signature=a=b", "X-Amz-Signature=REDACTED&x=2&Signature=REDACTED");
        check("AWSAccessKeyId=&X-Goog-Signature=1&sig", "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED&sig");
    }
}
