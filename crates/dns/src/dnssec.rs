//! DNSSEC for answers that are made as they are asked: keys, signatures, and denial by compact lies (RFC 9824), which needs
//! no order among names and tells nobody which there are.

mod keys;
mod sign;

pub use keys::{ActiveKeys, Algorithm, InvalidKey, KeyRing, KeyRingError, Life, Role, ZoneKey};
pub use sign::Signatures;
pub(crate) use sign::Signed;

use crate::{code::kind, name::NAME_BYTES_MAX};

/// NSEC's data for a name that is the only one of its kind up to its immediate successor: the types that it has
/// (RFC 4034 §4, RFC 9824 §3).
pub(crate) fn nsec(owner: &[u8], kinds: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut data = successor(owner);
    let mut kinds: Vec<u16> = kinds.into_iter().chain([kind::RRSIG, kind::NSEC]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    // RFC 4034 §4.1.2: per window of 256 types its number, the length of its map, and the map.
    for window in kinds.chunk_by(|one, other| one >> 8 == other >> 8) {
        let mut map = [0_u8; 32];
        for kind in window {
            if let Some(octet) = map.get_mut(usize::from(kind & 0xff) / 8) {
                *octet |= 0x80 >> (kind & 7);
            }
        }
        let length = window.last().map_or(0, |last| usize::from(last & 0xff) / 8 + 1);
        let number = window.first().map_or(0, |first| (first >> 8) as u8);
        data.extend([number, length as u8]);
        data.extend(map.get(..length).unwrap_or_default());
    }
    data
}

/// The next name in canonical order (RFC 4034 §6.1) that there could be; `owner` is in lower case.
fn successor(owner: &[u8]) -> Vec<u8> {
    // RFC 9824 §3.1: a label of one zero octet below.
    if owner.len() + 2 <= NAME_BYTES_MAX {
        return [&[1, 0], owner].concat();
    }
    // RFC 4471 §3.1.2: where there is no room for that, the last octet that can be is one more, and what follows it in its
    // label is gone.
    let mut name = owner;
    while let Some((label, after)) = name.split_first().and_then(|(len, rest)| rest.split_at_checked((*len).into())) {
        let raised = label.iter().rposition(|octet| *octet != u8::MAX).and_then(|at| label.get(..=at));
        if let Some((last, before)) = raised.and_then(<[u8]>::split_last) {
            // Capital letters sort as small ones.
            let more = if *last == b'@' { b'[' } else { last.saturating_add(1) };
            let length = u8::try_from(before.len() + 1).unwrap_or(0);
            return [&[length], before, &[more], after].concat();
        }
        name = after;
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_types() {
        let owner = b"\x01a\x00";
        let check = |kinds: &[u16], map: &[u8]| {
            let data = nsec(owner, kinds.iter().copied());
            assert_eq!(data[..5], *b"\x01\x00\x01a\x00");
            assert_eq!(data[5..], *map, "{kinds:?}");
        };
        check(&[], &[0, 6, 0, 0, 0, 0, 0, 3]);
        // The example of RFC 4034 §4.3: A MX RRSIG NSEC TYPE1234.
        let long = [&[0, 6, 0x40, 1, 0, 0, 0, 3, 4, 27], [0; 26].as_slice(), &[0x20]].concat();
        check(&[1234, 15, 1], &long);
        check(&[kind::NXNAME], &[0, 17, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    }

    #[test]
    fn successors() {
        assert_eq!(successor(b"\x01a\x00"), b"\x01\x00\x01a\x00");
        // Names of 253, 254 and 255 octets.
        let long = |first: &[u8], octets: usize| {
            let mut name = vec![u8::try_from(first.len()).unwrap()];
            name.extend(first);
            while name.len() + 1 < octets {
                let label = (octets - name.len() - 2).min(63);
                // A label of nothing would be the end.
                let label = if octets - name.len() - 2 - label == 1 { label - 1 } else { label };
                name.push(u8::try_from(label).unwrap());
                name.resize(name.len() + label, b'x');
            }
            name.push(0);
            assert_eq!(name.len(), octets);
            name
        };
        assert_eq!(successor(&long(b"ab", 253)), [b"\x01\x00", &long(b"ab", 253)[..]].concat());
        let check = |first: &[u8], octets: usize, next: &[u8]| {
            let name = long(first, octets);
            let next = [&[u8::try_from(next.len()).unwrap()], next, &name[first.len() + 1..]].concat();
            assert_eq!(successor(&name), next, "{first:?} {octets}");
        };
        check(b"ab", 254, b"ac");
        check(b"ab", 255, b"ac");
        check(b"a@", 255, b"a[");
        check(b"a\xff\xff", 255, b"b");
        let name = long(b"\xff", 255);
        let second = usize::from(name[2]);
        assert_eq!(successor(&name)[second], b'y');
    }
}
