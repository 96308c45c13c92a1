//! A page of the documentation as what is to be done with it: its blocks in order, and what comments say about them. Pure.

/// What is to be done, in the order of the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Commands, and what they print where the page shows it. With `retry` they are repeated until they print that.
    Run { line: usize, script: String, expect: Option<String>, retry: bool },
    /// Commands that stay: the page goes on when they have printed `until`.
    Background { line: usize, script: String, until: String },
    /// A file as the page shows it.
    File { line: usize, name: String, text: String },
    /// The steps of another page, up to a heading.
    Page { line: usize, page: String, heading: String },
}

/// A page, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// With the heading that each stands under.
    pub(crate) steps: Vec<(String, Step)>,
    /// Blocks that nobody runs: line, reason, commands.
    pub(crate) skipped: Vec<(usize, String, String)>,
    /// Pieces of documents: line and text.
    pub(crate) documents: Vec<(usize, String)>,
    /// Programs beside the usual ones.
    pub(crate) needs: Vec<String>,
    /// Where the prose leads: line and target.
    pub(crate) links: Vec<(usize, String)>,
    /// What a link can name in it, as Git forges make it of headings.
    pub(crate) anchors: Vec<String>,
    /// What the prose has between backticks: line and text.
    pub(crate) inline: Vec<(usize, String)>,
    /// What is wrong with the page itself: line and text.
    pub(crate) mistakes: Vec<(usize, String)>,
}

/// What a comment says of the block below it.
enum Mark {
    Skip(String),
    File(String),
    Expect,
    Retry,
    Background(String),
}

const LANGUAGES: [&str; 14] =
    ["sh", "console", "text", "toml", "json", "http", "yaml", "csv", "html", "promql", "rust", "ini", "nginx", "dns"];

/// Reads a page. Mistakes are told in it.
pub(crate) fn page(text: &str) -> Page {
    let mut reader = Reader { page: Page::default(), heading: String::new(), mark: None, prose: true };
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut blank = true;
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("<!-- test:") {
            let mut comment = trimmed.trim_start_matches("<!-- test:").to_owned();
            while !comment.contains("-->") {
                let Some((_, next)) = lines.next() else { break };
                comment.push('\n');
                comment.push_str(next);
            }
            let (said, _) = comment.split_once("-->").unwrap_or((&comment, ""));
            reader.comment(number, said.trim());
        } else if let Some(language) = trimmed.strip_prefix("```") {
            let indent = line.len() - trimmed.len();
            let mut body = String::new();
            let closed = lines.by_ref().any(|(_, inner)| {
                let end = inner.trim() == "```";
                if !end {
                    let cut = inner.len() - inner.trim_start().len();
                    body.push_str(inner.get(cut.min(indent)..).unwrap_or_default());
                    body.push('\n');
                }
                end
            });
            if !closed {
                reader.mistake(number, "the block has no end");
            }
            reader.block(number, language.trim(), body);
        } else if !trimmed.is_empty() {
            if reader.mark.take().is_some() {
                reader.mistake(number, "a comment about a block stands directly above the block");
            }
            reader.prose(number, line, blank);
        }
        blank = trimmed.is_empty();
    }
    reader.page
}

struct Reader {
    page: Page,
    heading: String,
    mark: Option<Mark>,
    /// Whether the last paragraph was no list, so that an indented one is code.
    prose: bool,
}

impl Reader {
    fn mistake(&mut self, line: usize, what: impl Into<String>) {
        self.page.mistakes.push((line, what.into()));
    }

    fn step(&mut self, step: Step) {
        self.page.steps.push((self.heading.clone(), step));
    }

