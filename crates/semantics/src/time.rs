//! Instants as milliseconds since the Unix epoch, and HTTP dates.

use std::time::{Duration, SystemTime};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch itself.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by `duration`; stops at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(crate::policy::duration_ms(duration)))
    }

    /// Later by `ms` milliseconds; stops at the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The time from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.ms_since(earlier))
    }

    /// Milliseconds from `earlier` to this; zero if `earlier` is later.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As an IMF-fixdate, milliseconds cut off (RFC 9110 §5.6.7). Instants past the year 9999 read as its last second.
    pub fn http_date(self) -> String {
        /// 9999-12-31T23:59:59Z, the last instant that the format can say.
        const LAST_SECOND: u64 = 253_402_300_799;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs((self.0 / 1000).min(LAST_SECOND));
        httpdate::fmt_http_date(at)
    }
}

/// Reads a date in any of the three forms of RFC 9110 §5.6.7; `None` if it is none, or before 1970.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp(crate::policy::duration_ms(since_epoch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_http_date(text).map(Timestamp::as_millis), expected, "{text}")
        };
        let example = Some(784_111_777_000);
        check("Sun, 06 Nov 1994 08:49:37 GMT", example);
        check("Sunday, 06-Nov-94 08:49:37 GMT", example);
        check("Sun Nov  6 08:49:37 1994", example);
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        for bad in [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "ü",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn date_out_and_in() {
        for seconds in [0, 951_782_400, 784_111_777, 4_102_444_800, 253_402_300_799] {
            let at = Timestamp::from_millis(seconds * 1000);
            assert_eq!(parse_http_date(&at.http_date()), Some(at));
        }
        assert_eq!(Timestamp::from_millis(u64::MAX).http_date(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(u64::MAX));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.plus(Duration::from_secs(1)), late);
        assert_eq!(early.plus(Duration::from_millis(2)).since(early), Duration::from_millis(2));
    }
}
