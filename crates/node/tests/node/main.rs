//! The node's doors over real sockets on loopback.
#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
mod doors;
mod full;
mod h2_slow;
mod h2_wire;
mod http;
mod lingering;
mod wire;
