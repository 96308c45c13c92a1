//! What explanations say, against what requests then get.

use std::net::SocketAddr;

use http::Request;
use perigee_cache::Explanation;
use perigee_protocol::model::{CachePolicy, Scheme};
use perigee_semantics::policy::Tier;

use crate::{
    dialogue::play,
    document_rules::rules,
    world::{CLIENT, World},
};

async fn explain(world: &World, line: &str) -> Result<Explanation, (u16, &'static str)> {
    let mut parts = line.split(" ; ");
    let (method, path) = parts.next().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    let fields: Vec<_> = parts.map(|field| field.split_once(": ").unwrap()).collect();
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "www.example");
    }
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let said = world.engine.explain(parts, SocketAddr::from(CLIENT), Scheme::Http).await;
    said.map_err(|(status, reason)| (status.as_u16(), reason))
}

async fn check(world: &World, line: &str, action: &str, reason: &str) -> Explanation {
    let fetches = world.origin.fetches();
    let said = explain(world, line).await.unwrap();
    assert_eq!((said.verdict.action, said.verdict.reason), (action, reason), "{line}: {said:?}");
    assert!(!said.verdict.clause.is_empty());
    assert_eq!((world.origin.fetches(), world.engine.flights()), (fetches, 0), "{line}: an explanation asks nobody");
    said
}

#[tokio::test]
async fn verdicts() {
    let world = World::edge().await;
    let nothing = check(&world, "GET /a", "fetch", "uri-miss").await;
    assert!(nothing.stored.is_empty() && nothing.rules.is_empty() && !nothing.known_private);
    assert_eq!((nothing.site.as_str(), nothing.key.as_str()), ("www", "www http://www.example/a"));
    play(
        &world,
        "
        reply /a 200 ; cache-control: max-age=60 ; etag: \"1\" ; age: 10 ; surrogate-key: k1 k2 | v1
        GET /a => 200 v1
        time +20s
    ",
    )
    .await;
    let hit = check(&world, "GET /a", "hit", "fresh").await;
    assert!(hit.verdict.clause.starts_with("RFC 9111 §4.2"), "{}", hit.verdict.clause);
    let stored = &hit.stored[0];
    assert!(stored.selected && stored.tags == ["k1", "k2"] && stored.purged.is_none());
    assert_eq!((stored.status.as_u16(), stored.bytes, stored.tier), (200, 2, "memory"));
    assert_eq!((stored.freshness.initial_age_ms, stored.age_ms, stored.ttl_ms), (10_000, 30_000, 30_000));
    assert_eq!((stored.freshness.source.as_str(), stored.stale_if_error_ms), ("max-age", 86_400_000));
    play(&world, "time +60s").await;
    let stale = check(&world, "GET /a", "validate", "stale").await;
    assert_eq!(stale.stored[0].ttl_ms, -30_000);
    let again = "reply /a 200 ; cache-control: max-age=60 | v2\nGET /a => 200 v2 ; cache-status: *fwd=stale*";
    play(&world, again).await;
    check(&world, "POST /a", "pass", "method").await;
    assert_eq!(explain(&world, "GET /a ; host: other.example").await.unwrap_err(), (421, "unknown-host"));
    play(&world, "reply /p 200 ; cache-control: private | mine\nGET /p => 200 mine\nGET /p => 200 mine").await;
    assert!(check(&world, "GET /p", "fetch", "uri-miss").await.known_private);
}

#[tokio::test]
async fn variants_are_all_told() {
    let world = World::edge().await;
    play(
        &world,
        "
        reply /v 200 ; cache-control: max-age=60 ; vary: accept-encoding | v
        GET /v ; accept-encoding: br => 200 v
        GET /v ; accept-encoding: gzip => 200 v
    ",
    )
    .await;
    let said = check(&world, "GET /v ; accept-encoding: br", "hit", "fresh").await;
    let selects: Vec<_> = said.stored.iter().map(|one| (one.selects[0].1.as_deref(), one.selected)).collect();
    assert_eq!(selects, [(Some("gzip"), false), (Some("br"), true)]);
    let said = check(&world, "GET /v", "fetch", "vary-miss").await;
    assert!(said.stored.iter().all(|one| !one.selected) && said.stored.len() == 2);
    assert!(said.verdict.clause.starts_with("RFC 9111 §4.1"));
}

#[tokio::test]
async fn rules_and_keys_are_told() {
    let list = rules(
        "[[site.rule]]\nmatch = { path = \"/old\" }\nredirect = { to = \"/new\" }\n\
         [[site.rule]]\nmatch = { status = 404 }\ncache = { ttl = \"10s\" }\n\
         [[site.rule]]\nmatch = { header = { X-Beta = \"1\" } }\ncache = \"pass\"\n\
         [[site.rule]]\nmatch = { path = \"*\" }\ncache = { ttl = \"1m\", key = { device = true, cookies = [\"t\"] } }",
    );
    let world = World::new(Tier::Edge, CachePolicy::default(), list).await;
    let said = check(&world, "GET /old", "redirect", "redirect").await;
    assert_eq!(said.redirect.unwrap().1, "/new");
    check(&world, "GET /a ; x-beta: 1", "pass", "pass").await;
    play(&world, "reply /a 404 | no\nGET /a ; cookie: t=1 => 404 no").await;
    let said = check(&world, "GET /a ; cookie: t=1; u=2", "hit", "fresh").await;
    let outcomes: Vec<_> = said.rules.iter().map(|rule| rule.outcome.as_str()).collect();
    assert_eq!(outcomes, ["path", "awaits-status", "header", "fires"]);
    assert_eq!((said.stored[0].rule, said.stored[0].freshness.lifetime_ms), (Some(1), 10_000));
    assert_eq!(
        said.key_parts,
        [("device".to_owned(), Some("desktop".to_owned())), ("cookie t".to_owned(), Some("1".to_owned()))]
    );
    assert_eq!(said.key, "www http://www.example/a[device desktop][cookie t 1]");
}

#[tokio::test]
async fn purges_are_told() {
    use perigee_semantics::purge::{Kind, Scope};
    let world = World::edge().await;
    play(&world, "reply /a 200 ; cache-control: max-age=60 ; surrogate-key: k1 | v1\nGET /a => 200 v1").await;
    let tag = Scope::Tag { site: "www".parse().unwrap(), tag: "k1".into() };
    let now = perigee_semantics::time::Timestamp::from_millis(1);
    let ack = world.engine.store().purge(Kind::Soft, std::slice::from_ref(&tag), now).await;
    let said = check(&world, "GET /a", "validate", "soft-purged-by-tag").await;
    let purge = said.stored[0].purged.clone().unwrap();
    assert_eq!((purge.reason, purge.seq), ("soft-purged-by-tag", ack.seq.as_u64()));
    assert_eq!(purge.what, Some(tag.to_string()));
    world.engine.store().purge(Kind::Hard, &[Scope::Everything], now).await;
    let said = check(&world, "GET /a", "fetch", "purged-all").await;
    assert_eq!(said.stored[0].purged.as_ref().map(|purge| purge.reason), Some("purged-all"));
    assert!(!said.stored[0].selected);
}