    fn prose(&mut self, number: usize, line: &str, after_blank: bool) {
        let text = line.trim_start();
        if let Some(heading) = text.strip_prefix('#') {
            self.heading = heading.trim_start_matches('#').trim().to_owned();
            self.page.anchors.push(anchor(&self.heading));
        }
        if line.starts_with("    ") && after_blank && self.prose {
            self.mistake(number, "commands stand in a block between ``` lines, not indented");
        }
        if after_blank || !line.starts_with(' ') {
            let listed = text.starts_with(['*', '-', '|']) || text.split_once(". ").is_some_and(|(n, _)| n.len() < 3);
            self.prose = !listed && !line.starts_with(' ');
        }
        let spans = line.split('`').skip(1).step_by(2).map(|span| (number, span.to_owned()));
        self.page.inline.extend(spans);
        let links = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        self.page.links.extend(links.map(|(target, _)| (number, target.to_owned())));
    }

    fn comment(&mut self, number: usize, said: &str) {
        let (word, rest) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
        let rest = rest.trim();
        let mark = match word {
            "skip" if rest.split_whitespace().count() >= 2 => Mark::Skip(rest.to_owned()),
            "file" if !rest.is_empty() => Mark::File(rest.to_owned()),
            "expect" => Mark::Expect,
            "retry" => Mark::Retry,
            "background" if rest.starts_with("until ") => Mark::Background(rest[6..].trim().to_owned()),
            "needs" => return self.page.needs.extend(rest.split_whitespace().map(str::to_owned)),
            "setup" => {
                let script = format!("{rest}\n");
                return self.step(Step::Run { line: number, script, expect: None, retry: false });
            }
            "after" => {
                let (page, heading) = rest.split_once(' ').unwrap_or((rest, ""));
                let (page, heading) = (page.to_owned(), heading.trim().to_owned());
                return self.step(Step::Page { line: number, page, heading });
            }
            _ => return self.mistake(number, format!("nobody knows what `test: {said}` means: see docs/STYLE.md")),
        };
        if self.mark.replace(mark).is_some() {
            self.mistake(number, "two comments about one block");
        }
    }

    fn block(&mut self, line: usize, language: &str, body: String) {
        if !LANGUAGES.contains(&language) {
            self.mistake(line, format!("a block of `{language}`: say one of {}", LANGUAGES.join(", ")));
        }
        let commands = matches!(language, "sh" | "console");
        match self.mark.take() {
            Some(Mark::Skip(reason)) => self.page.skipped.push((line, reason, body)),
            Some(Mark::File(name)) => self.step(Step::File { line, name, text: body }),
            Some(Mark::Expect) => match self.page.steps.last_mut() {
                Some((_, Step::Run { expect: expect @ None, .. })) => *expect = Some(body),
                _ => self.mistake(line, "nothing before it prints what this expects"),
            },
            Some(Mark::Background(until)) if commands => self.step(Step::Background { line, script: body, until }),
            mark @ (Some(Mark::Retry) | None) if commands => {
                let retry = mark.is_some();
                if language == "console" {
                    self.dialogue(line, &body, retry);
                } else {
                    self.step(Step::Run { line, script: body, expect: None, retry });
                }
            }
            Some(_) => self.mistake(line, "only commands can be run"),
            None if language == "toml" => self.page.documents.push((line, body)),
            None => {}
        }
    }

    /// `$ command`, `> more of it`, and what it prints.
    fn dialogue(&mut self, first: usize, body: &str, retry: bool) {
        let mut commands: Vec<(usize, String, String)> = Vec::new();
        for (number, line) in body.lines().enumerate().map(|(index, line)| (first + 1 + index, line)) {
            match (line.strip_prefix("$ "), line.strip_prefix("> "), commands.last_mut()) {
                (Some(command), _, _) => commands.push((number, format!("{command}\n"), String::new())),
                (None, Some(more), Some((_, command, printed))) if printed.is_empty() => {
                    command.push_str(more);
                    command.push('\n');
                }
                (None, _, Some((_, _, printed))) => {
                    printed.push_str(line);
                    printed.push('\n');
                }
                (None, _, None) => self.mistake(number, "a console's first line is `$ command`"),
            }
        }
        for (line, script, printed) in commands {
            self.step(Step::Run { line, script, expect: Some(printed), retry });
        }
    }
}

