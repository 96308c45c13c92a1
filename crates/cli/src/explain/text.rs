//! Facts in two columns, at most 80 wide.

use std::io::{self, Write};

const COLUMNS: usize = 80;
const INDENT: usize = 12;

/// Writes `name        value`, broken at spaces; a word that is too long for a line stays whole, so that it can be copied.
pub(super) fn fact(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    let mut line = format!("{name:<INDENT$}");
    if name.chars().count() >= INDENT {
        line.push(' ');
    }
    let mut is_empty = true;
    for word in value.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            writeln!(out, "{}", line.trim_end())?;
            line = " ".repeat(INDENT);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{}", line.trim_end())
}

/// `1h 2m 3.004s`
pub(super) fn time(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let all = milliseconds.unsigned_abs();
    let (days, hours, minutes) = (all / 86_400_000, all / 3_600_000 % 24, all / 60_000 % 60);
    let mut parts = Vec::new();
    for (amount, unit) in [(days, "d"), (hours, "h"), (minutes, "m")] {
        if amount > 0 {
            parts.push(format!("{amount}{unit}"));
        }
    }
    let (seconds, rest) = (all / 1_000 % 60, all % 1_000);
    if rest > 0 {
        parts.push(format!("{seconds}.{rest:03}s"));
    } else if seconds > 0 || parts.is_empty() {
        parts.push(format!("{seconds}s"));
    }
    format!("{sign}{}", parts.join(" "))
}

/// `700 B`, `1.2 MiB`
pub(super) fn size(bytes: u64) -> String {
    let (mut amount, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_fit() {
        let mut out = Vec::new();
        fact(&mut out, "key", &"word ".repeat(30)).unwrap();
        fact(&mut out, "long", &"x".repeat(100)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().filter(|line| line.len() > COLUMNS).count() == 1, "{text}");
        assert!(lines[1].starts_with(&" ".repeat(INDENT)), "{text}");
    }

    #[test]
    fn times_and_sizes() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (1, "0.001s"),
            (60_000, "1m"),
            (3_723_004, "1h 2m 3.004s"),
            (86_400_000, "1d"),
            (-1_500, "-1.500s"),
            (i64::MIN, "-106751991167d 7h 12m 55.808s"),
        ] {
            assert_eq!(time(milliseconds), expected);
        }
        for (bytes, expected) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(bytes), expected);
        }
    }
}
