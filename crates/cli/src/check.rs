//! `perigee check`: the document as a node would read it, without starting one.

use std::{io::Write, path::Path};

use perigee_node::document::{DocumentError, read};

/// Writes `ok` and returns true, or writes every mistake and returns false.
pub(crate) fn check(file: &Path, out: &mut impl Write) -> anyhow::Result<bool> {
    match read(file) {
        Ok(_) => {
            writeln!(out, "ok")?;
            Ok(true)
        }
        Err(DocumentError::Mistakes(mistakes)) => {
            writeln!(out, "{mistakes}")?;
            Ok(false)
        }
        Err(other) => Err(other.into()),
    }
}
