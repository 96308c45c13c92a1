//! Times of zone files: seconds, or numbers with units, `1h30m`, `2D`.

/// RFC 2181 §8
const TTL_MAX: u64 = (1 << 31) - 1;

/// Seconds, at most 2³¹-1. None for anything that is no time.
///
/// Units are those that every server knows: `s`, `m`, `h`, `d`, `w`, in either case; a number without one counts seconds and
/// may come last only.
pub fn parse_ttl(text: &str) -> Option<u32> {
    let (mut sum, mut number) = (0_u64, None::<u64>);
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            let value = number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            number = Some(value);
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        sum = sum.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let is_time = text.starts_with(|c: char| c.is_ascii_digit());
    let sum = sum.checked_add(number.unwrap_or(0)).filter(|sum| *sum <= TTL_MAX && is_time)?;
    u32::try_from(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<u32>| assert_eq!(parse_ttl(text), expected, "{text}");
        check("0", Some(0));
        check("3600", Some(3_600));
        check("1h30m", Some(5_400));
        check("1H30M5", Some(5_405));
        check("1w2d", Some(777_600));
        check("2147483647", Some(i32::MAX as u32));
        for bad in ["", "h", "1h30x", "-1", "1.5h", "2147483648", "4000w", "99999999999999999999", "1hh", "+1"] {
            check(bad, None);
        }
    }
}
