//! What each site's requests came to. A site has a place in a table, given when a document that names it comes to serve, so
//! that a request adds by a number and looks nothing up.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder},
    metrics::{MetricType, counter::ConstCounter},
};

use super::Word;
use crate::record::Record;

/// Names that have figures of their own within the life of a process; what comes later is counted under [`OTHER`].
const SITES_MAX: usize = 1_000;
/// Of requests that no site answers for. No site's id has such a letter.
const NONE: &str = "(none)";
/// Of sites above [`SITES_MAX`].
const OTHER: &str = "(other)";
/// `Record::cache`'s words.
const CACHE: [&str; 7] = ["hit", "stale", "validated", "collapsed", "miss", "pass", "error"];

/// A site's place in the tables; the default is that of requests without a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(u16);

impl Place {
    const NONE: Self = Self(0);
    const OTHER: Self = Self(1);

    /// As a number, for an atomic.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// What [`Self::number`] gave.
    pub(crate) fn of_number(number: u16) -> Self {
        Self(number)
    }
}

/// One site's counts, by [`CACHE`].
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: [u64; CACHE.len()],
    bytes: [u64; CACHE.len()],
    /// Of the requests, those that were answered with 5xx.
    errors: u64,
}

/// The counts of one thread, by [`Place`].
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Vec<Counts>);

impl Table {
    pub(super) fn add(&mut self, place: Place, record: &Record) {
        let place = usize::from(place.0);
        if place >= self.0.len() {
            self.0.resize(place + 1, Counts::default());
        }
        let Some(site) = self.0.get_mut(place) else { return };
        let class = class(record.cache);
        if let (Some(requests), Some(bytes)) = (site.requests.get_mut(class), site.bytes.get_mut(class)) {
            *requests += 1;
            *bytes += record.bytes;
        }
        site.errors += u64::from(record.status >= 500);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), Counts::default());
        }
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            let pairs = sum.requests.iter_mut().zip(more.requests).chain(sum.bytes.iter_mut().zip(more.bytes));
            pairs.for_each(|(sum, more)| *sum += more);
            sum.errors += more.errors;
        }
    }
}

/// Where of [`CACHE`] the word is. One that is none of them belongs to the last: it is no answer of the cache.
fn class(word: &str) -> usize {
    match word {
        "hit" => 0,
        "stale" => 1,
        "validated" => 2,
        "collapsed" => 3,
        "miss" => 4,
        "pass" => 5,
        _ => 6,
    }
}

/// Which site has which place.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Vec<Name>>);

#[derive(Clone, Debug)]
struct Name {
    id: Arc<str>,
    /// Whether the document that serves has it.
    serves: bool,
}

impl Names {
    /// These and no others serve from now on. A site that was known before has its old place, and its counts go on.
    pub(super) fn serve<'a>(&self, sites: impl Iterator<Item = &'a Arc<str>>) -> Vec<Place> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter_mut().for_each(|name| name.serves = false);
        // Sorted once: a document may have thousands.
        let mut known: Vec<(Arc<str>, usize)> =
            names.iter().enumerate().map(|(place, name)| (Arc::clone(&name.id), place)).collect();
        known.sort_unstable();
        sites
            .map(|id| {
                let place = match known.binary_search_by(|(name, _)| (**name).cmp(id)) {
                    Ok(found) => known.get(found).map(|(_, place)| *place),
                    Err(_) if names.len() < SITES_MAX => {
                        names.push(Name { id: Arc::clone(id), serves: true });
                        Some(names.len() - 1)
                    }
                    Err(_) => None,
                };
                let Some(place) = place else { return Place::OTHER };
                if let Some(name) = names.get_mut(place) {
                    name.serves = true;
                }
                // SITES_MAX is far below.
                u16::try_from(place + FIRST).map_or(Place::OTHER, Place)
            })
            .collect()
    }

    /// The sites that serve and have had a request, and what there is beside them.
    fn counted<'a>(&self, table: &'a Table) -> Vec<(Arc<str>, &'a Counts)> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let beside =
            [(Place::NONE, NONE), (Place::OTHER, OTHER)].into_iter().map(|(place, id)| (place.0.into(), id.into()));
        let serving = names.into_iter().enumerate().filter(|(_, name)| name.serves);
        beside
            .chain(serving.map(|(place, name)| (place + FIRST, name.id)))
            .filter_map(|(place, id)| Some((id, table.0.get(place)?)))
            .filter(|(_, counts)| counts.requests.iter().any(|requests| *requests > 0))
            .collect()
    }

    /// Writes the families.
    pub(super) fn encode(&self, table: &Table, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sites = self.counted(table);
        by_cache(encoder, REQUESTS, &sites, |counts| &counts.requests)?;
        by_cache(encoder, BYTES, &sites, |counts| &counts.bytes)?;
        let (name, help) = ERRORS;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (id, counts) in &sites {
            ConstCounter::new(counts.errors).encode(family.encode_family(&OfSite { site: Text(Arc::clone(id)) })?)?;
        }
        Ok(())
    }
}

