//! Authoritative answers, as a function. No sockets, no clock.
