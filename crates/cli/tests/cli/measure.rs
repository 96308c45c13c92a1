use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        RData, Record, RecordType,
        rdata::{
            A, CNAME,
            opt::{EdnsCode, EdnsOption},
        },
    },
};
use perigee_testkit::{Reply, ScriptedOrigin, Seen};
use serde_json::Value;

use crate::{
    Ran,
    demo::{SITE, demo},
    perigee,
};

const PAGE: &str = "<a href=\"/b.css\"><img src='/c.png?utm_source=x'><a href=\"//other.example/d\"><a href=\"/gone\">";

/// A site that makes one mistake of each kind.
fn site(seen: &Seen) -> Reply {
    let fresh = ("cache-control", "max-age=60");
    match seen.path() {
        "/" => Reply::new(200).header("content-type", "text/html").header(fresh.0, fresh.1).body(PAGE),
        "/b.css" => {
            Reply::new(200).header("content-type", "text/css").header("vary", "User-Agent").body("b".repeat(2000))
        }
        "/c.png" => Reply::new(200).header(fresh.0, fresh.1).header("set-cookie", "session=SECRET").body("c"),
        _ => Reply::new(404).header(fresh.0, fresh.1).body("no"),
    }
}

/// What the questions of a nameserver told of their clients.
type Clients = Arc<Mutex<Vec<(IpAddr, Option<IpAddr>)>>>;

/// A nameserver whose www.cdn.test is an alias of what is at 127.0.0.1. Its thread ends with the process.
fn nameserver() -> (SocketAddr, Clients) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, clients) = (socket.local_addr().unwrap(), Clients::default());
    let seen = Arc::clone(&clients);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            let subnet = message.edns.as_ref().and_then(|edns| match edns.option(EdnsCode::Subnet) {
                Some(EdnsOption::Subnet(subnet)) => Some(subnet.addr()),
                _ => None,
            });
            seen.lock().unwrap().push((from.ip(), subnet));
            let question = message.queries[0].clone();
            let edge = "edge.cdn.test.".parse().unwrap();
            message.metadata.message_type = hickory_proto::op::MessageType::Response;
            message.metadata.response_code = ResponseCode::NoError;
            let data = if *question.name() == edge {
                (question.query_type() == RecordType::A).then_some(RData::A(A(Ipv4Addr::LOCALHOST)))
            } else {
                Some(RData::CNAME(CNAME(edge)))
            };
            message.answers.extend(data.map(|data| Record::from_rdata(question.name().clone(), 5, data)));
            socket.send_to(&message.to_vec().unwrap(), from).unwrap();
        }
    });
    (address, clients)
}

pub(crate) async fn measure(arguments: &[&str]) -> Ran {
    let arguments: Vec<String> = ["measure"].iter().chain(arguments).map(|one| (*one).to_owned()).collect();
    tokio::task::spawn_blocking(move || perigee(arguments)).await.unwrap()
}

