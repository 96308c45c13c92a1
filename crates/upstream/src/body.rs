//! A response's content, which holds its connection until it ended, and fails rather than end early.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};

use crate::FetchError;

/// A response's content. Yields data frames only (trailers are dropped, RFC 9110 §6.5.1), then ends; a body that did not
/// arrive whole is an `Err`, never a short body. Dropping it early closes its connection.
pub struct UpstreamBody {
    inner: Inner,
}

enum Inner {
    Scripted(Pin<Box<dyn Body<Data = Bytes, Error = FetchError> + Send>>),
}

impl UpstreamBody {
    /// All of it at once.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::from_body(Full::new(bytes.into()).map_err(|never| match never {}))
    }

    /// No content.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// Any body, for scripted upstreams.
    pub fn from_body(body: impl Body<Data = Bytes, Error = FetchError> + Send + 'static) -> Self {
        Self { inner: Inner::Scripted(Box::pin(body)) }
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamBody({:?})", self.size_hint())
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        match &mut self.get_mut().inner {
            Inner::Scripted(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Scripted(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Scripted(body) => body.size_hint(),
        }
    }
}
