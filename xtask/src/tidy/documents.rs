//! Every example document must load.

use std::fs;

use anyhow::{Context, Result, ensure};
use perigee_protocol::document;

use super::Failures;
use crate::run::root;

pub(super) fn load() -> Result<Failures> {
    let folder = root().join("deploy");
    let mut failures = Failures::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let name = path.file_name().map(|name| format!("deploy/{}", name.to_string_lossy())).unwrap_or_default();
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        if let Err(mistakes) = document::load(&name, &text) {
            failures.extend(mistakes.iter().map(ToString::to_string));
        }
    }
    ensure!(count > 0, "there is no example document in {}", folder.display());
    Ok(failures)
}
