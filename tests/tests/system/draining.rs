//! Edges that end, and operators' words, as the nameserver's clients see them: all by the real binaries.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};
use perigee_testkit::{ProcessUnderTest, Reply, ScriptedOrigin, client, free_port, patiently, wait_until};

use crate::fleet::loopback;

const FRA: &str = "127.49.0.80";
const SYD: &str = "127.61.0.80";
const TOKEN: &str = "an operator's token";

fn document(origin: &str, port: u16) -> String {
    let digest = perigee_testkit::sha256(TOKEN);
    let pop = |id: &str, latitude: f64, longitude: f64, address: &str| {
        format!(
            "[[pop]]\nid = \"{id}\"\nlatitude = {latitude}\nlongitude = {longitude}\naddresses = [\"{address}\"]\n\
             health = {{ port = {port}, interval = \"200ms\", timeout = \"150ms\", fall = 100 }}\nload = {{}}\n"
        )
    };
    format!(
        "[cdn]\nzone = \"cdn.example\"\n[geo.steering]\nanswers = 1\n\
         [admin]\ntokens = [{{ name = \"ops\", sha256 = \"{digest}\", scopes = [\"drain\"] }}]\n\
         {}{}[[site]]\nid = \"www\"\norigins = [{{ url = \"{origin}\" }}]\n",
        pop("fra", 50.11, 8.68, FRA),
        pop("syd", -33.87, 151.21, SYD),
    )
}

async fn edge(document: &Path, pop: &str, address: &str, port: u16) -> ProcessUnderTest {
    let admin = loopback(free_port());
    let mut process = ProcessUnderTest::start(
        "perigee-edge",
        [
            format!("--document={}", document.display()),
            format!("--pop={pop}"),
            format!("--listen={address}:{port}"),
            format!("--admin={admin}"),
            "--drain-notice=1h".to_owned(),
        ],
    );
    process.wait_ready(admin).await;
    process
}

async fn nameserver(folder: &Path, listen: SocketAddr, admin: SocketAddr) -> ProcessUnderTest {
    let mut process = ProcessUnderTest::start(
        "perigee-geodns",
        [
            format!("--document={}", folder.join("cdn.toml").display()),
            format!("--state={}", folder.join("state").display()),
            format!("--listen={listen}"),
            format!("--admin={admin}"),
        ],
    );
    process.wait_ready(admin).await;
    process
}

/// The address of `www`; every client is where the first PoP is.
fn www(server: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii("www.cdn.example.").unwrap(), RecordType::A));
    socket.send_to(&message.to_vec().unwrap(), server).unwrap();
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).ok()?;
    let reply = Message::from_vec(&reply[..length]).unwrap();
    reply.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    })
}

async fn becomes(server: SocketAddr, expected: &str) {
    let expected: IpAddr = expected.parse().unwrap();
    wait_until(&format!("the answer {expected}"), || www(server) == Some(expected)).await;
}

async fn pop(word: &str, folder: &Path, admin: SocketAddr) -> String {
    let token = folder.join("ops.token");
    std::fs::write(&token, TOKEN).unwrap();
    let arguments = ["pop", word, "fra", "--reason", "a test", "--node"].map(str::to_owned);
    let more = [admin.to_string(), format!("--token-file={}", token.display())];
    let mut ran = ProcessUnderTest::start("perigee", arguments.into_iter().chain(more));
    assert!(ran.wait_exit().await.success(), "{}", ran.stderr());
    ran.stdout()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_leave_an_edge_before_it_ends_and_a_pop_that_is_drained() {
    let origin = ScriptedOrigin::answering(|_| Reply::ok("hello")).await;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = folder.path().join("cdn.toml");
    std::fs::write(&path, document(&origin.url(), port)).unwrap();
    let fra = edge(&path, "fra", FRA, port).await;
    let _syd = edge(&path, "syd", SYD, port).await;
    let (dns, admin) = (loopback(free_port()), loopback(free_port()));
    let mut server = nameserver(folder.path(), dns, admin).await;
    becomes(dns, FRA).await;
    // Edges tell their load, and the nameserver hears it.
    let at_fra: SocketAddr = format!("{FRA}:{port}").parse().unwrap();
    let health = client::get(at_fra, "www.cdn.example", "/.perigee/healthz").await;
    let load: f64 = health.header("perigee-load").parse().unwrap();
    assert!((0.0..1.0).contains(&load) && health.header("perigee-draining").is_empty(), "{load}");
    patiently("loads", async {
        while client::get(admin, "a", "/v1/pops").await.text().contains("\"load\":null") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;

    let said = pop("drain", folder.path(), admin).await;
    assert!(said.ends_with(": fra is drained\n"), "{said}");
    becomes(dns, SYD).await;
    server.kill();
    server.wait_exit().await;
    let _server = nameserver(folder.path(), dns, admin).await;
    assert_eq!(www(dns), Some(SYD.parse().unwrap()), "it is drained after a kill");
    pop("auto", folder.path(), admin).await;
    becomes(dns, FRA).await;

    fra.terminate();
    becomes(dns, SYD).await;
    // It serves on meanwhile.
    let health = client::get(at_fra, "www.cdn.example", "/.perigee/healthz").await;
    assert_eq!((health.status.as_u16(), health.header("perigee-draining")), (200, "1"));
    assert_eq!(client::get(at_fra, "www.cdn.example", "/").await.text(), "hello");
}
