//! The client of a question, as far as steering may know it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Choices that spread clients are the same for all of one such prefix, so that ECS scopes need not be longer.
const SPREAD_PREFIX_V4: u8 = 24;
/// As [`SPREAD_PREFIX_V4`].
const SPREAD_PREFIX_V6: u8 = 48;

/// The prefix that stands for a client: of EDNS Client Subnet, or the whole address of who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefix {
    address: IpAddr,
    /// Bits that an answer's scope has before the bits of `address`: 96 for an IPv4-mapped client, which is steered as
    /// IPv4, else 0.
    scope_offset: u8,
}

impl ClientPrefix {
    /// The client of an ECS option: bits past `source_prefix` do not count (RFC 7871 §6 wants them 0), nor do prefix
    /// lengths past the address's own.
    ///
    /// With a source prefix of 0 the client wants not to be known (RFC 7871 §7.1.2): steer by [`ClientPrefix::host`] of
    /// whoever asked then, and return scope 0.
    pub fn new(address: IpAddr, source_prefix: u8) -> Self {
        let masked = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask(source_prefix.min(32) + 96) as u32)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask(source_prefix.min(128)))),
        };
        // RFC 4291 §2.5.5.2; masked first, as fewer than 96 bits are not an IPv4-mapped prefix.
        let canonical = masked.to_canonical();
        Self { address: canonical, scope_offset: if canonical.is_ipv4() == address.is_ipv4() { 0 } else { 96 } }
    }

    /// A client by its whole address.
    pub fn host(address: IpAddr) -> Self {
        Self::new(address, 128)
    }

    /// The address that is looked up: IPv4-mapped ones are IPv4 here.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A scope of [`ClientPrefix::address`] in bits of the address as asked.
    pub(super) fn scope(&self, prefix_len: u8) -> u8 {
        self.scope_offset + prefix_len
    }

    /// How many leading bits [`ClientPrefix::share`] depends on.
    pub(super) fn spread_prefix(&self) -> u8 {
        if self.address.is_ipv4() { SPREAD_PREFIX_V4 } else { SPREAD_PREFIX_V6 }
    }

    /// A number evenly spread over all clients and `tag`s, the same for all of one /24 or /48.
    pub(super) fn share(&self, tag: u64) -> u64 {
        let prefix = match self.address {
            IpAddr::V4(v4) => u64::from(v4.to_bits() >> (32 - SPREAD_PREFIX_V4)),
            // The high half holds the /48; the constant parts the families.
            IpAddr::V6(v6) => ((v6.to_bits() >> (128 - SPREAD_PREFIX_V6)) as u64) ^ 0xA5A5_0000_0000_0000,
        };
        mix(mix(prefix) ^ tag)
    }
}

fn mask(prefix_len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0)
}

/// A bijection of 64 bits in which every bit of the input moves about half of the output's (the finaliser of SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_maps() {
        let check = |address: &str, len: u8, expected: &str, scope_of_8: u8| {
            let client = ClientPrefix::new(address.parse().unwrap(), len);
            assert_eq!(
                (client.address().to_string().as_str(), client.scope(8)),
                (expected, scope_of_8),
                "{address}/{len}"
            );
        };
        check("192.0.2.77", 32, "192.0.2.77", 8);
        check("192.0.2.77", 24, "192.0.2.0", 8);
        check("192.0.2.77", 0, "0.0.0.0", 8);
        check("192.0.2.77", 255, "192.0.2.77", 8);
        check("2001:db8:1:2::3", 56, "2001:db8:1::", 8);
        check("2001:db8:1:2::3", 0, "::", 8);
        check("::ffff:192.0.2.77", 120, "192.0.2.0", 104);
        check("::ffff:192.0.2.77", 128, "192.0.2.77", 104);
        check("::ffff:192.0.2.77", 64, "::", 8);
    }

    #[test]
    fn a_share_is_that_of_the_prefix() {
        let share = |address: &str| ClientPrefix::host(address.parse().unwrap()).share(1);
        assert_eq!(share("192.0.2.1"), share("192.0.2.255"));
        assert_ne!(share("192.0.2.1"), share("192.0.3.1"));
        assert_eq!(share("2001:db8:1::1"), share("2001:db8:1:ffff::"));
        assert_ne!(share("2001:db8:1::1"), share("2001:db8:2::1"));
    }
}
