//! Types whose data is kept as its octets: DS, TLSA, SSHFP, SVCB and HTTPS in their own notation, and any type in the
//! notation for unknown ones (RFC 3597 §5).

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    Names, RecordData, name_wire,
    text::{base64, hex, octets, raw_words},
    wire::string_wire,
};

/// The types that have a notation here, and their numbers.
const NOTED: [(&str, u16); 12] = [
    ("AFSDB", 18),
    ("DS", 43),
    ("HINFO", 13),
    ("HTTPS", 65),
    ("NAPTR", 35),
    ("OPENPGPKEY", 61),
    ("RP", 17),
    ("SMIMEA", 53),
    ("SSHFP", 44),
    ("SVCB", 64),
    ("TLSA", 52),
    ("URI", 256),
];
/// Longest data that fits a message beside its owner.
const DATA_BYTES_MAX: usize = 60_000;

/// The number of a type that is kept as octets: one with a notation, or `TYPE123`.
pub(super) fn number(kind: &str) -> Option<u16> {
    if let Some((_, number)) = NOTED.iter().find(|(name, _)| *name == kind) {
        return Some(*number);
    }
    let digits = kind.strip_prefix("TYPE").filter(|digits| !digits.starts_with(['0', '+']))?;
    let number: u16 = digits.parse().ok()?;
    // Those that have a name here are written by it; SOA, CNAME's kin and DNSSEC's are not an operator's to place, and
    // RFC 6895 §3.1 keeps 128 to 255 for questions and OPT for itself.
    let is_taken = matches!(number, 1 | 2 | 5 | 6 | 12 | 15 | 16 | 28 | 33 | 39 | 257);
    let is_ours = matches!(number, 46 | 47 | 48 | 50 | 51 | 59 | 60 | 62);
    let is_meta = matches!(number, 41 | 128..=255);
    let is_noted = NOTED.iter().any(|(_, noted)| *noted == number);
    (!is_taken && !is_ours && !is_meta && !is_noted).then_some(number)
}

/// As [`number`], where `TYPE123` may also say a type that has a notation.
pub(super) fn number_of(text: &str) -> Option<u16> {
    let noted = NOTED.iter().find(|(_, number)| *text == format!("TYPE{number}"));
    noted.map(|(_, number)| *number).or_else(|| number(text))
}

/// How a type is written.
pub(super) fn mnemonic(number: u16) -> Cow<'static, str> {
    match NOTED.iter().find(|(_, noted)| *noted == number) {
        Some((name, _)) => Cow::Borrowed(*name),
        None => Cow::Owned(format!("TYPE{number}")),
    }
}

/// What data of a type must be.
pub(super) fn law(kind: &str) -> &'static str {
    match kind {
        "DS" => "KEYTAG ALGORITHM DIGESTTYPE HEX, like 60485 13 2 D4B7...",
        "AFSDB" => "SUBTYPE NAME, like 1 afs.example.com. (a full name ends with a dot)",
        "HINFO" => "\"CPU\" \"OS\"",
        "NAPTR" => {
            "ORDER PREFERENCE \"FLAGS\" \"SERVICE\" \"REGEXP\" NAME, like 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:a@example.com!\" ."
        }
        "OPENPGPKEY" => "the key in base 64",
        "RP" => "MAILBOX NAME, two names (full ones end with a dot)",
        "URI" => "PRIORITY WEIGHT \"TARGET\", like 10 1 \"https://example.com/\"",
        "SMIMEA" | "TLSA" => "USAGE SELECTOR MATCHING HEX, like 3 1 1 D4B7...",
        "SSHFP" => "ALGORITHM TYPE HEX, like 4 2 D4B7...",
        "SVCB" | "HTTPS" => {
            "PRIORITY TARGET PARAMETERS, like 1 . alpn=h2,http/1.1 port=8443 ipv4hint=192.0.2.1 (keys: mandatory, alpn, no-default-alpn, port, ipv4hint, ipv6hint, keyNNN)"
        }
        _ => "\\# LENGTH HEX, like \\# 4 C0000201 (RFC 3597)",
    }
}

