//! Upstream's bodies, cut to size.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use perigee_upstream::{FetchError, FetchErrorKind, UpstreamBody};

/// Bytes `skip..skip + take` of a body; the rest is left unread, which closes its connection.
pub(crate) fn carve(body: UpstreamBody, skip: u64, take: u64) -> UpstreamBody {
    let state = (BodyStream(body), skip, take);
    let frames = stream::try_unfold(state, |(mut body, mut skip, take)| async move {
        if take == 0 {
            return Ok(None);
        }
        loop {
            let Some(frame) = body.next().await else {
                return Err(FetchError::new(FetchErrorKind::PrematureClose));
            };
            let Ok(data) = frame?.into_data() else { continue };
            let passed = skip.min(data.len() as u64);
            skip -= passed;
            let rest = data.slice(passed as usize..);
            let rest = rest.slice(..rest.len().min(usize::try_from(take).unwrap_or(usize::MAX)));
            if !rest.is_empty() {
                let left = take - rest.len() as u64;
                return Ok(Some((Frame::data(rest), (body, skip, left))));
            }
        }
    });
    UpstreamBody::from_body(StreamBody::new(frames))
}

/// These bytes, and behind them a body.
pub(crate) fn prefixed(beginning: Bytes, body: UpstreamBody) -> UpstreamBody {
    let frames = stream::iter([Ok(Frame::data(beginning))]).chain(BodyStream(body));
    UpstreamBody::from_body(StreamBody::new(frames))
}

/// A body as a stream of its frames.
struct BodyStream(UpstreamBody);

impl futures_util::Stream for BodyStream {
    type Item = Result<Frame<Bytes>, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_frame(cx)))
    }
}
