//! A client that says exactly what it is told and reads until a state, not for a time.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// Everything up to and with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.buffer, end.as_bytes()) {
                let rest = self.buffer.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
            }
            let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(count > 0, "closed before {end:?}: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Says that nothing more will come.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Returns when the server closes, whatever it says before.
    pub(crate) async fn drained(mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0) {}
    }

    /// Everything until the server closes; a reset counts as a close.
    pub(crate) async fn read_to_end(mut self) -> String {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0) {}
        String::from_utf8(self.buffer).unwrap()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One request on a connection of its own; the whole answer.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
    let mut client = Client::connect(address).await;
    client.say(request).await;
    client.read_to_end().await
}
