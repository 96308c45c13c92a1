//! What a scripted origin says.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

/// One answer. Built by chaining; sent byte for byte as built, mistakes included.
#[derive(Debug)]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content: Content,
    pub(crate) framing: Framing,
    pub(crate) then: Then,
    pub(crate) delay: Option<Duration>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Bytes),
    /// `piece` again and again, `times` times.
    Repeat(Bytes, u64),
    Gated(mpsc::UnboundedReceiver<Step>),
    /// Instead of a whole response.
    Raw(Bytes),
    /// No response at all.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length`: of the content where none is given.
    Length(Option<u64>),
    Chunked,
    UntilClose,
    /// The script's own fields say it.
    AsWritten,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    KeepAlive,
    Close,
    Reset,
    /// Open and silent until the peer closes.
    Hang,
}

#[derive(Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Cut,
}

/// The test's hand on a body that is being sent: nothing moves but by it. Dropping it ends the body properly.
#[derive(Clone, Debug)]
pub struct Gate(mpsc::UnboundedSender<Step>);

impl Gate {
    /// Sends the next piece.
    pub fn send(&self, piece: impl Into<Bytes>) {
        // The origin may have given up on a client that went away; then there is nobody to send to.
        drop(self.0.send(Step::Data(piece.into())));
    }

    /// Closes the connection here and now, whatever was promised.
    pub fn cut(&self) {
        drop(self.0.send(Step::Cut));
    }

    /// Whether the origin stopped sending, because the client closed.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

impl Reply {
    fn of(status: u16, content: Content) -> Self {
        let (framing, then) = (Framing::Length(None), Then::KeepAlive);
        Self { status, headers: Vec::new(), content, framing, then, delay: None }
    }

    /// A response of that status without content, `Content-Length: 0`.
    pub fn new(status: u16) -> Self {
        Self::of(status, Content::Bytes(Bytes::new()))
    }

    /// 200 with content and its length.
    pub fn ok(content: impl Into<Bytes>) -> Self {
        Self::new(200).body(content)
    }

    /// 200 whose content is `piece`, `times` times: gigabytes without holding them.
    pub fn repeat(piece: impl Into<Bytes>, times: u64) -> Self {
        Self::of(200, Content::Repeat(piece.into(), times))
    }

    /// 200 whose content the test sends piece by piece: `Content-Length` where `length` is given, else chunked.
    pub fn gated(length: Option<u64>) -> (Self, Gate) {
        let (sender, steps) = mpsc::unbounded_channel();
        let framing = length.map_or(Framing::Chunked, |length| Framing::Length(Some(length)));
        (Self { framing, ..Self::of(200, Content::Gated(steps)) }, Gate(sender))
    }

    /// Exactly these bytes instead of a response; then the connection closes, unless [`keep_alive`](Self::keep_alive).
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::of(0, Content::Raw(bytes.into())).close()
    }

    /// No answer, the connection open until the client gives up.
    pub fn hang() -> Self {
        Self { then: Then::Hang, ..Self::of(0, Content::Nothing) }
    }

    /// No answer, the connection closed.
    pub fn hang_up() -> Self {
        Self::of(0, Content::Nothing).close()
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One more field, as spelt.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    /// Other content.
    #[must_use]
    pub fn body(mut self, content: impl Into<Bytes>) -> Self {
        self.content = Content::Bytes(content.into());
        self
    }

    /// In chunks, without a length.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Neither length nor chunks: the connection's end is the content's.
    #[must_use]
    pub fn until_close(mut self) -> Self {
        self.framing = Framing::UntilClose;
        self.close()
    }

    /// A `Content-Length` of the test's choosing. Content that falls short of it is cut: the connection closes.
    #[must_use]
    pub fn promise(mut self, length: u64) -> Self {
        self.framing = Framing::Length(Some(length));
        self
    }

    /// No framing fields but those given by [`header`](Self::header); content goes out as it is.
    #[must_use]
    pub fn as_written(mut self) -> Self {
        self.framing = Framing::AsWritten;
        self
    }

    /// The connection closes (FIN) after it.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.then = Then::Close;
        self
    }

    /// The connection is reset (RST) after it.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.then = Then::Reset;
        self
    }

    /// The connection stays open after it.
    #[must_use]
    pub fn keep_alive(mut self) -> Self {
        self.then = Then::KeepAlive;
        self
    }

    /// The connection stays open after it, but nothing more is read or said.
    #[must_use]
    pub fn then_hang(mut self) -> Self {
        self.then = Then::Hang;
        self
    }

    /// The answer begins that much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }
}
