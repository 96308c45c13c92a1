//! Authoritative DNS that answers with the nearest healthy edge: the sockets, probes and reloads around
//! [`perigee_dns::answer`].
//!
//! [`start`] makes one nameserver on runtimes that it is handed, so that `perigee demo` runs two of them in its process;
//! [`main`] is the binary, one nameserver and nothing else.
//!
//! Deliberately absent: every rule about what is answered (that is `perigee-dns` and `perigee-geo`), recursion,
//! and zones of others.

mod answerer;
mod databases;
mod dnstap;
mod doh;
mod doq;
mod drops;
mod encrypted;
pub mod explain;
mod health;
pub mod keys;
mod listen;
mod metrics;
mod notify;
mod operator;
mod options;
mod page;
mod process;
mod room;
mod running;
mod scopes;
mod spawn;
mod stream;
mod tally;
mod tcp;
mod transfers;
mod udp;
mod world;
pub mod zones;

pub use dnstap::{TapOptions, TapTarget};
pub use options::{DNS_PORT, DocumentSource, EncryptedListen, KEYS_LOOK, ListenAt, Options};
pub use process::{command, main};
pub use running::{Running, Stats, start};