pub(super) fn parse(kind: &str, text: &str, name: &Names<'_>) -> Option<RecordData> {
    let number = number(kind)?;
    let data = match text.trim_start().strip_prefix("\\#") {
        Some(rest) => generic(rest)?,
        None => match kind {
            "DS" => {
                let [tag, algorithm, digest_type, digest] = fields_and_rest(text)?;
                let mut data = tag.parse::<u16>().ok()?.to_be_bytes().to_vec();
                data.extend([algorithm.parse::<u8>().ok()?, digest_type.parse::<u8>().ok()?]);
                data.extend(hex(&digest)?);
                data
            }
            "TLSA" | "SMIMEA" => {
                let [usage, selector, matching, digest] = fields_and_rest(text)?;
                let mut data = vec![usage.parse().ok()?, selector.parse().ok()?, matching.parse().ok()?];
                data.extend(hex(&digest)?);
                data
            }
            "SSHFP" => {
                let [algorithm, digest_type, digest] = fields_and_rest(text)?;
                let mut data = vec![algorithm.parse().ok()?, digest_type.parse().ok()?];
                data.extend(hex(&digest)?);
                data
            }
            "SVCB" | "HTTPS" => service(text, name)?,
            "OPENPGPKEY" => base64(&text.split_ascii_whitespace().collect::<String>()).filter(|key| !key.is_empty())?,
            _ => words(kind, &raw_words(text)?, name)?,
        },
    };
    (data.len() <= DATA_BYTES_MAX).then_some(RecordData::Other { number, data })
}

/// The first `N - 1` words, and the others together.
fn fields_and_rest<const N: usize>(text: &str) -> Option<[String; N]> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (first, rest) = words.split_at_checked(N - 1)?;
    let mut all: Vec<String> = first.iter().map(|word| (*word).to_owned()).collect();
    all.push(rest.concat());
    all.try_into().ok()
}

/// `4 C000 0201`
fn generic(text: &str) -> Option<Vec<u8>> {
    let [length, digits] = fields_and_rest(text)?;
    let data = if digits.is_empty() { Vec::new() } else { hex(&digits)? };
    (length.parse() == Ok(data.len())).then_some(data)
}

/// The types of words alone: RFC 1035 §3.3.2, RFC 1183, RFC 3403 §4.1, RFC 7553 §4.5.
fn words(kind: &str, words: &[&str], name: &Names<'_>) -> Option<Vec<u8>> {
    let number = |word: &str| word.parse::<u16>().ok().map(u16::to_be_bytes);
    let string = |word: &str| string_wire(&octets(word)?);
    let host = |word: &str| name_wire(&name(word)?);
    Some(match (kind, words) {
        ("HINFO", [cpu, os]) => [string(cpu)?, string(os)?].concat(),
        ("AFSDB", [subtype, server]) => [number(subtype)?.to_vec(), host(server)?].concat(),
        ("RP", [mailbox, text]) => [host(mailbox)?, host(text)?].concat(),
        ("URI", [priority, weight, target]) => {
            let target = octets(target).filter(|target| !target.is_empty())?;
            [number(priority)?.to_vec(), number(weight)?.to_vec(), target].concat()
        }
        ("NAPTR", [order, preference, flags, service, regexp, replacement]) => [
            number(order)?.to_vec(),
            number(preference)?.to_vec(),
            string(flags)?,
            string(service)?,
            string(regexp)?,
            host(replacement)?,
        ]
        .concat(),
        _ => return None,
    })
}

/// RFC 9460 §2.1: priority, target, and parameters in any order, each once.
fn service(text: &str, name: &Names<'_>) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let priority: u16 = words.next()?.parse().ok()?;
    let host = name_wire(&name(words.next()?)?)?;
    let mut parameters = words.map(parameter).collect::<Option<Vec<_>>>()?;
    // §2.2: in the order of their numbers; an alias (priority 0) has none.
    parameters.sort();
    let numbers: Vec<u16> = parameters.iter().map(|(number, _)| *number).collect();
    let is_unique = numbers.windows(2).all(|pair| pair[0] != pair[1]);
    // §8: what is mandatory is there; §7.1.1: no-default-alpn goes with alpn.
    let mandatory = parameters.iter().find(|(number, _)| *number == 0).map(|(_, value)| value.as_slice());
    let is_complete = mandatory.unwrap_or_default().chunks_exact(2).all(|pair| {
        let wanted = u16::from_be_bytes([pair[0], pair[1]]);
        wanted != 0 && numbers.contains(&wanted)
    });
    let is_sound = is_unique && is_complete && (!numbers.contains(&2) || numbers.contains(&1));
    if !is_sound || (priority == 0 && !parameters.is_empty()) {
        return None;
    }
    let mut data = priority.to_be_bytes().to_vec();
    data.extend(host);
    for (number, value) in parameters {
        data.extend(number.to_be_bytes());
        data.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        data.extend(value);
    }
    Some(data)
}

