//! The shared origin-shield tier: the edge's engine with another upstream and policy.

fn main() {}
