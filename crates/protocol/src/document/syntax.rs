//! TOML itself: text → a tree with a span on every key, and all syntax errors. Bounded before the tree is built, since
//! a tree as deep as the text is long would overflow the stack when dropped.

use std::ops::Range;

use toml::de::DeTable;
use toml_parser::{ParseError, Source, lexer::TokenKind, parser::RecursionGuard};

use super::MISTAKES_MAX;

/// The most parts that a dotted key may have: `a.b.c` has three.
pub const KEY_PARTS_MAX: usize = 64;

/// How deep arrays and inline tables may lie in each other while errors are counted; toml has a like limit of its own.
const NESTING_MAX: u32 = 80;

/// Something that is no TOML.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) law: String,
    /// Where the bracket is that is never closed and stands before this: whatever follows it is broken.
    pub(crate) unclosed: Option<usize>,
}

impl SyntaxError {
    fn new(at: usize, law: String, open: Option<usize>) -> Self {
        let unclosed = open.filter(|open| *open < at);
        Self { at, law, unclosed }
    }
}

/// The tree, as far as it could be read, and all syntax errors. No tree where there is nothing worth looking at.
pub(crate) fn parse(text: &str) -> (Option<DeTable<'_>>, Vec<SyntaxError>) {
    if let Some(error) = too_deep(text) {
        return (None, vec![error]);
    }
    if let Some(errors) = hopeless(text) {
        return (None, errors);
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let open = if errors.is_empty() { None } else { never_closed(text) };
    let errors = errors
        .into_iter()
        .map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            SyntaxError::new(at, format!("is no TOML: {}", error.message()), open)
        })
        .collect();
    (Some(root.into_inner()), errors)
}

fn too_deep(text: &str) -> Option<SyntaxError> {
    let mut dots = 0_usize;
    for token in Source::new(text).lex() {
        dots = match token.kind() {
            TokenKind::Dot => dots + 1,
            TokenKind::Newline
            | TokenKind::Comma
            | TokenKind::Equals
            | TokenKind::LeftSquareBracket
            | TokenKind::RightSquareBracket
            | TokenKind::LeftCurlyBracket
            | TokenKind::RightCurlyBracket
            | TokenKind::Comment => 0,
            _ => dots,
        };
        if dots >= KEY_PARTS_MAX {
            let law = format!("is too deep: a key has at most {KEY_PARTS_MAX} parts");
            return Some(SyntaxError::new(token.span().start(), law, None));
        }
    }
    None
}

/// The outermost bracket of a value that is open at the end of the text.
fn never_closed(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let (mut begins_line, mut in_header) = (true, false);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Newline => (begins_line, in_header) = (true, false),
            TokenKind::Whitespace => {}
            // A table's name has brackets of its own.
            TokenKind::LeftSquareBracket if begins_line && open.is_empty() => (begins_line, in_header) = (false, true),
            _ if in_header => {}
            kind => {
                begins_line = false;
                let pair = match kind {
                    TokenKind::RightSquareBracket => TokenKind::LeftSquareBracket,
                    TokenKind::RightCurlyBracket => TokenKind::LeftCurlyBracket,
                    TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                        open.push((kind, token.span().start()));
                        continue;
                    }
                    _ => continue,
                };
                if open.last().is_some_and(|(last, _)| *last == pair) {
                    open.pop();
                }
            }
        }
    }
    open.first().map(|(_, at)| *at)
}

/// A text with more than [`MISTAKES_MAX`] syntax errors is some other kind of file: its tree would only cost memory.
fn hopeless(text: &str) -> Option<Vec<SyntaxError>> {
    let mut errors = Vec::new();
    let open = never_closed(text);
    let mut count = 0_usize;
    let mut sink = |error: ParseError| {
        count += 1;
        if errors.len() < MISTAKES_MAX {
            let at = error.unexpected().map_or(0, |span| span.start());
            errors.push(SyntaxError::new(at, format!("is no TOML: {}", error.description()), open));
        }
    };
    let tokens = Source::new(text).lex().into_vec();
    let mut nothing = ();
    let mut guard = RecursionGuard::new(&mut nothing, NESTING_MAX);
    toml_parser::parser::parse_document(&tokens, &mut guard, &mut sink);
    (count > MISTAKES_MAX).then_some(errors)
}

/// Where lines begin, to turn offsets into places.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    last: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        // The end of a file that ends with line breaks belongs to its last line that says something.
        Self { text, starts, last: text.trim_end().len() }
    }

    /// Line and column of an offset, both from 1, the column in characters.
    pub(crate) fn place(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.last);
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }

    /// How many lines there are.
    pub(crate) fn count(&self) -> usize {
        self.starts.len()
    }

    /// The text of a line counted from 1, without white space around it.
    pub(crate) fn line(&self, line: usize) -> &'a str {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or("").trim()
    }
}

/// A piece of the text for people: one line, no control characters, cut where it is long.
pub(crate) fn excerpt(text: &str, span: Range<usize>) -> String {
    const CHARS_MAX: usize = 60;
    let mut said = String::new();
    let mut chars = text.get(span).unwrap_or("").chars();
    let mut spaces = false;
    for (count, c) in chars.by_ref().enumerate() {
        if count == CHARS_MAX {
            said.push('…');
            break;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' if spaces => continue,
            ' ' | '\t' | '\n' | '\r' => said.push(' '),
            c if c.is_control() => said.extend(c.escape_default()),
            c => said.push(c),
        }
        spaces = c.is_ascii_whitespace();
    }
    said
}
