//! Pieces of documents in the pages: keys and values that the document does not have are found, without the rest of a document.

use perigee_protocol::document;

/// What is wrong with a piece, each with its line in it. That the rest is not there is no mistake of a piece.
pub(crate) fn mistakes(piece: &str) -> Vec<(usize, String)> {
    // Tables of a site stand below one.
    let of_a_site = piece.contains("[site.") || piece.contains("[[site.");
    let (before, lines) = if of_a_site && !piece.contains("[[site]]") { ("[[site]]\n", 1) } else { ("", 0) };
    let Err(found) = document::load("piece", &format!("{before}{piece}")) else { return Vec::new() };
    let own = found.iter().filter(|mistake| {
        let elsewhere = mistake.law == "is missing" || mistake.law.starts_with("needs at least one");
        !elsewhere && !mistake.law.starts_with("must be the id of a PoP of this document")
    });
    own.map(|mistake| (mistake.line.saturating_sub(lines), format!("{}: {}", mistake.path, mistake.law))).collect()
}

#[cfg(test)]
mod tests {
    use super::mistakes;

    #[test]
    fn what_no_document_has_is_found() {
        let cases: [(&str, &[usize]); 7] = [
            ("[cdn]\nttl = \"30s\"\n", &[]),
            ("[[geo.override]]\npop = \"fra\"\nprefixes_file = \"a.txt\"\n", &[]),
            ("[[site.rule]]\nmatch = { path = \"/a\" }\ncache = { ttl = \"1h\" }\n", &[]),
            ("[cdn]\nttk = \"30s\"\n", &[2]),
            ("[cdn]\nttl = \"30 seconds\"\n", &[2]),
            ("[[site.rule]]\nmatch = { path = \"/a\" }\ncache = { ttk = \"1h\" }\n", &[3]),
            ("[cdn\n", &[1]),
        ];
        for (piece, lines) in cases {
            let found: Vec<_> = mistakes(piece).into_iter().map(|(line, _)| line).collect();
            assert_eq!(found, lines, "{piece}");
        }
    }
}
