use perigee_upstream::{BoxFuture, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Upstream};

use super::*;

#[derive(Debug)]
struct Nobody;

impl Upstream for Nobody {
    fn fetch(&self, _: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::new(FetchErrorKind::Connect))))
    }
}

fn snapshot() -> Snapshot {
    let text = "
        version = 1
        [cdn]
        name = \"t\"
        zone = \"t.example\"
        [[pop]]
        id = \"a\"
        latitude = 0
        longitude = 0
        addresses = [\"198.18.0.1\"]
        [[site]]
        id = \"www\"
        hosts = [\"www.example\"]
        origins = [{ url = \"http://127.0.0.1:1\" }]
        [[site]]
        id = \"shop\"
        hosts = [\"shop.example\", \"buy.example\"]
        host_header = \"origin.example\"
        origins = [{ url = \"http://127.0.0.1:1\" }]
        [site.cache]
        query = { drop = [\"utm_*\"] }
        [[site.rule]]
        match = { path = \"/static/*\" }
        cache = { ignore_query = true }
    ";
    let document =
        perigee_protocol::document::load("perigee.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let site = |site: model::Site| {
        let hosts = site.hosts.clone();
        (Site::new(site, Arc::new(Nobody)), hosts)
    };
    Snapshot::new(1, document.sites.into_iter().map(site).collect())
}

fn check(body: &str, expected: Result<(Kind, &str), (u16, &str)>) {
    let found = read(body.as_bytes(), &snapshot());
    let found = match &found {
        Ok((kind, scopes)) => {
            let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
            Ok((*kind, scopes.join(", ")))
        }
        Err(refused) => Err((refused.status.as_u16(), refused.message.clone())),
    };
    match (&found, expected) {
        (Ok(found), Ok((kind, scopes))) => assert_eq!((found.0, found.1.as_str()), (kind, scopes), "{body}"),
        (Err((status, message)), Err((wanted, words))) => {
            assert_eq!(*status, wanted, "{body}: {message}");
            assert!(message.contains(words), "{body}: {message}");
        }
        (found, _) => panic!("{body}: {found:?}"),
    }
}

#[test]
fn what_can_be_asked() {
    let hard = |scopes| Ok((Kind::Hard, scopes));
    check(r#"{"url": "http://www.example/a?b"}"#, hard("www.example/a?b of www"));
    check(r#"{"url": "https://WWW.example:443"}"#, hard("www.example/ of www"));
    check(r#"{"url": "http://www.example:8080/a", "soft": true}"#, Ok((Kind::Soft, "www.example:8080/a of www")));
    check(
        r#"{"url": "http://buy.example/a?utm_x=1&c=2"}"#,
        hard("origin.example/a?c=2 of shop, origin.example/a of shop"),
    );
    check(
        r#"{"urls": ["http://www.example/a", "http://www.example/b"]}"#,
        hard("www.example/a of www, www.example/b of www"),
    );
    check(r#"{"site": "www", "prefix": "/img/"}"#, hard("/img/* of www"));
    check(r#"{"site": "www", "prefix": "/", "host": "WWW.example"}"#, hard("www.example/* of www"));
    check(r#"{"site": "shop", "prefix": "/", "host": "buy.example"}"#, hard("origin.example/* of shop"));
    check(r#"{"site": "shop", "tags": ["a", "b c"]}"#, hard("tag a of shop, tag b c of shop"));
    check(r#"{"site": "www"}"#, hard("site www"));
    check(r#"{"everything": true}"#, hard("everything"));
}

#[test]
fn what_cannot_says_why() {
    let bad = |words| Err((400, words));
    check("", bad("it takes"));
    check("[]", bad("it takes"));
    check("{}", bad("exactly one of"));
    check(r#"{"everything": false}"#, bad("exactly one of"));
    check(r#"{"uri": "http://www.example/"}"#, bad("unknown field `uri`"));
    check(r#"{"soft": "yes", "site": "www"}"#, bad("it takes"));
    check(r#"{"url": "http://www.example/", "everything": true}"#, bad("exactly one of"));
    check(r#"{"url": "http://www.example/", "site": "www"}"#, bad("site goes with"));
    check(r#"{"site": "www", "everything": true}"#, bad("site goes with"));
    check(r#"{"prefix": "/a"}"#, bad("need a site"));
    check(r#"{"tags": ["a"]}"#, bad("need a site"));
    check(r#"{"site": "www", "host": "www.example"}"#, bad("host goes with prefix"));
    check(r#"{"site": "www", "prefix": "/a", "tags": ["a"]}"#, bad("exactly one of"));
    for prefix in ["a", "/a*", "/a?b", "/a#b"] {
        check(&format!(r#"{{"site": "www", "prefix": "{prefix}"}}"#), bad("prefix must begin with /"));
    }
    for url in
        ["/a", "www.example/a", "ftp://www.example/a", "http://u@www.example/a", "http:///a", "http://www example/"]
    {
        check(&format!(r#"{{"url": "{url}"}}"#), bad("is no URL like"));
    }
    check(r#"{"url": "http://other.example/a"}"#, Err((404, "no site of this node")));
    check(r#"{"site": "wwww"}"#, Err((404, "it has: www, shop")));
    check(r#"{"site": "www", "tags": []}"#, bad("tags must be 1 to 256"));
    check(r#"{"site": "www", "tags": [""]}"#, bad("tag must be 1 to 8192 bytes"));
    check(r#"{"site": "www", "tags": ["a\u0002"]}"#, bad("without control characters"));
}

#[test]
fn both_sides_of_every_limit() {
    let tags = |count: usize| json!({ "site": "www", "tags": vec!["t"; count] }).to_string();
    let tag = |len: usize| json!({ "site": "www", "tags": ["t".repeat(len)] }).to_string();
    for (body, fits) in [
        (tags(NAMES_MAX), true),
        (tags(NAMES_MAX + 1), false),
        (tag(NAME_BYTES_MAX), true),
        (tag(NAME_BYTES_MAX + 1), false),
    ] {
        assert_eq!(read(body.as_bytes(), &snapshot()).is_ok(), fits);
    }
}
