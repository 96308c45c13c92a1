//! The answer to a message that somebody signed (RFC 8945): checked first, answered as any other, and signed in turn.

use perigee_geo::health::HealthView;

use crate::{
    answer::{Memory, answer_query},
    arrival::{Arrival, Transport},
    code::{Rcode, kind},
    outcome::{Outcome, Reason},
    query::Query,
    snapshot::Snapshot,
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
            if may_have_zone && arrival.transport == Transport::Udp {
                ask_for_soa(query, memory.name.suffix(0) == snapshot.zone.apex().as_wire());
            }
            let mut session = Session::answering(key, shown);
            let outcome = answer_query(snapshot, arrival, query, health, memory, (session.bytes_max(), out));
            if outcome.rcode.is_some() {
                session.sign(now_s, out);
            }
            outcome
        }
    }
}

/// RFC 1995 §2, §4: IXFR by a datagram is answered with the SOA, and who has another version comes by TCP.
fn ask_for_soa(query: &mut Query<'_>, is_apex: bool) {
    if let Some(question) = query.question.as_mut()
        && question.kind == kind::IXFR
        && is_apex
        && query.fault == Some((Rcode::Refused, Reason::Transfer))
    {
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
