//! Proof of the fleet's secret: an HMAC-SHA256 over what a tier asks, so that internal headers are believed only from
//! peers, and an overheard proof is good for nothing but the same request within the window.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How far the clocks of two nodes may differ for a proof to hold, in milliseconds.
pub const PROOF_WINDOW_MS: u64 = 60_000;

/// The shortest secret that a fleet may have, in bytes.
pub const SECRET_BYTES_MIN: usize = 16;

/// The fleet's secret. Never printed.
#[derive(Clone)]
pub struct FleetSecret(Hmac<Sha256>);

impl std::fmt::Debug for FleetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FleetSecret(..)")
    }
}

/// Why bytes are no secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fleet's secret must hold at least {SECRET_BYTES_MIN} bytes")]
pub struct SecretTooShort;

impl FleetSecret {
    /// Takes the bytes of a secret file; white space around them does not count.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretTooShort> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort);
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| SecretTooShort)
    }

    /// A secret of its own for another purpose, named by `label`: nobody learns one from another.
    pub fn derive(&self, label: &str) -> [u8; 16] {
        let [half @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.mac(&[b"derive", label.as_bytes()]);
        half
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The proof of a request: `v1;<unix milliseconds>;<hex>`. `target` is the path and query as sent; `claims` are the
    /// values of the internal headers that go along, in an order both sides share.
    pub fn prove_request(&self, now_ms: u64, method: &str, target: &str, claims: &[&str]) -> String {
        let tag = self.request_mac(now_ms, method, target, claims);
        format!("v1;{now_ms};{}", hex(&tag))
    }

    /// Whether `proof` is one of a peer, made for this request within [`PROOF_WINDOW_MS`] of `now_ms`.
    pub fn verify_request(&self, proof: &str, now_ms: u64, method: &str, target: &str, claims: &[&str]) -> bool {
        let mut fields = proof.split(';');
        let (Some("v1"), Some(at), Some(tag), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let Ok(at) = at.parse::<u64>() else { return false };
        at.abs_diff(now_ms) <= PROOF_WINDOW_MS
            && equal(hex(&self.request_mac(at, method, target, claims)).as_bytes(), tag.as_bytes())
    }

    /// The proof of a response: it answers `request_proof` and vouches for `claims`.
    pub fn prove_response(&self, request_proof: &str, claims: &[&str]) -> String {
        format!("v1;{}", hex(&self.response_mac(request_proof, claims)))
    }

    /// Whether `proof` is a peer's answer to the request that carried `request_proof`.
    pub fn verify_response(&self, proof: &str, request_proof: &str, claims: &[&str]) -> bool {
        proof
            .strip_prefix("v1;")
            .is_some_and(|tag| equal(hex(&self.response_mac(request_proof, claims)).as_bytes(), tag.as_bytes()))
    }

    fn request_mac(&self, at_ms: u64, method: &str, target: &str, claims: &[&str]) -> [u8; 32] {
        let at = at_ms.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![b"request", &at, method.as_bytes(), target.as_bytes()];
        parts.extend(claims.iter().map(|claim| claim.as_bytes()));
        self.mac(&parts)
    }

    fn response_mac(&self, request_proof: &str, claims: &[&str]) -> [u8; 32] {
        let mut parts: Vec<&[u8]> = vec![b"response", request_proof.as_bytes()];
        parts.extend(claims.iter().map(|claim| claim.as_bytes()));
        self.mac(&parts)
    }
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> FleetSecret {
        FleetSecret::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_proof_holds_for_its_request_only() {
        let ours = secret("sixteen bytes ok");
        let proof = ours.prove_request(1_000_000, "GET", "/a?b", &["www", ""]);
        assert!(ours.verify_request(&proof, 1_000_000 + PROOF_WINDOW_MS, "GET", "/a?b", &["www", ""]));
        assert!(!ours.verify_request(&proof, 1_000_001 + PROOF_WINDOW_MS, "GET", "/a?b", &["www", ""]));
        assert!(!ours.verify_request(&proof, 1_000_000, "HEAD", "/a?b", &["www", ""]));
        assert!(!ours.verify_request(&proof, 1_000_000, "GET", "/a", &["www", ""]));
        assert!(!ours.verify_request(&proof, 1_000_000, "GET", "/a?b", &["ww", "w"]));
        assert!(!secret("sixteen bytes no").verify_request(&proof, 1_000_000, "GET", "/a?b", &["www", ""]));
        for junk in ["", "v1", "v1;;", "v1;x;y", "v2;1;2", "v1;1000000;00;", "v1;99999999999999999999;00"] {
            assert!(!ours.verify_request(junk, 1_000_000, "GET", "/a?b", &["www", ""]), "{junk}");
        }
    }

    #[test]
    fn a_response_answers_one_request() {
        let ours = secret("sixteen bytes ok");
        let proof = ours.prove_response("v1;1;aa", &["12"]);
        assert!(ours.verify_response(&proof, "v1;1;aa", &["12"]));
        assert!(!ours.verify_response(&proof, "v1;1;ab", &["12"]));
        assert!(!ours.verify_response(&proof, "v1;1;aa", &["13"]));
    }

    #[test]
    fn both_sides_of_the_shortest_secret() {
        assert!(FleetSecret::new(&[b'x'; SECRET_BYTES_MIN]).is_ok());
        assert_eq!(FleetSecret::new(b"  fifteen bytes..\n").err(), Some(SecretTooShort));
    }
}
