//! What becomes of output that nobody reads or that has no room, and of colours where there is no terminal.

use std::{
    fs::File,
    process::{Command, Stdio},
};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee"));
    command.args(arguments);
    command
}

/// Ones that print text, and ones that print JSON in their own ways.
const COMMANDS: [&[&str]; 5] = [
    &["schema"],
    &["schema", "--markdown"],
    &["check", "--explain", "cdn"],
    &["completions", "bash"],
    &["init", "--zone", "a.example", "--origin", "http://192.0.2.1", "--pop", "fra=192.0.2.2", "-"],
];

#[test]
fn who_reads_no_more_is_no_failure() {
    for arguments in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn output_without_room_is_a_failure_that_says_where() {
    for arguments in COMMANDS {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {stderr}");
        assert!(stderr.starts_with("perigee: ") && stderr.contains("cannot write to stdout: No space"), "{stderr}");
    }
}

#[test]
fn nothing_is_coloured_where_there_is_no_terminal() {
    for arguments in [&["--help"][..], &["frobnicate"], &["check", "/nowhere"], &["geo", "fetch", "--help"]] {
        let output = command(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(!said.is_empty() && !said.contains(&0x1b), "{arguments:?}");
    }
}
