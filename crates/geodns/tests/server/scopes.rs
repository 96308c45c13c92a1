//! Answers made ahead: the scopes told become the shortest that are true, and follow health, database and coverage zones.

use crate::bench::*;

/// Of `/v1/explain/dns`.
const ASK: &str = "/v1/explain/dns?name=www.cdn.example&client=";

/// A query by ECS for one address (RFC 7871 §6), and the scope of the reply.
async fn scope(bench: &Bench, client: [u8; 4]) -> u8 {
    let mut message = query(1, "www.cdn.example", A);
    message[11] = 1;
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 8, 0, 8, 0, 1, 32, 0]);
    message.extend(client);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message, bench.address()).await.unwrap();
    let mut reply = [0; 1232];
    let (length, _) = perigee_testkit::patiently("a reply", socket.recv_from(&mut reply)).await.unwrap();
    let told = reply[..length].windows(4).position(|bytes| bytes == client).unwrap();
    reply[told - 1]
}

async fn merged(bench: &Bench, regions: &str) {
    bench
        .admin_becomes("/metrics", &format!("perigee_dns_scope_regions{{node=\"ns1\",tier=\"geodns\"}} {regions}\n"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_become_the_shortest_that_are_true() {
    let (_fra, port) = Edge::start(FRA, 0).await;
    let (syd, _) = Edge::start(SYD, port).await;
    let bench = Bench::start_with(&document(port, 2)).await;
    // Australia, what is below and above it; and three of IPv6, which two networks that lead into IPv4 part.
    merged(&bench, "6").await;
    // 127.48.0.0 to 127.55.255.255 has no Australian in it.
    assert_eq!(scope(&bench, [127, 49, 0, 1]).await, 13);
    assert_eq!(scope(&bench, [127, 61, 0, 1]).await, 16);
    assert_eq!(scope(&bench, [8, 8, 8, 8]).await, 2);
    let told = bench.admin(&format!("{ASK}{GERMANY}")).await;
    assert!(told.contains("\"prefix\":13,\"merged\":true,\"by\":[{\"what\":\"place\",\"bits\":16}]"), "{told}");
    assert!(told.contains("\"scope: /13 merged, decided by place /16\""), "{told}");

    // Everybody goes to Frankfurt.
    syd.set(false);
    bench.www_becomes(AUSTRALIA, FRA).await;
    // By the record, until that is known.
    merged(&bench, "4").await;
    assert_eq!(scope(&bench, [127, 61, 0, 1]).await, 0);
    syd.set(true);
    bench.www_becomes(AUSTRALIA, SYD).await;
    merged(&bench, "6").await;
    assert_eq!(scope(&bench, [127, 61, 0, 1]).await, 16);

    // Another database is another table.
    bench.replace("world.mmdb", perigee_geo::build::build(SWAPPED_WORLD.as_bytes()).unwrap());
    bench.www_becomes(GERMANY, SYD).await;
    patiently_scope(&bench, [127, 49, 0, 1], 16).await;
    patiently_scope(&bench, [127, 61, 0, 1], 13).await;
}

async fn patiently_scope(bench: &Bench, client: [u8; 4], expected: u8) {
    perigee_testkit::patiently("a scope", async {
        while scope(bench, client).await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_zones_are_files_that_are_read_again() {
    let zoned = unprobed()
        .replace("[geo.steering]", "[[geo.override]]\nprefixes_file = \"zone.txt\"\npop = \"syd\"\n[geo.steering]");
    let folder = folder(&zoned, WORLD);
    let runtimes = perigee_node::runtimes::Runtimes::start(2).unwrap();
    let refused = perigee_geodns::start(options(&folder), runtimes.handles()).await.unwrap_err().to_string();
    assert!(refused.contains("zone.txt:1") && refused.contains("cannot be read"), "{refused}");

    std::fs::write(folder.path().join("zone.txt"), "# Germans\n127.49.0.0/16\n").unwrap();
    let running = perigee_geodns::start(options(&folder), runtimes.handles()).await.unwrap();
    let bench = Bench { folder, runtimes, running };
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD);
    bench.replace("zone.txt", "127.48.0.0/16\n127.49.0.1/16\n");
    bench.admin_becomes("/v1/status", "must have no bits set after its length; write 127.49.0.0/16").await;
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD, "what is wrong changes nothing");
    bench.replace("zone.txt", "127.48.0.0/16\n");
    bench.www_becomes(GERMANY, FRA).await;
    merged(&bench, "8").await;
    assert_eq!(scope(&bench, [127, 48, 0, 1]).await, 16);
}
