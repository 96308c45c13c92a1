//! One message of dnstap in protobuf (dnstap.proto). The few fields that an authoritative server fills are written by hand.

use std::net::{IpAddr, SocketAddr};

use perigee_dns::Transport;

/// A message of DNS, and what is told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) transport: Transport,
    /// Who asked.
    pub(super) peer: SocketAddr,
    /// Where it was asked, where that is known.
    pub(super) local: Option<SocketAddr>,
    /// When the question came, since the Unix epoch.
    pub(super) asked_ns: u64,
    pub(super) bytes: &'a [u8],
}

/// `Message.Type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// AUTH_QUERY
    Query,
    /// AUTH_RESPONSE
    Response {
        /// Since the Unix epoch.
        answered_ns: u64,
    },
}

// Protobuf's keys: the field's number times eight, and how its value is written (0: varint, 2: with its length, 5: four bytes).
const IDENTITY: u8 = 1 << 3 | 2;
const VERSION: u8 = 2 << 3 | 2;
const MESSAGE: u8 = 14 << 3 | 2;
/// Of `Dnstap`, whose only value is MESSAGE.
const DNSTAP_TYPE: [u8; 2] = [15 << 3, 1];
const TYPE: u8 = 1 << 3;
const SOCKET_FAMILY: u8 = 2 << 3;
const SOCKET_PROTOCOL: u8 = 3 << 3;
const QUERY_ADDRESS: u8 = 4 << 3 | 2;
const RESPONSE_ADDRESS: u8 = 5 << 3 | 2;
const QUERY_PORT: u8 = 6 << 3;
const RESPONSE_PORT: u8 = 7 << 3;
const QUERY_TIME_SEC: u8 = 8 << 3;
const QUERY_TIME_NSEC: u8 = 9 << 3 | 5;
const QUERY_MESSAGE: u8 = 10 << 3 | 2;
const RESPONSE_TIME_SEC: u8 = 12 << 3;
const RESPONSE_TIME_NSEC: u8 = 13 << 3 | 5;
const RESPONSE_MESSAGE: u8 = 14 << 3 | 2;

const NANOSECONDS: u64 = 1_000_000_000;

/// What every message of one nameserver begins with.
pub(super) fn prefix(identity: &str, version: &str) -> Vec<u8> {
    let mut prefix = Vec::new();
    field(IDENTITY, identity.as_bytes(), &mut prefix);
    field(VERSION, version.as_bytes(), &mut prefix);
    prefix.extend(DNSTAP_TYPE);
    prefix
}

/// Appends the message as a data frame: its length (4 bytes) and itself. `scratch` is for what has to be measured first.
pub(super) fn frame(prefix: &[u8], message: &Message<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    head(message, scratch);
    let length = scratch.len() + message.bytes.len();
    let whole = prefix.len() + 1 + varint_length(length as u64) + length;
    // Of the order of 64 KiB: a message of DNS with some hundred bytes before it.
    out.extend(u32::try_from(whole).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(prefix);
    out.push(MESSAGE);
    varint(length as u64, out);
    out.extend_from_slice(scratch);
    out.extend_from_slice(message.bytes);
}

/// Everything of a `Message` but the bytes of DNS, which come last.
fn head(message: &Message<'_>, out: &mut Vec<u8>) {
    let (kind, answered_ns, bytes) = match message.kind {
        Kind::Query => (1, None, QUERY_MESSAGE),
        Kind::Response { answered_ns } => (2, Some(answered_ns), RESPONSE_MESSAGE),
    };
    let peer = message.peer.ip().to_canonical();
    let family = if peer.is_ipv4() { 1 } else { 2 };
    out.extend([TYPE, kind, SOCKET_FAMILY, family, SOCKET_PROTOCOL, protocol(message.transport)]);
    address(QUERY_ADDRESS, peer, out);
    // An address of all is nowhere that anybody asked.
    let local = message.local.filter(|local| !local.ip().is_unspecified());
    if let Some(local) = local {
        address(RESPONSE_ADDRESS, local.ip().to_canonical(), out);
    }
    out.push(QUERY_PORT);
    varint(message.peer.port().into(), out);
    if let Some(local) = message.local {
        out.push(RESPONSE_PORT);
        varint(local.port().into(), out);
    }
    time(QUERY_TIME_SEC, QUERY_TIME_NSEC, message.asked_ns, out);
    if let Some(answered_ns) = answered_ns {
        time(RESPONSE_TIME_SEC, RESPONSE_TIME_NSEC, answered_ns, out);
    }
    out.push(bytes);
    varint(message.bytes.len() as u64, out);
}

/// `SocketProtocol`
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Https => 4,
        Transport::Quic => 7,
    }
}

