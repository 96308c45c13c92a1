use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, RecordType,
        rdata::opt::{ClientSubnet, EdnsOption},
    },
};
use perigee_testkit::{
    PATIENCE, ProcessUnderTest,
    client::{Connection, get, get_with},
    free_ports, sha256, wait_until,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::perigee;

pub(crate) const SITE: &str = "www.cdn.example";
const NS1: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Ports of a demo on one address: 8 edges, 2 shields, an origin, 2 nameservers, 12 admin listeners, the page, and a gap.
const PORTS: u16 = 40;

/// The ports of one demo, so that several tests run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) edge: u16,
    shield: u16,
    pub(crate) origin: u16,
    pub(crate) dns: u16,
    admin: u16,
    page: u16,
}

impl Ports {
    fn free() -> Self {
        let first = free_ports(PORTS);
        Self {
            edge: first,
            shield: first + 8,
            origin: first + 10,
            dns: first + 11,
            admin: first + 20,
            page: first + 35,
        }
    }

    fn flags(self) -> Vec<String> {
        let Self { edge, shield, origin, dns, admin, page } = self;
        let ports = [
            ("--edge-port", edge),
            ("--shield-port", shield),
            ("--origin-port", origin),
            ("--dns-port", dns),
            ("--admin-port", admin),
            ("--page-port", page),
        ];
        let flags = ports.iter().flat_map(|(flag, port)| [(*flag).to_owned(), port.to_string()]);
        ["demo".to_owned()].into_iter().chain(flags).collect()
    }
}

/// A demo that is ready. Its temporary folder is made in one of the test's, since a killed demo leaves it behind.
pub(crate) async fn demo(more: &[&str]) -> (ProcessUnderTest, Ports, TempDir) {
    let (ports, folder) = (Ports::free(), tempfile::tempdir().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee"));
    command.args(ports.flags()).args(more).env("TMPDIR", folder.path());
    let process = ProcessUnderTest::spawn("perigee demo", command);
    process.wait_for_line("ready: 8 edges, 2 shields, 2 nameservers, 1 origin").await;
    (process, ports, folder)
}

fn query(name: &str, kind: RecordType, subnet: Option<Ipv4Addr>) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(subnet) = subnet {
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(subnet.into(), 16, 0)));
        query.set_edns(edns);
    }
    query
}

/// What the nameserver answers a client of that address.
fn ask(client: Ipv4Addr, server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query.to_vec().unwrap(), server).unwrap();
    let mut answer = [0; 4096];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(from, server);
    Message::from_vec(&answer[..length]).unwrap()
}

/// The edge that a client of that country is sent to.
fn edge_for(code: u8, server: SocketAddr, name: &str) -> Ipv4Addr {
    only_address(&ask(Ipv4Addr::new(127, code, 0, 1), server, &query(name, RecordType::A, None)))
}

fn only_address(answer: &Message) -> Ipv4Addr {
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.authoritative);
    match answer.answers.iter().map(|record| &record.data).collect::<Vec<_>>()[..] {
        [RData::A(address)] => address.0,
        ref other => panic!("{other:?}"),
    }
}

