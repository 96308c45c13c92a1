//! A zone's keys: what they sign, when they are shown and used, and what the parent is told of them.

use std::fmt;

use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256};

use crate::name::Name;

/// How signatures are made (RFC 8624 §3.1 recommends both).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256 (RFC 6605).
    EcdsaP256,
    /// Ed25519 (RFC 8080).
    Ed25519,
}

impl Algorithm {
    /// The registered number.
    pub fn number(self) -> u8 {
        match self {
            Self::EcdsaP256 => 13,
            Self::Ed25519 => 15,
        }
    }
}

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Csk,
    /// The set of keys; the parent vouches for it.
    Ksk,
    /// Everything but the set of keys.
    Zsk,
}

impl Role {
    fn signs_keys(self) -> bool {
        self != Self::Zsk
    }

    fn signs_records(self) -> bool {
        self != Self::Ksk
    }

    /// RFC 4034 §2.1.1: zone key, and secure entry point where the parent vouches for it.
    fn flags(self) -> u16 {
        if self.signs_keys() { 257 } else { 256 }
    }
}

/// When a key is shown and when it signs, in seconds since the Unix epoch (RFC 7583 names these times).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From then on it is in the set of keys.
    pub publish_s: u64,
    /// From then on it signs.
    pub activate_s: u64,
    /// From then on it signs no more.
    pub retire_s: Option<u64>,
    /// From then on it is not in the set of keys.
    pub remove_s: Option<u64>,
}

impl Life {
    fn is_published(&self, now_s: u64) -> bool {
        self.publish_s <= now_s && self.remove_s.is_none_or(|remove_s| now_s < remove_s)
    }

    fn is_active(&self, now_s: u64) -> bool {
        self.is_published(now_s) && self.activate_s <= now_s && self.retire_s.is_none_or(|retire_s| now_s < retire_s)
    }
}

/// Why bytes are no private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no private key of this algorithm")]
pub struct InvalidKey;

enum Secret {
    EcdsaP256(Box<p256::ecdsa::SigningKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// A key of a zone. Its private part is never printed.
pub struct ZoneKey {
    secret: Secret,
    role: Role,
    life: Life,
    /// DNSKEY's data (RFC 4034 §2.1).
    pub(crate) dnskey: Box<[u8]>,
    pub(crate) tag: u16,
}

impl fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoneKey").field("tag", &self.tag).field("role", &self.role).finish_non_exhaustive()
    }
}

impl ZoneKey {
    /// The key of a private scalar or seed.
    pub fn new(algorithm: Algorithm, private: &[u8; 32], role: Role, life: Life) -> Result<Self, InvalidKey> {
        let (secret, public) = match algorithm {
            Algorithm::EcdsaP256 => {
                let key = p256::ecdsa::SigningKey::from_slice(private).map_err(|_| InvalidKey)?;
                let point = key.verifying_key().to_sec1_point(false);
                // RFC 6605 §4: both coordinates, without the byte that says so.
                let public = point.as_bytes().get(1..).unwrap_or_default().to_vec();
                (Secret::EcdsaP256(Box::new(key)), public)
            }
            Algorithm::Ed25519 => {
                let key = ed25519_dalek::SigningKey::from_bytes(private);
                let public = key.verifying_key().to_bytes().to_vec();
                (Secret::Ed25519(Box::new(key)), public)
            }
        };
        const PROTOCOL: u8 = 3;
        let mut dnskey = role.flags().to_be_bytes().to_vec();
        dnskey.extend([PROTOCOL, algorithm.number()]);
        dnskey.extend(public);
        Ok(Self { secret, role, life, tag: tag(&dnskey), dnskey: dnskey.into() })
    }

    /// The number by which signatures name it (RFC 4034 §5.1.1).
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.secret {
            Secret::EcdsaP256(_) => Algorithm::EcdsaP256,
            Secret::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The data of the DS that the parent publishes (RFC 4034 §5.1, SHA-256 by RFC 4509), or of our CDS (RFC 7344).
    pub(crate) fn ds(&self, apex: &Name) -> Vec<u8> {
        const SHA256: u8 = 2;
        let mut hasher = Sha256::new();
        hasher.update(apex.as_wire());
        hasher.update(&self.dnskey);
        let mut data = self.tag.to_be_bytes().to_vec();
        data.extend([self.algorithm().number(), SHA256]);
        data.extend(hasher.finalize());
        data
    }

    /// The DS record as a zone file of the parent has it.
    pub fn ds_record(&self, apex: &Name) -> String {
        let digest: String = self.ds(apex).iter().skip(4).map(|octet| format!("{octet:02X}")).collect();
        format!("{apex}. IN DS {} {} 2 {digest}", self.tag, self.algorithm().number())
    }

    pub(crate) fn sign(&self, data: &[u8]) -> [u8; 64] {
        match &self.secret {
            // By RFC 6979 without chance: the same data have the same signature.
            Secret::EcdsaP256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(data);
                signature.to_bytes().into()
            }
            Secret::Ed25519(key) => key.sign(data).to_bytes(),
        }
    }
}

/// RFC 4034, appendix B.
fn tag(dnskey: &[u8]) -> u16 {
    let sum: u32 = dnskey
        .iter()
        .enumerate()
        .map(|(at, octet)| if at % 2 == 0 { u32::from(*octet) << 8 } else { u32::from(*octet) })
        .sum();
    (sum.wrapping_add(sum >> 16) & 0xffff) as u16
}

