//! Text as groff reads it (groff_man(7)).

/// Characters that groff would change or take for its own, as what prints them.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\e"),
            // As they are typed, and not as hyphen and quotation marks.
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// One line, which is no request whatever it begins with.
fn line(text: &str) -> String {
    let escaped = escape(text);
    if escaped.starts_with('.') { format!("\\&{escaped}\n") } else { format!("{escaped}\n") }
}

/// Paragraphs between empty lines. What is indented stands as it is typed.
pub(super) fn text(text: &str) -> String {
    let mut roff = String::new();
    for paragraph in text.trim_matches('\n').split("\n\n") {
        roff.push_str(".PP\n");
        let mut typed = false;
        for this in paragraph.lines() {
            let indented = this.starts_with(' ');
            if indented != typed {
                roff.push_str(if indented { ".RS 4\n.nf\n" } else { ".fi\n.RE\n" });
                typed = indented;
            }
            roff.push_str(&line(this.trim()));
        }
        if typed {
            roff.push_str(".fi\n.RE\n");
        }
    }
    roff
}

/// `.TP`: a term in bold, and what it is.
pub(super) fn term(term: &str, about: &[&str]) -> String {
    let mut roff = format!(".TP\n.B {}\n", escape(term));
    for (index, about) in about.iter().enumerate() {
        if index > 0 {
            roff.push_str(".br\n");
        }
        roff.push_str(&line(about));
    }
    roff
}

/// The section of other pages.
pub(super) fn see_also<'a>(pages: impl IntoIterator<Item = (&'a str, u8)>) -> String {
    let pages: Vec<String> =
        pages.into_iter().map(|(name, section)| format!(".BR {} ({section})", escape(name))).collect();
    format!(".SH SEE ALSO\n{}\n", pages.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_printed_as_it_is_typed() {
        for (given, expected) in [
            ("a\nb", ".PP\na\nb\n"),
            (".hidden\n'quoted' \\ --flag", ".PP\n\\&.hidden\n\\(aqquoted\\(aq \\e \\-\\-flag\n"),
            ("Example:\n  a b\nend\n\nnext", ".PP\nExample:\n.RS 4\n.nf\na b\n.fi\n.RE\nend\n.PP\nnext\n"),
            ("  last", ".PP\n.RS 4\n.nf\nlast\n.fi\n.RE\n"),
        ] {
            assert_eq!(text(given), expected, "{given}");
        }
        assert_eq!(term("--a", &["x", ".y"]), ".TP\n.B \\-\\-a\nx\n.br\n\\&.y\n");
        assert_eq!(see_also([("a-b", 1), ("c", 5)]), ".SH SEE ALSO\n.BR a\\-b (1),\n.BR c (5)\n");
    }
}
