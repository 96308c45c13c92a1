//! Signatures of record sets (RFC 4034 §3), made when they are first wanted and kept until they are half as old as they get.

use std::{
    collections::HashMap,
    hash::Hasher,
    sync::{Arc, Mutex, PoisonError},
};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::keys::{ActiveKeys, ZoneKey};
use crate::{
    code::{CLASS_IN, kind},
    name::{self, Name},
};

/// How long a signature holds, in seconds.
const VALIDITY_S: u64 = 7 * 86_400;
/// It is made anew when only so much is left.
const RENEW_LEFT_S: u64 = VALIDITY_S / 2;
/// It begins to hold so long before it is made: clocks differ.
const BACKDATED_S: u64 = 3_600;
/// Signatures kept; more than that and all go.
const KEPT_MAX: usize = 32_768;

/// The record set that is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// Uncompressed, in lower case.
    pub(crate) owner: &'a [u8],
    pub(crate) kind: u16,
    pub(crate) ttl_s: u32,
    /// Canonical (RFC 4034 §6.2) and in order (§6.3).
    pub(crate) data: &'a [Vec<u8>],
}

/// Signatures kept by one core. Clones are the same.
#[derive(Clone, Debug)]
pub struct Signatures {
    kept: Arc<Mutex<HashMap<u128, Kept>>>,
    key: [u8; 16],
}

#[derive(Clone, Debug)]
struct Kept {
    renew_s: u64,
    /// RRSIG's data, one for each key.
    data: Arc<[Vec<u8>]>,
}

impl Signatures {
    /// None yet. `key`: so that nobody can choose record sets that share a place.
    pub fn new(key: [u8; 16]) -> Self {
        Self { kept: Arc::default(), key }
    }

    /// The data of the set's RRSIGs.
    pub(crate) fn of(&self, keys: &ActiveKeys, apex: &Name, set: Signed<'_>, now_s: u64) -> Arc<[Vec<u8>]> {
        let is_of_keys = matches!(set.kind, kind::DNSKEY | kind::CDS | kind::CDNSKEY);
        let signers = if is_of_keys { &keys.key_signers } else { &keys.record_signers };
        let place = self.place(signers, &set);
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().get(&place).filter(|kept| now_s < kept.renew_s) {
            return Arc::clone(&kept.data);
        }
        let data: Arc<[Vec<u8>]> = signers.iter().map(|key| rrsig(key, apex, &set, now_s)).collect();
        let mut kept = lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(place, Kept { renew_s: now_s + VALIDITY_S - RENEW_LEFT_S, data: Arc::clone(&data) });
        data
    }

    fn place(&self, signers: &[Arc<ZoneKey>], set: &Signed<'_>) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for key in signers {
            hasher.write_u16(key.tag);
        }
        hasher.write(set.owner);
        hasher.write_u16(set.kind);
        hasher.write_u32(set.ttl_s);
        for data in set.data {
            hasher.write_usize(data.len());
            hasher.write(data);
        }
        hasher.finish128().into()
    }
}

/// RFC 4034 §3.1 and §3.1.8.1.
fn rrsig(key: &ZoneKey, apex: &Name, set: &Signed<'_>, now_s: u64) -> Vec<u8> {
    // §3.1.3: a wildcard's own label does not count.
    let labels = name::labels(set.owner).count() - usize::from(set.owner.starts_with(b"\x01*"));
    let mut data = set.kind.to_be_bytes().to_vec();
    data.extend([key.algorithm().number(), u8::try_from(labels).unwrap_or(u8::MAX)]);
    data.extend(set.ttl_s.to_be_bytes());
    // §3.1.5: 32 bits, in serial number arithmetic.
    for time_s in [now_s + VALIDITY_S, now_s.saturating_sub(BACKDATED_S)] {
        data.extend((time_s as u32).to_be_bytes());
    }
    data.extend(key.tag.to_be_bytes());
    data.extend(apex.as_wire());
    let mut signed = data.clone();
    for rdata in set.data {
        signed.extend(set.owner);
        signed.extend(set.kind.to_be_bytes());
        signed.extend(CLASS_IN.to_be_bytes());
        signed.extend(set.ttl_s.to_be_bytes());
        // What fits a message fits 16 bits.
        signed.extend(u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
        signed.extend(rdata);
    }
    data.extend(key.sign(&signed));
    data
}
