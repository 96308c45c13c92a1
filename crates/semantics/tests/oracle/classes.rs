//! Why the oracle and we differ, each with the law. The oracle follows RFC 7234 and leaves out what it says it leaves out.

use perigee_semantics::{freshness::LifetimeSource, storable::DoNotReason, time::Timestamp};

use crate::{
    Difference,
    cases::{ARRIVED, Case, Odd},
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Storable,
    Age,
    Ttl,
    Reuse,
    Conditions,
    Renews,
}

/// One reason to differ.
#[derive(Debug)]
pub(crate) struct Class {
    /// The section, and what it says against the oracle or leaves to a cache.
    pub(crate) name: &'static str,
    what: &'static [What],
    holds: fn(&Case, &Difference) -> bool,
}

impl Class {
    pub(crate) fn explains(&self, case: &Case, difference: &Difference) -> bool {
        self.what.contains(&difference.what) && (self.holds)(case, difference)
    }
}

impl Case {
    fn is(&self, odd: Odd) -> bool {
        self.odd.contains(&odd)
    }
}

impl Difference {
    fn ours_more(&self) -> bool {
        self.ours > self.theirs
    }
}

use What::{Age, Conditions, Renews, Reuse, Storable, Ttl};

/// The first that explains a difference is counted.
pub(crate) const CLASSES: [Class; 31] = [
    Class {
        name: "RFC 9110 §9.3.2, §9.3.3: a HEAD has nothing to store, a POST only what its Content-Location names",
        what: &[Storable],
        holds: |case, d| !d.ours_more() && case.method != http::Method::GET && d.refused == Some(DoNotReason::Method),
    },
    Class {
        name: "RFC 9111 §4.1: nothing matches Vary: *, so storing it spares nothing",
        what: &[Storable],
        holds: |case, d| !d.ours_more() && case.is(Odd::VaryStar) && d.refused == Some(DoNotReason::VaryStar),
    },
    Class {
        name: "RFC 9110 §12.5.5: a member of Vary that is no field name selects nothing that can be compared",
        what: &[Storable],
        holds: |case, d| !d.ours_more() && case.is(Odd::VaryJunk) && d.refused == Some(DoNotReason::VaryStar),
    },
    Class {
        name: "RFC 9111 §5.2: directives are compared without case",
        what: &[Storable, Ttl, Reuse],
        holds: |case, _| case.is(Odd::DirectiveInCapitals),
    },
    Class {
        name: "RFC 9110 §5.6.4: a comma in a quoted string separates nothing",
        what: &[Storable, Ttl, Reuse],
        holds: |case, _| case.is(Odd::ListInQuotes),
    },
    Class {
        name: "RFC 9111 §5.2.2.4, §5.2.2.7: no-cache and private with field names speak of these fields",
        what: &[Storable, Ttl, Reuse],
        holds: |case, d| d.ours_more() && case.is(Odd::FieldsOnly),
    },
    Class {
        name: "RFC 9111 §5.2.2.3: who understands the status obeys must-understand and not the no-store beside it",
        what: &[Storable],
        holds: |case, d| d.ours_more() && case.is(Odd::MustUnderstand) && case.status.as_u16() < 505,
    },
    Class {
        name: "RFC 9111 §3: any final status may be stored that has explicit freshness or is marked public",
        what: &[Storable],
        holds: |case, d| d.ours_more() && matches!(case.status.as_u16(), 299 | 400 | 403 | 500 | 503 | 599),
    },
    Class {
        name: "RFC 9110 §5.6.2: `max-age =` is no max-age, as a token has no space",
        what: &[Storable, Ttl, Reuse],
        holds: |case, _| case.is(Odd::SpaceBeforeEquals),
    },
    Class {
        name: "RFC 9111 §4.2.1: of conflicting directives the first counts, and nothing more follows from it",
        what: &[Storable, Reuse],
        holds: |case, _| case.is(Odd::Conflicting),
    },
    Class {
        name: "RFC 9111 §3 leaves storing to the cache: what has no lifetime and no validator would never be reused",
        what: &[Storable],
        holds: |case, d| {
            let reusable = case.response.iter().any(|(name, _)| *name == "etag" || *name == "last-modified");
            // Errors need more than a status (the site's negative_ttl is for that).
            let is_error = case.status.is_client_error() || case.status.is_server_error();
            let in_vain = d.their_ttl == 0 && (!reusable || is_error || case.is(Odd::BadTag) || case.is(Odd::DateForm));
            let misread = case.is(Odd::NumberWithPlus) || case.is(Odd::DirectiveWithoutNumber);
            !d.ours_more() && d.refused == Some(DoNotReason::NoFreshness) && (in_vain || misread)
        },
    },
    Class {
        name: "RFC 9111 §5.1: Age is the first of a list, digits alone, and at most 2^31",
        what: &[Age, Ttl, Reuse],
        holds: |case, _| case.is(Odd::AgeList),
    },
    Class {
        name: "RFC 9111 §4.2.3: Date before the arrival is an age too",
        what: &[Age, Ttl, Reuse],
        holds: |case, d| case.is(Odd::Date) && (d.what == Age) == d.ours_more(),
    },
    Class {
        name: "RFC 9111 §4.2.3: the fetch's delay is part of the age",
        what: &[Age, Ttl, Reuse],
        holds: |case, d| case.is(Odd::Delay) && (d.what == Age) == d.ours_more(),
    },
    Class {
        name: "RFC 9111 §1.2.2: numbers above 2^31 are 2^31",
        what: &[Ttl, Reuse],
        holds: |case, d| case.is(Odd::NumberTooLarge) && (d.theirs == 0 || d.ours <= 1 << 31),
    },
    Class {
        name: "RFC 9111 §1.2.2: delta-seconds have no sign",
        what: &[Ttl, Reuse],
        holds: |case, d| case.is(Odd::NumberWithPlus) && !d.ours_more(),
    },
    Class {
        name: "RFC 9111 §4.2.1: max-age without a number makes the response stale, whatever Expires says",
        what: &[Ttl, Reuse],
        holds: |case, d| case.is(Odd::DirectiveWithoutNumber) && !d.ours_more(),
    },
    Class {
        name: "RFC 9111 §5.2.2.8: proxy-revalidate forbids stale responses, not fresh ones",
        what: &[Ttl, Reuse],
        holds: |case, d| case.is(Odd::ProxyRevalidate) && d.ours_more(),
    },
    Class {
        name: "RFC 9111 §7.3: Set-Cookie does not inhibit caching (our own policy does, by default)",
        what: &[Ttl, Reuse],
        holds: |case, d| case.is(Odd::Cookie) && d.ours_more(),
    },
    Class {
        name: "RFC 9111 §5.4: Pragma in responses was never specified",
        what: &[Ttl, Reuse],
        holds: |case, d| case.is(Odd::Pragma) && d.ours_more(),
    },
    Class {
        name: "RFC 9110 §5.6.7: dates have three forms, and no others",
        what: &[Storable, Age, Ttl, Reuse, Conditions, Renews],
        holds: |case, _| case.is(Odd::DateForm),
    },
    Class {
        name: "RFC 9111 §4.2.2 leaves heuristics' bound to the cache: ours is a day",
        what: &[Ttl, Reuse],
        holds: |case, d| {
            let guessed = d.head.as_ref().is_some_and(|head| head.freshness.source == LifetimeSource::Heuristic);
            case.is(Odd::LongUnmodified) && guessed && !d.ours_more()
        },
    },
    Class {
        name: "RFC 9111 §5.2.2.4: no-cache wants validation whatever max-stale the client grants",
        what: &[Reuse],
        holds: |case, d| {
            let grants = case.again.iter().any(|(_, line)| line.to_ascii_lowercase().contains("max-stale"));
            grants && !d.ours_more() && d.head.as_ref().is_some_and(|head| head.freshness.no_cache)
        },
    },
    Class {
        name: "RFC 9111 §5.2.1.2: max-stale is for responses that are stale by no more than that",
        what: &[Reuse],
        holds: |case, d| {
            let now = Timestamp::from_millis((ARRIVED + case.wait) * 1000);
            let limit = d.head.as_ref().is_some_and(|head| head.freshness.stale_for_ms(now) == 30_000);
            d.ours_more() && limit && case.again.iter().any(|(_, line)| line.contains("max-stale=30"))
        },
    },
    Class {
        name: "RFC 5861 §3: stale-while-revalidate serves stale",
        what: &[Reuse],
        holds: |case, d| case.is(Odd::StaleWhileRevalidate) && d.ours_more(),
    },
    Class {
        name: "RFC 9111 §4.2.4, §5.2.2.8, §5.2.2.10: s-maxage and proxy-revalidate forbid stale as must-revalidate does",
        what: &[Reuse],
        holds: |case, d| (case.is(Odd::SMaxage) || case.is(Odd::ProxyRevalidate)) && !d.ours_more(),
    },
    Class {
        name: "RFC 9111 §4.1: selecting fields are compared in normal form",
        what: &[Reuse],
        holds: |case, d| case.is(Odd::VarySpelling) && d.ours_more(),
    },
    Class {
        name: "RFC 9111 §5.2, §5.4: directives of requests without case, and Pragma deprecated",
        what: &[Reuse],
        holds: |case, d| case.is(Odd::RequestCapitals) || case.is(Odd::RequestPragma) && d.ours_more(),
    },
    Class {
        name: "RFC 9111 §5.2.1.1, §5.2.1.2, §5.2.1.3, RFC 8246 §2: max-stale adds to max-age, takes only numbers, is not for who wants min-fresh; immutable is not validated",
        what: &[Reuse],
        holds: |case, d| {
            case.is(Odd::RequestMaxAgeAndMaxStale) && d.ours_more()
                || case.is(Odd::Immutable) && d.ours_more()
                || (case.is(Odd::MaxStaleJunk) || case.is(Odd::MinFresh)) && !d.ours_more()
        },
    },
    Class {
        name: "RFC 9110 §8.8.3: what is no entity tag validates nothing",
        what: &[Conditions, Renews],
        holds: |case, _| case.is(Odd::BadTag),
    },
    Class {
        name: "RFC 9111 §4.3.4: a 304 without validators is about the one response that was asked about",
        what: &[Renews],
        holds: |case, d| {
            let says = |name: &str| case.renewal.iter().any(|(own, _)| *own == name);
            let has = |name: &str| case.response.iter().any(|(own, _)| *own == name);
            // Of the two validators, what only one side has compares to nothing.
            let comparable = says("etag") && has("etag") || says("last-modified") && has("last-modified");
            d.ours_more() && !comparable
        },
    },
];
