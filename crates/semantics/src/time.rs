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
///
/// Letters without case, as RFC 9111 §4.2 asks of caches, and whatever day of the week it says, which the date itself knows
/// better. Only GMT is a zone (RFC 9111 §4.2 again).
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim().as_bytes();
    // IMF-fixdate is what everybody sends; its length tells it from the others.
    let date = match text {
        [a, b, c, b',', b' ', rest @ ..] if is_letters(&[*a, *b, *c]) => fixdate(rest),
        _ if text.contains(&b',') => rfc850_date(text),
        [a, b, c, b' ', rest @ ..] if is_letters(&[*a, *b, *c]) => asctime_date(rest),
        _ => None,
    }?;
    date.timestamp()
}

/// A date and a time of day, unchecked.
struct Civil<'a> {
    year: u64,
    month: &'a [u8],
    day: u64,
    time: &'a [u8],
}

/// `06 Nov 1994 08:49:37 GMT`
fn fixdate(text: &[u8]) -> Option<Civil<'_>> {
    let [d0, d1, b' ', _, _, _, b' ', rest @ ..] = text else { return None };
    let (year, rest) = rest.split_at_checked(4)?;
    Some(Civil { year: number(year)?, month: text.get(3..6)?, day: number(&[*d0, *d1])?, time: in_gmt(rest)? })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(text: &[u8]) -> Option<Civil<'_>> {
    let comma = text.iter().position(|byte| *byte == b',')?;
    let (weekday, rest) = text.split_at_checked(comma)?;
    let date = rest.strip_prefix(b", ")?;
    let [d0, d1, b'-', _, _, _, b'-', y0, y1, rest @ ..] = date else { return None };
    let year = number(&[*y0, *y1])?;
    // RFC 9110 §5.6.7: not more than 50 years ahead. No such date is of the years before this format was given up.
    let year = if year < 70 { 2000 + year } else { 1900 + year };
    let is_weekday = (6..=9).contains(&weekday.len()) && is_letters(weekday);
    is_weekday.then_some(Civil { year, month: date.get(3..6)?, day: number(&[*d0, *d1])?, time: in_gmt(rest)? })
}

/// `Nov  6 08:49:37 1994`
fn asctime_date(text: &[u8]) -> Option<Civil<'_>> {
    let [_, _, _, b' ', d0, d1, b' ', ..] = text else { return None };
    let day = if *d0 == b' ' { number(&[*d1])? } else { number(&[*d0, *d1])? };
    let (time, year) = (text.get(7..15)?, text.get(15..)?.strip_prefix(b" ")?);
    let year = if year.len() == 4 { number(year)? } else { return None };
    Some(Civil { year, month: text.get(..3)?, day, time })
}

/// The time of ` 08:49:37 GMT`.
fn in_gmt(text: &[u8]) -> Option<&[u8]> {
    let (time, zone) = text.strip_prefix(b" ")?.split_at_checked(8)?;
    zone.eq_ignore_ascii_case(b" GMT").then_some(time)
}

fn is_letters(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_alphabetic)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

impl Civil<'_> {
    fn timestamp(&self) -> Option<Timestamp> {
        const MONTHS: [(&[u8; 3], u64); 12] = [
            (b"jan", 31),
            (b"feb", 28),
            (b"mar", 31),
            (b"apr", 30),
            (b"may", 31),
            (b"jun", 30),
            (b"jul", 31),
            (b"aug", 31),
            (b"sep", 30),
            (b"oct", 31),
            (b"nov", 30),
            (b"dec", 31),
        ];
        let month = MONTHS.iter().position(|(name, _)| name.eq_ignore_ascii_case(self.month))?;
        let is_leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let leap = u64::from(is_leap);
        let days_in_month = MONTHS.get(month)?.1 + if month == 1 { leap } else { 0 };
        if self.year < 1970 || self.day == 0 || self.day > days_in_month {
            return None;
        }
        // Every fourth year but centuries, unless they divide by 400.
        let before = self.year - 1;
        let leap_days = (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
        let months: u64 = MONTHS.iter().take(month).map(|(_, days)| days).sum();
        let leap_day = if month > 1 { leap } else { 0 };
        let days = (self.year - 1970) * 365 + leap_days + months + leap_day + self.day - 1;
        let [h0, h1, b':', m0, m1, b':', s0, s1] = self.time else { return None };
        let (hour, minute, second) = (number(&[*h0, *h1])?, number(&[*m0, *m1])?, number(&[*s0, *s1])?);
        // RFC 9110 §5.6.7 knows a leap second; it is the next minute's first.
        let is_time = hour < 24 && minute < 60 && second <= 60;
        is_time.then(|| Timestamp(((days * 24 + hour) * 60 + minute).saturating_mul(60).saturating_add(second) * 1000))
    }
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
        // RFC 9111 §4.2: letters without case; the day of the week is what the date says.
        check("sun, 06 NOV 1994 08:49:37 gmt", example);
        check("MONDAY, 06-nov-94 08:49:37 Gmt", example);
        check("Thu NOV  6 08:49:37 1994", example);
        check("Thu, 29 Feb 2024 23:59:60 GMT", Some(1_709_251_200_000));
        check("Sat, 01 Jan 2000 00:00:00 GMT", Some(946_684_800_000));
        check("Sunday, 01-Jan-69 00:00:00 GMT", Some(3_124_224_000_000));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799_000));
        for bad in [
            "Thu, 29 Feb 2100 00:00:00 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nox 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov 06 08:49:37 1994 GMT",
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
