//! `perigee check`: the document as a node would read it, without starting one; and what a key of it is for.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use perigee_geodns::zones;
use perigee_node::document::{DocumentError, Loaded, read};
use perigee_protocol::document::{Mistake, Mistakes, keys};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The document
    #[arg(value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) file: PathBuf,
    /// Print one JSON object
    #[arg(long, conflicts_with = "explain")]
    pub(crate) json: bool,
    /// Say what a key is for instead, what it may be, and what holds without it: site.cache.vary_limit
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    pub(crate) explain: Option<String>,
}

/// Performs what the flags ask for; false where the document has mistakes.
pub(crate) fn run(args: &CheckArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    if let Some(key) = &args.explain {
        writeln!(out, "{}", keys::explain(key)?)?;
        return Ok(true);
    }
    let mistakes = mistakes(&args.file)?;
    match &mistakes {
        _ if args.json => writeln!(out, "{}", object(mistakes.as_ref()))?,
        None => writeln!(out, "ok")?,
        Some(mistakes) => writeln!(out, "{mistakes}")?,
    }
    Ok(mistakes.is_none())
}

/// Every mistake of the document, or else of its zone files and files of prefixes; None where there is none.
fn mistakes(file: &Path) -> anyhow::Result<Option<Mistakes>> {
    match read(file) {
        Ok(loaded) => Ok(check_files(&loaded).err()),
        Err(DocumentError::Mistakes(mistakes)) => Ok(Some(mistakes)),
        Err(other) => Err(other.into()),
    }
}

fn object(mistakes: Option<&Mistakes>) -> Value {
    let one = |mistake: &Mistake| {
        let Mistake { file, line, column, path, said, law, remedy } = mistake;
        json!({
            "file": file, "line": line, "column": column, "path": path, "said": said, "law": law, "remedy": remedy,
        })
    };
    let told: Vec<Value> = mistakes.into_iter().flatten().map(one).collect();
    json!({ "ok": mistakes.is_none(), "count": mistakes.map_or(0, Mistakes::count), "mistakes": told })
}

fn check_files(loaded: &Loaded) -> Result<(), Mistakes> {
    let folder = loaded.resolve(Path::new(""));
    zones::load(&loaded.document, &folder)?;
    zones::load_prefixes(&loaded.document, &folder)?;
    Ok(())
}
