//! Record data from and to the octets of the wire, names uncompressed.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{PLAIN, RecordData, STRING_BYTES_MAX, text::octets};

/// The longest name on the wire (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// The octets of an absolute name in the form of [`RecordData`].
pub(crate) fn name_wire(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    for label in labels(name)? {
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend(label);
    }
    wire.push(0);
    (wire.len() <= NAME_BYTES_MAX).then_some(wire)
}

/// The labels of a name in presentation form without its final dot, escapes undone, in lower case; none for the empty text.
pub(crate) fn labels(name: &str) -> Option<Vec<Vec<u8>>> {
    if name.is_empty() {
        return Some(Vec::new());
    }
    let (mut labels, mut start, mut is_escaped) = (Vec::new(), 0, false);
    let mut ends = Vec::new();
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'.' => ends.push(at),
            b'"' => return None,
            _ => {}
        }
    }
    ends.push(name.len());
    for end in ends {
        let label = octets(name.get(start..end)?)?.to_ascii_lowercase();
        if !(1..=LABEL_BYTES_MAX).contains(&label.len()) {
            return None;
        }
        labels.push(label);
        start = end + 1;
    }
    Some(labels)
}

/// The presentation form of labels, without a final dot: what would mean something else in a zone file is escaped.
pub(crate) fn name_text<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut text = String::new();
    for label in labels {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte {
                b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => text.extend(['\\', char::from(*byte)]),
                0x21..=0x7e => text.push(char::from(*byte)),
                other => text.push_str(&format!("\\{other:03}")),
            }
        }
    }
    text
}

/// RFC 1035 §3.3: a length and as many octets.
pub(super) fn string_wire(octets: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(octets.len()).ok()?;
    Some([&[length], octets].concat())
}

impl RecordData {
    /// Data of any type that records may have, from its octets (RFC 3597 §5: known types may be written so, too).
    pub(crate) fn from_wire(number: u16, data: &[u8]) -> Option<Self> {
        let mut rest = data;
        let parsed = match PLAIN.iter().find(|(_, plain)| *plain == number).map(|(name, _)| *name) {
            None => return Some(Self::Other { number, data: data.to_vec() }),
            Some("A") => Self::A(Ipv4Addr::from(take::<4>(&mut rest)?)),
            Some("AAAA") => Self::Aaaa(Ipv6Addr::from(take::<16>(&mut rest)?)),
            Some("NS") => Self::Ns(take_name(&mut rest)?),
            Some("CNAME") => Self::Cname(take_name(&mut rest)?),
            Some("DNAME") => Self::Dname(take_name(&mut rest)?),
            Some("PTR") => Self::Ptr(take_name(&mut rest)?),
            Some("MX") => Self::Mx { preference: take_number(&mut rest)?, exchange: take_name(&mut rest)? },
            Some("SRV") => Self::Srv {
                priority: take_number(&mut rest)?,
                weight: take_number(&mut rest)?,
                port: take_number(&mut rest)?,
                target: take_name(&mut rest)?,
            },
            Some("CAA") => {
                let [flags] = take(&mut rest)?;
                let tag = String::from_utf8(take_string(&mut rest)?).ok()?;
                let is_tag = (1..=15).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
                let value = std::mem::take(&mut rest).to_vec();
                is_tag.then(|| Self::Caa { flags, tag: tag.to_ascii_lowercase(), value })?
            }
            Some(_) => {
                let mut strings = vec![take_string(&mut rest)?];
                while !rest.is_empty() {
                    strings.push(take_string(&mut rest)?);
                }
                Self::Txt(strings)
            }
        };
        rest.is_empty().then_some(parsed)
    }

