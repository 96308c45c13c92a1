use http::StatusCode;
use perigee_protocol::{
    document,
    model::{CachePolicy, Scheme},
};
use proptest::prelude::*;

use super::*;
use crate::{key::CacheKey, policy::Policy, policy::Tier};

/// The rules of a document that says so.
fn rules(text: &str) -> Vec<Rule> {
    let text = format!(
        "[cdn]\nzone = \"cdn.example\"\n[geo]\ndatabase = \"w.mmdb\"\n[[pop]]\nid = \"fra\"\nlatitude = 0\nlongitude = 0\naddresses = [\"198.18.0.1\"]\n\
         [[site]]\nid = \"www\"\norigins = [{{ url = \"http://198.18.0.2\" }}]\n{text}"
    );
    document::load("rules.toml", &text).unwrap().sites.remove(0).rules
}

/// `GET img.example/a.jpg; Cookie: a=b; X: y` as a request: method, URL, fields.
fn request(line: &str) -> (Method, String, String, HeaderMap) {
    let mut parts = line.split("; ");
    let (method, url) = parts.next().unwrap().split_once(' ').unwrap();
    let (host, path) = url.split_at(url.find('/').unwrap());
    let mut headers = HeaderMap::new();
    for field in parts {
        let (name, value) = field.split_once(": ").unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.replace('|', ";").parse().unwrap());
    }
    (method.parse().unwrap(), host.to_owned(), path.to_owned(), headers)
}

fn choose(rules: &[Rule], line: &str) -> Choice {
    let (method, host, path, headers) = request(line);
    Choice::new(rules, &RuleView { path: &path, host: &host, method: &method, headers: &headers })
}

#[test]
fn matching() {
    let check = |matching: &str, line: &str, expected: Option<&str>| {
        let rules = rules(&format!("[[site.rule]]\nmatch = {{ {matching} }}"));
        let (method, host, path, headers) = request(line);
        let view = RuleView { path: &path, host: &host, method: &method, headers: &headers };
        assert_eq!(mismatch(&rules[0].when, &view).map(Mismatch::as_str), expected, "{matching} {line}");
    };
    check("path = \"/img/*\"", "GET a.example/img/x", None);
    check("path = \"/img/*\"", "GET a.example/imgs", Some("path"));
    check("path = [\"/a\", \"/b\"]", "GET a.example/b", None);
    check("extension = [\"jpg\", \"PNG\"]", "GET a.example/x.y/a.b.JPG", None);
    check("extension = \"png\"", "GET a.example/x.png/a", Some("extension"));
    check("extension = \"png\"", "GET a.example/xpng", Some("extension"));
    check("extension = \"png\"", "GET a.example/.png", None);
    check("extension = \"png\"", "GET a.example/a.png.", Some("extension"));
    check("host = [\"b.example\", \"*.a.example\"]", "GET X.A.Example/", None);
    check("host = \"a.example\"", "GET b.example/", Some("host"));
    check("method = [\"GET\"]", "GET a/", None);
    check("method = [\"GET\"]", "HEAD a/", None);
    check("method = [\"HEAD\"]", "GET a/", Some("method"));
    check("method = [\"PURGE\"]", "purge a/", Some("method"));
    check("header = { X-Beta = \"1\" }", "GET a/; x-beta: 1", None);
    check("header = { X-Beta = \"1\" }", "GET a/; x-beta: 10", Some("header"));
    check("header = { X-Beta = \"1\" }", "GET a/; x-beta: 0; x-beta: 1", None);
    check("header = { X-Beta = \"*\" }", "GET a/; x-beta: ", None);
    check("header = { X-Beta = \"*\" }", "GET a/", Some("header"));
    check("header = { Accept = [\"*webp*\", \"*avif*\"], X = \"*\" }", "GET a/; accept: image/avif, */*; x: y", None);
    check(
        "header = { Accept = [\"*webp*\", \"*avif*\"], X = \"*\" }",
        "GET a/; accept: image/avif, */*",
        Some("header"),
    );
    check("cookie = [\"session\", \"b\"]", "GET a/; cookie: a=1| session=", None);
    check("cookie = [\"session\"]", "GET a/; cookie: a=session| sessions=1| Session=1| session", Some("cookie"));
    check("cookie = \"b\"", "GET a/; cookie: a=1; cookie: b=2", None);
    check("path = \"/x*\", method = \"POST\", host = \"a\"", "POST a/x", None);
    check("path = \"/x*\", method = \"POST\", host = \"a\"", "POST b/x", Some("host"));
}

