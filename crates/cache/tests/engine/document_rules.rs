//! `[[site.rule]]`: which one a request has, and what it does, against a scripted origin.

use perigee_protocol::{
    document,
    model::{CachePolicy, Rule},
};
use perigee_semantics::policy::Tier;

use crate::{dialogue::play, world::World};

pub(crate) fn rules(text: &str) -> Vec<Rule> {
    let text = format!(
        "[cdn]\nzone = \"cdn.example\"\n[geo]\ndatabase = \"w.mmdb\"\n[[pop]]\nid = \"fra\"\nlatitude = 0\nlongitude = 0\naddresses = [\"198.18.0.1\"]\n\
         [[site]]\nid = \"www\"\norigins = [{{ url = \"http://198.18.0.2\" }}]\n{text}"
    );
    document::load("rules.toml", &text).unwrap().sites.remove(0).rules
}

async fn edge(text: &str) -> World {
    World::new(Tier::Edge, CachePolicy::default(), rules(text)).await
}

#[tokio::test]
async fn one_request_has_one_rule() {
    let world = edge(
        "[[site.rule]]\nmatch = { path = \"/a*\", cookie = \"session\" }\ncache = \"pass\"\n\
         [[site.rule]]\nmatch = { extension = \"css\", header = { X-Beta = \"1\" } }\nheaders = { set = { X-Rule = \"1\" } }\n\
         [[site.rule]]\nmatch = { path = \"/a*\", method = \"GET\" }\ncache = { ttl = \"1m\" }\nheaders = { set = { X-Rule = \"2\" }, add = { X-Rule = \"again\" } }",
    )
    .await;
    let script = "
        reply /a 200 | v1
        GET /a ; cookie: session=1 => 200 v1 ; cache-status: *fwd=bypass*detail=pass* ; x-rule: -
        GET /a ; cookie: sessions=1 => 200 v1 ; cache-status: *uri-miss*stored* ; x-rule: 2, again
        GET /a => 200 v1 ; cache-status: *hit* ; x-rule: 2, again
        HEAD /a => 200 ; cache-status: *hit* ; x-rule: 2, again
        reply /a.CSS 200 ; cache-control: max-age=9 | v1
        GET /a.CSS ; x-beta: 1 => 200 v1 ; x-rule: 1
        GET /a.CSS ; x-beta: 2 => 200 v1 ; x-rule: 2, again
    ";
    play(&world, script).await;
}

#[tokio::test]
async fn a_status_decides_what_is_said_of_the_response() {
    let world = edge(
        "[[site.rule]]\nmatch = { path = \"/a*\", status = 404 }\ncache = { ttl = \"10s\" }\nheaders = { set = { X-Rule = \"0\" } }\n\
         [[site.rule]]\nmatch = { status = \"5xx\" }\nheaders = { set = { X-Rule = \"1\" } }\n\
         [[site.rule]]\nmatch = { path = \"*\" }\ncache = { ttl = \"1m\", stale_if_error = \"0s\" }\nheaders = { set = { X-Rule = \"2\" } }",
    )
    .await;
    let script = "
        reply /a 404 | gone
        GET /a => 404 gone ; x-rule: 0
        time +9s
        GET /a => 404 gone ; x-rule: 0 ; cache-status: *hit*
        time +2s
        reply /a 200 | v1
        GET /a => 200 v1 ; x-rule: 2
        time +59s
        GET /a => 200 v1 ; x-rule: 2 ; cache-status: *hit*
        reply /b 404 | gone
        GET /b => 404 gone ; x-rule: 2
        GET /b => 404 gone ; x-rule: 2 ; cache-status: *fwd*
        reply /c 503 | no
        GET /c => 503 no ; x-rule: 1
        time +60s
        reply /a 500 | no
        GET /a => 500 no ; x-rule: 1
        down
        GET /a => 502
    ";
    play(&world, script).await;
}

#[tokio::test]
async fn what_a_rule_keys_is_what_the_origin_sees() {
    let world = edge(
        "[[site.rule]]\nmatch = { path = \"/k*\" }\ncache = { ttl = \"1m\", key = { headers = [\"X-Lang\"], cookies = [\"theme\"], device = true, country = true } }",
    )
    .await;
    let script = "
        reply /k 200 ; vary: cookie | v1
        GET /k ; x-lang: de ; cookie: id=1; theme=dark => 200 v1 ; cache-status: *uri-miss*
        GET /k ; x-lang: de ; cookie: theme=dark; id=2 => 200 v1 ; cache-status: *hit*
        GET /k ; x-lang: en ; cookie: theme=dark => 200 v1 ; cache-status: *uri-miss*
        GET /k ; x-lang: de ; cookie: id=1 => 200 v1 ; cache-status: *uri-miss*
        GET /k ; x-lang: de => 200 v1 ; cache-status: *hit*
        GET /k ; x-lang: de ; user-agent: iPhone => 200 v1 ; cache-status: *uri-miss*
        GET /k ; x-lang: de ; user-agent: iPod => 200 v1 ; cache-status: *hit*
        fetches 4
    ";
    play(&world, script).await;
    let sent = world.origin.last();
    assert_eq!(sent["x-device-class"], "mobile");
    assert!(!sent.contains_key("cookie") && !sent.contains_key("x-country"), "{sent:?}");
    play(&world, "reply /k?1 200 | v1\nGET /k?1 ; cookie: id=1; theme=dark ; x-country: US => 200 v1").await;
    assert_eq!(world.origin.last()["cookie"], "theme=dark");
    assert!(!world.origin.last().contains_key("x-country"), "a client does not choose its country");
    play(&world, "reply /k 200 | posted\nPOST /k ; cookie: id=1; theme=dark => 200 posted").await;
    assert_eq!(world.origin.last()["cookie"], "id=1; theme=dark", "what an unsafe request says is all sent on");
}

