//! The folder of DNSSEC keys, which is looked at while the nameserver runs.

use std::{path::Path, time::Duration};

use perigee_dns::dnssec::{Algorithm, Life, Role};
use perigee_geodns::keys::KeyFile;

use crate::bench::*;

const DNSKEY: u16 = 48;

fn make(folder: &Path, private: u8) -> KeyFile {
    let always = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };
    KeyFile::create(folder, "cdn.example", Algorithm::Ed25519, Role::Csk, always, &[private; 32]).unwrap()
}

/// How many keys the zone has.
async fn keys(bench: &Bench) -> usize {
    let reply = Client::at(GERMANY).await.ask(bench.address(), &query(1, "cdn.example", DNSKEY)).await;
    reply.answers.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_taken_up_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), 1);
    let signed = format!("[cdn.dnssec]\nkeys = \"{}\"\nalgorithm = \"ed25519\"\n[geo]", folder.path().display());
    let document = unprobed().replace("[geo]", &signed);
    let bench = Bench::start_told(&document, |options| options.keys_look = Duration::from_millis(10)).await;
    assert_eq!(keys(&bench).await, 1);
    let count = |result: &str, count: &str| {
        format!("perigee_reloads_total{{node=\"ns1\",tier=\"geodns\",what=\"keys\",result=\"{result}\"}} {count}")
    };
    let second = make(folder.path(), 2);
    bench.admin_becomes("/metrics", &count("applied", "1")).await;
    assert_eq!(keys(&bench).await, 2);

    // In one step, as key files are written.
    let broken = folder.path().join("broken.toml");
    std::fs::write(folder.path().join("next"), "zone = ").unwrap();
    std::fs::rename(folder.path().join("next"), &broken).unwrap();
    bench.admin_becomes("/metrics", &count("refused", "")).await;
    assert_eq!(keys(&bench).await, 2);
    // What is right beside it waits for it to go.
    std::fs::remove_file(&second.path).unwrap();
    assert_eq!(keys(&bench).await, 2);
    std::fs::remove_file(&broken).unwrap();
    bench.admin_becomes("/metrics", &count("applied", "2")).await;
    assert_eq!(keys(&bench).await, 1);
}
