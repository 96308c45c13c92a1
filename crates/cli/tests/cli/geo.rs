use std::{fs, path::Path};

use crate::{Ran, perigee};

const WORLD: &str = "prefix,country,city,lat,lon,asn\n127.49.0.0/16,DE,Frankfurt,50.11,8.68,64549\n2001:db8:81::/48,JP,Tokyo,35.68,139.69,\n192.0.2.0/24,,,,,64999\n";

fn build(folder: &Path, table: &str) -> (Ran, String) {
    fs::write(folder.join("world.csv"), table).unwrap();
    let database = folder.join("world.mmdb").to_str().unwrap().to_owned();
    (perigee(["geo", "build", folder.join("world.csv").to_str().unwrap(), &database]), database)
}

#[test]
fn what_is_built_can_be_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let (ran, database) = build(folder.path(), WORLD);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with(&format!("{database}: 3 records, ")), "{}", ran.stdout);

    let german = perigee(["geo", "lookup", &database, "127.49.200.1"]);
    let expected = "prefix     127.49.0.0/16\ncountry    DE\ncity       Frankfurt\nlatitude   50.11\nlongitude  8.68\nasn        64549\nknown by   place\n";
    assert_eq!((german.code, german.stdout.as_str()), (Some(0), expected));

    let japanese = perigee(["geo", "lookup", &database, "2001:db8:81::1", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&japanese.stdout).unwrap();
    assert_eq!(
        (&told["prefix"], &told["country"], &told["longitude"]),
        (&"2001:db8:81::/48".into(), &"JP".into(), &139.69.into())
    );
    assert!(told["asn"].is_null() && told["address"] == "2001:db8:81::1");

    let placeless = perigee(["geo", "lookup", &database, "192.0.2.1"]);
    assert!(
        placeless.stdout.contains("country    -\n") && placeless.stdout.contains("asn        64999\n"),
        "{}",
        placeless.stdout
    );

    let (ran, countries) = build(folder.path(), "prefix,country\n127.49.0.0/16,DE\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let german = perigee(["geo", "lookup", &countries, "127.49.0.1"]);
    assert!(german.stdout.contains("latitude   51\n") && german.stdout.ends_with("known by   country\n"), "{german:?}");

    let unknown = perigee(["geo", "lookup", &database, "8.8.8.8"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert!(unknown.stderr.contains("does not know 8.8.8.8"), "{}", unknown.stderr);
}

#[test]
fn a_bad_table_builds_nothing_and_says_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let (_, database) = build(folder.path(), WORLD);
    let before = fs::read(&database).unwrap();
    let (ran, _) = build(folder.path(), &format!("{WORLD}300.0.0.0/8,DE,X,1,2,3\n10.0.0.0/8,DE,X,91,2,3\n"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("line 5") && ran.stderr.contains("line 6"), "{}", ran.stderr);
    assert_eq!(fs::read(&database).unwrap(), before);
    // Neither the old database nor a half of a new one is left beside it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn files_that_cannot_serve_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("damaged.mmdb"), b"not a database").unwrap();
    fs::write(path("world.csv"), WORLD).unwrap();
    for (arguments, named) in [
        (["geo", "lookup", &path("missing.mmdb"), "1.1.1.1"], path("missing.mmdb")),
        (["geo", "lookup", &path("damaged.mmdb"), "1.1.1.1"], path("damaged.mmdb")),
        (["geo", "build", &path("missing.csv"), &path("x.mmdb")], path("missing.csv")),
        (["geo", "build", &path("world.csv"), &path("no-folder/x.mmdb")], path("no-folder/x.mmdb")),
    ] {
        let ran = perigee(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(ran.stderr.contains(&named), "{}", ran.stderr);
    }
}
