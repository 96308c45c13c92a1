//! Traces from edge to shield to origin, and what a collector gets of them, read with OpenTelemetry's own types.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use perigee_testkit::{Reply, ScriptedOrigin, certificates::Authority, client, free_port, hex, wait_until};
use prost::Message;

use crate::fleet::{Fleet, Node, SITE, loopback, quick_edge};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A span and whose it is.
#[derive(Debug)]
struct Told {
    service: String,
    span: Span,
}

impl Told {
    fn of(collector: &ScriptedOrigin) -> Vec<Self> {
        let mut told = Vec::new();
        for seen in collector.seen() {
            assert_eq!(seen.header("content-type"), Some("application/x-protobuf"));
            assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/traces"));
            let request = ExportTraceServiceRequest::decode(seen.body.clone()).unwrap();
            for of_resource in request.resource_spans {
                let attributes = of_resource.resource.unwrap().attributes;
                let service = attributes.iter().find(|pair| pair.key == "service.name").unwrap();
                let service = text(service.value.clone().unwrap().value.unwrap());
                let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
                told.extend(spans.map(|span| Self { service: service.clone(), span }));
            }
        }
        told
    }

    fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Empty: absent.
    fn attribute(&self, key: &str) -> String {
        let found = self.span.attributes.iter().find(|pair| pair.key == key);
        found.and_then(|pair| pair.value.clone()?.value).map(text).unwrap_or_default()
    }

