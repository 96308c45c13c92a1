//! What a supervisor of systemd's kind hears of a node, from its start to its end.

use std::{os::unix::net::UnixDatagram, process::Command, time::Duration};

use perigee_testkit::{ProcessUnderTest, free_port};

use crate::fleet::loopback;

/// Longer than any start takes; it decides nothing but how long a failure takes.
const HEARD_BOUND: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_when_a_node_serves_lives_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("notify");
    let ear = UnixDatagram::bind(&address).unwrap();
    ear.set_read_timeout(Some(HEARD_BOUND)).unwrap();
    let until = |words: &str| {
        let mut bytes = [0; 256];
        let heard = std::iter::repeat_with(|| {
            let length = ear.recv(&mut bytes).unwrap_or_else(|error| panic!("{words:?} is not heard: {error}"));
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        });
        heard.take_while(|heard| !heard.starts_with(words)).collect::<Vec<_>>()
    };

    let listen = loopback(free_port());
    // Beside the test's own folder.
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test.ancestors().nth(2).unwrap().join("perigee-edge"));
    command.args(["--origin=http://127.0.0.1:9", "--admin=off", &format!("--listen={listen}")]);
    command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "20000");
    let mut edge = ProcessUnderTest::spawn("perigee-edge", command);

    until("READY=1");
    // It was no promise: who is told may connect.
    tokio::net::TcpStream::connect(listen).await.unwrap();
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    edge.terminate();
    until("STOPPING=1");
    assert!(edge.wait_exit().await.success(), "{}", edge.stderr());
}
