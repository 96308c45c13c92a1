//! The `perigee` command as a process: what it prints, how it exits, and the demo as a whole.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod check;
mod configure;
mod demo;
mod distance;
mod explain;
mod geo;
mod geo_diff;
mod geo_fetch;
mod geo_fetch_odds;
mod geo_fetch_several;
mod measure;
mod measure_odds;
mod origin;
mod page;
mod pop;
mod purge;
mod status;
mod streams;

use std::{ffi::OsStr, process::Command};

/// What a run of the command came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn perigee<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_perigee"))
        .args(arguments)
        .env_remove("PERIGEE_ADMIN")
        .env_remove("PERIGEE_TOKEN")
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn help_explains_every_command_with_an_example() {
    for command in [
        &["check"][..],
        &["init"],
        &["fmt"],
        &["schema"],
        &["man"],
        &["completions"],
        &["geo", "build"],
        &["geo", "lookup"],
        &["geo", "fetch"],
        &["geo", "diff"],
        &["geo", "stats"],
        &["status"],
        &["measure"],
        &["purge"],
        &["explain", "http"],
        &["explain", "rule"],
        &["explain", "dns"],
        &["page"],
        &["demo"],
        &["origin"],
    ] {
        let ran = perigee(command.iter().chain(&["--help"]));
        assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
        assert!(
            ran.stdout.contains("Example") && ran.stdout.contains(&command.join(" ")),
            "{command:?}: {}",
            ran.stdout
        );
    }
    assert!(perigee(["--help"]).stdout.contains("Exit status"));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for wrong in [
        &[][..],
        &["frobnicate"],
        &["check", "a", "b"],
        &["geo", "lookup", "x", "no-address"],
        &["demo", "--edge-port", "0"],
    ] {
        assert_eq!(perigee(wrong).code, Some(2), "{wrong:?}");
    }
}
