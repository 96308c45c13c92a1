//! Passive health of one server: after failures in a row it is left alone for a while, then tried once. Pure: the time
//! is an argument, and so is every outcome.

use std::time::Duration;

/// Failures in a row that open it.
pub(crate) const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time; doubled with every trial that fails.
pub(crate) const OPEN_MIN: Duration = Duration::from_secs(1);
/// How long it stays open at most: the longest that a server's return goes unnoticed.
pub(crate) const OPEN_MAX: Duration = Duration::from_secs(5);
/// A trial that has not ended by then was abandoned, and the next may go.
const TRIAL_MAX: Duration = Duration::from_secs(30);

/// A circuit breaker. Times are milliseconds of one clock; a clock that jumps back only delays a trial by [`OPEN_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since_ms: u64,
    length: Duration,
    trial_since_ms: Option<u64>,
}

impl Breaker {
    /// Whether the server may be asked now. While open, one asker goes through once its time is over: the trial.
    pub(crate) fn admits(&mut self, now_ms: u64) -> bool {
        let Some(open) = &mut self.open else { return true };
        let over = |since_ms: u64, length: Duration| u128::from(now_ms.abs_diff(since_ms)) >= length.as_millis();
        let free = match open.trial_since_ms {
            None => over(open.since_ms, open.length),
            Some(since_ms) => over(since_ms, TRIAL_MAX),
        };
        if free {
            open.trial_since_ms = Some(now_ms);
        }
        free
    }

    /// The server answered. True: it had been given up before.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// The server could not be reached or did not answer. True: it is given up from here on.
    pub(crate) fn failed(&mut self, now_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            // Askers that set out before it opened say nothing new.
            Some(Open { trial_since_ms: None, .. }) => false,
            Some(open) => {
                *open = Open { since_ms: now_ms, length: (open.length * 2).min(OPEN_MAX), trial_since_ms: None };
                false
            }
            None if self.failures >= FAILURES_MAX => {
                self.open = Some(Open { since_ms: now_ms, length: OPEN_MIN, trial_since_ms: None });
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened_at(now_ms: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.admits(now_ms));
            breaker.failed(now_ms);
        }
        breaker
    }

    #[test]
    fn it_opens_at_exactly_the_limit() {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            assert!(!breaker.failed(0));
        }
        assert!(breaker.admits(0));
        assert!(breaker.failed(0));
        assert!(!breaker.admits(0));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_again() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            for _ in 1..FAILURES_MAX {
                breaker.failed(0);
            }
            breaker.succeeded();
        }
        assert!(breaker.admits(0));
    }

    #[test]
    fn one_trial_at_a_time() {
        let mut breaker = opened_at(1000);
        assert!(!breaker.admits(1999));
        assert!(breaker.admits(2000));
        assert!(!breaker.admits(2000));
        assert!(breaker.succeeded());
        assert!(breaker.admits(2001));
    }

    #[test]
    fn failed_trials_wait_longer_up_to_the_limit() {
        let (mut breaker, mut now) = (opened_at(0), 0);
        for seconds in [1, 2, 4, 5, 5] {
            assert!(!breaker.admits(now + seconds * 1000 - 1), "{seconds}");
            now += seconds * 1000;
            assert!(breaker.admits(now), "{seconds}");
            breaker.failed(now);
        }
    }

    #[test]
    fn an_abandoned_trial_makes_way() {
        let mut breaker = opened_at(0);
        assert!(breaker.admits(1000));
        assert!(!breaker.admits(30_999));
        assert!(breaker.admits(31_000));
    }
}
