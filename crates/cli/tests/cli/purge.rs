use perigee_testkit::{Reply, ScriptedOrigin};

use crate::{Ran, perigee};

/// Runs `perigee purge` with a token file, and these arguments in which `NODE` is the node.
async fn purge(node: &ScriptedOrigin, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let mut all = vec!["purge".to_owned(), "--token-file".to_owned(), token.to_str().unwrap().to_owned()];
    all.extend(arguments.iter().map(|argument| argument.replace("NODE", &node.address().to_string())));
    let ran = tokio::task::spawn_blocking(move || perigee(all)).await.unwrap();
    drop(folder);
    ran
}

async fn node() -> ScriptedOrigin {
    ScriptedOrigin::answering(|seen| {
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/purge"));
        assert_eq!(seen.header("authorization"), Some("Bearer secret"));
        Reply::ok(r#"{"seq":7,"node":"fra","kind":"hard","purged":["/img/* of www"]}"#)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_that_acknowledged_is_a_line() {
    let node = node().await;
    let ran = purge(&node, &["--site", "www", "--prefix", "/img/", "--node", "NODE,NODE"]).await;
    let line = format!("{} fra: purged hard, number 7: /img/* of www\n", node.address());
    assert_eq!((ran.code, ran.stdout), (Some(0), line.repeat(2)), "{}", ran.stderr);
    let ran = purge(&node, &["http://www.example/", "--node", "NODE", "--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["seq"], 7);
    assert_eq!(node.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_did_not_acknowledge_is_named() {
    let refusing =
        ScriptedOrigin::answering(|_| Reply::new(403).body(r#"{"error":"missing-scope","message":"no scope"}"#)).await;
    let stranger = ScriptedOrigin::answering(|_| Reply::ok("<html>")).await;
    for (node, said) in [(&refusing, "403 Forbidden: no scope"), (&stranger, "it answers as no node does")] {
        let ran = purge(node, &["--site", "www", "--node", "NODE"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("0 of 1 nodes acknowledged"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&node.address().to_string()) && ran.stderr.contains(said), "{}", ran.stderr);
    }
}

/// Who reads no more keeps no node from being told, and hides none that did not take it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_lines_all_nodes_are_told() {
    let refusing = ScriptedOrigin::answering(|_| Reply::new(403)).await;
    let node = node().await;
    for (second, code) in [(&node, 0), (&refusing, 1)] {
        let before = node.requests();
        let nodes = format!("{0},{1},{0}", node.address(), second.address());
        let ran = tokio::task::spawn_blocking(move || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_perigee"));
            command.args(["purge", "--site", "www", "--node", &nodes]).env("PERIGEE_TOKEN", "secret");
            command.stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap()
        });
        let ran = ran.await.unwrap();
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert_eq!((ran.status.code(), stderr.contains("2 of 3 nodes")), (Some(code), code == 1), "{stderr}");
        assert_eq!(node.requests() - before, if code == 0 { 3 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_asks_nobody() {
    let node = node().await;
    for wrong in [
        &["--node", "NODE"][..],
        &["http://www.example/"],
        &["http://www.example/", "--site", "www", "--node", "NODE"],
        &["--prefix", "/a", "--node", "NODE"],
        &["--tag", "a", "--node", "NODE"],
        &["--site", "www", "--prefix", "/a", "--tag", "b", "--node", "NODE"],
        &["--everything", "--site", "www", "--node", "NODE"],
        &["--site", "www", "--host", "a", "--node", "NODE"],
    ] {
        assert_eq!(purge(&node, wrong).await.code, Some(2), "{wrong:?}");
    }
    let ran = purge(&node, &["--everything", "--node", "NODE"]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("--yes"), "{ran:?}");
    let address = node.address().to_string();
    let without = perigee(["purge", "--site", "www", "--node", &address]);
    assert!(without.code == Some(1) && without.stderr.contains("--token-file"), "{without:?}");
    assert_eq!(node.requests(), 0);
}