#[test]
fn the_first_that_matches_fires() {
    let rules = rules(
        "[[site.rule]]\nmatch = { path = \"/a/*\", status = 404 }\n[[site.rule]]\nmatch = { path = \"/b/*\", status = [200, \"5xx\"] }\n\
         [[site.rule]]\nmatch = { path = \"/a/x\" }\n[[site.rule]]\nmatch = { status = [404, 410] }\n[[site.rule]]\nmatch = { path = \"*\" }",
    );
    let check = |path: &str, request: Option<usize>, by_status: &[(u16, Option<usize>)]| {
        let choice = choose(&rules, &format!("GET a{path}"));
        assert_eq!(choice.index(), request, "{path}");
        for (status, expected) in by_status {
            assert_eq!(choice.index_for(&rules, *status), *expected, "{path} {status}");
            let rule = choice.rule_for(&rules, *status).map(|rule| &rule.when);
            assert_eq!(rule, expected.map(|index| &rules[index].when), "{path} {status}");
        }
    };
    check("/a/x", Some(2), &[(200, Some(2)), (404, Some(0)), (410, Some(2))]);
    check("/a/y", Some(4), &[(200, Some(4)), (404, Some(0)), (410, Some(3)), (500, Some(4))]);
    check(
        "/b/y",
        Some(4),
        &[(503, Some(1)), (404, Some(3)), (200, Some(1)), (206, Some(1)), (304, Some(1)), (301, Some(4))],
    );
    assert_eq!(choose(&rules[..2], "GET a/c"), Choice::default());
    assert_eq!(choose(&rules[..2], "GET a/b/").index_for(&rules, 404), None);
}

#[test]
fn claims() {
    let rules = rules(
        "[[site.rule]]\nmatch = { path = \"/a/*\", status = 404 }\n[[site.rule]]\nmatch = { status = \"5xx\" }\n[[site.rule]]\nmatch = { path = \"/a/x\" }",
    );
    let print = fingerprint(&rules);
    for path in ["/a/x", "/a/y", "/x"] {
        let choice = choose(&rules, &format!("GET a{path}"));
        let claim = choice.claim(print).unwrap();
        assert_eq!(Choice::from_claim(&claim, print, &rules).as_ref(), Some(&choice), "{claim}");
        assert_eq!(Choice::from_claim(&claim, print + 1, &rules), None);
    }
    let nothing = Choice::default();
    assert_eq!(Choice::from_claim(&nothing.claim(print).unwrap(), print, &rules), Some(nothing.clone()));
    assert_eq!(nothing.claim(fingerprint(&[])), None, "without rules nothing is said");
    assert_eq!(Choice::from_claim("", fingerprint(&[]), &[]), Some(nothing));
    assert_ne!(print, fingerprint(&rules[1..]));
    assert_eq!(fingerprint(&[]), 0);
    for bad in ["", "x", ":", "3", "3:3", "3:-1", "3:0:", "3:0:x", "3:0:1,", "3:0:1,3", "3:0:1:2", "3:65536"] {
        let bad = bad.replacen('3', &format!("{print:016x}"), 1);
        assert_eq!(Choice::from_claim(&bad, print, &rules), None, "{bad}");
    }
}

/// Applies the first rule to a request; the key's parts as people see them, and the fields in their order.
fn prepared(rule: &str, line: &str, client: Client) -> (String, String) {
    let rules = rules(&format!("[[site.rule]]\nmatch = {{ path = \"*\" }}\n{rule}"));
    let (method, _, _, mut headers) = request(line);
    let bytes = prepare(&rules[0], &method, client, &mut headers);
    let parts: Vec<_> = KeyPart::read_all(&bytes)
        .iter()
        .map(|part| format!("{}={}", part.name(), part.value().as_deref().unwrap_or("-")))
        .collect();
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    (parts.join("; "), fields.join("; "))
}

const OUTSIDE: Client = Client::Outside(None);

