//! A connection on a stand: its future is polled by hand until it asks for no more, so that nothing depends on time.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
};

use super::service::{Events, Service};
use crate::{
    connections::{Connections, Entry, Phase},
    door_metrics::{DoorMetrics, Ended},
    drive::Protocols,
    http::Limits,
    metrics::ConnectionMetrics,
};

/// A client's socket, from both sides.
#[derive(Default)]
pub(super) struct Socket {
    input: VecDeque<u8>,
    closed: bool,
    pub(super) output: Vec<u8>,
    pub(super) shut: bool,
    /// What each write takes at most; every other one takes nothing at first. None: everything.
    pub(super) room: Option<usize>,
    /// No more is taken.
    pub(super) full: bool,
    takes_nothing: bool,
    flat: bool,
}

#[derive(Clone, Default)]
pub(super) struct Pipe(pub(super) Arc<Mutex<Socket>>);

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.lock().unwrap();
        if socket.input.is_empty() && !socket.closed {
            return Poll::Pending;
        }
        let count = buf.remaining().min(socket.input.len());
        buf.put_slice(&socket.input.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock().unwrap();
        if socket.full {
            return Poll::Pending;
        }
        let Some(room) = socket.room else {
            let before = socket.output.len();
            bufs.iter().for_each(|buf| socket.output.extend_from_slice(buf));
            return Poll::Ready(Ok(socket.output.len() - before));
        };
        socket.takes_nothing = !socket.takes_nothing;
        if socket.takes_nothing {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(room).collect();
        socket.output.extend_from_slice(&all);
        Poll::Ready(Ok(all.len()))
    }

    fn is_write_vectored(&self) -> bool {
        !self.0.lock().unwrap().flat
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().shut = true;
        Poll::Ready(Ok(()))
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Direct,
    HyperOnly,
}

/// How the socket takes what it is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    pub(super) room: Option<usize>,
    pub(super) flat: bool,
}

pub(super) const ALL: Taking = Taking { room: None, flat: false };

type Serving = Pin<Box<dyn Future<Output = Option<Ended>> + Send>>;

pub(super) struct Stand {
    runtime: Runtime,
    pub(super) pipe: Pipe,
    pub(super) events: Events,
    pub(super) metrics: DoorMetrics,
    serving: Option<Serving>,
    pub(super) ended: Option<Option<Ended>>,
    flag: Arc<Flag>,
    connections: Arc<Connections>,
    pub(super) entry: Entry,
}

impl Stand {
    pub(super) fn new(by: By, limits: &Limits, taking: Taking) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let nowhere = ([127, 0, 0, 1], 0).into();
        let connections = Connections::new(1, ConnectionMetrics::default());
        let entry = connections.enter(0, nowhere, nowhere, false);
        let (pipe, events, metrics) = (Pipe::default(), Events::default(), DoorMetrics::default());
        {
            let mut socket = pipe.0.lock().unwrap();
            (socket.room, socket.flat) = (taking.room, taking.flat);
        }
        let protocols = Protocols::new(limits, metrics.clone());
        let protocols = if by == By::HyperOnly { protocols.hyper_only() } else { protocols };
        let (service, stream, connection) =
            (Arc::new(Service(events.clone())), pipe.clone(), Arc::clone(entry.connection()));
        let serving: Serving = Box::pin(async move { protocols.http1(service, stream, &connection).await });
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { runtime, pipe, events, metrics, serving: Some(serving), ended: None, flag, connections, entry }
    }

    /// Polls until nothing more happens by itself.
    pub(super) fn settle(&mut self) {
        let _entered = self.runtime.enter();
        let waker = Waker::from(Arc::clone(&self.flag));
        self.flag.0.store(true, Ordering::SeqCst);
        while self.flag.0.swap(false, Ordering::SeqCst) {
            let Some(serving) = &mut self.serving else { return };
            if let Poll::Ready(ended) = serving.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.ended = Some(ended);
                self.serving = None;
            }
        }
    }

    /// One turn; how many requests it has brought by then.
    pub(super) fn poll_once(&mut self) -> u64 {
        let _entered = self.runtime.enter();
        let waker = Waker::from(Arc::clone(&self.flag));
        let polled = self.serving.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        self.entry.connection().requests()
    }

    /// Lets time pass until the connection ends of it; why it does.
    pub(super) fn settle_in_time(&mut self) -> Option<Ended> {
        loop {
            if let Some(ended) = self.ended {
                return ended;
            }
            // Timers wake whoever polled them first.
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            self.settle();
        }
    }

    /// It has come, and nobody has looked yet.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.pipe.0.lock().unwrap().input.extend(bytes);
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.hear(bytes);
        self.settle();
    }

    pub(super) fn close(&mut self) {
        self.pipe.0.lock().unwrap().closed = true;
        self.settle();
    }

    pub(super) fn tell(&mut self, phase: Phase) {
        self.connections.tell(phase);
        self.settle();
    }

    /// What the client has got, with any date for every date.
    pub(super) fn output(&self) -> String {
        let socket = self.pipe.0.lock().unwrap();
        let text: String = socket.output.iter().copied().map(char::from).collect();
        let mut parts = text.split("\r\ndate: ");
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str("\r\ndate: …");
            masked.extend(part.chars().skip(29));
        }
        masked
    }
}
