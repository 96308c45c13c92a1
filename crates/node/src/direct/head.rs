//! A request's head, where it is simple: whole, and with nothing in it that asks for more than an answer.

use std::mem::MaybeUninit;

use ::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;

use crate::{content::Content, http::Limits};

/// Who sends more fields is served by hyper; browsers send about twenty.
const FIELDS_MAX: usize = 64;

/// What a head may be: hyper's limits, which it enforces with an answer where they are passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    header_bytes_max: usize,
    headers_max: usize,
}

impl From<&Limits> for Rules {
    fn from(limits: &Limits) -> Self {
        Self { header_bytes_max: limits.header_bytes_max, headers_max: limits.headers_max }
    }
}

/// The request that `input` begins with, and how long its head is. None where hyper has to read it: because more of it is
/// to come, because it is wrong, or because it is anything but a plain GET or HEAD.
///
/// It must never see another request than hyper would: the parser is hyper's own, with hyper's own settings, and content,
/// which is where two readers could differ on where a request ends (RFC 9112 §11.2), there is none of.
pub(super) fn read(input: &[u8], rules: Rules) -> Option<(Request<Content>, usize)> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(length)) = parsed.parse_with_uninit_headers(input, &mut fields) else {
        return None;
    };
    if length > rules.header_bytes_max || parsed.headers.len() > rules.headers_max || parsed.version != Some(1) {
        return None;
    }
    let method = match parsed.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    // RFC 9112 §3.2.1; the other forms are for proxies, CONNECT and OPTIONS.
    let target = parsed.path.filter(|target| target.starts_with('/'))?;

    // One allocation, which all names and values share.
    let head = Bytes::copy_from_slice(input.get(..length)?);
    let shared = |piece: &[u8]| {
        let start = piece.as_ptr().addr().checked_sub(input.as_ptr().addr())?;
        let end = start.checked_add(piece.len()).filter(|end| *end <= length)?;
        Some(head.slice(start..end))
    };
    let mut request = Request::new(Content::default());
    *request.uri_mut() = Uri::from_maybe_shared(shared(target.as_bytes())?).ok()?;
    *request.method_mut() = method;
    let headers = request.headers_mut();
    headers.reserve(parsed.headers.len());
    let mut hosts = 0;
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        match name {
            header::HOST => hosts += 1,
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::EXPECT | header::UPGRADE => return None,
            // RFC 9112 §9.3: in HTTP/1.1 it says nothing.
            header::CONNECTION if !field.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            _ => {}
        }
        headers.append(name, HeaderValue::from_maybe_shared(shared(field.value)?).ok()?);
    }
    (hosts == 1).then_some((request, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { header_bytes_max: 1000, headers_max: 4 };

    fn takes(head: &str) -> bool {
        read(head.as_bytes(), RULES).is_some()
    }

    #[test]
    fn what_is_simple_is_taken_whole() {
        let input = b"HEAD /a?b HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\nx-y: \xe9\r\n\r\nGET /";
        let (request, length) = read(input, RULES).unwrap();
        assert_eq!(&input[length..], b"GET /");
        assert_eq!((request.method(), request.uri().to_string()), (&Method::HEAD, "/a?b".to_owned()));
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("host", &b"x"[..]), ("x-y", b"z"), ("x-y", b"\xe9")]);
    }

    #[test]
    fn everything_else_is_left_to_hyper() {
        let check = |line: &str, fields: &str, expected: bool| {
            assert_eq!(takes(&format!("{line}\r\n{fields}\r\n")), expected, "{line} {fields}");
        };
        let (get, host) = ("GET / HTTP/1.1", "Host: x\r\n");
        check(get, host, true);
        check("\r\nGET / HTTP/1.1", host, true);
        check(get, "host: x\r\nConnection: Keep-Alive\r\n", true);
        for line in ["POST / HTTP/1.1", "GET / HTTP/1.0", "GET * HTTP/1.1", "GET http://x/ HTTP/1.1", "get / HTTP/1.1"]
        {
            check(line, host, false);
        }
        check(get, "", false);
        check(get, "Host: x\r\nHost: x\r\n", false);
        for field in [
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: close",
            "Connection: keep-alive, close",
            "A : b",
            "A: b\r\n c",
            "A: \0",
        ] {
            check(get, &format!("{host}{field}\r\n"), false);
        }
    }

    #[test]
    fn limits() {
        let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
        assert!(takes(&fields(4)));
        assert!(!takes(&fields(5)));
        let wide = |count| read(fields(count).as_bytes(), Rules { headers_max: 100, ..RULES }).is_some();
        assert!(wide(FIELDS_MAX));
        assert!(!wide(FIELDS_MAX + 1));
        let long = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: x\r\na: {}\r\n\r\n", "b".repeat(bytes - 32));
        assert_eq!(long(1000).len(), 1000);
        assert!(takes(&long(1000)));
        assert!(!takes(&long(1001)));
        let whole = long(500);
        for cut in 0..whole.len() {
            assert!(!takes(&whole[..cut]), "{cut}");
        }
    }
}
