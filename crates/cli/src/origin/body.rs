//! The bodies that the demo's origin sends: from memory, made while it is sent, or trickling.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::generated::Pieces;

/// How many breaths a trickling body takes.
pub(crate) const BREATHS: u32 = 8;
const BREATH_PAUSE: Duration = Duration::from_millis(25);

/// A response's body. Never fails.
#[derive(Debug)]
pub(crate) enum Body {
    /// From memory; empty once taken.
    Whole(Bytes),
    /// Made while it is sent.
    Made(MadeBody),
    /// A line at a time, of unknown length.
    Slow(SlowBody),
}

/// A body that [`Pieces`] makes.
#[derive(Debug)]
pub(crate) struct MadeBody(pub(super) Pieces);

/// A body of [`BREATHS`] lines with a pause before each but the first.
#[derive(Debug)]
pub(crate) struct SlowBody {
    path: String,
    said: u32,
    pause: Pin<Box<Sleep>>,
}

impl SlowBody {
    /// Must be made inside a tokio runtime.
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), said: 0, pause: Box::pin(sleep_until(Instant::now())) }
    }

    /// A line of the body; the whole is lines 1 to [`BREATHS`].
    pub(super) fn line(path: &str, number: u32) -> String {
        format!("{path}, breath {number} of {BREATHS}: {}\n", "~".repeat(4000))
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.said == BREATHS {
            return Poll::Ready(None);
        }
        ready!(self.pause.as_mut().poll(context));
        self.said += 1;
        let line = Self::line(&self.path, self.said);
        self.pause.as_mut().reset(Instant::now() + BREATH_PAUSE);
        Poll::Ready(Some(line.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(std::mem::take(bytes)),
            Self::Made(made) => made.0.next(),
            Self::Slow(slow) => ready!(slow.poll_line(context)),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Made(made) => made.0.remaining() == 0,
            Self::Slow(slow) => slow.said == BREATHS,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Made(made) => SizeHint::with_exact(made.0.remaining()),
            Self::Slow(_) => SizeHint::default(),
        }
    }
}
