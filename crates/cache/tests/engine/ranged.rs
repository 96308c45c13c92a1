//! An origin of one large body that serves ranges as a good one does, or not quite, and a client that checks what it gets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use perigee_upstream::{FetchError, FetchErrorKind, FetchRequest, FetchResponse, UpstreamBody};

use crate::world::World;

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
pub(crate) const SEGMENT: u64 = 256 * KIB;
/// Byte `i` of every body is `i % 251`, plus what tells one version from another.
pub(crate) const PERIOD: u64 = 251;

pub(crate) fn piece(version: u8, offset: u64, length: u64) -> Bytes {
    let start = (offset % PERIOD) as usize;
    let period: Vec<u8> =
        (0..PERIOD as usize).map(|i| (((start + i) % PERIOD as usize) as u8).wrapping_add(version)).collect();
    let mut bytes = period.repeat(length.div_ceil(PERIOD) as usize);
    bytes.truncate(length as usize);
    bytes.into()
}

/// An origin of one body that serves ranges of it as a good one does, and remembers what it was asked for.
#[derive(Clone)]
pub(crate) struct Origin(Arc<Mutex<Says>>, Arc<AtomicU64>);

pub(crate) struct Says {
    pub(crate) version: u8,
    pub(crate) length: u64,
    pub(crate) fields: Vec<(&'static str, String)>,
    asked: Vec<String>,
    /// Answers 206 whatever If-Range says.
    pub(crate) ignores_if_range: bool,
    pub(crate) ignores_range: bool,
    /// Cuts each body after so many bytes.
    pub(crate) cut_after: Option<u64>,
}

fn parse(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((length.saturating_sub(last.parse().ok()?), length - 1));
    }
    let last = if last.is_empty() { length - 1 } else { last.parse::<u64>().ok()?.min(length - 1) };
    Some((first.parse().ok()?, last))
}

impl Origin {
    pub(crate) fn of(world: &World, length: u64, fields: &[(&'static str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let says = Says {
            version: 0,
            length,
            fields,
            asked: Vec::new(),
            ignores_if_range: false,
            ignores_range: false,
            cut_after: None,
        };
        let origin = Self(Arc::new(Mutex::new(says)), Arc::default());
        let answering = origin.clone();
        world.origin.set(Box::new(move |request| {
            let response = answering.answer(&request);
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(response)
            })
        }));
        origin
    }

    pub(crate) fn tagged(world: &World, length: u64) -> Self {
        Self::of(world, length, &[("cache-control", "max-age=60"), ("etag", "\"1\"")])
    }

    pub(crate) fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.0.lock().unwrap());
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap().asked).join(" ")
    }

    /// Content bytes that were taken since the last time.
    pub(crate) fn pulled(&self) -> u64 {
        self.1.swap(0, Ordering::SeqCst)
    }

    fn answer(&self, request: &FetchRequest) -> FetchResponse {
        let mut says = self.0.lock().unwrap();
        let field = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let if_range = field("if-range");
        let mut asked = field("range").map_or("whole".into(), |range| range.replace("bytes=", ""));
        for (name, mark) in [("if-range", "?"), ("if-none-match", "!")] {
            if field(name).is_some() {
                asked.push_str(mark);
            }
        }
        says.asked.push(asked);
        let mut headers = HeaderMap::new();
        for (name, value) in &says.fields {
            headers.append(*name, value.parse().unwrap());
        }
        let etag = headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        if etag.is_some() && field("if-none-match") == etag {
            return FetchResponse::scripted(StatusCode::NOT_MODIFIED, headers, UpstreamBody::empty());
        }
        let known = [etag, headers.get("last-modified").map(|date| date.to_str().unwrap().to_owned())];
        let holds = says.ignores_if_range || if_range.is_none() || known.contains(&if_range);
        let range =
            field("range").filter(|_| holds && !says.ignores_range).and_then(|range| parse(&range, says.length));
        let (status, first, last) = match range {
            Some((first, _)) if first >= says.length => {
                headers.insert("content-range", format!("bytes */{}", says.length).parse().unwrap());
                return FetchResponse::scripted(StatusCode::RANGE_NOT_SATISFIABLE, headers, UpstreamBody::empty());
            }
            Some((first, last)) => {
                headers.insert("content-range", format!("bytes {first}-{last}/{}", says.length).parse().unwrap());
                (StatusCode::PARTIAL_CONTENT, first, last)
            }
            None => (StatusCode::OK, 0, says.length - 1),
        };
        let length = last - first + 1;
        headers.insert("content-length", length.into());
        let mut response = FetchResponse::scripted(status, headers, self.body(&says, first, length));
        response.framing = perigee_upstream::BodyFraming::Length(length);
        response
    }

    fn body(&self, says: &Says, first: u64, length: u64) -> UpstreamBody {
        let (pulled, version, end) = (Arc::clone(&self.1), says.version, first + length);
        let cut_at = says.cut_after.map(|after| first + after);
        UpstreamBody::from_body(StreamBody::new(stream::unfold(first, move |offset| {
            let pulled = Arc::clone(&pulled);
            async move {
                if offset >= end {
                    return None;
                }
                if cut_at.is_some_and(|at| offset >= at) {
                    return Some((Err(FetchError::new(FetchErrorKind::PrematureClose)), end));
                }
                let length = (60_000).min(end - offset);
                pulled.fetch_add(length, Ordering::SeqCst);
                Some((Ok(Frame::data(piece(version, offset, length))), offset + length))
            }
        })))
    }
}

/// Asks for a range, checks its bytes, and gives Cache-Status.
pub(crate) async fn range(world: &World, version: u8, range: &str, first: u64, last: u64) -> String {
    let (response, body) = world.ask("GET", "/big", &[("range", &format!("bytes={range}"))]).await;
    assert_eq!(response.status(), 206, "{range}: {:?}", response.headers());
    let said = response.headers()["content-range"].to_str().unwrap().to_owned();
    assert!(said.starts_with(&format!("bytes {first}-{last}/")), "{range}: {said}");
    let body = body.unwrap_or_else(|| panic!("{range}: cut"));
    assert_eq!(response.headers()["content-length"], body.len().to_string());
    assert!(body == piece(version, first, last - first + 1), "{range}: other bytes");
    status(&response)
}

pub(crate) fn status(response: &http::Response<()>) -> String {
    response.headers()["cache-status"].to_str().unwrap().to_owned()
}

pub(crate) async fn whole(world: &World, version: u8, length: u64) -> String {
    let (response, body) = world.ask("GET", "/big", &[]).await;
    assert_eq!(response.status(), 200);
    assert!(body.expect("cut") == piece(version, 0, length), "other bytes");
    status(&response)
}
