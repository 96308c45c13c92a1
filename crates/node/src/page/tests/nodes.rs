//! A page of several nodes: what others do that are away, slow, odd or hostile, and what is handed on to them.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::routing::{get as on_get, post};
use perigee_testkit::{free_port, wait_until};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// A node of that name with a document and one more route.
fn node(name: &'static str, nodes: &[SocketAddr]) -> AdminServing {
    struct Telling(&'static str);
    impl Source for Telling {
        fn tick(&mut self, _now_ms: u64) {}
        fn tell(&mut self, now_ms: u64) -> String {
            json!({ "node": self.0, "tier": "edge", "time_ms": now_ms, "world": { "cdn": self.0 } }).to_string()
        }
    }
    let state = NodeState::new(NodeKind::Edge, name);
    let metrics = Arc::new(NodeMetrics::new(&state));
    let feed = Feed::start(&Handle::current(), Telling(name));
    let echo = async |headers: ::http::HeaderMap, uri: ::http::Uri, body: String| {
        format!(
            "{} {:?} {body}",
            uri,
            headers.get("authorization").map(|value| value.to_str().unwrap_or("?").to_owned())
        )
    };
    let routes = Router::new()
        .route("/v1/purge", post(echo))
        .route("/v1/explain/dns", on_get(async || (::http::StatusCode::FOUND, [("location", "http://evil.example/")])))
        .route("/v1/explain/http", on_get(async || "x".repeat((1 << 20) + 1)));
    let options = PageOptions { nodes: nodes.to_vec(), names: Vec::new() };
    let builder = AdminBuilder::new(state, metrics, Authorizer::new(Default::default())).routes(routes);
    builder.page(feed, options).serve(&Handle::current(), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// Somebody at an address who answers every request with `bytes`, and counts those who come; empty: not at all.
async fn odd(bytes: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, came) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&came);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 1024];
            drop(stream.read(&mut request).await);
            // It may have had enough before the end.
            drop(stream.write_all(&bytes).await);
            open.push(stream);
        }
    });
    (address, came)
}

fn events(data: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {data}\n\n").into()
}

/// Waits until what a page of these nodes tells is so.
async fn told(feed: &Feed, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut listener = feed.listen();
    let seen = Mutex::new(Vec::new());
    let figures = listener.wait_for(|told| {
        let Told::Figures(line) = told else { return false };
        let nodes: Vec<Value> = serde_json::from_str(line).unwrap();
        let done = is_so(&nodes);
        *seen.lock().unwrap() = nodes;
        done
    });
    let bound = tokio::time::timeout(perigee_testkit::PATIENCE, figures).await;
    assert!(bound.is_ok(), "never {what}: {:?}", seen.lock().unwrap());
    drop(bound);
    seen.into_inner().unwrap()
}

fn fleet_of(nodes: &[SocketAddr]) -> Arc<Feed> {
    fleet::start(&Handle::current(), None, nodes).unwrap()
}

#[tokio::test]
async fn whatever_another_node_does_the_page_says_it_and_shows_the_rest() {
    let good = node("good", &[]);
    let long = format!("[{{\"node\":\"{}\",\"tier\":\"edge\"}}]", "a".repeat(events::EVENT_BYTES_MAX));
    let edge = r#"{"node":"<img src=x onerror=alert(1)>","tier":"edge"}"#;
    let refused = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let table = [
        (refused, "nobody listens there"),
        (odd(Vec::new()).await.0, "no answer within 3 s"),
        (odd(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()).await.0, "answers 404"),
        (odd(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()).await.0, "no node's admin listener"),
        (odd(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()).await.0, "broke off"),
        (odd(events("<script>")).await.0, "tells what no node tells"),
        (
            odd(events(&format!("[{{\"node\":\"a\",\"tier\":\"{}\"}}]", "\\n<b>".repeat(1000)))).await.0,
            "unknown variant",
        ),
        (odd(events(&format!("[{edge},{edge}]"))).await.0, "tells what no node tells"),
        (odd(events(&long)).await.0, "more than 512 KiB"),
        (odd(events(&format!("[{edge}]"))).await.0, ""),
        (good.local_addr(), ""),
    ];
    let feed = fleet_of(&table.map(|(address, _)| address));
    let why = |node: &Value| node["away"]["why"].as_str().unwrap_or_default().to_owned();
    let is_so = |nodes: &[Value]| {
        table.iter().all(|(address, expected)| {
            let node = nodes.iter().find(|node| node["at"] == address.to_string()).unwrap();
            if expected.is_empty() { node["away"].is_null() } else { why(node).contains(expected) }
        })
    };
    let nodes = told(&feed, "as the table says", is_so).await;
    let worlds = nodes.iter().filter(|node| node["world"]["cdn"] == "good").count();
    assert_eq!((nodes.len(), worlds), (table.len(), 1), "one document is enough");
    let away = nodes.iter().filter(|node| node["away"]["since_ms"].is_u64() && node["tier"] == "unknown").count();
    assert_eq!(away, 9);
    assert!(nodes.iter().all(|node| why(node).len() < 200), "{nodes:?}");
}

#[tokio::test]
async fn a_node_that_ends_stays_as_it_was_and_comes_back() {
    let first = node("a", &[]);
    let address = first.local_addr();
    let feed = fleet_of(&[address]);
    let nodes = told(&feed, "heard", |nodes| nodes[0]["node"] == "a" && nodes[0]["away"].is_null()).await;
    assert!(nodes[0]["skew_ms"].as_i64().is_some_and(|skew| skew.abs() < 60_000), "{nodes:?}");
    first.end().await;
    told(&feed, "away", |nodes| nodes[0]["node"] == "a" && nodes[0]["away"]["since_ms"].is_u64()).await;
    // It comes back at the same address, as something else.
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.read(&mut [0; 1024]).await);
            drop(stream.write_all(&events(r#"[{"node":"b","tier":"shield","time_ms":1}]"#)).await);
            std::future::pending::<()>().await;
        }
    });
    let nodes = told(&feed, "back", |nodes| nodes[0]["node"] == "b" && nodes[0]["away"].is_null()).await;
    assert!(nodes[0]["skew_ms"].as_i64().is_some_and(|skew| skew < -1_000_000), "a clock that is far off is told");
}

