//! The answer to a message that somebody signed (RFC 8945): checked first, answered as any other, and signed in turn.

use perigee_geo::health::HealthView;

use crate::{
    answer::{Memory, answer_query, limit},
    arrival::{Arrival, Transport},
    code::{CLASS_IN, Rcode, kind},
    outcome::{Outcome, Reason},
    query::Query,
    snapshot::Snapshot,
    transfer,
    tsig::{Fault, Session, Shown},
};

/// As [`crate::answer`], of a message whose signature begins at `at`.
pub(crate) fn answer<'s, S: AsRef<[u8]>>(
    snapshot: &'s Snapshot<S>,
    arrival: Arrival,
    (message, query, at): (&[u8], &mut Query<'_>, usize),
    health: &HealthView,
    memory: &mut Memory,
    out: &mut Vec<u8>,
) -> Outcome<'s> {
    let now_s = arrival.now_ms / 1_000;
    let shown = Shown::read(message, at);
    let verdict = shown.as_ref().and_then(|shown| Some((shown, shown.verify(&snapshot.secondaries.keys, now_s)?)));
    match verdict {
        // RFC 8945 §5.2: what is no signature at all is FORMERR, and so is what was not well-formed before it.
        None => {
            query.fault = Some((Rcode::FormErr, Reason::Malformed));
            answer_query(snapshot, arrival, query, health, memory, (0, out))
        }
        Some((shown, Err((fault, key)))) => {
            query.fault = Some((Rcode::NotAuth, reason(fault)));
            let left_bytes = shown.refusal_bytes_max(key);
            let outcome = answer_query(snapshot, arrival, query, health, memory, (left_bytes, out));
            if outcome.rcode.is_some() {
                shown.refuse(fault, key, now_s, out);
            }
            outcome
        }
        Some((shown, Ok(key))) => {
            let may_have_zone = snapshot.secondaries.allows(arrival.peer, key) && snapshot.zone.keys.is_none();
            let mut session = Session::answering(key, shown);
            let is_apex = memory.name.suffix(0) == snapshot.zone.apex().as_wire();
            if may_have_zone && arrival.transport == Transport::Udp && is_apex && is_ixfr(query) {
                let limit = limit(arrival.transport, query.edns);
                if transfer::datagram(snapshot, (message, query, limit), session.clone(), arrival.now_ms, out) {
                    let (rcode, kind) = (Some(Rcode::NoError), Some(kind::IXFR));
                    return Outcome { rcode, reason: Reason::Transferred, truncated: false, kind, steered: None };
                }
                ask_for_soa(query);
            }
            let outcome = answer_query(snapshot, arrival, query, health, memory, (session.bytes_max(), out));
            if outcome.rcode.is_some() {
                session.sign(now_s, out);
            }
            outcome
        }
    }
}

/// IXFR that nothing else is wrong with.
fn is_ixfr(query: &Query<'_>) -> bool {
    let question = query.question.as_ref();
    question.is_some_and(|question| question.kind == kind::IXFR && question.class == CLASS_IN)
        && query.fault == Some((Rcode::Refused, Reason::Transfer))
}

/// RFC 1995 §2, §4: where the differences do not fit, IXFR by a datagram is answered with the SOA, and who has another version
/// comes by TCP.
fn ask_for_soa(query: &mut Query<'_>) {
    if let Some(question) = query.question.as_mut() {
        question.kind = kind::SOA;
        query.fault = None;
    }
}

fn reason(fault: Fault) -> Reason {
    match fault {
        Fault::Signature => Reason::BadSignature,
        Fault::Key => Reason::BadKey,
        Fault::Time => Reason::BadTime,
    }
}
