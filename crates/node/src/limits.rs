//! The process's file-descriptor limit: raised to its hard limit at the start, and what follows from it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit, says so in the log, and returns what is in force.
///
/// A limit that cannot be read or raised is a warning, never a reason not to start.
pub fn raise_open_files() -> u64 {
    const FALLBACK: u64 = 1024;
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be read; assuming {FALLBACK}");
            return FALLBACK;
        }
    };
    if soft >= hard {
        tracing::debug!(open_files_max = soft, "the limit of open files is at its hard limit already");
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => {
            tracing::info!(open_files_max = hard, before = soft, "raised the limit of open files to its hard limit");
            hard
        }
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the limit of open files cannot be raised");
            soft
        }
    }
}

/// Client connections that a node accepts by default under a limit of open files: half of it, since a connection may
/// need another one upstream; between 64 and 1,000,000.
pub fn connections_max(open_files_max: u64) -> usize {
    usize::try_from(open_files_max / 2).unwrap_or(usize::MAX).clamp(64, 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_limit() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_open_files(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, hard);
    }

    #[test]
    fn connections_leave_room_for_upstreams() {
        let check =
            |open_files: u64, expected: usize| assert_eq!(connections_max(open_files), expected, "{open_files}");
        check(0, 64);
        check(1024, 512);
        check(u64::MAX, 1_000_000);
    }
}
