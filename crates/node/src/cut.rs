//! How a response is cut: what the body gave before its error reaches the client, then the connection ends short.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::answer::Finish;

pin_project! {
    /// Holds a body's error back for one turn. hyper flushes whenever a body has nothing to give, but drops what it
    /// has buffered when the body fails: without that turn a client may get nothing of what came before.
    #[derive(Debug)]
    pub(crate) struct FlushBeforeCut<B: Body> {
        #[pin]
        body: B,
        failed: Option<B::Error>,
        finish: Finish,
    }
}

impl<B: Body> FlushBeforeCut<B> {
    pub(crate) fn new(body: B, finish: Finish) -> Self {
        Self { body, failed: None, finish }
    }
}

impl<B: Body<Data = Bytes>> Body for FlushBeforeCut<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
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
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
