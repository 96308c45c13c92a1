//! Signatures of messages by a shared secret (RFC 8945): of secondaries' questions and of what they get.
//!
//! A key is an algorithm, too: one name, one algorithm. HMAC-MD5 and SHA-1 are absent on purpose (RFC 8945 §6).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use perigee_protocol::model::TsigAlgorithm;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use crate::{
    name::{InvalidName, NAME_BYTES_MAX, Name, QueryName},
    query::HEADER_BYTES,
};

/// The type's number.
const KIND_TSIG: u16 = 250;
const CLASS_ANY: u16 = 255;
/// How far clocks may differ, in seconds (RFC 8945 §10 recommends it).
const FUDGE_S: u16 = 300;
/// A secret of this many bytes at least (RFC 8945 §8 asks for no less than the hash has; keys in use have 16 and more).
pub const TSIG_SECRET_BYTES_MIN: usize = 16;
/// A signature may be cut to half of its length, but not below this (RFC 8945 §5.2.2.1).
const MAC_BYTES_MIN: usize = 10;
/// Time, fudge, two lengths, identifier, error, and the longest other data.
const FIXED_BYTES: usize = 16 + 6;
/// Type, class, time to live, length.
const RECORD_HEAD_BYTES: usize = 10;

/// Why bytes are no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTsigKey {
    /// The key's name.
    #[error("the key's name {0:?} {1}")]
    Name(String, #[source] InvalidName),
    /// The secret.
    #[error("the secret has {0} bytes; it must have at least {TSIG_SECRET_BYTES_MIN}")]
    TooShort(usize),
}

/// A secret that this nameserver shares with secondaries. Never printed.
#[derive(Clone)]
pub struct TsigKey {
    name: Name,
    algorithm: TsigAlgorithm,
    secret: Box<[u8]>,
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({}, {})", self.name, self.algorithm.as_str())
    }
}

impl TsigKey {
    /// A key as the document and its file say it.
    pub fn new(name: &str, algorithm: TsigAlgorithm, secret: &[u8]) -> Result<Self, InvalidTsigKey> {
        if secret.len() < TSIG_SECRET_BYTES_MIN {
            return Err(InvalidTsigKey::TooShort(secret.len()));
        }
        let name = Name::parse(name).map_err(|error| InvalidTsigKey::Name(name.to_owned(), error))?;
        Ok(Self { name, algorithm, secret: secret.into() })
    }

    /// What it is called.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many bytes its signature adds to a message at most.
    pub(crate) fn bytes_max(&self) -> usize {
        let algorithm = algorithm_wire(self.algorithm).len();
        self.name.as_wire().len() + RECORD_HEAD_BYTES + algorithm + FIXED_BYTES + mac_bytes(self.algorithm)
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            // A secret of any length is a key of HMAC's.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret) else { return Vec::new() };
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self.algorithm {
            TsigAlgorithm::HmacSha256 => of::<Hmac<Sha256>>(&self.secret, parts),
            TsigAlgorithm::HmacSha384 => of::<Hmac<Sha384>>(&self.secret, parts),
            TsigAlgorithm::HmacSha512 => of::<Hmac<Sha512>>(&self.secret, parts),
        }
    }
}

fn mac_bytes(algorithm: TsigAlgorithm) -> usize {
    match algorithm {
        TsigAlgorithm::HmacSha256 => 32,
        TsigAlgorithm::HmacSha384 => 48,
        TsigAlgorithm::HmacSha512 => 64,
    }
}

fn algorithm_wire(algorithm: TsigAlgorithm) -> Vec<u8> {
    let name = algorithm.as_str();
    // Eleven letters.
    [&[name.len() as u8], name.as_bytes(), &[0]].concat()
}

/// What is wrong with a signature (RFC 8945 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// BADSIG, 16: not what the key makes of the message.
    Signature,
    /// BADKEY, 17: unknown, or of another algorithm.
    Key,
    /// BADTIME, 18: our clock and theirs differ.
    Time,
}

impl Fault {
    fn number(self) -> u16 {
        match self {
            Self::Signature => 16,
            Self::Key => 17,
            Self::Time => 18,
        }
    }
}

/// A TSIG record as it came.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) key_name: QueryName,
    algorithm: QueryName,
    /// Seconds since the Unix epoch, 48 bits.
    time_s: u64,
    fudge_s: u16,
    pub(crate) mac: &'a [u8],
    original_id: [u8; 2],
    pub(crate) error: u16,
    pub(crate) other: &'a [u8],
    /// The message before it, to be signed with one record less.
    before: &'a [u8],
}

