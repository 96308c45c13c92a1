//! `[[site.rule]]`.

use expect_test::expect;

use super::{SMALL, check, check_and, load, report};
use crate::{document::limits::*, model::*};

fn rule(lines: &str) -> Result<Rule, String> {
    match load("f", &format!("{SMALL}[[site.rule]]\n{lines}\n[geo]\ndatabase = \"world.mmdb\"")) {
        Ok(mut document) => Ok(document.sites.remove(0).rules.remove(0)),
        Err(mistakes) => Err(mistakes.to_string()),
    }
}

#[test]
fn matches() {
    check_and(
        "[[site.rule]]\n[[site.rule]]\nmatch = { path = \"a\", hosts = \"b\" }\ncache = { ttl = 1, pass = true }\n[[site.rule]]\nmatch = {}",
        expect![[r#"
            perigee.toml:19  site.www.rule[0].match
                is missing; add match = { path = "/static/*" }
            perigee.toml:21  site.www.rule[1].match.path = "a"
                must be a path of visible ASCII that begins with / or *, at most 1024 bytes with at most 8 *, without ? and #; remove it for the default (any)
            perigee.toml:21  site.www.rule[1].match.hosts
                is no key of this document; did you mean "host"?
            perigee.toml:22  site.www.rule[1].cache.ttl = 1
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s, as a string, not an integer; correct it or remove it
            perigee.toml:22  site.www.rule[1].cache.pass
                is no key of this document; the keys here are ttl, stale_while_revalidate, stale_if_error, ignore_query, query, key
            perigee.toml:24  site.www.rule[2].match
                must say what the rule applies to; for example { path = "/static/*" }, or path = "*" for all"#]],
    );
    check_and(
        "[[site.rule]]\nmatch = { path = [\"/a?b\", \"/c\", \"/c\"], extension = [\"JPG\", \"jpg\", \".png\"], host = [\"*\", \"a:80\"], method = \"GE T\", \
         cookie = [\"a b\"], status = [200, 206, 304, 199, 600, \"1xx\", \"5XX\", 2.5], header = { \"X-A\" = \"\", \"x-a\" = \"1\", \"X-B\" = [], TE = \"*\" } }",
        expect![[r#"
            perigee.toml:20  site.www.rule[0].match.path[0] = "/a?b"
                must be a path of visible ASCII that begins with / or *, at most 1024 bytes with at most 8 *, without ? and #; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.path[2] = "/c"
                must be unique, and site.www.rule[0].match.path[1] says it too (line 20); change or remove one of them
            perigee.toml:20  site.www.rule[0].match.extension[1] = "jpg"
                must be unique, and site.www.rule[0].match.extension[0] says it too (line 20); change or remove one of them
            perigee.toml:20  site.www.rule[0].match.extension[2] = ".png"
                must be what stands after the last dot of a path: 1 to 32 letters, digits, - and _; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.host[0] = "*"
                must be a host name without port, or *. and the end of one; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.host[1] = "a:80"
                must be a host name without port, or *. and the end of one; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.method = "GE T"
                must be a method, which is case-sensitive: "GET"; at most 32 bytes; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.cookie[0] = "a b"
                must be the name of a cookie (RFC 6265 §4.1.1: a token) of at most 256 bytes; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.status[1] = 206
                must not be 206 or 304, which count as the 200 that they are of; say 200
            perigee.toml:20  site.www.rule[0].match.status[2] = 304
                must not be 206 or 304, which count as the 200 that they are of; say 200
            perigee.toml:20  site.www.rule[0].match.status[3] = 199
                must be 200..=599; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.status[4] = 600
                must be 200..=599; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.status[5] = "1xx"
                must be "2xx" or "3xx" or "4xx" or "5xx"; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.status[6] = "5XX"
                must be "2xx" or "3xx" or "4xx" or "5xx"; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.status[7] = 2.5
                must be a whole number, 200..=599, not a float; remove it for the default (any)
            perigee.toml:20  site.www.rule[0].match.header.X-A = ""
                must be visible ASCII with inner spaces only, * for any run; at most 1024 bytes with at most 8 *; correct it or remove it
            perigee.toml:20  site.www.rule[0].match.header.x-a = "1"
                must be unique, and site.www.rule[0].match.header.X-A says it too (line 20); change or remove one of them
            perigee.toml:20  site.www.rule[0].match.header.X-B = []
                must not be empty; correct it or remove it
            perigee.toml:20  site.www.rule[0].match.header.TE = "*"
                must be under the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; correct it or remove it"#]],
    );
}

#[test]
fn host_is_no_field_here() {
    check_and(
        "[[site.rule]]\nmatch = { header = { Host = \"a\" } }",
        expect![[r#"
        perigee.toml:20  site.www.rule[0].match.header = { Host = "a" }
            must not name Host, which the request's fields are without; say host = "www.example.com" in match"#]],
    );
}

#[test]
fn what_matches_arrives() {
    let rule = rule(
        "match = { path = [\"/img/*\", \"*.x\"], extension = \"JPG\", host = [\"Img.Example\", \"*.Example\"], method = [\"GET\", \"post\"], \
         header = { X-Beta = \"1\", Accept = [\"*webp*\", \"*\"] }, cookie = \"session\", status = [404, \"5xx\"] }",
    );
    let when = rule.unwrap().when;
    assert_eq!(when.path.iter().map(|path| &*path.0).collect::<Vec<_>>(), ["/img/*", "*.x"]);
    assert_eq!(when.extension, ["jpg"]);
    assert_eq!(when.host.iter().map(|host| &*host.0).collect::<Vec<_>>(), ["img.example", "*.example"]);
    assert_eq!(when.method.iter().map(http::Method::as_str).collect::<Vec<_>>(), ["GET", "post"]);
    let fields: Vec<_> = when.header.iter().map(|(name, patterns)| (name.as_str(), patterns.len())).collect();
    assert_eq!(fields, [("accept", 2), ("x-beta", 1)]);
    assert_eq!(when.cookie, ["session"]);
    assert_eq!(when.status, [StatusPattern::One(404), StatusPattern::Class(5)]);
}

#[test]
fn cache() {
    check_and(
        "[[site.rule]]\nmatch = { path = \"*\" }\ncache = 7\n[[site.rule]]\nmatch = { path = \"*\" }\n\
         cache = { ignore_query = true, query = { drop = [\"a&b\"] }, stale_if_error = \"1\", key = { header = [], headers = [\"Cookie\", \"range\", \"X\", \"x\", \"Perigee-Site\"], cookies = [\"a=b\"], device = 1 } }\n\
         [[site.rule]]\nmatch = { path = \"*\" }\ncache = { ignore_query = true, query = {} }",
        expect![[r#"
            perigee.toml:21  site.www.rule[0].cache = 7
                must be "pass", or a table such as { ttl = "1h" }; remove it for the default (what the site says)
            perigee.toml:24  site.www.rule[1].cache.query = { drop = ["a&b"] }
                must not stand beside ignore_query, which leaves all of the query out; remove one of the two
            perigee.toml:24  site.www.rule[1].cache.query.drop[0] = "a&b"
                must be the name of a query parameter, or the beginning of one and a final *; remove it for the default (none)
            perigee.toml:24  site.www.rule[1].cache.stale_if_error = "1"
                must be a duration with a unit (ms, s, m, h, d), 0s to 2147483647s; correct it or remove it
            perigee.toml:24  site.www.rule[1].cache.key.header
                is no key of this document; did you mean "headers"?
            perigee.toml:24  site.www.rule[1].cache.key.headers[0] = "Cookie"
                must not be Host, Cookie, Range or a condition: what is stored is fetched without them; remove it; for cookies there is cookies = ["name"]
            perigee.toml:24  site.www.rule[1].cache.key.headers[1] = "range"
                must not be Host, Cookie, Range or a condition: what is stored is fetched without them; remove it; for cookies there is cookies = ["name"]
            perigee.toml:24  site.www.rule[1].cache.key.headers[3] = "x"
                must be unique, and site.www.rule[1].cache.key.headers[2] says it too (line 24); change or remove one of them
            perigee.toml:24  site.www.rule[1].cache.key.headers[4] = "Perigee-Site"
                must be the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; remove it for the default (none)
            perigee.toml:24  site.www.rule[1].cache.key.cookies[0] = "a=b"
                must be the name of a cookie (RFC 6265 §4.1.1: a token) of at most 256 bytes; correct it or remove it
            perigee.toml:24  site.www.rule[1].cache.key.device = 1
                must be true or false, not an integer; remove it for the default (false)
            perigee.toml:27  site.www.rule[2].cache.query = {}
                must not stand beside ignore_query, which leaves all of the query out; remove one of the two"#]],
    );
    let cache = rule(
        "match = { path = \"*\" }\ncache = { ttl = \"1h\", stale_while_revalidate = \"30s\", stale_if_error = \"0s\", query = { keep = [\"a\"], sort = true }, \
         key = { headers = [\"X-Lang\"], cookies = [], device = true, country = true } }",
    )
    .unwrap()
    .cache;
    let seconds = std::time::Duration::from_secs;
    assert_eq!(
        cache,
        RuleCache {
            ttl: Some(seconds(3600)),
            stale_while_revalidate: Some(seconds(30)),
            stale_if_error: Some(seconds(0)),
            query: Some(QueryPolicy { keep: vec!["a".into()], drop: vec![], sort: true }),
            key: KeyParts {
                headers: vec![http::HeaderName::from_static("x-lang")],
                cookies: Some(vec![]),
                device: true,
                country: true
            },
            ..RuleCache::default()
        }
    );
    assert_eq!(rule("match = { path = \"*\" }\ncache = { ttl = \"0s\" }").unwrap().cache.ttl, Some(seconds(0)));
}

#[test]
fn countries_take_a_database() {
    check_and(
        "[[site.rule]]\nmatch = { path = \"*\" }\ncache = { key = { country = true } }\n[[site.rule]]\nmatch = { path = \"*\" }\ncache = { key = { country = false } }",
        expect![[r#"
            perigee.toml:21  site.www.rule[0].cache.key.country = true
                needs to know where addresses are; add [geo] with database = "GeoLite2-City.mmdb""#]],
    );
}

#[test]
fn fields() {
    check_and(
        "[[site.rule]]\nmatch = { path = \"*.css\" }\nheaders = { set = { \"X-A\" = \"a\\nb\", \"x-a\" = \"1\", \"Connection\" = \"close\", \"X-B\" = \" a\" }, \
         add = { \"X-A\" = \"é\" }, remove = [\"Transfer-Encoding\", \"X\", \"x\"] }\n\
         request_headers = { set = { Host = \"a\", \"Perigee-Proof\" = \"1\" }, add = { CDN-Loop = \"a\" }, remove = [\"expect\", \"Content-Length\"] }",
        expect![[r#"
            perigee.toml:21  site.www.rule[0].headers.set.X-A = "a\nb"
                must be visible ASCII with inner spaces only; correct it or remove it
            perigee.toml:21  site.www.rule[0].headers.set.x-a = "1"
                must be unique, and site.www.rule[0].headers.set.X-A says it too (line 21); change or remove one of them
            perigee.toml:21  site.www.rule[0].headers.set.Connection = "close"
                must be under the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; correct it or remove it
            perigee.toml:21  site.www.rule[0].headers.set.X-B = " a"
                must be visible ASCII with inner spaces only; correct it or remove it
            perigee.toml:21  site.www.rule[0].headers.add.X-A = "é"
                must be visible ASCII with inner spaces only; correct it or remove it
            perigee.toml:21  site.www.rule[0].headers.remove[0] = "Transfer-Encoding"
                must be the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; remove it for the default (none)
            perigee.toml:21  site.www.rule[0].headers.remove[2] = "x"
                must be unique, and site.www.rule[0].headers.remove[1] says it too (line 21); change or remove one of them
            perigee.toml:22  site.www.rule[0].request_headers.set.Perigee-Proof = "1"
                must be under the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; correct it or remove it
            perigee.toml:22  site.www.rule[0].request_headers.add = { CDN-Loop = "a" }
                must not be Host, Expect or CDN-Loop; remove it; host_header in [[site]] says what is sent as Host
            perigee.toml:22  site.www.rule[0].request_headers.remove[0] = "expect"
                must not be Host, Expect or CDN-Loop; remove it; host_header in [[site]] says what is sent as Host
            perigee.toml:22  site.www.rule[0].request_headers.remove[1] = "Content-Length"
                must be the name of a header field, none that frames messages or belongs to one hop, none of Perigee's own; remove it for the default (none)"#]],
    );
    let rule = rule(
        "match = { path = \"*\" }\nheaders = { set = { A = \"1\" }, add = { A = \"2\", Link = \"</a>; rel=preload\" }, remove = [\"B\"] }\n\
         request_headers = { remove = [\"Cookie\"] }",
    )
    .unwrap();
    assert_eq!((rule.headers.set.len(), rule.headers.add.len(), rule.headers.remove.len()), (1, 2, 1));
    assert_eq!(rule.request_headers.remove, ["cookie"]);
}

#[test]
fn redirects() {
    let law = "must be an http:// or https:// URL or a path that begins with /";
    let check = |to: &str, good: bool| {
        let said = rule(&format!("match = {{ path = \"*\" }}\nredirect = {{ to = '{to}' }}"));
        match said {
            Ok(_) => assert!(good, "{to}"),
            Err(said) => assert!(!good && said.contains(law), "{to}: {said}"),
        }
    };
    for good in [
        "/new",
        "https://new.example{path}{query}",
        "https://new.example:8443/a{path}?x=1",
        "http://{host}{path}",
        "https://new.example?from={path}",
        "{path}index.html",
        "/a{query}",
    ] {
        check(good, true);
    }
    for bad in [
        "",
        "new",
        "//new.example",
        "ftp://a",
        "https://",
        "https://{path}",
        "https://a{host}/",
        "https://a b/",
        "https://new.example{path}{foo}",
        "https://new.example/{",
        "/a}b",
        "{query}",
        "{host}",
        "/ä",
    ] {
        check(bad, false);
    }
    check_and(
        "[[site.rule]]\nmatch = { path = \"*\" }\nredirect = { status = 304, to = \"/a\" }\n[[site.rule]]\nmatch = { path = \"*\" }\nredirect = { status = \"301\" }",
        expect![[r#"
            perigee.toml:21  site.www.rule[0].redirect.status = 304
                must be 301, 302, 303, 307 or 308; remove it for the default (302)
            perigee.toml:24  site.www.rule[1].redirect.to
                is missing; add to = "https://www.example.com{path}{query}"
            perigee.toml:24  site.www.rule[1].redirect.status = "301"
                must be a whole number, 300..=399, not a string; remove it for the default (302)"#]],
    );
    let redirect = rule("match = { path = \"*\" }\nredirect = { to = \"http://{host}/x{path}{query}y\" }");
    let redirect = redirect.unwrap().redirect.unwrap();
    use RedirectPiece::{Host, Path, Query, Text};
    assert_eq!(redirect.status, 302);
    assert_eq!(redirect.to, [Text("http://".into()), Host, Text("/x".into()), Path, Query, Text("y".into())]);
}

#[test]
fn what_cannot_stand_together() {
    check_and(
        "[[site.rule]]\nmatch = { status = 404 }\ncache = \"pass\"\nrequest_headers = { remove = [\"A\"] }\nredirect = { to = \"/\" }\n\
         [[site.rule]]\nmatch = { status = 404 }\ncache = { ttl = \"1s\", key = { device = true } }\n\
         [[site.rule]]\nmatch = { path = \"/a\" }\ncache = \"pass\"\nrequest_headers = { remove = [\"A\"] }\nredirect = { to = \"/\" }",
        expect![[r#"
            perigee.toml:21  site.www.rule[0].cache = "pass"
                must not stand beside match.status: it is done before there is a response; move it to a rule without status; beside status stand ttl, stale_while_revalidate, stale_if_error and headers
            perigee.toml:22  site.www.rule[0].request_headers = { remove = ["A"] }
                must not stand beside match.status: it is done before there is a response; move it to a rule without status; beside status stand ttl, stale_while_revalidate, stale_if_error and headers
            perigee.toml:23  site.www.rule[0].redirect = { to = "/" }
                must not stand beside match.status: it is done before there is a response; move it to a rule without status; beside status stand ttl, stale_while_revalidate, stale_if_error and headers
            perigee.toml:26  site.www.rule[1].cache = { ttl = "1s", key = { device = true } }
                must not stand beside match.status: it is done before there is a response; move it to a rule without status; beside status stand ttl, stale_while_revalidate, stale_if_error and headers
            perigee.toml:29  site.www.rule[2].cache = "pass"
                must not stand beside redirect, which answers before anything is looked up or asked; remove one of the two
            perigee.toml:30  site.www.rule[2].request_headers = { remove = ["A"] }
                must not stand beside redirect, which answers before anything is looked up or asked; remove one of the two"#]],
    );
    check(
        &format!(
            "{SMALL}[[site.rule]]\nmatch = {{ status = [404, \"5xx\"] }}\ncache = {{ ttl = \"1s\", stale_if_error = \"1d\" }}\nheaders = {{ set = {{ A = \"1\" }} }}\n\
             [[site.rule]]\nmatch = {{ path = \"/a\" }}\nheaders = {{ set = {{ A = \"1\" }} }}\nredirect = {{ to = \"/\" }}"
        ),
        expect!["ok"],
    );
    assert!(rule("match = { status = 404 }\ncache = { ttl = \"1s\" }").unwrap().cache.ttl_of_errors);
    assert!(!rule("match = { path = \"/\" }\ncache = { ttl = \"1s\" }").unwrap().cache.ttl_of_errors);
}

#[test]
fn both_sides_of_every_limit() {
    let list = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");
    let check = |max: usize, law: &str, lines: &dyn Fn(usize) -> String| {
        let text = |size: usize| format!("{SMALL}[[site.rule]]\n{}", lines(size));
        assert_eq!(report(&text(max)), "ok", "{law}");
        let said = report(&text(max + 1));
        assert!(said.contains(law), "{law}: {}", said.chars().take(500).collect::<String>());
    };
    check(RULE_PATTERNS_MAX, "must have at most 64 elements", &|n| {
        format!("match = {{ path = [{}] }}", list(n, &|n| format!("\"/{n}\"")))
    });
    check(EXTENSION_BYTES_MAX, "1 to 32 letters", &|n| format!("match = {{ extension = \"{}\" }}", "x".repeat(n)));
    check(METHOD_BYTES_MAX, "at most 32 bytes", &|n| format!("match = {{ method = \"{}\" }}", "X".repeat(n)));
    check(COOKIE_NAME_BYTES_MAX, "at most 256 bytes", &|n| format!("match = {{ cookie = \"{}\" }}", "x".repeat(n)));
    check(PATH_PATTERN_BYTES_MAX, "at most 1024 bytes", &|n| {
        format!("match = {{ header = {{ A = \"{}\" }} }}", "x".repeat(n))
    });
    check(PATH_PATTERN_STARS_MAX, "at most 8 *", &|n| {
        format!("match = {{ header = {{ A = \"{}\" }} }}", "a*".repeat(n))
    });
    check(RULE_HEADERS_MAX, "must have at most 64 fields", &|n| {
        format!("match = {{ header = {{ {} }} }}", list(n, &|n| format!("A{n} = \"*\"")))
    });
    check(RULE_HEADERS_MAX, "must have at most 64 fields", &|n| {
        format!("match = {{ path = \"/\" }}\nheaders = {{ add = {{ {} }} }}", list(n, &|n| format!("A{n} = \"1\"")))
    });
    check(KEY_FIELDS_MAX, "must have at most 16 elements", &|n| {
        format!(
            "match = {{ path = \"/\" }}\ncache = {{ key = {{ headers = [{}] }} }}",
            list(n, &|n| format!("\"A{n}\""))
        )
    });
    check(KEY_FIELDS_MAX, "must have at most 16 elements", &|n| {
        format!(
            "match = {{ path = \"/\" }}\ncache = {{ key = {{ cookies = [{}] }} }}",
            list(n, &|n| format!("\"a{n}\""))
        )
    });
    check(REDIRECT_BYTES_MAX, "at most 2048 bytes", &|n| {
        format!("match = {{ path = \"/\" }}\nredirect = {{ to = \"/{}\" }}", "x".repeat(n - 1))
    });
}
