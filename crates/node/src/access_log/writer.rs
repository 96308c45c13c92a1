//! The access log's thread: takes the buffers, writes them, survives a disk that is full or gone.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use super::{AccessLogError, SHARDS, Shared, lock};

/// A buffer that grew beyond this gives the rest back after it was written.
const SHARD_BYTES_KEPT: usize = 256 * 1024;

/// Where lines go.
pub(super) enum Sink {
    Stdout,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Fake(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn open(path: PathBuf) -> Result<Self, AccessLogError> {
        match OpenOptions::new().append(true).create(true).open(&path) {
            Ok(file) => Ok(Self::File { path, file }),
            Err(source) => Err(AccessLogError::Open { path, source }),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let (written, result) = write_counted(&mut stdout, bytes);
                (written, result.and_then(|()| stdout.flush()))
            }
            Self::File { file, .. } => write_counted(file, bytes),
            #[cfg(test)]
            Self::Fake(fake) => write_counted(fake, bytes),
        }
    }
}

/// Like `write_all`, and tells how much was written before an error.
fn write_counted(sink: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// What the thread has.
pub(super) struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    /// The last write failed: said once, until one succeeds.
    failing: bool,
    /// The last write ended within a line.
    cut_line: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, sink: Sink) -> Self {
        Self { shared, sink, failing: false, cut_line: false }
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        loop {
            let orders = self.shared.wait();
            for index in 0..SHARDS {
                std::mem::swap(&mut *lock(&self.shared.shards[index]), &mut spare);
                self.write(&spare);
                spare.clear();
                spare.shrink_to(SHARD_BYTES_KEPT);
            }
            if orders.reopen {
                self.reopen();
            }
            for done in orders.flushes {
                // Nobody waits any more: fine.
                done.send(()).unwrap_or_default();
            }
            if orders.stop {
                return;
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.cut_line {
            // The torn line stays a line of its own; what follows is whole again.
            let (written, _) = self.sink.write_all(b"\n");
            self.cut_line = written == 0;
        }
        let (written, result) =
            if self.cut_line { (0, Err(io::ErrorKind::WriteZero.into())) } else { self.sink.write_all(lines) };
        let (done, rest) = lines.split_at_checked(written).unwrap_or((lines, &[]));
        self.shared.metrics.written.inc_by(count_lines(done));
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the access log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.cut_line |= !done.is_empty() && !done.ends_with(b"\n");
                self.shared.metrics.errors.inc();
                self.shared.metrics.dropped.inc_by(count_lines(rest));
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the access log cannot be written; lines are dropped and counted");
                }
            }
        }
    }

    fn reopen(&mut self) {
        let Sink::File { path, .. } = &self.sink else { return };
        match Sink::open(path.clone()) {
            Ok(sink) => {
                self.sink = sink;
                self.cut_line = false;
            }
            Err(error) => tracing::error!(%error, "the old file stays in use"),
        }
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    // So many that a byte counts them, and sixteen and more are looked at at once.
    let some = |bytes: &[u8]| bytes.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|bytes| u64::from(some(bytes))).sum()
}
