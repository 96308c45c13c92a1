//! The thread of dnstap: brings what waits to the collector or into the file, and is patient with one that is away.

use std::{
    io,
    net::TcpStream,
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

use super::{
    TapTarget,
    file::{TapFile, write_counted},
    frames,
    queue::Queue,
};

/// How long a message waits for others at most.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// How long a collector may take to be reached, to answer, and to take anything at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to confirm the end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// Before the second attempt; doubled for each further, up to the other.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A buffer that grew beyond this gives the rest back after it was written.
const BYTES_KEPT: usize = 256 * 1024;

/// What takes frames.
enum Link {
    Unix(UnixStream),
    Tcp(TcpStream),
    File(TapFile),
}

impl Link {
    fn open(target: &TapTarget) -> io::Result<Self> {
        match target {
            TapTarget::Off => Err(io::ErrorKind::NotFound.into()),
            TapTarget::File(path) => TapFile::open(path).map(Self::File),
            TapTarget::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                frames::greet(&mut stream)?;
                Ok(Self::Unix(stream))
            }
            TapTarget::Tcp(address) => {
                let mut stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                // The control frames are small, and waited for.
                stream.set_nodelay(true)?;
                frames::greet(&mut stream)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Whether the other side is gone, which a write would only learn when something is lost already.
    fn is_closed(&self) -> bool {
        match self {
            Self::Unix(stream) => is_closed(stream.as_raw_fd()),
            Self::Tcp(stream) => is_closed(stream.as_raw_fd()),
            Self::File(_) => false,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Self::Unix(stream) => write_counted(stream, bytes),
            Self::Tcp(stream) => write_counted(stream, bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Unix(mut stream) => {
                stream.set_read_timeout(Some(FINISH_TIMEOUT))?;
                frames::finish(&mut stream)
            }
            Self::Tcp(mut stream) => {
                stream.set_read_timeout(Some(FINISH_TIMEOUT))?;
                frames::finish(&mut stream)
            }
            Self::File(file) => file.stop(),
        }
    }
}

/// Before the end a collector has nothing to say: whatever there is to read, an end or words, nothing more is taken.
fn is_closed(descriptor: RawFd) -> bool {
    let read = recv(descriptor, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    !matches!(read, Err(Errno::EAGAIN | Errno::EINTR))
}

/// What the thread has.
pub(super) struct Writer {
    queue: Arc<Queue>,
    target: TapTarget,
    link: Option<Link>,
    /// Whole frames that were taken from the queue and not written yet.
    pending: Vec<u8>,
    /// Nothing is tried before.
    next_try: Instant,
    pause: Duration,
    /// The last attempt failed: said once, until one succeeds.
    is_failing: bool,
    /// Since when none has.
    well_since: Instant,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.ended();
    }
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, target: TapTarget) -> Self {
        let (pending, now) = (Vec::new(), Instant::now());
        Self { queue, target, link: None, pending, next_try: now, pause: PAUSE, is_failing: false, well_since: now }
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            self.bring();
            let pause = self.next_try.saturating_duration_since(Instant::now());
            let orders =
                if pause.is_zero() { self.queue.wait(FLUSH_INTERVAL, true) } else { self.queue.wait(pause, false) };
            if orders.reopen {
                self.bring();
                self.close();
                (self.next_try, self.pause) = (Instant::now(), PAUSE);
            }
            if orders.stop {
                // Who waits sees `orders` go.
                return self.end();
            }
        }
    }

    /// Writes what waits, as far as there is somebody who takes it.
    fn bring(&mut self) {
        if Instant::now() < self.next_try {
            return;
        }
        if self.link.as_ref().is_some_and(Link::is_closed) {
            return self.failed(&io::ErrorKind::ConnectionReset.into());
        }
        if self.link.is_none() {
            match Link::open(&self.target) {
                Ok(link) => self.connected(link),
                Err(error) => return self.failed(&error),
            }
        }
        let mut from = 0;
        while self.link.is_some() && (!self.pending.is_empty() || self.queue.take(&mut from, &mut self.pending)) {
            if !self.write() {
                return;
            }
        }
    }

    /// False: it failed, and what was not written whole is pending.
    fn write(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let (written, result) = link.write(&self.pending);
        let (count, end) = frames::whole(&self.pending, written);
        self.queue.metrics.written.inc_by(count);
        self.pending.drain(..end);
        self.pending.shrink_to(BYTES_KEPT);
        match result {
            Ok(()) => {
                self.works();
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn connected(&mut self, link: Link) {
        tracing::debug!(to = %self.target, "dnstap has somebody who takes it");
        self.link = Some(link);
        self.works();
    }

    fn works(&mut self) {
        self.queue.metrics.connected.set(1);
        if self.is_failing {
            (self.is_failing, self.well_since) = (false, Instant::now());
            tracing::info!(to = %self.target, "dnstap can be written again");
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.queue.metrics.errors.inc();
        // A file without its torn end can be gone on with; a stream within a frame cannot.
        if !matches!(&self.link, Some(Link::File(file)) if file.is_sound()) {
            self.link = None;
        }
        self.queue.metrics.connected.set(0);
        if !self.is_failing {
            self.is_failing = true;
            // Who fails again and again, and works between, is as patiently tried, and is no flood of lines.
            if self.well_since.elapsed() > PAUSE_MAX {
                self.pause = PAUSE;
            }
            tracing::warn!(to = %self.target, %error, "dnstap cannot be written; messages wait, and are dropped when there is no room");
        }
        self.next_try = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn close(&mut self) {
        self.queue.metrics.connected.set(0);
        if let Some(link) = self.link.take()
            && let Err(error) = link.finish()
        {
            tracing::debug!(to = %self.target, %error, "dnstap did not end well");
        }
    }

    /// What somebody takes is written; the rest is lost.
    fn end(&mut self) {
        if self.link.is_some() || !self.is_failing {
            self.bring();
        }
        self.close();
        let mut from = 0;
        loop {
            let (lost, _) = frames::whole(&self.pending, self.pending.len());
            self.queue.metrics.dropped.inc_by(lost);
            self.pending.clear();
            if !self.queue.take(&mut from, &mut self.pending) {
                return;
            }
        }
    }
}
