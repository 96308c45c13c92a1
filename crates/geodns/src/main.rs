//! Authoritative DNS that answers with the nearest healthy edge.

fn main() {}
