//! Whole-system tests against the real binaries are in `tests/`. Here is what they share with `cargo xtask bench`: an
//! origin whose every byte can be foretold, a client that counts them, and the soak. The standard library's threads and
//! blocking sockets alone: nothing here is code that is under test.

pub mod client;
pub mod content;
pub mod origin;
pub mod soak;
mod tools;

pub use tools::{installed, skip};