/// All keys of a zone, whatever their state.
#[derive(Debug)]
pub struct KeyRing {
    pub(crate) keys: Vec<std::sync::Arc<ZoneKey>>,
}

/// Why keys sign no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// Nobody signs the set of keys.
    #[error("no CSK or KSK is active now")]
    NoKeySigner,
    /// Nobody signs anything else.
    #[error("no CSK or ZSK is active now")]
    NoRecordSigner,
}

/// The keys in use at one moment. Equal: the same keys in the same states.
#[derive(Clone, Debug)]
pub struct ActiveKeys {
    /// In the set of keys.
    pub(crate) published: Vec<std::sync::Arc<ZoneKey>>,
    pub(crate) key_signers: Vec<std::sync::Arc<ZoneKey>>,
    pub(crate) record_signers: Vec<std::sync::Arc<ZoneKey>>,
}

impl PartialEq for ActiveKeys {
    fn eq(&self, other: &Self) -> bool {
        let tags = |keys: &[std::sync::Arc<ZoneKey>]| keys.iter().map(|key| key.dnskey.clone()).collect::<Vec<_>>();
        tags(&self.published) == tags(&other.published)
            && tags(&self.key_signers) == tags(&other.key_signers)
            && tags(&self.record_signers) == tags(&other.record_signers)
    }
}

impl KeyRing {
    /// These keys.
    pub fn new(keys: Vec<ZoneKey>) -> Self {
        Self { keys: keys.into_iter().map(Into::into).collect() }
    }

    /// The keys in use at `now_s`.
    pub fn at(&self, now_s: u64) -> Result<ActiveKeys, KeyRingError> {
        let chosen = |is_chosen: &dyn Fn(&ZoneKey) -> bool| {
            self.keys.iter().filter(|key| is_chosen(key)).cloned().collect::<Vec<_>>()
        };
        let active = ActiveKeys {
            published: chosen(&|key| key.life.is_published(now_s)),
            key_signers: chosen(&|key| key.role.signs_keys() && key.life.is_active(now_s)),
            record_signers: chosen(&|key| key.role.signs_records() && key.life.is_active(now_s)),
        };
        if active.key_signers.is_empty() {
            return Err(KeyRingError::NoKeySigner);
        }
        if active.record_signers.is_empty() {
            return Err(KeyRingError::NoRecordSigner);
        }
        Ok(active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Life = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };

    fn unhex(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 6605 §6.1: its private key, DNSKEY's tag and DS.
    #[test]
    fn the_published_ecdsa_key() {
        // Base64 of the RFC: GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=
        let private = unhex("194e929d0fcebbec42e51ba6b88508b8966d7974f6cf43bfa24d6cdfc12dea64");
        let key = ZoneKey::new(Algorithm::EcdsaP256, &private.try_into().unwrap(), Role::Csk, ALWAYS).unwrap();
        assert_eq!(key.tag(), 55648);
        assert_eq!(
            key.ds_record(&Name::parse("example.net").unwrap()),
            "example.net. IN DS 55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17"
        );
    }

    /// RFC 8080 §6.1.
    #[test]
    fn the_published_ed25519_key() {
        // Base64 of the RFC: ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=
        let private = *b"82260384628080122645190204142262";
        let key = ZoneKey::new(Algorithm::Ed25519, &private, Role::Csk, ALWAYS).unwrap();
        assert_eq!(key.tag(), 3613);
        assert_eq!(
            key.ds_record(&Name::parse("example.com").unwrap()),
            "example.com. IN DS 3613 15 2 3AA5AB37EFCE57F737FC1627013FEE07BDF241BD10F3B1964AB55C78E79A304B"
        );
    }

    #[test]
    fn keys_live_by_their_times() {
        let key = |seed: u8, role, life| ZoneKey::new(Algorithm::Ed25519, &[seed; 32], role, life).unwrap();
        let old = Life { retire_s: Some(200), remove_s: Some(300), ..ALWAYS };
        let new = Life { publish_s: 100, activate_s: 200, ..ALWAYS };
        let ring = KeyRing::new(vec![key(1, Role::Ksk, ALWAYS), key(2, Role::Zsk, old), key(3, Role::Zsk, new)]);
        let check = |now_s: u64, published: usize, signer: u8| {
            let active = ring.at(now_s).unwrap();
            let signs = key(signer, Role::Zsk, ALWAYS).tag();
            let signers: Vec<u16> = active.record_signers.iter().map(|key| key.tag()).collect();
            assert_eq!((active.published.len(), signers), (published, vec![signs]), "at {now_s}");
            assert_eq!(active.key_signers.len(), 1);
        };
        check(99, 2, 2);
        check(100, 3, 2);
        check(199, 3, 2);
        check(200, 3, 3);
        check(300, 2, 3);
        assert_eq!(ring.at(50).unwrap(), ring.at(60).unwrap());
        assert_ne!(ring.at(50).unwrap(), ring.at(150).unwrap());
        let lonely = KeyRing::new(vec![key(1, Role::Ksk, ALWAYS)]);
        assert_eq!(lonely.at(5), Err(KeyRingError::NoRecordSigner));
        assert_eq!(KeyRing::new(vec![key(3, Role::Zsk, new)]).at(5), Err(KeyRingError::NoKeySigner));
    }
}
