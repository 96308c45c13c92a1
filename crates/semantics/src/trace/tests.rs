use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Parsed and written again; empty: refused.
fn check(value: &str, expected: &str) {
    let said = TraceParent::parse(value.as_bytes()).map(|parent| parent.to_string()).unwrap_or_default();
    assert_eq!(said, expected, "{value:?}");
}

#[test]
fn a_parent_is_read_and_written() {
    for flags in ["00", "01", "02", "03"] {
        check(&format!("00-{TRACE}-{SPAN}-{flags}"), &format!("00-{TRACE}-{SPAN}-{flags}"));
    }
    // Flags that nobody knows yet are not handed on.
    check(&format!("00-{TRACE}-{SPAN}-ff"), &format!("00-{TRACE}-{SPAN}-03"));
    check(&format!("00-{TRACE}-{SPAN}-fc"), &format!("00-{TRACE}-{SPAN}-00"));
    // Versions to come.
    check(&format!("01-{TRACE}-{SPAN}-01"), &format!("00-{TRACE}-{SPAN}-01"));
    check(&format!("cc-{TRACE}-{SPAN}-01-what the future brings"), &format!("00-{TRACE}-{SPAN}-01"));
    check(&format!("fe-{TRACE}-{SPAN}-01-"), &format!("00-{TRACE}-{SPAN}-01"));
}

#[test]
fn a_malformed_parent_says_nothing() {
    check("", "");
    check("00", "");
    check(&format!("00-{TRACE}-{SPAN}-0"), "");
    check(&format!("00-{TRACE}-{SPAN}-01-"), "");
    check(&format!("00-{TRACE}-{SPAN}-01-more"), "");
    check(&format!("cc-{TRACE}-{SPAN}-01.more"), "");
    check(&format!("cc-{TRACE}-{SPAN}-011"), "");
    check(&format!("ff-{TRACE}-{SPAN}-01"), "");
    check(&format!("FF-{TRACE}-{SPAN}-01"), "");
    check(&format!("0-{TRACE}-{SPAN}-01"), "");
    check(&format!("000-{TRACE}-{SPAN}-01"), "");
    check(&format!("g0-{TRACE}-{SPAN}-01"), "");
    check(&format!(".0-{TRACE}-{SPAN}-01"), "");
    check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), "");
    check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), "");
    check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), "");
    check(&format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), "");
    check(&format!("00-{TRACE}-{SPAN}-0A"), "");
    check(&format!("00-{TRACE}-{SPAN}-0x"), "");
    check(&format!("00-{TRACE}.{SPAN}-01"), "");
    check(&format!("00-{TRACE}-{SPAN}.01"), "");
    check(&format!("00.{TRACE}-{SPAN}-01"), "");
    check(&format!("00-{}-{SPAN}-01", &TRACE[1..]), "");
    check(&format!("00-{TRACE}0-{SPAN}-01"), "");
    check(&format!("00-{TRACE}-{}-01", &SPAN[1..]), "");
    check(&format!("00-{TRACE}-é{}-01", &SPAN[2..]), "");
    check(&format!(" 00-{TRACE}-{SPAN}-01"), "");
}

#[test]
fn there_is_one_parent_or_none() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let mut headers = HeaderMap::new();
    assert_eq!(TraceParent::of(&headers), None);
    headers.append(TRACEPARENT, format!(" {parent}\t").parse().unwrap());
    assert_eq!(TraceParent::of(&headers).unwrap().to_value(), parent);
    headers.append(TRACEPARENT, parent.parse().unwrap());
    assert_eq!(TraceParent::of(&headers), None);
}

/// What is handed on of those fields; empty: nothing.
fn check_state(fields: &[&str], expected: &str) {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(TRACESTATE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
    }
    let said = tracestate(&headers);
    assert_eq!(said.as_ref().map(|value| value.to_str().unwrap()).unwrap_or_default(), expected, "{fields:?}");
}

#[test]
fn a_state_is_handed_on() {
    check_state(&[], "");
    check_state(&["rojo=00f067aa0ba902b7"], "rojo=00f067aa0ba902b7");
    check_state(&["rojo=1,congo=t61rcWkgMzE"], "rojo=1,congo=t61rcWkgMzE");
    check_state(&["rojo=1", "congo=2"], "rojo=1,congo=2");
    check_state(&["rojo=1 ,\t congo=2, ", "", ",a=3"], "rojo=1,congo=2,a=3");
    check_state(&["fw529a3039@dt=FfD:~!#$% &'()*+-./;<>?@[]^_`{|}"], "fw529a3039@dt=FfD:~!#$% &'()*+-./;<>?@[]^_`{|}");
    check_state(&["0a_-*/@b=1"], "0a_-*/@b=1");
    // Who sends one key twice breaks a rule that is not ours to mend.
    check_state(&["a=1,a=2"], "a=1,a=2");
    let longest = format!("{}={}", "k".repeat(256), "v".repeat(255));
    check_state(&[&longest], &longest);
}

#[test]
fn a_malformed_state_is_dropped_whole() {
    for bad in [
        "rojo",
        "=1",
        "rojo=",
        "Rojo=1",
        "r ojo=1",
        "rojo =1",
        "_a=1",
        "a=b=c",
        "a=é",
        "a=b\tc",
        &format!("{}=1", "k".repeat(257)),
        &format!("a={}", "v".repeat(257)),
    ] {
        check_state(&["ok=1", bad], "");
    }
}

#[test]
fn a_state_has_limits() {
    let members = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    check_state(&[&members(32)], &members(32));
    check_state(&[&members(33)], "");
    // 5 × 100 bytes and 4 commas: 504. Eight more are 512 and fit, nine do not.
    let hundred = |name: char| format!("{name}={}", "v".repeat(98));
    let five = ['a', 'b', 'c', 'd', 'e'].map(hundred).join(",");
    check_state(&[&five, "f=12345"], &format!("{five},f=12345"));
    check_state(&[&five, "f=123456"], &five);
    // A member of 129 bytes goes before others, one of 128 from the end.
    let long = |bytes: usize| format!("l={}", "v".repeat(bytes - 2));
    check_state(&[&long(129), &five], &five);
    check_state(&[&long(128), &five], &format!("{},{}", long(128), &five[..302]));
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_so_that_it_reads_the_same(value in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Some(parent) = TraceParent::parse(&value) {
            prop_assert_eq!(TraceParent::parse(parent.to_string().as_bytes()), Some(parent));
        }
    }

    #[test]
    fn ids_survive(trace in 1_u128.., span in 1_u64.., sampled: bool, random: bool) {
        let parent = TraceParent { trace: TraceId::new(trace), span: SpanId::new(span), sampled, random };
        let text = parent.to_string();
        prop_assert_eq!(text.len(), 55);
        prop_assert_eq!(TraceParent::parse(text.as_bytes()), Some(parent));
        prop_assert_eq!(parent.trace.to_bytes(), trace.to_be_bytes());
        prop_assert_eq!(parent.span.to_bytes(), span.to_be_bytes());
    }

    #[test]
    fn what_is_handed_on_is_within_the_limits_and_handed_on_again_as_it_is(
        fields in proptest::collection::vec("[a-c0=, \tA~]{0,600}", 0..4)
    ) {
        let mut headers = HeaderMap::new();
        for field in &fields {
            headers.append(TRACESTATE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        if let Some(state) = tracestate(&headers) {
            prop_assert!(state.len() <= TRACESTATE_BYTES_MAX);
            let again = HeaderMap::from_iter([(TRACESTATE, state.clone())]);
            prop_assert_eq!(tracestate(&again), Some(state));
        }
    }
}
