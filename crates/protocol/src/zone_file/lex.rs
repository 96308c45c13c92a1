//! Bytes → entries of tokens (RFC 1035 §5.1): comments, parentheses, quotes, escapes. Escapes stay as they are; octets that
//! are no printable ASCII become escapes.

/// A word or a quoted string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Printable ASCII; of a quoted string what stands between the quotes.
    pub(super) text: String,
    pub(super) is_quoted: bool,
}

impl Token {
    /// As it stood, quotes included.
    pub(super) fn raw(&self) -> String {
        if self.is_quoted { format!("\"{}\"", self.text) } else { self.text.clone() }
    }
}

/// One directive or record: a line, or several where parentheses join them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Whether white space stands before the first token: the owner is the last one then.
    pub(super) is_indented: bool,
    /// At least one.
    pub(super) tokens: Vec<Token>,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) law: &'static str,
    pub(super) remedy: &'static str,
}

/// Reads entry after entry; goes on with the next line after a fault.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Self { bytes, at: 0, line: 1 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_line(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }

    fn fault(&mut self, line: usize, law: &'static str, remedy: &'static str) -> Fault {
        self.skip_line();
        Fault { line, law, remedy }
    }

    fn entry(&mut self) -> Result<Option<Entry>, Fault> {
        let mut entry = Entry { line: self.line, is_indented: false, tokens: Vec::new() };
        let mut opened_at = None;
        let mut is_line_start = true;
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    if opened_at.is_none() {
                        if !entry.tokens.is_empty() {
                            return Ok(Some(entry));
                        }
                        (entry.line, entry.is_indented, is_line_start) = (self.line, false, true);
                        continue;
                    }
                }
                b' ' | b'\t' | b'\r' => {
                    self.at += 1;
                    entry.is_indented |= is_line_start && byte != b'\r';
                }
                b';' => self.skip_line(),
                b'(' => {
                    self.at += 1;
                    if opened_at.replace(self.line).is_some() {
                        return Err(self.fault(self.line, "parentheses do not nest", "remove the inner ones"));
                    }
                }
                b')' => {
                    self.at += 1;
                    if opened_at.take().is_none() {
                        return Err(self.fault(self.line, "closes a parenthesis that is not open", "remove it"));
                    }
                }
                b'"' => entry.tokens.push(self.quoted()?),
                _ => entry.tokens.push(self.word()?),
            }
            is_line_start = false;
        }
        match opened_at {
            Some(line) => Err(Fault { line, law: "opens a parenthesis that nothing closes", remedy: "add )" }),
            None => Ok(Some(entry).filter(|entry| !entry.tokens.is_empty())),
        }
    }

    /// The octet at hand as text; an escape with what it escapes.
    fn push_octet(&mut self, text: &mut String, byte: u8) -> Result<(), Fault> {
        self.at += 1;
        if byte != b'\\' {
            push_printable(text, byte);
            return Ok(());
        }
        const REMEDY: &str = "write \\ and the character, or \\ and three digits up to 255";
        text.push('\\');
        match self.peek() {
            None | Some(b'\n' | b'\r') => Err(self.fault(self.line, "ends within an escape", REMEDY)),
            Some(b'0'..=b'9') => {
                let digits =
                    self.bytes.get(self.at..self.at + 3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let Some(digits) = digits.filter(|digits| digits.parse::<u8>().is_ok()) else {
                    return Err(self.fault(self.line, "has an escape that is no octet", REMEDY));
                };
                text.push_str(digits);
                self.at += 3;
                Ok(())
            }
            Some(byte @ 0x20..=0x7e) => {
                self.at += 1;
                text.push(char::from(byte));
                Ok(())
            }
            Some(byte) => {
                // `\` before what is not printable: its number says the same.
                self.at += 1;
                text.pop();
                push_printable(text, byte);
                Ok(())
            }
        }
    }

    fn quoted(&mut self) -> Result<Token, Fault> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some(b'\n') => {
                    return Err(self.fault(
                        self.line,
                        "has a string that its line does not close",
                        "add the closing \"",
                    ));
                }
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token { text, is_quoted: true });
                }
                Some(byte) => self.push_octet(&mut text, byte)?,
            }
        }
    }

    /// A word. RFC 9460 §2.1: after `=` a quoted string may follow, which belongs to it.
    fn word(&mut self) -> Result<Token, Fault> {
        let mut text = String::new();
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' => break,
                b'"' if text.ends_with('=') => {
                    let value = self.quoted()?;
                    text.push_str(&value.raw());
                }
                b'"' => {
                    let law = "has a quote in the middle of a word";
                    return Err(self.fault(self.line, law, "put a space before the string, or \\ before the quote"));
                }
                byte => self.push_octet(&mut text, byte)?,
            }
        }
        Ok(Token { text, is_quoted: false })
    }
}

fn push_printable(text: &mut String, byte: u8) {
    match byte {
        0x20..=0x7e => text.push(char::from(byte)),
        other => text.push_str(&format!("\\{other:03}")),
    }
}

impl Iterator for Lexer<'_> {
    type Item = Result<Entry, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entry().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let said = Lexer::new(text.as_bytes()).map(|entry| match entry {
            Ok(entry) => {
                let indent = if entry.is_indented { " " } else { "" };
                let tokens: Vec<_> = entry.tokens.iter().map(Token::raw).collect();
                format!("{}{indent}: {}", entry.line, tokens.join("|"))
            }
            Err(fault) => format!("{}! {}", fault.line, fault.law),
        });
        assert_eq!(said.collect::<Vec<_>>(), expected, "{text:?}");
    }

    #[test]
    fn entries() {
        check("", &[]);
        check("\n ; only a comment\n\t\n", &[]);
        check("a b\r\n c d", &["1: a|b", "2 : c|d"]);
        check("a ( b ; x (\n\n c )\n d", &["1: a|b|c", "4 : d"]);
        check("a(b)c", &["1: a|b|c"]);
        check("( a\nb ) c\nd", &["1: a|b|c", "3: d"]);
        check("a \"b ; ( c\" d", &["1: a|\"b ; ( c\"|d"]);
        check(r#"a b\;c \010\"x"#, &[r#"1: a|b\;c|\010\"x"#]);
        check("a k=\"v w\" x", &["1: a|k=\"v w\"|x"]);
        check("\u{feff}a \"\"", &["1: a|\"\""]);
        check("a \u{e4}", &[r"1: a|\195\164"]);
    }

    #[test]
    fn faults_end_with_their_line() {
        check("a ( (\nb", &["1! parentheses do not nest", "2: b"]);
        check("a ) b\nc", &["1! closes a parenthesis that is not open", "2: c"]);
        check("a (\nb\nc", &["1! opens a parenthesis that nothing closes"]);
        check("a \"b\nc", &["1! has a string that its line does not close", "2: c"]);
        check("a b\"c\"\nd", &["1! has a quote in the middle of a word", "2: d"]);
        check("a \\256\nb", &["1! has an escape that is no octet", "2: b"]);
        check("a \\2x\nb", &["1! has an escape that is no octet", "2: b"]);
        check("a \\\nb", &["1! ends within an escape", "2: b"]);
        check("a \\", &["1! ends within an escape"]);
    }
}
