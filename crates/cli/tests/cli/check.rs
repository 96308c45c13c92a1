use std::{fs, path::Path};

use crate::perigee;

const GOOD: &str = r#"
version = 1
[cdn]
name = "t"
zone = "t.example"
contact = "a@t.example"
[[pop]]
id = "fra"
city = "Frankfurt"
latitude = 50.1
longitude = 8.7
addresses = ["192.0.2.1"]
[[site]]
id = "www"
origins = [{ url = "http://192.0.2.9" }]
"#;

fn written(folder: &Path, text: impl AsRef<[u8]>) -> String {
    let file = folder.join("perigee.toml");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_good_document_is_exactly_ok() {
    let folder = tempfile::tempdir().unwrap();
    let ran = perigee(["check", &written(folder.path(), GOOD)]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "ok\n", ""));
}

#[test]
fn zone_files_are_read_with_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), format!("{GOOD}[[zone.file]]\npath = \"a.zone\"\n"));
    let check = |zone: &str, code: i32, said: &str| {
        fs::write(folder.path().join("a.zone"), zone).unwrap();
        let ran = perigee(["check", &file]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{ran:?}");
        assert!(ran.stdout.contains(said), "{said:?} is not in\n{}", ran.stdout);
    };
    check("$TTL 1h\nmail A 192.0.2.1\n", 0, "ok\n");
    check("$TTL 1h\nmail A 192.0.2.1\nwww A 192.0.2.1\n", 1, "a.zone:3  www.t.example. 3600 IN A 192.0.2.1");
    fs::remove_file(folder.path().join("a.zone")).unwrap();
    let ran = perigee(["check", &file]);
    assert!(ran.code == Some(1) && ran.stdout.contains("a.zone cannot be read"), "{ran:?}");
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let bad = GOOD
        .replace("latitude = 50.1", "latitude = 95")
        .replace("origins =", "origin =")
        .replace("version = 1", "version = 1\ncolour = 3");
    let file = written(folder.path(), bad);
    let ran = perigee(["check", &file]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    for part in [":3 ", "colour", ":11 ", "latitude = 95", "origin"] {
        assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
    }
    let places = ran.stdout.lines().filter(|line| line.starts_with(&file)).count();
    assert!(places >= 3, "{}", ran.stdout);
}

#[test]
fn what_cannot_be_read_is_said_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml").to_str().unwrap().to_owned();
    let binary = written(folder.path(), b"\xff\xfe");
    for file in [missing, binary, folder.path().to_str().unwrap().to_owned()] {
        let ran = perigee(["check", &file]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{file}");
        assert!(ran.stderr.contains(&file), "{}", ran.stderr);
    }
}

#[test]
fn mistakes_are_json_for_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, code: i32| -> serde_json::Value {
        let ran = perigee(["check", "--json", &written(folder.path(), text)]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{}", ran.stdout);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    assert_eq!(check(GOOD, 0), serde_json::json!({ "ok": true, "count": 0, "mistakes": [] }));
    let told = check(&GOOD.replace("version = 1", "version = 9"), 1);
    assert_eq!((&told["ok"], &told["count"]), (&false.into(), &1.into()), "{told}");
    let mistake = &told["mistakes"][0];
    assert_eq!((&mistake["line"], &mistake["path"], &mistake["said"]), (&2.into(), &"version".into(), &"9".into()));
    assert!(mistake["law"].as_str().unwrap().starts_with("must be"), "{mistake}");
}

#[test]
fn without_a_name_it_is_the_usual_document() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), GOOD);
    let run = |folder: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_perigee"));
        command.arg("check").current_dir(folder).output().unwrap()
    };
    assert_eq!(run(folder.path()).stdout, b"ok\n");
    let empty = tempfile::tempdir().unwrap();
    let ran = run(empty.path());
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8(ran.stderr).unwrap().starts_with("perigee: perigee.toml: cannot be read"));
}
