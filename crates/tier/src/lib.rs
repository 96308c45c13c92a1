//! An HTTP tier assembled: document to sites, upstreams, store, engine and listeners. What edge and shield share.
//!
//! [`start`] makes one tier on runtimes that it is handed, so that `perigee demo` runs ten of them in its process;
//! [`edge_main`] and [`shield_main`] are one tier and nothing else. Deliberately absent: caching rules (`semantics`),
//! what happens to a request (`cache`), sockets (`node`).

mod assemble;
mod budget;
mod country;
mod doors;
mod explain;
mod flags;
mod load;
mod options;
mod page;
mod process;
mod purge;
mod running;
mod service;
mod trace;

pub use assemble::Role;
pub use doors::{DoorOptions, TlsListen};
pub use flags::{EdgeFlags, ShieldFlags};
pub use options::{Options, Source};
pub use process::{edge_main, shield_main};
pub use running::{Running, TierStats, start};
pub use trace::{Endpoint, TraceFlags, TraceOptions};
