//! `cargo xtask test`: the one test command. The runner's own summary is the last thing it prints.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    bench,
    run::{cargo, root, succeed},
    tidy,
};

/// Names the file to which tests append `SKIP: reason`, one line each.
const SKIPS: &str = "PERIGEE_SKIPS";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let full = arguments.first().is_some_and(|first| first == "--full");
    let arguments = if full { arguments.get(1..).unwrap_or_default() } else { arguments };
    let continuous = std::env::var("CI").is_ok_and(|value| value == "true");
    tidy::check(if full || continuous { tidy::Scope::All } else { tidy::Scope::Quick })?;

    // Whole-system tests start the binaries, which a test build of other packages does not make.
    succeed(cargo().args(["build", "--workspace", "--bins"]))?;

    let skips = root().join("target").join(format!("skips-{}.txt", std::process::id()));
    fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
    // A release build: minutes the first time.
    let skipped = if full || continuous {
        bench::check_instructions()?
    } else {
        Some("bench instructions: only with --full or CI=true")
    };
    if let Some(reason) = skipped {
        fs::write(&skips, format!("{reason}\n")).with_context(|| format!("cannot write {}", skips.display()))?;
    }
    let (runner, mut command) = runner(arguments);
    command.env(SKIPS, &skips).current_dir(root());
    let (tail, passed) = stream(&mut command, runner)?;
    tell_skips(&skips)?;
    for line in tail {
        println!("{line}");
    }
    if !passed {
        // Without a word: the summary is the last thing to be read.
        std::process::exit(1);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    Nextest,
    Cargo,
}

fn runner(arguments: &[String]) -> (Runner, Command) {
    let mut command = cargo();
    let present = cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if present.is_ok_and(|status| status.success()) {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(arguments);
        return (Runner::Nextest, command);
    }
    command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments);
    (Runner::Cargo, command)
}

/// Passes on what the runner prints, and holds its summary back until the skips are told. `cargo test` has a summary for
/// each binary; theirs are added up.
fn stream(command: &mut Command, runner: Runner) -> Result<(Vec<String>, bool)> {
    let said = match runner {
        Runner::Nextest => command.stdout(Stdio::inherit()).stderr(Stdio::piped()),
        Runner::Cargo => command.stdout(Stdio::piped()).stderr(Stdio::inherit()),
    };
    let mut child = said.spawn().context("cannot run the tests")?;
    let lines: Box<dyn BufRead> = match (child.stderr.take(), child.stdout.take()) {
        (Some(stderr), _) => Box::new(BufReader::new(stderr)),
        (None, Some(stdout)) => Box::new(BufReader::new(stdout)),
        (None, None) => anyhow::bail!("the runner has no output"),
    };
    let mut tail = Vec::new();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for line in lines.split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line).into_owned();
        // With or without colours around its first word.
        let summary = line.contains("Summary") && line.contains("tests run:");
        if runner == Runner::Cargo
            && let Some(counts) = counts(&line)
        {
            passed += counts.0;
            failed += counts.1;
            ignored += counts.2;
        }
        if runner == Runner::Nextest && (summary || !tail.is_empty()) {
            tail.push(line);
        } else {
            println!("{line}");
        }
    }
    std::io::stdout().flush()?;
    let status = child.wait().context("cannot wait for the tests")?;
    if runner == Runner::Cargo {
        let result = if failed == 0 && status.success() { "ok" } else { "FAILED" };
        tail.push(format!("test result: {result}. {passed} passed; {failed} failed; {ignored} ignored (all binaries)"));
    }
    Ok((tail, status.success()))
}

/// Passed, failed, ignored of one binary's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts(line: &str) -> Option<(u64, u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let of = |what: &str| {
        counts.split(';').find_map(|part| part.trim().strip_suffix(what)).and_then(|number| number.trim().parse().ok())
    };
    Some((of("passed")?, of("failed")?, of("ignored")?))
}

fn tell_skips(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    let mut reasons: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let count = reasons.len();
    reasons.sort_unstable();
    reasons.dedup();
    println!("\nskipped by themselves: {count}");
    for reason in reasons {
        println!("  {reason}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn summaries() {
        let line = "test result: ok. 60 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 2.95s";
        assert_eq!(counts(line), Some((60, 1, 2)));
        assert_eq!(counts("test a::result: ok"), None);
    }
}
