//! For tests only: scripted origins and clients, free ports, clocks, processes under test, MMDB fixtures.
//!
//! [`ScriptedOrigin`] answers what a test says, byte for byte if need be; [`client`] asks and keeps what came back;
//! [`ProcessUnderTest`] runs a built binary; [`TestClock`] is time that stands still. All waits are for states, with one
//! generous bound ([`PATIENCE`]) that fails the test and decides nothing else. Errors are panics: a test wants no other.
//!
//! Deliberately absent: anything of the tiers themselves (the kit is below them), geo databases (`perigee-geo` builds
//! them), HTTP/2.

pub mod certificates;
pub mod client;
mod clock;
mod origin;
mod ports;
mod process;
mod reply;
mod skip;
mod wire;

use std::{future::Future, time::Duration};

pub use clock::TestClock;
pub use origin::ScriptedOrigin;
pub use ports::{free_port, free_ports};
pub use process::ProcessUnderTest;
pub use reply::{Gate, Reply};
pub use skip::{has_ipv6, skip};
pub use wire::Seen;

/// How long any wait of the kit may take before the test fails. Long, because machines are busy: nothing depends on it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The SHA-256 of `bytes` in lower-case hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes.as_ref()))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `length` bytes that compress badly and differ by `seed`: any piece out of place changes the hash.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64: fixed for all time, so that fixtures stay equal across versions of any crate.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Waits until `state` holds, looking again every few milliseconds; fails the test after [`PATIENCE`], saying `what`.
pub async fn wait_until(what: &str, mut state: impl FnMut() -> bool) {
    patiently(what, async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Waits for `future`; fails the test after [`PATIENCE`], saying `what`.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fixtures_are_stable() {
        assert_eq!(super::sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(super::noise(1, 5), super::noise(1, 9)[..5]);
        assert_ne!(super::noise(1, 9), super::noise(2, 9));
    }
}
