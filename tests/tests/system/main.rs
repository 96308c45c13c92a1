//! The real binaries on loopback: what people will run, as they will run it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::print_stdout, reason = "figures and skips are for whoever reads the run")]

mod admission;
mod bad_input;
mod draining;
mod fleet;
mod idlers;
mod measure;
mod memory;
mod page;
mod partial;
mod purge;
mod reload;
mod restart;
mod rules;
mod semantics;
mod shares;
mod soak;
mod supervised;
mod tiers;
mod tls;
mod tools;
mod traces;
