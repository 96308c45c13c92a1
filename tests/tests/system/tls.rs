//! TLS, HTTP/2 and the PROXY protocol at the doors of the real binaries.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use http::{Method, Version};
use perigee_testkit::{
    PATIENCE, ProcessUnderTest, Reply, ScriptedOrigin,
    certificates::{Authority, Issued, der, shown},
    client::{self, Connection, Response, ask_h2},
    free_port,
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::fleet::{loopback, quick_edge, replace};

const WWW: &str = "www.example.com";

/// An edge that serves `www` over TLS, with whatever else a test's site says.
struct World {
    edge: ProcessUnderTest,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    authority: Authority,
    first: Issued,
    document: PathBuf,
    folder: TempDir,
}

fn document(origin: &str, more: &str) -> String {
    format!(
        r#"version = 1

[cdn]
name = "test"
zone = "cdn.example"
secret_file = "fleet.secret"

[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["127.49.0.80"]

[[site]]
id = "www"
hosts = ["www.example.com"]
origins = [{{ url = "{origin}" }}]
{more}
"#
    )
}

const TLS: &str = "tls = { certificate = \"www.pem\", key = \"www.key\" }";

fn prepared(origin: &str, more: &str) -> (TempDir, PathBuf, Authority, Issued) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::default();
    let issued = authority.issue(&[WWW, "*.cdn.example"]);
    issued.write(folder.path(), "www");
    std::fs::write(folder.path().join("ca.pem"), authority.root_pem()).unwrap();
    std::fs::write(folder.path().join("fleet.secret"), "a secret of the tests alone\n").unwrap();
    let path = folder.path().join("cdn.toml");
    std::fs::write(&path, document(origin, more)).unwrap();
    (folder, path, authority, issued)
}

impl World {
    async fn start(origin: &ScriptedOrigin, more: &str, arguments: &[&str]) -> Self {
        let (folder, document, authority, first) = prepared(&origin.url(), more);
        let (http, https, admin) = (loopback(free_port()), loopback(free_port()), loopback(free_port()));
        let mut edge = edge(&document, http, Some(https), admin, arguments);
        edge.wait_ready(admin).await;
        Self { edge, http, https, admin, authority, first, document, folder }
    }

    async fn get(&self, path: &str) -> Response {
        let stream = self.authority.connect(self.https, WWW, &["http/1.1"]).await.unwrap();
        Connection::over_stream(stream).await.send(Method::GET, WWW, path, &[]).await
    }

    async fn get_h2(&self, path: &str) -> Response {
        let stream = self.authority.connect(self.https, WWW, &["h2"]).await.unwrap();
        ask_h2(stream, Method::GET, &format!("https://{WWW}{path}"), &[("cookie", "a=1"), ("cookie", "b=2")]).await
    }

    async fn serving(&self, name: &str) -> Vec<u8> {
        self.authority.connect(self.https, name, &[]).await.map(|stream| shown(&stream)).unwrap_or_default()
    }

    async fn until_serving(&self, name: &str, expected: &Issued) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.serving(name).await != der(expected) {
            assert!(tokio::time::Instant::now() < deadline, "{}", self.edge.stderr());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The line of that metric with those labels, whatever their order.
    async fn metric(&self, name: &str, labels: &[&str]) -> String {
        let text = client::get(self.admin, "admin", "/metrics").await.text();
        let has = |line: &str| labels.iter().all(|label| line.contains(label));
        text.lines().find(|line| line.starts_with(name) && has(line)).unwrap_or_default().to_owned()
    }
}

fn edge(
    document: &Path,
    http: SocketAddr,
    https: Option<SocketAddr>,
    admin: SocketAddr,
    more: &[&str],
) -> ProcessUnderTest {
    let (http, admin) = (http.to_string(), admin.to_string());
    let https = https.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let mut all = vec!["--document", document.to_str().unwrap(), "--pop", "fra", "--threads", "1"];
    all.extend(["--listen", &http, "--listen-tls", &https, "--admin", &admin]);
    all.extend(more);
    ProcessUnderTest::start("perigee-edge", all)
}

/// Says what it was asked, and may be stored.
async fn telling() -> ScriptedOrigin {
    ScriptedOrigin::answering(|seen| {
        let told = ["x-forwarded-proto", "x-forwarded-for", "cookie"].map(|name| seen.header(name).unwrap_or("-"));
        Reply::ok(told.join(" ")).header("Cache-Control", "max-age=600")
    })
    .await
}

#[tokio::test]
async fn https_over_both_versions_and_http_beside_it() {
    let origin = telling().await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let world = World::start(&origin, TLS, &["--access-log", log.path().to_str().unwrap()]).await;

    let first = world.get("/a").await;
    assert_eq!(
        (first.status.as_u16(), first.version, first.text().as_str()),
        (200, Version::HTTP_11, "https 127.0.0.1 -")
    );
    let second = world.get_h2("/a").await;
    assert_eq!((second.status.as_u16(), second.version), (200, Version::HTTP_2));
    assert!(second.header("cache-status").contains("; hit"), "{:?}", second.headers);
    // RFC 9111 §2: the scheme is of the key. An origin may send http elsewhere.
    let plain = client::get(world.http, WWW, "/a").await;
    assert_eq!(plain.text(), "http 127.0.0.1 -");
    assert_eq!(origin.seen().len(), 2);
    // RFC 9113 §8.2.3
    assert_eq!(world.get_h2("/b").await.text(), "https 127.0.0.1 a=1; b=2");

    // A name of the zone, and one that nobody here has.
    assert_eq!(world.serving("www.cdn.example").await, der(&world.first));
    assert_eq!(world.serving("other.cdn.example").await, b"");

    let logged = || std::fs::read_to_string(log.path()).unwrap();
    perigee_testkit::wait_until("the log of four requests", || logged().matches('\n').count() == 4).await;
    let lines: Vec<serde_json::Value> = logged().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut protocols: Vec<&str> = lines.iter().filter_map(|line| line["protocol"].as_str()).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["HTTP/1.1", "HTTP/1.1", "HTTP/2.0", "HTTP/2.0"]);
    assert!(lines.iter().all(|line| line["host"] == WWW), "{lines:?}");
    let expiry = world.metric("perigee_tls_certificate_expiry_seconds", &["site=\"www\""]).await;
    assert!(!expiry.is_empty() && !expiry.ends_with(" 0"), "{expiry}");
}

#[tokio::test]
async fn curl_agrees() {
    let origin = telling().await;
    let world = World::start(&origin, TLS, &[]).await;
    let address = world.https;
    for (options, version) in
        [(&["--http2"][..], "2"), (&["--http1.1"], "1.1"), (&["--http2", "--tls-max", "1.2"], "2")]
    {
        let mut curl = Command::new("curl");
        curl.arg("-sS")
            .args(options)
            .args(["--cacert", world.folder.path().join("ca.pem").to_str().unwrap()])
            .args(["--resolve", &format!("{WWW}:{}:127.0.0.1", address.port())])
            .args(["-w", "\n%{http_version} %{response_code}", &format!("https://{WWW}:{}/c", address.port())]);
        // The origin answers on this thread.
        let output = tokio::task::spawn_blocking(move || curl.output()).await.unwrap();
        let Ok(output) = output else {
            println!("skipped: there is no curl here");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("https 127.0.0.1 -\n{version} 200"), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn certificates_are_replaced_while_it_runs() {
    let origin = telling().await;
    let world = World::start(&origin, TLS, &[]).await;
    assert_eq!(world.serving(WWW).await, der(&world.first));
    let second = world.authority.issue(&[WWW, "*.cdn.example"]);
    second.write(world.folder.path(), "www");
    world.until_serving(WWW, &second).await;

    // A key of another certificate: said, counted, and not served.
    std::fs::write(world.folder.path().join("www.key"), &world.first.key).unwrap();
    world.edge.wait_for_line("www.key: is not the key of the certificate").await;
    assert_eq!(world.serving(WWW).await, der(&second));
    let counted = world.metric("perigee_reloads_total", &["what=\"certificate\"", "result=\"refused\""]).await;
    assert!(counted.ends_with(" 1"), "{counted}");

    // A document with another site, whose certificate must be there; then it is.
    let more = format!(
        "{TLS}\n[[site]]\nid = \"shop\"\nhosts = [\"shop.example.com\"]\norigins = [{{ url = \"{}\" }}]\ntls = {{ certificate = \"shop.pem\", key = \"shop.key\" }}\n",
        origin.url()
    );
    replace(&world.document, &document(&origin.url(), &more));
    world.edge.wait_for_line("shop.pem: cannot be read").await;
    assert_eq!(world.serving("shop.example.com").await, b"");
    let shop = world.authority.issue(&["shop.example.com"]);
    shop.write(world.folder.path(), "shop");
    replace(&world.document, &document(&origin.url(), &format!("{more}# again\n")));
    world.until_serving("shop.example.com", &shop).await;
    assert_eq!(world.serving(WWW).await, der(&second));
}

#[tokio::test]
async fn bad_pairs_and_bad_flags_are_refused_at_the_start() {
    let check = async |more: &str, spoil: &dyn Fn(&Path), arguments: &[&str], expected: &[&str]| {
        let (folder, path, _, _) = prepared("http://127.0.0.1:1", more);
        spoil(folder.path());
        let https = (!arguments.contains(&"--listen-tls")).then(|| loopback(free_port()));
        let (http, admin) = (loopback(free_port()), loopback(free_port()));
        let mut process = edge(&path, http, https, admin, arguments);
        let status = process.wait_exit().await;
        assert!(!status.success());
        for part in expected {
            assert!(process.stderr().contains(part), "{part:?} is not in {}", process.stderr());
        }
    };
    let nothing = |_: &Path| {};
    check(TLS, &|folder| std::fs::remove_file(folder.join("www.key")).unwrap(), &[], &["site.www.tls", "www.key"])
        .await;
    check(TLS, &|folder| std::fs::write(folder.join("www.pem"), "x").unwrap(), &[], &["holds no certificate"]).await;
    check("", &nothing, &[], &["--listen-tls needs a certificate"]).await;
    check(TLS, &nothing, &["--proxy-protocol", "10.0.0.1/8"], &["host bits"]).await;
    check(TLS, &nothing, &["--tls-key", "x"], &["--tls-certificate"]).await;
}

#[tokio::test]
async fn http_is_sent_to_https_where_the_site_says_so() {
    let origin = telling().await;
    let more = "tls = { certificate = \"www.pem\", key = \"www.key\", redirect = true }";
    let world = World::start(&origin, more, &[]).await;
    let sent = client::get(world.http, &format!("{WWW}:8080"), "/a?b=c").await;
    assert_eq!((sent.status.as_u16(), sent.header("location")), (308, "https://www.example.com/a?b=c"));
    assert_eq!(world.get("/a?b=c").await.status, 200);
    assert_eq!(client::get(world.http, WWW, "/.perigee/healthz").await.status, 200);
}

#[tokio::test]
async fn a_shield_over_tls_keeps_the_clients_scheme() {
    let origin = telling().await;
    let port = free_port();
    let more =
        format!("{TLS}\n[[shield]]\nid = \"s\"\nurl = \"https://127.0.0.1:{port}\"\ntls = {{ ca = \"ca.pem\" }}\n");
    for protocol in ["http/1.1", "h2"] {
        let more = format!("{more}protocol = \"{protocol}\"\npops = [\"fra\"]\n");
        let (folder, path, authority, _) = prepared(&origin.url(), &more);
        authority.issue(&["127.0.0.1"]).write(folder.path(), "shield");
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let addresses = [(); 5].map(|()| loopback(free_port()));
        let [plain, shield_admin, http, https, admin] = addresses;
        let mut shield = ProcessUnderTest::start(
            "perigee-shield",
            [
                ["--document", path.to_str().unwrap()],
                ["--shield", "s"],
                ["--listen", &plain.to_string()],
                ["--listen-tls", &format!("127.0.0.1:{port}")],
                ["--tls-certificate", &at("shield.pem")],
                ["--tls-key", &at("shield.key")],
                ["--admin", &shield_admin.to_string()],
            ]
            .concat(),
        );
        let mut edge = edge(&path, http, Some(https), admin, &[]);
        shield.wait_ready(shield_admin).await;
        edge.wait_ready(admin).await;
        let path = format!("/{}", protocol.replace('/', "-"));
        let stream = authority.connect(https, WWW, &["h2"]).await.unwrap();
        let over_tls = ask_h2(stream, Method::GET, &format!("https://{WWW}{path}"), &[]).await;
        assert!(over_tls.text().starts_with("https 127.0.0.1"), "{protocol}: {}", over_tls.text());
        assert!(over_tls.header("cache-status").contains("stored"), "{:?}", over_tls.headers);
        // The shield keeps both apart as the edge does: nothing of the one answers the other.
        let plain = client::get(http, WWW, &path).await;
        assert!(plain.text().starts_with("http 127.0.0.1"), "{protocol}: {}", plain.text());
        let metrics = client::get(shield_admin, "admin", "/metrics").await.text();
        let word = if protocol == "h2" { "h2" } else { "http/1" };
        let counted = metrics.lines().find(|line| {
            line.starts_with("perigee_connections_by_protocol_total")
                && line.contains(&format!("protocol=\"{word}\""))
                && line.contains("tls=\"yes\"")
        });
        assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{protocol}: {counted:?}");
        assert_eq!(client::get(shield_admin, "admin", "/v1/status").await.status, 200);
    }
}

#[tokio::test]
async fn a_balancers_client_is_the_client() {
    let origin = telling().await;
    let edge = quick_edge(&origin, &["--proxy-protocol", "127.0.0.1"]).await;
    let mut stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n").await.unwrap();
    let response = Connection::over_stream(stream).await.send(Method::GET, "x", "/a", &[]).await;
    assert_eq!(response.text(), "http 203.0.113.7 -");
    assert_eq!(client::raw(edge.address, b"GET / HTTP/1.0\r\n\r\n").await, b"");
}
