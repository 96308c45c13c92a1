//! Domain names: wire form, lower case, so that equal names are equal bytes (RFC 4343).

use std::{borrow::Borrow, fmt};

/// The longest name on the wire, its root label included (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// The longest label (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// A name of one-byte labels: 127 of them and the root.
pub(crate) const LABELS_MAX: usize = 127;

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no domain name: labels have 1 to {LABEL_BYTES_MAX} bytes, all of it at most {NAME_BYTES_MAX} on the wire")]
pub struct InvalidName;

/// An absolute name in uncompressed wire form, in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The name of a text such as `www.cdn.example`; a trailing dot may be there, `.` is the root, `\` before a
    /// character takes it literally, and `\` before three digits makes an octet of them (RFC 1035 §5.1).
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text == "." {
            return Self::from_labels([]);
        }
        let mut labels = vec![Vec::new()];
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            match (byte, labels.last_mut()) {
                (b'.', _) if bytes.peek().is_none() => break,
                (b'.', _) => labels.push(Vec::new()),
                (b'\\', Some(label)) => label.push(escaped(&mut bytes).ok_or(InvalidName)?),
                (byte, Some(label)) => label.push(byte),
                (_, None) => return Err(InvalidName),
            }
        }
        Self::from_labels(labels.iter().map(Vec::as_slice))
    }

    /// The name of these labels, the root not among them.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, InvalidName> {
        let mut wire = Vec::new();
        for label in labels {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
            wire.push(length.ok_or(InvalidName)?);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        if wire.len() > NAME_BYTES_MAX { Err(InvalidName) } else { Ok(Self(wire.into())) }
    }

    /// Whether it is `above`, a name in the same form, or has it as its end.
    pub(crate) fn is_at_or_below(&self, above: &[u8]) -> bool {
        let mut rest = self.as_wire();
        while let Some((length, after)) = rest.split_first() {
            if rest == above {
                return true;
            }
            rest = after.get(usize::from(*length)..).unwrap_or_default();
        }
        false
    }

    /// The bytes on the wire.
    pub(crate) fn as_wire(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_wire(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_wire(&self.0, f)
    }
}

/// Writes a name as people do, without the trailing dot; `.` is the root (RFC 1035 §5.1 for what needs escapes).
fn fmt_wire(wire: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if wire.first() == Some(&0) {
        return f.write_str(".");
    }
    for (index, label) in labels(wire).enumerate() {
        if index > 0 {
            f.write_str(".")?;
        }
        for byte in label {
            match byte {
                b'.' | b'\\' | b'"' => write!(f, "\\{}", char::from(*byte))?,
                0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
    }
    Ok(())
}

/// What follows a `\`.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    match bytes.next()? {
        first @ b'0'..=b'9' => {
            let digits = [first, bytes.next()?, bytes.next()?];
            std::str::from_utf8(&digits).ok()?.parse().ok()
        }
        other => Some(other),
    }
}

/// The labels of an uncompressed name, the root not among them.
pub(crate) fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first().filter(|(length, _)| **length > 0)?;
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        Some(label)
    })
}

/// The name asked for: in lower case, with its labels found, on the stack.
#[derive(Clone)]
pub(crate) struct QueryName {
    bytes: [u8; NAME_BYTES_MAX],
    len: usize,
    /// Where each label begins; the root is not counted.
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl QueryName {
    /// The root.
    pub(crate) fn new() -> Self {
        Self { bytes: [0; NAME_BYTES_MAX], len: 1, starts: [0; LABELS_MAX], count: 0 }
    }

    /// Becomes the uncompressed name at the start of `bytes`; says how many it took. None, and no name of any use: not
    /// well-formed, cut short, too long, or compressed, which the first name of a message cannot be.
    ///
    /// In place, since a name is not small and every message has one.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        self.count = 0;
        loop {
            let length = usize::from(*bytes.get(at)?);
            if length > LABEL_BYTES_MAX {
                return None;
            }
            let end = at + 1 + length;
            if length == 0 {
                let to = self.bytes.get_mut(..end)?;
                to.copy_from_slice(bytes.get(..end)?);
                // Lengths are below `A`, so that they stay as they are.
                to.make_ascii_lowercase();
                self.len = end;
                return Some(end);
            }
            *self.starts.get_mut(self.count)? = u8::try_from(at).ok()?;
            self.count += 1;
            at = end;
        }
    }

