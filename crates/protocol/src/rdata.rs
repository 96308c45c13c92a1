//! Record data in zone-file presentation form (RFC 1035 §5.1), for the types that `[[zone.record]]` may have.
//!
//! Two things are stricter or kinder than a zone file, so that no reader can be mistaken: a name with a dot in it must
//! end with one (`mail.example.com.`), and TXT may be given bare, without quotes, as one text. Zone files themselves are
//! read by `crate::zone_file`, with their own rule for names.

mod other;
mod text;
mod wire;

use std::{
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

pub use text::base64;
pub(crate) use text::hex;
use text::quoted_strings;
pub(crate) use wire::{labels, name_text, name_wire};

/// The types that a static record may have, beside `TYPE123`.
pub const KINDS: [&str; 22] = [
    "A",
    "AAAA",
    "AFSDB",
    "CAA",
    "CNAME",
    "DNAME",
    "DS",
    "HINFO",
    "HTTPS",
    "MX",
    "NAPTR",
    "NS",
    "OPENPGPKEY",
    "PTR",
    "RP",
    "SMIMEA",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
];

/// Whether a static record may be of this type: one of [`KINDS`], or `TYPE123` (RFC 3597) where that is none of them, no
/// question and nothing that is made by itself.
pub fn is_kind(text: &str) -> bool {
    KINDS.contains(&text) || other::number(text).is_some()
}

/// The number of a type that a record may have (IANA "Resource Record (RR) TYPEs"): one of [`KINDS`], or `TYPE123`, which may
/// also say one of those (RFC 3597 §5).
pub fn kind_number(text: &str) -> Option<u16> {
    let plain = PLAIN.iter().find(|(name, number)| *name == text || *text == format!("TYPE{number}"));
    plain.map(|(_, number)| *number).or_else(|| other::number_of(text))
}

/// The mnemonic of a type, or `TYPE123`.
pub fn kind_text(number: u16) -> Cow<'static, str> {
    match PLAIN.iter().find(|(_, plain)| *plain == number) {
        Some((name, _)) => Cow::Borrowed(*name),
        None => other::mnemonic(number),
    }
}

/// The types that have a variant of their own.
const PLAIN: [(&str, u16); 10] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("DNAME", 39),
    ("CAA", 257),
];

/// Data of one record. Names are absolute, in lower case, without the trailing dot, special characters escaped as in zone
/// files (RFC 1035 §5.1); the root is the empty string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordData {
    /// RFC 1035 §3.4.1
    A(Ipv4Addr),
    /// RFC 3596
    Aaaa(Ipv6Addr),
    /// RFC 8659
    Caa {
        /// 0, or 128 for critical.
        flags: u8,
        /// In lower case.
        tag: String,
        /// The value's octets.
        value: Vec<u8>,
    },
    /// RFC 1035 §3.3.1
    Cname(String),
    /// RFC 6672 §2.1: where the names below its owner are looked for instead.
    Dname(String),
    /// RFC 1035 §3.3.9
    Mx {
        /// The lower the sooner.
        preference: u16,
        /// The root for a null MX (RFC 7505).
        exchange: String,
    },
    /// RFC 1035 §3.3.11: a delegation.
    Ns(String),
    /// RFC 1035 §3.3.12
    Ptr(String),
    /// RFC 2782
    Srv {
        /// The lower the sooner.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Where the service listens.
        port: u16,
        /// The root where there is no such service.
        target: String,
    },
    /// RFC 1035 §3.3.14: at least one string, each of at most 255 octets.
    Txt(Vec<Vec<u8>>),
    /// Any other type, its data as it is on the wire, names uncompressed (RFC 3597).
    Other {
        /// The type.
        number: u16,
        /// The data.
        data: Vec<u8>,
    },
}

/// Why a text is no record data of its type: what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct InvalidData(pub &'static str);

impl RecordData {
    /// Reads the data of a record of type `kind` in `zone` (lower-case, no trailing dot).
    pub fn parse(kind: &str, text: &str, zone: &str) -> Result<Self, InvalidData> {
        const NAME: &str = "a name: one label of the zone, @, or a full name that ends with a dot";
        Self::parse_with(kind, text, NAME, &|text| target(text, zone))
    }

