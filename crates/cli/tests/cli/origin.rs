use std::net::SocketAddr;

use perigee_testkit::{
    ProcessUnderTest,
    client::{get, get_with, head},
    sha256,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::perigee;

async fn origin() -> (ProcessUnderTest, SocketAddr) {
    let process = ProcessUnderTest::start("perigee", ["origin", "--listen", "127.0.0.1:0"]);
    let line = process.wait_for_line("ready: ").await;
    let address = line.trim_start_matches("ready: http://").trim_end_matches('/').parse().unwrap();
    (process, address)
}

#[tokio::test]
async fn the_file_is_what_its_published_hash_says() {
    let (_process, address) = origin().await;
    let file = get(address, "o", "/files/64MiB.bin").await;
    assert_eq!((file.status.as_u16(), file.body.len()), (200, 64 << 20));
    let sums = get(address, "o", "/files/SHA256SUMS").await.text();
    assert_eq!(sums, format!("{}  64MiB.bin\n", file.sha256()));

    let part = get_with(address, "o", "/files/64MiB.bin", &[("range", "bytes=1048570-1114120")]).await;
    assert_eq!((part.status.as_u16(), part.header("content-range")), (206, "bytes 1048570-1114120/67108864"));
    assert_eq!(sha256(&part.body), sha256(&file.body[1_048_570..=1_114_120]));

    let again = get_with(address, "o", "/files/64MiB.bin", &[("if-none-match", file.header("etag"))]).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let only = head(address, "o", "/files/64MiB.bin").await;
    assert_eq!((only.status.as_u16(), only.header("content-length"), only.body.len()), (200, "67108864", 0));
}

#[tokio::test]
async fn it_counts_by_path_what_reached_it() {
    let (_process, address) = origin().await;
    for path in ["/", "/", "/nothing", "/healthz", "/.origin/stats"] {
        get(address, "o", path).await;
    }
    let etag = get(address, "o", "/style.css").await.header("etag").to_owned();
    get_with(address, "o", "/style.css", &[("if-none-match", &etag)]).await;
    let stats: serde_json::Value = serde_json::from_str(&get(address, "o", "/.origin/stats").await.text()).unwrap();
    let expected = serde_json::json!({ "requests": 5, "not_modified": 1, "partial": 0, "paths": { "/": 2, "/nothing": 1, "/style.css": 2 } });
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn it_speaks_the_old_version_too() {
    let (_process, address) = origin().await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /robots.txt HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    // Read to the end: the connection closes by itself.
    socket.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.0 200") && text.ends_with("\r\n\r\nUser-agent: *\nAllow: /\n"), "{text}");
}

#[tokio::test]
async fn a_probe_tells_the_living_from_the_dead_and_a_signal_ends_it() {
    let (mut process, address) = origin().await;
    let probe = || perigee(["origin", "--probe", "--listen", &address.to_string()]);
    assert_eq!(probe().code, Some(0));
    process.terminate();
    assert!(process.wait_exit().await.success());
    assert_eq!(probe().code, Some(1));
}

#[tokio::test]
async fn a_busy_port_is_named_with_the_way_out() {
    let (_process, address) = origin().await;
    let ran = perigee(["origin", "--listen", &address.to_string()]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(&address.to_string()) && ran.stderr.contains("--listen"), "{}", ran.stderr);
}
