use http::HeaderMap;
use perigee_semantics::trace::{TRACEPARENT, TRACESTATE};

use super::*;

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
/// A draw that only a rate of 1 takes, and one that any rate above 0 does.
const LAST: u64 = u64::MAX;
const FIRST: u64 = 1;

/// Who asks: a client that is or is not trusted, a peer that traces nothing, or one that has decided.
#[derive(Clone, Copy, Debug)]
enum Who {
    Stranger,
    Friend,
    SilentPeer,
    Peer(bool),
}

/// `goes on`: in the trace that was said; `anew`: in another, with a link; `fresh`: none was said; empty: untraced.
fn check(who: Who, parent: &str, sample: f64, drawn: u64, expected: &str) {
    let mut headers = HeaderMap::from_iter([(TRACESTATE, HeaderValue::from_static("a=b"))]);
    if !parent.is_empty() {
        headers.insert(TRACEPARENT, parent.parse().unwrap());
    }
    let (is_peer, decided) = match who {
        Who::Stranger | Who::Friend => (false, None),
        Who::SilentPeer => (true, None),
        Who::Peer(decided) => (true, Some(decided)),
    };
    let arrival = Arrival { headers: &headers, client: IpAddr::from([192, 0, 2, 7]), is_peer, decided };
    let is_trusted = !matches!(who, Who::Stranger);
    let begun = decide(&arrival, is_trusted, sample, || drawn);
    let said = TraceParent::parse(parent.as_bytes());
    let kind = match &begun {
        None => "",
        Some(begun) if begun.parent.is_some() => "goes on",
        Some(begun) if begun.claimed.is_some() => "anew",
        Some(_) => "fresh",
    };
    assert_eq!(kind, expected, "{who:?} {parent:?} {sample} {drawn}");
    let Some(begun) = begun else { return };
    assert!(begun.own.sampled);
    assert_eq!(kind == "goes on", said.is_some_and(|said| said.trace == begun.own.trace));
    assert_eq!(kind == "goes on", begun.state.is_some(), "the state goes with its trace");
    assert_eq!(begun.parent.or(begun.claimed.map(|claimed| claimed.span)), said.map(|said| said.span));
    assert!(Some(begun.own.span) != said.map(|said| said.span));
}

#[test]
fn strangers_are_drawn_by_rate_whatever_they_say() {
    for (parent, kind) in [("", "fresh"), (SAMPLED, "anew"), (UNSAMPLED, "anew"), ("no parent", "fresh")] {
        check(Who::Stranger, parent, 0.0, FIRST, "");
        check(Who::Stranger, parent, 0.5, LAST, "");
        check(Who::Stranger, parent, 0.5, FIRST, kind);
        check(Who::Stranger, parent, 1.0, LAST, kind);
    }
}

#[test]
fn trusted_clients_decide_where_they_say_something() {
    check(Who::Friend, SAMPLED, 0.0, LAST, "goes on");
    check(Who::Friend, UNSAMPLED, 1.0, FIRST, "");
    check(Who::Friend, "", 0.5, FIRST, "fresh");
    check(Who::Friend, "", 0.5, LAST, "");
    check(Who::Friend, "no parent", 1.0, LAST, "fresh");
}

#[test]
fn an_edge_decides_for_its_shields() {
    check(Who::Peer(true), SAMPLED, 0.0, LAST, "goes on");
    check(Who::Peer(true), "no parent", 0.0, LAST, "fresh");
    check(Who::Peer(false), SAMPLED, 1.0, FIRST, "");
    // What comes through an edge that traces nothing is its client's word, wherever the edge stands.
    check(Who::SilentPeer, SAMPLED, 0.0, FIRST, "");
    check(Who::SilentPeer, SAMPLED, 1.0, LAST, "anew");
}

#[test]
fn rates_are_kept() {
    let drawn = |rate: f64| (0..100_000).filter(|_| is_drawn(rate, chance())).count();
    assert_eq!((drawn(0.0), drawn(1.0)), (0, 100_000));
    // 1,000 by chance: seven standard deviations (31.5) to each side.
    let few = drawn(0.01);
    assert!((780..=1_220).contains(&few), "{few}");
}

#[test]
fn networks_are_trusted_in_either_form() {
    let trust: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let trusts = |client: &str| is_trusted(&trust, client.parse().unwrap());
    assert!(trusts("10.1.2.3") && trusts("::ffff:10.1.2.3") && trusts("2001:db8::1"));
    assert!(!trusts("11.1.2.3") && !trusts("2001:db9::1"));
}
