//! What a page shows against what was printed.

/// Whether `printed` is what the page shows: line for line, where `…` stands for any characters of a line, and a line of `…`
/// alone for any lines. Runs of spaces count as one, blank lines at both ends for nothing.
///
/// # Errors
/// The first line of the page that nothing printed fits, or the first that was printed and is not on the page.
pub(crate) fn fits(shown: &str, printed: &str) -> Result<(), String> {
    let (shown, printed) = (lines(shown), lines(printed));
    // How much of what is shown fits how much of what was printed: possible positions after each line shown.
    let mut reached = vec![0];
    let mut any = false;
    for line in &shown {
        if line == "…" {
            any = true;
            continue;
        }
        let mut next = Vec::new();
        for (index, candidate) in printed.iter().enumerate() {
            let from_here = reached.contains(&index) || any && reached.iter().any(|at| *at <= index);
            if from_here && line_fits(line, candidate) {
                next.push(index + 1);
            }
        }
        if next.is_empty() {
            return Err(format!("nothing printed fits {line:?}"));
        }
        (reached, any) = (next, false);
    }
    match reached.iter().max() {
        _ if any => Ok(()),
        Some(end) if *end < printed.len() => Err(format!("printed, and not on the page: {:?}", printed[*end])),
        _ => Ok(()),
    }
}

fn lines(text: &str) -> Vec<String> {
    let all: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let first = all.iter().position(|line| !line.is_empty()).unwrap_or(all.len());
    let end = all.iter().rposition(|line| !line.is_empty()).map_or(first, |last| last + 1);
    all[first..end].to_vec()
}

fn line_fits(shown: &str, printed: &str) -> bool {
    let parts: Vec<_> = shown.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return shown == printed };
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn lines_fit_or_do_not() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("a\nb", "a\nb\n", true),
            ("a\nb", "a\nc\nb", false),
            ("a\nb", "a\nb\nc", false),
            ("b", "a\nb", false),
            ("a\n…\nb", "a\nc\nd\nb", true),
            ("a\n…\nb", "a\nb", true),
            ("a\n…", "a\nc\nd", true),
            ("…\na", "c\na", true),
            ("…\na", "a\nc", false),
            ("…\na", "a\nc\na", true),
            ("a …", "a b c", true),
            ("a … c", "a b d", false),
            ("a…c…e", "abcde", true),
            ("a…c…e", "abce", true),
            ("a…b", "a", false),
            ("a  b", "a b", true),
            ("\n\na\n", "a", true),
            ("…", "", true),
        ];
        for (shown, printed, expected) in cases {
            assert_eq!(fits(shown, printed).is_ok(), expected, "{shown:?} against {printed:?}");
        }
    }
}