#[test]
fn keys() {
    let check = |key: &str, line: &str, client: Client, parts: &str, fields: &str| {
        let found = prepared(&format!("cache = {{ key = {{ {key} }} }}"), line, client);
        assert_eq!(found, (parts.to_owned(), fields.to_owned()), "{key} {line}");
    };
    check("", "GET a/; cookie: a=1", OUTSIDE, "", "cookie: a=1");
    check("headers = [\"X-Lang\"]", "GET a/; x-lang: de", OUTSIDE, "header x-lang=de", "x-lang: de");
    check("headers = [\"X-Lang\"]", "GET a/", OUTSIDE, "header x-lang=-", "");
    check(
        "headers = [\"Accept-Language\"]",
        "GET a/; accept-language: EN;q=0.5,DE",
        OUTSIDE,
        "header accept-language=de,en;q=0.500",
        "accept-language: de,en;q=0.500",
    );
    check("cookies = []", "GET a/; cookie: a=1", OUTSIDE, "cookie=-", "");
    check(
        "cookies = [\"theme\", \"x\"]",
        "GET a/; cookie: b=1| theme=dark; cookie: theme=light",
        OUTSIDE,
        "cookie theme=dark, light; cookie x=-",
        "cookie: theme=dark; theme=light",
    );
    check("cookies = [\"t\"]", "POST a/; cookie: b=1| t=2", OUTSIDE, "cookie t=2", "cookie: b=1; t=2");
    let phone = "GET a/; user-agent: iPhone; x-device-class: bot; x-country: US";
    check(
        "device = true, country = true",
        phone,
        Client::Outside(Some(*b"DE")),
        "device=mobile; country=DE",
        "user-agent: iPhone; x-country: DE; x-device-class: mobile",
    );
    check("country = true", phone, OUTSIDE, "country=-", "user-agent: iPhone; x-device-class: bot");
    check(
        "device = true, country = true",
        phone,
        Client::Peer,
        "device=bot; country=US",
        "user-agent: iPhone; x-country: US; x-device-class: bot",
    );
    check(
        "device = true",
        "GET a/; user-agent: iPhone",
        Client::Peer,
        "device=mobile",
        "user-agent: iPhone; x-device-class: mobile",
    );
}

#[test]
fn request_fields_change_once_and_are_keyed() {
    let rule = "request_headers = { remove = [\"A\"], set = { B = \"2\" }, add = { B = \"3\", C = \"4\" } }";
    let part = "request_headers=- a = b 2 + b 3 + c 4";
    let (parts, fields) = prepared(rule, "GET a/; a: 1; b: 1; c: 1", OUTSIDE);
    assert_eq!((parts.as_str(), fields.as_str()), (part, "b: 2; b: 3; c: 1; c: 4"));
    let (parts, again) = prepared(rule, "GET a/; b: 2; b: 3; c: 1; c: 4", Client::Peer);
    assert_eq!((parts.as_str(), again), (part, fields), "a shield changes nothing twice, and has the edge's key");
    // What the rule sets is what is keyed.
    let rule = "request_headers = { set = { Cookie = \"t=x; u=y\" } }\ncache = { key = { cookies = [\"t\"] } }";
    let (parts, fields) = prepared(rule, "GET a/; cookie: t=1", OUTSIDE);
    assert!(parts.starts_with("cookie t=x; request_headers="), "{parts}");
    assert_eq!(fields, "cookie: t=x");
}

#[test]
fn rules_in_words() {
    let text = include_str!("../../../../deploy/rules.toml");
    let rules = document::load("rules.toml", text).unwrap().sites.remove(0).rules;
    let check = |index: usize, matching: &str, doing: &str| {
        assert_eq!(describe::matching(&rules[index].when), matching);
        assert_eq!(describe::doing(&rules[index]), doing);
    };
    check(0, "host example.com", "redirect 308 https://www.example.com{path}{query}");
    check(1, "status 404 410", "ttl 10s");
    check(2, "status 5xx", "headers =x-error-from");
    check(3, "path /account/* /cart*, cookie session", "pass");
    check(4, "path /account/* /cart*", "ttl 1m, key no cookie");
    check(
        6,
        "path /shop/*, method GET",
        "query keep page sort, query sort, key header accept-language cookie theme device country",
    );
    check(7, "header x-beta 1", "request_headers -x-debug =x-release");

    let outcomes = |line: &str| {
        let (method, host, path, headers) = request(line);
        let view = RuleView { path: &path, host: &host, method: &method, headers: &headers };
        let outcomes = describe::weigh(&rules, &view);
        let fires = outcomes.iter().position(|outcome| *outcome == describe::Outcome::Fires);
        assert_eq!(fires, Choice::new(&rules, &view).index());
        outcomes.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        outcomes("GET www.example.com/cart; cookie: session=1"),
        "host awaits-status awaits-status fires behind extension path header behind"
    );
    assert_eq!(
        outcomes("HEAD img.example.com/a.JPG; x-beta: 1"),
        "host awaits-status awaits-status path path fires path behind behind"
    );
    assert_eq!(outcomes("GET example.com/"), "fires behind behind path path extension path header behind");
}

