//! Authoritative DNS that answers with the nearest healthy edge: the sockets, probes and reloads around
//! [`perigee_dns::answer`].
//!
//! [`start`] makes one nameserver on runtimes that it is handed, so that `perigee demo` runs two of them in its process;
//! [`main`] is the binary, one nameserver and nothing else.
//!
//! Deliberately absent: every rule about what is answered (that is `perigee-dns` and `perigee-geo`), recursion, zone
//! transfers, DoT, DoH and DoQ.

mod answerer;
pub mod explain;
mod health;
pub mod keys;
mod listen;
mod metrics;
mod options;
mod process;
mod running;
mod tcp;
mod udp;
mod world;

pub use options::{DNS_PORT, DocumentSource, Options};
pub use process::main;
pub use running::{Running, Stats, start};
