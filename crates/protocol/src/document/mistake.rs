//! What is wrong with a document: every mistake with its place, what the file says, the law, and a way out.

use std::fmt;

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The document's name, as given to [`crate::document::load`].
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// `site.shop.origins[0].url`; elements of arrays of tables are named by their id where they have one. Empty where
    /// the text is no TOML.
    pub path: String,
    /// What the file says there, on one line and cut where it is long. None where the key is missing or the key itself
    /// is the mistake.
    pub said: Option<String>,
    /// What must hold: `must be 1..=16`.
    pub law: String,
    /// What to do: `remove the line for the default (2)`. May be empty.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}  ", self.file, self.line)?;
        match (self.path.is_empty(), &self.said) {
            (false, Some(said)) => writeln!(f, "{} = {said}", self.path)?,
            (false, None) => writeln!(f, "{}", self.path)?,
            (true, said) => writeln!(f, "{}", said.as_deref().unwrap_or(""))?,
        }
        write!(f, "    {}", self.law)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// Every mistake of a document, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
    more: usize,
}

impl std::error::Error for Mistakes {}

/// How many mistakes a report holds; the rest is only counted.
pub const MISTAKES_MAX: usize = 1_000;

impl Mistakes {
    /// Sorts by place and cuts at [`MISTAKES_MAX`].
    pub(crate) fn new(mut list: Vec<Mistake>) -> Self {
        list.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        let more = list.len().saturating_sub(MISTAKES_MAX);
        list.truncate(MISTAKES_MAX);
        Self { list, more }
    }

    /// Mistakes of several files in the order given, of which `told_max` are held and the others counted.
    pub(crate) fn of_files(mut list: Vec<Mistake>, told_max: usize) -> Self {
        let more = list.len().saturating_sub(told_max);
        list.truncate(told_max);
        Self { list, more }
    }

    /// The mistakes, by line.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    /// How many there are, the ones beyond [`MISTAKES_MAX`] included.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}
