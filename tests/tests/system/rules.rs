//! Rules of the document through edges and a shield: what is keyed at one is keyed at the other.

use std::path::Path;

use perigee_testkit::{PATIENCE, ProcessUnderTest, Reply, ScriptedOrigin, client};
use serde_json::Value;

use crate::fleet::{Fleet, Node, SITE};

const RULES: &str = r#"
[[site.rule]]
match = { path = "/beta*", header = { X-Beta = "1" } }
cache = { ttl = "10m" }
request_headers = { set = { X-Release = "next" }, add = { X-Seen = "1" }, remove = ["X-Beta"] }
headers = { add = { X-Rule = "beta" } }

[[site.rule]]
match = { status = 404 }
cache = { ttl = "10m" }

[[site.rule]]
match = { path = "/old*" }
redirect = { status = 308, to = "/new{query}" }

[[site.rule]]
match = { path = "/k*" }
cache = { ttl = "10m", key = { cookies = ["t"], device = true, country = true } }

[geo]
database = "world.mmdb"
"#;

/// A fleet with these rules, on a map on which loopback is that country.
async fn fleet(origin: &ScriptedOrigin, country: &str) -> Fleet {
    let fleet = Fleet::start(origin, &[]).await;
    map(fleet.document.parent().unwrap(), country);
    fleet.rewrite(origin, RULES);
    for node in fleet.edges.iter().chain([&fleet.shield]) {
        wait_for(node, "/v1/status", "\"document_generation\":2").await;
    }
    fleet
}

fn map(folder: &Path, country: &str) {
    let table = format!("prefix,country,city,lat,lon,asn\n127.0.0.0/8,{country},Somewhere,1,1,\n");
    let passing = folder.join("world.new");
    std::fs::write(&passing, perigee_geo::build::build(table.as_bytes()).unwrap()).unwrap();
    std::fs::rename(passing, folder.join("world.mmdb")).unwrap();
}

async fn wait_for(node: &Node, path: &str, said: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = client::get(node.admin, "admin", path).await.text().replace(": ", ":");
        if text.contains(said) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{said}: {text}");
        tokio::task::yield_now().await;
    }
}

async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> client::Response {
    client::get_with(node.address, SITE, path, headers).await
}

fn origin() -> impl Future<Output = ScriptedOrigin> {
    ScriptedOrigin::answering(|seen| {
        if seen.target.starts_with("/missing") { Reply::new(404).body("no") } else { Reply::ok("x") }
    })
}

#[tokio::test]
async fn a_shield_has_the_edges_rule_and_key() {
    let origin = origin().await;
    let fleet = fleet(&origin, "DE").await;
    let [fra, syd] = &fleet.edges[..] else { panic!("two edges") };
    let is_shields_hit = |response: &client::Response| response.header("cache-status").starts_with("shield-eu; hit");

    // The edge removes the field that chose the rule: the shield could not tell by itself.
    let beta = get(fra, "/beta", &[("X-Beta", "1")]).await;
    assert_eq!(beta.headers.get_all("x-rule").iter().count(), 1);
    let seen = origin.seen().pop().unwrap();
    assert_eq!(
        (seen.header("x-release"), seen.header("x-seen"), seen.header("x-beta")),
        (Some("next"), Some("1"), None)
    );
    assert_eq!(seen.header("perigee-rule"), None);
    assert!(is_shields_hit(&get(syd, "/beta", &[("X-Beta", "1")]).await));
    assert_eq!(origin.requests_to("/beta"), 1);
    assert_eq!(get(syd, "/beta", &[]).await.header("x-rule"), "");
    assert_eq!(origin.requests_to("/beta"), 2, "who is no tester shares nothing with them");

    get(fra, "/k", &[("Cookie", "t=1; u=2"), ("X-Country", "US"), ("User-Agent", "iPhone")]).await;
    let seen = origin.seen().pop().unwrap();
    assert_eq!(
        (seen.header("cookie"), seen.header("x-country"), seen.header("x-device-class")),
        (Some("t=1"), Some("DE"), Some("mobile"))
    );
    assert!(is_shields_hit(&get(syd, "/k", &[("Cookie", "u=3; t=1"), ("User-Agent", "iPod")]).await));
    assert!(!is_shields_hit(&get(syd, "/k", &[("Cookie", "u=3; t=1")]).await), "another class of device");

    assert_eq!(get(fra, "/missing", &[]).await.status, 404);
    assert!(is_shields_hit(&get(syd, "/missing", &[]).await), "a rule by status holds at both tiers");

    let redirect = get(fra, "/old/a?b", &[]).await;
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (308, "/new?b"));
    assert_eq!(origin.requests_to("/old/a?b"), 0);
}

