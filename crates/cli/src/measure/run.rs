//! The fetches of one run: place by place, first straight from the origin, then through the CDN.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http::header;
use tokio::sync::watch;

use super::{
    args::{From, MeasureArgs},
    assets::Asset,
    fetch::{Client, Fetched, Keep, Line, is_ours, usable, was_closed},
    figures::{Connection, Sample, Way, ms},
    lookup::{Asker, lookup},
    served::{served, short},
    target::Target,
};

/// Failures in a row after which the rest of one way is left: each may take as long as --timeout.
pub(super) const GIVE_UP: usize = 5;
/// Mistakes of one place that are told.
const ERRORS_MAX: usize = 20;

/// A place that fetches.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    /// None: this machine, whichever address the system takes.
    pub(super) address: Option<IpAddr>,
    /// Whether fetches leave from the address; otherwise only the nameserver is told of it.
    pub(super) is_ours: bool,
}

impl Place {
    /// This machine alone, where no place was named.
    pub(super) fn all(from: &[From]) -> anyhow::Result<Vec<Self>> {
        if from.is_empty() {
            return Ok(vec![Self { name: "here".to_owned(), address: None, is_ours: true }]);
        }
        let place = |From { name, address }: &From| {
            let is_ours = is_ours(*address).with_context(|| format!("cannot use --from {address}"))?;
            Ok(Self { name: name.clone(), address: Some(*address), is_ours })
        };
        from.iter().map(place).collect()
    }

    fn bind(&self) -> Option<IpAddr> {
        self.address.filter(|_| self.is_ours)
    }

    fn asker(&self) -> Asker {
        Asker { bind: self.bind(), subnet: self.address.filter(|_| !self.is_ours) }
    }
}

/// What a place has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) samples: Vec<Sample>,
    /// Where the CDN's name led.
    pub(super) edges: BTreeSet<IpAddr>,
    /// The first ones, with the whole chain of reasons.
    pub(super) errors: Vec<String>,
    pub(super) failed: usize,
    /// Fetches that were left after [`GIVE_UP`].
    pub(super) untried: usize,
    /// By way, the origin's first.
    failed_in_a_row: [usize; 2],
}

impl Seen {
    fn in_a_row(&mut self, way: Way) -> &mut usize {
        let [direct, cdn] = &mut self.failed_in_a_row;
        if way == Way::Direct { direct } else { cdn }
    }
}

/// What all places share.
pub(super) struct Run<'a> {
    pub(super) args: &'a MeasureArgs,
    pub(super) client: Client,
    pub(super) direct: Target,
    /// In the order to try them.
    pub(super) origin: Vec<IpAddr>,
    pub(super) cdn: Target,
    pub(super) assets: Vec<Asset>,
    /// What --cache-bust adds to each query.
    pub(super) bust: Option<String>,
    /// Fetches that are over.
    pub(super) done: AtomicUsize,
    /// True once it is to end.
    pub(super) stop: watch::Receiver<bool>,
}

/// A connection's target, and the one address of it that is used.
#[derive(Clone, Copy)]
struct Peer<'a> {
    target: &'a Target,
    way: Way,
}

