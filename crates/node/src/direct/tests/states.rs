//! Drains, time-outs, clients that do not read or go away: what a connection does between and in the middle of requests.

use std::time::Duration;

use super::{
    get, limits,
    stand::{ALL, By, Stand, Taking},
};
use crate::{connections::Phase, door_metrics::Ended, http::Limits};

/// A time-out that passes at once, and one that never does.
const SHORT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn stand() -> Stand {
    Stand::new(By::Direct, &limits(), ALL)
}

fn is_shut(stand: &Stand) -> bool {
    stand.pipe.0.lock().unwrap().shut
}

/// What each phase of a drain does to a connection that has said this.
#[test]
fn drains() {
    let check = |said: &[u8], phases: &[Phase], ends: Option<usize>| {
        for by in [By::Direct, By::HyperOnly] {
            let mut stand = Stand::new(by, &limits(), ALL);
            stand.say(said);
            for (index, &phase) in phases.iter().enumerate() {
                stand.tell(phase);
                let text = String::from_utf8_lossy(said);
                // hyper's connections that have said nothing are listened to for a while after that.
                assert_eq!(
                    stand.ended.is_some() || is_shut(&stand),
                    ends.is_some_and(|end| index >= end),
                    "{by:?} {phase:?} {text}"
                );
            }
        }
    };
    let phases = [Phase::Draining, Phase::Closing, Phase::Aborted];
    check(b"", &phases, Some(1));
    check(&get("/whole"), &phases, Some(0));
    check(&get("/chunked"), &phases, Some(0));

    // A head that has begun may end.
    let mut stand = stand();
    stand.say(&[get("/whole"), b"GET /half HTTP/1.1\r\n".to_vec()].concat());
    stand.tell(Phase::Draining);
    assert!(stand.ended.is_none());
    stand.say(b"Host: x\r\n\r\n");
    assert!(stand.ended.is_some() && stand.output().contains("connection: close"));
}

/// A request that meets a drain is answered, and told so; nothing is read after it. So it is with what the service takes
/// its time for: hyper is not told to end before it knows of the request.
#[test]
fn who_asks_into_a_drain_is_answered() {
    for path in ["/whole", "/length", "/late", "/pieces", "/chunked", "/early", "/early-late", "/close"] {
        let mut stand = stand();
        stand.say(&get("/whole/1"));
        // The request and the drain at once: neither has been looked at before.
        stand.hear([get(path), get("/never")].concat().as_slice());
        stand.tell(Phase::Draining);
        let output = stand.output();
        assert_eq!(output.matches("HTTP/1.1 200").count(), 2, "{path}: {output}");
        assert_eq!(output.matches("connection: close").count(), 1, "{path}: {output}");
        assert!(stand.ended.is_some() && is_shut(&stand), "{path}");
        assert_eq!(stand.entry.connection().requests(), 2);
    }
    // The first of a connection too.
    let mut stand = stand();
    stand.tell(Phase::Draining);
    stand.say(&get("/whole"));
    assert!(stand.output().contains("connection: close") && stand.ended.is_some());
}

#[test]
fn a_drain_waits_for_who_has_yet_to_take_its_answer() {
    for phase in [Phase::Draining, Phase::Closing] {
        let mut stand = stand();
        stand.say(&get("/whole/1"));
        stand.pipe.0.lock().unwrap().full = true;
        stand.say(&get("/whole/5000"));
        assert_eq!(stand.metrics.parked(), 0, "who is sent something is not idle");
        stand.tell(phase);
        assert!(stand.ended.is_none());
        stand.pipe.0.lock().unwrap().full = false;
        stand.settle();
        assert!(stand.output().ends_with(&"0123456789".repeat(500)) && stand.ended.is_some() && is_shut(&stand));
    }
    let mut stand = stand();
    stand.pipe.0.lock().unwrap().full = true;
    stand.say(&get("/whole/5000"));
    stand.tell(Phase::Aborted);
    assert_eq!((stand.ended, stand.output().len(), is_shut(&stand)), (Some(None), 0, false));
}

