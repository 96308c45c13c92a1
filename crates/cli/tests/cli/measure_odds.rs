//! `perigee measure` over TLS and HTTP/2, against nameservers, origins and edges that misbehave, and interrupted.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        RData, Record,
        rdata::{A, CNAME},
    },
};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use perigee_testkit::{Reply, ScriptedOrigin, Seen, certificates::Authority, client::get, patiently};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    Ran,
    demo::{SITE, demo},
    measure::measure,
};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// What a nameserver says: by the name's first label. TCP has the whole truth.
fn answer(query: &[u8], is_tcp: bool) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap();
    let name = message.queries[0].name().clone();
    let label = name.iter().next().map(|label| String::from_utf8_lossy(label).into_owned()).unwrap_or_default();
    message.metadata.message_type = MessageType::Response;
    let here = Record::from_rdata(name.clone(), 5, RData::A(A(Ipv4Addr::LOCALHOST)));
    match &*label {
        "cut" if !is_tcp => message.metadata.truncation = true,
        "old" if message.edns.is_some() => message.metadata.response_code = ResponseCode::FormErr,
        "broken" => message.metadata.response_code = ResponseCode::ServFail,
        "nobody" => message.metadata.response_code = ResponseCode::NXDomain,
        "loop" => drop(message.add_answer(Record::from_rdata(name.clone(), 5, RData::CNAME(CNAME(name))))),
        "empty" => {}
        "chain" => {
            let next = CNAME("www.cdn.test.".parse().unwrap());
            message.add_answer(Record::from_rdata(name, 5, RData::CNAME(next)));
        }
        _ => drop(message.add_answer(here)),
    }
    message.to_vec().unwrap()
}

async fn nameserver() -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            udp.send_to(&answer(&buffer[..length], false), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let answer = answer(&query, true);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn nameservers_of_all_sorts() {
    let origin = ScriptedOrigin::answering(|_: &Seen| Reply::ok("x").header(FRESH.0, FRESH.1)).await;
    let edge = ScriptedOrigin::answering(|_: &Seen| Reply::ok("x")).await;
    let (server, port) = (nameserver().await, edge.address().port());
    for (label, expected) in [
        ("www", None),
        ("cut", None),
        ("old", None),
        ("chain", None),
        ("broken", Some("answers Server Failure about broken.cdn.test")),
        ("nobody", Some("answers Non-Existent Domain about nobody.cdn.test")),
        ("loop", Some("more than 8 aliases in a row")),
        ("empty", Some("knows no address of empty.cdn.test")),
    ] {
        let (direct, cdn) = (origin.url(), format!("http://{label}.cdn.test:{port}"));
        // Where nobody is, the next one is asked.
        let servers = format!("127.0.0.1:1,{server}");
        let ran = measure(&["--direct", &direct, "--cdn", &cdn, "--nameserver", &servers, "--repeat", "1"]).await;
        match expected {
            None => assert_eq!(ran.code, Some(0), "{label}: {ran:?}"),
            Some(said) => assert!(ran.code == Some(1) && ran.stdout.contains(said), "{label}: {ran:?}"),
        }
    }
    // An address that is not ours is a word to a nameserver; where there is none, it would be no place.
    let url = origin.url();
    for (cdn, more, said) in [
        ("www.cdn.test", &[][..], "add --nameserver"),
        ("127.0.0.1", &["--nameserver", "127.0.0.1:1"], "no name that a nameserver could be asked for"),
    ] {
        let ran = measure(&[&["--direct", &url, "--cdn", cdn, "--from", "198.51.100.9"], more].concat()).await;
        assert!(ran.code == Some(1) && ran.stderr.contains(said), "{ran:?}");
    }
}

/// A door of TLS in front of what speaks without it.
async fn door(config: rustls::ServerConfig, behind: SocketAddr) -> u16 {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever does not trust the certificate hangs up here.
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut plain).await.map(drop).unwrap_or_default();
            });
        }
    });
    port
}