#[tokio::test]
async fn request_fields_change_before_anything_is_decided() {
    let world = edge(
        "[[site.rule]]\nmatch = { header = { X-Beta = \"1\" } }\nrequest_headers = { set = { X-Release = \"next\" }, remove = [\"X-Debug\", \"Range\"] }\n\
         [[site.rule]]\nmatch = { path = \"/p*\" }\nrequest_headers = { remove = [\"Authorization\"] }",
    )
    .await;
    let script = "
        reply /a 200 ; cache-control: max-age=60 | abc
        GET /a ; x-beta: 1 ; x-debug: 1 ; range: bytes=0-0 => 200 abc ; cache-status: *uri-miss*
        GET /a ; x-beta: 1 => 200 abc ; cache-status: *hit*
    ";
    play(&world, script).await;
    assert_eq!(world.origin.last()["x-release"], "next");
    assert!(!world.origin.last().contains_key("x-debug"));
    let script = "
        reply /a 200 ; cache-control: max-age=60 | old
        GET /a => 200 old ; cache-status: *uri-miss*
        GET /a ; range: bytes=0-0 => 206 o
        reply /p 200 ; cache-control: max-age=60 | open
        GET /p ; authorization: Basic eDp5 => 200 open ; cache-status: *stored*
        GET /p ; authorization: Basic eDp6 => 200 open ; cache-status: *hit*
    ";
    play(&world, script).await;
    assert!(!world.origin.last().contains_key("authorization"));
}

#[tokio::test]
async fn redirects_answer_without_asking() {
    let world = edge(
        "[[site.rule]]\nmatch = { path = \"/old/*\" }\nredirect = { status = 308, to = \"https://new.example{path}{query}\" }\nheaders = { set = { Cache-Control = \"max-age=9\" } }\n\
         [[site.rule]]\nmatch = { extension = \"htm\" }\nredirect = { to = \"{path}l\" }",
    )
    .await;
    let script = "
        GET /old/a?b=c => 308 ; location: https://new.example/old/a?b=c ; content-length: 0 ; cache-control: max-age=9 ; cache-status: *detail=redirect*
        POST /old/a => 308 ; location: https://new.example/old/a
        GET //evil.example/a.htm => 302 ; location: /evil.example/a.html
        fetches 0
    ";
    play(&world, script).await;
}

#[tokio::test]
async fn a_rules_query_is_what_is_keyed_and_sent() {
    let world = edge(
        "[[site.rule]]\nmatch = { path = \"/q\" }\ncache = { ttl = \"1m\", query = { keep = [\"a\", \"b\"], sort = true }, stale_while_revalidate = \"10s\" }",
    )
    .await;
    let script = "
        reply /q?a=1&b=2 200 | v1
        GET /q?b=2&x=1&a=1 => 200 v1
        GET /q?a=1&b=2&y => 200 v1 ; cache-status: *hit*
        time +65s
        GET /q?a=1&b=2 => 200 v1 ; cache-status: *stale-while-revalidate*
        fetches 2
    ";
    play(&world, script).await;
}

/// An unsafe request has a rule of its own; what it changed is known under the keys of all others.
#[tokio::test]
async fn invalidation_reaches_every_key_of_a_url() {
    let world = edge(
        "[[site.rule]]\nmatch = { path = \"*\", method = \"GET\", header = { X-Short = \"1\" } }\ncache = { ttl = \"1m\", ignore_query = true }\n\
         [[site.rule]]\nmatch = { path = \"*\", method = \"GET\" }\ncache = { ttl = \"1m\", key = { device = true } }",
    )
    .await;
    let script = "
        reply /a 200 | v1
        reply /a?x 200 | v1
        GET /a?x ; x-short: 1 => 200 v1
        GET /a?x ; user-agent: iPhone => 200 v1
        GET /a?x => 200 v1
        fetches 3
        GET /a?x ; x-short: 1 => 200 v1 ; cache-status: *hit*
        GET /a?x ; user-agent: iPhone => 200 v1 ; cache-status: *hit*
        POST /a?x => 200 v1
        reply /a 200 | v2
        reply /a?x 200 | v2
        GET /a?x ; x-short: 1 => 200 v2
        GET /a?x ; user-agent: iPhone => 200 v2
        GET /a?x => 200 v2
    ";
    play(&world, script).await;
}
