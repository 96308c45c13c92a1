//! What becomes of a request, decided: no IO, no clock. `drive` performs.

use http::{HeaderMap, Method, header};
use perigee_semantics::{
    head::StoredHead,
    policy::Policy,
    request::RequestView,
    reuse::{self, Plan, Reuse},
    status::Fwd,
    time::Timestamp,
};

/// What the store said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup<'a> {
    /// This is stored and selected.
    Found(&'a StoredHead),
    /// The URL has variants, none of them for this request.
    NoVariant,
    /// Nothing is stored.
    Nothing,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Answer with what is stored.
    Serve {
        /// `hit` or `stale`.
        cache: &'static str,
        /// The decision's word.
        reason: &'static str,
        /// Whether to refresh it behind the client's back.
        refresh: bool,
    },
    /// Fetch for the store and for everybody who waits.
    Fetch {
        /// Why, for Cache-Status.
        fwd: Fwd,
        /// Why, in the decision's word.
        reason: &'static str,
        /// Whether with the stored validators.
        validate: bool,
    },
    /// Send the request on as it stands, and answer with what comes.
    Pass {
        /// Why, for Cache-Status.
        fwd: Fwd,
        /// Why, in the decision's word.
        reason: &'static str,
    },
    /// RFC 9111 §5.2.1.7: nothing usable is stored and the client wants nothing else: 504.
    OnlyIfCached,
}

/// How far into a body a range may begin for a cold object to be fetched whole on its behalf, in bytes. Beyond, the client
/// would wait for bytes that it did not ask for, and its range is sent on instead.
pub(crate) const RANGE_START_MAX: u64 = 4 << 20;

/// Whether the store is looked at, before it is.
pub(crate) fn plan(request: RequestView<'_>, policy: &Policy<'_>) -> Result<(), Action> {
    match reuse::plan(request, policy) {
        Plan::Lookup => Ok(()),
        Plan::Pass(reason) => {
            let fwd = if reason == reuse::PassReason::Method { Fwd::Method } else { Fwd::Bypass };
            Err(Action::Pass { fwd, reason: reason.as_str() })
        }
    }
}

/// What to do, once the store has said what it holds.
pub(crate) fn decide(lookup: Lookup<'_>, request: RequestView<'_>, policy: &Policy<'_>, now: Timestamp) -> Action {
    let stored = match lookup {
        Lookup::Found(stored) => stored,
        Lookup::NoVariant => return absent(Fwd::VaryMiss, request, policy),
        Lookup::Nothing => return absent(Fwd::UriMiss, request, policy),
    };
    let verdict = reuse::judge(stored, request, policy, now);
    let reason = verdict.as_str();
    match verdict {
        Reuse::Fresh => Action::Serve { cache: "hit", reason, refresh: false },
        Reuse::StaleByRequest => Action::Serve { cache: "stale", reason, refresh: false },
        Reuse::StaleWhileRevalidate => Action::Serve { cache: "stale", reason, refresh: true },
        Reuse::Revalidate(why) => {
            let asked = matches!(
                why,
                reuse::RevalidateReason::RequestNoCache
                    | reuse::RevalidateReason::RequestMaxAge
                    | reuse::RevalidateReason::RequestMinFresh
            );
            let fwd = if asked { Fwd::Request } else { Fwd::Stale };
            Action::Fetch { fwd, reason: why.as_str(), validate: true }
        }
        Reuse::OnlyIfCached => Action::OnlyIfCached,
    }
}

fn absent(fwd: Fwd, request: RequestView<'_>, policy: &Policy<'_>) -> Action {
    let reason = fwd.as_str();
    if reuse::only_if_cached(request, policy) {
        Action::OnlyIfCached
    } else if *request.method == Method::HEAD || starts_late(request.headers) {
        Action::Pass { fwd, reason }
    } else {
        Action::Fetch { fwd, reason, validate: false }
    }
}

/// Whether the client wants bytes that a fetch of the whole would bring too late for it: a suffix, or a late start.
fn starts_late(headers: &HeaderMap) -> bool {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some(ranges) = range.strip_prefix("bytes=") else {
        return false;
    };
    ranges.split(',').any(|range| match range.split_once('-') {
        Some((first, _)) => first.trim().parse::<u64>().map_or(true, |first| first > RANGE_START_MAX),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn late_ranges_are_sent_on() {
        let check = |range: &'static str, late: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            assert_eq!(starts_late(&headers), late, "{range}");
        };
        check("bytes=0-99", false);
        check("bytes=4194304-", false);
        check("bytes=4194305-", true);
        check("bytes=-1", true);
        check("bytes=0-1,99999999-", true);
        check("items=99999999-", false);
        check("bytes", false);
        assert!(!starts_late(&HeaderMap::new()));
    }
}
