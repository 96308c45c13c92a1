//! `perigee page` as a process: what it refuses, what it says, and that an open page does not hold its end up.

use std::net::TcpListener;

use perigee_testkit::{ProcessUnderTest, client, free_port};

use crate::perigee;

#[test]
fn what_cannot_be_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let many = (1..=257).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let ran = perigee(["page"].iter().chain(arguments));
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    };
    check(&[], 2, "--node");
    check(&["--node", "fra"], 2, "invalid socket address");
    check(&["--node", "127.0.0.1:9000"], 1, "is given as --listen and as a --node");
    check(&["--node", &many], 1, "at most 256 nodes, and these are 257 (see --node)");
    check(&["--node", "127.0.0.1:1", "--listen", &taken], 1, "try another --listen");
}

#[tokio::test]
async fn it_says_where_it_is_and_who_may_read() {
    let port = free_port();
    let listen = format!("0.0.0.0:{port}");
    let arguments = ["page", "--node", "127.0.0.1:1", "--listen", &listen, "--name", "cdn.example.com"];
    let mut page = ProcessUnderTest::start("perigee", arguments);
    page.wait_for_line(&format!("ready: the page of 1 node is at http://{listen}/")).await;
    page.wait_for_line("reading needs no token").await;
    let address = ([127, 0, 0, 1], port).into();
    for (host, expected) in [("cdn.example.com", 200), ("localhost", 200), ("other.example.com", 421)] {
        assert_eq!(client::get(address, host, "/").await.status, expected, "{host}");
    }
    page.terminate();
    assert!(page.wait_exit().await.success());
}
