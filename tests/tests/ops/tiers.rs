//! An edge, a shield and a nameserver that did a little of everything, so that every family of theirs has a sample: the text
//! says nothing of a family without one.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use http::Method;
use perigee_testkit::{
    ProcessUnderTest, Reply, ScriptedOrigin,
    certificates::Authority,
    client::{self, Connection},
    free_port, sha256, wait_until,
};
use tempfile::TempDir;

const HOST: &str = "www.cdn.example";
const TOKEN: &str = "a token of the tests alone";

/// What a tier says, asked in both ways.
pub(crate) struct Text {
    pub(crate) open: String,
    pub(crate) plain: String,
}

struct Tiers {
    edge: (SocketAddr, SocketAddr),
    shield: SocketAddr,
    nameserver: (SocketAddr, SocketAddr),
    _processes: [ProcessUnderTest; 3],
    _folder: TempDir,
}

/// By tier, when each has told of all that happened.
pub(crate) async fn texts() -> Vec<(&'static str, Text)> {
    // A body that breaks off, and one that does not.
    let origin = ScriptedOrigin::answering(|seen| match seen.target.as_str() {
        "/broken" => Reply::ok("a").promise(100_000),
        _ => Reply::ok("hello").header("Cache-Control", "max-age=60"),
    })
    .await;
    let tiers = Tiers::start(&origin.url()).await;
    let (edge, admin) = tiers.edge;
    assert_eq!(client::get(edge, HOST, "/").await.text(), "hello");
    break_off(edge);
    for admin in [admin, tiers.shield] {
        let authorization = format!("Bearer {TOKEN}");
        let fields = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let mut connection = Connection::open(admin).await;
        let answer = connection.send_body(Method::POST, "node", "/v1/purge", &fields, r#"{"site":"www"}"#).await;
        assert!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    }
    let (nameserver, told) = tiers.nameserver;
    ask(nameserver);
    let mut texts = Vec::new();
    // The last things to come: of an edge, that its body broke off; of a nameserver, that it heard of the edge's load.
    for (tier, admin, last) in [
        ("edge", admin, "perigee_upstream_bodies_failed_total{"),
        ("shield", tiers.shield, "perigee_upstream_bodies_failed_total{"),
        ("geodns", told, "perigee_dns_pop_load{"),
    ] {
        texts.push((tier, text(admin, last).await));
    }
    texts
}

/// What a node says, when it says `last`.
async fn text(admin: SocketAddr, last: &str) -> Text {
    let accept = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3")];
    let began = std::time::Instant::now();
    loop {
        let open = client::get_with(admin, "node", "/metrics", &accept).await;
        let text = open.text();
        if text.contains(last) {
            assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
            let plain = client::get(admin, "node", "/metrics").await;
            assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
            return Text { open: text, plain: plain.text() };
        }
        assert!(began.elapsed() < perigee_testkit::PATIENCE, "{last} is not in\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for the body that breaks off, and stays until it did: whether anything comes before is all the same.
fn break_off(edge: SocketAddr) {
    let mut stream = TcpStream::connect(edge).unwrap();
    stream.set_read_timeout(Some(perigee_testkit::PATIENCE)).unwrap();
    stream.write_all(format!("GET /broken HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut came = Vec::new();
    let ended = stream.read_to_end(&mut came);
    assert!(came.len() < 100_000, "it did not break off: {ended:?}");
}

/// A steered name over UDP.
fn ask(nameserver: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(perigee_testkit::PATIENCE)).unwrap();
    let mut query = b"\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in HOST.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\x00\x00\x01\x00\x01");
    socket.send_to(&query, nameserver).unwrap();
    let length = socket.recv(&mut [0; 512]).unwrap();
    assert!(length > query.len(), "an answer and no more than the question: {length}");
}

impl Tiers {
    async fn start(origin: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [edge, edge_tls, edge_admin, shield, shield_tls, shield_admin, dns, dns_tls, dns_admin] =
            std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let document = folder.path().join("cdn.toml");
        std::fs::write(&document, text_of_document(origin, shield, edge.port())).unwrap();
        std::fs::write(folder.path().join("fleet.secret"), "a secret of the tests alone\n").unwrap();
        Authority::default().issue(&[HOST, "*.cdn.example"]).write(folder.path(), "www");
        let cache = |name: &str| format!("{}:64MiB", folder.path().join(name).display());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let shield_process = start(
            "perigee-shield",
            &document,
            [shield, shield_admin],
            &[
                "--shield=eu",
                &format!("--disk={}", cache("shield")),
                &format!("--access-log={}", at("shield.log")),
                &format!("--listen-tls={shield_tls}"),
                &format!("--tls-certificate={}", at("www.pem")),
                &format!("--tls-key={}", at("www.key")),
            ],
        );
        let edge_process = start(
            "perigee-edge",
            &document,
            [edge, edge_admin],
            &["--pop", "fra", "--listen-tls", &edge_tls.to_string(), "--disk", &cache("edge")],
        );
        let dns_process = start("perigee-geodns", &document, [dns, dns_admin], &["--listen-tls", &dns_tls.to_string()]);
        let mut processes = [edge_process, shield_process, dns_process];
        for (process, admin) in processes.iter_mut().zip([edge_admin, shield_admin, dns_admin]) {
            process.wait_ready(admin).await;
        }
        wait_until("the doors", || TcpStream::connect(edge_tls).is_ok()).await;
        Self {
            edge: (edge, edge_admin),
            shield: shield_admin,
            nameserver: (dns, dns_admin),
            _processes: processes,
            _folder: folder,
        }
    }
}

fn start(binary: &str, document: &Path, [listen, admin]: [SocketAddr; 2], more: &[&str]) -> ProcessUnderTest {
    let mut arguments =
        vec![format!("--document={}", document.display()), format!("--listen={listen}"), format!("--admin={admin}")];
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    ProcessUnderTest::start(binary, arguments)
}

fn text_of_document(origin: &str, shield: SocketAddr, port: u16) -> String {
    let digest = sha256(TOKEN);
    format!(
        r#"version = 1

[cdn]
name = "test"
zone = "cdn.example"
secret_file = "fleet.secret"
dns_tls = {{ certificate = "www.pem", key = "www.key", offers = ["dot"] }}

[admin]
tokens = [{{ name = "ops", sha256 = "{digest}", scopes = ["purge", "read"] }}]

[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["127.0.0.1"]
health = {{ port = {port}, interval = "200ms", timeout = "150ms", fall = 100 }}
load = {{}}

[[shield]]
id = "eu"
url = "http://{shield}"
pops = ["fra"]

[[site]]
id = "www"
origins = [{{ url = "{origin}" }}]
tls = {{ certificate = "www.pem", key = "www.key" }}
"#
    )
}
