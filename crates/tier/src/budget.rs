//! What of a node's memory its clients' connections may take.

use std::{sync::Arc, time::Duration};

use perigee_cache::Engine;
use perigee_node::{metrics::ConnectionMetrics, sizes::MemorySize};
use tokio::runtime::Handle;

/// The least memory of a node, in bytes: with less, a disk's buffers leave nothing for objects.
const MEMORY_BYTES_MIN: u64 = 192 << 20;
/// What an idle connection takes, in bytes; measured, and rounded up.
const CONNECTION_BYTES: u64 = 12 * 1024;
/// Of the memory, the part that connections may take.
const CONNECTIONS_SHARE: u64 = 4;
/// How often they are counted.
const LOOK: Duration = Duration::from_millis(200);

/// `--memory`
pub(crate) fn parse_memory(text: &str) -> Result<MemorySize, String> {
    let size: MemorySize = text.parse().map_err(|error: perigee_node::sizes::InvalidSize| error.to_string())?;
    if size.0 < MEMORY_BYTES_MIN {
        return Err(format!("a node takes at least {}", MemorySize(MEMORY_BYTES_MIN)));
    }
    Ok(size)
}

/// How many connections a node of so much memory serves at once.
pub(crate) fn connections_max(memory_bytes: u64) -> usize {
    usize::try_from(memory_bytes / CONNECTIONS_SHARE / CONNECTION_BYTES).unwrap_or(usize::MAX)
}

/// Tells the engine what the connections take, for as long as there is one.
pub(crate) fn count_connections(runtime: &Handle, engine: &Arc<Engine>, metrics: ConnectionMetrics) {
    let engine = Arc::downgrade(engine);
    runtime.spawn(async move {
        let mut told = 0;
        while let Some(engine) = engine.upgrade() {
            let open = u64::try_from(metrics.open()).unwrap_or(0);
            if open != told {
                told = open;
                engine.connections(open * CONNECTION_BYTES);
            }
            drop(engine);
            tokio::time::sleep(LOOK).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_memory() {
        let check = |text: &str, good: bool| assert_eq!(parse_memory(text).is_ok(), good, "{text}");
        check("192MiB", true);
        check("201326591B", false);
        check("0B", false);
        check("192", false);
        assert_eq!(parse_memory("191MiB").unwrap_err(), "a node takes at least 192MiB");
    }

    #[test]
    fn connections_have_their_part() {
        assert_eq!(connections_max(192 << 20), 4096);
        assert_eq!(connections_max(256 << 20), 5461);
        assert_eq!(connections_max(u64::MAX), (u64::MAX / 4 / 12 / 1024) as usize);
    }
}
