use perigee_testkit::{Reply, ScriptedOrigin};

use crate::{Ran, perigee};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rules.toml");

fn rule(arguments: &[&str]) -> Ran {
    perigee(["explain", "rule", "--document", RULES].iter().chain(arguments))
}

fn fits_a_terminal(text: &str) {
    for line in text.lines() {
        // A word may be longer than a line; nothing else is.
        assert!(line.chars().count() <= 80 || line.split_whitespace().count() <= 2, "{line}");
    }
}

#[test]
fn a_rule_is_told_with_why_the_others_do_not_fire() {
    let ran = rule(&["http://www.example.com/shop/?x=1&page=2", "-H", "Cookie: theme=dark; id=7", "--country", "DE"]);
    let expected = "\
GET         http://www.example.com/shop/?x=1&page=2
site        www
rule        6: path /shop/*, method GET
            query keep page sort, query sort, key header accept-language cookie
            theme device country
  rule 0    host does not fit: host example.com
  rule 1    if upstream answers so: status 404 410; ttl 10s
  rule 2    if upstream answers so: status 5xx; headers =x-error-from
  rule 3    path does not fit: path /account/* /cart*, cookie session
  rule 4    path does not fit: path /account/* /cart*
  rule 5    extension does not fit: extension jpg jpeg png webp avif svg, host
            img.example.com
  rule 7    header does not fit: header x-beta 1
  rule 8    fits, behind the rule that fires
key         www http://www.example.com/shop/?page=2[device desktop][country
            DE][header accept-language][cookie theme dark]
";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{}", ran.stderr);
    fits_a_terminal(&ran.stdout);
}

#[test]
fn what_a_rule_makes_of_a_request_is_told() {
    let check = |arguments: &[&str], line: &str| {
        let ran = rule(arguments);
        assert!(ran.stdout.lines().any(|told| told == line), "{line}: {ran:?}");
    };
    check(&["http://example.com/a?b"], "redirect    308 https://www.example.com/a?b");
    check(&["http://www.example.com/cart", "-H", "Cookie: session=1"], "            pass");
    check(&["http://www.example.com/cart", "--status", "404"], "response    of 404 has rule 1");
    check(&["http://www.example.com/cart", "--status", "200"], "response    of 200 has rule 4");
    check(&["http://IMG.example.com/a.PNG?x", "--method", "HEAD"], "key         www http://img.example.com/a.PNG");
    let ran = rule(&["https://www.cdn.example/x", "-H", "X-Beta: 1", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["rule"], &told["rules"][8]["outcome"]), (&7.into(), &"behind".into()), "{told}");
    assert_eq!(told["key"], "www https://www.cdn.example/x[request_headers - x-debug = x-release next]");
}

#[test]
fn questions_that_have_no_answer_exit_with_1() {
    for (arguments, said) in [
        (&["http://other.example/"][..], "is the host of no site"),
        (&["/a"], "a URL begins with http:// or https://"),
        (&["http://a b/"], "is no URL"),
        (&["http://example.com/", "-H", "nonsense"], "a field is \"Name: value\""),
        (&["http://example.com/", "--method", "a b"], "is no method"),
    ] {
        let ran = rule(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert_eq!(perigee(["explain", "rule", "http://a/"]).code, Some(2), "the document is missing");
}

const TOLD: &str = r#"{"url":"http://www.example.com/a","method":"GET","generation":7,"site":"www","rule":1,
 "rules":[{"rule":0,"match":"path /b","does":"pass","outcome":"path"},{"rule":1,"match":"path *","does":"","outcome":"fires"}],
 "redirect":null,"key":"www http://www.example.com/a[device mobile]","key_parts":[{"name":"device","value":"mobile"},{"name":"cookie x","value":null}],
 "key_hash":"00000000000000ff","verdict":{"action":"hit","reason":"fresh","clause":"RFC 9111 §4.2: its lifetime exceeds its age"},
 "fetching":true,"known_private":false,"stored":[{"selected":true,"selects":[{"name":"accept-encoding","value":"br"},{"name":"x","value":null}],
 "status":200,"bytes":1048577,"head":"memory","segments":{"memory":3,"disk":1,"missing":1},"rule":1,
 "freshness":{"lifetime_ms":3600000,"source":"max-age","clause":"RFC 9111 §5.2.2.1: max-age","response_time_ms":0,"initial_age_ms":10,"age_ms":1010,
 "ttl_ms":3598990,"stale_while_revalidate_ms":0,"stale_if_error_ms":86400000,"no_cache":false,"must_revalidate":true,"immutable":false},
 "tags":["k1","k2"],"fence":4,"purged":{"reason":"soft-purged-by-tag","seq":5,"what":"tag www k1"}}],"upstreams":["shield shield-eu","origin http://198.18.0.90:8000"]}"#;

async fn http(node: &ScriptedOrigin, more: &'static [&'static str]) -> Ran {
    let node = node.address().to_string();
    let run = move || perigee(["explain", "http", "http://www.example.com/a", "--node", &node].iter().chain(more));
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_fits_a_terminal() {
    let node = ScriptedOrigin::answering(|seen| {
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/explain/http"));
        Reply::ok(TOLD)
    })
    .await;
    let ran = http(&node, &["-H", "Accept-Encoding: br"]).await;
    let expected = "\
GET         http://www.example.com/a
site        www (generation 7)
rule        1: path *
            does nothing
  rule 0    path does not fit: path /b
key         www http://www.example.com/a[device mobile]
            device: mobile
            cookie x: (none)
hash        00000000000000ff
verdict     hit: fresh; a fetch is under way
            RFC 9111 §4.2: its lifetime exceeds its age
stored      1 of 1, this one
  response  200, 1.0 MiB, head from memory
  segments  3 in memory, 1 on disk, 1 missing
  selected  accept-encoding: br
  selected  x: (none)
  lifetime  1h by RFC 9111 §5.2.2.1: max-age, rule 1
  age       1.010s = 0.010s on arrival + 1s since
  fresh     for 59m 58.990s, must-revalidate
  may be    stale for 0s while revalidated, 1d on errors
  tags      k1 k2
  purged    soft-purged-by-tag by purge 5 of tag www k1; fence 4
upstream
  1.        shield shield-eu
  2.        origin http://198.18.0.90:8000
";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{}", ran.stderr);
    fits_a_terminal(&ran.stdout);
    let told: serde_json::Value = serde_json::from_str(&http(&node, &["--json"]).await.stdout).unwrap();
    assert_eq!(told["stored"][0]["segments"]["missing"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_nodes_are_told() {
    let refusing = ScriptedOrigin::answering(|_| {
        Reply::new(400).body(r#"{"error":"bad-question","message":"url must have a host"}"#)
    })
    .await;
    let nameserver = ScriptedOrigin::answering(|_| Reply::new(404).body("{}")).await;
    for (node, said) in [(&refusing, "url must have a host"), (&nameserver, "ask an edge or a shield")] {
        let ran = http(node, &[]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let refused =
        r#"{"url":"http://www.example.com/a","method":"GET","refused":{"status":421,"reason":"unknown-host"}}"#;
    let node = ScriptedOrigin::answering(move |_| Reply::ok(refused)).await;
    let ran = http(&node, &[]).await;
    assert!(ran.code == Some(0) && ran.stdout.ends_with("refused     421: unknown-host\n"), "{ran:?}");
}

#[test]
fn where_a_client_is_sent_by_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("world.csv"), "prefix,country,city,lat,lon,asn\n127.61.0.0/16,AU,Sydney,-33.87,151.21,\n")
        .unwrap();
    assert_eq!(perigee(["geo", "build", &path("world.csv"), &path("world.mmdb")]).code, Some(0));
    let pop = |id: &str, latitude: i32, longitude: i32, address: &str| {
        format!("[[pop]]\nid = \"{id}\"\nlatitude = {latitude}\nlongitude = {longitude}\naddresses = [\"{address}\"]\n")
    };
    let document = format!(
        "version = 1\n[cdn]\nzone = \"cdn.example\"\n[geo]\ndatabase = \"missing.mmdb\"\n{}{}[[site]]\nid = \"www\"\norigins = [{{ url = \"http://a\" }}]\n",
        pop("fra", 50, 9, "198.18.49.10"),
        pop("syd", -34, 151, "198.18.61.10"),
    );
    std::fs::write(path("cdn.toml"), document).unwrap();
    let run = |more: &[&str]| {
        let (document, database) = (path("cdn.toml"), path("world.mmdb"));
        let files = ["explain", "dns", "--document", &document, "--database", &database];
        perigee(files.iter().chain(more))
    };
    let ran = run(&["www.cdn.example", "--client", "127.61.0.1"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "answer: www.cdn.example A 198.18.61.10 198.18.49.10, TTL 30s, nearest from syd",
            "client: 127.61.0.1 at -33.8700 151.2100 by database, country AU",
            "scope: /16 by place /16",
            "1. syd: 24 km, weight 100, 198.18.61.10 up: answered",
            "2. fra: 16465 km, weight 100, 198.18.49.10 up: answered",
        ],
        "{ran:?}"
    );
    let ran =
        run(&["www.cdn.example", "--client", "192.0.2.1", "--subnet", "127.61.0.0/16", "--type", "aaaa", "--json"]);
    assert!(ran.stdout.contains("\"reason\": \"no-address\"") && ran.stdout.contains("\"type\": \"AAAA\""), "{ran:?}");
    let ran = run(&["www.example.com", "--client", "127.61.0.1"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("is not in the zone cdn.example"), "{ran:?}");
    let document = path("cdn.toml");
    let ran = perigee(["explain", "dns", "www.cdn.example", "--client", "127.61.0.1", "--document", &document]);
    assert!(ran.code == Some(1) && ran.stderr.contains("missing.mmdb"), "{ran:?}");
    let ran = perigee(["explain", "dns", "www.cdn.example", "--client", "127.61.0.1", "--node", "127.0.0.1:9"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("no nameserver answers at 127.0.0.1:9"), "{ran:?}");
}