fn key(name: &str) -> Option<u16> {
    Some(match name {
        "mandatory" => 0,
        "alpn" => 1,
        "no-default-alpn" => 2,
        "port" => 3,
        "ipv4hint" => 4,
        "ipv6hint" => 6,
        _ => name.strip_prefix("key")?.parse().ok().filter(|number| *number < u16::MAX)?,
    })
}

fn parameter(word: &str) -> Option<(u16, Vec<u8>)> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let number = key(name)?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let list = || value.split(',');
    let data: Vec<u8> = match number {
        0 => {
            let mut numbers = list().map(key).collect::<Option<Vec<_>>>()?;
            numbers.sort_unstable();
            numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
        }
        1 => list()
            .map(|protocol| {
                let length = u8::try_from(protocol.len()).ok().filter(|length| *length > 0)?;
                Some([&[length], protocol.as_bytes()].concat())
            })
            .collect::<Option<Vec<_>>>()?
            .concat(),
        2 => return value.is_empty().then(|| (2, Vec::new())),
        3 => value.parse::<u16>().ok()?.to_be_bytes().into(),
        4 => list().map(|hint| Some(hint.parse::<Ipv4Addr>().ok()?.octets())).collect::<Option<Vec<_>>>()?.concat(),
        6 => list().map(|hint| Some(hint.parse::<Ipv6Addr>().ok()?.octets())).collect::<Option<Vec<_>>>()?.concat(),
        _ => value.bytes().all(|b| b.is_ascii_graphic() && b != b'\\').then(|| value.as_bytes().to_vec())?,
    };
    Some((number, data))
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
    fn digests() {
        check("DS", "60485 13 2 D4B7 2A01", Some("\\# 8 ec450d02d4b72a01"));
        check("DS", "60485 13 2", None);
        check("DS", "65536 13 2 D4", None);
        check("TLSA", "3 1 1 d4b7", Some("\\# 5 030101d4b7"));
        check("TLSA", "3 1 256 d4b7", None);
        check("TLSA", "3 1 1 d4b", None);
        check("SSHFP", "4 2 d4b7", Some("\\# 4 0402d4b7"));
    }

    #[test]
    fn services() {
        check("HTTPS", "1 . alpn=h2,http/1.1", Some("\\# 19 0001000001000c02683208687474702f312e31"));
        check("HTTPS", "0 www", Some("\\# 19 0000037777770363646e076578616d706c6500"));
        check("SVCB", "1 . ipv4hint=192.0.2.1 port=8443", Some("\\# 17 0001000003000220fb00040004c0000201"));
        for wrong in [
            "1",
            "1 . port=x",
            "1 . port=1 port=2",
            "0 . alpn=h2",
            "1 . no-default-alpn",
            "1 . mandatory=alpn",
            "1 . alpn=",
            "1 . what=ever",
            "65536 .",
        ] {
            check("HTTPS", wrong, None);
        }
        check("HTTPS", "1 . alpn=h2 mandatory=alpn", Some("\\# 16 00010000000002000100010003026832"));
    }

    #[test]
    fn words_of_several_types() {
        check("HINFO", "\"PC x\" Linux", Some("\\# 11 0450432078054c696e7578"));
        check("HINFO", "PC", None);
        check("AFSDB", "1 afs", Some("\\# 19 0001036166730363646e076578616d706c6500"));
        check("RP", "a. .", Some("\\# 4 01610000"));
        check("URI", "10 1 \"ftp://a/\"", Some("\\# 12 000a00016674703a2f2f612f"));
        check("URI", "10 1 \"\"", None);
        check("NAPTR", "100 10 u E2U+sip \"!a!b!\" .", Some("\\# 21 0064000a0175074532552b73697005216121622100"));
        check("NAPTR", "100 10 u E2U+sip \"!a!b!\"", None);
        check("OPENPGPKEY", "Zm9v YmFy", Some("\\# 6 666f6f626172"));
        check("OPENPGPKEY", "Zm9", None);
        check("SMIMEA", "3 0 0 d4b7", Some("\\# 5 030000d4b7"));
    }

    #[test]
    fn unknown_types() {
        check("TYPE65280", "\\# 4 C000 0201", Some("\\# 4 c0000201"));
        check("TYPE65280", "\\# 0", Some("\\# 0"));
        check("TYPE65280", "\\# 3 C0000201", None);
        check("TYPE65280", "192.0.2.1", None);
        check("TLSA", "\\# 5 030101d4b7", Some("\\# 5 030101d4b7"));
        for kind in ["TYPE0", "TYPE1", "TYPE6", "TYPE41", "TYPE46", "TYPE52", "TYPE251", "TYPE65536", "TYPE065", "TYPE"]
        {
            check(kind, "\\# 0", None);
        }
    }
}
