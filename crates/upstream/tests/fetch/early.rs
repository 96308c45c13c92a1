//! Servers that answer before they have read the request's content, and close.

use perigee_upstream::RequestBody;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::*;

const PIECE: usize = 64 * 1024;
const CONTENT: usize = 64 << 20;

/// Reads the head of a request and what came with it, says `answer` and closes: what is still on its way to a closed
/// socket makes the system send a reset.
async fn refuse(mut socket: TcpStream, answer: &'static [u8]) {
    let mut head = vec![0; PIECE];
    let _ = socket.read(&mut head).await.unwrap();
    socket.write_all(answer).await.unwrap();
}

/// An origin that does so with each connection, and an upload to it.
async fn uploads(answer: &'static [u8]) -> (World, impl Fn() -> FetchRequest) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(refuse(socket, answer));
        }
    });
    let upload = || {
        let body = RequestBody::from(vec![1; CONTENT]);
        FetchRequest { body: Some(body), ..request(Method::POST, "/up") }
    };
    (Setup::of(vec![origin(&at)]).build(), upload)
}

#[tokio::test]
async fn an_answer_before_the_contents_end_arrives_although_the_connection_breaks() {
    let (world, upload) = uploads(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge").await;
    // Whether the answer or the break is noticed first is chance.
    for turn in 0..20 {
        let response = world.fetch(upload()).await.unwrap_or_else(|error| panic!("turn {turn}: {error:?}"));
        assert_eq!(response.status, 413);
        assert_eq!(whole(response.body).await.unwrap(), b"large");
    }
}

#[tokio::test]
async fn a_break_without_an_answer_is_still_one() {
    let (world, upload) = uploads(b"").await;
    for _ in 0..20 {
        assert_eq!(world.fails(upload()).await, FetchErrorKind::PrematureClose);
    }
}
