//! The last hour of a counter or three, in memory.

use std::collections::VecDeque;

use serde_json::{Value, json};

/// So far back "now" reaches, in seconds.
const NOW_S: u64 = 5;
/// A point of the hour.
const MINUTE_MS: u64 = 60_000;
const MINUTES: usize = 60;

/// Totals since a node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests, or queries.
    pub requests: u64,
    /// Of those, answered from the store.
    pub hits: u64,
    /// Body bytes sent.
    pub bytes: u64,
}

impl Count {
    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            hits: self.hits.saturating_sub(before.hits),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

/// What was counted in the last seconds and in each of the last sixty minutes.
#[derive(Debug, Default)]
pub struct History {
    /// Oldest first, one a tick.
    seconds: VecDeque<(u64, Count)>,
    /// Totals at the beginning of each minute, oldest first.
    minutes: VecDeque<(u64, Count)>,
}

impl History {
    /// Notes the totals of now. A clock that goes back begins anew.
    pub fn note(&mut self, now_ms: u64, total: Count) {
        if self.seconds.back().is_some_and(|(at, _)| *at > now_ms) {
            *self = Self::default();
        }
        self.seconds.push_back((now_ms, total));
        while self.seconds.len() > 1 && self.seconds.front().is_some_and(|(at, _)| now_ms - at > NOW_S * 1000) {
            self.seconds.pop_front();
        }
        let minute = now_ms / MINUTE_MS;
        if self.minutes.back().is_none_or(|(last, _)| *last != minute) {
            self.minutes.push_back((minute, total));
        }
        while self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
    }

    /// `{now, hour}`: of the last five seconds, and of the last hour or since the start, with a point of each minute.
    pub fn told(&self) -> Value {
        let (Some(&(began, first)), Some(&(at, last))) = (self.seconds.front(), self.seconds.back()) else {
            return json!({});
        };
        let now = last.since(first);
        let hour = self.minutes.front().map_or(first, |(_, count)| *count);
        let per_second = |count: u64| if at > began { count as f64 * 1000.0 / (at - began) as f64 } else { 0.0 };
        json!({
            "now": {
                "requests_per_s": per_second(now.requests),
                "bytes_per_s": per_second(now.bytes),
                "requests": now.requests,
                "hits": now.hits,
            },
            "hour": {
                "requests": last.since(hour).requests,
                "hits": last.since(hour).hits,
                "bytes": last.since(hour).bytes,
                "minutes": self.points(at / MINUTE_MS, last),
            },
        })
    }

    /// `[requests, hits]` of each minute until now, oldest first. The minutes in which nothing was noted have none.
    fn points(&self, this: u64, last: Count) -> Vec<[u64; 2]> {
        let mut points = vec![[0; 2]; MINUTES];
        let mut ends = self.minutes.iter().skip(1).map(|(_, count)| *count).chain([last]);
        for (minute, began) in &self.minutes {
            let Some(end) = ends.next() else { break };
            let ago = usize::try_from(this.saturating_sub(*minute)).unwrap_or(MINUTES);
            let point = MINUTES.checked_sub(1 + ago).and_then(|place| points.get_mut(place));
            if let Some(point) = point {
                let count = end.since(*began);
                *point = [count.requests, count.hits];
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(requests: u64) -> Count {
        Count { requests, hits: requests / 2, bytes: requests * 10 }
    }

    #[test]
    fn now_is_five_seconds_and_the_hour_is_sixty_minutes() {
        let mut history = History::default();
        assert_eq!(history.told(), json!({}));
        // Ten requests a second for two hours.
        for second in 0..7_200 {
            history.note(second * 1000, count(second * 10));
        }
        let told = history.told();
        assert_eq!(told["now"]["requests_per_s"], 10.0);
        assert_eq!(told["now"]["hits"], 25);
        let minutes = told["hour"]["minutes"].as_array().unwrap();
        assert_eq!(minutes.len(), MINUTES);
        assert!(minutes[..59].iter().all(|point| *point == json!([600, 300])), "{minutes:?}");
        assert_eq!(minutes[59], json!([590, 295]));
        assert_eq!(told["hour"]["requests"], 59 * 600 + 590);
        assert!(history.seconds.len() <= 6 && history.minutes.len() <= MINUTES);
    }

    #[test]
    fn pauses_restarts_and_clocks_that_go_back() {
        let mut history = History::default();
        history.note(0, count(100));
        history.note(10 * MINUTE_MS, count(700));
        let points = history.told()["hour"]["minutes"].clone();
        assert_eq!((&points[49], &points[50], &points[59]), (&json!([600, 300]), &json!([0, 0]), &json!([0, 0])));
        history.note(5 * MINUTE_MS, count(800));
        assert_eq!(history.told()["hour"]["requests"], 0);
        history.note(5 * MINUTE_MS + 1000, count(3));
        assert_eq!(history.told()["now"]["requests"], 0, "a counter that began anew is no negative count");
    }
}
