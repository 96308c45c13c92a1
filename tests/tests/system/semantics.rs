//! The rules of HTTP caching over the wire: each dialogue against one edge, and against an edge behind a shield.
//!
//! ```text
//! origin /a 200 ; cache-control: max-age=60 | v1      what the origin answers from now on (304 where its ETag is asked for)
//! GET /a ; accept: x => 200 v1 ; stored               a client, and words of this edge's member of Cache-Status that it gets
//! GET /a => 304 ; etag: "1"                           or fields, `-` for one that must be absent
//! asked 1 /a                                          how often the origin was asked for it so far
//! ```
//!
//! Nothing waits for time: what is to be stale arrives with an Age beyond its lifetime.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use perigee_testkit::{PATIENCE, Reply, ScriptedOrigin, client, patiently, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fleet::{Fleet, Node, SITE, quick_edge};

type Answers = Arc<Mutex<HashMap<String, Answer>>>;

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

/// `name: value ; name: value`, and words that are no fields.
fn parts(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut fields, mut words) = (Vec::new(), Vec::new());
    for part in text.split(" ; ").map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once(": ") {
            Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
            None => words.push(part.to_owned()),
        }
    }
    (fields, words)
}

async fn origin(answers: &Answers) -> ScriptedOrigin {
    let answers = Arc::clone(answers);
    ScriptedOrigin::answering(move |seen| {
        let Some(answer) = answers.lock().unwrap().get(seen.path()).cloned() else { return Reply::hang_up() };
        let etag = answer.fields.iter().find(|(name, _)| name == "etag").map(|(_, tag)| tag.as_str());
        let matched = etag.is_some() && seen.header("if-none-match") == etag;
        let reply = if matched { Reply::new(304) } else { Reply::ok(answer.body).status(answer.status) };
        answer.fields.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    })
    .await
}

/// Waits until what was fetched is stored: whoever is quicker than the end of a fill shares it instead.
async fn settle(nodes: &[&Node]) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for node in nodes {
        loop {
            let status = client::get(node.admin, "admin", "/v1/status").await.text().replace(' ', "");
            if status.contains("\"flights\":0") {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "never quiet: {status}");
        }
    }
}

/// The first node is asked; all are waited for.
async fn play(nodes: &[&Node], host: &str, origin: &ScriptedOrigin, answers: &Answers, script: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (verb, rest) = line.split_once(' ').unwrap();
        match verb {
            "origin" => {
                let (head, body) = rest.split_once('|').unwrap_or((rest, ""));
                let (first, list) = head.split_once(" ; ").unwrap_or((head, ""));
                let (path, status) = first.trim().split_once(' ').unwrap();
                let (fields, _) = parts(list);
                let answer = Answer { status: status.trim().parse().unwrap(), fields, body: body.trim().to_owned() };
                answers.lock().unwrap().insert(path.to_owned(), answer);
            }
            "gone" => drop(answers.lock().unwrap().remove(rest)),
            "asked" => {
                let (times, path) = rest.split_once(' ').unwrap();
                assert_eq!(origin.requests_to(path).to_string(), times, "{line}");
            }
            method => {
                settle(nodes).await;
                exchange(nodes[0], host, method, rest, line).await;
            }
        }
    }
}

async fn exchange(edge: &Node, host: &str, method: &str, rest: &str, line: &str) {
    let (asked, expected) = rest.split_once("=>").unwrap();
    let (path, list) = asked.trim().split_once(" ; ").unwrap_or((asked.trim(), ""));
    let (sent, _) = parts(list);
    let sent: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let method = http::Method::from_bytes(method.as_bytes()).unwrap();
    let (first, list) = expected.trim().split_once(" ; ").unwrap_or((expected.trim(), ""));
    let (status, body) = first.trim().split_once(' ').unwrap_or((first.trim(), ""));
    let (fields, words) = parts(list);
    let response = client::Connection::open(edge.address).await.send(method, host, path.trim(), &sent).await;
    let members = response.headers.get_all("cache-status").iter().map(|value| value.to_str().unwrap());
    let own = members.flat_map(|value| value.split(", ")).last().unwrap_or_default().to_owned();
    let about = format!("{line}\n{own}");
    assert_eq!(response.status.as_str(), status, "{about}");
    if !body.is_empty() {
        assert_eq!(response.text(), body, "{about}");
    }
    for (name, value) in fields {
        let value = if value == "-" { "" } else { value.as_str() };
        assert_eq!(response.header(&name), value, "{about}: {name}");
    }
    for word in words {
        assert!(own.split("; ").any(|said| said == word || said.split('=').next() == Some(&word)), "{about}: {word}");
    }
}

