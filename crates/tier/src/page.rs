//! What the page shows of a tier: its counters over the last hour, and the URLs that are asked for most with the cache's
//! reasons.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderValue, uri::PathAndQuery};
use perigee_cache::{Engine, Record, Totals};
use perigee_node::{
    metrics::NodeMetrics,
    page::{Count, History, Map, Samples, Sketch, Source, of_node},
    state::NodeState,
};
use perigee_protocol::id::PopId;
use serde_json::{Value, json};

/// URLs that are told apart.
const URLS_MAX: usize = 256;
/// … of which so many are told.
const URLS_TOLD_MAX: usize = 20;
/// Longer ones are cut.
const URL_BYTES_MAX: usize = 256;
/// What was asked for so long ago counts half.
const HALF_LIFE_MS: u64 = 10 * 60 * 1000;
/// Purges that are told, latest first.
const PURGES_TOLD_MAX: usize = 5;

/// One request in many.
#[derive(Debug)]
pub(crate) struct Sample {
    host: Option<HeaderValue>,
    target: Option<PathAndQuery>,
    cache: &'static str,
    reason: &'static str,
    bytes: u64,
}

impl Sample {
    /// Two counted references and three words: nothing is copied.
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            host: record.host.clone(),
            target: record.target.clone(),
            cache: record.cache,
            reason: record.reason,
            bytes: record.bytes,
        }
    }

    /// Without the query, which may hold a secret, and which the page shows to whoever reaches it.
    fn url(&self) -> String {
        let host = self.host.as_ref().map_or("".into(), |host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let path = self.target.as_ref().map_or("", |target| target.path());
        let mut url = host + path;
        let end = (0..=URL_BYTES_MAX.min(url.len())).rev().find(|end| url.is_char_boundary(*end));
        url.truncate(end.unwrap_or(0));
        url
    }
}

/// What is kept of a URL.
#[derive(Debug, Default)]
struct Seen {
    hits: u64,
    bytes: u64,
    /// By handling and reason.
    endings: BTreeMap<(&'static str, &'static str), u64>,
}

impl Seen {
    fn halve(&mut self) {
        self.hits /= 2;
        self.bytes /= 2;
        self.endings.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
    }
}

/// The page's view of a tier.
pub(crate) struct TierPage {
    engine: Arc<Engine>,
    state: Arc<NodeState>,
    metrics: Arc<NodeMetrics>,
    map: Map,
    pop: Option<PopId>,
    samples: Arc<Samples<Sample>>,
    history: History,
    urls: Sketch<String, Seen>,
    sampled: u64,
    halved_ms: u64,
}

impl TierPage {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        state: &Arc<NodeState>,
        metrics: &Arc<NodeMetrics>,
        (map, pop): (Map, Option<PopId>),
        samples: Arc<Samples<Sample>>,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            state: Arc::clone(state),
            metrics: Arc::clone(metrics),
            map,
            pop,
            samples,
            history: History::default(),
            urls: Sketch::new(URLS_MAX),
            sampled: 0,
            halved_ms: 0,
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.sampled += 1;
        let seen = self.urls.count(sample.url());
        seen.hits += u64::from(matches!(sample.cache, "hit" | "stale"));
        seen.bytes += sample.bytes;
        *seen.endings.entry((sample.cache, sample.reason)).or_default() += 1;
    }

    fn urls(&self) -> Value {
        let told = self.urls.top(URLS_TOLD_MAX).into_iter().map(|(url, count, seen)| {
            let mut endings: Vec<_> = seen.endings.iter().collect();
            endings.sort_by(|a, b| b.1.cmp(a.1));
            let endings = endings.iter().map(|((cache, reason), count)| json!([cache, reason, count]));
            json!({
                "url": url,
                "requests": count,
                "hits": seen.hits,
                "bytes": seen.bytes,
                "endings": endings.take(6).collect::<Vec<_>>(),
            })
        });
        told.collect()
    }

    /// Of what kind and when; what was purged is for those who have a token.
    fn purges(&self) -> Value {
        let mut recent = self.engine.store().recent_purges();
        recent.sort_by_key(|purge| std::cmp::Reverse(purge.seq.as_u64()));
        let told = recent.iter().take(PURGES_TOLD_MAX);
        told.map(|purge| json!({ "at_ms": purge.at.as_millis(), "kind": purge.kind.as_str() })).collect()
    }
}

impl Source for TierPage {
    fn tick(&mut self, now_ms: u64) {
        let Totals { requests, hits, bytes, .. } = self.engine.metrics().totals();
        self.history.note(now_ms, Count { requests, hits, bytes });
        if now_ms.saturating_sub(self.halved_ms) >= HALF_LIFE_MS {
            self.halved_ms = now_ms;
            self.urls.halve(Seen::halve);
        }
        for sample in self.samples.take() {
            self.sample(&sample);
        }
    }

    fn tell(&mut self, _now_ms: u64) -> String {
        let Totals { requests, hits, bytes, active } = self.engine.metrics().totals();
        let store = self.engine.store().stats();
        let generation = self.engine.snapshot().generation;
        let told = json!({
            "pop": self.pop.as_ref().map(PopId::as_str),
            "world": self.map.told(),
            "total": { "requests": requests, "hits": hits, "bytes": bytes },
            "active": active,
            "connections": self.metrics.connections.open(),
            "memory": { "used": store.memory_used, "capacity": store.memory_capacity, "entries": store.memory_entries },
            "disk": store.disk.as_ref().map(|disk| json!({ "up": disk.up, "capacity": disk.capacity })),
            "traffic": self.history.told(),
            "urls": self.urls(),
            "sampled": self.sampled,
            "purges": self.purges(),
        });
        of_node(&self.state, generation, told).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_without_queries_and_are_not_long() {
        let check = |host: &'static [u8], target: String, expected: &str| {
            let sample = Sample {
                host: Some(HeaderValue::from_static(std::str::from_utf8(host).unwrap_or("?"))),
                target: Some(target.parse().unwrap()),
                cache: "miss",
                reason: "uncached",
                bytes: 1,
            };
            assert_eq!(sample.url(), expected);
        };
        check(b"a.example", "/b?token=secret".into(), "a.example/b");
        let (fits, long) = ("a".repeat(URL_BYTES_MAX - 2), "a".repeat(URL_BYTES_MAX));
        check(b"h", format!("/{fits}"), &format!("h/{fits}"));
        check(b"h", format!("/{long}"), &format!("h/{fits}"));
    }
}