    /// As [`Self::parse`], with another rule for names in the data: `name` makes them absolute, `name_law` says how.
    pub(crate) fn parse_with(
        kind: &str,
        text: &str,
        name_law: &'static str,
        name: &Names<'_>,
    ) -> Result<Self, InvalidData> {
        let one_name = || name(text.trim()).ok_or(InvalidData(name_law));
        match kind {
            "A" => text.parse().map(Self::A).map_err(|_| InvalidData("an IPv4 address")),
            "AAAA" => text.parse().map(Self::Aaaa).map_err(|_| InvalidData("an IPv6 address")),
            "CAA" => caa(text).ok_or(InvalidData("FLAGS TAG \"VALUE\", like 0 issue \"letsencrypt.org\"")),
            "CNAME" => one_name().map(Self::Cname),
            "DNAME" => one_name().map(Self::Dname),
            "NS" => one_name().map(Self::Ns),
            "PTR" => one_name().map(Self::Ptr),
            "MX" => mx(text, name)
                .ok_or(InvalidData("PREFERENCE NAME, like 10 mail.example.com. (a full name ends with a dot)")),
            "SRV" => srv(text, name).ok_or(InvalidData(
                "PRIORITY WEIGHT PORT NAME, like 0 5 443 host.example.com. (a full name ends with a dot)",
            )),
            "TXT" => txt(text).ok_or(InvalidData("a text, or \"quoted\" strings of at most 255 octets each")),
            _ if other::number(kind).is_none() => {
                Err(InvalidData("of a type that records may have, by its mnemonic or as TYPE and a number"))
            }
            _ => other::parse(kind, text, name).ok_or(InvalidData(other::law(kind))),
        }
    }

    /// The type's mnemonic, one of [`KINDS`] or `TYPE123`.
    pub fn kind(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Caa { .. } => "CAA",
            Self::Cname(_) => "CNAME",
            Self::Dname(_) => "DNAME",
            Self::Mx { .. } => "MX",
            Self::Ns(_) => "NS",
            Self::Ptr(_) => "PTR",
            Self::Srv { .. } => "SRV",
            Self::Txt(_) => "TXT",
            Self::Other { number, .. } => return other::mnemonic(*number),
        })
    }
}

/// Canonical presentation form, which [`RecordData::parse`] reads back: names with their final dot, TXT quoted, and the
/// types of [`RecordData::Other`] as unknown ones.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Caa { flags, tag, value } => {
                write!(f, "{flags} {tag} ")?;
                quote(f, value)
            }
            Self::Cname(name) | Self::Dname(name) | Self::Ns(name) | Self::Ptr(name) => write!(f, "{name}."),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}."),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}."),
            Self::Txt(strings) => {
                for (index, string) in strings.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    quote(f, string)?;
                }
                Ok(())
            }
            Self::Other { data, .. } => {
                write!(f, "\\# {}", data.len())?;
                if !data.is_empty() {
                    f.write_str(" ")?;
                }
                data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    f.write_str("\"")?;
    for octet in octets {
        match octet {
            b'"' | b'\\' => write!(f, "\\{}", char::from(*octet))?,
            0x20..=0x7e => write!(f, "{}", char::from(*octet))?,
            other => write!(f, "\\{other:03}")?,
        }
    }
    f.write_str("\"")
}

/// How a name in record data becomes absolute; None where it cannot.
pub(crate) type Names<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A name in record data: `@`, one label, or a full name with its final dot.
fn target(text: &str, zone: &str) -> Option<String> {
    use crate::document::names::owner_name;
    match text {
        "@" => Some(zone.to_owned()),
        "." => Some(String::new()),
        _ => match text.strip_suffix('.') {
            Some(full) => owner_name(full),
            None if !text.contains('.') => owner_name(&format!("{text}.{zone}")),
            None => None,
        },
    }
}

fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    let all: Vec<_> = text.split_ascii_whitespace().collect();
    all.try_into().ok()
}

fn mx(text: &str, name: &Names<'_>) -> Option<RecordData> {
    let [preference, exchange] = fields(text)?;
    Some(RecordData::Mx { preference: preference.parse().ok()?, exchange: name(exchange)? })
}

fn srv(text: &str, name: &Names<'_>) -> Option<RecordData> {
    let [priority, weight, port, host] = fields(text)?;
    Some(RecordData::Srv {
        priority: priority.parse().ok()?,
        weight: weight.parse().ok()?,
        port: port.parse().ok()?,
        target: name(host)?,
    })
}

