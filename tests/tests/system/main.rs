//! The real binaries on loopback: what people will run, as they will run it.

mod bad_input;
mod fleet;
mod memory;
mod reload;
mod tiers;
mod tools;
