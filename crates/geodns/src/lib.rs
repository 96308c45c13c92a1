//! Authoritative DNS that answers with the nearest healthy edge: the sockets, probes and reloads around
//! [`perigee_dns::answer`].
//!
//! [`start`] makes one nameserver on runtimes that it is handed, so that `perigee demo` runs two of them in its process;
//! `main` is one nameserver and nothing else.
//!
//! Deliberately absent: every rule about what is answered (that is `perigee-dns` and `perigee-geo`), recursion, zone
//! transfers, DoT, DoH and DoQ.

mod options;
mod running;

pub use options::{DocumentSource, Options};
pub use running::{Running, Stats, start};
