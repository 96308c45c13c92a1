//! Running other programs, and where the workspace is.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The workspace's top folder.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it for what it runs; the built-in value serves a binary that is called by itself.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The cargo that runs us, in the workspace's top folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command that shares our output; its failure is ours.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let said = describe(command);
    let status = command.status().with_context(|| format!("cannot run {said}"))?;
    ensure!(status.success(), "{said} failed: {status}");
    Ok(())
}

/// What a command prints; its failure, with what it complained of, is ours.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let said = describe(command);
    let output = command.output().with_context(|| format!("cannot run {said}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said} failed: {}\n{complaint}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{said} prints no UTF-8"))
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
