//! HTTP/1 as little as a scripted server needs: reads a request, keeps it whole, judges nothing.

use std::io;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;

/// Of a request's content, this much is kept; length and hash are always of all of it.
const BODY_BYTES_KEPT: usize = 1 << 20;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As sent.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// `HTTP/1.1` or whatever the request line ended in.
    pub version: String,
    /// Names in the sender's case, in the sender's order.
    pub headers: Vec<(String, String)>,
    /// The content, transfer coding removed; the first MiB of it.
    pub body: Bytes,
    /// Bytes of content.
    pub body_length: u64,
    /// SHA-256 of the content in hexadecimal digits.
    pub body_sha256: String,
    /// Counts accepted connections from 0: equal numbers mean that a connection was reused.
    pub connection: usize,
}

impl Seen {
    /// The first field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

pub(crate) type Reader = BufReader<OwnedReadHalf>;

/// The head of the next request; `None` when the peer closed instead.
pub(crate) async fn read_head(reader: &mut Reader, connection: usize) -> io::Result<Option<Seen>> {
    let line = read_line(reader).await?;
    if line.is_empty() {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let version = words.next().unwrap_or_default();
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let (body, body_length, body_sha256) = (Bytes::new(), 0, String::new());
    Ok(Some(Seen { method, target, version, headers, body, body_length, body_sha256, connection }))
}

/// Reads the content that the head announces into `seen`.
pub(crate) async fn read_body(reader: &mut Reader, seen: &mut Seen) -> io::Result<()> {
    let mut content = Content::default();
    if seen.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(reader).await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !read_line(reader).await?.is_empty() {}
                break;
            }
            content.read(reader, size).await?;
            read_line(reader).await?;
        }
    } else if let Some(length) = seen.header("content-length") {
        content.read(reader, length.parse().map_err(io::Error::other)?).await?;
    }
    seen.body = content.kept.into();
    seen.body_length = content.length;
    seen.body_sha256 = crate::hex(&content.hash.finalize());
    Ok(())
}

#[derive(Default)]
struct Content {
    kept: Vec<u8>,
    length: u64,
    hash: Sha256,
}

impl Content {
    async fn read(&mut self, reader: &mut Reader, mut size: u64) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        while size > 0 {
            let room = piece.len().min(usize::try_from(size).unwrap_or(usize::MAX));
            let read = reader.read(&mut piece[..room]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hash.update(&piece[..read]);
            let keep = read.min(BODY_BYTES_KEPT - self.kept.len());
            self.kept.extend_from_slice(&piece[..keep]);
            self.length += read as u64;
            size -= read as u64;
        }
        Ok(())
    }
}

async fn read_line(reader: &mut Reader) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
