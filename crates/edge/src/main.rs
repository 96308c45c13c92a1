//! `perigee-edge`: see `perigee_tier`, which it is one of.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    perigee_tier::edge_main()
}
