//! How long a connection may be silent. hyper's own time-out cannot tell a connection that is idle between two requests
//! from one whose head does not end; and it sets a timer for every request, where ours looks at a clock.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use crate::http::Connection;

/// How long a connection is idle until it is kept without hyper. Shorter, and programs that ask again and again would
/// make that state anew each time.
pub(crate) const PARK_AFTER: Duration = Duration::from_millis(200);
/// One that has asked fewer times leaves hyper at once: most connections ask little and then stay. So thousands that come
/// together are never held in full together; what an allocator has once asked of the system it seldom gives back.
pub(crate) const PARK_AT_ONCE_REQUESTS: u64 = 8;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has sent nothing yet.
    Fresh,
    /// A request is being answered, or an answer is not all sent.
    Busy,
    /// Between two requests.
    Idle,
    /// A head has begun and not ended.
    Head,
}

/// What there is to see of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) finished: u64,
    pub(crate) reads: u32,
    pub(crate) blocked: bool,
    pub(crate) bodiless: bool,
}

impl Seen {
    pub(crate) fn of(connection: &Connection) -> Self {
        let activity = &connection.activity;
        Self {
            requests: connection.requests(),
            finished: activity.finished.load(Ordering::Relaxed),
            reads: activity.reads.load(Ordering::Relaxed),
            blocked: activity.blocked.load(Ordering::Relaxed),
            bodiless: activity.bodiless.load(Ordering::Relaxed),
        }
    }
}

/// The state of one connection and since when.
#[derive(Debug)]
pub(crate) struct Timing {
    state: State,
    since: Instant,
    requests: u64,
    reads: u32,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// Whether bytes between requests are a head's: over HTTP/2 they may be anything.
    sees_heads: bool,
    /// Whether it could be kept without hyper.
    may_park: bool,
    ending: bool,
    /// With so many requests it leaves hyper at once.
    leaves_at: u64,
}

impl Timing {
    pub(crate) fn new(now: Instant, header_timeout: Duration, idle_timeout: Duration, sees_heads: bool) -> Self {
        Self {
            state: State::Fresh,
            since: now,
            requests: 0,
            reads: 0,
            header_timeout,
            idle_timeout,
            sees_heads,
            may_park: false,
            ending: false,
            leaves_at: u64::MAX,
        }
    }

    /// Of a connection that was idle and whose client begins to speak: a head has begun.
    pub(crate) fn awake(now: Instant, seen: Seen, header_timeout: Duration, idle_timeout: Duration) -> Self {
        let Seen { requests, reads, .. } = seen;
        Self { state: State::Head, requests, reads, ..Self::new(now, header_timeout, idle_timeout, true) }
    }

    /// hyper is to have it until it has brought so many requests, unless it pauses before.
    pub(crate) fn leaving_at(self, requests: u64) -> Self {
        Self { leaves_at: requests, ..self }
    }

    /// From now on it is only waited for its end.
    pub(crate) fn never_park(&mut self) {
        self.ending = true;
    }

    /// Since when it has been idle, if that is long enough to keep it without hyper.
    pub(crate) fn parks(&self, now: Instant) -> Option<Instant> {
        let parks = self.may_park() && now >= self.since + PARK_AFTER && now < self.since + self.idle_timeout;
        parks.then_some(self.since)
    }

    /// Since when it has been idle, if it is to be kept without hyper at once.
    pub(crate) fn parks_at_once(&self) -> Option<Instant> {
        let leaves = self.requests < PARK_AT_ONCE_REQUESTS || self.requests >= self.leaves_at;
        (self.may_park() && leaves).then_some(self.since)
    }