/// Which time-out ends a connection that has said this; all others are out of reach.
#[test]
fn time_outs() {
    let check = |pieces: &[&[u8]], full: bool, expected: Ended| {
        let given = |reason: Ended| if reason == expected { SHORT } else { HOUR };
        let limits = Limits {
            header_timeout: given(Ended::HeaderTimeout),
            idle_timeout: given(Ended::IdleTimeout),
            write_timeout: given(Ended::WriteTimeout),
            ..limits()
        };
        let mut stand = Stand::new(By::Direct, &limits, ALL);
        stand.pipe.0.lock().unwrap().full = full;
        for piece in pieces {
            stand.say(piece);
        }
        let late = stand.settle_in_time();
        assert_eq!((late, stand.metrics.parked()), (Some(expected), 0), "{pieces:?}");
        let told =
            stand.output().ends_with("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let is_half = pieces.last().is_some_and(|last| !last.ends_with(b"\r\n\r\n"));
        assert_eq!(told, is_half && !full, "{pieces:?}");
    };
    check(&[], false, Ended::HeaderTimeout);
    check(&[b"GET /whole HTTP/1.1\r\n"], false, Ended::HeaderTimeout);
    check(&[b"GET /wh", b"ole HTTP/1.1\r\nHost:"], false, Ended::HeaderTimeout);
    let whole = get("/whole");
    check(&[&whole], false, Ended::IdleTimeout);
    check(&[&whole, &whole], false, Ended::IdleTimeout);
    check(&[&whole, b"GET"], false, Ended::HeaderTimeout);
    check(&[&[&whole[..], b"GET"].concat()], false, Ended::HeaderTimeout);
    check(&[&get("/late")], false, Ended::IdleTimeout);
    check(&[&get("/whole/5000")], true, Ended::WriteTimeout);
    check(&[&get("/chunked/5000")], true, Ended::WriteTimeout);
}

/// What was asked before its client went is what a record is of: once, whoever serves it.
#[test]
fn clients_that_go() {
    for path in ["/whole/5000", "/late", "/slow", "/chunked", "/pieces"] {
        for at in 0..4 {
            let mut events = Vec::new();
            for by in [By::Direct, By::HyperOnly] {
                let mut stand = Stand::new(by, &limits(), Taking { room: Some(3), flat: false });
                stand.say(&[get("/whole/1"), get(path)].concat());
                if at > 0 {
                    stand.say(&get(path)[..at * 9]);
                }
                stand.close();
                assert_eq!(stand.ended, Some(None), "{path} {at}");
                events.push(stand.events.lock().unwrap().clone());
            }
            assert_eq!(events[0], events[1], "{path} {at}");
        }
    }
}

/// What is not whole is cut and never looks whole, however early that shows: the connection ends, what came before is there,
/// and nothing is read after it.
#[test]
fn what_is_not_whole_is_cut() {
    let check = |path: &str, given: &str| {
        let mut stand = stand();
        stand.say(&[get("/whole/3"), get(path), get("/never")].concat());
        let output = stand.output();
        assert!(output.matches("content-length: 5\r\n").count() <= 1, "{path}: {output}");
        assert!(output.contains("\r\n\r\n012") && output.ends_with(given), "{path}: {output}");
        assert_eq!((stand.ended, stand.entry.connection().requests()), (Some(None), 2), "{path}");
        let length = given.trim().len();
        assert_eq!(stand.events.lock().unwrap().last(), Some(&format!("{path} gave {length}")));
    };
    check("/cut", "01");
    check("/cut-length", "01");
    check("/cut-at-once", "\r\n\r\n");
    check("/lying", "01");
    check("/lying-at-once", "");
}

/// Other connections have their turn: no more requests than that are answered at one go, and none is lost.
#[test]
fn many_at_once() {
    let mut stand = stand();
    stand.hear(&get("/whole/3").repeat(500));
    assert_eq!(stand.poll_once(), super::super::REQUESTS_AT_ONCE as u64);
    stand.settle();
    assert_eq!((stand.output().matches("\r\n\r\n012").count(), stand.metrics.parked()), (500, 1));
}

/// A connection whose requests are hyper's again and again stays with it, and is here again when one was not.
#[test]
fn who_needs_hyper_often_stays_there() {
    let mut stand = stand();
    let mut stays = 0;
    for _ in 0..300 {
        stand.say(&get("/chunked/1"));
        stays += usize::from(stand.metrics.parked() == 0);
    }
    // Of three hundred it is made anew for each of the first eight, then ever more seldom.
    assert!(stays > 250, "{stays}");
    let mut stand = self::stand();
    for number in 0..100 {
        stand.say(&get(if number % 2 == 0 { "/chunked/1" } else { "/whole/1" }));
        assert_eq!(stand.metrics.parked(), 1, "{number}");
    }
}
