//! `perigee geo fetch` of several editions in one process, as one unit has it.

use std::{
    fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use perigee_testkit::{Reply, ScriptedOrigin, Seen, patiently, sha256};

use crate::geo_fetch::{KEY, archive, city, names, run, systems, world};

fn command(folder: &tempfile::TempDir, server: &ScriptedOrigin) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee"));
    command.args(["geo", "fetch"]).env("PERIGEE_GEO_DATABASE", folder.path());
    command.env("PERIGEE_GEO_EDITION", "GeoLite2-City,GeoLite2-ASN").env("PERIGEE_GEO_SERVER", server.url());
    command.env("PERIGEE_MAXMIND_ACCOUNT_ID", "123456").env("PERIGEE_MAXMIND_LICENSE_KEY", KEY);
    for other in ["CREDENTIALS_DIRECTORY", "PERIGEE_MAXMIND_LICENSE_KEY_FILE", "PERIGEE_GEO_EVERY"] {
        command.env_remove(other);
    }
    command
}

/// Serves places and systems; the places are refused until that is true.
async fn service(has_city: Arc<AtomicBool>) -> ScriptedOrigin {
    let files = [("GeoLite2-City", city(&world(9))), ("GeoLite2-ASN", archive(&[("GeoLite2-ASN.mmdb", &systems())]))];
    ScriptedOrigin::answering(move |seen: &Seen| {
        let Some((name, packed)) = files.iter().find(|(name, _)| seen.target.contains(name)) else {
            return Reply::new(404);
        };
        if *name == "GeoLite2-City" && !has_city.load(Ordering::SeqCst) {
            return Reply::new(500);
        }
        if seen.target.ends_with("sha256") { Reply::ok(sha256(packed)) } else { Reply::ok(packed.clone()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_edition_fails_by_keeps_no_other() {
    let (folder, has_city) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let server = service(Arc::clone(&has_city)).await;
    let ran = run(command(&folder, &server)).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("GeoLite2-City.mmdb: ") && ran.stderr.contains("500"), "{ran:?}");
    assert!(ran.stdout.contains("GeoLite2-ASN.mmdb: ") && ran.stdout.contains("autonomous systems"), "{ran:?}");
    assert_eq!(names(folder.path()), ["GeoLite2-ASN.mmdb", "GeoLite2-ASN.mmdb.sha256"]);
    // The next time the one is new, and the other there already.
    has_city.store(true, Ordering::SeqCst);
    let ran = run(command(&folder, &server)).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.contains("is there already") && ran.stdout.contains("checksum verified"), "{ran:?}");
    assert_eq!(fs::read(folder.path().join("GeoLite2-City.mmdb")).unwrap(), world(9));
    // Two files want a folder.
    let mut wrong = command(&folder, &server);
    wrong.env("PERIGEE_GEO_DATABASE", folder.path().join("GeoLite2-City.mmdb"));
    let ran = run(wrong).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("is no folder to put them into"), "{ran:?}");
}

/// One of them waits for its next try, which is a minute away, while the other one is there.
#[tokio::test(flavor = "multi_thread")]
async fn each_has_a_pause_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let server = service(Arc::default()).await;
    let mut command = command(&folder, &server);
    command.env("PERIGEE_GEO_EVERY", "3d");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let there = folder.path().join("GeoLite2-ASN.mmdb.sha256");
    patiently("the other edition is there, and the first was asked for", async {
        while !there.exists() || !server.seen().iter().any(|seen| seen.target.contains("City")) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(folder.path()), ["GeoLite2-ASN.mmdb", "GeoLite2-ASN.mmdb.sha256"]);
}