    /// How many octets the data has on the wire, names uncompressed.
    pub(crate) fn wire_bytes(&self) -> usize {
        let name = |name: &str| name_wire(name).map_or(NAME_BYTES_MAX, |wire| wire.len());
        match self {
            Self::A(_) => 4,
            Self::Aaaa(_) => 16,
            Self::Caa { tag, value, .. } => 2 + tag.len() + value.len(),
            Self::Cname(target) | Self::Dname(target) | Self::Ns(target) | Self::Ptr(target) => name(target),
            Self::Mx { exchange, .. } => 2 + name(exchange),
            Self::Srv { target, .. } => 6 + name(target),
            Self::Txt(strings) => strings.iter().map(|string| 1 + string.len()).sum(),
            Self::Other { data, .. } => data.len(),
        }
    }

    /// The type's number.
    pub fn number(&self) -> u16 {
        match self {
            Self::Other { number, .. } => *number,
            _ => PLAIN.iter().find(|(name, _)| *name == self.kind()).map_or(0, |(_, number)| *number),
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

fn take_number(rest: &mut &[u8]) -> Option<u16> {
    take(rest).map(u16::from_be_bytes)
}

fn take_string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let [length] = take(rest)?;
    debug_assert!(usize::from(length) <= STRING_BYTES_MAX);
    let (string, after) = rest.split_at_checked(length.into())?;
    *rest = after;
    Some(string.to_vec())
}

fn take_name(rest: &mut &[u8]) -> Option<String> {
    let (mut labels, mut bytes) = (Vec::new(), 1);
    loop {
        let [length] = take(rest)?;
        let (label, after) = rest.split_at_checked(length.into())?;
        *rest = after;
        bytes += 1 + label.len();
        match usize::from(length) {
            0 => return Some(name_text(labels.iter().map(Vec::as_slice))),
            1..=LABEL_BYTES_MAX if bytes <= NAME_BYTES_MAX => labels.push(label.to_ascii_lowercase()),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, expected: Option<&[u8]>| assert_eq!(name_wire(text).as_deref(), expected, "{text}");
        check("", Some(b"\0"));
        check("A.b", Some(b"\x01a\x01b\0"));
        check(r"a\.b.c", Some(b"\x03a.b\x01c\0"));
        check(r"\000\255.c", Some(b"\x02\x00\xff\x01c\0"));
        for bad in [".", "a..b", "a.", r"\256", r"a\", "a\"b"] {
            check(bad, None);
        }
        check(&"a".repeat(63), Some(&[b"\x3f", "a".repeat(63).as_bytes(), b"\0"].concat()));
        check(&"a".repeat(64), None);
        let longest = "a.".repeat(126) + "a";
        assert_eq!(name_wire(&longest).map(|wire| wire.len()), Some(255));
        check(&format!("a{longest}"), None);
    }

    #[test]
    fn known_types_from_octets() {
        let check = |number: u16, data: &[u8], expected: Option<&str>| {
            let parsed = RecordData::from_wire(number, data);
            assert_eq!(parsed.as_ref().map(ToString::to_string).as_deref(), expected, "{number} {data:?}");
            if let Some(parsed) = parsed {
                assert_eq!((parsed.number(), parsed.wire_bytes()), (number, data.len()));
            }
        };
        check(1, &[192, 0, 2, 1], Some("192.0.2.1"));
        check(1, &[192, 0, 2], None);
        check(1, &[192, 0, 2, 1, 0], None);
        check(28, &[0; 16], Some("::"));
        check(2, b"\x01a\x00", Some("a."));
        check(5, b"\xc0\x0c", None);
        check(12, b"\x02a.\x00", Some(r"a\.."));
        check(15, b"\x00\x0a\x00", Some("10 ."));
        check(33, b"\x00\x01\x00\x02\x00\x03\x01a\x00", Some("1 2 3 a."));
        check(16, b"\x01a\x00", Some("\"a\" \"\""));
        check(16, b"", None);
        check(16, b"\x02a", None);
        check(257, b"\x00\x05issueca", Some("0 issue \"ca\""));
        check(257, b"\x00\x00ca", None);
        check(65_280, b"\x01", Some("\\# 1 01"));
    }
}
