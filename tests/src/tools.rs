//! Programs that a test needs and a machine may lack.

#![expect(clippy::print_stdout, reason = "whoever reads the run is to know what did not run")]

use std::{fs, io::Write as _, process::Command};

/// Whether a program is there, in the administrator's folders too; counts the skip where `cargo xtask test` reads it.
pub fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success()) || skip(&format!("{program} is not installed"))
}

/// Says and counts that a test, or a part of it, does not run. Always false.
pub fn skip(reason: &str) -> bool {
    println!("SKIP: {reason}");
    let list = std::env::var_os("PERIGEE_SKIPS");
    let file = list.and_then(|list| fs::OpenOptions::new().append(true).create(true).open(list).ok());
    if let Some(mut file) = file {
        let line = format!("SKIP: {reason}: the test of it did not run\n");
        assert!(file.write_all(line.as_bytes()).is_ok(), "the list of skips takes no line");
    }
    false
}
