//! What becomes of a request, decided: no IO, no clock. `drive` performs.

use http::Method;
use perigee_protocol::model::HeadPolicy;
use perigee_semantics::{
    head::StoredHead,
    partial::{Asked, Asking, asking},
    policy::Policy,
    request::RequestView,
    reuse::{self, Plan, Reuse},
    status::Fwd,
    time::Timestamp,
};

use crate::segments::SEGMENT;

/// What the store said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup<'a> {
    /// This is stored and selected.
    Found(&'a StoredHead),
    /// This is stored and selected, but not all the bytes that are wanted of it.
    Partial {
        /// Of the whole.
        head: &'a StoredHead,
        /// Whether the first byte that is wanted is there.
        starts: bool,
    },
    /// A hard purge came after what is stored, and why that is.
    Purged(&'static str),
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
    /// Fetch a part of what is not stored, for the store and for everybody who waits for the same.
    FetchPart {
        /// Why, for Cache-Status.
        fwd: Fwd,
        /// Why, in the decision's word.
        reason: &'static str,
        /// What to ask upstream for.
        asked: Asked,
    },
    /// Answer with what is stored and fetch what is missing.
    Complete {
        /// Why, in the decision's word.
        reason: &'static str,
        /// Whether before anything is answered: the first byte is missing.
        ask_first: bool,
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
        Lookup::Partial { head, starts } => return incomplete(head, starts, request, policy, now),
        Lookup::Purged(reason) => return absent(Fwd::UriMiss, reason, request, policy),
        Lookup::NoVariant => return absent(Fwd::VaryMiss, Fwd::VaryMiss.as_str(), request, policy),
        Lookup::Nothing => return absent(Fwd::UriMiss, Fwd::UriMiss.as_str(), request, policy),
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
            // RFC 9111 §4.3.5: a HEAD can renew what cannot be validated, and moves no body.
            if is_passed_head(request, policy) && !stored.has_validator() {
                return Action::Pass { fwd, reason: why.as_str() };
            }
            Action::Fetch { fwd, reason: why.as_str(), validate: true }
        }
        Reuse::OnlyIfCached => Action::OnlyIfCached,
    }
}

/// RFC 9111 §3.3: what is incomplete answers with the bytes that it has; the others are fetched.
fn incomplete(
    stored: &StoredHead,
    starts: bool,
    request: RequestView<'_>,
    policy: &Policy<'_>,
    now: Timestamp,
) -> Action {
    if reuse::only_if_cached(request, policy) {
        return Action::OnlyIfCached;
    }
    let verdict = reuse::judge(stored, request, policy, now);
    match verdict {
        Reuse::Fresh | Reuse::StaleByRequest => Action::Complete { reason: Fwd::Partial.as_str(), ask_first: !starts },
        // Asking for what is missing validates what is there, by If-Range.
        _ if !starts => Action::Complete { reason: verdict.as_str(), ask_first: true },
        _ => Action::Fetch { fwd: Fwd::Stale, reason: verdict.as_str(), validate: true },
    }
}

/// As decided, but not without asking upstream: a soft purge came after what is stored (blueprint 5, rule 5).
pub(crate) fn validated(action: Action, reason: &'static str, request: RequestView<'_>, policy: &Policy<'_>) -> Action {
    match action {
        Action::Serve { .. } | Action::Complete { .. } if reuse::only_if_cached(request, policy) => {
            Action::OnlyIfCached
        }
        // Asking for what is missing validates what is there, by If-Range.
        Action::Complete { ask_first: true, .. } => Action::Complete { reason, ask_first: true },
        Action::Serve { .. } | Action::Complete { .. } => Action::Fetch { fwd: Fwd::Stale, reason, validate: true },
        action => action,
    }
}

fn absent(fwd: Fwd, reason: &'static str, request: RequestView<'_>, policy: &Policy<'_>) -> Action {
    if reuse::only_if_cached(request, policy) {
        return Action::OnlyIfCached;
    }
    if is_passed_head(request, policy) {
        return Action::Pass { fwd, reason };
    }
    // RFC 9110 §14.2: Range is defined for GET.
    let asking = if *request.method == Method::GET { asking(request.headers, SEGMENT) } else { Asking::Whole };
    match asking {
        Asking::Whole => Action::Fetch { fwd, reason, validate: false },
        Asking::AsAsked => Action::Pass { fwd, reason },
        Asking::Part(asked) => Action::FetchPart { fwd, reason, asked },
    }
}

/// Whether a HEAD goes on as one, rather than as a GET that fills the store.
fn is_passed_head(request: RequestView<'_>, policy: &Policy<'_>) -> bool {
    *request.method == Method::HEAD && policy.cache.head == HeadPolicy::Pass
}