    fn is(&self, service: &str, kind: SpanKind) -> bool {
        self.service == service && self.span.kind == kind as i32
    }
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(yes) => yes.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn collector(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> ScriptedOrigin {
    let asked = AtomicUsize::new(0);
    ScriptedOrigin::answering(move |_| reply(asked.fetch_add(1, Ordering::SeqCst))).await
}

async fn spans(collector: &ScriptedOrigin, count: usize) -> Vec<Told> {
    wait_until("the spans", || Told::of(collector).len() >= count).await;
    let told = Told::of(collector);
    assert_eq!(told.len(), count, "{told:#?}");
    told
}

fn one(told: &[Told], service: &str, kind: SpanKind) -> usize {
    let mut found = told.iter().enumerate().filter(|(_, told)| told.is(service, kind));
    let (place, _) = found.next().unwrap();
    assert!(found.next().is_none(), "{service} {kind:?}: {told:#?}");
    place
}

/// `traceparent;desc="00-TRACE-SPAN-FLAGS"`
fn server_timing(response: &client::Response) -> Vec<String> {
    let value = response.header("server-timing");
    let parent = value.strip_prefix("traceparent;desc=\"").and_then(|rest| rest.strip_suffix('"'));
    parent.map(|parent| parent.split('-').map(str::to_owned).collect()).unwrap_or_default()
}

async fn log_lines(node: &Node, count: usize) -> Vec<serde_json::Value> {
    wait_until("the log's lines", || node.process.stdout().lines().count() >= count).await;
    node.process.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn metric(node: &Node, name: &str) -> u64 {
    let page = client::get(node.admin, "localhost", "/metrics").await.text();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).1.parse().unwrap()
}

async fn wait_for_metric(node: &Node, name: &str, at_least: u64) {
    for _ in 0..600 {
        if metric(node, name).await >= at_least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{name} does not come to {at_least}");
}

fn cacheable() -> Reply {
    Reply::ok("body").header("Cache-Control", "max-age=600")
}

#[tokio::test]
async fn one_trace_from_edge_to_origin() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let taker = collector(|_| Reply::ok("")).await;
    let url = taker.url();
    let flags = ["--otlp", &url, "--trace-sample", "0", "--trace-trust", "127.0.0.0/8", "--access-log", "stdout"];
    let fleet = Fleet::start(&origin, &flags.map(|flag| &*String::leak(flag.to_owned()))).await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let asked = [("traceparent", parent.as_str()), ("tracestate", "vendor=1"), ("tracestate", "other=2")];
    let response = client::get_with(fleet.edges[0].address, SITE, "/a?sig=secret&b=1", &asked).await;
    assert_eq!(response.text(), "body");

    let told = spans(&taker, 4).await;
    let [edge, to_shield, shield, to_origin] = [
        ("perigee-edge", SpanKind::Server),
        ("perigee-edge", SpanKind::Client),
        ("perigee-shield", SpanKind::Server),
        ("perigee-shield", SpanKind::Client),
    ]
    .map(|(service, kind)| &told[one(&told, service, kind)]);
    assert_eq!(edge.parent(), SPAN);
    assert_eq!(to_shield.parent(), edge.id());
    assert_eq!(shield.parent(), to_shield.id());
    assert_eq!(to_origin.parent(), shield.id());
    for span in [edge, to_shield, shield, to_origin] {
        assert_eq!(span.trace(), TRACE);
        assert_eq!(span.span.trace_state, "vendor=1,other=2");
        assert!(span.span.start_time_unix_nano <= span.span.end_time_unix_nano);
        assert_eq!(span.span.name, "GET");
        assert_eq!(span.attribute("http.request.method"), "GET");
        assert_eq!(span.attribute("http.response.status_code"), "200");
        assert_eq!(span.attribute("network.protocol.version"), "1.1");
        assert!(span.span.status.is_none() && span.span.links.is_empty());
        assert!(!format!("{span:?}").contains("secret"));
    }
    assert!(edge.span.start_time_unix_nano <= to_shield.span.start_time_unix_nano);
    assert_eq!(edge.attribute("url.path"), "/a");
    assert_eq!(edge.attribute("url.query"), "sig=REDACTED&b=1");
    assert_eq!(edge.attribute("server.address"), SITE);
    assert_eq!((edge.attribute("perigee.site"), edge.attribute("perigee.cache")), ("www".into(), "miss".into()));
    assert_eq!(edge.attribute("http.response.body.size"), "4");
    assert_eq!(to_shield.attribute("perigee.upstream"), "shield shield-eu");
    assert_eq!(to_origin.attribute("server.port"), origin.address().port().to_string());

    // What the origin was told, what the client, and both logs.
    let seen = &origin.seen()[0];
    assert_eq!(seen.header("traceparent").unwrap(), format!("00-{TRACE}-{}-01", to_origin.id()));
    assert_eq!(seen.header("tracestate"), Some("vendor=1,other=2"));
    assert_eq!(seen.header("perigee-traced"), None);
    assert_eq!(server_timing(&response), ["00", TRACE, &edge.id(), "01"]);
    assert_eq!(response.headers.get_all("server-timing").iter().count(), 1, "{:?}", response.headers);
    for node in [&fleet.edges[0], &fleet.shield] {
        assert_eq!(log_lines(node, 1).await[0]["trace_id"], TRACE);
    }

    // A hit is traced by its edge alone; who does not ask for it, is not.
    let again = client::get_with(fleet.edges[0].address, SITE, "/a?sig=secret&b=1", &asked).await;
    let told = spans(&taker, 5).await;
    let hit = told.iter().find(|told| told.attribute("perigee.cache") == "hit").unwrap();
    assert_eq!((hit.parent().as_str(), hit.attribute("perigee.tier").as_str()), (SPAN, "memory"));
    assert_eq!(server_timing(&again), ["00", TRACE, &hit.id(), "01"]);
    let untraced = client::get(fleet.edges[0].address, SITE, "/b").await;
    assert_eq!(untraced.header("server-timing"), "");
    let lines = log_lines(&fleet.edges[0], 3).await;
    assert_eq!(lines[2].get("trace_id"), None, "{lines:?}");
    // Its shield was told so, although the rate of a shield is its own.
    assert_eq!(log_lines(&fleet.shield, 2).await[1].get("trace_id"), None);
}

#[tokio::test]
async fn strangers_do_not_decide() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("body").header("Cache-Control", "no-store")).await;
    let taker = collector(|_| Reply::ok("")).await;
    let url = taker.url();
    let flags = |sample: &'static str| ["--otlp", String::leak(url.clone()), "--trace-sample", sample];
    let none = Fleet::start(&origin, &flags("0")).await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let asked = [("traceparent", parent.as_str()), ("tracestate", "a=b"), ("perigee-traced", "1")];
    client::get_with(none.edges[0].address, SITE, "/a", &asked).await;
    // Handed on as any other field is, and to no collector.
    assert_eq!(origin.seen()[0].header("traceparent"), Some(parent.as_str()));
    assert_eq!(origin.seen()[0].header("tracestate"), Some("a=b"));