#[tokio::test]
async fn both_ways_from_two_places_with_everything_that_is_wrong() {
    let origin = ScriptedOrigin::answering(site).await;
    // A CDN that has everything from the second time on, but one.
    let edge = ScriptedOrigin::answering({
        let asked = Mutex::new(std::collections::BTreeSet::new());
        move |seen| {
            let is_first = asked.lock().unwrap().insert(seen.path().to_owned());
            let is_missed = is_first || seen.path() == "/c.png";
            let status = if is_missed { "shield; hit, fra; fwd=uri-miss" } else { "fra; hit; ttl=9" };
            let status =
                if seen.path() == "/c.png" { "shield; fwd=miss, fra; fwd=bypass; detail=cookie" } else { status };
            site(seen).header("cache-status", status)
        }
    })
    .await;
    let (server, clients) = nameserver();
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("gain.svg");
    let cdn = format!("http://www.cdn.test:{}", edge.address().port());
    let url = origin.url();
    let server = server.to_string();
    let arguments = [
        ["--direct", &url, "--cdn", &cdn, "--nameserver", &server],
        ["--from", "Here=127.0.0.7,There=198.51.100.9", "--repeat", "2", "--svg", plot.to_str().unwrap()],
    ]
    .concat();

    let ran = measure(&[&arguments[..], &["--crawl", "--json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let paths: Vec<_> =
        told["assets"].as_array().unwrap().iter().map(|asset| asset["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/", "/b.css", "/c.png?utm_source=x", "/gone"]);
    // Two places, four assets: twice direct and again, new and kept; once the first time.
    assert_eq!(told["samples"].as_array().unwrap().len(), 2 * 4 * (2 * 2 * 2 + 1));
    assert_eq!(told["failed"], 0);
    let kinds: Vec<_> = told["findings"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    let expected = ["no-freshness", "set-cookie", "vary", "query-noise", "no-compression", "no-hit"];
    for kind in expected {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert!(!kinds.contains(&"differs"), "{kinds:?}");
    let spared = &told["spared"];
    // Through the CDN 40 fetches; the one that is never stored is a quarter, and each other missed once at the edge.
    assert_eq!((&spared["requests_known"], &spared["by_origin"]), (&40.into(), &10.into()));
    assert_eq!(spared["by_tier"], serde_json::json!([27, 3]));
    let there = &told["places"][1];
    assert_eq!((&there["fetched_from_there"], &told["places"][0]["fetched_from_there"]), (&false.into(), &true.into()));

    // Queries left from the address that is ours, and told of the one that is not.
    let clients = clients.lock().unwrap().clone();
    let (here, subnet): (IpAddr, IpAddr) = ("127.0.0.7".parse().unwrap(), "198.51.100.0".parse().unwrap());
    assert!(clients.contains(&(here, None)), "{clients:?}");
    assert!(clients.iter().any(|(_, told)| *told == Some(subnet)), "{clients:?}");
    assert!(clients.iter().all(|(from, told)| (*from == here) != (*told == Some(subnet))), "{clients:?}");
    // One connection serves all that is fetched over a kept one.
    assert!(origin.connections() < origin.requests());
    assert!(fs::read_to_string(&plot).unwrap().contains("There"));

    let ran = measure(&[&arguments[..], &["--crawl"]].concat()).await;
    for line in ["Here (127.0.0.7) → 127.0.0.1; answered by edge 75 %, origin 25 %", "spared", "session=…", "→ "]
    {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("SECRET"), "{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 140), "{}", ran.stdout);
}

#[tokio::test]
async fn a_cdn_that_changes_what_it_serves_is_told() {
    let origin = ScriptedOrigin::answering(site).await;
    let edge = ScriptedOrigin::answering(|_| Reply::new(200).header("cache-status", "fra; hit").body("another")).await;
    let ran = measure(&["--direct", &origin.url(), "--cdn", &edge.url(), "--cache-bust", "--repeat", "1"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("another content through the CDN"), "{}", ran.stdout);
    let asked: Vec<String> = edge.seen().iter().map(|seen| seen.target.clone()).collect();
    assert!(asked.iter().all(|target| target == &asked[0] && target.starts_with("/?perigee-measure=")), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_said() {
    let origin = ScriptedOrigin::answering(site).await;
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("paths");
    fs::write(&list, "/\nb.css\n").unwrap();
    let (url, large) = (origin.url(), format!("{}/b.css", origin.url()));
    for (arguments, expected) in [
        (
            &["--direct", "ftp://o.example/", "--cdn", "c.example"][..],
            "--direct \"ftp://o.example/\": ftp is not understood",
        ),
        (&["--direct", "http://127.0.0.1:1/", "--cdn", "c.example"], "cannot connect to 127.0.0.1:1"),
        (&["--direct", &url, "--cdn", "c.example", "--paths", list.to_str().unwrap()], "line 2: \"b.css\" is no path"),
        (&["--direct", &url, "--cdn", "c.example", "--paths", "/nowhere"], "cannot read /nowhere"),
        (&["--direct", &large, "--cdn", "c.example", "--size-max", "1KiB"], "it is larger than 1024 bytes"),
    ] {
        let ran = measure(arguments).await;
        assert_eq!(ran.code, Some(1), "{arguments:?}");
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    // A CDN that nobody is at: every fetch is tried, and the way there is told.
    let ran = measure(&["--direct", &url, "--cdn", "http://127.0.0.1:1", "--repeat", "1"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("cannot connect to 127.0.0.1:1") && ran.stdout.contains("3 fetches failed"),
        "{}",
        ran.stdout
    );
}

/// Relays only ever hold back, so that what is asserted are times that cannot be undercut.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_is_far_from_sydney_but_for_its_edge() {
    let (_process, ports, _folder) = demo(&[]).await;
    let direct = format!("http://127.0.0.90:{}/", ports.origin);
    let (cdn, server) = (format!("http://{SITE}:{}", ports.edge), format!("127.0.0.53:{}", ports.dns));
    let from = "Frankfurt=127.49.0.1,Sydney=127.61.0.1";
    let sides = ["--direct", &direct, "--cdn", &cdn, "--nameserver", &server, "--from", from];
    let ran = measure(&[&sides[..], &["--repeat", "1", "--json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{} {}", ran.stdout, ran.stderr);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["places"][1]["edges"], serde_json::json!(["127.61.0.80"]));
    let of = |way: &str, connection: &str| {
        let samples = told["samples"].as_array().unwrap().iter();
        let mut own = samples.filter(|it| it["place"] == 1 && it["way"] == way && it["connection"] == connection);
        own.next().unwrap().clone()
    };
    let total = |sample: &Value| sample["total_ms"].as_f64().unwrap();
    // 16,500 km and back are 248 ms; a new connection goes there twice.
    assert!(total(&of("direct", "kept")) > 245.0 && total(&of("direct", "fresh")) > 490.0, "{told}");
    // Sydney's edge asks Singapore's shield, 6,300 km away, over a new connection or a kept one.
    assert!(total(&of("cdn_first", "fresh")) > 90.0, "{told}");
    assert_eq!(of("cdn_again", "kept")["served"]["by"], "cache");
    // A nameserver is in Sydney too: half a millisecond for either way.
    assert!(of("cdn_again", "fresh")["dns_ms"].as_f64().unwrap() >= 1.0, "{told}");
    // The relay takes connections at once, and the round trip of the handshake is told all the same. How long a busy machine
    // connects nobody knows: it is held against what was measured.
    let rows = told["places"][1]["rows"].as_array().unwrap();
    let direct =
        |connection: &str| rows.iter().find(|row| row["way"] == "direct" && row["connection"] == connection).unwrap();
    let half = |row: &Value, phase: &str| row[phase]["p50"].as_f64().unwrap();
    let (fresh, kept) = (direct("fresh"), direct("kept"));
    let (hidden, later) = (half(fresh, "first_byte_ms") - half(kept, "first_byte_ms"), half(kept, "first_byte_ms"));
    let is_told = hidden > 10.0 * half(fresh, "connect_ms") && hidden > later / 2.0;
    match fresh["early_ms"].as_f64() {
        Some(early) => assert!(is_told && (early - hidden).abs() < 0.001, "{told}"),
        None => assert!(!is_told, "{told}"),
    }
    assert!(fresh["dns_ms"].is_null() && half(fresh, "without_dns_ms") == half(fresh, "total_ms"), "{told}");
}