/// Place of the first name: what has none of its own comes before.
const FIRST: usize = 2;
const REQUESTS: (&str, &str) = ("perigee_site_requests", "Finished requests of a site, by what the cache did.");
const BYTES: (&str, &str) = (
    "perigee_site_response_body_bytes",
    "Body bytes handed to the client connections of a site, by what the cache did.",
);
const ERRORS: (&str, &str) =
    ("perigee_site_errors", "Finished requests of a site that were answered with a status of 500 or above.");

fn by_cache(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    sites: &[(Arc<str>, &Counts)],
    values: impl Fn(&Counts) -> &[u64; CACHE.len()],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (id, counts) in sites {
        for ((word, requests), value) in CACHE.iter().zip(counts.requests).zip(values(counts)) {
            // Hits always: a ratio of a site that has none is to be 0, and not absent.
            if requests > 0 || *word == CACHE[0] {
                let labels = OfCache { site: Text(Arc::clone(id)), cache: Word(word) };
                ConstCounter::new(*value).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCache {
    site: Text,
    cache: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSite {
    site: Text,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Text(Arc<str>);

impl EncodeLabelValue for Text {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        fmt::Write::write_str(encoder, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<usize>) -> Vec<Arc<str>> {
        range.map(|n| format!("site-{n}").into()).collect()
    }

    #[test]
    fn places_stay_and_have_an_end() {
        let names = Names::default();
        let serve = |range| names.serve(ids(range).iter()).into_iter().map(Place::number).collect::<Vec<_>>();
        assert_eq!(serve(0..3), [2, 3, 4]);
        assert_eq!(serve(2..4), [4, 5], "what is known keeps its place");
        assert_eq!(serve(0..1), [2], "and has it again when it comes back");
        let last = SITES_MAX - 1;
        assert_eq!(serve(4..SITES_MAX + 2).split_off(last - 4), [(last + FIRST) as u16, 1, 1]);
        assert_eq!(serve(1..2), [3], "also when there are no more");
        assert_eq!(serve(SITES_MAX..SITES_MAX + 1), [1]);
    }

    #[test]
    fn sites_that_serve_are_told() {
        let names = Names::default();
        let told = |table: &Table| names.counted(table).iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>();
        let places = names.serve(ids(0..3).iter());
        let mut table = Table::default();
        let mut add = |place, cache| {
            table.add(place, &Record { cache, status: 503, ..crate::record::tests::record() });
        };
        add(places[0], "pass");
        add(places[2], "hit");
        add(Place::default(), "error");
        assert_eq!(told(&table), [NONE, "site-0", "site-2"], "site-1 has had no request");
        names.serve(ids(2..3).iter());
        assert_eq!(told(&table), [NONE, "site-2"]);
        names.serve(ids(0..1).iter());
        let (_, counts) = names.counted(&table)[1];
        assert_eq!(
            (counts.requests, counts.bytes, counts.errors),
            ([0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1024, 0], 1)
        );
        let mut twice = Table::default();
        twice.merge(&table);
        twice.merge(&table);
        let (_, counts) = names.counted(&twice)[1];
        assert_eq!((counts.requests[5], counts.bytes[5], counts.errors), (2, 2048, 2));
    }
}
