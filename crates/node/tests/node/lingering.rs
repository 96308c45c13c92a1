//! An answer before the request is all there: its client sees it, whatever it still sends.

use perigee_node::http::{HEADER_BYTES_MAX, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::http::Bench;

/// More than a server that reads nothing on would let a client send without a reset.
const MORE: usize = 4 << 20;

/// Sends the beginning, waits for an answer, sends more, and reads to the end, which must be a good one.
async fn check(begin: &str, filler: &[u8], status: &str) {
    let bench = Bench::new(1, Limits::default());
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(begin.as_bytes()).await.unwrap();
    stream.write_all(filler).await.unwrap();
    stream.readable().await.unwrap();
    let mut all = Vec::new();
    let (mut reading, mut writing) = stream.into_split();
    // A connection that is reset fails here or below.
    for piece in vec![b'x'; MORE].chunks(64 * 1024) {
        writing.write_all(piece).await.unwrap();
    }
    drop(writing);
    reading.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(all.starts_with(status), "{all}");
    bench.until_open(0).await;
}

#[tokio::test]
async fn an_early_answer_is_not_lost_to_what_still_comes() {
    check(
        "PUT /early-answer HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n",
        &[b'x'; 256 * 1024],
        "HTTP/1.1 200 OK",
    )
    .await;
}

#[tokio::test]
async fn nor_is_the_answer_to_a_head_that_is_too_long() {
    let begin = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(HEADER_BYTES_MAX));
    check(&begin, &[b'a'; 128 * 1024], "HTTP/1.1 431").await;
}
