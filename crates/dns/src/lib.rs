//! Authoritative answers, as a function: a message's bytes in, the reply's bytes out. No sockets, no clock.
//!
//! [`answer`] is the one door for every transport and every test. It reads the message (`query`), finds the name in the
//! zone that the document makes (`zone`), steers names of sites through `perigee-geo`, and writes the reply once from
//! front to back (`writer`) into a buffer that the caller keeps.
//!
//! Signatures are made as they are wanted (`dnssec`), by keys that are handed in.
//!
//! Secondaries get the zone by `transfer`, message by message, signed with a shared key (`tsig`).
//!
//! Deliberately absent: recursion, dynamic updates, incoming transfers, and where keys are kept.
//! Nothing here waits, and nothing that arrives makes it panic.

mod answer;
mod arrival;
mod code;
mod cookie;
pub mod dnssec;
mod ecs;
mod explain;
mod freshness;
mod history;
mod limit;
mod name;
mod options;
mod outcome;
mod query;
mod rdata;
mod signed;
mod snapshot;
mod transfer;
mod tsig;
mod writer;
mod zone;

#[cfg(test)]
mod tests;

pub use answer::{Memory, UDP_BYTES_MAX, answer};
pub use arrival::{Arrival, Transport};
pub use code::{Rcode, kind_name};
pub use cookie::{CookieSecret, CookieState};
pub use explain::{ExplainError, Explained};
pub use freshness::freshness_s;
pub use limit::{LimitPolicy, Limiter};
pub use name::{InvalidName, LABEL_BYTES_MAX, NAME_BYTES_MAX, Name};
pub use outcome::{Outcome, Reason, SteeredTo};
pub use query::{Asked, asked};
pub use snapshot::{Service, Snapshot};
pub use transfer::{Secondaries, Transfer, begin as begin_transfer, notify};
pub use tsig::{InvalidTsigKey, TSIG_SECRET_BYTES_MIN, TsigKey};
pub use zone::{Zone, ZoneError};