/// An edge that speaks HTTP/2 alone.
async fn edge_h2(config: rustls::ServerConfig) -> u16 {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                    assert!(host.starts_with("www.cdn.test:"), "{host}");
                    let answer = http::Response::builder().header("cache-status", "fra; hit");
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(b"over tls"))).unwrap())
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connection.serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_on_both_sides() {
    let (authority, origin) = (
        Authority::default(),
        ScriptedOrigin::answering(|_: &Seen| Reply::ok("over tls").header(FRESH.0, FRESH.1)).await,
    );
    let plain = &["http/1.1"][..];
    let config = |names: &[&str], alpn: &[&str]| authority.server_config(&authority.issue(names), alpn);
    let own = door(config(&["origin.test"], plain), origin.address()).await;
    let edge = door(config(&["www.cdn.test"], plain), origin.address()).await;
    let wrong = door(config(&["other.test"], plain), origin.address()).await;
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let expired = authority.server_config(&authority.issue_until(&["www.cdn.test"], yesterday), plain);
    let expired = door(expired, origin.address()).await;
    let h2 = edge_h2(config(&["www.cdn.test"], &["h2"])).await;
    let trusted = tempfile::NamedTempFile::new().unwrap();
    fs::write(trusted.path(), authority.root_pem()).unwrap();
    let (server, ca) = (nameserver().await.to_string(), trusted.path().to_str().unwrap());
    let direct = format!("https://127.0.0.1:{own}/");
    let sides = ["--direct", &direct, "--direct-host", "origin.test", "--nameserver", &server, "--repeat", "1"];
    let to = async |port: u16, more: &[&str]| {
        let cdn = format!("https://www.cdn.test:{port}");
        measure(&[&sides[..], &["--cdn", &cdn, "--json"], more].concat()).await
    };

    let ran = to(edge, &["--ca", ca]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = json(&ran);
    for sample in told["samples"].as_array().unwrap() {
        assert_eq!(sample["connection"] == "fresh", sample["tls_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{sample}");
        assert_eq!(sample["is_http2"], false);
    }
    // Both are asked for HTTP/2, and one has it.
    let ran = to(h2, &["--ca", ca, "--http2"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for sample in json(&ran)["samples"].as_array().unwrap() {
        assert_eq!(sample["is_http2"] == true, sample["way"] != "direct", "{sample}");
        assert_eq!((&sample["status"], &sample["bytes"]), (&200.into(), &8.into()));
    }
    for (port, said) in [
        (wrong, "the TLS handshake for www.cdn.test fails: invalid peer certificate: certificate not valid for name"),
        (expired, "the TLS handshake for www.cdn.test fails: invalid peer certificate: certificate expired"),
        // It is not asked for the only thing that it speaks.
        (h2, "the TLS handshake for www.cdn.test fails"),
    ] {
        let ran = to(port, &["--ca", ca]).await;
        let errors = json(&ran)["places"][0]["errors"].to_string();
        assert!(ran.code == Some(1) && errors.contains(said), "{said}: {errors}");
    }
    // Nobody is trusted who is not said to be.
    let ran = to(edge, &[]).await;
    assert!(
        ran.code == Some(1) && ran.stderr.contains("for origin.test fails: invalid peer certificate: UnknownIssuer"),
        "{ran:?}"
    );
    let ran = to(edge, &["--ca", "/nowhere"]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot use /nowhere"), "{ran:?}");
}

/// A server may close a kept connection while the next request is on its way: a new connection makes that good.
#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_that_are_not_kept() {
    let asked = Mutex::new(BTreeMap::<usize, usize>::new());
    let origin = ScriptedOrigin::answering(move |seen: &Seen| {
        let mut asked = asked.lock().unwrap();
        let before = asked.entry(seen.connection).or_default();
        *before += 1;
        if *before > 2 { Reply::hang_up() } else { Reply::ok("x").header(FRESH.0, FRESH.1) }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("paths");
    fs::write(&list, "\u{feff}# all of them\r\n/a\r\n\r\n/b\r\n/c?x=1\r\n/d\r\n").unwrap();
    let (url, list) = (origin.url(), list.to_str().unwrap());
    let ran = measure(&["--direct", &url, "--cdn", &url, "--paths", list, "--repeat", "2", "--json"]).await;
    assert_eq!((ran.code, &json(&ran)["failed"]), (Some(0), &0.into()), "{ran:?}");
    assert_eq!(json(&ran)["samples"].as_array().unwrap().len(), 4 * 9);
}

/// An origin that dies in the middle, and an edge that nobody is at: told, without trying all the rest of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_again_and_again_is_left() {
    let asked = AtomicUsize::new(0);
    let origin = ScriptedOrigin::answering(move |_: &Seen| match asked.fetch_add(1, Ordering::Relaxed) {
        0..3 => Reply::ok("x").header(FRESH.0, FRESH.1),
        3 => Reply::ok("half").promise(9),
        _ => Reply::hang_up(),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("gain.svg");
    let ran = measure(&[
        "--direct",
        &origin.url(),
        "--cdn",
        "http://127.0.0.1:1",
        "--repeat",
        "10",
        "--svg",
        svg.to_str().unwrap(),
    ])
    .await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    // Of 20 fetches from the origin 2 went well and 5 failed, of 21 through the CDN 5 failed; the rest was left.
    for said in ["not tried: 29 more, after 5 failures in a row", "10 fetches failed", "cannot connect to 127.0.0.1:1"]
    {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    assert!(svg.exists());
    let nowhere = folder.path().join("no/gain.svg");
    let arguments = ["--direct", &*origin.url(), "--cdn", "http://127.0.0.1:1", "--svg", nowhere.to_str().unwrap()];
    let ran = measure(&arguments.map(|one| one.to_owned()).each_ref().map(|one| &**one)).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("there is no such folder"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_tells_what_there_is() {
    let origin = ScriptedOrigin::answering(|_: &Seen| Reply::ok("x").header(FRESH.0, FRESH.1)).await;
    let asked = AtomicUsize::new(0);
    let edge = ScriptedOrigin::answering(move |_: &Seen| match asked.fetch_add(1, Ordering::Relaxed) {
        0..2 => Reply::ok("x").header("x-cache", "HIT"),
        _ => Reply::hang(),
    })
    .await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee"));
    command.args(["measure", "--direct", &origin.url(), "--cdn", &edge.url(), "--timeout", "600"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    patiently("an answer does not come", edge.wait_for_requests(3)).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = patiently("it ends", ended).await.unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), stderr.as_str()), (Some(1), ""), "no progress where nobody watches");
    for said in ["CDN, new, first time", "CDN, new, again", "Interrupted: this is what there was", "spared 2 of 2"] {
        assert!(stdout.contains(said), "{said}: {stdout}");
    }
}

/// Every name of a value, with `[]` for what is in a list.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                into.insert(path.clone());
                keys(value, &path, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, &format!("{path}[]"), into)),
        _ => {}
    }
}

/// docs/measure.md tells of each field, and of no other.
#[tokio::test(flavor = "multi_thread")]
async fn the_json_is_documented() {
    let origin = ScriptedOrigin::answering(|_: &Seen| Reply::ok("x")).await;
    let asked = AtomicUsize::new(0);
    let edge = ScriptedOrigin::answering(move |_: &Seen| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok("x").header("x-cache", "MISS"),
        1 => Reply::ok("x").header("x-cache", "HIT"),
        _ => Reply::ok("x"),
    })
    .await;
    let (server, cdn) = (nameserver().await.to_string(), format!("http://www.cdn.test:{}", edge.address().port()));
    let ran = measure(&["--direct", &origin.url(), "--cdn", &cdn, "--nameserver", &server, "--json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = json(&ran);
    assert_eq!(told["version"], 2);
    let mut found = BTreeSet::new();
    keys(&told, "", &mut found);
    let page = include_str!("../../../../docs/measure.md");
    let section = page.split("\n## JSON\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> =
        rows.flat_map(|row| row.split('|').next().unwrap().split('`').step_by(2)).map(str::to_owned).collect();
    assert_eq!(found, documented);
}

/// What the report says of the origin's requests is what the origin has counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_origin_counts_the_same() {
    let (_process, ports, _folder) = demo(&["--no-distance"]).await;
    let origin = SocketAddr::from(([127, 0, 0, 90], ports.origin));
    let count = async || {
        let stats: Value = serde_json::from_str(&get(origin, "o", "/.origin/stats").await.text()).unwrap();
        stats["paths"]["/style.css"].as_u64().unwrap_or(0)
    };
    let (direct, cdn) = (format!("http://{origin}/style.css"), format!("http://{SITE}:{}", ports.edge));
    let server = format!("127.0.0.53:{}", ports.dns);
    let from = "Frankfurt=127.49.0.1,Tokyo=127.81.0.1,Paris=127.33.0.1";
    let before = count().await;
    let sides = ["--direct", &direct, "--cdn", &cdn, "--nameserver", &server, "--from", from, "--repeat", "2"];
    let ran = measure(&[&sides[..], &["--json", "--cache-bust"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = json(&ran);
    let number = |value: &Value| value.as_u64().unwrap();
    let direct = told["samples"].as_array().unwrap().iter().filter(|sample| sample["way"] == "direct").count() as u64;
    assert_eq!(direct, 3 * 4);
    // One more was the look at it at the beginning.
    assert_eq!(count().await - before, 1 + direct + number(&told["spared"]["by_origin"]), "{told}");
    let spared = &told["spared"];
    assert_eq!(number(&spared["requests"]) + number(&spared["by_origin"]), 3 * 5, "{spared}");
    // It was compressed for everybody alike: bytes go by requests.
    let bytes = number(&told["samples"][0]["bytes"]);
    assert_eq!(number(&spared["bytes"]), bytes * number(&spared["requests"]), "{spared}");
}
