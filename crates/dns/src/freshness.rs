//! How long a reply may be kept by those who do not read it.

use crate::{code::kind, query::HEADER_BYTES};

/// How long an HTTP cache may keep `reply`, one of [`answer`](crate::answer), in seconds (RFC 8484 §5.1): the lowest TTL of
/// its answer section; of a negative answer the SOA's. None: not at all (errors, referrals, what cannot be read).
pub fn freshness_s(reply: &[u8]) -> Option<u32> {
    let header = reply.first_chunk::<HEADER_BYTES>()?;
    let [_, _, flags, rcode, questions @ .., n1, n2, _, _] = *header;
    let [q1, q2, a1, a2] = questions;
    let is_truncated = flags & 0x02 != 0;
    // NOERROR and NXDOMAIN alone tell something that lasts.
    if is_truncated || !matches!(rcode & 15, 0 | 3) {
        return None;
    }
    let [questions, answers, authorities] = [[q1, q2], [a1, a2], [n1, n2]].map(u16::from_be_bytes);
    let mut rest = reply.get(HEADER_BYTES..)?;
    for _ in 0..questions {
        rest = after_name(rest)?.get(4..)?;
    }
    let mut lowest: Option<u32> = None;
    for index in 0..u32::from(answers) + u32::from(authorities) {
        let (head, after) = after_name(rest)?.split_first_chunk::<10>()?;
        let [k1, k2, _, _, ttl @ .., d1, d2] = *head;
        let ttl_s = u32::from_be_bytes(ttl);
        let is_answer = index < answers.into();
        // RFC 2308 §5: an SOA that denies has the lower of its own TTL and its minimum (see `Zone::negative_soa`).
        if is_answer || (answers == 0 && u16::from_be_bytes([k1, k2]) == kind::SOA) {
            lowest = Some(lowest.map_or(ttl_s, |lowest| lowest.min(ttl_s)));
        }
        rest = after.get(u16::from_be_bytes([d1, d2]).into()..)?;
    }
    lowest
}

/// What follows a name.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        bytes = match length {
            0 => return Some(rest),
            // RFC 1035 §4.1.4: a pointer ends a name.
            192.. => return rest.get(1..),
            length => rest.get(usize::from(*length)..)?,
        };
    }
}
