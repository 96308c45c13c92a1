//! A whole nameserver in this process, asked over real sockets.

mod bench;
mod changes;
mod starts;
mod transports;
