//! What fuzzing found worth keeping is repeated in every run of the tests, and so is where it begins.

use std::{fs, path::Path};

use perigee_fuzz::{TARGETS, corpus, target};

fn repeat(name: &str) {
    let target = target(name).expect("a target of that name");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{name}.hex"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.len() <= corpus::FILE_BYTES_MAX && text.lines().count() <= corpus::INPUTS_MAX, "{}", path.display());
    let inputs = corpus::unpack(&text).unwrap_or_else(|line| panic!("{}:{line} is not hexadecimal", path.display()));
    assert!(inputs.len() > 50, "{} inputs are no corpus", inputs.len());
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    for input in seeds.iter().chain(&inputs) {
        (target.check)(input);
    }
}

#[test]
fn answer() {
    repeat("answer");
}

#[test]
fn geo() {
    repeat("geo");
}

#[test]
fn zone_file() {
    repeat("zone-file");
}

#[test]
fn document() {
    repeat("document");
}

#[test]
fn every_target_has_a_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut expected: Vec<String> = TARGETS.iter().map(|target| format!("{}.hex", target.name)).collect();
    expected.sort();
    assert_eq!(found, expected);
}
