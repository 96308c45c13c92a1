//! `init`, `fmt`, `schema`, `check --explain`, `man` and `completions` as processes.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Ran, perigee};

const FLAGS: [&str; 7] = [
    "init",
    "--zone",
    "cdn.example.com",
    "--origin",
    "http://203.0.113.80:8000",
    "--pop",
    "fra=203.0.113.1,2001:db8::1",
];

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

fn init(more: &[&str]) -> Ran {
    perigee(FLAGS.iter().chain(more))
}

#[test]
fn what_init_writes_passes_check_and_is_canonical() {
    let folder = tempfile::tempdir().unwrap();
    let document = file(folder.path(), "cdn.toml");
    let ran =
        init(&["--pop", "ber=203.0.113.2@52.5,13.4", "--nameserver", "ns1.cdn.example.com=203.0.113.53", &document]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for said in
        [&document, "perigee.schema.json", "perigee-edge --document", "--pop ber", "ns1.cdn.example.com (203.0.113.53)"]
    {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    assert_eq!(perigee(["check", &document]).stdout, "ok\n");
    let ran = perigee(["fmt", "--check", &document]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert!(fs::read_to_string(&document).unwrap().starts_with("#:schema ./perigee.schema.json\n"));
    assert_eq!(fs::read_to_string(folder.path().join("perigee.schema.json")).unwrap(), perigee(["schema"]).stdout);
}

#[test]
fn init_writes_over_nothing_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let document = file(folder.path(), "cdn.toml");
    let schema = folder.path().join("perigee.schema.json");
    fs::write(&document, "mine").unwrap();
    fs::write(&schema, "mine too").unwrap();
    let ran = init(&[&document]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("--force"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&document).unwrap(), "mine");
    // Another file of the schema's name does not keep the document from being written, and stays.
    fs::remove_file(&document).unwrap();
    assert_eq!(init(&[&document]).code, Some(0));
    assert_eq!(fs::read_to_string(&schema).unwrap(), "mine too");
    fs::write(&document, "mine").unwrap();
    assert_eq!(init(&["--force", &document]).code, Some(0));
    assert_eq!(perigee(["check", &document]).stdout, "ok\n");
    assert!(fs::read_to_string(&schema).unwrap().contains("$schema"));
}

#[test]
fn init_without_a_terminal_asks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let document = file(folder.path(), "cdn.toml");
    let ran = perigee(["init", "--zone", "cdn.example.com", &document]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("--origin and --pop are missing"), "{}", ran.stderr);
    let ran = init(&["--name", "two words", &document]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cdn.name") && ran.stderr.contains("must be 1 to 63 letters"), "{}", ran.stderr);
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is written");
    assert!(init(&["-"]).stdout.starts_with("#:schema"));
    assert_eq!(perigee(["init", "--pop", "nowhere=203.0.113.1"]).code, Some(2));
}

#[test]
fn fmt_says_or_does_what_changes() {
    let folder = tempfile::tempdir().unwrap();
    let document = file(folder.path(), "cdn.toml");
    fs::write(&document, "[cdn] # why\nzone=\"a.example\"\n").unwrap();
    fs::set_permissions(&document, fs::Permissions::from_mode(0o640)).unwrap();
    let ran = perigee(["fmt", "--check", &document]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout.contains(&format!("{document}:2\n  - zone=\"a.example\"\n  + zone = \"a.example\"\n")),
        "{}",
        ran.stdout
    );
    let ran = perigee(["fmt", &document]);
    assert_eq!((ran.code, ran.stdout), (Some(0), format!("formatted {document}\n")));
    assert_eq!(fs::read_to_string(&document).unwrap(), "[cdn] # why\nzone = \"a.example\"\n");
    assert_eq!(fs::metadata(&document).unwrap().permissions().mode() & 0o777, 0o640);
    let ran = perigee(["fmt", &document]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    fs::write(&document, "[cdn\n").unwrap();
    let ran = perigee(["fmt", &document]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(":1") && fs::read_to_string(&document).unwrap() == "[cdn\n", "{}", ran.stderr);
}

#[test]
fn fmt_reads_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_perigee"))
        .args(["fmt", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a=1").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"a = 1\n"[..]));
}

#[test]
fn keys_are_explained() {
    let ran = perigee(["check", "--explain", "site.www.cache.vary_limit"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("1 to 1,024") && ran.stdout.contains("default: 64"), "{}", ran.stdout);
    let ran = perigee(["check", "--explain", "cdn.tll"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("did you mean cdn.ttl?"), "{}", ran.stderr);
    assert!(perigee(["schema", "--markdown"]).stdout.starts_with("# The CDN document"));
}

#[test]
fn pages_and_completions_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let ran = perigee(["man", folder.path().to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let page = fs::read_to_string(folder.path().join("perigee-check.1")).unwrap();
    assert!(page.starts_with(".") && page.contains("explain"), "{page}");
    let ran = perigee(["completions", "bash"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("--geo-database"), "{}", ran.stdout);
}
