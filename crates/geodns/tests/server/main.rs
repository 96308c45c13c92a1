//! A whole nameserver in this process, asked over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod changes;
mod doh;
mod doq;
mod dot;
mod explains;
mod health;
mod kdig;
mod keys;
mod private;
mod scopes;
mod starts;
mod systems;
mod transports;
mod zones;
