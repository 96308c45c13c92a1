use perigee_testkit::{Reply, ScriptedOrigin};

use crate::{Ran, perigee};

async fn status_of(node: &ScriptedOrigin, more: &'static [&'static str]) -> Ran {
    let admin = node.address().to_string();
    tokio::task::spawn_blocking(move || perigee(["status", "--admin", &admin].iter().chain(more))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_facts_are_lines_or_its_json() {
    let node = ScriptedOrigin::answering(|seen| {
        assert_eq!(seen.target, "/v1/status");
        Reply::ok(r#"{"tier":"edge","ready":true,"store":{"memory_used":7}}"#)
    })
    .await;
    let ran = status_of(&node, &[]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "tier: edge\nready: true\nstore.memory_used: 7\n"),
        "{}",
        ran.stderr
    );
    let told: serde_json::Value = serde_json::from_str(&status_of(&node, &["--json"]).await.stdout).unwrap();
    assert_eq!(told["store"]["memory_used"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_strangers_and_silence_exit_with_1() {
    let refusing = ScriptedOrigin::answering(|_| Reply::new(403).body("{\"error\":\"no\"}")).await;
    let stranger = ScriptedOrigin::answering(|_| Reply::ok("<html>")).await;
    let nobody = ScriptedOrigin::answering(|_| Reply::ok("")).await;
    let dead = nobody.address().to_string();
    nobody.stop().await;
    for (ran, said) in [
        (status_of(&refusing, &[]).await, "403"),
        (status_of(&stranger, &[]).await, "no node's admin listener"),
        (perigee(["status", "--admin", &dead]), "no node answers"),
    ] {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
