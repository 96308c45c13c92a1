//! `cargo xtask fuzz`: a target of `fuzz/` under libFuzzer, on a stable compiler. The program is built apart from everything
//! else, with the instrumentation that the engine steers by; what it finds stays in `target/fuzz` until `--keep` packs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, output, root, succeed};

const SECONDS_DEFAULT: u64 = 60;
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u64 = 10;
const MEMORY_MIB_MAX: u64 = 2_048;

/// Edges taken, and what was compared with what: the engine's eyes.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Clink-dead-code",
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let asked = Asked::read(arguments)?;
    let known = targets()?;
    ensure!(known.contains(&asked.target), "there is no target {:?}, but {}", asked.target, known.join(", "));
    let folder = root().join("target/fuzz");
    let inputs = folder.join("inputs").join(&asked.target);
    let found = folder.join("found");
    fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let program = build(&folder)?;
    succeed(engine(&program, &asked.target).env("PERIGEE_FUZZ_UNPACK", &inputs))?;
    let mut engine = engine(&program, &asked.target);
    engine.arg(&inputs).args([
        format!("-max_total_time={}", asked.seconds),
        format!("-artifact_prefix={}/{}-", found.display(), asked.target),
        "-print_final_stats=1".into(),
        "-use_value_profile=1".into(),
    ]);
    succeed(&mut engine).with_context(|| format!("what breaks a law is in {}", found.display()))?;
    if asked.keep {
        keep(&program, &asked.target, &folder, &inputs)?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    target: String,
    seconds: u64,
    keep: bool,
}

impl Asked {
    fn read(arguments: &[String]) -> Result<Self> {
        let Some((target, mut rest)) = arguments.split_first() else {
            bail!("name a target: {}", targets()?.join(", "))
        };
        let mut asked = Self { target: target.clone(), seconds: SECONDS_DEFAULT, keep: false };
        loop {
            rest = match rest {
                [] => return Ok(asked),
                [keep, rest @ ..] if keep == "--keep" => {
                    asked.keep = true;
                    rest
                }
                [seconds, value, rest @ ..] if seconds == "--seconds" => {
                    asked.seconds = value.parse().with_context(|| format!("--seconds {value}: not a number"))?;
                    rest
                }
                [other, ..] => bail!("takes --seconds N and --keep, not {other:?}"),
            };
        }
    }
}

/// Each has a corpus.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/corpus");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build(folder: &Path) -> Result<PathBuf> {
    // With a target named, build scripts and macros are built without the instrumentation.
    let host = host()?;
    let mut command = cargo();
    command
        .args(["build", "--release", "--package", "perigee-fuzz", "--features", "engine", "--target", &host])
        .arg("--target-dir")
        .arg(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true");
    succeed(&mut command)?;
    Ok(folder.join(host).join("release/perigee-fuzz"))
}

/// The triple that this compiler compiles for.
fn host() -> Result<String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for what it compiles")?.to_owned())
}

fn engine(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    let limits = [format!("-timeout={INPUT_SECONDS_MAX}"), format!("-rss_limit_mb={MEMORY_MIB_MAX}")];
    command.env("PERIGEE_FUZZ_TARGET", target).args(limits);
    command
}

/// Lets the engine choose the fewest inputs that see as much, and packs them into the repository.
fn keep(program: &Path, target: &str, folder: &Path, inputs: &Path) -> Result<()> {
    let least = folder.join("least").join(target);
    if least.exists() {
        fs::remove_dir_all(&least).with_context(|| least.display().to_string())?;
    }
    fs::create_dir_all(&least).with_context(|| least.display().to_string())?;
    succeed(engine(program, target).arg("-merge=1").arg(&least).arg(inputs))?;
    succeed(engine(program, target).env("PERIGEE_FUZZ_PACK", &least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |line: &str, expected: Option<(&str, u64, bool)>| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let asked = Asked::read(&words).ok();
            let expected = expected.map(|(target, seconds, keep)| Asked { target: target.into(), seconds, keep });
            assert_eq!(asked, expected, "{line}");
        };
        check("answer", Some(("answer", 60, false)));
        check("geo --seconds 5 --keep", Some(("geo", 5, true)));
        check("geo --keep --seconds 5", Some(("geo", 5, true)));
        for bad in ["", "geo --seconds", "geo --seconds x", "geo --for 5"] {
            check(bad, None);
        }
    }

    #[test]
    fn names() {
        assert!(targets().unwrap().contains(&"answer".to_owned()));
    }
}