/// RFC 8659 §4.1.1: flags, a tag of letters and digits, and a value.
fn caa(text: &str) -> Option<RecordData> {
    const TAG_BYTES_MAX: usize = 15;
    let (flags, rest) = text.trim().split_once(' ')?;
    let (tag, value) = rest.trim_start().split_once(' ')?;
    let well_formed = (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    let value = match value.trim_start() {
        quoted if quoted.starts_with('"') => match quoted_strings(quoted)?.as_slice() {
            [one] => one.clone(),
            _ => return None,
        },
        bare if !bare.is_empty() && !bare.contains(char::is_whitespace) => bare.as_bytes().to_vec(),
        _ => return None,
    };
    well_formed.then_some(RecordData::Caa { flags: flags.parse().ok()?, tag: tag.to_ascii_lowercase(), value })
}

/// RFC 1035 §3.3
pub(crate) const STRING_BYTES_MAX: usize = 255;

fn txt(text: &str) -> Option<RecordData> {
    if text.trim_start().starts_with('"') {
        let strings = quoted_strings(text.trim())?;
        return strings.iter().all(|string| string.len() <= STRING_BYTES_MAX).then_some(RecordData::Txt(strings));
    }
    let strings: Vec<_> = text.as_bytes().chunks(STRING_BYTES_MAX).map(<[u8]>::to_vec).collect();
    Some(RecordData::Txt(if strings.is_empty() { vec![Vec::new()] } else { strings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, text: &str, expected: Option<&str>) {
        let parsed = RecordData::parse(kind, text, "cdn.example");
        assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{kind} {text}");
        if let Ok(data) = parsed {
            assert_eq!(data.kind(), kind);
            assert_eq!(RecordData::parse(kind, &data.to_string(), "cdn.example"), Ok(data), "{kind} {text}");
        }
    }

    #[test]
    fn addresses_and_names() {
        check("A", "198.18.0.1", Some("198.18.0.1"));
        check("A", "198.18.0", None);
        check("A", "2001:db8::1", None);
        check("AAAA", "2001:DB8:0::1", Some("2001:db8::1"));
        check("AAAA", "198.18.0.1", None);
        check("CNAME", "www", Some("www.cdn.example."));
        check("CNAME", "@", Some("cdn.example."));
        check("CNAME", "Other.Example.", Some("other.example."));
        check("CNAME", "other.example", None);
        check("CNAME", "", None);
        check("DNAME", "Other.Example.", Some("other.example."));
        check("DNAME", ".", Some("."));
        check("DNAME", "a b.", None);
        check("NS", "ns.other.example.", Some("ns.other.example."));
        check("PTR", "a b.", None);
    }

    #[test]
    fn numbers_and_names() {
        check("MX", "10 mail.example.com.", Some("10 mail.example.com."));
        check("MX", "0 .", Some("0 ."));
        check("MX", "mail.example.com.", None);
        check("MX", "65536 mail", None);
        check("SRV", "0  5 443 host", Some("0 5 443 host.cdn.example."));
        check("SRV", "0 5 443 .", Some("0 5 443 ."));
        check("SRV", "0 5 host", None);
        check("SPF", "x", None);
    }

    #[test]
    fn texts() {
        check("TXT", "v=spf1 -all", Some("\"v=spf1 -all\""));
        check("TXT", "", Some("\"\""));
        check("TXT", r#""a" "b\"c\\" "\007""#, Some(r#""a" "b\"c\\" "\007""#));
        check("TXT", r#""a""#, Some(r#""a""#));
        check("TXT", r#""a"#, None);
        check("TXT", r#""a" b"#, None);
        check("TXT", r#""\25"#, None);
        check("TXT", r#""\256""#, None);
        check("TXT", &"x".repeat(256), Some(&format!("\"{}\" \"x\"", "x".repeat(255))));
        check("TXT", &format!("\"{}\"", "x".repeat(256)), None);
        check("CAA", "0 issue \"letsencrypt.org\"", Some("0 issue \"letsencrypt.org\""));
        check("CAA", "128 ISSUE ;", Some("128 issue \";\""));
        check("CAA", "0 issue", None);
        check("CAA", "0 is-sue \"x\"", None);
        check("CAA", "0 issue \"x\" \"y\"", None);
        check("CAA", "256 issue \"x\"", None);
    }
}