    let all = Fleet::start(&origin, &flags("1")).await;
    let response = client::get_with(all.edges[0].address, SITE, "/b", &asked).await;
    let told = spans(&taker, 4).await;
    let edge = &told[one(&told, "perigee-edge", SpanKind::Server)];
    assert_ne!(edge.trace(), TRACE);
    assert!(told.iter().all(|span| span.trace() == edge.trace()));
    assert_eq!((edge.parent(), edge.span.trace_state.as_str()), (String::new(), ""));
    let links: Vec<_> = edge.span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
    assert_eq!(links, [(TRACE.to_owned(), SPAN.to_owned())]);
    let to_origin = &told[one(&told, "perigee-shield", SpanKind::Client)];
    let seen = origin.seen();
    assert_eq!(seen[1].header("traceparent").unwrap(), format!("00-{}-{}-03", edge.trace(), to_origin.id()));
    assert_eq!(seen[1].header("tracestate"), None);
    assert_eq!(server_timing(&response)[1], edge.trace());
}

#[tokio::test]
async fn without_a_collector_a_parent_is_a_field_like_any_other() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let edge = quick_edge(&origin, &["--access-log", "stdout"]).await;
    let first = client::get_with(edge.address, SITE, "/a", &[("traceparent", "no parent at all")]).await;
    let second = client::get_with(edge.address, SITE, "/a", &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]).await;
    assert_eq!(origin.requests(), 1, "it is no part of the key");
    assert_eq!(origin.seen()[0].header("traceparent"), Some("no parent at all"));
    assert_eq!((first.header("server-timing"), second.header("server-timing")), ("", ""));
    assert!(log_lines(&edge, 2).await.iter().all(|line| line.get("trace_id").is_none()));
    assert_eq!(metric(&edge, "perigee_traces_exported_total").await, 0);
}

#[tokio::test]
async fn those_who_share_a_fetch_are_linked_to_it() {
    let (reply, gate) = Reply::gated(Some(4));
    let reply = std::sync::Mutex::new(Some(reply.header("Cache-Control", "max-age=600")));
    let origin = ScriptedOrigin::answering(move |_| reply.lock().unwrap().take().unwrap()).await;
    let taker = collector(|_| Reply::ok("")).await;
    let edge = quick_edge(&origin, &["--otlp", &taker.url(), "--trace-sample", "1"]).await;
    let clients: Vec<_> = (0..3).map(|_| tokio::spawn(client::get(edge.address, SITE, "/a"))).collect();
    origin.wait_for_requests(1).await;
    wait_for_metric(&edge, "perigee_requests_active", 3).await;
    gate.send("body");
    drop(gate);
    for client in clients {
        assert_eq!(client.await.unwrap().text(), "body");
    }
    let told = spans(&taker, 4).await;
    let fetch = &told[one(&told, "perigee-edge", SpanKind::Client)];
    let mut links = HashMap::<String, usize>::new();
    for span in told.iter().filter(|told| told.is("perigee-edge", SpanKind::Server)) {
        let linked = span.span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id)));
        assert!(linked.clone().all(|link| link == (fetch.trace(), fetch.id())));
        *links.entry(span.attribute("perigee.cache")).or_default() += linked.count();
        assert_eq!(fetch.parent() == span.id(), span.attribute("perigee.cache") == "miss");
    }
    assert_eq!(links, HashMap::from([("miss".into(), 0), ("collapsed".into(), 2)]));
}