    /// The same from a whole name that we hold.
    pub(crate) fn of(name: &Name) -> Option<Self> {
        let mut of = Self::new();
        of.read(&name.0).map(|_| of)
    }

    /// The name with `target` in place of all but its first `kept` labels (RFC 6672 §2.2). None: it would be too long.
    pub(crate) fn redirected(&self, kept: usize, target: &[u8]) -> Option<Self> {
        let kept_bytes = self.len.checked_sub(self.suffix(kept).len())?;
        let mut redirected = Self::new();
        let bytes = [self.bytes.get(..kept_bytes)?, target].concat();
        redirected.read(&bytes).map(|_| redirected)
    }

    /// How many labels there are, the root not counted.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The name without its first `skipped` labels.
    pub(crate) fn suffix(&self, skipped: usize) -> &[u8] {
        let start = self.starts.get(..self.count).and_then(|starts| starts.get(skipped));
        let start = start.map_or(self.len.saturating_sub(1), |start| usize::from(*start));
        self.bytes.get(start..self.len).unwrap_or_default()
    }
}

impl fmt::Debug for QueryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_wire(self.suffix(0), f)
    }
}

impl fmt::Display for QueryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_wire(self.suffix(0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Name::parse(text).ok().map(|name| name.to_string()).as_deref(), expected, "{text}");
        };
        check("www.CDN.example", Some("www.cdn.example"));
        check("cdn.example.", Some("cdn.example"));
        check(".", Some("."));
        check(r"a\.b.example", Some(r"a\.b.example"));
        check("*.example", Some("*.example"));
        check(r"a\000\046b.example", Some(r"a\000\.b.example"));
        for bad in ["", "..", "a..b", ".a", r"a\", r"a\256", r"a\25"] {
            check(bad, None);
        }
        let label = "a".repeat(63);
        check(&label, Some(&label));
        check(&"a".repeat(64), None);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        check(&longest, Some(&longest));
        check(&format!("{longest}a"), None);
    }

    #[test]
    fn names_of_queries() {
        let mut name = QueryName::new();
        let taken = name.read(b"\x03WWW\x07Example\x00rest").unwrap();
        assert_eq!((name.to_string().as_str(), taken, name.count()), ("www.example", 13, 2));
        assert_eq!(name.suffix(1), b"\x07example\x00");
        assert_eq!(name.suffix(2), b"\x00");
        assert_eq!(name.suffix(9), b"\x00");
        let taken = name.read(b"\x00").unwrap();
        assert_eq!((name.count(), taken, name.suffix(0)), (0, 1, &b"\x00"[..]));
        for bad in [&b""[..], b"\x03ww", b"\x03www", b"\xc0\x0c", b"\x40a\x00", b"\x80a\x00"] {
            assert!(name.read(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn redirections() {
        let check = |name: &str, kept: usize, target: &str, expected: Option<&str>| {
            let (name, target) = (QueryName::of(&Name::parse(name).unwrap()).unwrap(), Name::parse(target).unwrap());
            let redirected = name.redirected(kept, target.as_wire()).map(|name| name.to_string());
            assert_eq!(redirected.as_deref(), expected);
        };
        check("a.b.example", 2, "c.test", Some("a.b.c.test"));
        check("a.b.example", 1, "c.test", Some("a.c.test"));
        check("a.b.example", 2, ".", Some("a.b"));
        // RFC 6672 §2.2: 255 octets, and no more.
        let target = format!("{0}.{0}.{0}", "t".repeat(63));
        check(&format!("{}.old", "x".repeat(61)), 1, &target, Some(&format!("{}.{target}", "x".repeat(61))));
        check(&format!("{}.old", "x".repeat(62)), 1, &target, None);
    }

    #[test]
    fn both_sides_of_the_longest_name() {
        // 127 labels of one byte and the root are 255 bytes.
        let mut name = QueryName::new();
        let mut wire = b"\x01a".repeat(127);
        wire.push(0);
        assert_eq!(name.read(&wire), Some(255));
        assert_eq!(name.count(), 127);
        let mut wire = b"\x01a".repeat(128);
        wire.push(0);
        assert!(name.read(&wire).is_none());
        let mut wire = b"\x01a".repeat(126);
        wire.extend(b"\x02aa\x00");
        assert!(name.read(&wire).is_none());
    }
}
