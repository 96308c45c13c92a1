use perigee_testkit::{Reply, ScriptedOrigin};

use crate::{Ran, perigee};

/// Runs `perigee pop` with a token file, and these arguments in which `NODE` is the nameserver.
async fn pop(node: &ScriptedOrigin, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let mut all = vec!["pop".to_owned()];
    all.extend(arguments.iter().map(|argument| argument.replace("NODE", &node.address().to_string())));
    all.extend(["--token-file".to_owned(), token.to_str().unwrap().to_owned()]);
    let ran = tokio::task::spawn_blocking(move || perigee(all)).await.unwrap();
    drop(folder);
    ran
}

async fn nameserver(state: &'static str, durable: bool) -> ScriptedOrigin {
    ScriptedOrigin::answering(move |seen| {
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/pops/fra"));
        assert_eq!(seen.header("authorization"), Some("Bearer secret"));
        Reply::ok(format!(r#"{{"node":"ns1","pop":"fra","state":"{state}","durable":{durable}}}"#))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_nameserver_is_told() {
    for (word, state, what) in [
        ("drain", "drain", "is drained"),
        ("up", "force_up", "is up whatever the probes find"),
        ("auto", "auto", "is as the probes find it"),
    ] {
        let node = nameserver(state, true).await;
        let ran = pop(&node, &[word, "fra", "--reason", "new disks", "--node", "NODE,NODE"]).await;
        let line = format!("{} ns1: fra {what}\n", node.address());
        assert_eq!((ran.code, ran.stdout), (Some(0), line.repeat(2)), "{}", ran.stderr);
        assert_eq!(node.requests(), 2);
    }
    let node = nameserver("drain", false).await;
    let ran = pop(&node, &["drain", "fra", "--node", "NODE"]).await;
    assert!(ran.stdout.contains("until the nameserver ends: it has no --state"), "{}", ran.stdout);
    let ran = pop(&node, &["drain", "fra", "--json", "--node", "NODE"]).await;
    assert!(ran.stdout.starts_with('{'), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_did_not_acknowledge_is_named() {
    let refusing =
        ScriptedOrigin::answering(|_| Reply::new(403).body(r#"{"error":"missing-scope","message":"no scope"}"#)).await;
    let stranger = ScriptedOrigin::answering(|_| Reply::ok("<html>")).await;
    // A nameserver that takes it for something else.
    let other = nameserver("auto", true).await;
    for (node, said) in [
        (&refusing, "403 Forbidden: no scope"),
        (&stranger, "it answers as no nameserver does"),
        (&other, "it answers as no nameserver does"),
    ] {
        let ran = pop(node, &["drain", "fra", "--node", "NODE"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("0 of 1 nameservers acknowledged"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&node.address().to_string()) && ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_asks_nobody() {
    let node = nameserver("drain", true).await;
    for wrong in [
        &["drain", "--node", "NODE"][..],
        &["drain", "FRA", "--node", "NODE"],
        &["drain", "fra"],
        &["down", "fra", "--node", "NODE"],
    ] {
        assert_eq!(pop(&node, wrong).await.code, Some(2), "{wrong:?}");
    }
    assert_eq!(node.requests(), 0);
}
