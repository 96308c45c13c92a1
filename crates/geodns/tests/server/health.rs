//! What operators say of PoPs, what edges say of themselves, and what is answered when all are down.

use crate::bench::*;

const TOKEN: &str = "let me";
/// Where the digest of the token goes.
const ADMIN: &str = "[admin]\ntokens = [{ name = \"ops\", sha256 = \"SHA\", scopes = [\"drain\"] }]\n[[pop]]";

/// With an operator's token, and `more` lines in the table of each PoP.
fn operated(port: u16, more: &str) -> String {
    let digest = "e141ee4b3c4fc8ca345718cdacda1ae419d07d0fedd5f69126603a6d234336a0";
    let text = document(port, 2).replacen("[[pop]]", &ADMIN.replace("SHA", digest), 1);
    text.replace("health = {", &format!("{more}\nhealth = {{"))
}

async fn say(bench: &Bench, pop: &str, body: &str, token: &str) -> String {
    bench
        .admin_asked(&format!(
            "POST /v1/pops/{pop} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_word_goes_before_the_probes_and_over_restarts() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (syd, _) = Edge::start(SYD, port).await;
    let state = tempfile::tempdir().unwrap();
    let start = async || {
        let folder = state.path().join("kept");
        Bench::start_told(&operated(port, ""), |options| options.state = Some(folder)).await
    };
    let bench = start().await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    let said = say(&bench, "fra", r#"{"state":"drain","reason":"new disks"}"#, TOKEN).await;
    assert!(said.ends_with("{\"node\":\"ns1\",\"pop\":\"fra\",\"state\":\"drain\",\"durable\":true}\n"), "{said}");
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD);
    let why = bench.admin(&format!("/v1/explain/dns?name=www.cdn.example&client={GERMANY}")).await;
    assert!(why.contains("\"dropped_by\":\"operator\"") && why.contains("drained by operator"), "{why}");
    let status = bench.admin("/v1/status").await;
    assert!(status.contains("\"state\":\"drain\"") && status.contains("\"reason\":\"new disks\""), "{status}");
    let metric = "perigee_dns_pop_operator{node=\"ns1\",tier=\"geodns\",pop=\"fra\",state=\"drain\"} 1";
    assert!(bench.admin("/metrics").await.contains(metric));
    // When nothing else is left it is used.
    syd.set(false);
    bench.www_becomes(GERMANY, FRA).await;
    syd.set(true);
    bench.www_becomes(GERMANY, SYD).await;
    bench.running.drain().await;

    let bench = start().await;
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD, "it is drained after a restart");
    say(&bench, "fra", r#"{"state":"force_up"}"#, TOKEN).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    fra.set(false);
    bench.probes_fail(FRA, 4).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA, "it is up whatever the probes find");
    say(&bench, "fra", r#"{"state":"auto"}"#, TOKEN).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD, "the probes went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_and_what_is_wrong() {
    let bench = Bench::start_with(&operated(1, "").replace("\"500ms\"", "\"1h\"")).await;
    let refused = [
        ("fra", r#"{"state":"drain"}"#, "wrong", "401", "unknown-token"),
        ("ams", r#"{"state":"drain"}"#, TOKEN, "404", "it has fra, syd"),
        ("fra", r#"{"state":"down"}"#, TOKEN, "400", "force_up"),
        ("fra", r#"{"state":"drain","why":"x"}"#, TOKEN, "400", "why"),
        ("fra", "", TOKEN, "400", "it takes"),
        ("fra", r#"{"state":"drain","reason":"a\nb"}"#, TOKEN, "400", "control characters"),
    ];
    for (pop, body, token, status, said) in refused {
        let answer = say(&bench, pop, body, token).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(said), "{body}: {answer}");
    }
    let reason = |bytes: usize| format!("{{\"state\":\"auto\",\"reason\":\"{}\"}}", "x".repeat(bytes));
    assert!(say(&bench, "fra", &reason(256), TOKEN).await.starts_with("HTTP/1.1 200"));
    assert!(say(&bench, "fra", &reason(257), TOKEN).await.starts_with("HTTP/1.1 400"));
    let pops = bench.admin("/v1/pops").await;
    assert!(pops.contains("\"fra\":{\"state\":\"auto\",\"kept\":1.0,\"load\":null"), "{pops}");
    let without = say(&bench, "fra", r#"{"state":"drain"}"#, TOKEN).await;
    assert!(without.contains("\"durable\":false"), "{without}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_told_and_not_in_force() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("pops.json"), "{").unwrap();
    let folder = state.path().to_owned();
    let bench = Bench::start_told(&unprobed(), |options| options.state = Some(folder)).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    assert!(bench.admin("/v1/status").await.contains("\"operators_refusal\":\""));
    assert!(bench.admin("/metrics").await.contains("perigee_dns_state_damaged{node=\"ns1\",tier=\"geodns\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_ends_leaves_the_answers_with_its_first_word() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (_syd, _) = Edge::start(SYD, port).await;
    // Rise and fall never come about.
    let bench = Bench::start_with(&document(port, 100)).await;
    fra.say("perigee-draining: 1\r\n");
    bench.www_becomes(GERMANY, SYD).await;
    bench.admin_becomes("/v1/pops", &format!("\"{FRA}\":\"draining\"")).await;
    // Then it is gone, and has not taken it back.
    fra.set(false);
    bench.probes_fail(FRA, 2).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD);
    fra.say("");
    fra.set(true);
    bench.www_becomes(GERMANY, FRA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_above_its_mark_loses_clients() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (_syd, _) = Edge::start(SYD, port).await;
    let load = "load = { target = 0.2, max = 0.3, hysteresis = 0.1, step = 0.5 }";
    let bench = Bench::start_with(&operated(port, load)).await;
    bench.admin_becomes("/v1/pops", &format!("\"{FRA}\":\"up\"")).await;
    fra.say("perigee-load: 9.00\r\n");
    // The middle between the marks, 0.15, by 9.
    bench.admin_becomes("/v1/pops", "\"kept\":0.017,\"load\":9.0").await;
    bench.www_becomes("127.49.7.1", SYD).await;
    let why = bench.admin("/v1/explain/dns?name=www.cdn.example&client=127.49.7.1").await;
    assert!(why.contains("\"dropped_by\":\"load\"") && why.contains("keeps 1.7 % of its clients"), "{why}");
    assert!(why.contains("\"reason\":\"shed\"") && why.contains("\"prefix\":24"), "{why}");
    let metrics = bench.admin("/metrics").await;
    assert!(metrics.contains("perigee_dns_pop_load{node=\"ns1\",tier=\"geodns\",pop=\"fra\"} 9"), "{metrics}");
    assert!(metrics.contains("perigee_dns_pop_kept{node=\"ns1\",tier=\"geodns\",pop=\"fra\"} 0.017"), "{metrics}");
    // Without the key it keeps all.
    bench.replace("perigee.toml", operated(port, ""));
    bench.running.reload();
    bench.www_becomes("127.49.7.1", FRA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_a_living_pop_is_its_cname() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (_syd, _) = Edge::start(SYD, port).await;
    let policy = "pops = [\"fra\"]\nall_down = { cname = \"status.example.net\" }\n";
    let bench = Bench::start_with(&format!("{}{policy}", document(port, 2))).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    fra.set(false);
    let all_down = "perigee_dns_site_all_down{node=\"ns1\",tier=\"geodns\",site=\"www\"} ";
    bench.admin_becomes("/metrics", &format!("{all_down}1")).await;
    let reply = Client::at(GERMANY).await.ask(bench.address(), &query(1, "www.cdn.example", A)).await;
    let said: Vec<String> = reply.answers.iter().map(|record| record.to_string()).collect();
    assert_eq!(said, ["www.cdn.example. 30 IN CNAME status.example.net."]);
    bench.admin_becomes("/metrics", "reason=\"all-down-cname\"} 1").await;
    fra.set(true);
    bench.admin_becomes("/metrics", &format!("{all_down}0")).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
}