/// Plays it before one edge, and before an edge behind a shield.
async fn both(script: &str) {
    let answers = Answers::default();
    let alone = origin(&answers).await;
    let edge = quick_edge(&alone, &[]).await;
    play(&[&edge], "a.example", &alone, &answers, script).await;
    drop(edge);

    let answers = Answers::default();
    let behind = origin(&answers).await;
    let fleet = Fleet::start(&behind, &[]).await;
    play(&[&fleet.edges[0], &fleet.shield], SITE, &behind, &answers, script).await;
}

#[tokio::test]
async fn storing_and_reuse() {
    both(
        "
        origin /a 200 ; cache-control: max-age=600 | v1
        GET /a => 200 v1 ; fwd=uri-miss ; stored
        GET /a ; cache-control: no-cache ; pragma: no-cache => 200 v1 ; hit
        HEAD /a => 200 ; hit ; content-length: 2
        asked 1 /a
        origin /t 200 ; cdn-cache-control: max-age=600 ; cache-control: no-store ; surrogate-key: k | v1
        GET /t => 200 v1 ; stored ; cdn-cache-control: - ; surrogate-key: -
        GET /t => 200 v1 ; hit ; cache-control: no-store
        asked 1 /t
        origin /c 200 ; cache-control: max-age=600 ; set-cookie: a=b | v1
        GET /c => 200 v1 ; set-cookie: a=b
        GET /c => 200 v1 ; set-cookie: a=b
        asked 2 /c
        origin /p 200 ; cache-control: max-age=600, private=\"x-user\" ; x-user: me ; x-all: us | v1
        GET /p => 200 v1 ; x-user: me ; x-all: us
        GET /p => 200 v1 ; hit ; x-user: - ; x-all: us
        origin /k 200 ; cache-control: max-age=600 | v1
        GET /k ; authorization: x => 200 v1
        GET /k => 200 v1 ; fwd=uri-miss
        GET /k ; authorization: x => 200 v1 ; hit
        origin /n 404 | no
        GET /n => 404 no
        GET /n => 404 no
        asked 2 /n
        origin /e 404 ; cache-control: max-age=600 | no
        GET /e => 404 no ; stored
        GET /e => 404 no ; hit
    ",
    )
    .await;
}

