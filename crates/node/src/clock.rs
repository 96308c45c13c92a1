//! The only place that reads the wall clock. Engines take what it returns as an argument.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::http::HeaderValue;

/// Milliseconds since the Unix epoch; 0 on a clock that is set before it.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the Unix epoch, for spans of traces; 0 on a clock that is set before it.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The `Date` field of that moment (RFC 9110 §5.6.7), formatted at most once a second per thread.
pub fn http_date(now_ms: u64) -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = RefCell::new((0, format(0)));
    }
    let second = now_ms / 1000;
    LAST.with_borrow_mut(|last| {
        if last.0 != second {
            *last = (second, format(second));
        }
        last.1.clone()
    })
}

/// httpdate knows years up to 9999 and panics beyond.
const SECOND_MAX: u64 = 253_402_300_799;

fn format(second: u64) -> HeaderValue {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second.min(SECOND_MAX)));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |ms: u64, expected: &str| assert_eq!(http_date(ms), expected, "{ms}");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777_999, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(784_111_778_000, "Sun, 06 Nov 1994 08:49:38 GMT");
        check(784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn the_clock_runs_forward_from_this_century() {
        assert!(now_ms() > 1_700_000_000_000);
    }
}
