//! `perigee geo diff` and `perigee geo stats`, and databases of systems.

use std::{fs, path::Path};

use perigee_geo::build;
use serde_json::{Value, json};

use crate::perigee;

const DOCUMENT: &str = "version = 1\n[cdn]\nname = \"t\"\nzone = \"cdn.example\"\n[geo.steering]\nanswers = 1\n\
    [[geo.override]]\nprefixes = [\"10.1.2.0/24\"]\npop = \"syd\"\n\
    [[pop]]\nid = \"fra\"\nlatitude = 50.11\nlongitude = 8.68\naddresses = [\"198.18.49.10\", \"2001:db8:49::10\"]\n\
    [[pop]]\nid = \"syd\"\nlatitude = -33.87\nlongitude = 151.21\naddresses = [\"198.18.61.10\", \"2001:db8:61::10\"]\n\
    [[site]]\nid = \"www\"\norigins = [{ url = \"http://127.0.0.1:1\" }]\n\
    [[site]]\nid = \"eu\"\npops = [\"fra\"]\norigins = [{ url = \"http://127.0.0.1:1\" }]\n";

const OLD: &str = "prefix,country,lat,lon\n10.0.0.0/16,DE,52,13\n10.1.0.0/16,DE,52,13\n10.2.0.0/16,AU,-35,149\n\
    2001:db8:1::/48,DE,52,13\n2001:db8:2:8000::/49,DE,52,13\n";
/// 10.1.0.0/16 moves but for the /24 of the override, half of 10.2.0.0/16 too, and of IPv6 one /48.
const NEW: &str = "prefix,country,lat,lon\n10.0.0.0/16,FR,48,2\n10.1.0.0/16,AU,-35,149\n10.2.0.0/17,NZ,-36,174\n\
    10.2.128.0/17,DE,52,13\n2001:db8:1::/48,AU,-35,149\n2001:db8:2:8000::/49,AU,-35,149\n";

fn write(folder: &Path, name: &str, csv: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, build::build(csv.as_bytes()).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn clients_that_move_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (write(folder.path(), "old.mmdb", OLD), write(folder.path(), "new.mmdb", NEW));
    let document = folder.path().join("perigee.toml");
    fs::write(&document, DOCUMENT).unwrap();
    let document = document.to_str().unwrap();
    let ran = perigee(["geo", "diff", &old, &new, "--document", document, "--json"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error} {ran:?}"));
    let count = |ipv4: u64, ipv6: u64| json!({ "ipv4_addresses": ipv4, "ipv6_prefixes_48": ipv6 });
    // 2000::/3 without Teredo and 6to4.
    assert_eq!(told["all"], count(1 << 32, (1 << 45) - (1 << 16) - (1 << 32)));
    assert_eq!(told["moved"], count((1 << 16) - 256 + (1 << 15), 1));
    assert_eq!(
        told["moves"],
        json!([
            { "from": "fra", "to": "syd", "count": count((1 << 16) - 256, 1), "countries": { "AU": count((1 << 16) - 256, 1) } },
            { "from": "syd", "to": "fra", "count": count(1 << 15, 0), "countries": { "DE": count(1 << 15, 0) } },
        ])
    );
    let ran = perigee(["geo", "diff", &old, &new, "--document", document]);
    assert!(ran.stdout.contains("98048 IPv4 addresses (0.002 %) and 1 IPv6 /48s"), "{}", ran.stdout);
    assert!(ran.stdout.contains("fra -> syd") && ran.stdout.contains(": AU\n"), "{}", ran.stdout);
    // A site of one PoP moves nobody, and neither does the same database.
    for nobody in [[&old, &new, "eu"], [&old, &old, "www"]] {
        let [old, new, site] = nobody;
        let ran = perigee(["geo", "diff", old, new, "--document", document, "--site", site]);
        assert!(ran.code == Some(0) && ran.stdout.contains("\n0 IPv4 addresses (0.000 %) and 0 IPv6"), "{ran:?}");
    }
    let ran = perigee(["geo", "diff", &old, &new, "--document", document, "--site", "nobody"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("\"nobody\" is no site"), "{ran:?}");
}

#[test]
fn what_a_database_holds() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "prefix,country,lat,lon\n10.0.0.0/8,DE,52,13\n11.0.0.0/8,FR,,\n12.0.0.0/16,,,\n2001:db8::/32,JP,35,139\n";
    let places = write(folder.path(), "places.mmdb", csv);
    let ran = perigee(["geo", "stats", &places]);
    for line in [
        "kind                   Perigee-City (places)",
        "built                  1970-01-01",
        "records                4",
        "countries              3",
        "a place, IPv4          1 networks, 0.39 % of all addresses",
        "a place, IPv6          1 networks, 0.0000 % of 2000::/3",
        "a country only, IPv4   1 networks, 0.39 % of all addresses",
        "nowhere, IPv4          1 networks, 0.00 % of all addresses",
    ] {
        assert!(ran.stdout.lines().any(|told| told == line), "{line}\n{}", ran.stdout);
    }
    let told: Value = serde_json::from_str(&perigee(["geo", "stats", &places, "--json"]).stdout).unwrap();
    assert_eq!((&told["level"], &told["place"]["ipv6"]["prefixes_48"]), (&json!("city"), &json!(1 << 16)));

    let systems =
        write(folder.path(), "asn.mmdb", "prefix,asn\n10.0.0.0/8,64500\n11.0.0.0/8,64500\n12.0.0.0/8,64501\n");
    let ran = perigee(["geo", "stats", &systems]);
    assert!(
        ran.stdout.contains("(autonomous systems)") && ran.stdout.contains("systems                2\n"),
        "{}",
        ran.stdout
    );
    let ran = perigee(["geo", "lookup", &systems, "10.1.2.3"]);
    // Neighbours of one system are one network.
    assert_eq!(ran.stdout, "prefix     10.0.0.0/7\nasn        64500\norganization -\n", "{ran:?}");
    let ran = perigee(["geo", "diff", &systems, &places, "--document", "no.toml"]);
    assert_eq!(ran.code, Some(1));
    let ran = perigee(["geo", "stats", folder.path().to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot read"), "{ran:?}");
}
