//! Standard output, which may go away or be full.

use std::io::{self, Write};

/// Standard output, of which is remembered that nobody reads it any more: whatever a failed write is wrapped into.
#[derive(Debug, Default)]
pub(crate) struct Out {
    is_gone: bool,
}

impl Out {
    /// Whether its reader went away.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn explain(&mut self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::Interrupted => error,
            io::ErrorKind::BrokenPipe => {
                self.is_gone = true;
                error
            }
            kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(|error| self.explain(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(|error| self.explain(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_no_more_is_no_failure() {
        let mut out = Out::default();
        let full = out.explain(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((out.is_gone(), full.to_string().contains("cannot write to stdout")), (false, true));
        assert_eq!(out.explain(io::Error::from(io::ErrorKind::BrokenPipe)).kind(), io::ErrorKind::BrokenPipe);
        assert!(out.is_gone());
    }
}
