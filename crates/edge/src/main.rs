//! The caching HTTP edge node.

fn main() {}