#[tokio::test]
async fn variants_and_validation() {
    both(
        "
        origin /v 200 ; cache-control: max-age=600 ; vary: accept-encoding, x-a | one
        GET /v ; accept-encoding: GZIP, br;q=0.5 ; x-a: 1 => 200 one ; fwd=uri-miss
        origin /v 200 ; cache-control: max-age=600 ; vary: accept-encoding, x-a | two
        GET /v ; accept-encoding: gzip ; x-a: 1 => 200 two ; fwd=vary-miss
        GET /v ; accept-encoding: br;q=0.50,gzip ; x-a: 1 => 200 one ; hit
        GET /v ; accept-encoding: gzip ; x-a: 1 => 200 two ; hit
        asked 2 /v
        origin /s 200 ; cache-control: max-age=600 ; vary: * | v1
        GET /s => 200 v1
        GET /s => 200 v1
        asked 2 /s
        origin /i 200 ; cache-control: max-age=600 ; etag: \"1\" ; last-modified: Sun, 06 Nov 1994 08:49:37 GMT | v1
        GET /i => 200 v1
        GET /i ; if-none-match: \"0\", W/\"1\" => 304 ; hit ; etag: \"1\"
        GET /i ; if-none-match: \"0\" ; if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT => 200 v1 ; hit
        GET /i ; if-modified-since: Sunday, 06-Nov-94 08:49:37 GMT => 304 ; hit
        GET /i ; if-match: \"0\" => 412 ; hit
        GET /i ; range: bytes=1-1 => 206 1 ; hit
        asked 1 /i
        origin /o 200 ; cache-control: max-age=600 ; age: 601 ; etag: \"1\" ; x-a: old | v1
        GET /o => 200 v1
        origin /o 200 ; cache-control: max-age=600 ; etag: \"1\" ; x-a: new ; content-type: text/x-new | v2
        GET /o => 200 v1 ; fwd=stale ; x-a: new ; content-type: text/x-new
        GET /o => 200 v1 ; hit ; x-a: new ; content-type: text/x-new
    ",
    )
    .await;
}

#[tokio::test]
async fn stale_on_error_and_never_against_must_revalidate() {
    both(
        "
        origin /a 200 ; cache-control: max-age=600 ; age: 601 ; etag: \"1\" | v1
        origin /b 200 ; cache-control: max-age=600, must-revalidate ; age: 601 ; etag: \"1\" | v1
        origin /c 200 ; cache-control: s-maxage=600 ; age: 601 ; etag: \"1\" | v1
        GET /a => 200 v1
        GET /b => 200 v1
        GET /c => 200 v1
        origin /a 503 | broken
        origin /b 503 | broken
        GET /a => 200 v1
        GET /b => 503 broken
        gone /a
        gone /b
        gone /c
        GET /a => 200 v1
        GET /b => 502
        GET /c => 502
    ",
    )
    .await;
}

#[tokio::test]
async fn invalidation_reaches_both_tiers() {
    both(
        "
        origin /a 200 ; cache-control: max-age=600 ; cache-groups: \"g\" | v1
        origin /b 200 ; cache-control: max-age=600 | v1
        origin /c 200 ; cache-control: max-age=600 ; cache-groups: \"g\", \"h\" | v1
        origin /d 200 ; cache-control: max-age=600 | v1
        GET /a => 200 v1
        GET /b => 200 v1
        GET /c => 200 v1
        GET /d => 200 v1
        origin /edit 500 ; location: /b ; cache-group-invalidation: \"h\" | no
        POST /edit => 500
        GET /b => 200 v1 ; hit
        GET /c => 200 v1 ; hit
        origin /edit 201 ; location: /b ; cache-group-invalidation: \"h\" | done
        WHATEVER /edit => 201
        origin /b 200 ; cache-control: max-age=600 | v2
        origin /c 200 ; cache-control: max-age=600 ; cache-groups: \"g\", \"h\" | v2
        GET /b => 200 v2
        GET /c => 200 v2
        GET /a => 200 v1 ; hit
        GET /d => 200 v1 ; hit
        origin /d 200 ; cache-control: max-age=600 ; content-location: /d | posted
        POST /d => 200 posted ; stored
        GET /d => 200 posted
    ",
    )
    .await;
}

#[tokio::test]
async fn a_head_renews_what_has_no_validator() {
    both(
        "
        origin /h 200 ; cache-control: max-age=600 ; age: 601 ; x-a: old | v1
        GET /h => 200 v1
        origin /h 200 ; cache-control: max-age=600 ; x-a: new | v1
        HEAD /h => 200 ; fwd=stale ; x-a: new
        GET /h => 200 v1 ; hit ; x-a: new
        asked 2 /h
    ",
    )
    .await;
}

