//! What a machine may lack, and how whoever reads the run is told.

#![expect(clippy::print_stdout, reason = "whoever reads the run is to know what did not run")]

use std::{fs::OpenOptions, io::Write as _, net::UdpSocket};

/// Says and counts, where `cargo xtask test` reads it, that a test or a part of it does not run. Always false.
pub fn skip(reason: &str) -> bool {
    println!("SKIP: {reason}");
    let list = std::env::var_os("PERIGEE_SKIPS");
    if let Some(mut file) = list.and_then(|list| OpenOptions::new().append(true).create(true).open(list).ok()) {
        let line = format!("SKIP: {reason}: the test of it did not run\n");
        file.write_all(line.as_bytes()).expect("the list of skips takes a line");
    }
    false
}

/// Whether loopback has an IPv6 address, which containers often do without; a skip is said and counted.
pub fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok() || skip("there is no IPv6 here")
}