#[tokio::test]
async fn an_attempt_that_fails_is_a_span_of_its_own() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let taker = collector(|_| Reply::ok("")).await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let both = format!("{dead},{}", origin.url());
    let edge = Node::before(&both, &["--otlp", &taker.url(), "--trace-sample", "1"]).await;
    // Which origin is first is a hash's to say: of many URLs some have the dead one first.
    for n in 0..16 {
        assert_eq!(client::get(edge.address, SITE, &format!("/{n}")).await.text(), "body");
    }
    let of = |told: &[Told], kind: &str| told.iter().filter(|told| told.attribute("error.type") == kind).count();
    wait_until("a failed attempt and all others", || {
        let told = Told::of(&taker);
        of(&told, "connect") > 0 && told.len() == 32 + of(&told, "connect")
    })
    .await;
    let told = Told::of(&taker);
    let failed = told.iter().find(|told| told.attribute("error.type") == "connect").unwrap();
    assert_eq!(failed.span.status.as_ref().unwrap().code, 2);
    assert_eq!(
        (failed.attribute("perigee.upstream"), failed.attribute("http.response.status_code")),
        (format!("origin {dead}"), String::new())
    );
    let second = told.iter().find(|told| told.attribute("http.request.resend_count") == "1").unwrap();
    assert_eq!(second.attribute("perigee.upstream"), format!("origin {}", origin.url()));
    let sibling = told.iter().find(|told| told.parent() == second.parent() && told.id() != second.id()).unwrap();
    assert_eq!(sibling.attribute("error.type"), "connect");
}

#[tokio::test]
async fn what_a_node_says_of_a_request_names_its_trace() {
    let taker = collector(|_| Reply::ok("")).await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let levels = "info,perigee_upstream=debug,perigee_cache=debug";
    let (url, sites) = (taker.url(), ["--access-log", "stdout", "--trace-sample", "1", "--log", levels]);
    let with = |more: &[&'static str]| [&["--otlp", &url], &sites[..], more].concat();

    let edge = Node::before(&dead, &with(&["--log-format", "json"])).await;
    let mut traces = Vec::new();
    // As many as it takes to give an origin up.
    for n in 0..8 {
        let response = client::get(edge.address, SITE, &format!("/{n}")).await;
        assert!(response.status.is_server_error());
        traces.push(server_timing(&response)[1].clone());
    }
    let logged = log_lines(&edge, 8).await;
    for (n, trace) in traces.iter().enumerate() {
        // Lines of several cores come in any order.
        let line = logged.iter().find(|line| line["target"] == format!("/{n}")).unwrap();
        assert_eq!(line["trace_id"], **trace);
    }
    let site = &logged[0]["site"];
    for (what, of_first) in [("attempt failed", true), ("no response from upstream", true), ("is given up", false)] {
        let line: serde_json::Value = serde_json::from_str(&edge.process.wait_for_line(what).await).unwrap();
        let trace = line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace_id in {line}"));
        assert!(traces.iter().any(|known| known == trace), "{line}");
        assert_eq!(&line["site"], site);
        assert!(!of_first || trace == traces[0], "the first of them: {line}");
    }

    let edge = Node::before(&dead, &with(&[])).await;
    let response = client::get(edge.address, SITE, "/a").await;
    let line = edge.process.wait_for_line("attempt failed").await;
    assert!(line.contains(&format!("trace_id={}", server_timing(&response)[1])), "{line}");

    let edge = Node::before(&dead, &["--log", levels]).await;
    client::get(edge.address, SITE, "/a").await;
    let line = edge.process.wait_for_line("attempt failed").await;
    assert!(!line.contains("trace_id"), "of no trace: {line}");
}

#[tokio::test]
async fn a_busy_collector_is_asked_again_and_one_that_refuses_is_not() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let some = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess { rejected_spans: 1, error_message: "one too many".into() }),
    };
    let some = Arc::new(some.encode_to_vec());
    let taker = collector(move |n| match n {
        0 => Reply::new(503).header("Retry-After", "0"),
        1 => Reply::new(400),
        _ => Reply::ok(some.to_vec()),
    });
    let taker = taker.await;
    let edge = quick_edge(&origin, &["--otlp", &taker.url(), "--trace-sample", "1"]).await;
    client::get(edge.address, SITE, "/a").await;
    wait_for_metric(&edge, "perigee_traces_failed_total", 2).await;
    assert_eq!(taker.requests(), 2, "503, then the same again, and 400 is an end");
    assert_eq!(taker.seen()[0].body, taker.seen()[1].body);
    edge.process.wait_for_line("traces do not arrive").await;

    client::get(edge.address, SITE, "/b").await;
    wait_for_metric(&edge, "perigee_traces_exported_total", 1).await;
    wait_for_metric(&edge, "perigee_traces_failed_total", 3).await;
    edge.process.wait_for_line("traces arrive again").await;
    assert_eq!(edge.process.stderr().matches("traces do not arrive").count(), 1);
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_not_there_stops_nobody() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let hanging = collector(|_| Reply::hang()).await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for url in [hanging.url(), nobody] {
        let mut edge = quick_edge(&origin, &["--otlp", &url, "--trace-sample", "1"]).await;
        let mut connection = client::Connection::open(edge.address).await;
        // More spans than the queue and a batch hold.
        for _ in 0..3_000 {
            let answer = connection.send(http::Method::GET, SITE, "/a", &[]).await;
            assert_eq!(answer.status, 200);
        }
        wait_for_metric(&edge, "perigee_traces_dropped_total", 1).await;
        assert_eq!(metric(&edge, "perigee_traces_exported_total").await, 0);
        edge.process.terminate();
        assert!(edge.process.wait_exit().await.success(), "a drain has an end");
    }
}