#[tokio::test]
async fn one_refresh_behind_a_stale_answer() {
    let answers = Answers::default();
    let origin = origin(&answers).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let edge = &fleet.edges[0];
    let script = "
        origin /a 200 ; cache-control: max-age=600, stale-while-revalidate=600 ; age: 601 | v1
        GET /a => 200 v1
        origin /a 200 ; cache-control: max-age=600 | v2
        GET /a => 200 v1 ; hit ; detail=stale-while-revalidate
    ";
    play(&[edge, &fleet.shield], SITE, &origin, &answers, script).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client::get(edge.address, SITE, "/a").await.text() != "v2" {
        assert!(tokio::time::Instant::now() < deadline, "never refreshed");
    }
    assert_eq!(origin.requests_to("/a"), 2);
}

#[tokio::test]
async fn ages_add_up_over_the_tiers() {
    let answers = Answers::default();
    let origin = origin(&answers).await;
    let fleet = Fleet::start(&origin, &[]).await;
    play(&[], SITE, &origin, &answers, "origin /a 200 ; cache-control: max-age=600 ; age: 100 | v1").await;
    let mut last = 100;
    // A miss at both tiers, a hit at the edge, and another edge's miss that is the shield's hit: never younger.
    for edge in [&fleet.edges[0], &fleet.edges[0], &fleet.edges[1], &fleet.edges[1]] {
        let age: u64 = client::get(edge.address, SITE, "/a").await.header("age").parse().unwrap();
        assert!(age >= last, "{age} after {last}");
        last = age;
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn early_hints_pass_both_tiers_to_http_1_1_alone() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 2\r\n\r\nv1";
    let origin = ScriptedOrigin::answering(move |_| Reply::raw(format!("{hints}{last}"))).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let edge = fleet.edges[0].address;
    let ask = async |version: &str, path: &str| {
        let request = format!("GET {path} HTTP/{version}\r\nHost: {SITE}\r\nConnection: close\r\n\r\n");
        let mut socket = tokio::net::TcpStream::connect(edge).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        patiently("the answer", socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let first = ask("1.1", "/a").await;
    assert!(first.starts_with("HTTP/1.1 103 ") && first.contains("\r\n\r\nHTTP/1.1 200 "), "{first}");
    assert!(first.to_ascii_lowercase().contains("link: </a.css>"), "{first}");
    let hit = ask("1.1", "/a").await;
    assert!(hit.starts_with("HTTP/1.1 200 ") && !hit.contains("103"), "an interim response was stored: {hit}");
    let old = ask("1.0", "/b").await;
    assert!(old.starts_with("HTTP/1.0 200 ") && !old.contains(" 103 "), "{old}");
}

#[tokio::test]
async fn the_key_is_shown_for_a_token_that_may_read() {
    let answers = Answers::default();
    let origin = origin(&answers).await;
    let fleet = Fleet::start(&origin, &[]).await;
    let edge = &fleet.edges[0];
    let token = |name: &str, scope: &str| {
        format!("{{ name = \"{name}\", sha256 = \"{}\", scopes = [\"{scope}\"] }}", sha256(name))
    };
    fleet
        .rewrite(&origin, &format!("[admin]\ntokens = [{}, {}]\n", token("reader", "read"), token("cleaner", "purge")));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let shown = async |token: &str| {
        let response = client::get_with(edge.address, SITE, "/a?b", &[("Perigee-Debug", token)]).await;
        let all: Vec<_> = response.headers.get_all("cache-status").iter().map(|v| v.to_str().unwrap()).collect();
        all.join(", ").contains(&format!("key=\"www http://{SITE}/a?b\""))
    };
    play(&[], SITE, &origin, &answers, "origin /a 200 ; cache-control: max-age=600 | v1").await;
    while !shown("reader").await {
        assert!(tokio::time::Instant::now() < deadline, "the token of the new document is not known");
    }
    for other in ["cleaner", "Reader", "", "Bearer reader"] {
        assert!(!shown(other).await, "{other:?}");
    }
    assert!(origin.seen().iter().all(|seen| seen.header("perigee-debug").is_none()), "a token reached the origin");
}
