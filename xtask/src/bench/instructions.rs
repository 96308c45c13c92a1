//! Instructions of a hit in the engine, counted by callgrind: the one figure that neither a neighbour nor a clock moves.
//!
//! The example `hit` of `perigee-cache` answers as many hits as it is told; two runs of different length differ by hits
//! alone. The count is compared with the committed one, so that what makes hits dearer is seen when it is made.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

use super::peers::present;
use crate::run::{cargo, output, root, succeed};

/// Where the committed count is.
const FILE: &str = "xtask/hit-instructions.txt";
/// Either way: compilers change, and so do counts without anybody's doing.
const TOLERANCE: f64 = 0.03;
const FEW: u64 = 1_000;
const MANY: u64 = 6_000;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let accept = match arguments {
        [] => false,
        [flag] if flag == "--accept" => true,
        _ => bail!("takes --accept (writes the count down) or nothing"),
    };
    ensure!(present("valgrind"), "valgrind is not installed (Debian: valgrind)");
    let count = count()?;
    let file = root().join(FILE);
    if accept {
        fs::write(&file, format!("{count:.0}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        println!("a hit takes {count:.0} instructions; written to {FILE}");
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let known: f64 = text.trim().parse().with_context(|| format!("{FILE} holds no number"))?;
    println!("a hit takes {count:.0} instructions; {known:.0} were written down");
    judge(count, known)
}

/// As part of the tests: why it was skipped, if it was.
pub(crate) fn check() -> Result<Option<&'static str>> {
    if !present("valgrind") {
        return Ok(Some("bench instructions: valgrind is not installed"));
    }
    run(&[]).map(|()| None)
}

fn judge(count: f64, known: f64) -> Result<()> {
    let ratio = count / known;
    ensure!(ratio <= 1.0 + TOLERANCE, "a hit became dearer by {:.1} %", (ratio - 1.0) * 100.0);
    ensure!(
        ratio >= 1.0 - TOLERANCE,
        "a hit became cheaper by {:.1} %: write it down by `cargo xtask bench instructions --accept`",
        (1.0 - ratio) * 100.0
    );
    Ok(())
}

fn count() -> Result<f64> {
    succeed(cargo().args(["build", "--quiet", "--release", "--package", "perigee-cache", "--example", "hit"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = target.join("release/examples/hit");
    let run = |hits: u64| -> Result<u64> {
        let out = std::env::temp_dir().join(format!("perigee-hit-{}-{hits}.callgrind", std::process::id()));
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
        // What a request takes and nothing else: a clock that calibrates itself at the start loops by time.
        command.arg(format!("--toggle-collect={REQUEST}"));
        output(command.arg(&program).arg(hits.to_string()))?;
        let told = fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
        fs::remove_file(&out)?;
        totals(&told).context("callgrind tells no total")
    };
    Ok((run(MANY)?.saturating_sub(run(FEW)?)) as f64 / (MANY - FEW) as f64)
}

/// The function of the example that makes one request and reads its answer.
const REQUEST: &str = "hit::ask::*";

/// Of `totals: 1234` or `summary: 1234`.
fn totals(told: &str) -> Option<u64> {
    let line = told.lines().rev().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_either_way() {
        let check = |count: f64, good: bool| assert_eq!(judge(count, 1000.0).is_ok(), good, "{count}");
        check(1030.0, true);
        check(1031.0, false);
        check(970.0, true);
        check(969.0, false);
        assert_eq!(totals("events: Ir\nsummary: 12\n\ntotals: 34\n"), Some(34));
        assert_eq!(totals("nothing"), None);
    }
}