#[tokio::test]
async fn a_collector_over_tls_is_recognised_by_its_authority() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let taker = collector(|_| Reply::ok("")).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::default();
    let (certificate, key) = authority.issue(&["127.0.0.1"]).write(folder.path(), "collector");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.root_pem()).unwrap();
    // An edge is the collector's door.
    let secure = loopback(free_port());
    let listen = secure.to_string();
    let pair = [certificate, key].map(|path| path.to_str().unwrap().to_owned());
    let flags = ["--listen-tls", &listen, "--tls-certificate", &pair[0], "--tls-key", &pair[1]];
    let _door = quick_edge(&taker, &flags).await;
    let url = format!("https://{secure}");

    let trusting = ["--otlp", &url, "--otlp-ca", ca.to_str().unwrap(), "--trace-sample", "1"];
    let edge = quick_edge(&origin, &trusting).await;
    client::get(edge.address, SITE, "/a").await;
    spans(&taker, 2).await;

    let careful = quick_edge(&origin, &["--otlp", &url, "--trace-sample", "1"]).await;
    client::get(careful.address, SITE, "/a").await;
    let line = careful.process.wait_for_line("traces do not arrive").await;
    assert!(line.contains("no TLS with"), "{line}");
}

#[tokio::test]
async fn what_is_queued_leaves_with_a_drain() {
    let origin = ScriptedOrigin::answering(|_| cacheable()).await;
    let taker = collector(|_| Reply::ok("")).await;
    let mut edge = quick_edge(&origin, &["--otlp", &taker.url(), "--trace-sample", "1"]).await;
    for n in 0..10 {
        client::get(edge.address, SITE, &format!("/{n}")).await;
    }
    edge.process.terminate();
    assert!(edge.process.wait_exit().await.success());
    assert_eq!(Told::of(&taker).len(), 20);
}
