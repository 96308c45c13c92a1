//! A document that nodes refuse, as text: below the table for as long as it is so.

use std::collections::BTreeMap;

/// Lines of mistakes below the table; `perigee check` says all.
const LINES_MAX: usize = 8;

/// Nodes that go on with an earlier document, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// None: every node.
    pub(crate) by: Option<Vec<String>>,
    /// Mistakes with file, line and law.
    pub(crate) reason: String,
}

/// What nodes say, by their names; `folder` is where the document lies, which the guide above the table names already.
pub(crate) fn gather<'a>(told: impl Iterator<Item = (&'a str, Option<String>)>, folder: &str) -> Vec<Refusal> {
    let (mut reasons, mut nodes) = (BTreeMap::<String, Vec<String>>::new(), 0);
    for (node, reason) in told {
        nodes += 1;
        if let Some(reason) = reason {
            reasons.entry(reason).or_default().push(node.to_owned());
        }
    }
    let refusal = |(reason, by): (String, Vec<String>)| Refusal {
        by: Some(by).filter(|by| by.len() < nodes),
        reason: reason.replace(&format!("{}/", folder.trim_end_matches('/')), ""),
    };
    reasons.into_iter().map(refusal).collect()
}

impl Refusal {
    fn by(&self) -> String {
        self.by.as_ref().map_or_else(|| "every node".to_owned(), |by| by.join(", "))
    }

    /// Lines for below the table, of at most `columns` where words are short enough.
    pub(crate) fn lines(&self, columns: usize) -> Vec<String> {
        let head = format!("The edited document is refused by {}; the one before it serves on:", self.by());
        let mistakes = self.reason.lines();
        let (told, all) = (mistakes.clone().take(LINES_MAX), mistakes.count());
        let more = (all > LINES_MAX).then_some("… (perigee check says all)");
        let lines = [head.as_str()].into_iter().chain(told).chain(more);
        lines.flat_map(|line| wrapped(&shown(line), columns)).collect()
    }

    /// The same as one line of names and values.
    pub(crate) fn line(&self) -> String {
        let reason: Vec<&str> = self.reason.lines().take(2).map(str::trim).collect();
        let by = self.by.as_ref().map_or_else(|| "all".to_owned(), |by| by.join(","));
        format!("document=refused by={by} reason={:?}", shown(&reason.join(": ")))
    }
}

/// Nothing in a document moves a terminal's cursor.
fn shown(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Broken between words, each part with the line's own indentation.
pub(super) fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    // Where the indentation alone fills the terminal there is none.
    let indent = if indent.len() * 2 < columns { indent.as_str() } else { "" };
    let mut lines = Vec::new();
    let mut current = indent.to_owned();
    for word in line.trim_start().split(' ') {
        let is_first = current.len() == indent.len();
        if !is_first && current.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut current, indent.to_owned()));
        } else if !is_first {
            current.push(' ');
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "/tmp/d/perigee.toml:12  cdn.ttl\n    must be a duration with a unit (ms, s, m, h, d)";

    #[test]
    fn who_refuses_what() {
        let check = |told: &[(&'static str, Option<&str>)], expected: &[(Option<&[&str]>, &str)]| {
            let told = told.iter().map(|(node, reason)| (*node, reason.map(str::to_owned)));
            let expected = expected.iter().map(|(by, reason)| Refusal {
                by: by.map(|by| by.iter().map(|node| (*node).to_owned()).collect()),
                reason: (*reason).to_owned(),
            });
            assert_eq!(gather(told, "/tmp/d/"), expected.collect::<Vec<_>>());
        };
        check(&[], &[]);
        check(&[("a", None), ("b", None)], &[]);
        check(&[("a", Some("/tmp/d/x:1")), ("b", Some("/tmp/d/x:1"))], &[(None, "x:1")]);
        check(&[("a", Some("x")), ("b", None), ("c", Some("x"))], &[(Some(&["a", "c"]), "x")]);
        check(&[("a", Some("y")), ("b", Some("x"))], &[(Some(&["b"]), "x"), (Some(&["a"]), "y")]);
    }

    #[test]
    fn the_foot_says_file_line_and_law() {
        let refusal = gather([("a", Some(REASON.to_owned()))].into_iter(), "/tmp/d").remove(0);
        assert_eq!(
            refusal.lines(80),
            [
                "The edited document is refused by every node; the one before it serves on:",
                "perigee.toml:12  cdn.ttl",
                "    must be a duration with a unit (ms, s, m, h, d)",
            ]
        );
        let narrow = refusal.lines(30);
        assert!(narrow.iter().all(|line| line.chars().count() <= 30), "{narrow:#?}");
        assert!(narrow.contains(&"    must be a duration with a".to_owned()), "{narrow:#?}");
        let words = |lines: &[String]| lines.join(" ").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&narrow), words(&refusal.lines(80)));
        // Words stay whole, however little room there is.
        assert!(refusal.lines(0).contains(&"perigee.toml:12".to_owned()));
        assert_eq!(
            refusal.line(),
            "document=refused by=all reason=\"perigee.toml:12  cdn.ttl: must be a duration with a unit (ms, s, m, h, d)\""
        );
    }

    #[test]
    fn many_mistakes_and_odd_ones() {
        let of = |count: usize| {
            let reason = (0..count).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
            Refusal { by: Some(vec!["tyo".into()]), reason }.lines(80).len()
        };
        assert_eq!([LINES_MAX, LINES_MAX + 1].map(of), [1 + LINES_MAX, 2 + LINES_MAX]);
        let odd = Refusal { by: None, reason: "a\x1b[2Jb".into() };
        assert_eq!(odd.lines(80).last().map(String::as_str), Some("a\u{fffd}[2Jb"));
    }
}
