//! Purging by sequence number: what has been purged, and whether a stored response came before.
//!
//! Every purge has a number of one log, and every stored response carries its *fence*, the number that had been applied when
//! its fetch began. A response is used only while no purge that matches it has a higher number than its fence. So a purge
//! costs the same however much is stored, nothing is searched, and nothing needs to be deleted: what was fetched before can
//! neither be found again nor come back, whichever way it took meanwhile.
//!
//! All rules stand here ([`Ledger::verdict`], [`Ledger::may_match`], [`Verdict`]). Deliberately absent: who may purge, where
//! the ledger lies on disk, and the log that nodes share.

mod codec;
mod ledger;
mod scope;

pub use codec::Purge;
pub use ledger::{ENTRIES_MAX, LOCAL_MAX, Ledger, PREFIX_LENGTHS_MAX, SITES_MAX};
pub use scope::{Scope, Subject, Target};

use std::fmt;

/// A position in one log of purges. The first purge is 1; 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before every purge.
    pub const ZERO: Self = Self(0);

    /// From its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a purge does to what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Stale from now on: upstream is asked whether it still holds before it is used again.
    Soft,
    /// Gone: never served, never stale, never a validator.
    Hard,
}

impl Kind {
    /// The word in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// Which kind of entry of the ledger matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// Everything was purged.
    Everything,
    /// The whole site.
    Site,
    /// This URL.
    Url,
    /// A prefix of its path.
    Prefix,
    /// One of its surrogate keys.
    Tag,
    /// The ledger has forgotten which: its oldest entries stand for their whole site.
    Floor,
    /// The response says that it is younger than the ledger: one of them is not what it was.
    Unknown,
}

/// Whether purges allow a stored response to be used, and what forbids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No purge that matches came after it.
    Clean,
    /// It must be validated before it is used, and promises nothing more.
    Soft(By, Seq),
    /// It is not there: neither as an answer, nor stale for want of better, nor as a validator.
    Hard(By, Seq),
}

impl Verdict {
    /// Whether the response may not be used at all.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::Hard(..))
    }

    /// The number of the purge that matches, if one does.
    pub fn seq(self) -> Option<Seq> {
        match self {
            Self::Clean => None,
            Self::Soft(_, seq) | Self::Hard(_, seq) => Some(seq),
        }
    }

    /// The word for logs, metrics and Cache-Status; `None` where nothing was purged.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Clean => None,
            Self::Soft(by, _) => Some(match by {
                By::Everything => "soft-purged-all",
                By::Site => "soft-purged-by-site",
                By::Url => "soft-purged-by-url",
                By::Prefix => "soft-purged-by-prefix",
                By::Tag => "soft-purged-by-tag",
                By::Floor => "soft-purged-by-floor",
                By::Unknown => "purge-state-unknown",
            }),
            Self::Hard(by, _) => Some(match by {
                By::Everything => "purged-all",
                By::Site => "purged-by-site",
                By::Url => "purged-by-url",
                By::Prefix => "purged-by-prefix",
                By::Tag => "purged-by-tag",
                By::Floor => "purged-by-floor",
                By::Unknown => "purge-state-unknown",
            }),
        }
    }
}

#[cfg(test)]
mod tests;
