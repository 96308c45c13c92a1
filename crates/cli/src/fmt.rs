//! `perigee fmt`: the canonical form of a document, with its comments. taplo lays it out; this module refuses what taplo would
//! not keep as it is, and never writes a text that says anything else than the old one.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use perigee_protocol::document::{check_syntax, limits::DOCUMENT_BYTES_MAX};
use similar::{ChangeTag, TextDiff};
use taplo::{formatter, parser};

use crate::geo::replace;

/// How wide a line may be before its arrays are broken, in characters.
const COLUMNS: usize = 140;
/// What names the standard input.
const STDIN: &str = "-";

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// The documents; - reads standard input and writes standard output
    #[arg(value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) files: Vec<PathBuf>,
    /// Write nothing: say what would change, and exit 1 if anything would
    #[arg(long)]
    pub(crate) check: bool,
}

/// Formats each file; false where `--check` found one that is not in canonical form.
pub(crate) fn fmt(args: &FmtArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut canonical = true;
    for file in &args.files {
        let old = read(file)?;
        let name = if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() };
        let new = format(&name, &old)?;
        if args.check {
            canonical &= old == new;
            out.write_all(changes(&name, &old, &new).as_bytes())?;
        } else if is_stdin(file) {
            out.write_all(new.as_bytes())?;
        } else if old != new {
            write(file, &new)?;
            writeln!(out, "formatted {name}")?;
        }
    }
    Ok(canonical)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == STDIN
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut limited: Box<dyn io::Read> = if is_stdin(file) {
        Box::new(io::stdin().lock().take(DOCUMENT_BYTES_MAX as u64 + 1))
    } else {
        let open = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        Box::new(open.take(DOCUMENT_BYTES_MAX as u64 + 1))
    };
    limited.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|_| anyhow!("{}: is not UTF-8 text: is it the right file?", file.display()))
}

/// Keeps the file's mode, and writes through a link to what it points at.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let place = fs::canonicalize(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mode = fs::metadata(&place).with_context(|| format!("cannot write {}", file.display()))?.permissions();
    replace(&place, text.as_bytes())?;
    fs::set_permissions(&place, mode).with_context(|| format!("cannot set the mode of {}", file.display()))
}

/// The canonical form of a text. Mistakes of the grammar are told; those of the document are none of its business.
pub(crate) fn format(name: &str, text: &str) -> anyhow::Result<String> {
    if let Err(mistakes) = check_syntax(name, text) {
        bail!("{mistakes}");
    }
    // Some editors begin a file with a mark of its byte order, which says nothing and which taplo does not know.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = parser::parse(text);
    if let Some(error) = parsed.errors.first() {
        let line = text.get(..error.range.start().into()).unwrap_or(text).matches('\n').count() + 1;
        bail!("{name}:{line}: cannot be formatted: {}; TOML 1.0 can say it otherwise", error.message);
    }
    let options = formatter::Options {
        column_width: COLUMNS,
        // So that no line changes for the sake of another.
        align_comments: false,
        inline_table_expand: false,
        array_auto_collapse: false,
        allowed_blank_lines: 1,
        ..formatter::Options::default()
    };
    let new = formatter::format_syntax(parsed.into_syntax(), options);
    if meaning(&new) != meaning(text) || comments(&new) != comments(text) {
        bail!("{name}: cannot be formatted without changing what it says; please report this document");
    }
    Ok(new)
}

fn meaning(text: &str) -> Option<toml::Table> {
    toml::from_str(text).ok()
}

/// The comments of a text in their order, without white space around them.
fn comments(text: &str) -> Vec<String> {
    let tree = parser::parse(text).into_syntax();
    let tokens = tree.descendants_with_tokens().filter_map(|element| element.into_token());
    tokens
        .filter(|token| token.kind() == taplo::syntax::SyntaxKind::COMMENT)
        .map(|token| token.text().trim().to_owned())
        .collect()
}

