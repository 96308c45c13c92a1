//! Each mistake of a user is a clear error and an exit status, before anything is served.

use std::net::TcpListener;

use perigee_testkit::{ProcessUnderTest, free_port};

use crate::fleet::{loopback, text};

/// Runs a binary that must refuse to start, and returns what it says.
async fn refused(binary: &str, arguments: &[&str]) -> String {
    let mut process = ProcessUnderTest::start(binary, arguments);
    let status = process.wait_exit().await;
    let said = process.stderr() + &process.stdout();
    assert!(!status.success() && status.code().is_some(), "{binary} {arguments:?}: {status}\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn good() -> String {
    text("http://127.0.0.1:1", loopback(2), "")
}

#[tokio::test]
async fn documents_with_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fleet.secret"), "a secret of the tests alone\n").unwrap();
    let file = folder.path().join("cdn.toml");
    let path = file.to_str().unwrap();
    let cases: [(&str, String, &[&str]); 9] = [
        ("unknown key", good().replace("[cdn]", "[cdn]\ncolour = \"red\""), &["cdn.toml:", "colour"]),
        ("wrong type", good().replace("name = \"test\"", "name = 7"), &["cdn.toml:4", "cdn.name"]),
        ("duplicate PoP", good().replace("id = \"syd\"", "id = \"fra\""), &["fra"]),
        ("PoP without address", good().replace("addresses = [\"127.61.0.80\"]", ""), &["syd", "addresses"]),
        (
            "site without origin",
            good().replace("origins = [{ url = \"http://127.0.0.1:1\" }]", ""),
            &["www", "origins"],
        ),
        (
            "unknown PoP in a list",
            good().replace("pops = [\"fra\"]", "pops = [\"fra\", \"xyz\"]"),
            &["shield-eu", "xyz"],
        ),
        ("zone that is no name", good().replace("cdn.example\"", "cdn..example\""), &["cdn.zone"]),
        ("no TOML", "version = = 1".into(), &["cdn.toml:1"]),
        ("empty", String::new(), &["cdn.toml"]),
    ];
    for (name, document, expected) in cases {
        std::fs::write(&file, document).unwrap();
        let edge =
            refused("perigee-edge", &["--document", path, "--pop", "fra", "--listen", "127.0.0.1:0", "--admin", "off"])
                .await;
        let check = refused("perigee", &["check", path]).await;
        for said in [&edge, &check] {
            for word in expected {
                assert!(said.contains(word), "{name}: {word:?} is not in\n{said}");
            }
        }
    }
    std::fs::write(&file, good()).unwrap();
    let said = refused("perigee-edge", &["--document", path, "--pop", "xyz", "--admin", "off"]).await;
    assert!(said.contains("xyz") && said.contains("fra, syd"), "{said}");
    std::fs::write(folder.path().join("fleet.secret"), "short").unwrap();
    let said =
        refused("perigee-edge", &["--document", path, "--pop", "fra", "--listen", "127.0.0.1:0", "--admin", "off"])
            .await;
    assert!(said.contains("fleet.secret") && said.contains("16"), "{said}");
    let said = refused("perigee-edge", &["--document", "/nowhere/cdn.toml", "--pop", "fra"]).await;
    assert!(said.contains("/nowhere/cdn.toml"), "{said}");
}

#[tokio::test]
async fn keys_that_a_node_cannot_enforce() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cdn.toml");
    std::fs::write(&file, format!("{}\n[control]\nengine = \"nats\"\nurl = \"nats://127.0.0.1:4222\"\n", good()))
        .unwrap();
    let path = file.to_str().unwrap();
    let said = refused("perigee-edge", &["--document", path, "--pop", "fra", "--admin", "off"]).await;
    assert!(said.contains("control.engine"), "{said}");
    let said = refused("perigee-geodns", &["--document", path, "--listen", "127.0.0.1:0", "--admin", "off"]).await;
    assert!(said.contains("control.engine"), "{said}");
}

#[tokio::test]
async fn busy_ports_and_unusable_folders() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said =
        refused("perigee-edge", &["--origin", "http://127.0.0.1:1", "--listen", &address, "--admin", "off"]).await;
    assert!(said.contains(&address), "{said}");
    let free = loopback(free_port()).to_string();
    let said =
        refused("perigee-edge", &["--origin", "http://127.0.0.1:1", "--listen", &free, "--admin", &address]).await;
    assert!(said.contains(&address) && said.contains("--admin"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("occupied");
    std::fs::write(&file, "not a folder").unwrap();
    let disk = format!("{}:1GiB", file.display());
    let said = refused(
        "perigee-edge",
        &["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "off", "--disk", &disk],
    )
    .await;
    assert!(said.contains("occupied"), "{said}");
    for (flag, value) in [
        ("--memory", "1MiB"),
        ("--memory", "lots"),
        ("--disk", "nosize"),
        ("--policy", "nosuch=1"),
        ("--policy", "set_cookie=eat"),
    ] {
        let said = refused(
            "perigee-edge",
            &["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "off", flag, value],
        )
        .await;
        assert!(said.contains("error"), "{flag} {value}: {said}");
    }
}

#[tokio::test]
async fn databases_that_are_missing_or_damaged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fleet.secret"), "a secret of the tests alone\n").unwrap();
    let document = folder.path().join("cdn.toml");
    std::fs::write(
        &document,
        good().replace("[[pop]]\nid = \"fra\"", "[geo]\ndatabase = \"world.mmdb\"\n\n[[pop]]\nid = \"fra\""),
    )
    .unwrap();
    let path = document.to_str().unwrap();
    let arguments = ["--document", path, "--listen", "127.0.0.1:0", "--admin", "off"];
    let said = refused("perigee-geodns", &arguments).await;
    assert!(said.contains("world.mmdb"), "{said}");
    std::fs::write(folder.path().join("world.mmdb"), vec![7_u8; 5000]).unwrap();
    let said = refused("perigee-geodns", &arguments).await;
    assert!(said.contains("world.mmdb"), "{said}");
}
