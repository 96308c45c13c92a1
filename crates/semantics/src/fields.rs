//! The small grammar that many fields share (RFC 9110 §5.6): lists, tokens, quoted strings, numbers of seconds.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// What a number of seconds too large to count is read as (RFC 9111 §1.2.2).
pub(crate) const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// A number in decimal digits, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    from: usize,
}

impl Decimal {
    /// Of the number.
    pub fn of(mut number: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; 20], from: 20 };
        for place in decimal.digits.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            decimal.from -= 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    /// At least one digit, the first no zero but of zero.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.digits.get(self.from..).unwrap_or_default()).unwrap_or_default()
    }

    /// As a field's value.
    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// The items of a field's list over all its lines: trimmed, empty ones left out (RFC 9110 §5.6.1.2).
pub(crate) fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(|value| items(value.as_bytes()))
}

/// The items of one line.
pub(crate) fn items(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(line, b',').filter(|item| !item.is_empty())
}

/// Splits at `separator` outside quoted strings; parts are trimmed and may be empty.
///
/// A quote that is never closed is an ordinary byte: else it would hide whatever follows it.
pub(crate) fn split(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (part, tail) = match find_unquoted(line, separator) {
            Some(at) => {
                let (part, tail) = line.split_at_checked(at)?;
                (part, tail.get(1..))
            }
            None => (line, None),
        };
        rest = tail;
        Some(trim(part))
    })
}

fn find_unquoted(line: &[u8], separator: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        if byte == separator {
            return Some(at);
        }
        at = match byte {
            b'"' => closing_quote(line, at + 1).unwrap_or(at),
            _ => at,
        } + 1;
    }
    None
}

/// Where the quoted string ends that began just before `from` (RFC 9110 §5.6.4).
fn closing_quote(line: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match line.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Without optional white space at either end (RFC 9110 §5.6.3).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether the bytes are a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// The value of a quoted string, or the bytes as they are.
pub(crate) fn unquote(bytes: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = bytes else { return Cow::Borrowed(bytes) };
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&byte) = rest.next() {
        let byte = if byte == b'\\' { rest.next().copied() } else { Some(byte) };
        value.extend(byte);
    }
    Cow::Owned(value)
}

/// Digits alone, as seconds; [`DELTA_SECONDS_MAX`] where there are too many (RFC 9111 §1.2.2). `None`: not a number.
pub(crate) fn delta_seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds =
        digits.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(seconds.min(DELTA_SECONDS_MAX))
}

/// A field's first line as text; `None` if absent or not ASCII.
pub(crate) fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let check = |line: &str, expected: &[&str]| {
            let found: Vec<_> = items(line.as_bytes()).map(|item| String::from_utf8_lossy(item).into_owned()).collect();
            assert_eq!(found, expected, "{line}");
        };
        check("", &[]);
        check(",, ,", &[]);
        check("a", &["a"]);
        check(" a ,\tb,c ", &["a", "b", "c"]);
        check(r#"a="x, y", b"#, &[r#"a="x, y""#, "b"]);
        check(r#"a="x\", y", b"#, &[r#"a="x\", y""#, "b"]);
        // An open quote hides nothing.
        check(r#"a="x, no-store"#, &[r#"a="x"#, "no-store"]);
        check(r#"a="x\", no-store"#, &[r#"a="x\""#, "no-store"]);
    }

    #[test]
    fn seconds() {
        let check =
            |digits: &str, expected: Option<u64>| assert_eq!(delta_seconds(digits.as_bytes()), expected, "{digits}");
        check("0", Some(0));
        check("003600", Some(3600));
        check("2147483648", Some(DELTA_SECONDS_MAX));
        check("2147483649", Some(DELTA_SECONDS_MAX));
        check("99999999999999999999999999", Some(DELTA_SECONDS_MAX));
        for bad in ["", "-1", "+1", "1.0", "1a", "a1", " 1", "'1'"] {
            check(bad, None);
        }
    }

    #[test]
    fn quoted_strings() {
        let check =
            |quoted: &str, expected: &str| assert_eq!(unquote(quoted.as_bytes()), expected.as_bytes(), "{quoted}");
        check(r#""3600""#, "3600");
        check(r#""a\"b""#, r#"a"b"#);
        check("plain", "plain");
        check(r#"""#, r#"""#);
    }
}
