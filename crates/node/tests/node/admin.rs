//! The admin API over its socket.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, routing::get};
use perigee_node::{
    admin::{AdminBuilder, AdminServing},
    authorize::Authorizer,
    metrics::NodeMetrics,
    probe,
    state::{NodeKind, NodeState},
};
use perigee_protocol::model::{Admin, AdminToken, Scope};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::wire::ask;

struct Bench {
    state: Arc<NodeState>,
    metrics: Arc<NodeMetrics>,
    serving: AdminServing,
}

fn bench(tokens: Vec<AdminToken>) -> Bench {
    let state = NodeState::new(NodeKind::Edge, "fra");
    let metrics = Arc::new(NodeMetrics::new(&state));
    let serving = AdminBuilder::new(Arc::clone(&state), Arc::clone(&metrics), Authorizer::new(Admin { tokens }))
        .status(|fields| drop(fields.insert("flights".into(), 3.into())))
        .routes(Router::new().route("/v1/extra", get(async || "extra")))
        .serve(&Handle::current(), "127.0.0.1:0".parse::<SocketAddr>().unwrap())
        .unwrap();
    Bench { state, metrics, serving }
}

impl Bench {
    /// The status code and the body of an answer.
    async fn ask(&self, line: &str, fields: &str) -> (u16, String) {
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        let answer = ask(self.serving.local_addr(), &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn check(&self, line: &str, fields: &str, status: u16, body: &str) {
        let (said, text) = self.ask(line, fields).await;
        assert_eq!(said, status, "{line}: {text}");
        assert!(text.contains(body), "{line}: {text}");
    }
}

#[tokio::test]
async fn what_can_be_read() {
    let bench = bench(Vec::new());
    bench.check("GET /healthz", "", 200, "ok\n").await;
    bench.check("GET /readyz", "", 200, "{\"ready\":true,\"reasons\":[]}\n").await;
    bench.state.set_not_ready("geo", "no database");
    bench.check("GET /readyz", "", 503, "geo: no database").await;
    bench.check("GET /healthz", "", 200, "ok\n").await;
    bench.check("GET /v1/extra", "", 200, "extra").await;
    bench.check("GET /nothing", "", 404, "\"error\":\"not-found\"").await;
    bench.check("POST /healthz", "", 405, "\"error\":\"method-not-allowed\"").await;
    let (_, status) = bench.ask("GET /v1/status", "").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["tier"], &status["node"], &status["flights"]), (&"edge".into(), &"fra".into(), &3.into()));
    assert_eq!((&status["ready"], &status["draining"]), (&false.into(), &false.into()));
    assert!(status["version"].is_string() && status["uptime_s"].is_u64() && status["document_generation"].is_u64());
    assert!(status["document_refusal"].is_null());
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    // As Prometheus asks; and as curl does, and whoever never heard of OpenMetrics.
    let open = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3\r\n";
    let families = ["perigee_build", "process_resident_memory_bytes", "perigee_connections", "perigee_reloads"];
    metrics_in(open, families, "\n# EOF\n").await;
    let families = ["perigee_build_info", "process_open_fds", "perigee_connections_total", "perigee_reloads_total"];
    for plain in ["", "Accept: */*\r\n", "Accept: text/plain\r\n"] {
        metrics_in(plain, families, "\n").await;
    }
}

async fn metrics_in(accept: &str, families: [&str; 4], end: &str) {
    let bench = bench(Vec::new());
    bench.metrics.connections.opened();
    let (status, text) = bench.ask("GET /metrics", accept).await;
    assert_eq!(status, 200);
    assert!(text.ends_with(end) && text.contains("# EOF") == (end != "\n"), "{accept}: {text}");
    let mut typed = std::collections::HashSet::new();
    let mut samples = 0;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(declared) = comment.strip_prefix("TYPE ") {
                assert!(typed.insert(declared.split(' ').next().unwrap().to_owned()), "declared twice: {line}");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.contains("node=\"fra\"") && name.contains("tier=\"edge\""), "{line}");
        samples += 1;
    }
    assert!(samples >= 10, "{text}");
    for family in families {
        assert!(typed.contains(family), "{family} is not in\n{text}");
    }
}

#[tokio::test]
async fn draining_needs_a_token_with_the_scope() {
    let without = bench(Vec::new());
    without.check("POST /v1/drain", "Authorization: Bearer one\r\n", 403, "\"error\":\"no-tokens\"").await;
    let token =
        |text: &str, scope| AdminToken { name: text.into(), sha256: Sha256::digest(text).into(), scopes: vec![scope] };
    let bench = bench(vec![token("one", Scope::Drain), token("two", Scope::Read)]);
    bench.check("POST /v1/drain", "", 401, "\"error\":\"unknown-token\"").await;
    bench.check("POST /v1/drain", "Authorization: Bearer two\r\n", 403, "\"error\":\"missing-scope\"").await;
    assert!(!bench.state.is_draining() && !without.state.is_draining());
    bench.check("POST /v1/drain", "Authorization: Bearer one\r\n", 202, "{\"draining\":true}\n").await;
    bench.state.drain_requested().await;
    bench.check("GET /readyz", "", 503, "draining").await;
}

#[tokio::test]
async fn a_busy_port_is_an_error_that_helps() {
    let bench = bench(Vec::new());
    let address = bench.serving.local_addr();
    let again =
        AdminBuilder::new(Arc::clone(&bench.state), Arc::clone(&bench.metrics), Authorizer::new(Admin::default()))
            .serve(&Handle::current(), address);
    let said = again.unwrap_err().to_string();
    assert!(said.contains(&address.to_string()) && said.contains("--admin"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_finds_it_until_it_ends() {
    let bench = bench(Vec::new());
    let address = bench.serving.local_addr();
    let probe = || tokio::task::spawn_blocking(move || probe::run(Some(address)));
    probe().await.unwrap().unwrap();
    bench.serving.end().await;
    probe().await.unwrap().unwrap_err();
}