/// Asks a node to end, with the demo's token.
async fn drain(admin: SocketAddr) {
    let mut connection = Connection::open(admin).await;
    let answer = connection.send(http::Method::POST, "admin", "/v1/drain", &[("authorization", "Bearer demo")]).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_country_has_its_edge_and_every_edge_the_site() {
    let (mut process, ports, folder) = demo(&[]).await;
    let nameserver = SocketAddr::from((NS1, ports.dns));
    for (client, edge) in
        [(49, 49), (44, 44), (1, 1), (55, 55), (27, 27), (65, 65), (81, 81), (61, 61), (33, 44), (64, 61), (82, 81)]
    {
        assert_eq!(edge_for(client, nameserver, SITE), Ipv4Addr::new(127, edge, 0, 80), "clients of 127.{client}");
    }
    // Both nameservers, the apex, and a client that is nowhere.
    let second = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 54), ports.dns));
    assert_eq!(edge_for(81, second, "cdn.example"), Ipv4Addr::new(127, 81, 0, 80));
    assert_eq!(edge_for(0, nameserver, SITE), Ipv4Addr::new(127, 49, 0, 80));

    let origin = SocketAddr::from(([127, 0, 0, 90], ports.origin));
    for path in ["/", "/pictures/tyo-640.png", "/style.css", "/big/1MiB"] {
        let truth = get(origin, SITE, path).await;
        for code in [49, 81] {
            let edge = SocketAddr::from(([127, code, 0, 80], ports.edge));
            for expected in ["miss", "hit"] {
                let copy = get(edge, SITE, path).await;
                assert_eq!(
                    (copy.status.as_u16(), sha256(&copy.body)),
                    (200, sha256(&truth.body)),
                    "{path} from {edge}"
                );
                let status = copy.header("cache-status");
                let at_edge = status.rsplit(", ").next().unwrap();
                assert_eq!(at_edge.contains("; hit"), expected == "hit", "{path} from {edge}: {status}");
            }
        }
    }
    process.terminate();
    assert!(process.wait_exit().await.success());
    assert!(process.stdout().ends_with("drained\n"), "{}", process.stdout());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_of_one_shield_cost_the_origin_one_request() {
    let (_process, ports, _folder) = demo(&["--memory", "32MiB", "--no-distance"]).await;
    // Frankfurt, London, New York, São Paulo and Johannesburg have one shield, the other three the other.
    for code in [49, 44, 1, 55, 27, 65, 81, 61] {
        let edge = SocketAddr::from(([127, code, 0, 80], ports.edge));
        assert_eq!(get(edge, SITE, "/app.js").await.status, 200);
        // Whatever the client calls the site, it is the same copy.
        let with_port = format!("{SITE}:{}", ports.edge);
        assert_eq!(get_with(edge, &with_port, "/app.js", &[("range", "bytes=0-9")]).await.status, 206);
        assert_eq!(get(edge, "cdn.example", "/app.js").await.status, 200);
    }
    let origin = SocketAddr::from(([127, 0, 0, 90], ports.origin));
    let stats: serde_json::Value = serde_json::from_str(&get(origin, SITE, "/.origin/stats").await.text()).unwrap();
    assert_eq!(stats["paths"]["/app.js"], 2, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_drained_leaves_the_answers() {
    let (process, ports, _folder) = demo(&[]).await;
    let nameserver = SocketAddr::from((NS1, ports.dns));
    assert_eq!(edge_for(81, nameserver, SITE), Ipv4Addr::new(127, 81, 0, 80));
    drain(SocketAddr::from(([127, 81, 0, 80], ports.admin))).await;
    process.wait_for_line("edge=tyo state=drained").await;
    // Its fallback takes over, and the others stay where they were.
    wait_until("Tokyo's clients to be sent on", || edge_for(81, nameserver, SITE) == Ipv4Addr::new(127, 65, 0, 80))
        .await;
    assert_eq!(edge_for(49, nameserver, SITE), Ipv4Addr::new(127, 49, 0, 80));
    // Nobody listens there any more, no relay either.
    let edge = SocketAddr::from(([127, 81, 0, 80], ports.edge));
    wait_until("Tokyo's port to be closed", || std::net::TcpStream::connect(edge).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_address_every_edge_has_its_own_port() {
    let (mut process, ports, _folder) = demo(&["--one-address"]).await;
    for index in 0..8 {
        let edge = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.edge + index));
        assert_eq!(get(edge, SITE, "/robots.txt").await.status, 200, "{edge}");
    }
    // The query says for whom it asks, and the answer tells the edges apart by addresses that are names only.
    let nameserver = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.dns));
    let asked_for = |code| {
        let answer =
            ask(Ipv4Addr::LOCALHOST, nameserver, &query(SITE, RecordType::A, Some(Ipv4Addr::new(127, code, 0, 0))));
        only_address(&answer)
    };
    for code in [49, 81, 61] {
        assert_eq!(asked_for(code), Ipv4Addr::new(127, code, 0, 80));
    }
    // The probes find the edges where they are: Tokyo's leaves when its own port does.
    let tokyo = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.admin + 6));
    drain(tokyo).await;
    wait_until("Tokyo's clients to be sent on", || asked_for(81) == Ipv4Addr::new(127, 65, 0, 80)).await;
    assert_eq!(asked_for(49), Ipv4Addr::new(127, 49, 0, 80));
    process.signal(nix::sys::signal::Signal::SIGINT);
    assert!(process.wait_exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_is_named_with_its_flag() {
    let check = |flag: &'static str, busy: fn(Ports) -> SocketAddr| {
        let ports = Ports::free();
        let address = busy(ports);
        let holder = TcpListener::bind(address).unwrap();
        let ran = perigee(ports.flags());
        drop(holder);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{flag}: {ran:?}");
        assert!(ran.stderr.contains(flag) && ran.stderr.contains(&address.to_string()), "{flag}: {}", ran.stderr);
    };
    tokio::task::spawn_blocking(move || {
        check("--edge-port", |ports| SocketAddr::from(([127, 81, 0, 80], ports.edge)));
        check("--shield-port", |ports| SocketAddr::from(([127, 0, 0, 81], ports.shield)));
        check("--origin-port", |ports| SocketAddr::from(([127, 0, 0, 90], ports.origin)));
        check("--dns-port", |ports| SocketAddr::from(([127, 0, 0, 53], ports.dns)));
        check("--admin-port", |ports| SocketAddr::from(([127, 49, 0, 80], ports.admin)));
    })
    .await
    .unwrap();
}

