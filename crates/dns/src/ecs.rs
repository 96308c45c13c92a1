//! EDNS Client Subnet (RFC 7871): what a resolver tells of its client, and what we tell it of our answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An ECS option of a query that passed every rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientSubnet {
    /// As sent: 0 (only together with /0), 1 or 2.
    family: u16,
    /// The network's address; its bits beyond `source` are zero.
    address: IpAddr,
    /// SOURCE PREFIX-LENGTH.
    source: u8,
}

const FAMILY_NONE: u16 = 0;
const FAMILY_IPV4: u16 = 1;
const FAMILY_IPV6: u16 = 2;

impl ClientSubnet {
    /// Reads the option's data. None: FORMERR.
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let ([a, b, source, scope], bits) = data.split_first_chunk::<4>()?;
        let family = u16::from_be_bytes([*a, *b]);
        let mut octets = [0; 16];
        // §6: SCOPE PREFIX-LENGTH MUST be 0 in queries; the address has as many octets as the prefix needs, no more.
        if *scope != 0 || bits.len() != usize::from(source.div_ceil(8)) {
            return None;
        }
        octets.get_mut(..bits.len())?.copy_from_slice(bits);
        let v6 = u128::from_be_bytes(octets);
        // §6: the bits of the last octet beyond the prefix must be zero.
        if v6.checked_shl(u32::from(*source)).unwrap_or(0) != 0 {
            return None;
        }
        let [o1, o2, o3, o4, ..] = octets;
        let address = match (family, *source) {
            // What `dig +subnet=0` sends: no family and nothing of it.
            (FAMILY_NONE, 0) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (FAMILY_IPV4, 0..=32) => IpAddr::V4(Ipv4Addr::new(o1, o2, o3, o4)),
            (FAMILY_IPV6, 0..=128) => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return None,
        };
        Some(Self { family, address, source: *source })
    }

    /// The client's network, unless it does not want to be told of (§7.1.2: /0).
    pub(crate) fn network(&self) -> Option<(IpAddr, u8)> {
        (self.source > 0).then_some((self.address, self.source))
    }

    /// How long [`Self::write`] will be.
    pub(crate) fn len(&self) -> usize {
        4 + usize::from(self.source.div_ceil(8))
    }

    /// The data of the answer's option: family, prefix and address as asked (§7.2.1), and the answer's scope. An opted
    /// out client's is 0.
    pub(crate) fn write(&self, scope: u8, out: &mut Vec<u8>) {
        let scope = if self.source == 0 { 0 } else { scope };
        out.extend(self.family.to_be_bytes());
        out.extend([self.source, scope]);
        let octets = usize::from(self.source.div_ceil(8));
        match self.address {
            IpAddr::V4(address) => out.extend(address.octets().iter().take(octets)),
            IpAddr::V6(address) => out.extend(address.octets().iter().take(octets)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &[u8], expected: Option<&str>) {
        let said = ClientSubnet::read(data).map(|subnet| match subnet.network() {
            Some((address, source)) => format!("{address}/{source}"),
            None => "opt-out".to_owned(),
        });
        assert_eq!(said.as_deref(), expected, "{data:?}");
        if let Some(subnet) = ClientSubnet::read(data) {
            let mut out = Vec::new();
            subnet.write(0, &mut out);
            assert_eq!((out.as_slice(), subnet.len()), (data, data.len()), "{data:?}");
        }
    }

    #[test]
    fn options() {
        check(&[0, 1, 24, 0, 192, 0, 2], Some("192.0.2.0/24"));
        check(&[0, 1, 32, 0, 192, 0, 2, 1], Some("192.0.2.1/32"));
        check(&[0, 1, 0, 0], Some("opt-out"));
        check(&[0, 2, 0, 0], Some("opt-out"));
        check(&[0, 0, 0, 0], Some("opt-out"));
        check(&[0, 1, 1, 0, 128], Some("128.0.0.0/1"));
        check(&[0, 1, 1, 0, 0], Some("0.0.0.0/1"));
        check(&[0, 2, 48, 0, 0x20, 1, 0xd, 0xb8, 0, 5], Some("2001:db8:5::/48"));
        check(&[0, 2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], Some("::1/128"));
    }

    #[test]
    fn broken_options() {
        for (data, why) in [
            (&[][..], "empty"),
            (&[0, 1, 24], "short"),
            (&[0, 1, 24, 0, 192, 0], "too few octets"),
            (&[0, 1, 24, 0, 192, 0, 2, 0], "too many octets"),
            (&[0, 1, 0, 0, 0], "an octet for /0"),
            (&[0, 1, 24, 1, 192, 0, 2], "a scope"),
            (&[0, 1, 33, 0, 192, 0, 2, 1, 0], "an IPv4 prefix of 33"),
            (&[0, 2, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "an IPv6 prefix of 129"),
            (&[0, 1, 23, 0, 192, 0, 3], "a bit beyond the prefix"),
            (&[0, 1, 1, 0, 64], "a bit beyond the prefix"),
            (&[0, 0, 8, 0, 10], "no family, but an address"),
            (&[0, 3, 8, 0, 10], "an unknown family"),
            (&[1, 1, 8, 0, 10], "an unknown family"),
        ] {
            assert_eq!(ClientSubnet::read(data), None, "{why}");
        }
    }

    #[test]
    fn scopes() {
        let check = |data: &[u8], scope: u8, expected: u8| {
            let mut out = Vec::new();
            ClientSubnet::read(data).unwrap().write(scope, &mut out);
            assert_eq!(out.get(3), Some(&expected), "{data:?}");
        };
        check(&[0, 1, 24, 0, 192, 0, 2], 16, 16);
        check(&[0, 1, 24, 0, 192, 0, 2], 28, 28);
        check(&[0, 1, 0, 0], 16, 0);
    }
}
