//! What a misspelt word most likely meant.

/// The known word that a misspelt one most likely meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const WORD_BYTES_MAX: usize = 64;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let (distance, near) = known.into_iter().map(|name| (edits(word, name), name)).min()?;
    (distance <= 1 + near.len() / 4).then_some(near)
}

/// Levenshtein's distance, over bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let known = ["hosts", "origins", "host_header", "pops"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("host", Some("hosts"));
        check("orgins", Some("origins"));
        check("hostheader", Some("host_header"));
        check("pop", Some("pops"));
        check("certificate", None);
        check("", None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
