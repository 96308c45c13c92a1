//! `cargo xtask tidy`: the house rules that the compiler does not know. One line a check; every failure is named.

mod arrows;
mod documents;
mod source;

use anyhow::{Result, bail};

use crate::run::{cargo, output, succeed};

/// What a check found wrong; empty when all is well.
type Failures = Vec<String>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What needs no compiler.
    Quick,
    /// fmt and clippy too.
    All,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => check(Scope::All),
        [quick] if quick == "--quick" => check(Scope::Quick),
        _ => bail!("takes --quick or nothing"),
    }
}

/// Runs every check, whatever the others find, and fails if any did.
pub(crate) fn check(scope: Scope) -> Result<()> {
    let metadata: serde_json::Value =
        serde_json::from_str(&output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?)?;
    let packages = arrows::packages(&metadata)?;
    let sources = source::read(&packages)?;
    let mut checks: Vec<(&str, Result<Failures>)> = vec![
        ("arrows point downwards", Ok(arrows::downwards(&packages))),
        ("pure crates reach no runtime", arrows::pure(&packages)),
        ("pure crates use no IO, clock or chance", Ok(source::pure(&sources))),
        ("every crate says what it is for", Ok(source::headers(&sources))),
        ("every crate takes the workspace's lints", arrows::lints(&packages)),
        ("unsafe code only where it is allowed", Ok(source::unsafe_code(&sources))),
        ("every example document loads", documents::load()),
        ("what is made from the keys is current", crate::reference::stale()),
    ];
    if scope == Scope::All {
        checks.push(("cargo fmt", Ok(command(&["fmt", "--all", "--check", "--", "--files-with-diff"]))));
        let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        checks.push(("cargo clippy", Ok(command(&clippy))));
    }
    for warning in source::long_files(&sources) {
        println!("tidy: warning  {warning}");
    }
    let mut failed = 0;
    for (name, found) in checks {
        let failures = found.unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("tidy: {}  {name}", if failures.is_empty() { "ok    " } else { "FAILED" });
        for failure in &failures {
            println!("        {failure}");
        }
        failed += failures.len();
    }
    if failed > 0 { bail!("{failed} found wrong") } else { Ok(()) }
}

fn command(arguments: &[&str]) -> Failures {
    succeed(cargo().args(arguments)).err().map(|error| format!("{error:#}")).into_iter().collect()
}