/// The name that a heading gets: lower case, `-` for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Page, Step, anchor, page};

    fn run(line: usize, script: &str, expect: Option<&str>, retry: bool) -> Step {
        Step::Run { line, script: script.into(), expect: expect.map(Into::into), retry }
    }

    fn steps(text: &str) -> Vec<Step> {
        let page = page(text);
        assert_eq!(page.mistakes, [], "{text}");
        page.steps.into_iter().map(|(_, step)| step).collect()
    }

    #[test]
    fn what_a_page_says_is_done() {
        let file = Step::File { line: 2, name: "a".into(), text: "x\n  y\n".into() };
        let stays = Step::Background { line: 2, script: "b\n".into(), until: "ready now".into() };
        let other = Step::Page { line: 1, page: "t.md".into(), heading: "To here".into() };
        let cases = [
            ("```sh\nls\n```", vec![run(1, "ls\n", None, false)]),
            ("* x\n\n  ```sh\n  a \\\n    b\n  ```", vec![run(3, "a \\\n  b\n", None, false)]),
            ("```sh\nls\n```\n<!-- test: expect -->\n```text\nx\n```", vec![run(1, "ls\n", Some("x\n"), false)]),
            ("<!-- test: retry -->\n```sh\nls\n```", vec![run(2, "ls\n", None, true)]),
            (
                "```console\n$ a \\\n> b\nx\n$ c\n```",
                vec![run(2, "a \\\nb\n", Some("x\n"), false), run(5, "c\n", Some(""), false)],
            ),
            ("<!-- test: file a -->\n```toml\nx\n  y\n```", vec![file]),
            ("<!-- test: background until ready now -->\n```sh\nb\n```", vec![stays]),
            ("<!-- test: setup\na\nb -->", vec![run(1, "a\nb\n", None, false)]),
            ("<!-- test: after t.md To here -->", vec![other]),
            ("```text\nls\n```", vec![]),
            ("<!-- a remark -->\n* a list\n\n    and more of it", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(steps(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_skipped_is_kept_with_its_reason() {
        let page = page("<!-- test: skip ten machines -->\n```sh\nls\n```\n<!-- test: needs kdig drill -->\n");
        assert_eq!(page.skipped, [(2, "ten machines".into(), "ls\n".into())]);
        assert_eq!(page.needs, ["kdig", "drill"]);
        assert_eq!(page.mistakes, []);
    }

    #[test]
    fn links_and_what_they_may_name() {
        let page = page("# A, `b` and C\n[x](a.md#b), [y](#c)\n```text\n[z](d)\n```\n");
        assert_eq!(page.links, [(2, "a.md#b".into()), (2, "#c".into())]);
        assert_eq!(page.anchors, ["a-b-and-c"]);
        assert_eq!(anchor("`GET /v1/live`"), "get-v1live");
    }

    #[test]
    fn a_page_with_mistakes_says_them() {
        let cases = [
            ("```\nls\n```", "a block of ``"),
            ("```sh\nls\n", "no end"),
            ("text\n\n    ls -l\n", "not indented"),
            ("<!-- test: skip -->\n```sh\nls\n```", "nobody knows"),
            ("<!-- test: sometimes -->\n```sh\nls\n```", "nobody knows"),
            ("<!-- test: skip ten machines -->\ntext\n```sh\nls\n```", "directly above"),
            ("<!-- test: expect -->\n```text\nls\n```", "nothing before it"),
            ("```sh\na\n```\n<!-- test: skip a b -->\n<!-- test: expect -->\n```text\nls\n```", "two comments"),
            ("<!-- test: retry -->\n```toml\nls\n```", "only commands"),
            ("```console\nls\n```", "first line"),
        ];
        for (text, expected) in cases {
            let Page { mistakes, .. } = page(text);
            assert!(mistakes.iter().any(|(_, said)| said.contains(expected)), "{text}: {mistakes:?}");
        }
    }
}