impl<'a> Shown<'a> {
    /// Reads the record that begins at `at` and ends the message; its owner may be compressed (RFC 1035 §4.1.4), names in its
    /// data may not (RFC 3597 §4). None: FORMERR.
    pub(crate) fn read(message: &'a [u8], at: usize) -> Option<Self> {
        let (before, record) = message.split_at_checked(at)?;
        let (mut key_name, mut algorithm) = (QueryName::new(), QueryName::new());
        let (name, taken) = expanded(message, at)?;
        key_name.read(&name)?;
        let (head, data) = record.get(taken..)?.split_first_chunk::<RECORD_HEAD_BYTES>()?;
        let [_, _, c1, c2, ttl @ .., l1, l2] = *head;
        // RFC 8945 §4.2: class ANY, no time to live.
        let is_head = u16::from_be_bytes([c1, c2]) == CLASS_ANY && ttl == [0; 4];
        let is_all = usize::from(u16::from_be_bytes([l1, l2])) == data.len();
        let taken = algorithm.read(data)?;
        let (fixed, rest) = data.get(taken..)?.split_first_chunk::<10>()?;
        let [t1, t2, t3, t4, t5, t6, f1, f2, m1, m2] = *fixed;
        let (mac, rest) = rest.split_at_checked(u16::from_be_bytes([m1, m2]).into())?;
        let (after, other) = rest.split_first_chunk::<6>()?;
        let [i1, i2, e1, e2, o1, o2] = *after;
        let is_whole = usize::from(u16::from_be_bytes([o1, o2])) == other.len();
        (is_head && is_all && is_whole).then_some(Self {
            key_name,
            algorithm,
            time_s: u64::from_be_bytes([0, 0, t1, t2, t3, t4, t5, t6]),
            fudge_s: u16::from_be_bytes([f1, f2]),
            mac,
            original_id: [i1, i2],
            error: u16::from_be_bytes([e1, e2]),
            other,
            before,
        })
    }

    /// Whose key it is, and whether it holds. None: FORMERR (a signature of an impossible length).
    pub(crate) fn verify<'k>(
        &self,
        keys: &'k [TsigKey],
        now_s: u64,
    ) -> Option<Result<&'k TsigKey, (Fault, Option<&'k TsigKey>)>> {
        let key = keys.iter().find(|key| {
            key.name.as_wire() == self.key_name.suffix(0) && algorithm_wire(key.algorithm) == self.algorithm.suffix(0)
        });
        let Some(key) = key else { return Some(Err((Fault::Key, None))) };
        let full = mac_bytes(key.algorithm);
        // RFC 8945 §5.2.2.1
        if self.mac.len() > full || self.mac.len() < MAC_BYTES_MIN.max(full / 2) {
            return None;
        }
        let mut message = self.before.to_vec();
        // What was signed had its own identifier (§5.3.1), and one record less.
        let additionals = u16::from_be_bytes([*message.get(10)?, *message.get(11)?]).checked_sub(1)?;
        message.get_mut(..2)?.copy_from_slice(&self.original_id);
        message.get_mut(10..HEADER_BYTES)?.copy_from_slice(&additionals.to_be_bytes());
        let variables = variables(key, self.time_s, self.fudge_s, self.error, self.other);
        let mac = key.mac(&[&message, &variables]);
        let is_right = mac.get(..self.mac.len()).is_some_and(|mac| bool::from(mac.ct_eq(self.mac)));
        Some(if !is_right {
            Err((Fault::Signature, Some(key)))
        } else if self.time_s.abs_diff(now_s) > self.fudge_s.into() {
            // §5.2.3: after the signature, so that only who has the key learns our time.
            Err((Fault::Time, Some(key)))
        } else {
            Ok(key)
        })
    }

    /// How many bytes [`Self::refuse`] adds at most.
    pub(crate) fn refusal_bytes_max(&self, key: Option<&TsigKey>) -> usize {
        let names = self.key_name.suffix(0).len() + self.algorithm.suffix(0).len();
        key.map_or(names + RECORD_HEAD_BYTES + FIXED_BYTES, TsigKey::bytes_max)
    }

    /// Tells what was wrong: with a signature where the key is good (BADTIME), without otherwise (§5.3.2).
    pub(crate) fn refuse(&self, fault: Fault, key: Option<&TsigKey>, now_s: u64, out: &mut Vec<u8>) {
        let [_, _, t @ ..] = now_s.to_be_bytes();
        match key.filter(|_| fault == Fault::Time) {
            Some(key) => {
                // §5.2.3: the time is the client's, and ours is in the other data.
                let said = Said { time_s: self.time_s, error: fault.number(), other: &t };
                let request = prefixed(self.mac);
                let variables = variables(key, said.time_s, FUDGE_S, said.error, said.other);
                let mac = key.mac(&[&request, out, &variables]);
                append(key.name.as_wire(), self.algorithm.suffix(0), &said, &mac, out);
            }
            None => {
                let said = Said { time_s: self.time_s, error: fault.number(), other: &[] };
                append(self.key_name.suffix(0), self.algorithm.suffix(0), &said, &[], out);
            }
        }
    }
}

