//! An origin of threads and blocking sockets, whose answers can be foretold:
//!
//! ```text
//! /b/SIZE/…        SIZE bytes, fresh for a day
//! /slow/MS/SIZE/…  the same after MS milliseconds
//! /s/N             object N of the soak: see `soak`
//! ```
//!
//! Single ranges and If-None-Match are understood; everything has a strong validator.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::content::Seed;

const PIECE_BYTES: usize = 64 * 1024;

/// What is to be said of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The body's length and what it grows from.
    pub length: u64,
    /// See [`Plan::length`].
    pub seed: Seed,
    /// Of the version, without quotes.
    pub tag: String,
    /// More lines of the head, each with its end.
    pub fields: String,
    /// Before the head.
    pub delay: Duration,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A 503.
    Status,
    /// The connection ends instead of an answer.
    Close,
    /// The connection ends in the middle of the body.
    Cut,
}

/// Answers paths that are not the origin's own: method and path in, `None` is a 404.
pub type Custom = dyn Fn(&str, &str) -> Option<Plan> + Send + Sync;

/// An origin at work, until the process ends.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    custom: Box<Custom>,
    requests: AtomicU64,
    /// Of `/slow/` alone: a table of everything would be a bottleneck.
    slow: Mutex<HashMap<String, u64>>,
}

