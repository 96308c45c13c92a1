//! Internal fields: to shields with a proof, to origins never, from either only what is proven.

use perigee_testkit::{Reply, ScriptedOrigin, Seen};
use perigee_upstream::Claims;

use crate::*;

const SECRET: &str = "a secret of the fleet";

fn claiming(target: &str) -> FetchRequest {
    let claims = Claims {
        site: "www".parse().unwrap(),
        key_authority: "shop.example".into(),
        key_scheme: perigee_protocol::model::Scheme::Https,
        rule: None,
    };
    let mut asked = get(target);
    asked.headers.insert("perigee-site", "forged".parse().unwrap());
    asked.headers.insert("x-kept", "yes".parse().unwrap());
    FetchRequest { shield_claims: Some(claims), ..asked }
}

/// Answers as a shield that holds `SECRET`.
fn aged(seen: &Seen) -> Reply {
    let reply = Reply::ok("aged").header("Perigee-Age-Ms", 4321).header("Perigee-Other", "x");
    match seen.header("perigee-proof") {
        Some(asked) => {
            let proof = FleetSecret::new(SECRET.as_bytes()).unwrap().prove_response(asked, &["4321"]);
            reply.header("Perigee-Proof", proof)
        }
        None => reply,
    }
}

fn internal(seen: &Seen) -> Vec<&str> {
    seen.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("perigee-")).collect()
}

async fn fetched(server: &ScriptedOrigin, as_shield: bool, secret: Option<&'static str>) -> (Option<u64>, Seen) {
    let setup = if as_shield {
        Setup { shields: vec![shield("shield-eu", &server.url(), "fra")], secret, ..Setup::default() }
    } else {
        Setup { origins: vec![origin(&server.url())], secret, ..Setup::default() }
    };
    let world = setup.build();
    let response = world.fetch(claiming("/a?b")).await.unwrap();
    assert!(!response.headers.keys().any(|name| name.as_str().starts_with("perigee-")), "{:?}", response.headers);
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.header("host"), seen.header("x-kept")), (Some("shop.example"), Some("yes")));
    (response.trusted_age_ms, seen)
}

#[tokio::test]
async fn with_a_secret_a_shield_is_told_and_believed() {
    let server = ScriptedOrigin::answering(aged).await;
    let (age, seen) = fetched(&server, true, Some(SECRET)).await;
    assert_eq!(age, Some(4321));
    assert_eq!(
        (seen.header("perigee-site"), seen.header("perigee-key-authority")),
        (Some("www"), Some("shop.example"))
    );
    let now_ms = TestClock::default().now_ms();
    let secret = FleetSecret::new(SECRET.as_bytes()).unwrap();
    assert!(secret.verify_request(
        seen.header("perigee-proof").unwrap(),
        now_ms,
        "GET",
        "/a?b",
        &["www", "shop.example", "https"]
    ));
}

#[tokio::test]
async fn without_one_or_with_another_nothing_is_believed() {
    let server = ScriptedOrigin::answering(aged).await;
    let (age, seen) = fetched(&server, true, None).await;
    assert_eq!((age, internal(&seen)), (None, vec![]));
    assert_eq!(fetched(&server, true, Some("another fleet's secret")).await.0, None);
}

#[tokio::test]
async fn origins_are_told_nothing() {
    let server = ScriptedOrigin::answering(aged).await;
    let (age, seen) = fetched(&server, false, Some(SECRET)).await;
    assert_eq!((age, internal(&seen)), (None, vec![]));
}
