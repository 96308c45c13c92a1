//! A real server on loopback that says what the test says.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};

use crate::{
    Reply, Seen, patiently,
    reply::{Content, Framing, Step, Then},
    wire,
};

type Handler = Arc<dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// An HTTP/1 server on 127.0.0.1 whose handler is the test's. It runs on the runtime that started it, and dies with it
/// or when dropped; every connection of it then closes.
#[derive(Debug)]
pub struct ScriptedOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    changed: tokio::sync::Notify,
}

impl ScriptedOrigin {
    /// Starts on a free port. The handler is called when a request and its content have arrived; it may wait.
    pub async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler).await
    }

    /// Starts at `address`: to come back after [`stop`](Self::stop), or on another address of 127.0.0.0/8.
    pub async fn start_at<H, F>(address: SocketAddr, handler: H) -> Self
    where
        H: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("the scripted origin's address is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let handler: Handler = Arc::new(move |seen| Box::pin(handler(seen)));
        let server = tokio::spawn(accept(listener, handler, Arc::clone(&shared)));
        Self { address, shared, server }
    }

    /// Starts with a handler that answers at once.
    pub async fn answering(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(move |seen| std::future::ready(handler(&seen))).await
    }

    /// [`answering`](Self::answering) at `address`.
    pub async fn answering_at(address: SocketAddr, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(address, move |seen| std::future::ready(handler(&seen))).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far, in the order of their arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.lock().len()
    }

    /// How many requests came for that path, whatever the query.
    pub fn requests_to(&self, path: &str) -> usize {
        self.lock().iter().filter(|seen| seen.path() == path).count()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn connections_open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits until at least `count` requests came.
    pub async fn wait_for_requests(&self, count: usize) {
        self.wait_until("requests at the origin", || self.requests() >= count).await;
    }

    /// Waits until `count` connections are open.
    pub async fn wait_for_connections_open(&self, count: usize) {
        self.wait_until("connections open at the origin", || self.connections_open() == count).await;
    }

    async fn wait_until(&self, what: &str, state: impl Fn() -> bool) {
        patiently(what, async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if state() {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }

    /// Closes the listener and every connection; a new one may then start at the same address.
    pub async fn stop(mut self) {
        self.server.abort();
        // Only the abort itself can be the error.
        drop((&mut self.server).await);
        self.wait_until("the origin's connections closing", || self.connections_open() == 0).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.shared.seen.lock().expect("no handler panicked while counting")
    }
}

impl Drop for ScriptedOrigin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        shared.changed.notify_waiters();
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

async fn accept(listener: TcpListener, handler: Handler, shared: Arc<Shared>) {
    // Dropping the set with this task ends every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let (handler, shared, open) = (Arc::clone(&handler), Arc::clone(&shared), Open::new(&shared));
        connections.spawn(async move {
            // The peer may go away at any point; what the test wants to know of it, it asks of the counters.
            drop(serve(socket, number, &handler, &shared).await);
            drop(open);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(socket: TcpStream, number: usize, handler: &Handler, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(mut seen) = wire::read_head(&mut reader, number).await? {
        wire::read_body(&mut reader, &mut seen).await?;
        let head_only = seen.method == "HEAD";
        shared.seen.lock().expect("no handler panicked while counting").push(seen.clone());
        shared.changed.notify_waiters();
        let reply = handler(seen).await;
        if let Some(delay) = reply.delay {
            tokio::time::sleep(delay).await;
        }
        match send(&mut writer, &mut reader, reply, head_only).await? {
            Then::KeepAlive => {}
            Then::Close => return Ok(()),
            Then::Reset => {
                let socket = reader.into_inner().reunite(writer).map_err(io::Error::other)?;
                return socket.set_zero_linger();
            }
            Then::Hang => return hang(&mut reader).await,
        }
    }
    Ok(())
}

/// Reads and forgets until the peer closes.
async fn hang(reader: &mut wire::Reader) -> io::Result<()> {
    let mut sink = [0; 1024];
    while reader.read(&mut sink).await? > 0 {}
    Ok(())
}

async fn send(
    writer: &mut OwnedWriteHalf,
    reader: &mut wire::Reader,
    reply: Reply,
    head_only: bool,
) -> io::Result<Then> {
    match &reply.content {
        Content::Nothing => return Ok(reply.then),
        Content::Raw(bytes) => {
            writer.write_all(bytes).await?;
            return Ok(reply.then);
        }
        _ => {}
    }
    let own_length = match &reply.content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::Repeat(piece, times) => piece.len() as u64 * times,
        _ => 0,
    };
    writer.write_all(head(&reply, own_length).as_bytes()).await?;
    if head_only {
        return Ok(reply.then);
    }
    let chunked = reply.framing == Framing::Chunked;
    let sent = match reply.content {
        Content::Bytes(bytes) => piece(writer, &bytes, chunked).await?,
        Content::Repeat(bytes, times) => {
            let mut sent = 0;
            for _ in 0..times {
                sent += piece(writer, &bytes, chunked).await?;
            }
            sent
        }
        Content::Gated(steps) => match gated(writer, reader, steps, chunked).await? {
            Some(sent) => sent,
            None => return Ok(Then::Close),
        },
        Content::Raw(_) | Content::Nothing => 0,
    };
    if chunked {
        writer.write_all(b"0\r\n\r\n").await?;
    }
    let short = matches!(reply.framing, Framing::Length(Some(promised)) if sent < promised);
    Ok(if short && reply.then == Then::KeepAlive { Then::Close } else { reply.then })
}

/// Sends what the gate lets through. None: the test cut it, or the client went away.
async fn gated(
    writer: &mut OwnedWriteHalf,
    reader: &mut wire::Reader,
    mut steps: tokio::sync::mpsc::UnboundedReceiver<Step>,
    chunked: bool,
) -> io::Result<Option<u64>> {
    let mut sent = 0;
    let mut peek = [0; 1];
    loop {
        tokio::select! {
            step = steps.recv() => match step {
                Some(Step::Data(bytes)) => sent += piece(writer, &bytes, chunked).await?,
                Some(Step::Cut) => return Ok(None),
                None => return Ok(Some(sent)),
            },
            // A client that waits for a body says nothing; what can be read is its end (or pipelining, which no test does).
            _ = reader.read(&mut peek) => return Ok(None),
        }
    }
}

async fn piece(writer: &mut OwnedWriteHalf, bytes: &[u8], chunked: bool) -> io::Result<u64> {
    if chunked && !bytes.is_empty() {
        writer.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
        writer.write_all(bytes).await?;
        writer.write_all(b"\r\n").await?;
    } else {
        writer.write_all(bytes).await?;
    }
    Ok(bytes.len() as u64)
}

fn head(reply: &Reply, own_length: u64) -> String {
    use std::fmt::Write;
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").expect("a string takes all");
    }
    match reply.framing {
        // RFC 9110 §8.6: neither 204 nor 304 describes content it does not have.
        Framing::Length(None) if matches!(reply.status, 204 | 304) => {}
        Framing::Length(length) => {
            write!(head, "Content-Length: {}\r\n", length.unwrap_or(own_length)).expect("a string takes all");
        }
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose | Framing::AsWritten => {}
    }
    if reply.then == Then::Close {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{self, Connection};

    #[tokio::test]
    async fn it_says_what_the_script_says() {
        let origin = ScriptedOrigin::answering(|seen| match seen.path() {
            "/chunked" => Reply::ok("hello").chunked(),
            "/close" => Reply::ok("until the end").until_close(),
            "/short" => Reply::ok("abc").promise(10),
            "/none" => Reply::new(204),
            "/reset" => Reply::ok("abc").promise(10).reset(),
            _ => Reply::ok(format!("{} {}", seen.method, seen.target)).header("X-Case", 1),
        })
        .await;
        let at = origin.address();
        assert_eq!(client::get(at, "h", "/a?b=c").await.text(), "GET /a?b=c");
        assert_eq!(client::get(at, "h", "/a").await.header("x-case"), "1");
        assert_eq!(client::get(at, "h", "/chunked").await.text(), "hello");
        assert_eq!(client::get(at, "h", "/close").await.text(), "until the end");
        assert_eq!(client::get(at, "h", "/none").await.status, 204);
        let short = client::get(at, "h", "/short").await;
        assert_eq!((short.text().as_str(), short.cut.is_some()), ("abc", true));
        assert!(client::get(at, "h", "/reset").await.cut.is_some());
        let head = client::head(at, "h", "/x").await;
        assert_eq!((head.header("content-length"), head.body.len()), ("7", 0));
        assert_eq!((origin.requests(), origin.requests_to("/a")), (8, 2));
    }

    #[tokio::test]
    async fn connections_are_kept_and_counted() {
        let origin = ScriptedOrigin::answering(|seen| Reply::ok(seen.body_sha256.clone())).await;
        let mut connection = Connection::open(origin.address()).await;
        let body = crate::noise(1, 3 << 20);
        let answer = connection.send_body(http::Method::PUT, "h", "/", &[], body.clone()).await;
        assert_eq!(answer.text(), crate::sha256(&body));
        connection.send(http::Method::GET, "h", "/", &[]).await;
        assert_eq!((origin.connections(), origin.connections_open()), (1, 1));
        assert_eq!(origin.seen().first().map(|seen| (seen.body_length, seen.body.len())), Some((3 << 20, 1 << 20)));
        drop(connection);
        origin.wait_for_connections_open(0).await;
    }

    #[tokio::test]
    async fn the_gate_moves_the_body() {
        let (reply, gate) = Reply::gated(None);
        let reply = Mutex::new(Some(reply));
        let origin = ScriptedOrigin::answering(move |_| reply.lock().unwrap().take().unwrap_or(Reply::new(500))).await;
        let mut exchange = Connection::open(origin.address()).await.begin_get("h", "/").await;
        gate.send("one");
        assert_eq!(exchange.next().await, Some(Ok("one".into())));
        gate.send("two");
        assert_eq!(exchange.next().await, Some(Ok("two".into())));
        gate.cut();
        assert!(exchange.next().await.is_some_and(|piece| piece.is_err()));
    }

    #[tokio::test]
    async fn raw_bytes_go_both_ways_and_the_address_can_be_taken_again() {
        let origin = ScriptedOrigin::answering(|_| Reply::raw("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")).await;
        let at = origin.address();
        assert_eq!(client::raw(at, b"GET / HTTP/1.0\r\n\r\n").await, b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n");
        origin.stop().await;
        let again = ScriptedOrigin::answering_at(at, |_| Reply::ok("again")).await;
        assert_eq!(client::get(at, "h", "/").await.text(), "again");
        assert_eq!(again.requests(), 1);
    }
}