impl Origin {
    /// Listens on a free port of loopback; `custom` answers what is not the origin's own.
    pub fn start(custom: Box<Custom>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { custom, requests: AtomicU64::new(0), slow: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("origin".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                // A connection's end, however it comes, is the client's affair.
                let serve = move || shared.serve(stream).unwrap_or_default();
                if let Err(error) = thread::Builder::new().stack_size(256 * 1024).spawn(serve) {
                    eprintln!("the origin has no thread for a connection: {error}");
                }
            }
        })?;
        Ok(Self { shared, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many came for that path below `/slow/`.
    pub fn requests_to(&self, path: &str) -> u64 {
        self.shared.slow.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied().unwrap_or(0)
    }
}

struct Request {
    method: String,
    path: String,
    none_match: Option<String>,
    if_range: Option<String>,
    range: Option<String>,
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut output = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        while let Some(request) = read_request(&mut input)? {
            self.requests.fetch_add(1, Ordering::Relaxed);
            if !self.answer(&request, &mut output)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn plan(&self, request: &Request) -> Option<Plan> {
        let path = request.path.split('?').next().unwrap_or_default();
        let mut parts = path.split('/').skip(1);
        let (length, delay) = match parts.next()? {
            "b" => (parts.next()?.parse().ok()?, Duration::ZERO),
            "slow" => {
                let delay = Duration::from_millis(parts.next()?.parse().ok()?);
                let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
                *slow.entry(path.to_owned()).or_default() += 1;
                (parts.next()?.parse().ok()?, delay)
            }
            _ => return (self.custom)(&request.method, path),
        };
        let fields = "Cache-Control: public, max-age=86400\r\n".to_owned();
        Some(Plan { length, seed: Seed::of(path, 0), tag: "1".to_owned(), fields, delay, fault: None })
    }

    /// Whether the connection goes on.
    fn answer(&self, request: &Request, output: &mut TcpStream) -> io::Result<bool> {
        let Some(plan) = self.plan(request) else {
            output.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        };
        thread::sleep(plan.delay);
        match plan.fault {
            Some(Fault::Close) => return Ok(false),
            Some(Fault::Status) => {
                output.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(true);
            }
            Some(Fault::Cut) | None => {}
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            output.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            return Ok(true);
        }
        let common = format!(
            "ETag: \"{}\"\r\nDate: {}\r\nContent-Type: application/octet-stream\r\n{}",
            plan.tag,
            date(),
            plan.fields
        );
        let tag = format!("\"{}\"", plan.tag);
        if request.none_match.as_ref() == Some(&tag) {
            output.write_all(format!("HTTP/1.1 304 Not Modified\r\n{common}\r\n").as_bytes())?;
            return Ok(true);
        }
        let (line, range) = self::range(request, &tag, plan.length);
        let head = format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n{common}\r\n", range.end - range.start);
        if request.method == "HEAD" {
            output.write_all(head.as_bytes())?;
            return Ok(true);
        }
        let until = match plan.fault {
            Some(_) => range.start + (range.end - range.start) / 2,
            None => range.end,
        };
        write_body(output, head.into_bytes(), plan.seed, range.start..until)?;
        Ok(plan.fault.is_none())
    }
}

/// Status line and range: If-Range that does not match, and ranges that this origin does not read, give the whole.
fn range(request: &Request, tag: &str, length: u64) -> (String, Range<u64>) {
    let whole = ("200 OK".to_owned(), 0..length);
    if request.if_range.as_ref().is_some_and(|given| given != tag) {
        return whole;
    }
    let Some(asked) = request.range.as_ref().and_then(|range| range.strip_prefix("bytes=")) else { return whole };
    let Some((from, last)) = asked.split_once('-') else { return whole };
    let Ok(from) = from.parse::<u64>() else { return whole };
    let last = last.parse().unwrap_or(u64::MAX).min(length.saturating_sub(1));
    if from > last {
        return (format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{length}"), 0..0);
    }
    (format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{length}"), from..last + 1)
}

fn write_body(output: &mut TcpStream, mut head: Vec<u8>, seed: Seed, range: Range<u64>) -> io::Result<()> {
    // The head goes with the first piece: small answers are one packet.
    let mut at = range.start;
    loop {
        let until = range.end.min(at + PIECE_BYTES as u64);
        let from = head.len();
        head.resize(from + (until - at) as usize, 0);
        seed.fill(at, &mut head[from..]);
        output.write_all(&head)?;
        head.clear();
        at = until;
        if at >= range.end {
            return Ok(());
        }
    }
}

fn read_request(input: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut request = Request { method, path, none_match: None, if_range: None, range: None };
    let mut content = 0;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "if-none-match" => request.none_match = Some(value),
            "if-range" => request.if_range = Some(value),
            "range" => request.range = Some(value),
            "content-length" => content = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    io::copy(&mut input.take(content), &mut io::sink())?;
    Ok(Some(request))
}

/// RFC 9110 §5.6.7. Days to a date as in Howard Hinnant's "chrono-compatible low-level date algorithms".
fn date() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (since / 86_400, since % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + late;
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (name, month) = (week[(days % 7) as usize], names[(month - 1) as usize]);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{name}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Failure};

    #[test]
    fn answers_can_be_foretold() {
        let fault = |_: &str, path: &str| {
            (path == "/cut").then(|| Plan {
                length: 1000,
                seed: Seed::of(path, 0),
                tag: "x".to_owned(),
                fields: String::new(),
                delay: Duration::ZERO,
                fault: Some(Fault::Cut),
            })
        };
        let origin = Origin::start(Box::new(fault)).unwrap();
        let mut client = Client::new(origin.address(), "origin");
        let path = "/b/100000/a";
        let whole = Seed::of(path, 0).bytes(0, 100_000);
        let answer = client.ask("GET", path, "", "").unwrap();
        assert_eq!((answer.status, &answer.body), (200, &whole));
        let answer = client.ask("GET", path, "Range: bytes=99990-\r\nIf-Range: \"1\"\r\n", "").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (206, &whole[99_990..]));
        assert_eq!(answer.field("content-range"), Some("bytes 99990-99999/100000"));
        assert_eq!(client.ask("GET", path, "Range: bytes=0-1\r\nIf-Range: \"2\"\r\n", "").unwrap().status, 200);
        assert_eq!(client.ask("GET", path, "Range: bytes=100000-\r\n", "").unwrap().status, 416);
        assert_eq!(client.ask("GET", path, "If-None-Match: \"1\"\r\n", "").unwrap().status, 304);
        assert_eq!(client.ask("HEAD", path, "", "").unwrap().field("content-length"), Some("100000"));
        assert_eq!(client.ask("DELETE", path, "", "x").unwrap().status, 204);
        assert_eq!(client.ask("GET", "/nothing", "", "").unwrap().status, 404);
        assert!(matches!(client.ask("GET", "/cut", "", ""), Err(Failure::Cut(500))));
        assert_eq!(client.ask("GET", "/slow/1/5/a", "", "").unwrap().body.len(), 5);
        assert_eq!((origin.requests(), origin.requests_to("/slow/1/5/a")), (10, 1));
    }
}