impl Run<'_> {
    /// How many fetches each place makes.
    pub(super) fn fetches_per_place(&self) -> usize {
        // Fresh and kept, direct and again through the CDN; and the first time.
        self.assets.len() * (4 * usize::from(self.args.repeat) + 1)
    }

    /// Everything that one place does.
    pub(super) async fn place(&self, index: usize, place: &Place) -> Seen {
        let mut seen = Seen::default();
        let direct = Peer { target: &self.direct, way: Way::Direct };
        let again = Peer { target: &self.cdn, way: Way::CdnAgain };
        let repeat = self.args.repeat;
        for _ in 0..repeat {
            self.fresh(index, place, direct, &mut seen).await;
        }
        self.kept(index, place, direct, &mut seen).await;
        self.fresh(index, place, Peer { way: Way::CdnFirst, ..again }, &mut seen).await;
        for _ in 0..repeat {
            self.fresh(index, place, again, &mut seen).await;
        }
        self.kept(index, place, again, &mut seen).await;
        seen
    }

    /// Each asset over a connection of its own.
    async fn fresh(&self, index: usize, place: &Place, peer: Peer<'_>, seen: &mut Seen) {
        for (asset, what) in self.assets.iter().enumerate() {
            let mut edge = None;
            let one = async {
                let (addresses, dns) = self.addresses(place, peer).await?;
                let began = Instant::now();
                let (mut line, address) = self.client.open_any(peer.target, &addresses, place.bind()).await?;
                edge = Some(address);
                let opened = began.elapsed();
                let fetched = line.get(peer.target, &self.path(what), Keep::default()).await?;
                let before = dns.unwrap_or_default() + opened;
                Ok(Sample {
                    dns_ms: dns.map(ms),
                    connect_ms: Some(ms(line.connect)),
                    tls_ms: line.tls.map(ms),
                    total_ms: ms(before + fetched.total),
                    ..sample(index, peer.way, Connection::Fresh, asset, &fetched)
                })
            };
            self.attempt(seen, peer.way, one).await;
            seen.edges.extend(edge.filter(|_| peer.way != Way::Direct));
        }
    }

    /// All assets, over and over, on one connection for as long as it is kept.
    async fn kept(&self, index: usize, place: &Place, peer: Peer<'_>, seen: &mut Seen) {
        let mut line: Option<Line> = None;
        for _ in 0..self.args.repeat {
            for (asset, what) in self.assets.iter().enumerate() {
                let mut edge = None;
                let one = async {
                    loop {
                        // Opening it anew is nobody's time: a client of a kept connection does not wait for that.
                        let mut open = match usable(line.take()).await {
                            Some(open) => open,
                            None => {
                                let (addresses, _) = self.addresses(place, peer).await?;
                                let (open, address) =
                                    self.client.open_any(peer.target, &addresses, place.bind()).await?;
                                edge = Some(address);
                                open
                            }
                        };
                        let was_used = open.is_used();
                        match open.get(peer.target, &self.path(what), Keep::default()).await {
                            Err(error) if was_used && was_closed(&error) => {}
                            Err(error) => return Err(error),
                            Ok(fetched) => {
                                line = Some(open);
                                return Ok(sample(index, peer.way, Connection::Kept, asset, &fetched));
                            }
                        }
                    }
                };
                self.attempt(seen, peer.way, one).await;
                seen.edges.extend(edge.filter(|_| peer.way != Way::Direct));
            }
        }
    }

    /// Where the target is for that place, and what asking took.
    async fn addresses(&self, place: &Place, peer: Peer<'_>) -> anyhow::Result<(Vec<IpAddr>, Option<Duration>)> {
        let (mut addresses, took) = if peer.way == Way::Direct {
            // The CDN's own nameserver knows nothing of the origin's name: the system's is asked.
            let (mut addresses, took) = lookup(&[], &self.direct.host, place.asker()).await?;
            // What took a connection before is asked first.
            addresses.sort_by_key(|address| self.origin.first() != Some(address));
            (addresses, took)
        } else {
            let servers: &[SocketAddr] = &self.args.nameserver;
            lookup(servers, &self.cdn.host, place.asker()).await?
        };
        if let Some(from) = place.bind() {
            addresses.retain(|address| address.is_ipv4() == from.is_ipv4());
            let family = if from.is_ipv4() { "IPv4" } else { "IPv6" };
            ensure!(!addresses.is_empty(), "{} has no {family} address, as {from} would need", peer.target.host);
        }
        Ok((addresses, took))
    }

    fn path(&self, asset: &Asset) -> String {
        let Some(bust) = &self.bust else { return asset.path.clone() };
        let sign = if asset.path.contains('?') { '&' } else { '?' };
        format!("{}{sign}{bust}", asset.path)
    }

    /// One fetch, unless it is too late for it.
    async fn attempt(&self, seen: &mut Seen, way: Way, one: impl Future<Output = anyhow::Result<Sample>>) {
        let mut stop = self.stop.clone();
        if *stop.borrow() {
            return;
        }
        if *seen.in_a_row(way) >= GIVE_UP {
            seen.untried += 1;
            self.done.fetch_add(1, Ordering::Relaxed);
            return;
        }
        tokio::select! {
            // Whoever could say so is gone only when the run is over.
            Ok(_) = stop.wait_for(|stop| *stop) => {}
            one = one => self.note(seen, way, one),
        }
    }

    fn note(&self, seen: &mut Seen, way: Way, one: anyhow::Result<Sample>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        match one {
            Ok(sample) => {
                *seen.in_a_row(way) = 0;
                seen.samples.push(sample);
            }
            Err(error) => {
                *seen.in_a_row(way) += 1;
                seen.failed += 1;
                let line = perigee_node::report::line(error.as_ref());
                if seen.errors.len() < ERRORS_MAX && !seen.errors.contains(&line) {
                    seen.errors.push(line);
                }
            }
        }
    }
}

fn sample(place: usize, way: Way, connection: Connection, asset: usize, fetched: &Fetched) -> Sample {
    let encoding = fetched.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    Sample {
        place,
        way,
        connection,
        asset,
        dns_ms: None,
        connect_ms: None,
        tls_ms: None,
        first_byte_ms: ms(fetched.first_byte),
        total_ms: ms(fetched.total),
        status: fetched.status,
        is_http2: fetched.is_http2,
        bytes: fetched.bytes,
        digest: fetched.digest,
        encoding: short(encoding.unwrap_or_default()),
        served: served(&fetched.headers),
    }
}
