//! A client of one keep-alive connection that reads what it is sent, and tells a cut from an end.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long it waits for bytes.
pub const PATIENCE: Duration = Duration::from_secs(120);
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why there is no whole answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection failed before the answer's head was whole.
    NoHead(io::Error),
    /// The body ended before its end, after so many bytes.
    Cut(usize),
    /// It is no answer that this client reads.
    Odd(String),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of that name, in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// One connection, opened anew when it has ended.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    /// To that address, asking for that host.
    pub fn new(address: SocketAddr, host: &str) -> Self {
        Self { address, host: host.to_owned(), stream: None, buffer: Vec::new() }
    }

    /// Asks, and reads the whole answer. `fields` are lines, each with its end.
    pub fn ask(&mut self, method: &str, target: &str, fields: &str, content: &str) -> Result<Answer, Failure> {
        let length = if content.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", content.len()) };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{fields}{length}\r\n{content}", self.host);
        let kept = self.stream.is_some();
        let answer = self.exchange(method, &request);
        // A server may close a connection that is idle: asked again once, on a new one.
        let again = kept && matches!(answer, Err(Failure::NoHead(_))) && self.buffer.is_empty();
        if answer.is_err() {
            self.stream = None;
        }
        if again { self.exchange(method, &request).inspect_err(|_| self.stream = None) } else { answer }
    }

    fn exchange(&mut self, method: &str, request: &str) -> Result<Answer, Failure> {
        self.buffer.clear();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(self.address).map_err(Failure::NoHead)?),
        };
        stream.write_all(request.as_bytes()).map_err(Failure::NoHead)?;
        let (head, taken) = loop {
            let end = read_head(stream, &mut self.buffer)?;
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            // Interim responses come before the one that counts.
            if !head.starts_with("HTTP/1.1 1") {
                break (head, end);
            }
            self.buffer.drain(..end);
        };
        let odd = || Failure::Odd(head.clone());
        let status: u16 = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(odd)?;
        let mut body = self.buffer.split_off(taken);
        let none = method == "HEAD" || matches!(status, 204 | 304);
        if field(&head, "transfer-encoding").is_some() {
            body = read_chunks(stream, body)?;
        } else if let Some(length) = field(&head, "content-length").filter(|_| !none) {
            let length: usize = length.parse().map_err(|_| odd())?;
            let had = body.len();
            body.resize(length.max(had), 0);
            let mut at = had;
            while at < length {
                match stream.read(&mut body[at..length]) {
                    Ok(0) | Err(_) => return Err(Failure::Cut(at)),
                    Ok(count) => at += count,
                }
            }
            if had > length {
                return Err(Failure::Odd(format!("{} bytes too many", had - length)));
            }
        } else if !none {
            return Err(Failure::Odd(format!("a body without a length: {head}")));
        }
        if field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(Answer { status, head, body })
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Where the head ends; all that came is in `buffer`.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize, Failure> {
    let mut piece = [0; 16 * 1024];
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(end + 4);
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(Failure::Odd("a head without an end".to_owned()));
        }
        match stream.read(&mut piece).map_err(Failure::NoHead)? {
            0 => return Err(Failure::NoHead(io::ErrorKind::UnexpectedEof.into())),
            count => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

/// RFC 9112 §7.1; `raw` came with the head.
fn read_chunks(stream: &mut TcpStream, mut raw: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let (mut body, mut at) = (Vec::new(), 0);
    let mut piece = vec![0; 64 * 1024];
    loop {
        if let Some(end) = raw[at..].windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&raw[at..at + end]).into_owned();
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|_| Failure::Odd(format!("chunk {line:?}")))?;
            let from = at + end + 2;
            if raw.len() >= from + size + 2 {
                body.extend_from_slice(&raw[from..from + size]);
                at = from + size + 2;
                if size == 0 {
                    return Ok(body);
                }
                continue;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return Err(Failure::Cut(body.len())),
            Ok(count) => raw.extend_from_slice(&piece[..count]),
        }
    }
}