#[tokio::test]
async fn the_map_is_what_most_nodes_say() {
    let of = |name: &str, cdn: &str| {
        events(&format!("[{{\"node\":\"{name}\",\"tier\":\"edge\",\"generation\":9,\"world\":{{\"cdn\":\"{cdn}\"}}}}]"))
    };
    let mut nodes = Vec::new();
    for (name, cdn) in [("liar", "other"), ("a", "cdn"), ("b", "cdn")] {
        nodes.push(odd(of(name, cdn)).await.0);
    }
    let feed = fleet_of(&nodes);
    let nodes =
        told(&feed, "heard", |nodes| nodes.iter().all(|node| node["away"].is_null() && node["tier"] == "edge")).await;
    let drawn: Vec<_> = nodes.iter().filter_map(|node| node["world"]["cdn"].as_str()).collect();
    assert_eq!(drawn, ["cdn"]);
}

#[tokio::test]
async fn nodes_are_asked_only_while_somebody_looks() {
    let (address, came) = odd(events(r#"[{"node":"a","tier":"edge"}]"#)).await;
    let quiet = fleet_of(&[address]);
    // Another page that somebody looks at, by which time passes.
    let other = node("other", &[]);
    told(&fleet_of(&[other.local_addr()]), "heard", |nodes| nodes[0]["node"] == "other").await;
    assert_eq!(came.load(Ordering::Relaxed), 0);
    told(&quiet, "heard", |nodes| nodes[0]["node"] == "a").await;
    assert_eq!(came.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_node_shows_others_beside_itself_and_tells_others_of_itself_alone() {
    let far = node("far", &[]);
    let near = node("near", &[far.local_addr()]);
    let both = read_until(&mut open(near.local_addr()).await, "\"node\":\"far\"").await;
    assert!(both.contains("[{\"node\":\"near\""), "{both}");
    // Two that show each other make no circle.
    let alone = fleet_of(&[near.local_addr()]);
    told(&alone, "heard", |nodes| nodes.len() == 1 && nodes[0]["node"] == "near").await;
}

#[tokio::test]
async fn questions_and_purges_are_handed_on_to_known_nodes() {
    let far = node("far", &[]);
    let refused = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let near = node("near", &[far.local_addr(), refused]);
    let check = async |method: &str, path: String, expected: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nCookie: c\r\nConnection: close\r\n\
             Content-Length: 2\r\n\r\nhi"
        );
        let mut stream = TcpStream::connect(near.local_addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        let answer = answer + &rest;
        assert!(answer.contains(expected), "{method} {path}: {answer}");
        answer
    };
    let (known, away) = (format!("/v1/at/{}", far.local_addr()), format!("/v1/at/{refused}"));
    let answer = check("POST", format!("{known}/purge?a=b"), "/v1/purge?a=b Some(\"Bearer t\") hi").await;
    assert!(answer.contains("content-type: application/json") && answer.contains("x-content-type-options: nosniff"));
    check("GET", format!("{known}/purge"), "HTTP/1.1 405").await;
    check("POST", format!("{known}/drain"), "HTTP/1.1 404").await;
    let redirect = check("GET", format!("{known}/explain/dns"), "HTTP/1.1 502").await;
    assert!(!redirect.contains("evil"), "{redirect}");
    check("GET", format!("{known}/explain/http"), "HTTP/1.1 502").await;
    check("POST", format!("{away}/purge"), "node-away").await;
    check("POST", "/v1/at/127.0.0.1:1/purge".into(), "unknown-node").await;
    check("POST", "/v1/at/evil.example/purge".into(), "unknown-node").await;
}

#[tokio::test]
async fn so_many_nodes_and_no_more() {
    let nodes = |count: u16| (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect::<Vec<_>>();
    let start = |count| fleet::start(&Handle::current(), None, &nodes(count));
    assert!(start(NODES_MAX as u16).is_ok());
    let refused = start(NODES_MAX as u16 + 1).err();
    assert_eq!(refused.as_deref(), Some("a page shows at most 256 nodes, and these are 257"));
    let twice: Vec<_> = nodes(NODES_MAX as u16).repeat(2);
    assert!(fleet::start(&Handle::current(), None, &twice).is_ok(), "named twice is one node");
}

#[tokio::test]
async fn viewers_and_what_they_miss_are_counted() {
    let (admin, feed) = serve();
    let text = async || get(admin.local_addr(), "a", "/metrics").await.text();
    assert!(text().await.contains("perigee_page_viewers{node=\"e1\",tier=\"edge\"} 0"));
    let mut first = open(admin.local_addr()).await;
    read_until(&mut first, "data: ").await;
    assert!(text().await.contains("perigee_page_viewers{node=\"e1\",tier=\"edge\"} 1"));
    drop(first);
    wait_until("nobody looks", || feed.clients_free() == CLIENTS_MAX).await;
    let text = text().await;
    assert!(text.contains("perigee_page_viewers{node=\"e1\",tier=\"edge\"} 0"), "{text}");
    for zero in ["perigee_page_viewers_refused_total", "perigee_page_events_missed_total"] {
        assert!(text.contains(&format!("{zero}{{node=\"e1\",tier=\"edge\"}} 0")), "{text}");
    }
}
