//! A database file, of whichever kind it is.

use std::path::Path;

use anyhow::{Context, bail};
use perigee_geo::{
    asn::AsnDatabase,
    database::{DatabaseInfo, GeoDatabase},
};
use perigee_node::mmap::MappedFile;

/// Opened and checked.
pub(super) enum Known {
    Places(GeoDatabase<MappedFile>),
    Systems(AsnDatabase<MappedFile>),
}

impl Known {
    /// Fails with what is wrong with it as a database of places, when it is of neither kind.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let map = || MappedFile::open(path).with_context(|| format!("cannot read {}", path.display()));
        let refusal = match GeoDatabase::from_source(map()?) {
            Ok(places) => return Ok(Self::Places(places)),
            Err(refusal) => refusal,
        };
        match AsnDatabase::from_source(map()?) {
            Ok(systems) => Ok(Self::Systems(systems)),
            Err(_) => Err(refusal).with_context(|| format!("cannot use {}", path.display())),
        }
    }

    pub(super) fn info(&self) -> &DatabaseInfo {
        match self {
            Self::Places(places) => places.info(),
            Self::Systems(systems) => systems.info(),
        }
    }

    /// What it is a database of.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Places(_) => "places",
            Self::Systems(_) => "autonomous systems",
        }
    }
}

/// A database of places, where nothing else will do.
pub(super) fn places(path: &Path) -> anyhow::Result<GeoDatabase<MappedFile>> {
    match Known::open(path)? {
        Known::Places(places) => Ok(places),
        Known::Systems(_) => bail!("{} is a database of autonomous systems; places are wanted here", path.display()),
    }
}

/// `2026-11-23`, of seconds since the Unix epoch.
pub(super) fn date(at_s: u64) -> String {
    // The calendar's cycle of 400 years has 146,097 days; years begin in March here, so that a leap day is a year's last.
    let days = at_s / 86_400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = cycle * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (11_322, "2000-12-31"),
            (20_780, "2026-11-23"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days * 86_400 + 86_399), expected, "{days}");
        }
    }
}
