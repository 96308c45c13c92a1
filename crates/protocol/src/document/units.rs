//! Durations and sizes: a whole number and a unit, `30s`, `64MiB`. One way to write each; no fractions, no sums.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn render(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    if amount == 0 {
        return zero.to_owned();
    }
    let fitting = units.iter().rev().find(|(_, factor)| amount.is_multiple_of(*factor));
    fitting.map_or_else(|| amount.to_string(), |(unit, factor)| format!("{}{unit}", amount / factor))
}

/// `500ms`, `30s`, `5m`, `1h`, `7d`; `0s` too. None for anything else, and past 2⁶⁴ milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATIONS).map(Duration::from_millis)
}

/// The shortest text that [`parse_duration`] reads back; parts of a millisecond are cut.
pub fn render_duration(duration: Duration) -> String {
    render(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "0s")
}

/// `100B`, `512KiB`, `64MiB`, `10GiB`, `2TiB`, in bytes. None for anything else, and past 2⁶⁴ bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// The shortest text that [`parse_size`] reads back.
pub fn render_size(bytes: u64) -> String {
    render(bytes, &SIZES, "0B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check =
            |text: &str, ms: Option<u64>| assert_eq!(parse_duration(text), ms.map(Duration::from_millis), "{text}");
        check("500ms", Some(500));
        check("0s", Some(0));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("7d", Some(604_800_000));
        check("18446744073709551615ms", Some(u64::MAX));
        for bad in [
            "",
            "5",
            "s",
            "0",
            "-1s",
            "+1s",
            "1.5s",
            " 1s",
            "1s ",
            "1 s",
            "1S",
            "1w",
            "1h30m",
            "1sé",
            "18446744073709551616ms",
            "18446744073709551615s",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(parse_size(text), bytes, "{text}");
        check("100B", Some(100));
        check("0B", Some(0));
        check("512KiB", Some(512 << 10));
        check("64MiB", Some(64 << 20));
        check("10GiB", Some(10 << 30));
        for bad in ["", "64", "64MB", "64mib", "64M", "1.5GiB", "-1B", "16777216TiB"] {
            check(bad, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_rendered_reads_back(amount: u64) {
            let duration = Duration::from_millis(amount);
            proptest::prop_assert_eq!(parse_duration(&render_duration(duration)), Some(duration));
            proptest::prop_assert_eq!(parse_size(&render_size(amount)), Some(amount));
        }
    }
}
