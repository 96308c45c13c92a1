//! `perigee check`: the document as a node would read it, without starting one; and what a key of it is for.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::bail;
use clap::Args;
use perigee_geodns::zones;
use perigee_node::document::{DocumentError, Loaded, read};
use perigee_protocol::document::{Mistakes, keys};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The document, usually perigee.toml
    #[arg(value_name = "FILE", required_unless_present = "explain")]
    pub(crate) file: Option<PathBuf>,
    /// Say what a key is for instead, what it may be, and what holds without it: site.cache.vary_limit
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    pub(crate) explain: Option<String>,
}

/// Performs what the flags ask for; false where the document has mistakes.
pub(crate) fn run(args: &CheckArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    match (&args.explain, &args.file) {
        (Some(key), _) => {
            writeln!(out, "{}", keys::explain(key)?)?;
            Ok(true)
        }
        (None, Some(file)) => check(file, out),
        (None, None) => bail!("name a document"),
    }
}

/// Writes `ok` and returns true, or writes every mistake of the document, or else of its zone files and files of prefixes,
/// and returns false.
fn check(file: &Path, out: &mut impl Write) -> anyhow::Result<bool> {
    match read(file) {
        Ok(loaded) => match check_files(&loaded) {
            Ok(()) => {
                writeln!(out, "ok")?;
                Ok(true)
            }
            Err(mistakes) => {
                writeln!(out, "{mistakes}")?;
                Ok(false)
            }
        },
        Err(DocumentError::Mistakes(mistakes)) => {
            writeln!(out, "{mistakes}")?;
            Ok(false)
        }
        Err(other) => Err(other.into()),
    }
}

fn check_files(loaded: &Loaded) -> Result<(), Mistakes> {
    let folder = loaded.resolve(Path::new(""));
    zones::load(&loaded.document, &folder)?;
    zones::load_prefixes(&loaded.document, &folder)?;
    Ok(())
}
