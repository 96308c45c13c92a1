//! Fetches, and what they come to.

use std::time::Duration;

use serde::Serialize;

use super::served::Served;

/// Which side was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    Direct,
    /// The first fetch of the run through the CDN: cold, unless somebody else asked before.
    CdnFirst,
    CdnAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Connection {
    Fresh,
    Kept,
}

/// One fetch. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) place: usize,
    pub(super) way: Way,
    pub(super) connection: Connection,
    pub(super) asset: usize,
    pub(super) dns_ms: Option<f64>,
    /// TCP.
    pub(super) connect_ms: Option<f64>,
    pub(super) tls_ms: Option<f64>,
    /// From the request to the head of the answer.
    pub(super) first_byte_ms: f64,
    /// All of it: from the question for the name, where there is one, to the last byte.
    pub(super) total_ms: f64,
    pub(super) status: u16,
    pub(super) is_http2: bool,
    pub(super) bytes: u64,
    #[serde(skip)]
    pub(super) digest: u128,
    /// Content-Encoding, or nothing.
    pub(super) encoding: String,
    pub(super) served: Served,
}

/// The half and the twentieth-from-the-end of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p50: f64,
    pub(super) p95: f64,
}

/// Fetches of one kind from one place.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) way: Way,
    pub(super) connection: Connection,
    pub(super) fetches: usize,
    pub(super) dns_ms: Option<Spread>,
    /// TCP.
    pub(super) connect_ms: Option<Spread>,
    pub(super) tls_ms: Option<Spread>,
    pub(super) first_byte_ms: Option<Spread>,
    /// What of TLS and the first byte is the handshake's after all: something nearer than the server took the connection.
    pub(super) early_ms: Option<f64>,
    pub(super) total_ms: Option<Spread>,
    /// The total less DNS.
    pub(super) without_dns_ms: Option<Spread>,
    /// All bytes over all time.
    pub(super) bytes_per_second: Option<f64>,
}

/// The rows of a table, in its order.
pub(super) const ROWS: [(Way, Connection); 5] = [
    (Way::Direct, Connection::Fresh),
    (Way::CdnFirst, Connection::Fresh),
    (Way::CdnAgain, Connection::Fresh),
    (Way::Direct, Connection::Kept),
    (Way::CdnAgain, Connection::Kept),
];

/// What the CDN took off the origin.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spared {
    pub(super) requests: usize,
    pub(super) bytes: u64,
    /// Of requests whose answer told whom it came from.
    pub(super) requests_known: usize,
    pub(super) bytes_known: u64,
    /// Answers that say nothing.
    pub(super) requests_unknown: usize,
    /// By tier, the one that clients talk to first.
    pub(super) by_tier: Vec<usize>,
    pub(super) by_origin: usize,
}

pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// By nearest rank; None of nothing.
pub(super) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = |share: f64| values.get(((values.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    Some(Spread { p50: rank(0.5)?, p95: rank(0.95)? })
}

pub(super) fn row(samples: &[Sample], place: usize, way: Way, connection: Connection) -> Row {
    let is_one = |sample: &&Sample| sample.place == place && sample.way == way && sample.connection == connection;
    let own: Vec<&Sample> = samples.iter().filter(is_one).collect();
    let of = |value: fn(&Sample) -> Option<f64>| spread(own.iter().filter_map(|sample| value(sample)));
    let seconds: f64 = own.iter().map(|sample| sample.total_ms / 1000.0).sum();
    let bytes: u64 = own.iter().map(|sample| sample.bytes).sum();
    Row {
        way,
        connection,
        fetches: own.len(),
        dns_ms: of(|sample| sample.dns_ms),
        connect_ms: of(|sample| sample.connect_ms),
        tls_ms: of(|sample| sample.tls_ms),
        first_byte_ms: of(|sample| Some(sample.first_byte_ms)),
        early_ms: None,
        total_ms: of(|sample| Some(sample.total_ms)),
        without_dns_ms: of(|sample| Some(sample.total_ms - sample.dns_ms.unwrap_or_default())),
        bytes_per_second: (seconds > 0.0).then(|| bytes as f64 / seconds),
    }
}

/// Less is nobody's round trip.
const EARLY_MS_MIN: f64 = 5.0;

/// What of a new connection's phases is the handshake's after all, by the same fetches over a kept connection.
///
/// A handshake takes as long as a question and its answer: the way there and back. Where connecting takes next to nothing and the
/// first answer much longer than later ones, something nearer took the connection, and asked the server only then: a relay of
/// the demo, a proxy that nobody sees, a virtual private network.
pub(super) fn early(fresh: &Row, kept: &Row) -> Option<f64> {
    let half = |spread: Option<Spread>| spread.map(|spread| spread.p50);
    let (connect, first, later) = (half(fresh.connect_ms)?, half(fresh.first_byte_ms)?, half(kept.first_byte_ms)?);
    // RFC 8446 §2: TLS is a round trip of its own.
    let due = half(fresh.tls_ms).map_or(later, |_| 2.0 * later);
    let early = half(fresh.tls_ms).unwrap_or_default() + first - due;
    (early >= EARLY_MS_MIN && early > 10.0 * connect && early > later / 2.0).then_some(early)
}

/// Of all that went through the CDN.
pub(super) fn spared<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Spared {
    let mut spared = Spared::default();
    for sample in samples.into_iter().filter(|sample| sample.way != Way::Direct) {
        match &sample.served {
            Served::Unknown => {
                spared.requests_unknown += 1;
                continue;
            }
            Served::Cache { tier, .. } => {
                if spared.by_tier.len() <= *tier {
                    spared.by_tier.resize(tier + 1, 0);
                }
                if let Some(count) = spared.by_tier.get_mut(*tier) {
                    *count += 1;
                }
                spared.requests += 1;
                spared.bytes += sample.bytes;
            }
            Served::Origin { .. } => spared.by_origin += 1,
        }
        spared.requests_known += 1;
        spared.bytes_known += sample.bytes;
    }
    spared
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::measure) fn sample(way: Way, total_ms: f64, served: Served) -> Sample {
        Sample {
            place: 0,
            way,
            connection: Connection::Fresh,
            asset: 0,
            dns_ms: Some(1.0),
            connect_ms: Some(2.0),
            tls_ms: None,
            first_byte_ms: total_ms / 2.0,
            total_ms,
            status: 200,
            is_http2: false,
            bytes: 1000,
            digest: 7,
            encoding: String::new(),
            served,
        }
    }

    #[test]
    fn ranks_are_the_nearest() {
        let check = |count: u32, expected: Option<(f64, f64)>| {
            let found = spread((1..=count).rev().map(f64::from));
            assert_eq!(found.map(|it| (it.p50, it.p95)), expected, "{count}");
        };
        check(0, None);
        check(1, Some((1.0, 1.0)));
        check(2, Some((1.0, 2.0)));
        check(20, Some((10.0, 19.0)));
        check(100, Some((50.0, 95.0)));
    }

    #[test]
    fn rows_take_their_own_fetches() {
        let mut samples =
            vec![sample(Way::Direct, 100.0, Served::Unknown), sample(Way::Direct, 300.0, Served::Unknown)];
        samples.push(Sample { place: 1, ..samples[0].clone() });
        samples.push(Sample { connection: Connection::Kept, ..samples[0].clone() });
        samples.push(Sample { way: Way::CdnFirst, tls_ms: Some(3.0), ..samples[0].clone() });
        let direct = row(&samples, 0, Way::Direct, Connection::Fresh);
        assert_eq!((direct.fetches, direct.total_ms), (2, Some(Spread { p50: 100.0, p95: 300.0 })));
        assert_eq!(direct.bytes_per_second, Some(5000.0));
        let first = row(&samples, 0, Way::CdnFirst, Connection::Fresh);
        assert_eq!(first.connect_ms, Some(Spread { p50: 2.0, p95: 2.0 }));
        assert_eq!((first.tls_ms, direct.tls_ms), (Some(Spread { p50: 3.0, p95: 3.0 }), None));
        assert_eq!(direct.without_dns_ms, Some(Spread { p50: 99.0, p95: 299.0 }));
        assert_eq!(row(&samples, 2, Way::Direct, Connection::Fresh).total_ms, None);
    }

    #[test]
    fn a_connection_that_was_taken_early_is_seen() {
        let check = |connect: f64, tls: Option<f64>, first: f64, later: f64, expected: Option<f64>| {
            let one = |ms: f64| Some(Spread { p50: ms, p95: ms });
            let kept = Row { first_byte_ms: one(later), ..row(&[], 0, Way::Direct, Connection::Kept) };
            let fresh = Row {
                connect_ms: one(connect),
                tls_ms: tls.and_then(one),
                first_byte_ms: one(first),
                ..row(&[], 0, Way::Direct, Connection::Fresh)
            };
            assert_eq!(early(&fresh, &kept), expected, "{connect} {tls:?} {first} {later}");
        };
        // Australia's clients and an origin in Frankfurt, behind the demo's relay.
        check(0.1, None, 500.0, 250.0, Some(250.0));
        check(0.1, Some(500.0), 250.0, 250.0, Some(250.0));
        // A network as it is: with TLS 1.3, and with the two round trips of TLS 1.2.
        check(250.0, None, 250.0, 250.0, None);
        check(250.0, Some(250.0), 250.0, 250.0, None);
        check(250.0, Some(500.0), 250.0, 250.0, None);
        // Servers that think, and near ones.
        check(20.0, None, 130.0, 100.0, None);
        check(0.1, None, 4.9, 0.1, None);
        check(0.1, None, 5.1, 0.1, Some(5.0));
        check(0.1, None, 149.0, 100.0, None);
        check(0.1, None, 151.0, 100.0, Some(51.0));
        // Nothing to compare with.
        assert_eq!(
            early(&row(&[], 0, Way::Direct, Connection::Fresh), &row(&[], 0, Way::Direct, Connection::Kept)),
            None
        );
    }

    #[test]
    fn the_origin_is_spared_what_caches_answer() {
        let cache = |tier| Served::Cache { tier, name: "c".into() };
        let samples = [
            sample(Way::Direct, 1.0, Served::Unknown),
            sample(Way::CdnFirst, 1.0, Served::Origin { reason: "uri-miss".into() }),
            sample(Way::CdnFirst, 1.0, cache(1)),
            sample(Way::CdnAgain, 1.0, cache(0)),
            sample(Way::CdnAgain, 1.0, cache(0)),
            sample(Way::CdnAgain, 1.0, Served::Unknown),
        ];
        let expected = Spared {
            requests: 3,
            bytes: 3000,
            requests_known: 4,
            bytes_known: 4000,
            requests_unknown: 1,
            by_tier: vec![2, 1],
            by_origin: 1,
        };
        assert_eq!(spared(&samples), expected);
    }
}
