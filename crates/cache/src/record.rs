//! What one request came to: the line of the access log, and what the counters count.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderValue, Method, uri::PathAndQuery};
use serde::{Serialize, Serializer};

use crate::{line, trace::Trace};

/// One line of the access log. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When the request arrived, milliseconds since the Unix epoch.
    pub time: u64,
    /// The node.
    pub node: Arc<str>,
    /// The site; empty when none matched.
    pub site: Arc<str>,
    /// The client's address (of the connection).
    pub client: IpAddr,
    /// The method.
    #[serde(serialize_with = "text")]
    pub method: Method,
    /// The authority as asked.
    #[serde(serialize_with = "field")]
    pub host: Option<HeaderValue>,
    /// Path and query as asked.
    #[serde(serialize_with = "target")]
    pub target: Option<PathAndQuery>,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// What was answered.
    pub status: u16,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// Whether the body ended before its end.
    pub cut: bool,
    /// How the cache handled it: `hit`, `stale`, `validated`, `collapsed`, `miss`, `pass`, `error`.
    pub cache: &'static str,
    /// Why, in the words of the decision.
    pub reason: &'static str,
    /// Where a hit came from: `memory`, `disk`; empty otherwise.
    pub tier: &'static str,
    /// Who was asked, `shield-eu` or an origin; empty for hits.
    pub upstream: String,
    /// Hash of the cache key, hexadecimal; empty where there is none.
    #[serde(serialize_with = "hexadecimal")]
    pub key: Option<u64>,
    /// Of the document.
    pub generation: u64,
    /// The request's rule by its place among the site's, from 0; null where none matched.
    pub rule: Option<u16>,
    /// From the request's head to the response's, in microseconds.
    pub head_us: u64,
    /// To the end of the body, in microseconds.
    pub total_us: u64,
    /// As sent by the client, cut at 256 bytes.
    #[serde(serialize_with = "field")]
    pub user_agent: Option<HeaderValue>,
    /// `trace_id`, hexadecimal, of a request that is traced; else absent.
    #[serde(rename = "trace_id", serialize_with = "trace_id", skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<Trace>>,
}

impl Record {
    /// Appends the record as one JSON object, as serde would write it and several times as fast.
    pub fn write_json(&self, line: &mut Vec<u8>) {
        line::write(self, line);
    }
}

/// Field values are logged up to so many bytes.
pub(crate) const FIELD_BYTES_MAX: usize = 256;

fn text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn field<S: Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(line::field(value.as_ref())))
}

fn target<S: Serializer>(value: &Option<PathAndQuery>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_ref().map_or("", PathAndQuery::as_str))
}

fn hexadecimal<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(hash) => serializer.collect_str(&format_args!("{hash:016x}")),
        None => serializer.serialize_str(""),
    }
}

fn trace_id<S: Serializer>(value: &Option<Arc<Trace>>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(trace) => serializer.collect_str(&trace.id()),
        None => serializer.serialize_none(),
    }
}

/// Takes records; must not block.
pub trait Recorder: Send + Sync + std::fmt::Debug {
    /// Called once for each request, when its body has been handed over or given up.
    fn record(&self, record: &Record);
}

/// Discards records.
#[derive(Debug)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn record(&self, _record: &Record) {}
}

/// The status in the record of a request whose client went before there was a response: nobody was sent it.
pub(crate) const CLIENT_GONE: u16 = 499;

/// A record that is completed by the end of its response, or of the wait for one.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) record: Record,
    pub(crate) began: Instant,
    pub(crate) recorder: Arc<dyn Recorder>,
    pub(crate) metrics: crate::metrics::Metrics,
    /// Where it is counted.
    pub(crate) site: crate::tally::Place,
    /// Whether there is a response.
    pub(crate) answered: bool,
    /// Whether all of it was handed over.
    pub(crate) complete: bool,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.record.cut = !self.complete;
        self.record.total_us = elapsed_us(self.began);
        if !self.answered {
            // For so long at least there was no head.
            self.record.head_us = self.record.total_us;
        }
        self.metrics.ended(&self.record, self.site);
        self.recorder.record(&self.record);
        if let Some(trace) = &self.record.trace {
            trace.served(&self.record);
        }
    }
}

pub(crate) fn elapsed_us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A hit.
    pub(crate) fn record() -> Record {
        Record {
            time: 1_795_437_115_000,
            node: "edge-fra".into(),
            site: "shop".into(),
            client: IpAddr::from([192, 0, 2, 7]),
            method: Method::GET,
            host: Some(HeaderValue::from_static("shop.example")),
            target: Some(PathAndQuery::from_static("/a?b=c")),
            protocol: "HTTP/1.1",
            status: 200,
            bytes: 1024,
            cut: false,
            cache: "hit",
            reason: "fresh",
            tier: "memory",
            upstream: String::new(),
            key: Some(0x0123_4567_89ab_cdef),
            generation: 1,
            rule: Some(3),
            head_us: 12,
            total_us: 34,
            user_agent: None,
            trace: None,
        }
    }
}
