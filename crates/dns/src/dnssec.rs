//! DNSSEC for answers that are made as they are asked: keys, signatures, and denial by compact lies (RFC 9824), which needs
//! no order among names and tells nobody which there are.

mod keys;
mod sign;

pub use keys::{ActiveKeys, Algorithm, InvalidKey, KeyRing, KeyRingError, Life, Role, ZoneKey};
pub use sign::Signatures;
pub(crate) use sign::Signed;

use crate::code::kind;

/// NSEC's data for a name that is the only one of its kind up to its immediate successor: the types that it has
/// (RFC 4034 §4, RFC 9824 §3).
pub(crate) fn nsec(owner: &[u8], kinds: impl IntoIterator<Item = u16>) -> Vec<u8> {
    // RFC 9824 §3.1: the immediate successor, a label of one zero octet below.
    let mut data = vec![1, 0];
    data.extend(owner);
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
}
