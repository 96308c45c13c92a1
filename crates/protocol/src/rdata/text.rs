//! Strings in presentation form: quotes and escapes (RFC 1035 §5.1), hexadecimal, base 64.

/// `"a" "b\"c" "\000"` → its strings. None where a quote or an escape is not closed.
pub(super) fn quoted_strings(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        match bytes.next() {
            None => return Some(strings),
            Some(b'"') => strings.push(quoted(&mut bytes)?),
            Some(_) => return None,
        }
    }
}

fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut string = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return Some(string),
            b'\\' => match bytes.next()? {
                first @ b'0'..=b'9' => {
                    let digits = [first, bytes.next()?, bytes.next()?];
                    string.push(std::str::from_utf8(&digits).ok()?.parse().ok()?);
                }
                other => string.push(other),
            },
            other => string.push(other),
        }
    }
}

/// Splits at white space outside quotes; escapes and quotes stay as they are. None where a quote is not closed.
pub(super) fn raw_words(text: &str) -> Option<Vec<&str>> {
    let (mut words, mut start) = (Vec::new(), None);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b' ' | b'\t' | b'\r' | b'\n' if !is_quoted => {
                words.extend(start.take().and_then(|start| text.get(start..at)));
                continue;
            }
            _ => {}
        }
        start = start.or(Some(at));
    }
    words.extend(start.and_then(|start| text.get(start..)));
    (!is_quoted && !is_escaped).then_some(words)
}

/// The octets of one word of [`raw_words`], quoted or bare.
pub(super) fn octets(word: &str) -> Option<Vec<u8>> {
    if word.starts_with('"') {
        return match quoted_strings(word)?.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        };
    }
    let bare = format!("\"{word}\"");
    match quoted_strings(&bare)?.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// An even number of hexadecimal digits, at least two.
pub(crate) fn hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

/// Octets of base 64 (RFC 4648 §4): padding required, no line breaks, no bits beyond the last octet. None for all else.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut data = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in bare.bytes() {
        bits = (bits << 6 | u32::from(value(byte)?)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            data.push((bits >> count & 0xff) as u8);
        }
    }
    (bits & ((1 << count) - 1) == 0 && count < 6).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_octets() {
        let check = |text: &str, expected: Option<&[&str]>| {
            assert_eq!(raw_words(text).as_deref(), expected, "{text}");
        };
        check("", Some(&[]));
        check(" a  \"b c\" d ", Some(&["a", "\"b c\"", "d"]));
        check(r#"a\ b \"c"#, Some(&[r"a\ b", r#"\"c"#]));
        check("\"a", None);
        check("a\\", None);
        assert_eq!(octets(r#""a b\007""#), Some(b"a b\x07".to_vec()));
        assert_eq!(octets(r"a\ b"), Some(b"a b".to_vec()));
        assert_eq!(octets(r#""a"b"#), None);
    }

    /// RFC 4648 §10.
    #[test]
    fn base64_vectors() {
        let check = |text: &str, expected: Option<&[u8]>| assert_eq!(base64(text).as_deref(), expected, "{text}");
        check("", Some(b""));
        check("Zg==", Some(b"f"));
        check("Zm8=", Some(b"fo"));
        check("Zm9v", Some(b"foo"));
        check("Zm9vYmFy", Some(b"foobar"));
        for bad in ["Z", "Zg", "Zg=", "Zh==", "Zg==Zg==", "Zm9=", "Zm 9", "====", "Zm9-"] {
            check(bad, None);
        }
    }
}
