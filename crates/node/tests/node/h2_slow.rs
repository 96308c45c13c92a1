//! HTTP/2 clients that take little, or nothing more.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use hyper::{Request, StatusCode};
use perigee_node::{
    door_metrics::{DoorMetrics, Ended},
    http::{Doors, Limits},
};
use perigee_testkit::{patiently, wait_until};
use tokio::{net::TcpStream, task::JoinHandle};

use crate::http::Bench;

/// Long enough for a client that is not run for a while to take back what it does not want.
const PATIENCE: Duration = Duration::from_millis(500);

type Ending = JoinHandle<Result<(), h2::Error>>;

fn bench() -> (Bench, DoorMetrics) {
    let metrics = DoorMetrics::default();
    let counted = metrics.clone();
    let limits = Limits { write_timeout: PATIENCE, ..Limits::default() };
    (Bench::with(1, limits, |plain| Doors { metrics: counted, ..plain.into() }), metrics)
}

/// A client whose streams may be sent so many bytes, and whose connection as good as everything.
async fn connect(address: SocketAddr, window_bytes: u32) -> (SendRequest<Bytes>, Ending) {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window_bytes).initial_connection_window_size(1 << 30);
    let (requests, connection) = builder.handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    (requests, tokio::spawn(connection))
}

async fn ask(requests: &SendRequest<Bytes>, path: &str) -> Result<RecvStream, h2::Error> {
    let request = Request::get(format!("http://x{path}")).body(()).unwrap();
    let (response, _) = requests.clone().ready().await?.send_request(request, true)?;
    let response = response.await?;
    assert_eq!(response.status(), StatusCode::OK);
    Ok(response.into_body())
}

#[tokio::test]
async fn a_client_that_does_not_take_the_last_bytes_is_left() {
    let (bench, metrics) = bench();
    let (requests, ending) = connect(bench.address, 4).await;
    let waiting = tokio::spawn({
        let requests = requests.clone();
        async move { ask(&requests, "/wait").await.map(|_| ()) }
    });
    bench.service.waiting.notified().await;
    // Four bytes of them come, and the others are on the server's hands, whose part of the stream is done.
    let mut rest = ask(&requests, "/much-more-than-four").await.unwrap();
    assert_eq!(patiently("the first bytes", rest.data()).await.unwrap().unwrap().len(), 4);
    wait_until("the end being told", || metrics.ended_total(Ended::WriteTimeout) == 1).await;
    // No more requests; what was asked before is answered; then the rest is given up, and nobody waits for it.
    patiently("refusals", async { while ask(&requests, "/new").await.is_ok() {} }).await;
    bench.service.go.notify_one();
    patiently("the other stream", waiting).await.unwrap().unwrap();
    drop(requests);
    let _end = patiently("the end", ending).await.unwrap();
    assert!(rest.data().await.is_none_or(|piece| piece.is_err()));
    bench.until_open(0).await;
    assert_eq!(metrics.ended_total(Ended::WriteTimeout), 1);
}