#[test]
fn a_zone_that_is_no_name_is_a_mistake_of_the_options() {
    let ran = perigee(["demo", "--zone", "no name"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cdn.zone"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_follows_the_document_when_it_is_edited() {
    let folder = tempfile::tempdir().unwrap();
    let (process, ports, _temporary) = demo(&["--folder", folder.path().to_str().unwrap()]).await;
    let document = folder.path().join("perigee.toml");
    let edge = SocketAddr::from(([127, 81, 0, 80], ports.edge));
    let nameserver = SocketAddr::from((NS1, ports.dns));
    let ttl = || {
        let answer = ask(Ipv4Addr::new(127, 81, 0, 1), nameserver, &query(SITE, RecordType::A, None));
        answer.answers.first().map(|record| record.ttl)
    };
    assert_eq!((ttl(), get(edge, SITE, "/").await.header("x-edited")), (Some(10), ""));

    let text = fs::read_to_string(&document).unwrap();
    let rule = "[[site.rule]]\nmatch = { path = \"/*\" }\nheaders = { set = { \"X-Edited\" = \"yes\" } }\n";
    fs::write(&document, format!("{}\n{rule}", text.replace("\nttl = \"10s\"", "\nttl = \"77s\""))).unwrap();
    wait_until("the nameserver to follow", || ttl() == Some(77)).await;
    while get(edge, SITE, "/").await.header("x-edited") != "yes" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // A bad one is refused by all of them, and the good one goes on.
    fs::write(&document, "version = 9\n").unwrap();
    process.wait_for_line("document=refused by=all reason=\"perigee.toml:1  ").await;
    assert_eq!((ttl(), get(edge, SITE, "/").await.header("x-edited")), (Some(77), "yes"));
    // Mended, it is said no more.
    fs::write(&document, text).unwrap();
    process.wait_for_line("document=serves").await;
}

/// Edges, shields, nameservers and the origin.
const NODES: usize = 13;

/// The latest of what a page is told once `holds` is true of it.
async fn page_where(page: SocketAddr, holds: impl Fn(&Value) -> bool) -> Value {
    let mut stream = TcpStream::connect(page).await.unwrap();
    stream.write_all(b"GET /v1/live HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let wait = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let told = line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap());
            // A node that has not told anything yet is not in the list.
            let whole = told.filter(|told| told.as_array().map(Vec::len) == Some(NODES));
            if let Some(told) = whole.filter(|told| holds(told)) {
                return told;
            }
        }
        panic!("the page's figures ended");
    };
    timeout(PATIENCE, wait).await.expect("figures as they should be")
}

fn node<'a>(told: &'a Value, name: &str) -> &'a Value {
    told.as_array().unwrap().iter().find(|node| node["node"] == name).unwrap_or_else(|| panic!("no {name}: {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_of_every_node() {
    let (_process, ports, _folder) = demo(&[]).await;
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.page));
    let tokyo = SocketAddr::from(([127, 81, 0, 80], ports.edge));
    // Korea's clients, by a resolver that tells their network; and a page with what may be a secret.
    let korea = query(SITE, RecordType::A, Some(Ipv4Addr::new(127, 82, 0, 0)));
    ask(Ipv4Addr::LOCALHOST, SocketAddr::from((NS1, ports.dns)), &korea);
    for _ in 0..2 {
        get(tokyo, SITE, "/cities/tyo?token=secret").await;
    }
    let told = page_where(page, |told| {
        !node(told, "ns1")["arcs"].as_array().unwrap().is_empty() && node(told, "tyo")["sampled"] == 2
    })
    .await;
    let arc = &node(&told, "ns1")["arcs"][0];
    assert_eq!((&arc["country"], &arc["pop"], &arc["answers"]), (&json!("KR"), &json!("tyo"), &json!(1)), "{arc}");
    let url = &node(&told, "tyo")["urls"][0];
    assert_eq!(
        (&url["url"], &url["requests"], &url["hits"]),
        (&json!(format!("{SITE}/cities/tyo")), &json!(2), &json!(1))
    );
    assert!(!told.to_string().contains("secret"), "{told}");
    drain(SocketAddr::from(([127, 81, 0, 80], ports.admin))).await;
    page_where(page, |told| node(told, "tyo")["ended"] == true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_passes_questions_and_purges_on_and_nothing_else() {
    let (_process, ports, _folder) = demo(&[]).await;
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.page));
    let check = async |method: http::Method, path: &str, token: &str, status: u16, holds: &str| {
        let mut connection = Connection::open(page).await;
        let answer = connection.send(method, "a", path, &[("authorization", token)]).await;
        let text = answer.text();
        assert!(answer.status == status && text.contains(holds), "{path}: {} {text}", answer.status);
    };
    let (asking, changing) = (http::Method::GET, http::Method::POST);
    check(asking.clone(), "/v1/at/fra/explain/http?url=http://www.cdn.example/", "", 200, "\"site\":\"www\"").await;
    check(asking.clone(), "/v1/at/ns2/explain/dns?name=www.cdn.example&client=127.81.0.1", "", 200, "\"pop\":\"tyo\"")
        .await;
    check(asking.clone(), "/v1/at/nowhere/explain/http?url=http://a/", "", 404, "unknown-node").await;
    check(changing.clone(), "/v1/at/fra/purge", "", 401, "token").await;
    check(changing.clone(), "/v1/at/fra/purge", "Bearer demo", 400, "bad-purge").await;
    check(changing.clone(), "/v1/at/fra/drain", "Bearer demo", 404, "").await;
    check(changing, "/v1/at/fra%2Fdrain%3F/purge", "Bearer demo", 404, "unknown-node").await;
    check(asking, "/v1/at/fra/explain/..%2F..%2Fmetrics", "", 404, "").await;
}
