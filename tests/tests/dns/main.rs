//! The real nameserver, asked by the clients and the resolver that people have: dig, kdig, drill, delv, dnspython, unbound; and
//! by more of them than it can bear.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::print_stdout, reason = "figures and skips are for whoever reads the run")]

mod bench;
mod clients;
mod flood;
mod load;
mod oracle;
mod resolver;
mod roll;
mod taps;
mod unbound;
