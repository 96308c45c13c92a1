//! Which clause of which RFC a decision obeys: for explanations.

use crate::{
    freshness::LifetimeSource,
    reuse::{PassReason, Reuse, RevalidateReason},
};

impl PassReason {
    /// Where it is written.
    pub fn clause(self) -> &'static str {
        match self {
            Self::Method => "RFC 9111 §4: only GET and HEAD are answered from the store",
            Self::Rule => "the rule's cache = \"pass\"",
            Self::Body => "RFC 9110 §9.3.1: content in a GET means nothing that a key could hold",
        }
    }
}

impl Reuse {
    /// Where it is written.
    pub fn clause(self) -> &'static str {
        match self {
            Self::Fresh => "RFC 9111 §4.2: its lifetime exceeds its age",
            Self::StaleByRequest => "RFC 9111 §5.2.1.2: the client's max-stale",
            Self::StaleWhileRevalidate => "RFC 5861 §3: served stale while it is revalidated",
            Self::OnlyIfCached => "RFC 9111 §5.2.1.7: the client wants nothing but the cache's",
            Self::Revalidate(reason) => reason.clause(),
        }
    }
}

impl RevalidateReason {
    /// Where it is written.
    pub fn clause(self) -> &'static str {
        match self {
            Self::Stale => "RFC 9111 §4.2.4: stale, and nothing allows to serve it so",
            Self::NoCache => "RFC 9111 §5.2.2.4: no-cache",
            Self::RequestNoCache => "RFC 9111 §5.2.1.4: the client's no-cache",
            Self::RequestMaxAge => "RFC 9111 §5.2.1.1: the client's max-age",
            Self::RequestMinFresh => "RFC 9111 §5.2.1.3: the client's min-fresh",
        }
    }
}

impl LifetimeSource {
    /// Where it is written.
    pub fn clause(self) -> &'static str {
        match self {
            Self::Rule => "ttl of the response's rule",
            Self::Targeted => "RFC 9213 §2.1: a targeted field, in place of Cache-Control and Expires",
            Self::SMaxage => "RFC 9111 §5.2.2.10: s-maxage",
            Self::MaxAge => "RFC 9111 §5.2.2.1: max-age",
            Self::Expires => "RFC 9111 §5.3: Expires",
            Self::Negative => "negative_ttl of the site",
            Self::Default => "default_ttl of the site",
            Self::Heuristic => "RFC 9111 §4.2.2: a tenth of the time since Last-Modified",
            Self::None => "RFC 9111 §4.2: nothing says how long",
        }
    }
}
