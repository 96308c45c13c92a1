//! How a response is cut: what the body gave before its error reaches the client, then the connection ends short.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::answer::Finish;

/// What a body was asked for before whoever sends it asks: a frame, or its end (None).
#[derive(Debug)]
struct Taken(Option<Box<Frame<Bytes>>>);

pin_project! {
    /// Holds a body's error back for one turn. hyper flushes whenever a body has nothing to give, but drops what it
    /// has buffered when the body fails: without that turn a client may get nothing of what came before.
    #[derive(Debug)]
    pub(crate) struct FlushBeforeCut<B: Body> {
        #[pin]
        body: B,
        // What was taken from the body, and not used.
        first: Option<Taken>,
        failed: Option<B::Error>,
        owes_turn: bool,
        finish: Finish,
    }
}

impl<B: Body + Unpin> FlushBeforeCut<B> {
    /// Makes it as good as never asked: what it was ready with, a frame or its end (None), comes again. Of a body that has
    /// ended nothing more may be asked.
    pub(crate) fn rewind(&mut self, first: Poll<Option<Frame<Bytes>>>) {
        self.first = match first {
            Poll::Ready(first) => Some(Taken(first.map(Box::new))),
            Poll::Pending => None,
        };
        // Whoever asks next has flushed nothing yet.
        self.owes_turn = self.failed.is_some();
    }
}

impl<B: Body> FlushBeforeCut<B> {
    pub(crate) fn new(body: B, finish: Finish) -> Self {
        Self { body, first: None, failed: None, owes_turn: false, finish }
    }
}

impl<B: Body<Data = Bytes>> Body for FlushBeforeCut<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(Taken(first)) = this.first.take() {
            return Poll::Ready(first.map(|first| Ok(*first)));
        }
        if std::mem::take(this.owes_turn) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match this.body.poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                *this.failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let taken =
            self.first.as_ref().and_then(|first| first.0.as_ref()?.data_ref()).map_or(0, |data| data.len() as u64);
        let mut hint = self.body.size_hint();
        if taken > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(taken));
            }
            hint.set_lower(hint.lower().saturating_add(taken));
        }
        hint
    }
}
