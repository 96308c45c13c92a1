//! Record data on the wire, with names apart so that they can be compressed.

use std::net::IpAddr;

use perigee_protocol::rdata::RecordData;

use crate::{
    code::kind,
    name::{InvalidName, Name},
};

/// The data of one record: bytes, then names that may be compressed, then bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rdata {
    pub(crate) head: Box<[u8]>,
    pub(crate) names: Box<[Name]>,
    pub(crate) tail: Box<[u8]>,
}

impl Rdata {
    /// All of it, names uncompressed: the canonical form, as names are in lower case (RFC 4034 §6.2).
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let names = self.names.iter().flat_map(|name| name.as_wire());
        self.head.iter().chain(names).chain(&*self.tail).copied().collect()
    }

    pub(crate) fn bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { head: bytes.into(), names: Box::default(), tail: Box::default() }
    }

    /// A or AAAA.
    pub(crate) fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::bytes(address.octets()),
            IpAddr::V6(address) => Self::bytes(address.octets()),
        }
    }

    /// NS, CNAME or PTR.
    pub(crate) fn name(name: Name) -> Self {
        Self { head: Box::default(), names: Box::new([name]), tail: Box::default() }
    }

    /// SOA; `numbers` are serial, refresh, retry, expire and minimum (RFC 1035 §3.3.13).
    pub(crate) fn soa(primary: Name, contact: Name, numbers: [u32; 5]) -> Self {
        let tail: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        Self { head: Box::default(), names: Box::new([primary, contact]), tail: tail.into() }
    }

    /// The minimal answer to ANY (RFC 8482 §4.2): CPU `RFC8482`, no OS.
    pub(crate) fn minimal_any() -> Self {
        Self::bytes(*b"\x07RFC8482\x00")
    }

    /// A record of the document: its type and data. Fails on a name or a string that does not fit the wire.
    pub(crate) fn of(data: &RecordData) -> Result<(u16, Self), InvalidName> {
        Ok(match data {
            RecordData::A(address) => (kind::A, Self::address((*address).into())),
            RecordData::Aaaa(address) => (kind::AAAA, Self::address((*address).into())),
            RecordData::Cname(target) => (kind::CNAME, Self::name(host(target)?)),
            // RFC 6672 §2.5: the target is not compressed.
            RecordData::Dname(target) => (kind::DNAME, Self::bytes(host(target)?.as_wire())),
            RecordData::Ns(target) => (kind::NS, Self::name(host(target)?)),
            RecordData::Ptr(target) => (kind::PTR, Self::name(host(target)?)),
            RecordData::Mx { preference, exchange } => {
                let names = Box::new([host(exchange)?]);
                (kind::MX, Self { head: preference.to_be_bytes().into(), names, tail: Box::default() })
            }
            RecordData::Srv { priority, weight, port, target } => {
                let numbers = [priority, weight, port].map(|number| number.to_be_bytes()).concat();
                // RFC 2782: the target is not compressed.
                (kind::SRV, Self::bytes([&numbers, host(target)?.as_wire()].concat()))
            }
            RecordData::Caa { flags, tag, value } => {
                (kind::CAA, Self::bytes([&[*flags], character_string(tag.as_bytes())?.as_slice(), value].concat()))
            }
            RecordData::Other { number, data } => (*number, Self::bytes(data.clone())),
            RecordData::Txt(strings) => {
                let strings = strings.iter().map(|string| character_string(string)).collect::<Result<Vec<_>, _>>()?;
                (kind::TXT, Self::bytes(strings.concat()))
            }
        })
    }
}

/// A name of the document, whose root is the empty text.
fn host(text: &str) -> Result<Name, InvalidName> {
    Name::parse(if text.is_empty() { "." } else { text })
}

/// RFC 1035 §3.3: a length byte and that many bytes.
fn character_string(bytes: &[u8]) -> Result<Vec<u8>, InvalidName> {
    let length = u8::try_from(bytes.len()).map_err(|_| InvalidName)?;
    Ok([&[length], bytes].concat())
}

/// RFC 1035 §3.3: one string of TXT.
const STRING_BYTES_MAX: usize = 255;

pub(crate) fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `1 . alpn=h2 ipv4hint=... ipv6hint=...` (RFC 9460 §2.2); HTTP/1.1 goes without saying (§9).
pub(crate) fn service_data(hints: [&[IpAddr]; 2]) -> Vec<u8> {
    const ALPN: u16 = 1;
    const IPV4_HINT: u16 = 4;
    const IPV6_HINT: u16 = 6;
    let mut data = vec![0, 1, 0];
    let mut parameter = |key: u16, value: &[u8]| {
        data.extend(key.to_be_bytes());
        // At most a list of some addresses.
        data.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        data.extend(value);
    };
    parameter(ALPN, b"\x02h2");
    for (key, addresses) in [IPV4_HINT, IPV6_HINT].into_iter().zip(hints) {
        let octets: Vec<u8> = addresses.iter().flat_map(octets).collect();
        if !octets.is_empty() {
            parameter(key, &octets);
        }
    }
    data
}

/// The data of TXT: as many strings as it takes.
pub(crate) fn text(line: &str) -> Vec<u8> {
    let strings = line.as_bytes().chunks(STRING_BYTES_MAX);
    strings.flat_map(|string| [&[u8::try_from(string.len()).unwrap_or(0)], string].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mnemonic: &str, text: &str, kind: u16, expected: &[u8]) {
        let data = RecordData::parse(mnemonic, text, "b").unwrap();
        let (got_kind, rdata) = Rdata::of(&data).unwrap();
        let names: Vec<u8> = rdata.names.iter().flat_map(|name| name.as_wire().to_vec()).collect();
        assert_eq!(
            (got_kind, [&rdata.head[..], &names, &rdata.tail].concat()),
            (kind, expected.to_vec()),
            "{mnemonic} {text}"
        );
    }

    #[test]
    fn every_type() {
        check("A", "192.0.2.1", 1, &[192, 0, 2, 1]);
        check("AAAA", "::1", 28, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        check("CNAME", "A.c.", 5, b"\x01a\x01c\x00");
        check("NS", "a", 2, b"\x01a\x01b\x00");
        check("PTR", "@", 12, b"\x01b\x00");
        check("DNAME", "A.c.", 39, b"\x01a\x01c\x00");
        check("DNAME", ".", 39, b"\x00");
        check("MX", "10 mail", 15, b"\x00\x0a\x04mail\x01b\x00");
        check("MX", "0 .", 15, b"\x00\x00\x00");
        check("SRV", "1 2 443 a", 33, b"\x00\x01\x00\x02\x01\xbb\x01a\x01b\x00");
        check("CAA", "0 issue \"letsencrypt.org\"", 257, b"\x00\x05issueletsencrypt.org");
        check("TXT", "\"v=spf1 -all\" \"\"", 16, b"\x0bv=spf1 -all\x00");
    }
}