fn key_of(parts: &[u8]) -> CacheKey {
    let cache = CachePolicy::default();
    let policy = Policy { cache: &cache, rule: None, tier: Tier::Edge };
    CacheKey::new(&"www".parse().unwrap(), Scheme::Http, "a.example", "/p", Some("q"), &policy).with_parts(parts)
}

#[test]
fn keys_with_parts() {
    let rules =
        rules("[[site.rule]]\nmatch = { path = \"*\" }\ncache = { key = { headers = [\"X\"], device = true } }");
    let (method, _, _, mut headers) = request("GET a/; x: y");
    let parts = prepare(&rules[0], &method, OUTSIDE, &mut headers);
    let key = key_of(&parts);
    assert_eq!(key.to_string(), "www http://a.example/p?q[device desktop][header x y]");
    assert_eq!(key.variant(7).to_string(), "www http://a.example/p?q[device desktop][header x y]#7");
    assert_eq!((key.parts(), key.variant(7).parts(), key_of(&[]).parts()), (&parts[..], &parts[..], &[][..]));
    assert_eq!(key.site_and_url(), key_of(&[]).site_and_url(), "a purge of the URL is one of all its keys");
    assert_eq!(key.variant(7).site_and_url(), key_of(&[]).site_and_url());
    assert_ne!(key, key_of(&[]));
}

#[test]
fn peers_with_other_rules_share_with_their_kind() {
    let key_of = |claim: &str| {
        let mut parts = Vec::new();
        key_of_strangers(claim, &mut parts);
        key_of(&parts)
    };
    assert_eq!(key_of("00ff:1").to_string(), "www http://a.example/p?q[other_rules 00ff:1]");
    assert_ne!(key_of("00ff:1"), key_of("00ff:2"));
    assert_ne!(key_of(""), self::key_of(&[]));
}

#[test]
fn what_a_rule_says_of_freshness() {
    let rules = rules(
        "[[site.rule]]\nmatch = { path = \"/a\" }\ncache = { ttl = \"1m\", stale_while_revalidate = \"2s\", query = { keep = [] } }\n\
         [[site.rule]]\nmatch = { status = 404 }\ncache = { ttl = \"1s\", stale_if_error = \"0s\" }",
    );
    let cache = CachePolicy::default();
    let policy = |index: usize| Policy { cache: &cache, rule: Some(&rules[index].cache), tier: Tier::Edge };
    assert_eq!(policy(0).rule_ttl_ms(StatusCode::OK), Some(60_000));
    assert_eq!(policy(0).rule_ttl_ms(StatusCode::NOT_FOUND), None);
    assert_eq!(policy(1).rule_ttl_ms(StatusCode::NOT_FOUND), Some(1_000));
    assert_eq!((policy(0).stale_while_revalidate_ms(), policy(1).stale_while_revalidate_ms()), (2_000, 0));
    assert_eq!((policy(0).stale_if_error_ms(), policy(1).stale_if_error_ms()), (86_400_000, 0));
    assert!(policy(0).query().keep.is_empty() && policy(1).query().is_verbatim());
}

proptest! {
    /// Requests whose keyed values differ have different keys; equal ones reach the origin alike.
    #[test]
    fn what_is_keyed_is_what_is_sent(
        one in prop::collection::vec(("[ab]", "[a-c]{0,2}"), 0..4),
        other in prop::collection::vec(("[ab]", "[a-c]{0,2}"), 0..4),
    ) {
        let rules = rules("[[site.rule]]\nmatch = { path = \"*\" }\ncache = { key = { headers = [\"A\"], cookies = [\"a\", \"b\"] } }");
        let prepared = |pairs: &[(String, String)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(COOKIE, format!("{name}={value}; z={value}").parse().unwrap());
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            let key = prepare(&rules[0], &Method::GET, OUTSIDE, &mut headers);
            let a: Vec<_> = headers.get_all("a").iter().cloned().collect();
            (key, (a, headers.get(COOKIE).cloned()))
        };
        let ((key, sent), (other_key, other_sent)) = (prepared(&one), prepared(&other));
        prop_assert_eq!(key == other_key, sent == other_sent);
    }

    #[test]
    fn junk_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), path in ".{0,40}", claim in ".{0,40}") {
        KeyPart::read_all(&bytes);
        let rules = rules("[[site.rule]]\nmatch = { extension = \"a\", cookie = \"a\", header = { Cookie = \"*a*\" } }");
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            headers.insert(COOKIE, value);
        }
        Choice::new(&rules, &RuleView { path: &path, host: &claim, method: &Method::GET, headers: &headers });
        Choice::from_claim(&claim, 0, &rules);
        CacheKey::from_bytes(&bytes).parts();
    }
}
