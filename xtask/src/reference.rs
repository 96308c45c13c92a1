//! `cargo xtask reference`: what is made from the table of the document's keys, and whether it is current; and docs/metrics.md, made
//! from what the built programs export by the test that otherwise finds it stale.

use std::fs;

use anyhow::{Context, Result};
use perigee_protocol::document::keys::{SCHEMA_FILE, markdown, schema};

use crate::run::{cargo, root, succeed};

/// Each file below the workspace's top folder, with its text.
fn files() -> [(String, String); 2] {
    [("docs/configuration.md".to_owned(), markdown()), (format!("docs/{SCHEMA_FILE}"), schema())]
}

/// Writes the files.
pub(crate) fn run(_: &[String]) -> Result<()> {
    for (name, text) in files() {
        fs::write(root().join(&name), text).with_context(|| name.clone())?;
    }
    succeed(cargo().args(["build", "--workspace", "--bins"]))?;
    let test = ["test", "--package", "perigee-tests", "--test", "ops", "--", "what_is_exported"];
    succeed(cargo().args(test).env("PERIGEE_REFERENCE", "write"))
}

/// The files that are not what they would be made to.
pub(crate) fn stale() -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for (name, text) in files() {
        let there = fs::read_to_string(root().join(&name)).with_context(|| name.clone())?;
        if there != text {
            stale.push(format!("{name} is stale: run `cargo xtask reference`"));
        }
    }
    Ok(stale)
}