    fn may_park(&self) -> bool {
        self.state == State::Idle && self.sees_heads && self.may_park && !self.ending
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Gives it the time of an idle connection's head once more, to end.
    pub(crate) fn begin_again(&mut self, now: Instant) {
        (self.state, self.since) = (State::Fresh, now);
    }

    /// Takes in what is seen; asks for the time only where the state changes.
    pub(crate) fn observe(&mut self, seen: Seen, now: impl FnOnce() -> Instant) {
        // A request may have come and gone since the last look.
        let asked = seen.requests != self.requests;
        self.requests = seen.requests;
        // Where a request's content may still come, what comes next is no head: that only hyper knows.
        self.may_park = seen.bodiless;
        if seen.requests != seen.finished || seen.blocked {
            self.state = State::Busy;
        } else if asked || self.state == State::Busy {
            (self.state, self.since, self.reads) = (State::Idle, now(), seen.reads);
        } else if self.sees_heads && seen.reads != self.reads {
            match self.state {
                // Counted from the connection's beginning: its first byte may have come late.
                State::Fresh => self.state = State::Head,
                State::Idle => (self.state, self.since) = (State::Head, now()),
                // Each byte of a head that comes slowly changes nothing.
                State::Head | State::Busy => {}
            }
        }
    }

    /// When it has been silent for too long, if it stays as it is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Busy => None,
            State::Fresh | State::Head => Some(self.since + self.header_timeout),
            State::Idle if self.may_park() => Some(self.since + PARK_AFTER.min(self.idle_timeout)),
            State::Idle => Some(self.since + self.idle_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    /// At each second what is seen, and the second at which the connection would end.
    fn check(sees_heads: bool, steps: &[(u64, Seen, Option<u64>)]) {
        let start = Instant::now();
        let mut timing = Timing::new(start, HEADER, IDLE, sees_heads);
        assert_eq!(timing.deadline(), Some(start + HEADER));
        for (at, seen, ends) in steps {
            timing.observe(*seen, || start + Duration::from_secs(*at));
            assert_eq!(timing.deadline(), ends.map(|end| start + Duration::from_secs(end)), "at {at}: {seen:?}");
        }
    }

    fn seen(requests: u64, finished: u64, reads: u32) -> Seen {
        Seen { requests, finished, reads, ..Seen::default() }
    }

    #[test]
    fn silence_is_measured_by_what_is_awaited() {
        check(
            true,
            &[
                (1, seen(0, 0, 0), Some(10)),
                (2, seen(0, 0, 1), Some(10)),
                (3, seen(0, 0, 2), Some(10)),
                (4, seen(1, 0, 3), None),
                // Its answer is handed over, but not sent.
                (5, Seen { blocked: true, ..seen(1, 1, 3) }, None),
                (6, seen(1, 1, 3), Some(66)),
                (7, seen(1, 1, 3), Some(66)),
                (20, seen(1, 1, 4), Some(30)),
                (29, seen(1, 1, 9), Some(30)),
                (29, seen(2, 1, 10), None),
                (30, seen(2, 2, 10), Some(90)),
                // Asked and answered between two looks.
                (40, seen(3, 3, 11), Some(100)),
                (50, seen(9, 9, 17), Some(110)),
            ],
        );
    }

    #[test]
    fn who_is_idle_is_parked_unless_content_may_come() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let check = |bodiless: bool, sees_heads: bool, ending: bool, expected: Option<Instant>| {
            let mut timing = Timing::new(start, HEADER, IDLE, sees_heads);
            timing.observe(Seen { bodiless, ..seen(1, 0, 1) }, || at(0));
            assert_eq!(timing.parks(at(200)), None, "busy");
            timing.observe(Seen { bodiless, ..seen(1, 1, 1) }, || at(5));
            if ending {
                timing.never_park();
            }
            assert_eq!(timing.parks(at(204)), None);
            assert_eq!(timing.parks(at(205)), expected);
            assert_eq!(timing.deadline(), Some(at(if expected.is_some() { 205 } else { 60_005 })));
            assert_eq!(timing.parks(at(60_005)), None, "then its time is up");
            assert_eq!(timing.parks_at_once(), expected);
            let many = Seen { bodiless, ..seen(PARK_AT_ONCE_REQUESTS, PARK_AT_ONCE_REQUESTS, 1) };
            timing.observe(many, || at(5));
            assert_eq!(timing.parks_at_once(), None);
            let mut timing = timing.leaving_at(PARK_AT_ONCE_REQUESTS + 1);
            assert_eq!(timing.parks_at_once(), None);
            let one_more = Seen { requests: many.requests + 1, finished: many.finished + 1, ..many };
            timing.observe(one_more, || at(5));
            assert_eq!(timing.parks_at_once(), expected);
        };
        check(true, true, false, Some(at(5)));
        check(false, true, false, None);
        check(true, false, false, None);
        check(true, true, true, None);
    }

    #[test]
    fn who_wakes_has_the_time_of_a_head() {
        let start = Instant::now();
        let mut timing = Timing::awake(start, seen(3, 3, 7), HEADER, IDLE);
        timing.observe(seen(3, 3, 8), || start);
        assert_eq!((timing.state(), timing.deadline()), (State::Head, Some(start + HEADER)));
        timing.observe(seen(4, 4, 9), || start);
        assert_eq!((timing.state(), timing.deadline()), (State::Idle, Some(start + IDLE)));
    }

    #[test]
    fn bytes_between_requests_of_http_2_are_no_head() {
        check(
            false,
            &[
                (1, seen(0, 0, 1), Some(10)),
                (2, seen(3, 1, 2), None),
                (3, seen(3, 3, 3), Some(63)),
                (4, seen(3, 3, 9), Some(63)),
            ],
        );
    }
}
