//! Distance in the demo, leg by leg, and the relay of deploy/compose.yaml as a process. What is held back comes no sooner, so
//! that times are asserted from below only.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use perigee_node::proxy_protocol::{Progress, read};
use perigee_testkit::ProcessUnderTest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, UdpSocket},
};

use crate::demo::{SITE, demo};

/// What a client of a country got over a connection of its own.
struct Got {
    took: Duration,
    head: String,
}

async fn get(code: u8, server: SocketAddr, path: &str) -> Got {
    let began = Instant::now();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, code, 0, 1], 0))).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = String::from_utf8_lossy(&answer).split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    Got { took: began.elapsed(), head }
}

/// There and back in milliseconds, less what rounding takes: light in fibre over the great circle, half as far again.
fn round_trip(km: u64) -> Duration {
    Duration::from_millis(2 * km * 3 / 2 / 200 - 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leg_is_as_long_as_its_cable() {
    let (_process, ports, _folder) = demo(&[]).await;
    let edge = |code: u8| SocketAddr::from(([127, code, 0, 80], ports.edge));
    let at_least = |got: &Got, round_trips: u32, km: u64, what: &str| {
        assert!(got.took >= round_trips * round_trip(km), "{what}: {:?} {}", got.took, got.head);
    };
    // Shield to origin, Singapore to Frankfurt: new connections from client to edge, edge to shield and shield to origin.
    let cold = get(65, edge(65), "/pictures/tyo-640.png").await;
    at_least(&cold, 2, 10_260, "shield to origin");
    // Edge to shield, Sydney to Singapore.
    let warm_shield = get(61, edge(61), "/pictures/tyo-640.png").await;
    assert!(warm_shield.head.contains("shield-east; hit"), "{}", warm_shield.head);
    at_least(&warm_shield, 2, 6_290, "edge to shield");
    // Client to edge, Australia to Frankfurt, of what the edge has.
    get(49, edge(49), "/pictures/tyo-640.png").await;
    let far = get(61, edge(49), "/pictures/tyo-640.png").await;
    assert!(far.head.contains("fra; hit"), "{}", far.head);
    at_least(&far, 2, 16_450, "client to edge");
    // Client to origin.
    let direct = get(61, SocketAddr::from(([127, 0, 0, 90], ports.origin)), "/pictures/tyo-640.png").await;
    at_least(&direct, 2, 16_450, "client to origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_compose_holds_back_and_tells_who_dials() {
    let check = async |distance: &str, place: &str, told: &str| {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_perigee-distance"));
        let to = node.local_addr().unwrap().to_string();
        command.args(["--listen", "127.0.0.1:0", "--to", &to, "--place", place, "--proxy-protocol"]);
        command.env("PERIGEE_DISTANCE", distance);
        let mut process = ProcessUnderTest::spawn("perigee-distance", command);
        let ready = process.wait_for_line(told).await;
        let at: SocketAddr = ready.split(' ').nth(1).unwrap().parse().unwrap();
        let mut client = TcpSocket::new_v4().unwrap().connect(at).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut served, _) = node.accept().await.unwrap();
        let mut got = Vec::new();
        served.read_to_end(&mut got).await.unwrap();
        assert_eq!(read(&got), Ok(Progress::Done(Some(client.local_addr().unwrap()))));
        assert!(got.ends_with(b"question"));
        served.write_all(b"answer").await.unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        process.signal(Signal::SIGTERM);
        assert!(process.wait_exit().await.success());
    };
    check("1", "tyo", "(tyo, as long as light takes)").await;
    check("0", "origin", "(origin, no distance)").await;
    let ran = Command::new(env!("CARGO_BIN_EXE_perigee-distance"))
        .args(["--listen", "192.0.2.1:80", "--to", "127.0.0.1:1", "--place", "tyo"])
        .output()
        .unwrap();
    let complaint = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(1) && complaint.contains("192.0.2.1:80 (see --listen)"), "{complaint}");
}

/// A nameserver's relay asks from its own address in the client's network, which is what decides about the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_compose_carries_questions() {
    // Of an address of its own, and not of all, as the containers' are: answers leave from where they were asked.
    let node = UdpSocket::bind("127.0.1.95:0").await.unwrap();
    let to = node.local_addr().unwrap();
    let connections = TcpListener::bind(to).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_perigee-distance"));
    let listen = "127.65.7.53:0,127.65.8.53:0";
    command.args(["--listen", listen, "--to", &to.to_string(), "--dns"]).env("PERIGEE_DISTANCE", "0");
    let mut process = ProcessUnderTest::spawn("perigee-distance", command);
    let ready = process.wait_for_line("(nameserver, no distance)").await;
    let at: Vec<SocketAddr> = ready.split(' ').nth(1).unwrap().split(',').map(|at| at.parse().unwrap()).collect();
    let [datagrams, _, other, tcp] = at[..] else { panic!("{ready}") };
    for (client, asked, seen) in [
        ("127.65.7.20:0", datagrams, "127.65.7.53"),
        ("127.65.7.20:0", other, "127.65.7.53"),
        ("127.65.8.20:0", other, "127.65.8.53"),
    ] {
        let socket = UdpSocket::bind(client).await.unwrap();
        socket.connect(asked).await.unwrap();
        socket.send(b"question").await.unwrap();
        let mut buffer = [0; 16];
        let (length, from) = node.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from.ip().to_string()), (&b"question"[..], seen.to_owned()));
        node.send_to(b"answer", from).await.unwrap();
        let length = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"answer");
    }
    // Another program may have the same port for connections.
    if let Ok(connections) = connections {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.65.7.20:0".parse().unwrap()).unwrap();
        let mut client = socket.connect(tcp).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let (_, from) = connections.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "127.65.7.53");
    }
    process.signal(Signal::SIGTERM);
    assert!(process.wait_exit().await.success());
}