/// Signs what answers one message: each of the messages with the signature of the one before (§5.3.1).
#[derive(Clone, Debug)]
pub(crate) struct Session {
    key: TsigKey,
    prior: Vec<u8>,
    is_first: bool,
}

impl Session {
    /// To answer what `shown` signed with `key`.
    pub(crate) fn answering(key: &TsigKey, shown: &Shown<'_>) -> Self {
        Self { key: key.clone(), prior: prefixed(shown.mac), is_first: true }
    }

    /// To ask.
    pub(crate) fn asking(key: &TsigKey) -> Self {
        Self { key: key.clone(), prior: Vec::new(), is_first: true }
    }

    /// As if `prior` had been the signature before.
    #[cfg(test)]
    pub(crate) fn continuing(key: &TsigKey, prior: &[u8], is_first: bool) -> Self {
        Self { key: key.clone(), prior: prefixed(prior), is_first }
    }

    /// How many bytes a signature adds at most.
    pub(crate) fn bytes_max(&self) -> usize {
        self.key.bytes_max()
    }

    /// Adds the signature to a whole message.
    pub(crate) fn sign(&mut self, now_s: u64, out: &mut Vec<u8>) {
        let variables = if self.is_first {
            variables(&self.key, now_s, FUDGE_S, 0, &[])
        } else {
            // §5.3.1: of the second message on the timers alone.
            timers(now_s, FUDGE_S)
        };
        let mac = self.key.mac(&[&self.prior, out, &variables]);
        let said = Said { time_s: now_s, error: 0, other: &[] };
        append(self.key.name.as_wire(), &algorithm_wire(self.key.algorithm), &said, &mac, out);
        self.prior = prefixed(&mac);
        self.is_first = false;
    }
}

/// The name at `at` of a message without its pointers, and how many bytes it takes there.
fn expanded(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut here, mut taken) = (Vec::new(), at, None);
    loop {
        let length = *message.get(here)?;
        match length {
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*message.get(here + 1)?);
                taken = taken.or_else(|| (here + 2).checked_sub(at));
                // Only backwards, so that it ends.
                here = Some(target).filter(|target| *target < here)?;
            }
            0x40.. => return None,
            _ => {
                name.extend(message.get(here..here + 1 + usize::from(length))?);
                here += 1 + usize::from(length);
                if length == 0 {
                    return taken.or_else(|| here.checked_sub(at)).map(|taken| (name, taken));
                }
                if name.len() > NAME_BYTES_MAX {
                    return None;
                }
            }
        }
    }
}

struct Said<'a> {
    time_s: u64,
    error: u16,
    other: &'a [u8],
}

/// The signature before, with its length (§4.3.1).
fn prefixed(mac: &[u8]) -> Vec<u8> {
    // At most as long as a message.
    let length = u16::try_from(mac.len()).unwrap_or(0);
    [&length.to_be_bytes(), mac].concat()
}

fn timers(time_s: u64, fudge_s: u16) -> Vec<u8> {
    let [_, _, time @ ..] = time_s.to_be_bytes();
    [time.as_slice(), &fudge_s.to_be_bytes()].concat()
}

/// §4.3.3
fn variables(key: &TsigKey, time_s: u64, fudge_s: u16, error: u16, other: &[u8]) -> Vec<u8> {
    let other_length = u16::try_from(other.len()).unwrap_or(0);
    [
        key.name.as_wire(),
        &CLASS_ANY.to_be_bytes(),
        &[0; 4],
        &algorithm_wire(key.algorithm),
        &timers(time_s, fudge_s),
        &error.to_be_bytes(),
        &other_length.to_be_bytes(),
        other,
    ]
    .concat()
}

/// Adds a TSIG record to a message (§4.2).
fn append(key_name: &[u8], algorithm: &[u8], said: &Said<'_>, mac: &[u8], out: &mut Vec<u8>) {
    let original_id = out.first_chunk::<2>().copied().unwrap_or_default();
    let other_length = u16::try_from(said.other.len()).unwrap_or(0);
    let data = [
        algorithm,
        &timers(said.time_s, FUDGE_S),
        &prefixed(mac),
        &original_id,
        &said.error.to_be_bytes(),
        &other_length.to_be_bytes(),
        said.other,
    ]
    .concat();
    out.extend(key_name);
    out.extend(KIND_TSIG.to_be_bytes());
    out.extend(CLASS_ANY.to_be_bytes());
    out.extend([0; 4]);
    // Two names and some numbers.
    out.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend(&data);
    if let Some(count) = out.get_mut(10..HEADER_BYTES) {
        let additionals = count.first_chunk::<2>().copied().map_or(0, u16::from_be_bytes).saturating_add(1);
        count.copy_from_slice(&additionals.to_be_bytes());
    }
}
