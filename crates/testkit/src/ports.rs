//! Ports for processes that must be told one.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Where a system without word of its own gives none away by itself: below what Linux gives to clients and to port 0.
const PORTS: Range<u16> = 10_240..32_768;
/// The first port of a block is its guard, the others are given away.
const BLOCK_PORTS: u16 = 64;

/// Blocks that are this process's until it ends.
#[derive(Debug, Default)]
struct Blocks {
    guards: Vec<TcpListener>,
    left: Range<u16>,
}

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { guards: Vec::new(), left: 0..0 });

/// A port that nobody has, TCP or UDP, on any IPv4 address, and that nobody gets by chance: it is given to no other caller, in
/// no test that runs now, and lies where no port is given to a client or to who binds port 0. Nobody listens there until the
/// test does, so it serves for what must be refused, too. Prefer binding port 0; this is for processes that must be told.
///
/// # Panics
/// When every port is taken.
pub fn free_port() -> u16 {
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(port) = blocks.left.next() {
            if is_free(port) {
                return port;
            }
            continue;
        }
        let (guard, left) = block(&range()).expect("a block of ports that no other test has");
        blocks.guards.push(guard);
        blocks.left = left;
    }
}

/// The first of `count` ports in a row, each as of [`free_port`].
///
/// # Panics
/// When every port is taken, or `count` is more than a block has.
pub fn free_ports(count: u16) -> u16 {
    assert!((1..BLOCK_PORTS).contains(&count), "a block has {BLOCK_PORTS} ports");
    let start = free_port();
    let mut row = start..start + 1;
    while row.end - row.start < count {
        let next = free_port();
        // A port that is taken, another block, or a thread that asked between: the row begins anew.
        if next != row.end {
            row.start = next;
        }
        row.end = next + 1;
    }
    row.start
}

/// A block that no other process has, and what holds it. Who listens at a block's first port has the block: the system lets it
/// go with the process, however that ends.
fn block(ports: &Range<u16>) -> Option<(TcpListener, Range<u16>)> {
    let count = u32::from(ports.end - ports.start) / u32::from(BLOCK_PORTS);
    // Processes that start one after the other have blocks that do, so that a port comes back late.
    let begin = std::process::id();
    (0..count).find_map(|step| {
        let number = u16::try_from(begin.wrapping_add(step) % count).ok()?;
        let first = ports.start + number * BLOCK_PORTS;
        let guard = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
        Some((guard, first + 1..first + BLOCK_PORTS))
    })
}

/// Without those that this system gives away, where it leaves enough.
fn range() -> Range<u16> {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = told.split_whitespace().next().and_then(|low| low.parse::<u16>().ok()).unwrap_or(PORTS.end);
    let end = low.min(PORTS.end);
    if end.saturating_sub(PORTS.start) < 32 * BLOCK_PORTS { PORTS } else { PORTS.start..end }
}

fn is_free(port: u16) -> bool {
    let everywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(everywhere).is_ok() && UdpSocket::bind(everywhere).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_is_given_a_port_twice() {
        // More than a block has.
        let count = usize::from(BLOCK_PORTS) * 2;
        let ports: Vec<u16> = (0..4)
            .map(|_| std::thread::spawn(move || (0..count / 4).map(|_| free_port()).collect::<Vec<_>>()))
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), count);
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
    }

    #[test]
    fn rows_are_whole_and_nobody_elses() {
        let rows: Vec<u16> = (0..20).map(|_| free_ports(6)).collect();
        let ports: HashSet<u16> = rows.iter().flat_map(|first| *first..first + 6).collect();
        assert_eq!(ports.len(), 20 * 6);
        assert!(!ports.contains(&free_port()));
    }

    #[test]
    fn a_block_has_one_owner() {
        let ports = range();
        let (first, second) = (block(&ports).unwrap(), block(&ports).unwrap());
        assert_ne!(first.1, second.1);
        let at = first.1.start;
        drop(first);
        assert_eq!(block(&(at - 1..at - 1 + BLOCK_PORTS)).unwrap().1.start, at, "given back");
        let (guard, _) = &second;
        let full = guard.local_addr().unwrap().port();
        assert!(block(&(full..full + BLOCK_PORTS)).is_none());
    }

    #[test]
    fn a_port_that_is_taken_is_not_given() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(socket.local_addr().unwrap().port()));
    }
}