/// The lines that change, under the number of the first of them in the old text.
fn changes(name: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let mut said = String::new();
    let (mut line, mut is_changing) = (1, false);
    for change in diff.iter_all_changes() {
        let text = change.value().trim_end_matches(['\n', '\r']);
        if change.tag() != ChangeTag::Equal && !is_changing {
            said.push_str(&format!("{name}:{line}\n"));
        }
        is_changing = change.tag() != ChangeTag::Equal;
        match change.tag() {
            ChangeTag::Delete => said.push_str(&format!("  - {text}\n")),
            ChangeTag::Insert => said.push_str(&format!("  + {text}\n")),
            ChangeTag::Equal => {}
        }
        line += usize::from(change.tag() != ChangeTag::Insert);
    }
    said
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLES: [&str; 3] = [
        include_str!("../../../deploy/example.toml"),
        include_str!("../../../deploy/cdn.toml"),
        include_str!("../../../deploy/rules.toml"),
    ];

    fn check(text: &str, expected: &str) {
        assert_eq!(format("f", text).unwrap(), expected);
    }

    #[test]
    fn the_canonical_form() {
        check(
            "[cdn]\nzone=\"a\"   # why\n\n\n\nttl   = '5s'\n# end",
            "[cdn]\nzone = \"a\" # why\n\nttl = '5s'\n# end\n",
        );
        check("a=[ 1,2 ,3]\nb={c=1,d = 2}\n", "a = [1, 2, 3]\nb = { c = 1, d = 2 }\n");
        check("  [ a . b ]\r\n  c = 1\r\n", "[a.b]\nc = 1\n");
        check("a = 1    # x\nlong = 2 # y\n", "a = 1 # x\nlong = 2 # y\n");
        check("a = [\n1,\n # two\n2 ]\n", "a = [\n  1,\n  # two\n  2,\n]\n");
        check("", "\n");
        check("\u{feff}a=1\r\n", "a = 1\n");
        // What stands in strings is not laid out.
        let odd = "a=\"\"\"\r\nx  \r\n\"\"\"\r\nb='''  y'''\r\n";
        check(odd, "a = \"\"\"\r\nx  \r\n\"\"\"\nb = '''  y'''\n");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let error = format("f.toml", "[cdn]\nzone = \n").unwrap_err().to_string();
        assert!(error.contains("f.toml:2"), "{error}");
        assert!(format("f", &format!("{} = 1", ["a"; 100_000].join("."))).is_err());
        assert!(format("f", &format!("a = {}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn examples_are_in_canonical_form() {
        for text in EXAMPLES {
            check(text, text);
        }
    }

    #[test]
    fn changes_are_told_by_line() {
        assert_eq!(changes("f", "a=1\nb = 2\n", "a = 1\nb = 2\n"), "f:1\n  - a=1\n  + a = 1\n");
        assert_eq!(changes("f", "a = 1\n", "a = 1\n"), "");
        let text = "a = 1\n\n\n\nb=2\nc=3\nd = 4\ne=5\n";
        let expected = "f:3\n  - \n  - \n  - b=2\n  - c=3\n  + b = 2\n  + c = 3\nf:8\n  - e=5\n  + e = 5\n";
        assert_eq!(changes("f", text, &format("f", text).unwrap()), expected);
    }

    /// Documents with odd spacing, comments and line breaks at every place that may have them.
    fn odd() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            "[1-9][0-9]{0,4}",
            "\"[a-zé# ]{0,8}\"",
            "'[a-z\\\\]{0,8}'",
            "\"\"\"\n[a-z \n]{0,8}\"\"\"",
            Just("[ ]".to_owned()),
            Just("{}".to_owned()),
            Just("{ a = 1,b={c=[1,2]} }".to_owned()),
            Just("[1,\n  2 , # two\n\n # three\n 3 ]".to_owned()),
            Just("[{ a=1 }, {b = \"x\"}]".to_owned()),
            Just("07:32:00".to_owned()),
            Just("1e3".to_owned()),
            Just("[ \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\", \"ccccccccccccccccccccccccccccccccccccc\" ]".to_owned()),
        ];
        let comment = "( {0,3}#[ a-z]{0,6})?";
        let line = ("[ \t]{0,3}", value, comment, "\n{1,4}|\r\n", any::<bool>());
        proptest::collection::vec(line, 0..12).prop_map(|lines| {
            let mut text = String::new();
            for (number, (space, value, comment, end, head)) in lines.into_iter().enumerate() {
                if head {
                    text.push_str(&format!("{space}[ t{number} . \"x y\" ]{comment}{end}"));
                }
                text.push_str(&format!("{space}k{number}{space}={space}{value}{space}{comment}{end}"));
            }
            text
        })
    }

    fn value() -> impl Strategy<Value = toml::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(toml::Value::from),
            any::<i64>().prop_map(toml::Value::from),
            (-1e9..1e9).prop_map(toml::Value::from),
            "\\PC{0,12}|[\"'\\\\\r\n\t#]{0,6}".prop_map(toml::Value::from),
            Just(toml::Value::Datetime("1979-05-27T07:32:00Z".parse().unwrap())),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let name = "[a-z]{1,4}|\\PC{0,5}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(toml::Value::from),
                proptest::collection::btree_map(name, inner, 0..6)
                    .prop_map(|table| toml::Value::Table(table.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_same_is_said(table in proptest::collection::btree_map("[a-z]{1,5}", value(), 0..6), is_pretty in any::<bool>()) {
            let table: toml::Table = table.into_iter().collect();
            let text = if is_pretty { toml::to_string_pretty(&table) } else { toml::to_string(&table) }.unwrap();
            let new = match format("f", &text) {
                Ok(new) => new,
                // Of strings over several lines taplo does not know all; they are refused, and nothing is written.
                Err(_) if text.contains("\"\"\"") || text.contains("'''") => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(format!("{error}\n{text}"))),
            };
            prop_assert_eq!(toml::from_str::<toml::Table>(&new).unwrap(), table);
            prop_assert_eq!(format("f", &new).unwrap(), new);
        }

        #[test]
        fn once_is_enough(text in odd()) {
            let once = format("f", &text).unwrap();
            prop_assert_eq!(format("f", &once).unwrap(), once);
        }

        #[test]
        fn any_text(text in "[\\[\\]{}=.,\"'#a-z0-9 \t\r\n]{0,60}") {
            if let Ok(once) = format("f", &text) {
                prop_assert_eq!(format("f", &once).unwrap(), once);
            }
        }
    }
}
