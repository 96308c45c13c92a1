//! A service that answers in every way that there is, by the path's first segment; the second is a length.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::http::{Connection, Content, HttpService};

/// What the service saw, in order.
pub(super) type Events = Arc<Mutex<Vec<String>>>;

pub(super) struct Service(pub(super) Events);

pub(super) const PATHS: &[&str] = &[
    "whole",
    "whole",
    "whole",
    "length",
    "dated",
    "empty",
    "empty-zero",
    "empty-length",
    "zero",
    "204",
    "304",
    "304-length",
    "404",
    "299",
    "chunked",
    "pieces",
    "late",
    "slow",
    "ends-late",
    "cut",
    "cut-at-once",
    "cut-length",
    "lying",
    "lying-at-once",
    "early",
    "early-late",
    "close",
    "connection",
    "transfer",
    "trailers",
    "reason",
    "1.0",
    "two-lengths",
    "echo",
    "fields",
];

/// What a body does next.
enum Step {
    Give(Bytes),
    Wait,
    Fail,
}

pub(super) struct Told {
    steps: VecDeque<Step>,
    hint: SizeHint,
    ends: bool,
    ended: bool,
    given: usize,
    path: String,
    events: Events,
}

impl Body for Told {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.steps.pop_front() {
            None => {
                if std::mem::replace(&mut self.ended, true) {
                    self.events.lock().unwrap().push(format!("{} was asked after its end", self.path));
                }
                Poll::Ready(None)
            }
            Some(Step::Give(bytes)) => {
                self.given += bytes.len();
                let given = bytes.len() as u64;
                if let Some(left) = self.hint.exact() {
                    self.hint = SizeHint::with_exact(left.saturating_sub(given));
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Fail) => Poll::Ready(Some(Err(io::Error::other("cut")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ends && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.events.lock().unwrap().push(format!("{} gave {}", self.path, self.given));
    }
}

async fn wait_once() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl HttpService for Service {
    type Body = Told;

    async fn call(&self, request: Request<Content>, connection: &Arc<Connection>) -> Response<Told> {
        let number = connection.requests();
        let path = request.uri().path().to_owned();
        let (kind, length) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), "5"));
        let length = length.parse().unwrap_or(5).min(300_000_usize);
        let is_end = request.body().is_end_stream();
        let (parts, content) = request.into_parts();
        self.0
            .lock()
            .unwrap()
            .push(format!("{number} {} {} {:?} {:?} {is_end}", parts.method, parts.uri, parts.version, parts.headers));
        if kind == "echo" {
            let content = content.collect().await.map(|all| all.to_bytes());
            self.0.lock().unwrap().push(format!("content {:?}", content.ok()));
        }
        if kind.starts_with("early") {
            let hints = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static("</a>; rel=preload"))]);
            connection.interim(number, StatusCode::EARLY_HINTS, &hints);
        }
        if matches!(kind, "late" | "early-late") {
            wait_once().await;
        }
        self.respond(kind, &path, length)
    }
}

impl Service {
    fn respond(&self, kind: &str, path: &str, length: usize) -> Response<Told> {
        let content = Bytes::from("0123456789".repeat(length / 10 + 1)).slice(..length);
        let half = content.slice(..length / 2);
        let (whole, exact) = (VecDeque::from([Step::Give(content.clone())]), SizeHint::with_exact(length as u64));
        let (steps, hint) = match kind {
            "empty" | "empty-zero" | "empty-length" | "204" | "304" | "304-length" => {
                (VecDeque::new(), SizeHint::with_exact(0))
            }
            "zero" => (VecDeque::from([Step::Wait]), SizeHint::with_exact(0)),
            "chunked" | "transfer" | "trailers" => (whole, SizeHint::default()),
            "pieces" => ([Step::Give(half.clone()), Step::Give(content.slice(half.len()..))].into(), exact),
            "slow" => ([Step::Wait, Step::Give(content)].into(), exact),
            "cut" | "cut-length" => ([Step::Give(half), Step::Fail].into(), exact),
            "cut-at-once" => ([Step::Fail].into(), exact),
            "lying-at-once" => (VecDeque::new(), exact),
            "lying" => ([Step::Give(half)].into(), exact),
            _ => (whole, exact),
        };
        let ends = !matches!(kind, "ends-late" | "lying-at-once");
        let events = Arc::clone(&self.0);
        let body = Told { steps, hint, ends, ended: false, given: 0, path: path.to_owned(), events };
        let mut response = Response::new(body);
        *response.status_mut() = match kind {
            "204" => StatusCode::NO_CONTENT,
            "304" | "304-length" => StatusCode::NOT_MODIFIED,
            "404" => StatusCode::NOT_FOUND,
            "299" => StatusCode::from_u16(299).unwrap(),
            _ => StatusCode::OK,
        };
        if kind == "reason" {
            response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(b"Fine"));
        }
        if kind == "1.0" {
            *response.version_mut() = Version::HTTP_10;
        }
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static("stand"));
        let fields: &[(&str, &str)] = match kind {
            "dated" => &[("date", "Sun, 06 Nov 1994 08:49:37 GMT")],
            "empty-zero" | "304" => &[("content-length", "0")],
            "empty-length" | "304-length" => &[("content-length", "7")],
            "close" => &[("connection", "close")],
            "connection" => &[("connection", "x"), ("x", "y"), ("connection", "keep-alive")],
            "transfer" => &[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")],
            "trailers" => &[("trailer", "x")],
            "fields" => &[("via", "a"), ("x-long-name", "b"), ("via", "c"), ("x-empty", ""), ("x-long-name", "d e\t")],
            _ => &[],
        };
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        if matches!(kind, "length" | "two-lengths" | "cut-length" | "ends-late") && length > 0 {
            headers.append(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if kind == "two-lengths" && length > 0 {
            headers.append(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.append(header::ETAG, HeaderValue::from_static("\"e\""));
        response
    }
}