fn address(key: u8, address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => field(key, &address.octets(), out),
        IpAddr::V6(address) => field(key, &address.octets(), out),
    }
}

fn time(seconds_key: u8, nanoseconds_key: u8, ns: u64, out: &mut Vec<u8>) {
    out.push(seconds_key);
    varint(ns / NANOSECONDS, out);
    out.push(nanoseconds_key);
    // Below a thousand million, and so within 32 bits.
    out.extend(u32::try_from(ns % NANOSECONDS).unwrap_or_default().to_le_bytes());
}

fn field(key: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(key);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Seven bits a byte, the least first; the highest bit says that more follow.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_as_long_as_it_says() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(value, &mut out);
            assert_eq!(out.len(), varint_length(value), "{value}");
            let back = out.iter().rev().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
            assert_eq!(back, value);
        }
    }

    fn framed(kind: Kind, transport: Transport, peer: &str, local: Option<&str>, bytes: &[u8]) -> Vec<u8> {
        let message = Message {
            kind,
            transport,
            peer: peer.parse().unwrap(),
            local: local.map(|local| local.parse().unwrap()),
            asked_ns: 1_700_000_000_000_000_001,
            bytes,
        };
        let mut out = Vec::new();
        frame(&prefix("n", "v"), &message, &mut vec![9], &mut out);
        let (length, rest) = out.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
        rest.to_vec()
    }

    #[test]
    fn fields() {
        // 1,700,000,000 in sevens, the least first.
        let seconds = b"\x80\xe2\xcf\xaa\x06";
        let query = framed(Kind::Query, Transport::Udp, "192.0.2.1:300", Some("198.51.100.2:53"), b"hi");
        let mut expected = b"\x0a\x01n\x12\x01v\x78\x01\x72\x26\x08\x01\x10\x01\x18\x01".to_vec();
        expected.extend(b"\x22\x04\xc0\x00\x02\x01\x2a\x04\xc6\x33\x64\x02\x30\xac\x02\x38\x35\x40");
        expected.extend(seconds);
        expected.extend(b"\x4d\x01\0\0\0\x52\x02hi");
        assert_eq!(query, expected);
        let kind = Kind::Response { answered_ns: 1_700_000_000_000_000_258 };
        // A socket of both families tells addresses of the older one in the newer's form.
        let reply = framed(kind, Transport::Quic, "[::ffff:192.0.2.1]:1", Some("[::]:853"), b"ho");
        let mut expected =
            b"\x0a\x01n\x12\x01v\x78\x01\x72\x2b\x08\x02\x10\x01\x18\x07\x22\x04\xc0\x00\x02\x01".to_vec();
        expected.extend(b"\x30\x01\x38\xd5\x06\x40");
        expected.extend(seconds);
        expected.extend(b"\x4d\x01\0\0\0\x60");
        expected.extend(seconds);
        expected.extend(b"\x6d\x02\x01\0\0\x72\x02ho");
        assert_eq!(reply, expected);
        let six = framed(Kind::Query, Transport::Tls, "[2001:db8::1]:1", None, &[7; 65_535]);
        assert!(six.starts_with(b"\x0a\x01n\x12\x01v\x78\x01\x72") && six.ends_with(&[7; 65_535]));
    }
}
