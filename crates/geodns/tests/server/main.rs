//! A whole nameserver in this process, asked over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod changes;
mod explains;
mod starts;
mod transports;