#[tokio::test]
async fn a_new_map_is_taken_over() {
    let origin = origin().await;
    let fleet = fleet(&origin, "DE").await;
    let edge = &fleet.edges[0];
    get(edge, "/k?1", &[]).await;
    assert_eq!(origin.seen().pop().unwrap().header("x-country"), Some("DE"));
    map(fleet.document.parent().unwrap(), "FR");
    wait_for(edge, "/metrics", "what=\"geo-database\",result=\"applied\"} 1").await;
    get(edge, "/k?1", &[]).await;
    assert_eq!(origin.seen().pop().unwrap().header("x-country"), Some("FR"), "another country, another copy");
}

/// What `perigee explain http` prints of a URL of the site.
async fn explain(node: &Node, path: &str, more: &[&str]) -> Value {
    let (url, admin) = (format!("http://{SITE}{path}"), node.admin.to_string());
    let arguments = ["explain", "http", &url, "--node", &admin, "--json"];
    let mut process = ProcessUnderTest::start("perigee", arguments.iter().chain(more));
    assert!(process.wait_exit().await.success(), "{}", process.stderr());
    serde_json::from_str(&process.stdout()).unwrap()
}

#[tokio::test]
async fn a_node_explains_what_it_would_do() {
    let origin = origin().await;
    let fleet = fleet(&origin, "DE").await;
    let edge = &fleet.edges[0];
    let before = explain(edge, "/k", &["-H", "Cookie: t=1"]).await;
    assert_eq!((&before["rule"], &before["verdict"]["action"]), (&3.into(), &"fetch".into()), "{before}");
    assert_eq!(before["upstreams"][0], "shield shield-eu");
    assert_eq!(before["key_parts"][1], serde_json::json!({ "name": "country", "value": "DE" }));
    assert_eq!(origin.requests(), 0, "an explanation asks nobody");
    get(edge, "/k", &[("Cookie", "t=1")]).await;
    let after = explain(edge, "/k", &["-H", "Cookie: t=1; u=2"]).await;
    assert_eq!(
        (&after["verdict"]["action"], &after["stored"][0]["selected"]),
        (&"hit".into(), &true.into()),
        "{after}"
    );
    assert_eq!(after["stored"][0]["freshness"]["lifetime_ms"], 600_000);
    assert_eq!(explain(edge, "/k", &["-H", "Host: nobody.example"]).await["refused"]["status"], 421);
    assert_eq!(explain(edge, "/old", &[]).await["redirect"]["location"], "/new");
    let question = client::get(edge.admin, "admin", "/v1/explain/http?url=nonsense").await;
    assert_eq!(question.status, 400, "{}", question.text());
    let short = client::get(edge.admin, "admin", &format!("/v1/explain/http?url=http://{SITE}/k")).await;
    assert!(short.status == 200 && short.text().contains("\"verdict\""), "{}", short.text());
}

/// Asks the shield as an edge with that claim of its rules would.
async fn as_edge(shield: &Node, path: &str, claim: Option<&str>) -> client::Response {
    let secret = perigee_protocol::proof::FleetSecret::new(b"a secret of the tests alone").unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut said = vec!["www", SITE, "http"];
    said.extend(claim);
    let proof = secret.prove_request(u64::try_from(now_ms).unwrap(), "GET", path, &said);
    let mut headers = vec![
        ("perigee-site", "www"),
        ("perigee-key-authority", SITE),
        ("perigee-key-scheme", "http"),
        ("perigee-proof", proof.as_str()),
    ];
    headers.extend(claim.map(|claim| ("perigee-rule", claim)));
    client::get_with(shield.address, SITE, path, &headers).await
}

#[tokio::test]
async fn a_shield_keeps_edges_with_other_rules_apart() {
    let origin = origin().await;
    let fleet = fleet(&origin, "DE").await;
    let shield = &fleet.shield;
    let is_hit = |response: &client::Response| response.header("cache-status").starts_with("shield-eu; hit");
    get(&fleet.edges[0], "/k", &[]).await;
    assert!(is_hit(&get(&fleet.edges[1], "/k", &[]).await), "edges of the same rules share");
    for claim in [Some("00000000000000ff:7"), Some("00000000000000ff:"), None] {
        let first = as_edge(shield, "/k", claim).await;
        assert_eq!(first.status, 200);
        assert!(!is_hit(&first), "{claim:?} was answered with what other edges share");
        assert!(is_hit(&as_edge(shield, "/k", claim).await), "{claim:?} shares with its kind");
    }
}
